package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// checkLocal looks at what lockstep needs of the machine that it runs on, which may be another one, and another user, than these: so
// there are warnings only.
func checkLocal(c *config.Config) (lines []checkLine) {
	warn := func(subject, detail, hint string) {
		check := preflight.Check{Subject: subject, State: preflight.Warn, Detail: detail, Hint: hint}
		lines = append(lines, checkLine{Check: check, StateName: check.State.String()})
	}
	if _, port, _ := net.SplitHostPort(c.Listen); port == "0" {
		warn("listen", c.Listen+" is another port at every start", "write one that status, Prometheus and others can be told, such as "+config.DefaultListen)
	}
	if err := writable(c.DataDir); err != nil {
		warn("data_dir", fmt.Sprintf("%s cannot be written by user %d of this machine: %v", c.DataDir, os.Getuid(), err),
			"run lockstep as another user, or choose another directory, if it is to run here")
	}
	if mode := openTo(c.DataDir); mode != 0 {
		warn("data_dir", fmt.Sprintf("%s is open to everybody on this machine (mode %04o)", c.DataDir, mode), "chmod o= "+c.DataDir)
	}
	return lines
}

// openTo is the mode of a directory that everybody on the machine may look into; 0: nobody may but its owner and group.
func openTo(dir string) os.FileMode {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o007 == 0 {
		return 0
	}
	return info.Mode().Perm()
}

// writable returns why a directory cannot be written, or made. In one that is there nothing is tried: it is the store's.
func writable(dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return errors.New("it is no directory")
	case err == nil:
		return unix.Access(dir, unix.W_OK|unix.X_OK)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	above := filepath.Dir(filepath.Clean(dir))
	for _, err := os.Stat(above); errors.Is(err, os.ErrNotExist) && above != filepath.Dir(above); _, err = os.Stat(above) {
		above = filepath.Dir(above)
	}
	tried, err := os.MkdirTemp(above, ".lockstep-check-*")
	if err != nil {
		if cause := new(os.PathError); errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("nothing can be made in %s: %w", above, err)
	}
	return os.Remove(tried)
}
