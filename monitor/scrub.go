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
)

// How a scrub goes: the rows of a part of a table are read in one view while a watch notes what the stream does to them.
// Once the stream is past the end of the view they are held against what the stream says they were. Rows that are not so
// are suspects; they are settled by reading them again on all members (suspects.go). A member that is only scanned is held
// against the reference's rows in the same way, with the watch on the reference.

const (
	// turnRows is how many rows are held against the ledger's before the streams get their turn again.
	turnRows = 5000
	// reachEvery and reachWithin say how a position is waited for. Past it the part is given up and read again later.
	reachEvery  = 10 * time.Millisecond
	reachWithin = 30 * time.Second
	// maxWhole bounds the rows of a table that cannot be read in parts.
	maxWhole = 1_000_000
)

// part is a piece of a table to be read from a member.
type part struct {
	table cdc.Table
	epoch cdc.Epoch
	cdc.Part
}

var (
	errStreamBehind = errors.New("its stream is behind: the rows that were read cannot be held against it yet")
	errBroken       = errors.New("what is kept of the table was dropped meanwhile, or too much of it changed")
)

// until asks on the ledger's goroutine again and again whether a state is reached.
func (g *Group) until(ctx context.Context, within time.Duration, behind error, reached func() bool) error {
	timeout := time.After(within)
	for {
		done := false
		if err := g.do(ctx, func() error { done = reached(); return nil }); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			return behind
		case <-time.After(reachEvery):
		}
	}
}

// watched is rows that were read while a watch noted what happens to them.
type watched struct {
	watch *align.Watch
	scan  align.Scan
	rows  int
	last  digest.Key // in the server's order; nil if nothing was read
	took  time.Duration
}

// read reads a part from a member. The watch is on the member's own rows, or on the reference's for one that is only
// scanned; it is to be ended by the caller, also after an error.
func (g *Group) read(ctx context.Context, f *feed, p part) (*watched, error) {
	w := &watched{}
	on := f.id
	if f.ScanOnly {
		on = g.ref
	}
	var mark cdc.TxSet
	err := g.do(ctx, func() error {
		if !g.ledger.Sparse(p.epoch.Table) { // of rows that are not kept, drill.go reads ranges
			w.watch, mark = g.ledger.Watch(p.epoch.Table, on), g.ledger.Mark()
		}
		return nil
	})
	if err != nil {
		return w, err
	}
	if w.watch == nil {
		return w, errBroken
	}
	if f.ScanOnly {
		caughtUp := func() bool { return g.ledger.CaughtUp(p.epoch.Table, f.id, mark) }
		if err := g.until(ctx, reachWithin, errNotCaughtUp, caughtUp); err != nil {
			return w, err
		}
	}
	if err := w.readRows(ctx, f, p); err != nil {
		return w, err
	}
	if f.ScanOnly {
		if err := g.overtake(ctx, f); err != nil {
			return w, err
		}
	}
	return w, g.reach(ctx, f, w)
}

// overtake waits until the reference, if it is a replica itself, has replayed what a member that is only scanned has.
func (g *Group) overtake(ctx context.Context, f *feed) error {
	replica := false
	if err := g.do(ctx, func() error { replica = g.ledger.IsReplica(); return nil }); err != nil || !replica {
		return err
	}
	source, err := f.source()
	if err != nil {
		return err
	}
	p, err := source.Progress(ctx)
	if err != nil {
		return err
	}
	return g.until(ctx, reachWithin, errOvertaken, func() bool { return !g.ledger.Coming(p.Applied[cdc.GTIDLane]) })
}

// errOvertaken is for a member that has what the reference has yet to replay.
var errOvertaken = errors.New("the reference, a replica itself, has yet to replay what it has")

// errNotCaughtUp is for a member that has yet to replay what the reference had written.
var errNotCaughtUp = errors.New("it has not replayed what the reference had written before")

// readRows reads the rows of a part. Of a table that cannot be read in parts all rows are read, also for the sake of a few.
func (w *watched) readRows(ctx context.Context, f *feed, p part) (err error) {
	began := time.Now()
	read, wanted := p.Part, func(digest.Key) bool { return true }
	if p.table.Order == cdc.Unordered {
		if p.table.Rows > maxWhole {
			return fmt.Errorf("it has about %d rows and its key cannot be read in parts; %d is the most that is read at once", p.table.Rows, maxWhole)
		}
		if p.Keys != nil {
			keys := make(map[string]bool, len(p.Keys))
			for _, k := range p.Keys {
				keys[string(k)] = true
			}
			read, wanted = cdc.Part{}, func(k digest.Key) bool { return keys[string(k)] }
		}
	}
	source, err := f.source()
	if err != nil {
		return err
	}
	w.scan.View, err = source.Read(ctx, p.table, p.epoch, read, func(k digest.Key, r *digest.Row) error {
		if wanted(k) {
			w.last = slices.Clone(k)
			w.scan.Rows = append(w.scan.Rows, align.ScannedRow{Key: w.last, Row: digest.AppendRow(nil, r)})
		}
		return nil
	})
	w.rows, w.took = len(w.scan.Rows), time.Since(began)
	w.scan.Keys = slices.Clone(p.Keys)
	slices.SortFunc(w.scan.Keys, func(a, b digest.Key) int { return bytes.Compare(a, b) })
	w.scan.Span = p.Keys == nil && (p.table.Order != cdc.ServerOrder)
	w.scan.After, w.scan.Through = p.After, p.Through
	if p.Keys == nil && p.table.Order == cdc.KeyOrder && p.Limit > 0 && w.rows == p.Limit {
		w.scan.Through = w.last
	}
	slices.SortFunc(w.scan.Rows, func(a, b align.ScannedRow) int { return bytes.Compare(a.Key, b.Key) })
	return err
}

