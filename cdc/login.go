package cdc

import (
	"context"
	"math/rand/v2"
	"time"
)

// Logins spaces out the attempts of one source to log in to its server, whoever makes them: questions, streams, readers of rows.
// One is made at a time. After one that failed all others fail for the same reason, without being made, until a pause is over
// that grows with each failure in a row. A server that turned an account or its password down may lock it after a few more, so
// for that the pauses are long, until there is another password to try.
type Logins struct {
	turn chan refusal // holds the last one; taking it is one's turn
}

// refusal is how the last login failed; the zero one has not.
type refusal struct {
	err    error
	denied bool   // by the account or its password
	key    string // the password
	wait   time.Duration
	until  time.Time
}

// The pauses after a first failure, how they grow, and their bounds. Of a wrong password three are tried in the first minute, and
// from the fifth on one in ten minutes.
const (
	firstDenied, timesDenied, longestDenied = 5 * time.Second, 3, 10 * time.Minute
	firstDown, timesDown, longestDown       = 100 * time.Millisecond, 2, 3 * time.Second
)

// NewLogins returns one that has seen no failure.
func NewLogins() *Logins {
	l := &Logins{turn: make(chan refusal, 1)}
	l.turn <- refusal{}
	return l
}

// Attempt logs in by a password, or returns why that failed the last time, if it is too soon.
func (l *Logins) Attempt(ctx context.Context, password string, login func() error) error {
	var last refusal
	select {
	case last = <-l.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { l.turn <- last }()
	another := last.denied && last.key != password
	if last.err != nil && !another && time.Now().Before(last.until) {
		return last.err
	}
	err := login()
	denied := IsDenied(err)
	switch {
	case err == nil:
		last = refusal{}
	case ctx.Err() != nil && !denied && context.Cause(ctx) == context.Canceled: // it was given up, not refused
	default:
		last = last.next(err, denied, password)
	}
	return err
}

func (r refusal) next(err error, denied bool, password string) refusal {
	first, times, longest := firstDown, time.Duration(timesDown), longestDown
	if denied {
		first, times, longest = firstDenied, timesDenied, longestDenied
	}
	wait := first
	if r.err != nil && r.denied == denied && (!denied || r.key == password) {
		wait = min(times*r.wait, longest)
	}
	return refusal{err, denied, password, wait, time.Now().Add(jitter(wait))}
}

// jitter is a pause of about d, so that members do not try at one moment.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }
