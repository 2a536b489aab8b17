package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lockstep-cdc/lockstep/names"
)

// Exit codes. Scripts depend on them.
const (
	exitInStep      = 0
	exitDiverged    = 1
	exitUsage       = 2 // wrong command line or configuration
	exitUnknown     = 3 // could not determine
	exitUnreachable = 4
	exitColumns     = 5 // of diff: all is in step, but for columns that were not compared
)

// exitError carries the exit code. A nil err says that all was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exit gives an error an exit code; err may be nil if the output tells it all.
func exit(code int, err error) error { return &exitError{code, err} }

func usageError(err error) error        { return exit(exitUsage, err) }
func undeterminedError(err error) error { return exit(exitUnknown, err) }
func unreachableError(err error) error  { return exit(exitUnreachable, err) }

// codeOf is the exit code of an error. A name that nothing has is the command line's fault, wherever that was noticed. An error that
// nobody classified means that nothing was determined.
func codeOf(err error) int {
	var unknown *names.Unknown
	var classified *exitError
	switch {
	case errors.As(err, &unknown):
		return exitUsage
	case errors.As(err, &classified):
		return classified.code
	}
	return exitUnknown
}

// report prints an error, each of its lines marked as ours, and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitInStep
	}
	code := codeOf(err)
	if e := (*exitError)(nil); errors.As(err, &e) && e.err == nil {
		return code
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(stderr, "lockstep: "+line)
		}
	}
	return code
}
