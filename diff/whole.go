package diff

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// errTooLarge is for a table that cannot be read in parts and has more rows than are kept in memory.
var errTooLarge = errors.New("it cannot be read in parts")

// compareWhole compares a table that has no order to be read in: at once.
func (p *pair) compareWhole(ctx context.Context) {
	defer p.c.begin(p.ref, p.refTable, "")()
	defer p.c.begin(p.member, p.table, "")()
	var ref, member map[string]digest.Digest
	reading, ctxReading := errgroup.WithContext(ctx)
	reading.Go(func() (err error) {
		ref, err = p.readWhole(ctxReading, p.ref, p.refTable)
		return err
	})
	reading.Go(func() (err error) {
		member, err = p.readWhole(ctxReading, p.member, p.table)
		return err
	})
	if err := reading.Wait(); err != nil {
		p.fail(ctx, err)
		return
	}
	p.parts, p.refRows, p.memRows = 1, int64(len(ref)), int64(len(member))
	// No row has a known neighbour, so the numbers have gaps.
	at := int64(0)
	for k, d := range ref {
		at += 2
		if other, found := member[k]; !found {
			p.suspect(digest.Key(k), at, 0)
		} else if other != d {
			p.suspect(digest.Key(k), at, at)
		}
	}
	for k := range member {
		at += 2
		if _, found := ref[k]; !found {
			p.suspect(digest.Key(k), 0, at)
		}
	}
}

func (p *pair) readWhole(ctx context.Context, s *side, t cdc.Table) (map[string]digest.Digest, error) {
	rows := map[string]digest.Digest{}
	err := s.read(ctx, t, p.epoch, cdc.Part{}, func(k digest.Key, d digest.Digest) error {
		if len(rows) == p.c.opt.MaxWhole {
			return fmt.Errorf("%w, for its key has no order that is known, and it has more than %d rows: give it a key of other types, or let lockstep run watch it", errTooLarge, p.c.opt.MaxWhole)
		}
		rows[string(k)] = d
		return nil
	})
	return rows, err
}
