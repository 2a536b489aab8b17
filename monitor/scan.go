package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/store"
)

const (
	// scanTables and scanAge bound how long one snapshot is held: a snapshot keeps the server from cleaning up.
	scanTables = 16
	scanAge    = time.Minute
	scanEvery  = 200 * time.Millisecond
	scanRetry  = lastRetry / 5
	// partsFrom is how many rows of a table are too many for one snapshot.
	partsFrom = 2_000_000
	// sayEvery is how often the log tells how far a table is.
	sayEvery = 10 * time.Second
)

// scan reads the tables of a member that wait for it.
func (g *Group) scan(ctx context.Context, f *feed) error {
	if !f.admitted.Load() {
		return nil // its trouble says why
	}
	jobs, err := g.wanted(ctx, f)
	switch {
	case err != nil || len(jobs) == 0:
	case jobs[0].inParts(g.opt().PartsFrom):
		err = g.scanInParts(ctx, f, jobs[0])
	default:
		err = g.scanJobs(ctx, f, jobs)
	}
	if errors.Is(err, cdc.ErrNotStreaming) {
		return nil // soon it has
	}
	return err
}

// job is one table to be read.
type job struct {
	at    align.Space
	epoch cdc.Epoch
	table cdc.Table
	scan  align.ScanRecord
}

// inParts reports whether the table is to be read in parts, or was begun so. A snapshot that is held for long keeps the
// server from cleaning up, and what was read of it is lost with the connection.
func (j *job) inParts(from int64) bool {
	return j.scan.Through != nil || !j.scan.Whole && j.table.Order != cdc.Unordered && j.table.Rows >= from
}

// wanted takes the next tables to be read: several for one snapshot, or one that is read in parts. From here on the
// ledger lets their changes pile up, so it comes before any of their rows is read.
func (g *Group) wanted(ctx context.Context, f *feed) ([]job, error) {
	var jobs []job
	err := g.do(ctx, func() error {
		now := time.Now()
		for _, due := range g.ledger.Wanted(f.id) {
			if !f.later[due.At.Table].over(now) {
				continue
			}
			epoch := g.ledger.Epochs()[due.At.Table]
			table, ok := f.defined[epoch.Shape.Table]
			j := job{due.At, epoch, table, due.Scan}
			alone := j.inParts(g.opt().PartsFrom)
			if !ok || alone && len(jobs) > 0 {
				continue
			}
			g.ledger.Scanning(due.At)
			if jobs = append(jobs, j); alone || len(jobs) == scanTables {
				break
			}
		}
		return nil
	})
	return jobs, err
}

// scanJobs reads tables from one snapshot. What was not read by the end is put back.
func (g *Group) scanJobs(ctx context.Context, f *feed, jobs []job) (err error) {
	began := time.Now()
	done := 0
	defer func() {
		if putBack := g.putBack(ctx, f, jobs[done:], err); err == nil && ctx.Err() == nil {
			err = putBack
		}
	}()
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give()
	source, err := f.source()
	if err != nil {
		return err
	}
	snapshot, err := source.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	err = g.do(ctx, func() error {
		for _, j := range jobs {
			g.ledger.Cut(j.at, snapshot.Cut())
		}
		return nil
	})
	for _, j := range jobs {
		if err != nil || time.Since(began) > scanAge {
			return err
		}
		name := j.epoch.Shape.Table
		if err := g.alone(f, name, func() error { return g.scanTable(ctx, f, snapshot, j) }); err != nil {
			return &tableError{name, err}
		}
		done++
	}
	return err
}

// tableError is about one table, by which nothing is said of others.
type tableError struct {
	table string
	err   error
}

func (e *tableError) Error() string { return "table " + e.table + ": " + e.err.Error() }
func (e *tableError) Unwrap() error { return e.err }

// putBack has tables wait for another scan. One that could not be read is left alone for a while: the next scan begins with others.
func (g *Group) putBack(ctx context.Context, f *feed, left []job, why error) error {
	var of *tableError
	errors.As(why, &of)
	return g.do(context.WithoutCancel(ctx), func() error { // the member may go on by another source
		for _, j := range left {
			reason := "waits for its next scan"
			switch name := j.epoch.Shape.Table; {
			case of != nil && of.table == name:
				reason = "its last scan failed: " + of.err.Error()
				f.later[j.at.Table] = f.later[j.at.Table].next(time.Now(), why)
			case errors.Is(why, cdc.ErrNotStreaming):
				reason = "waits for its stream to begin"
			case of == nil && why != nil:
				reason = "its last scan failed: " + why.Error()
			}
			if err := g.ledger.Failed(j.at, reason); err != nil {
				return err
			}
		}
		return nil
	})
}

// scanTable reads one table into its space and hands it to the ledger.
func (g *Group) scanTable(ctx context.Context, f *feed, snapshot cdc.Snapshot, j job) error {
	began := time.Now()
	name := j.epoch.Shape.Table
	progress := g.scans.begin(f.Name, name, j.table.Rows)
	defer g.scans.end(progress)
	g.log.Info("reading table", "member", f.Name, "table", name, "position", snapshot.Cut().String())
	loader, err := g.state.Loader(j.at, false)
	if err != nil {
		return err
	}
	var row []byte
	err = fault.Catch(func() error {
		return snapshot.Rows(ctx, j.table, j.epoch, func(k digest.Key, r *digest.Row) error {
			progress.row(g.log)
			row = digest.AppendRow(row[:0], r)
			return loader.Add(k, row)
		})
	})
	if closeErr := loader.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	settled, err := snapshot.Settled(ctx)
	if err != nil {
		return err
	}
	if err := g.sumUp(ctx, j, settled, loader); err != nil {
		return err
	}
	g.log.Info("table was read", "member", f.Name, "table", name, "rows", progress.done.Load(), "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// sumUp makes the range digests of a space and hands them to the ledger.
func (g *Group) sumUp(ctx context.Context, j job, settled cdc.LSN, loader *store.Loader) error {
	var boundaries []digest.Key
	var rangeRows int64
	wanted := false
	err := g.do(ctx, func() error {
		rangeRows = g.ledger.RangeRows()
		if boundaries, wanted = g.ledger.Freeze(j.at); !wanted {
			return g.ledger.Failed(j.at, "")
		}
		return nil
	})
	if err != nil || !wanted {
		return err
	}
	boundaries, sums, err := loader.Sum(boundaries, boundaries == nil, rangeRows)
	if err != nil {
		return err
	}
	return g.do(ctx, func() error { return g.ledger.Loaded(j.at, settled, boundaries, sums) })
}
