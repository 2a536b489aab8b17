package cdc

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// Logins spaces out the attempts to log in by an account, whoever makes them: questions, streams, readers of rows, sources that come
// one after another or are of several groups. One is made at a time. After one that failed all others by the same password fail for
// the same reason, without being made, until a pause is over that grows with each failure in a row. A server that turned an account
// or its password down may lock it after a few more, so for that the pauses are long.
type Logins struct {
	mu       sync.Mutex
	accounts map[string]chan refusals // by name; whoever takes what is in it has the turn
}

// refusals are how the last login by each password failed, of those that did.
type refusals map[string]refusal

type refusal struct {
	err    error
	denied bool // by the account or its password
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
func NewLogins() *Logins { return &Logins{accounts: make(map[string]chan refusals)} }

func (l *Logins) turn(account string) chan refusals {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accounts[account] == nil {
		l.accounts[account] = make(chan refusals, 1)
		l.accounts[account] <- make(refusals)
	}
	return l.accounts[account]
}

// Attempt logs in by an account and a password, or returns why that failed the last time, if it is too soon. What is called an account
// is all that an attempt's failure may be due to, but for the password.
func (l *Logins) Attempt(ctx context.Context, account, password string, login func() error) error {
	turn := l.turn(account)
	var refused refusals
	select {
	case refused = <-turn:
	case <-ctx.Done():
		return fmt.Errorf("another login to the same server has not ended: %w", context.Cause(ctx))
	}
	defer func() { turn <- refused }()
	refused.forget(time.Now())
	if last, failed := refused[password]; failed && time.Now().Before(last.until) {
		return last.err
	}
	err := login()
	denied := IsDenied(err)
	switch {
	case err == nil:
		delete(refused, password)
	case ctx.Err() != nil && !denied && context.Cause(ctx) == context.Canceled: // it was given up, not refused
	default:
		refused[password] = refused[password].next(err, denied)
	}
	return err
}

// forget drops what nobody has tried for long: passwords are rotated.
func (r refusals) forget(now time.Time) {
	maps.DeleteFunc(r, func(_ string, last refusal) bool { return now.Sub(last.until) > longestDenied })
}

func (r refusal) next(err error, denied bool) refusal {
	first, times, longest := firstDown, time.Duration(timesDown), longestDown
	if denied {
		first, times, longest = firstDenied, timesDenied, longestDenied
	}
	wait := first
	if r.err != nil && r.denied == denied {
		wait = min(times*r.wait, longest)
	}
	return refusal{err, denied, wait, time.Now().Add(jitter(wait))}
}

// jitter is a pause of about d, so that members do not try at one moment.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }
