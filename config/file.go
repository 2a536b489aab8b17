package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Bounds of a file that somebody has named: how long a pipe or a terminal may take, and how many bytes there may be.
const (
	patience = 10 * time.Second
	largest  = 16 << 20
)

// open opens a file that somebody has named. It may be a pipe, as of a shell's <(…), but one that nobody writes to holds nobody up:
// to open it in the usual way would wait for ever, whatever signals come.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// readAll reads what is in it.
func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder: name a file", f.Name())
	}
	_ = f.SetReadDeadline(time.Now().Add(patience)) // files on a disk have none, and need none
	data, err := io.ReadAll(io.LimitReader(f, largest+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s is no file, and did not come to an end within %v: name a file", f.Name(), patience)
	case err == nil && len(data) == 0 && info.Mode()&os.ModeNamedPipe != 0:
		return nil, fmt.Errorf("%s is a pipe that nobody writes to: name a file", f.Name())
	case len(data) > largest:
		return nil, fmt.Errorf("%s has more than %d bytes: is it the right file?", f.Name(), largest)
	}
	return data, err
}

// ReadFile reads a file that somebody has named.
func ReadFile(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}