// reach waits until the stream is past what was read.
func (g *Group) reach(ctx context.Context, f *feed, w *watched) error {
	on, settled := f.id, w.scan.View.Settled
	if f.ScanOnly {
		reference, err := g.reference(ctx)
		if err != nil {
			return err
		}
		progress, err := reference.Progress(ctx)
		if err != nil {
			return err
		}
		on, settled = g.ref, progress.Barrier
	}
	return g.until(ctx, reachWithin, errStreamBehind, func() bool { return w.watch.Broken() || g.ledger.Position(on) >= settled })
}

// unwatch ends a watch.
func (g *Group) unwatch(ctx context.Context, w *watched) {
	if w.watch == nil {
		return
	}
	// When Run ends, nobody asks the watch any more.
	_ = g.do(context.WithoutCancel(ctx), func() error { g.ledger.Unwatch(w.watch); return nil })
}

// suspects holds what was read against what is kept, in turns, and returns the keys of rows that are not so.
func (g *Group) suspects(ctx context.Context, f *feed, w *watched) ([]digest.Key, error) {
	var keys []digest.Key
	for _, turn := range w.scan.Split(turnRows) {
		err := g.do(ctx, func() error {
			if w.watch.Broken() {
				return nil
			}
			if f.ScanOnly {
				found, err := g.ledger.Compare(w.watch, f.id, &turn)
				keys = append(keys, found...)
				return err
			}
			found, err := g.ledger.Mismatches(w.watch, &turn)
			for _, r := range found {
				keys = append(keys, r.Key)
			}
			return err
		})
		if err != nil {
			return nil, g.fail(err)
		}
	}
	if w.watch.Broken() {
		return nil, errBroken
	}
	return keys, nil
}

// fail ends Run with an error of the state, after which the ledger cannot be trusted.
func (g *Group) fail(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	select {
	case g.broken <- err:
	default: // Run ends already
	}
	return err
}

// scrubPart reads one part and holds it against what is kept.
func (g *Group) scrubPart(ctx context.Context, f *feed, p part) (*watched, error) {
	w, err := g.read(ctx, f, p)
	defer g.unwatch(ctx, w)
	if err != nil {
		return w, err
	}
	f.scanned.Add(int64(w.rows))
	suspects, err := g.suspects(ctx, f, w)
	if err == nil && len(suspects) > 0 {
		err = g.suspect(ctx, f, p, suspects)
	}
	return w, err
}

// errSuspects is for a part with rows that are not as they should be; once they are settled it is read again.
var errSuspects = errors.New("rows are not what the log says; they are read again")

// suspect has rows settled.
func (g *Group) suspect(ctx context.Context, f *feed, p part, keys []digest.Key) error {
	if f.ScanOnly {
		return errors.Join(g.confirmScanned(ctx, f, p, keys), errSuspects)
	}
	g.log.Warn("rows were read that are not what the log says; they are read again",
		"member", f.Name, "table", p.epoch.Shape.Table, "rows", len(keys))
	return errors.Join(g.do(ctx, func() error { g.ledger.Suspect(p.epoch.Table, f.id, keys); return nil }), errSuspects)
}

// confirmRounds bounds how often rows that do not stand still are read again at once; the next part tries anew.
const confirmRounds = 5

// confirmScanned reads rows of a member that is only scanned again, by which they are judged.
func (g *Group) confirmScanned(ctx context.Context, f *feed, p part, keys []digest.Key) error {
	for range confirmRounds {
		again := part{table: p.table, epoch: p.epoch, Part: cdc.Part{Keys: keys}}
		w, err := g.read(ctx, f, again)
		if err == nil {
			keys, err = g.suspects(ctx, f, w)
		}
		g.unwatch(ctx, w)
		if err != nil || len(keys) == 0 {
			return err
		}
	}
	return fmt.Errorf("%d rows of table %s do not stand still", len(keys), p.epoch.Shape.Table)
}
