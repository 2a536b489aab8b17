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

// suspectsEvery is how often it is looked whether rows are under suspicion, and suspectsRetry how long after a failure.
const (
	suspectsEvery = 200 * time.Millisecond
	suspectsRetry = 2 * time.Second
)

// resolver reads rows that are under suspicion again, on every member, and brings what is kept of them to what they are.
// All members take part because a row may rightly have changed on all of them without a trace, as by a foreign key's
// cascade: mending one alone would make it differ from the others. A member that cannot be read holds up nobody: there the
// rows stay under suspicion until it can.
type resolver struct {
	*Group
	trouble map[cdc.MemberID]pause // of members that could not be read
}

func (g *Group) resolver() *resolver {
	return &resolver{Group: g, trouble: make(map[cdc.MemberID]pause)}
}

func (g *resolver) resolveSuspects(ctx context.Context) error {
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
	keys  []digest.Key // ascending
}

// underSuspicion lists the rows that are, on a member that is not left alone just now.
func (g *resolver) underSuspicion(ctx context.Context) ([]suspicion, error) {
	var work []suspicion
	now := time.Now()
	err := g.do(ctx, func() error {
		for id, epoch := range g.ledger.Epochs() {
			var keys []digest.Key
			for _, on := range g.order {
				if g.trouble[on].over(now) {
					keys = append(keys, g.ledger.Suspects(id, on)...)
				}
			}
			if len(keys) > 0 {
				slices.SortFunc(keys, digest.Key.Compare)
				keys = slices.CompactFunc(keys, func(a, b digest.Key) bool { return bytes.Equal(a, b) })
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

func (g *resolver) resolveRows(ctx context.Context, s suspicion) error {
	for range resolveRounds {
		if err := g.resolveOnce(ctx, s); !errors.Is(err, errMoving) {
			return err
		}
	}
	return errMoving
}

// resolveOnce reads the rows on the reference, then on each member that has replayed what the reference had shown, then on
// the reference again. If they were the same there all the time, the members' rows are of one time with them.
func (g *resolver) resolveOnce(ctx context.Context, s suspicion) error {
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
	var members []*feed
	err = g.do(ctx, func() error {
		mark = g.ledger.Mark()
		for _, id := range g.order {
			members = append(members, g.feeds[id])
		}
		return nil
	})
	if err != nil {
		return err
	}
	var failed error
	var unread []cdc.MemberID
	for _, f := range members {
		if f.id == g.ref || !g.live(ctx, s.epoch.Table, f.id) {
			continue
		}
		if g.trouble[f.id].over(time.Now()) {
			if reads[f.id], err = g.readReplayed(ctx, f.id, s, mark); err == nil {
				continue
			}
			failed = errors.Join(failed, fmt.Errorf("member %s: %w", f.Name, err))
			g.trouble[f.id] = g.trouble[f.id].next(time.Now(), err)
		}
		unread = append(unread, f.id)
	}
	if reads[g.ref], err = g.readAgain(ctx, g.ref, s); err != nil {
		return err
	}
	stood := standing(s.keys, first.scan.Rows, reads[g.ref].scan.Rows)
	if len(stood) < len(s.keys) {
		failed = errors.Join(failed, errMoving)
	}
	return errors.Join(failed, g.do(ctx, func() error { return g.mend(suspicion{s.epoch, stood}, reads, unread) }))
}

// readReplayed reads the rows on a member once it has replayed what the reference had shown.
func (g *Group) readReplayed(ctx context.Context, id cdc.MemberID, s suspicion, mark cdc.TxSet) (w *watched, err error) {
	w = &watched{}
	err = fault.Catch(func() error {
		caughtUp := func() bool { return g.feeds[id] == nil || g.ledger.CaughtUp(s.epoch.Table, id, mark) }
		if err := g.until(ctx, errNotCaughtUp, caughtUp); err != nil {
			return err
		}
		w, err = g.readAgain(ctx, id, s)
		return err
	})
	return w, err
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
func (g *resolver) mend(s suspicion, reads map[cdc.MemberID]*watched, unread []cdc.MemberID) error {
	r := align.Reread{Keys: s.keys, Found: make(map[cdc.MemberID][]align.Mismatch), Unread: unread}
	for id, w := range reads {
		switch {
		case slices.Contains(unread, id), g.feeds[id] == nil: // it left meanwhile
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
		if len(list) == 0 {
			continue
		}
		r.Found[id] = list
		g.log.Warn("rows were changed without a trace in the log", "member", g.feeds[id].Name, "table", s.epoch.Shape.Table, "rows", len(list))
	}
	if err := g.ledger.Mend(s.epoch.Table, r); err != nil {
		return g.fail(err)
	}
	return nil
}
