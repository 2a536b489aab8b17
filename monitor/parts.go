package monitor

import (
	"context"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/scan"
	"github.com/lockstep-cdc/lockstep/store"
)

// partTime is how long a part of a table that is read for the first time should take.
const partTime = 2 * time.Second

// scanInParts reads a table part by part, each in a view of its own, and goes on where an earlier scan was interrupted.
func (g *Group) scanInParts(ctx context.Context, f *feed, j job) error {
	name, began := j.epoch.Shape.Table, time.Now()
	err := f.take(ctx)
	if err == nil {
		defer f.give()
		progress := g.scans.begin(f.Name, name, j.table.Rows)
		defer g.scans.end(progress)
		progress.done.Store(j.scan.Rows)
		g.log.Info("reading table in parts", "member", f.Name, "table", name, "after_rows", j.scan.Rows)
		if err = g.alone(f, name, func() error { return g.readParts(ctx, f, j, progress) }); err == nil {
			g.log.Info("table was read", "member", f.Name, "table", name, "rows", progress.done.Load(), "took", time.Since(began).Round(time.Millisecond).String())
			return nil
		}
		err = &tableError{name, err}
	}
	putBack := g.do(context.WithoutCancel(ctx), func() error { // see putBack
		f.later[j.at.Table] = f.later[j.at.Table].next(time.Now(), err)
		return g.ledger.Failed(j.at, "its scan is interrupted: "+err.Error())
	})
	if putBack != nil && ctx.Err() == nil {
		return putBack
	}
	return err
}

func (g *Group) readParts(ctx context.Context, f *feed, j job, progress *scanning) error {
	loader, err := g.state.Loader(j.at, j.scan.Through != nil)
	if err != nil {
		return err
	}
	wanted := true
	run := scan.NewWalk(j.table.Order, cdc.Part{After: j.scan.Through}, partTime)
	for wanted && !run.Done() && err == nil {
		err = fault.Catch(func() (err error) {
			wanted, err = g.readPart(ctx, f, j, run, loader, progress)
			return err
		})
	}
	if closeErr := loader.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return g.sumUp(ctx, j, 0, loader)
}

// readPart reads the next part of a walk and tells the ledger. It reports whether the rest is still wanted.
func (g *Group) readPart(ctx context.Context, f *feed, j job, run *scan.Walk, loader *store.Loader, progress *scanning) (wanted bool, err error) {
	began := time.Now()
	var rows int
	var last digest.Key
	var row []byte
	source, err := f.source()
	if err != nil {
		return false, err
	}
	view, err := source.Read(ctx, j.table, j.epoch, run.Next(0), func(k digest.Key, r *digest.Row) error {
		rows++
		last = append(last[:0], k...)
		progress.row(g.log)
		row = digest.AppendRow(row[:0], r)
		return loader.Add(k, row)
	})
	if err == nil {
		err = loader.Flush()
	}
	if err != nil {
		return false, err
	}
	run.Read(rows, last, time.Since(began))
	err = g.do(ctx, func() error {
		wanted = g.ledger.Reached(j.at, view, last, int64(rows))
		return nil
	})
	return wanted, err
}
