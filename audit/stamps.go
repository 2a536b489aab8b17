package audit

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/durable"
	"github.com/lockstep-cdc/lockstep/audit/tsa"
	"github.com/lockstep-cdc/lockstep/audit/verify"
)

// Stamps say how checkpoints are time-stamped.
type Stamps struct {
	URL   string // of a time-stamping authority (RFC 3161); empty: none is asked
	Roots *x509.CertPool
	Every time.Duration
}

// Stamp has the log's checkpoints time-stamped until ctx ends: one at a time, if there is something new.
func (l *Log) Stamp(ctx context.Context) error {
	o := l.options.Stamps
	if o.URL == "" {
		<-ctx.Done()
		return nil
	}
	authority := tsa.Authority{URL: o.URL, Roots: o.Roots}
	dir := filepath.Join(l.folder(), verify.StampsDir)
	d := duty{
		every: o.Every, first: time.Until(newest(dir).Add(o.Every)), complaint: "a checkpoint of the audit log was not time-stamped; lockstep tries again",
		do: func(ctx context.Context) (bool, error) { return l.stamp(ctx, &authority, dir) },
	}
	return l.keep(ctx, d, &l.stamps)
}

// duty is something that is to be done for the log again and again.
type duty struct {
	every, first time.Duration // between two times, and until the first
	do           func(context.Context) (done bool, err error)
	complaint    string // to be logged when it failed
}

// Outcome is how it goes with a duty.
type Outcome struct {
	At     time.Time // when it was last done, since the start
	Failed string    // why it was not when it was last tried; empty: it was
}

// keep does a duty until ctx ends. What fails is tried again soon; what has nothing to do yet looks every second.
func (l *Log) keep(ctx context.Context, d duty, outcome *Outcome) error {
	wait, retry := d.first, firstRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		l.turn.RLock()
		done, err := d.do(ctx)
		l.turn.RUnlock()
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			l.options.Logger.Warn(d.complaint, "err", err.Error(), "retry_in", retry.String())
			wait, retry = retry, min(2*retry, lastRetry, d.every)
		case !done:
			wait, retry = min(time.Second, d.every), firstRetry
		default:
			wait, retry = d.every, firstRetry
		}
		l.mu.Lock()
		if outcome.Failed = ""; err != nil {
			outcome.Failed = err.Error()
		} else if done {
			outcome.At = time.Now()
		}
		l.mu.Unlock()
	}
}

// stamp has the checkpoint of now stamped, unless one of as many entries is.
func (l *Log) stamp(ctx context.Context, authority *tsa.Authority, dir string) (bool, error) {
	checkpoint, err := l.checkpoint()
	if err != nil {
		return false, err
	}
	size := verify.Claimed(checkpoint)
	path := filepath.Join(dir, fmt.Sprintf("%020d", size))
	if _, err := os.Stat(path + verify.StampReply); err == nil || size == 0 {
		return false, nil
	}
	reply, _, err := authority.Stamp(ctx, checkpoint)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	// The reply is there only if what it is about is.
	if err := durable.WriteFile(path+verify.StampOf, checkpoint, 0o644); err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	if err := durable.WriteFile(path+verify.StampReply, reply, 0o644); err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	return true, nil
}

// checkpoint is the log's of now; nil: there is none yet.
func (l *Log) checkpoint() ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(l.folder(), "checkpoint"))
	return raw, ignoreMissing(err)
}

// newest is when the last time-stamp was kept.
func newest(dir string) (at time.Time) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return at
	}
	for _, f := range list {
		if info, err := f.Info(); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	return at
}
