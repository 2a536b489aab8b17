package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/scan"
	"github.com/lockstep-cdc/lockstep/store"
)

// ScrubPlan says how rows are read again.
type ScrubPlan struct {
	Every     func(table string) time.Duration // 0: never
	ChunkTime time.Duration
	scan.Settings
}

// scrubber reads the rows of one member again, the ones that were read longest ago first: all in turn, or those that
// somebody has asked for.
type scrubber struct {
	group   *Group
	feed    *feed
	urgency scan.Urgency
	walks   map[cdc.TableID]*walk
	trouble map[cdc.TableID]pause // of tables that could not be read
}

// walk goes over one table.
type walk struct {
	*scan.Walk
	began time.Time
	// seen holds the keys that were met in a table whose order only the server knows. Which rows are missing there shows
	// at the end, when every key that is kept was either seen or not.
	seen *store.Seen
}

const (
	scrubLook    = 200 * time.Millisecond // between two looks for rows that are due
	recheckEvery = 2 * time.Second
	recheckRows  = 1000
	// troubleWait is how long a table, or a server that does not answer, is left alone.
	troubleWait = 5 * time.Second
)

func (g *Group) scrubber(f *feed, u scan.Urgency) *scrubber {
	return &scrubber{group: g, feed: f, urgency: u, walks: make(map[cdc.TableID]*walk), trouble: make(map[cdc.TableID]pause)}
}

// step reads one part, if one is due.
func (s *scrubber) step(ctx context.Context) (next time.Duration, err error) {
	if s.feed.trouble.Load() != nil {
		return 0, nil // it cannot be read, which is told already
	}
	p, err := s.next(ctx)
	if err != nil || p == nil {
		return 0, err
	}
	if err := s.feed.pacer.Await(ctx, s.urgency, s.group.pressure(s.feed)); err != nil {
		s.group.log.Debug("how busy the server is cannot be told", "member", s.feed.Name, "err", err.Error())
		return troubleWait, nil
	}
	if err := s.feed.take(ctx); err != nil {
		return 0, err
	}
	defer s.feed.give()
	var rows int
	var took time.Duration
	err = s.group.alone(s.feed, p.table.Name, func() (err error) {
		rows, took, err = s.readPart(ctx, *p)
		return err
	})
	s.feed.pacer.Read(s.urgency, rows, took)
	switch {
	case errors.Is(err, errSuspects):
		s.fails(nil)
		return 0, nil // they are looked after first
	case err != nil:
		s.trouble[p.epoch.Table] = s.trouble[p.epoch.Table].next(time.Now(), err)
		err = fmt.Errorf("table %s: %w", p.epoch.Shape.Table, err)
		s.fails(err)
		return 0, err
	}
	s.fails(nil)
	return duty.AtOnce, nil
}

// fails notes how it went with rows that somebody has asked for, who is told.
func (s *scrubber) fails(err error) {
	switch {
	case s.urgency != scan.Urgent:
	case err == nil:
		s.feed.scrubFailed.Store(nil)
	default:
		text := err.Error()
		s.feed.scrubFailed.Store(&text)
	}
}

