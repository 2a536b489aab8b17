package audit

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lockstep/audit/tsa"
	"lockstep/audit/verify"
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
	wait, retry := time.Until(newest(dir).Add(o.Every)), firstRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		stamped, err := l.stamp(ctx, &authority, dir)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			l.options.Logger.Warn("a checkpoint of the audit log was not time-stamped; lockstep tries again", "err", err.Error(), "retry_in", retry.String())
			wait, retry = retry, min(2*retry, lastRetry, o.Every)
		case !stamped: // there is nothing to stamp yet
			wait, retry = min(time.Second, o.Every), firstRetry
		default:
			wait, retry = o.Every, firstRetry
		}
		l.mu.Lock()
		if l.stampFailed = ""; err != nil {
			l.stampFailed = err.Error()
		} else if stamped {
			l.stampedAt = time.Now()
		}
		l.mu.Unlock()
	}
}

// stamp has the checkpoint of now stamped, unless one of as many entries is.
func (l *Log) stamp(ctx context.Context, authority *tsa.Authority, dir string) (bool, error) {
	checkpoint, err := os.ReadFile(filepath.Join(l.folder(), "checkpoint"))
	if err != nil {
		return false, ignoreMissing(err)
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
	if err := writeSynced(path+verify.StampOf, string(checkpoint), 0o644); err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	if err := writeSynced(path+verify.StampReply, string(reply), 0o644); err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	return true, nil
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
