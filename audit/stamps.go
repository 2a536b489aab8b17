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
	return l.run(ctx, l.stamping)
}

func (l *Log) stampsDir() string { return filepath.Join(l.folder(), verify.StampsDir) }

// firstStamp is how long it is until the next one, by when the last was kept.
func (l *Log) firstStamp() time.Duration {
	return time.Until(newest(l.stampsDir()).Add(l.options.Stamps.Every))
}

func (l *Log) stamper() func(context.Context) (bool, error) {
	authority := tsa.Authority{URL: l.options.Stamps.URL, Roots: l.options.Stamps.Roots}
	return func(ctx context.Context) (bool, error) { return l.stamp(ctx, &authority, l.stampsDir()) }
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
