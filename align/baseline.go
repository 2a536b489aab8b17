package align

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Due is a scan of all rows of a table that can begin now, or go on.
type Due struct {
	At   Space
	Scan ScanRecord
}

// Wanted lists the scans that a member's tables wait for and that need not wait.
func (l *Ledger) Wanted(id cdc.MemberID) []Due {
	var wanted []Due
	if l.members[id].record.Position.LSN == 0 {
		return nil // its stream has no beginning yet: rows from before it would be read once more
	}
	for _, t := range l.sortedTables() {
		switch c := t.coverage[id]; {
		case l.members[id].scanOnly || l.hold(t, l.members[id]) != "":
		case c.Phase == Waiting:
			next := Space{Member: id, Table: c.space.Table, Generation: c.Generation + 1}
			wanted = append(wanted, Due{next, ScanRecord{Whole: c.whole}})
		case c.Phase == Scanning && c.paused:
			wanted = append(wanted, Due{c.space, *c.Scan})
		}
	}
	return wanted
}

// hold says what a member's table has to wait for before its scan, or nothing.
func (l *Ledger) hold(t *table, m *member) string {
	c := t.coverage[m.id]
	ln := m.lanes[c.Lane]
	switch {
	case c.problem != "":
		return c.problem
	case c.redefinedAt.After(m.provenAt): // what the log has of a table that was dropped would be applied to the rows of the new one
		return c.reasonAnd("its log is read first, up to what it has now")
	case m == l.ref:
		return ""
	case ln == nil: // why, was said when lanes were last told of
		return orElse(c.Reason, l.noLane(m))
	case ln.Tables[t.name()] != "":
		return ln.Tables[t.name()]
	case !ln.known:
		return c.reasonAnd(fmt.Sprintf("it is not known yet how far %s is", ln.title()))
	case !ln.record.Lost.IsZero():
		return c.Reason
	case t.ranges == nil:
		return "the reference is read first"
	}
	return ""
}

// reasonAnd adds what is waited for to the reason that a table has.
func (c *coverage) reasonAnd(waits string) string {
	if c.Reason == "" {
		return waits
	}
	return c.Reason + "; " + waits
}

func (l *Ledger) noLane(m *member) string {
	return fmt.Sprintf("nothing on %s replicates it from %s", m.name, l.ref.name)
}

// Scanning says that a wanted scan is about to begin or to go on: changes that the stream shows from now on pile up.
func (l *Ledger) Scanning(at Space) {
	t := l.tables[at.Table]
	c := t.coverage[at.Member]
	if c.paused {
		c.paused = false
		return
	}
	c.space, c.Generation, c.Phase, c.tree, t.dirty = at, at.Generation, Scanning, nil, true
	c.Scan, c.Restarted = &ScanRecord{Began: l.now, Whole: c.whole}, false
}

// current reports whether a scan is still wanted: nothing has put its table back to Waiting since it began.
func (l *Ledger) current(at Space, phase Phase) (*table, *coverage) {
	t := l.tables[at.Table]
	if t == nil {
		return nil, nil
	}
	if c := t.coverage[at.Member]; c != nil && c.Phase == phase && c.space == at {
		return t, c
	}
	return nil, nil
}

// Cut says at which position of the member's log the rows of a running scan are.
func (l *Ledger) Cut(at Space, cut cdc.LSN) {
	if _, c := l.current(at, Scanning); c != nil {
		c.Scan.Cut = cut
	}
}

// Reached says that a scan which reads parts, in the server's order of the key, has stored the rows of one more, up to the
// key through (nil: none). It goes on from there after an interruption, so the rows must not be lost if what
// is committed after this is not. It reports whether the scan is still wanted.
//
// The parts are of different moments, which does no harm: a change says what a row becomes, so all changes since the first
// moment, applied in their order to rows that may be of a later one, make of each row what it is at the end.
func (l *Ledger) Reached(at Space, v cdc.View, through digest.Key, rows int64) bool {
	t, c := l.current(at, Scanning)
	if c == nil {
		return false
	}
	s := c.Scan
	if s.Cut == 0 {
		s.Cut = v.Cut
	}
	s.Settled, s.Rows, t.dirty = max(s.Settled, v.Settled), s.Rows+rows, true
	if through != nil {
		s.Through = slices.Clone(through)
	}
	return true
}