// take waits until nobody else reads rows of the member.
func (f *feed) take(ctx context.Context) error {
	select {
	case f.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *feed) give() { <-f.reading }

// pressure says what a scan of the member would add to.
func (g *Group) pressure(f *feed) func(context.Context) (scan.Load, error) {
	return func(ctx context.Context) (scan.Load, error) {
		l := scan.Load{StoreBehind: len(f.credit) > inCredit/2}
		for _, m := range g.status.Load().Members {
			if m.Replicating && m.Trouble == "" && time.Duration(m.Behind) > l.ReplicaLag {
				l.ReplicaLag, l.Laggard = time.Duration(m.Behind), m.Name
			}
		}
		source, err := f.source()
		if gauge, ok := source.(cdc.Gauger); ok {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			l.Server, err = gauge.Pressure(ctx)
		}
		return l, err
	}
}

// next chooses the table whose rows were read longest ago, among those that are due.
func (s *scrubber) next(ctx context.Context) (*part, error) {
	var best *part
	var oldest time.Time
	var goals []scan.Goal
	err := s.group.do(ctx, func() error {
		now := time.Now()
		for id, epoch := range s.group.ledger.Epochs() {
			p, at := s.candidate(id, epoch, now)
			if p == nil {
				continue
			}
			if s.urgency == scan.Rolling {
				goals = append(goals, s.group.goal(id, s.feed, p.table, now, at))
			}
			if best == nil || at.Before(oldest) {
				best, oldest = p, at
			}
		}
		return nil
	})
	if s.urgency == scan.Rolling && err == nil {
		s.feed.pacer.Aim(goals...)
	}
	return best, err
}

// goal is what of a table is left to be read in time. It runs on the ledger's goroutine.
func (g *Group) goal(id cdc.TableID, f *feed, t cdc.Table, now, oldest time.Time) scan.Goal {
	every := g.scrubEvery(t.Name)
	goal := scan.Goal{Rows: t.Rows, Began: oldest, Every: every}
	if t.Rows > 0 {
		goal.Rows = int64(float64(t.Rows) * (1 - g.ledger.FreshShare(id, f.id, now.Add(-every/2))))
	}
	return goal
}

// candidate returns a table if rows of it are due, and when the oldest of them were read. It runs on the ledger's
// goroutine.
func (s *scrubber) candidate(id cdc.TableID, epoch cdc.Epoch, now time.Time) (*part, time.Time) {
	g, f := s.group, s.feed
	table, defined := f.defined[epoch.Shape.Table]
	switch {
	case !defined || table.Problem != "" || g.ledger.Suspected(id, f.id) || !s.trouble[id].over(now):
		return nil, time.Time{}
	case f.ScanOnly && !g.ledger.Scannable(id, f.id), !f.ScanOnly && !g.ledger.Live(id, f.id):
		delete(s.walks, id)
		return nil, time.Time{}
	}
	over, at, due := s.stalest(id, table.Name, now)
	if !due {
		return nil, at
	}
	return &part{table: table, epoch: epoch, Part: over}, at
}

// stalest returns the rows of a table that were read longest ago, when that was, and whether they are to be read again. It
// runs on the ledger's goroutine.
func (s *scrubber) stalest(id cdc.TableID, table string, now time.Time) (over cdc.Part, at time.Time, due bool) {
	v := s.group.ledger.Stalest(id, s.feed.id)
	over = cdc.Part{After: v.After}
	if s.urgency == scan.Rolling {
		// The first half of the time rows are left alone; in the second they are read again, at the pace that takes.
		every := s.group.scrubEvery(table)
		return over, v.At, every > 0 && now.Sub(v.At) >= every/2
	}
	if s.feed.ScanOnly && v.At.IsZero() {
		return over, v.At, true // nothing is known of it before all was read once
	}
	return s.group.asked(id, table, s.feed)
}

// readPart reads the next part of a table.
func (s *scrubber) readPart(ctx context.Context, p part) (rows int, took time.Duration, err error) {
	if s.group.sparse(p.table.Name) {
		return s.group.scrubRange(ctx, s.feed, p)
	}
	run, err := s.walkOver(p)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	p.Part = run.Next(s.feed.pacer.Most(s.urgency))
	w, err := s.group.scrubPart(ctx, s.feed, p)
	took = w.took
	if err == nil && run.seen != nil {
		err = run.take(w.scan.Rows)
	}
	if err != nil {
		return w.rows, took, err
	}
	covered := run.Read(w.rows, w.last, took)
	if run.seen == nil {
		err = s.group.do(ctx, func() error {
			v := align.Verified{After: covered.After, At: began, Position: w.scan.View.Cut}
			return s.group.ledger.Verified(p.epoch.Table, s.feed.id, v, covered.Through)
		})
	} else if run.Done() {
		err = s.group.endPass(ctx, s.feed, p, run)
	}
	if run.Done() {
		delete(s.walks, p.epoch.Table)
	}
	return w.rows, took, err
}

func (w *walk) take(rows []align.ScannedRow) error {
	for _, r := range rows {
		if err := w.seen.Add(r.Key); err != nil {
			return err
		}
	}
	return nil
}

// walkOver returns the walk that reads the rows of a table which were read longest ago.
func (s *scrubber) walkOver(p part) (*walk, error) {
	id := p.epoch.Table
	run := s.walks[id]
	byKey := p.table.Order == cdc.KeyOrder
	if run != nil && (run.seen != nil || run.GoesOn(p.Part)) {
		return run, nil
	}
	over := cdc.Part{}
	if byKey {
		over = p.Part
	}
	run = &walk{Walk: scan.NewWalk(p.table.Order, over, s.group.opt().Scrub.ChunkTime), began: time.Now()}
	if p.table.Order == cdc.ServerOrder {
		var err error
		if run.seen, err = s.group.state.Seen(s.feed.id, id, uint8(s.urgency)); err != nil {
			return nil, err
		}
	}
	s.walks[id] = run
	return run, nil
}

// recheck reads the rows of a member that is only scanned again that differ.
func (g *Group) recheck(ctx context.Context, f *feed) error {
	work, err := g.differing(ctx, f)
	for _, p := range work {
		failed := g.alone(f, p.table.Name, func() error { return g.recheckPart(ctx, f, p) })
		if failed != nil {
			err = errors.Join(err, &tableError{p.table.Name, failed})
		}
	}
	return err
}

func (g *Group) recheckPart(ctx context.Context, f *feed, p part) error {
	began := time.Now()
	if err := g.confirmScanned(ctx, f, p, p.Keys); err != nil {
		return err
	}
	return g.do(ctx, func() error { g.ledger.Rechecked(p.epoch.Table, f.id, began); return nil })
}

// differing lists the rows of a member that is only scanned which are held to differ.
func (g *Group) differing(ctx context.Context, f *feed) ([]part, error) {
	var work []part
	err := g.do(ctx, func() error {
		for id, epoch := range g.ledger.Epochs() {
			if !g.ledger.Scannable(id, f.id) {
				continue
			}
			keys, err := g.ledger.Recheck(id, f.id, recheckRows)
			if err != nil {
				return g.fail(err)
			}
			if len(keys) > 0 {
				work = append(work, part{table: f.defined[epoch.Shape.Table], epoch: epoch, Part: cdc.Part{Keys: keys}})
			}
		}
		return nil
	})
	return work, err
}

// endPass finds the rows that are kept and that no part of the walk has shown, and has them read by their keys: they were
// written behind where the walk was, or they are gone without a trace.
func (g *Group) endPass(ctx context.Context, f *feed, p part, run *walk) error {
	on := f.id
	if f.ScanOnly {
		on = g.ref
	}
	var after digest.Key
	for more := true; more; {
		var unseen []digest.Key
		err := g.do(ctx, func() (err error) {
			unseen, after, more, err = g.ledger.Unseen(p.epoch.Table, on, after, turnRows, run.seen.Has)
			if err != nil {
				return g.fail(err)
			}
			return nil
		})
		if err == nil && len(unseen) > 0 {
			_, err = g.scrubPart(ctx, f, part{table: p.table, epoch: p.epoch, Part: cdc.Part{Keys: unseen}})
		}
		if err != nil {
			return errors.Join(err, run.seen.Close())
		}
	}
	err := g.do(ctx, func() error {
		return g.ledger.Verified(p.epoch.Table, f.id, align.Verified{At: run.began, Position: g.ledger.Position(f.id)}, nil)
	})
	return errors.Join(err, run.seen.Close())
}
