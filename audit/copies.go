package audit

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/mirror"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// Copies say where the log is copied to.
type Copies struct {
	mirror.Options // of which the prefix is that of all logs; an empty endpoint: nowhere
	Every          time.Duration
}

// Copy has the log copied to a bucket until ctx ends. Each log has a folder there by the time at which it began.
func (l *Log) Copy(ctx context.Context) error {
	return l.run(ctx, l.copying)
}

func (l *Log) copier() func(context.Context) (bool, error) {
	o := l.options.Copies
	var to *mirror.Mirror
	var prefix string // of which log
	return func(ctx context.Context) (bool, error) {
		checkpoint, err := l.checkpoint()
		if verify.Claimed(checkpoint) == 0 || err != nil {
			return false, err // a log without entries has no name yet
		}
		first, err := l.first(ctx)
		if first == nil || err != nil {
			return false, err
		}
		options := o.Options
		options.Prefix = path.Join(o.Prefix, first.Time.UTC().Format("20060102T150405.000000Z"))
		if to == nil || prefix != options.Prefix {
			bucket, err := mirror.New(options)
			if err == nil {
				err = bucket.Check(ctx)
			}
			if err != nil {
				return false, err
			}
			to, prefix = bucket, options.Prefix
		}
		_, err = to.Copy(ctx, l.folder(), l.stampsDir(), filepath.Join(l.folder(), verify.WitnessesDir), filepath.Join(l.options.Dir, evidence.RangesDir))
		return err == nil, err
	}
}

// first is the log's first entry; nil: it has none yet.
func (l *Log) first(ctx context.Context) (*evidence.Entry, error) {
	size, err := l.tree.reader.IntegratedSize(ctx)
	if err != nil || size == 0 {
		return nil, err
	}
	sealed, err := l.entry(ctx, 0, size)
	if err != nil {
		return nil, err
	}
	e, err := evidence.Parse(sealed)
	if err != nil {
		return nil, fmt.Errorf("audit log %s: entry 0 %w", l.folder(), err)
	}
	return e, nil
}