// Freeze returns the ranges to sum a scan's rows by; until Loaded or a failure of the scan they stay as they are. It
// returns nil, not an empty list, for the scan that is to cut the ranges. The second result is false if the scan is not
// wanted any more.
func (l *Ledger) Freeze(at Space) ([]digest.Key, bool) {
	t, c := l.current(at, Scanning)
	if c == nil {
		return nil, false
	}
	c.frozen = true
	if t.ranges == nil {
		return nil, true
	}
	boundaries := make([]digest.Key, 0, t.ranges.Len()-1)
	for i := 1; i < t.ranges.Len(); i++ {
		boundaries = append(boundaries, slices.Clone(t.ranges.Start(i)))
	}
	return boundaries, true
}

// Failed says that a scan has ended without all of its rows. One that reads parts can go on; of one that is not wanted any
// more nothing is left.
func (l *Ledger) Failed(at Space, reason string) error {
	t, c := l.current(at, Scanning)
	if c == nil {
		return l.state.DropSpace(at)
	}
	if c.Scan.Through == nil {
		return l.wait(t, c, reason)
	}
	c.paused, c.frozen, c.Reason, t.dirty = true, false, reason, true
	return nil
}

// Loaded says that a space holds all rows of the scan, of a view that ends at settled, with their range digests by
// boundaries.
func (l *Ledger) Loaded(at Space, settled cdc.LSN, boundaries []digest.Key, sums []merkle.Sum) error {
	t, c := l.current(at, Scanning)
	if c == nil {
		return l.state.DropSpace(at)
	}
	c.frozen, c.Scan.Settled = false, max(c.Scan.Settled, settled)
	if t.ranges == nil {
		t.ranges = merkle.NewPartition(boundaries)
		for _, b := range boundaries {
			if err := l.state.SetBoundary(at.Table, b); err != nil {
				return err
			}
		}
	}
	for i, s := range sums {
		if err := l.state.SetSum(at, t.ranges.Start(i), s); err != nil {
			return err
		}
	}
	c.tree = merkle.NewTree(t.ranges, sums)
	c.Phase, c.Reason, t.dirty = Replaying, "changes since its scan are being applied", true
	return nil
}

// replayChunk is how many changes that piled up are applied before the streams get their turn again.
const replayChunk = 5000

// Replay applies changes that piled up during scans; more says that some are left.
func (l *Ledger) Replay() (more bool, err error) {
	for _, t := range l.sortedTables() {
		for _, id := range slices.Sorted(maps.Keys(t.coverage)) {
			c := t.coverage[id]
			if c.Phase != Replaying {
				continue
			}
			left, err := l.replayPending(t, c, l.members[id])
			if err != nil {
				return false, fmt.Errorf("replay changes of table %s of %s: %w", t.name(), l.members[id].name, err)
			}
			more = more || left
		}
	}
	return more, nil
}

func (l *Ledger) replayPending(t *table, c *coverage, m *member) (bool, error) {
	at, scan := c.space, c.Scan
	more, err := l.state.TakePending(at, replayChunk, func(p *Pending) error {
		if p.Commit < scan.Cut || p.Change.Epoch != t.record.Epoch.Number || c.Phase != Replaying {
			return nil
		}
		if p.Commit < scan.Settled && p.Change.Row.Partial != nil {
			return l.completeLater(t, c, m, &p.Change)
		}
		var fx effects
		return l.changeOrDoubt(t, c, m, &p.Change, &fx)
	})
	// Until the stream has passed the end of the view it shows changes that the scan has already seen.
	if err != nil || more || c.Phase != Replaying || m.record.Position.LSN < max(scan.Cut, scan.Settled) {
		return more, err
	}
	c.Phase, c.Reason, c.Scan, c.whole, t.dirty = Live, "compared once the member has caught up", nil, false, true
	c.liveAt = l.now
	if t.record.Sparse {
		if err := l.sparsen(c); err != nil {
			return false, err
		}
	}
	return false, l.Verified(at.Table, at.Member, Verified{At: scan.Began, Position: scan.Cut}, nil)
}

// completeLater applies a change that leaves values out and that the scan may have seen already. Where its row is, the
// values are there, or are overwritten by the next change that says them. Where it is not, it was removed after this
// change, and a later one says so. But of a row that moved it is not known which of the two rows has its values, so
// the table is read anew, in one view.
func (l *Ledger) completeLater(t *table, c *coverage, m *member, ch *cdc.Change) error {
	if ch.OldKey != nil {
		c.whole = true
		return l.unverify(t, m, "a row's key changed while the table was read in parts, in a change that leaves out other values")
	}
	row, err := l.state.Row(c.space, ch.Key)
	if err != nil || row == nil {
		return err
	}
	var fx effects
	return l.changeOrDoubt(t, c, m, ch, &fx)
}
