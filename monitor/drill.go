package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/duty"
)

// drillEvery is how often it is asked which ranges of tables without a row index have to be read.
const drillEvery = 200 * time.Millisecond

// drill reads the next range of which rows differ, to know which they are.
func (g *Group) drill(ctx context.Context, f *feed) (next time.Duration, err error) {
	p, d, wanted, err := g.nextDrill(ctx, f)
	if err != nil || !wanted || f.trouble.Load() != nil {
		return 0, err
	}
	if err := f.take(ctx); err != nil {
		return 0, err
	}
	defer f.give()
	g.log.Info("reading rows to find which differ", "member", f.Name, "table", p.epoch.Shape.Table)
	err = g.alone(f, p.table.Name, func() error { _, err := g.readRange(ctx, f, p, d); return err })
	if err == nil {
		return duty.AtOnce, nil
	}
	leave := func() error { f.undrilled[d.Table] = f.undrilled[d.Table].next(time.Now(), err); return nil }
	return 0, errors.Join(&tableError{p.table.Name, err}, g.do(ctx, leave))
}

func (g *Group) nextDrill(ctx context.Context, f *feed) (p part, d align.Drill, wanted bool, err error) {
	err = g.do(ctx, func() error {
		now := time.Now()
		for _, d = range g.ledger.Drills(f.id) {
			epoch := g.ledger.Epochs()[d.Table]
			if p.table, wanted = f.defined[epoch.Shape.Table]; !f.undrilled[d.Table].over(now) {
				wanted = false
			} else if wanted {
				p.epoch = epoch
				return nil
			}
		}
		return nil
	})
	return p, d, wanted, err
}

// scrubRange reads the range of a table without a row index that was read longest ago, and holds its sum against the
// rows.
func (g *Group) scrubRange(ctx context.Context, f *feed, p part) (rows int, took time.Duration, err error) {
	began := time.Now()
	var d align.Drill
	live := false
	err = g.do(ctx, func() error {
		d, live = g.ledger.RangeBehind(p.epoch.Table, f.id, p.After)
		return nil
	})
	if err != nil || !live {
		return 0, 0, err
	}
	if rows, err = g.readRange(ctx, f, p, d); err != nil {
		return rows, time.Since(began), err
	}
	f.scanned.Add(int64(rows))
	return rows, time.Since(began), g.do(ctx, func() error {
		v := align.Verified{After: d.Start, At: began, Position: g.ledger.Position(f.id)}
		return g.ledger.Verified(d.Table, f.id, v, d.End)
	})
}

// readRange reads the rows of a range and hands them to the ledger; if they are not what their sum says, twice.
func (g *Group) readRange(ctx context.Context, f *feed, p part, d align.Drill) (rows int, err error) {
	for _, sure := range []bool{false, true} {
		n, ok, err := g.readRangeOnce(ctx, f, p, d, sure)
		if rows += n; ok || err != nil {
			return rows, err
		}
		g.log.Warn("rows were read whose sum is not what the log says; they are read again", "member", f.Name, "table", p.epoch.Shape.Table)
	}
	return rows, nil
}

func (g *Group) readRangeOnce(ctx context.Context, f *feed, p part, d align.Drill, sure bool) (rows int, ok bool, err error) {
	w := &watched{}
	err = g.do(ctx, func() error {
		w.watch = g.ledger.Watch(d.Table, f.id)
		return nil
	})
	if err != nil || w.watch == nil {
		return 0, true, err
	}
	defer g.unwatch(ctx, w)
	read, settled, err := readBetween(ctx, f, p, d)
	if err != nil {
		return len(read), false, err
	}
	err = g.until(ctx, reachWithin, errStreamBehind, func() bool { return w.watch.Broken() || g.ledger.Position(f.id) >= settled })
	if err != nil {
		return len(read), false, err
	}
	err = g.do(ctx, func() error {
		if ok, err = g.ledger.Drilled(w.watch, d, read, sure); err != nil {
			return g.fail(err)
		}
		return nil
	})
	return len(read), ok, err
}

// readBetween reads the rows of a range, the first one by itself: the bounds of a part are exclusive and inclusive, those
// of a range the other way round.
func readBetween(ctx context.Context, f *feed, p part, d align.Drill) (rows []align.ScannedRow, settled cdc.LSN, err error) {
	parts := []cdc.Part{{After: d.Start, Through: d.End}}
	if d.Start != nil {
		parts = append(parts, cdc.Part{Keys: []digest.Key{d.Start}})
	}
	for _, over := range parts {
		w := &watched{}
		p.Part = over
		if err := w.readRows(ctx, f, p); err != nil {
			return rows, 0, err
		}
		rows, settled = append(rows, w.scan.Rows...), max(settled, w.scan.View.Settled)
	}
	return rows, settled, nil
}
