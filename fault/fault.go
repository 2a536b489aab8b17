// Package fault makes an error of a panic where somebody's work begins, so that a table, a member or a group fails alone.
package fault

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Error is a panic that was caught: a mistake of lockstep's own.
type Error struct {
	Where string // the function and line that panicked, which is who it is: the same again is no news
	Value string // what it said, without values of rows
	Stack []byte
}

func (e *Error) Error() string {
	return fmt.Sprintf("lockstep failed at %s: %s; this is a bug in lockstep: please report it with the stack in its log", e.Where, e.Value)
}

// Catch does work. If that panics, it returns an [Error].
func Catch(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = newError(p)
		}
	}()
	return work()
}

// Caught returns what Catch has caught itself, or nil if err is the work's own, whatever that has caught.
func Caught(err error) *Error {
	e, _ := err.(*Error)
	return e
}

// Of returns the panic that led to err, or nil.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// newError is called by the function that recovers, while the stack of the panic is there.
func newError(p any) *Error {
	if err, ok := p.(error); ok {
		if e := Of(err); e != nil {
			return e // caught before, and thrown again
		}
	}
	return &Error{Where: where(), Value: saying(p), Stack: debug.Stack()}
}

// saying is what a panic says. Only of the runtime, and of literals, is it known that no value of a row is in it.
func saying(p any) string {
	switch p := p.(type) {
	case runtime.Error:
		return strings.TrimPrefix(p.Error(), "runtime error: ")
	case string:
		return p
	}
	return fmt.Sprintf("a panic with a %T", p)
}

// where finds the first frame below the panic that is not the runtime's.
func where() string {
	var at [64]uintptr
	frames := runtime.CallersFrames(at[:runtime.Callers(1, at[:])])
	panicked := false
	for {
		f, more := frames.Next()
		own := strings.HasPrefix(f.Function, "runtime.")
		switch {
		case f.Function == "runtime.gopanic":
			panicked = true
		case panicked && !own, !more:
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
	}
}
