package monitor

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/align"
	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/store"
)

const (
	// scanTables and scanAge bound how long one snapshot is held: a snapshot keeps the server from cleaning up.
	scanTables = 16
	scanAge    = time.Minute
	scanEvery  = 200 * time.Millisecond
	// sayEvery is how often the log tells how far a table is.
	sayEvery = 10 * time.Second
)

// scan reads the tables of a member that wait for it.
func (g *Group) scan(ctx context.Context, f *feed) error {
	wait := scanEvery
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		jobs, err := g.wanted(ctx, f)
		if err != nil {
			return err
		}
		wait = scanEvery
		if len(jobs) == 0 {
			continue
		}
		if err := g.scanJobs(ctx, f, jobs); err != nil && ctx.Err() == nil {
			g.log.Warn("reading tables was interrupted; lockstep tries again", "member", f.Name, "err", err.Error())
			wait = lastRetry / 5
		}
	}
}

// job is one table to be read.
type job struct {
	at    align.Space
	epoch cdc.Epoch
	table cdc.Table
}

// wanted takes the next tables to be read. From here on the ledger lets their changes pile up, so it comes before the
// snapshot.
func (g *Group) wanted(ctx context.Context, f *feed) ([]job, error) {
	var jobs []job
	err := g.do(ctx, func() error {
		for _, at := range g.ledger.Wanted(f.id) {
			epoch := g.ledger.Epochs()[at.Table]
			table, ok := f.defined[epoch.Shape.Table]
			if !ok || len(jobs) == scanTables {
				continue
			}
			g.ledger.Scanning(at)
			jobs = append(jobs, job{at, epoch, table})
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
		reason := "waits for its next scan"
		if err != nil {
			reason = "its last scan failed: " + err.Error()
		}
		left := jobs[done:]
		putBack := g.do(ctx, func() error {
			for _, j := range left {
				if err := g.ledger.Failed(j.at, reason); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && ctx.Err() == nil {
			err = putBack
		}
	}()
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give()
	snapshot, err := f.Source.Snapshot(ctx)
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
		if err = g.scanTable(ctx, f, snapshot, j); err == nil {
			done++
		}
	}
	return err
}

// scanTable reads one table into its space and hands it to the ledger.
func (g *Group) scanTable(ctx context.Context, f *feed, snapshot cdc.Snapshot, j job) error {
	began := time.Now()
	name := j.epoch.Shape.Table
	progress := g.scans.begin(f.Name, name, j.table.Rows)
	defer g.scans.end(progress)
	g.log.Info("reading table", "member", f.Name, "table", name, "position", snapshot.Cut().String())
	loader, err := g.state.Loader(j.at)
	if err != nil {
		return err
	}
	var row []byte
	said := began
	err = snapshot.Rows(ctx, j.table, j.epoch, func(k digest.Key, r *digest.Row) error {
		if n := progress.done.Add(1); n%8192 == 0 && time.Since(said) > sayEvery {
			said = time.Now()
			g.log.Info("still reading table", "member", f.Name, "table", name, "rows", n, "of_about", j.table.Rows)
		}
		row = digest.AppendRow(row[:0], r)
		return loader.Add(k, row)
	})
	if closeErr := loader.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	settled, err := snapshot.Settled(ctx)
	if err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	if err := g.sumUp(ctx, j, settled, loader); err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	rows, took := progress.done.Load(), time.Since(began)
	g.log.Info("table was read", "member", f.Name, "table", name, "rows", rows, "took", took.Round(time.Millisecond).String())
	return nil
}

// sumUp makes the range digests of a space and hands them to the ledger.
func (g *Group) sumUp(ctx context.Context, j job, settled cdc.LSN, loader *store.Loader) error {
	var boundaries []digest.Key
	var rangeRows int64
	wanted := false
	err := g.do(ctx, func() error {
		rangeRows = g.ledger.RangeRows()
		boundaries, wanted = g.ledger.Freeze(j.at)
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

// scans are the tables that are being read now, for progress bars.
type scans struct {
	mu   sync.Mutex
	list []*scanning // guarded by mu
}

type scanning struct {
	member, table string
	of            int64
	done          atomic.Int64
	began         time.Time
}

func (s *scans) begin(member, table string, of int64) *scanning {
	p := &scanning{member: member, table: table, of: of, began: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, p)
	return p
}

func (s *scans) end(p *scanning) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.list {
		if other == p {
			s.list = append(s.list[:i:i], s.list[i+1:]...)
			return
		}
	}
}

// Scans returns the tables that are being read now. It may be called from any goroutine.
func (g *Group) Scans() []align.ScanProgress {
	g.scans.mu.Lock()
	defer g.scans.mu.Unlock()
	list := make([]align.ScanProgress, len(g.scans.list))
	for i, p := range g.scans.list {
		list[i] = align.ScanProgress{Member: p.member, Table: p.table, Rows: p.done.Load(), OfRows: p.of, Started: p.began}
	}
	return list
}
