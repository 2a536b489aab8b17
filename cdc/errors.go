package cdc

import "errors"

// ErrNotStreaming is for rows that nobody could bring up to date yet.
var ErrNotStreaming = errors.New("its stream has not begun yet")

// GapError says that part of a member's change stream cannot be had any more: what happened in between is unknown, so
// the member is unverified until it was read anew.
type GapError struct {
	Reason string // `slot "lockstep_shop" was invalidated (wal_removed)`
	Hint   string // what avoids it the next time
}

func (e *GapError) Error() string { return e.Reason }

// SetupError says that a member, as it is set up, cannot be watched; only its operator can change that.
type SetupError struct {
	Problem string // `publication "lockstep_shop" does not exist`
	Hint    string // what to do: a command or an SQL statement
	// Unlogged says that rows may change meanwhile without a trace in the member's log: there is a hole in it, however it goes
	// on later.
	Unlogged bool
	// Denied says that the server turned down the account or its password, or that we did not go on with a login: a few more
	// attempts may lock the account, or our host out.
	Denied bool
}

func (e *SetupError) Error() string {
	if e.Hint == "" {
		return e.Problem
	}
	return e.Problem + ": " + e.Hint
}

// IsGap reports whether err tells of a hole in a change stream.
func IsGap(err error) bool {
	var gap *GapError
	return errors.As(err, &gap)
}

// IsUnlogged reports whether err tells that a member's log leaves out what happens now.
func IsUnlogged(err error) bool {
	var setup *SetupError
	return errors.As(err, &setup) && setup.Unlogged
}

// IsDenied reports whether a server turned down an account or its password.
func IsDenied(err error) bool {
	var setup *SetupError
	return errors.As(err, &setup) && setup.Denied
}

// IsSetup reports whether err is one that only the operator of the member can mend.
func IsSetup(err error) bool {
	var setup *SetupError
	return errors.As(err, &setup)
}
