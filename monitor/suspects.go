package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

const (
	// suspectsEvery is how often it is looked whether rows are under suspicion; after failures it is ever less often.
	suspectsEvery     = 200 * time.Millisecond
	suspectsRetry     = 2 * time.Second
	lastSuspectsRetry = lastRetry
	// graceWithin is how long who has nothing under suspicion is waited for.
	graceWithin = time.Second
)

// resolveSuspects reads a member's rows that are under suspicion again, there and on the reference, and brings what is kept of
// them to what they are. The others take part if they have replayed as much, because a row may rightly have changed on all of
// them without a trace, as by a foreign key's cascade: mending one alone would make it differ from the others. Who cannot be
// read, or lags, holds up only itself: what was found elsewhere is under suspicion there until it has been read.
func (g *Group) resolveSuspects(ctx context.Context, f *feed) error {
	if f.trouble.Load() != nil {
		return nil // it cannot be read, which is told already
	}
	work, err := g.underSuspicion(ctx, f)
	for _, s := range work {
		if failed := fault.Catch(func() error { return g.resolveRows(ctx, f, s) }); failed != nil {
			err = errors.Join(err, fmt.Errorf("table %s: %d rows: %w", s.epoch.Shape.Table, len(s.keys), failed))
		}
	}
	return err
}

// suspicion is rows of one table.
type suspicion struct {
	epoch cdc.Epoch
	keys  []digest.Key // ascending
}

// underSuspicion lists the rows that are, on a member.
func (g *Group) underSuspicion(ctx context.Context, f *feed) ([]suspicion, error) {
	var work []suspicion
	err := g.do(ctx, func() error {
		for id, epoch := range g.ledger.Epochs() {
			if keys := g.ledger.Suspects(id, f.id); len(keys) > 0 {
				work = append(work, suspicion{epoch, slices.Clone(keys)})
			}
		}
		return nil
	})
	return work, err
}

// errMoving is for rows that changed on the reference, or were settled for another member, while they were read.
var errMoving = errors.New("they change too fast")

// resolveRounds bounds how often rows that change on the reference are read at once.
const resolveRounds = 5

func (g *Group) resolveRows(ctx context.Context, f *feed, s suspicion) error {
	for range resolveRounds {
		if err := g.resolveOnce(ctx, f, s); !errors.Is(err, errMoving) {
			return err
		}
	}
	return errMoving
}

// resolveOnce reads the rows on the reference, then on the member once it has replayed what the reference had shown and on all
// that have done so by then, then on the reference again. If they were the same there all the time, the members' rows are of
// one time with them.
func (g *Group) resolveOnce(ctx context.Context, f *feed, s suspicion) error {
	reads := make(map[cdc.MemberID]*watched)
	defer func() {
		for _, w := range reads {
			g.unwatch(ctx, w)
		}
	}()
	var mark cdc.TxSet
	var ref *feed
	var others []*feed
	err := g.do(ctx, func() error {
		ref = g.feeds[g.ref]
		for _, id := range g.order {
			if other := g.feeds[id]; other != ref && other != f && !other.ScanOnly && g.ledger.Live(s.epoch.Table, id) {
				others = append(others, other)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	first, err := g.readAgain(ctx, ref, s)
	defer g.unwatch(ctx, first)
	if err != nil {
		return err
	}
	if err := g.do(ctx, func() error { mark = g.ledger.Mark(); return nil }); err != nil {
		return err
	}
	if f != ref {
		if reads[f.id], err = g.readReplayed(ctx, f, s, mark, reachWithin); err != nil {
			return err
		}
	}
	grace := time.Now().Add(graceWithin)
	for _, other := range others {
		if other.trouble.Load() != nil {
			continue
		}
		w, err := g.readReplayed(ctx, other, s, mark, max(0, time.Until(grace)))
		if err != nil {
			g.unwatch(ctx, w)
			g.log.Debug("rows that are under suspicion elsewhere could not be read", "member", other.Name, "err", err.Error())
			continue
		}
		reads[other.id] = w
	}
	if reads[ref.id], err = g.readAgain(ctx, ref, s); err != nil {
		return err
	}
	stood := standing(s.keys, first.scan.Rows, reads[ref.id].scan.Rows)
	err = g.do(ctx, func() error {
		if g.ref != ref.id || !reads[ref.id].watch.Unsettled() {
			return errMoving
		}
		return g.mend(suspicion{s.epoch, stood}, reads)
	})
	if err == nil && len(stood) < len(s.keys) {
		err = errMoving
	}
	return err
}

// readReplayed reads the rows on a member once it has replayed what the reference had shown.
func (g *Group) readReplayed(ctx context.Context, f *feed, s suspicion, mark cdc.TxSet, within time.Duration) (w *watched, err error) {
	w = &watched{}
	err = fault.Catch(func() error {
		caughtUp := func() bool { return g.feeds[f.id] == nil || g.ledger.CaughtUp(s.epoch.Table, f.id, mark) }
		if err := g.until(ctx, within, errNotCaughtUp, caughtUp); err != nil {
			return err
		}
		w, err = g.readAgain(ctx, f, s)
		return err
	})
	return w, err
}

func (g *Group) readAgain(ctx context.Context, f *feed, s suspicion) (*watched, error) {
	var table cdc.Table
	err := g.do(ctx, func() error {
		if g.feeds[f.id] != f {
			return errBroken
		}
		table = f.defined[s.epoch.Shape.Table]
		return nil
	})
	if err != nil {
		return &watched{}, err
	}
	return g.read(ctx, f, part{table: table, epoch: s.epoch, Part: cdc.Part{Keys: s.keys}})
}

// standing lists the keys of rows that were the same in two reads.
func standing(keys []digest.Key, first, again []align.ScannedRow) []digest.Key {
	before, after := byKey(first), byKey(again)
	return slices.DeleteFunc(slices.Clone(keys), func(k digest.Key) bool { return !bytes.Equal(before[string(k)], after[string(k)]) })
}

func byKey(read []align.ScannedRow) map[string][]byte {
	rows := make(map[string][]byte, len(read))
	for _, r := range read {
		rows[string(r.Key)] = r.Row
	}
	return rows
}

// mend tells the ledger what was read. It runs on the ledger's goroutine.
func (g *Group) mend(s suspicion, reads map[cdc.MemberID]*watched) error {
	r := align.Reread{Keys: s.keys, Found: make(map[cdc.MemberID][]align.Mismatch)}
	for id, w := range reads {
		switch {
		case g.feeds[id] == nil: // it left meanwhile
			continue
		case w.watch.Broken():
			return errBroken
		}
		list, err := g.ledger.Mismatches(w.watch, &w.scan)
		if err != nil {
			return g.fail(err)
		}
		list = slices.DeleteFunc(list, func(m align.Mismatch) bool {
			_, stood := slices.BinarySearchFunc(s.keys, m.Key, digest.Key.Compare)
			return !stood
		})
		r.Found[id] = list
		if len(list) > 0 {
			g.log.Warn("rows were changed without a trace in the log", "member", g.feeds[id].Name, "table", s.epoch.Shape.Table, "rows", len(list))
		}
	}
	if err := g.ledger.Mend(s.epoch.Table, r); err != nil {
		return g.fail(err)
	}
	return nil
}
