package mysql

import (
	"context"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Stream implements [cdc.Source].
//
// One goroutine reads, decodes and yields: while yield blocks nothing is read, and the server waits, as long as
// net_write_timeout lets it. Nothing has to be told to the server meanwhile.
func (s *Source) Stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	return s.wrap(s.stream(ctx, from, yield))
}

func (s *Source) stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	d, err := s.dump(ctx, from)
	if err != nil {
		return err
	}
	defer d.hangUp()
	defer context.AfterFunc(ctx, func() { _ = d.network.Close() })()
	a := newAssembler(from, s.hasher)
	a.mariadb, a.current, a.fold, a.passed = d.version.mariadb, s.list.load, s.fold.Load, s.yielded
	if a.mariadb {
		a.distributed = s.distributed
	}
	defer a.close()
	s.begin(from)
	for {
		event, err := d.next(ctx)
		if err != nil {
			return d.judge(err)
		}
		e, something, err := a.feed(event)
		if err != nil {
			return err
		}
		if !something {
			continue
		}
		if err := yield(e); err != nil {
			return err
		}
	}
}
