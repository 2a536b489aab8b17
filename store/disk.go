package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// disk hears what Pebble has to say of the files that it keeps in a data directory. Its running commentary is dropped:
// what a caller can act on reaches the caller as an error.
type disk struct {
	dir   string
	fatal func(error)
	guard guard
}

func newDisk(dir string, o Options) *disk {
	d := &disk{dir: dir, fatal: o.Fatal}
	if d.fatal == nil {
		d.fatal = exit
	}
	d.guard.FS, d.guard.refused = o.FS, d.refused
	return d
}

// ending is held from the first error that ends the process: others are met at the same time, and one line says it.
var ending sync.Mutex

// exit ends the process: Pebble holds locks by now that nobody will ever open. What was committed is safe.
func exit(err error) {
	ending.Lock()
	fmt.Fprintln(os.Stderr, "lockstep:", err)
	os.Exit(3)
}

// Infof implements [pebble.Logger].
func (d *disk) Infof(string, ...any) {}

// Errorf implements [pebble.Logger].
func (d *disk) Errorf(string, ...any) {}

// Fatalf implements [pebble.Logger], whose contract says that it does not return.
func (d *disk) Fatalf(format string, args ...any) { d.refused(fmt.Errorf(format, args...)) }

func (d *disk) refused(why error) { d.fatal(refusal(d.dir, why)) }

func refusal(dir string, why error) error {
	return fmt.Errorf("data_dir %s cannot be written to (%w): see to the disk and start again; lockstep goes on from what is safe on it", dir, why)
}

// full reports whether err, which may be nil, is for want of room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func (d *disk) listener() *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption:  func(pebble.DataCorruptionInfo) {}, // whoever reads is given the error, or BackgroundError is
		BackgroundError: d.background,
	}
}

// background hears of work that no caller waits for. Refused writes have ended the process by then, the rest is tried
// again; but damage stays.
func (d *disk) background(err error) {
	if pebble.IsCorruptionError(err) {
		d.fatal(damaged(d.dir, err))
	}
}

func openError(dir string, err error) error {
	switch {
	case full(err):
		return refusal(dir, err)
	case errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), "lock held by current process"): // by another process, by this one
		return fmt.Errorf("data_dir %s is in use by another lockstep: stop that one, or give this one a directory of its own", dir)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("open data_dir %s: %w: choose a directory that lockstep may write to", dir, err)
	case pebble.IsCorruptionError(err), errors.Is(err, os.ErrNotExist): // one of its files is gone
		return damaged(dir, err)
	}
	return fmt.Errorf("open data_dir %s: %w", dir, err)
}

// readError names the way out if err, which may be nil, says that a file is damaged.
func readError(dir string, err error) error {
	if pebble.IsCorruptionError(err) {
		return damaged(dir, err)
	}
	return err
}

func damaged(dir string, err error) error {
	return fmt.Errorf("data_dir %s is damaged (%w): move it away and start again; lockstep then reads all members anew", dir, err)
}
