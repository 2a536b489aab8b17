package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

// suspectsEvery is how often it is looked whether rows are under suspicion, and suspectsRetry how long after a failure.
const (
	suspectsEvery = 200 * time.Millisecond
	suspectsRetry = 2 * time.Second
)

// resolveSuspects reads rows that are under suspicion again, on every member, and brings what is kept of them to what they are.
// All members take part because a row may rightly have changed on all of them without a trace, as by a foreign key's
// cascade: mending one alone would make it differ from the others.
func (g *Group) resolveSuspects(ctx context.Context) error {
	work, err := g.underSuspicion(ctx)
	for _, s := range work {
		if failed := fault.Catch(func() error { return g.resolveRows(ctx, s) }); failed != nil {
			err = errors.Join(err, fmt.Errorf("table %s: %d rows: %w", s.epoch.Shape.Table, len(s.keys), failed))
		}
	}
	return err
}

// suspicion is rows of one table.
type suspicion struct {
	epoch cdc.Epoch
	keys  []digest.Key
}

func (g *Group) underSuspicion(ctx context.Context) ([]suspicion, error) {
	var work []suspicion
	err := g.do(ctx, func() error {
		for id, epoch := range g.ledger.Epochs() {
			if keys := g.ledger.Suspects(id); len(keys) > 0 {
				work = append(work, suspicion{epoch, keys})
			}
		}
		return nil
	})
	return work, err
}

// errMoving is for rows that changed on the reference while they were read.
var errMoving = errors.New("they change too fast")

// resolveRounds bounds how often rows that change on the reference are read at once.
const resolveRounds = 5

func (g *Group) resolveRows(ctx context.Context, s suspicion) error {
	for range resolveRounds {
		if err := g.resolveOnce(ctx, s); !errors.Is(err, errMoving) {
			return err
		}
	}
	return errMoving
}

// resolveOnce reads the rows on the reference, then on each member that has replayed what the reference had shown, then on
// the reference again. If they were the same there all the time, the members' rows are of one time with them.
func (g *Group) resolveOnce(ctx context.Context, s suspicion) error {
	reads := make(map[cdc.MemberID]*watched)
	defer func() {
		for _, w := range reads {
			g.unwatch(ctx, w)
		}
	}()
	first, err := g.readAgain(ctx, g.ref, s)
	defer g.unwatch(ctx, first)
	if err != nil {
		return err
	}
	var mark cdc.TxSet
	var members []cdc.MemberID
	if err := g.do(ctx, func() error { mark, members = g.ledger.Mark(), g.order; return nil }); err != nil {
		return err
	}
	for _, id := range members {
		if id == g.ref || !g.live(ctx, s.epoch.Table, id) {
			continue
		}
		caughtUp := func() bool { return g.feeds[id] == nil || g.ledger.CaughtUp(s.epoch.Table, id, mark) }
		if err := g.until(ctx, errNotCaughtUp, caughtUp); err != nil {
			return err
		}
		if reads[id], err = g.readAgain(ctx, id, s); err != nil {
			return err
		}
	}
	if reads[g.ref], err = g.readAgain(ctx, g.ref, s); err != nil {
		return err
	}
	if !sameRows(first.scan.Rows, reads[g.ref].scan.Rows) {
		return errMoving
	}
	return g.do(ctx, func() error { return g.mend(s, reads) })
}

func (g *Group) live(ctx context.Context, id cdc.TableID, on cdc.MemberID) (live bool) {
	_ = g.do(ctx, func() error {
		f := g.feeds[on]
		live = f != nil && !f.ScanOnly && g.ledger.Live(id, on)
		return nil
	})
	return live
}

func (g *Group) readAgain(ctx context.Context, on cdc.MemberID, s suspicion) (*watched, error) {
	var f *feed
	var table cdc.Table
	err := g.do(ctx, func() error {
		if f = g.feeds[on]; f == nil {
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

func sameRows(a, b []align.ScannedRow) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Key, b[i].Key) || !bytes.Equal(a[i].Row, b[i].Row) {
			return false
		}
	}
	return true
}

// mend tells the ledger what was read. It runs on the ledger's goroutine.
func (g *Group) mend(s suspicion, reads map[cdc.MemberID]*watched) error {
	found := make(map[cdc.MemberID][]align.Mismatch)
	for id, w := range reads {
		if w.watch.Broken() {
			return errBroken
		}
		list, err := g.ledger.Mismatches(w.watch, &w.scan)
		if err != nil {
			return g.fail(err)
		}
		if len(list) == 0 {
			continue
		}
		found[id] = list
		g.log.Warn("rows were changed without a trace in the log", "member", g.feeds[id].Name, "table", s.epoch.Shape.Table, "rows", len(list))
	}
	if err := g.ledger.Mend(s.epoch.Table, found); err != nil {
		return g.fail(err)
	}
	g.ledger.Settled(s.epoch.Table, s.keys)
	return nil
}
