package cdc

import (
	"context"
	"time"
)

// Pressure is how busy a server is, by its own figures. A figure that is zero is none, or one that we may not see: then
// Notes says so.
type Pressure struct {
	// Running is how many statements the server works on at this moment, without ours and without those that only send
	// its log.
	Running int
	// Oldest is for how long the oldest transaction is open, ours left out.
	Oldest time.Duration
	// Held is how many transactions have left old versions of rows behind that the server cannot clear, because somebody
	// may still read them: every scan of such a table goes through them. From ManyHeld on it hurts, as those who run such
	// servers have it; zero: not known.
	Held, ManyHeld int64
	// Notes say what could not be asked, each with what would allow it.
	Notes []string
}

// A Gauger tells how busy its server is, at the price of one cheap statement or two. A missing right is a note, not an
// error. Every [Source] and [Reader] of ours is one.
type Gauger interface {
	Pressure(ctx context.Context) (Pressure, error)
}
