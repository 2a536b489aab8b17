package align

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/merkle"
)

// SetEpoch begins a new epoch of a table: with the first definition, or when a member's definition has changed. All
// members are read anew.
func (l *Ledger) SetEpoch(e cdc.Epoch, versions map[MemberID]string, reason string) error {
	t := l.tables[e.Table]
	if t == nil {
		t = &table{record: &TableRecord{Members: make(map[MemberID]*CoverageRecord)}, coverage: make(map[MemberID]*coverage)}
		l.tables[e.Table] = t
	}
	sameKey := slices.Equal(keyNames(t.record.Epoch.Shape), keyNames(e.Shape))
	t.record.Epoch, t.record.Versions, t.ranges, t.dirty = e, versions, nil, true
	if err := l.state.DropBoundaries(e.Table); err != nil {
		return err
	}
	for _, m := range l.sortedMembers() {
		l.cover(t, m.id)
		if !sameKey {
			if err := l.dropDivergent(t, m); err != nil {
				return err
			}
		}
	}
	return l.unverify(t, l.ref, reason)
}

func keyNames(s digest.Shape) []string {
	names := make([]string, len(s.Key))
	for i, c := range s.Key {
		names[i] = s.Columns[c].Name
	}
	return names
}

// dropDivergent resolves the findings of a table whose key is no longer the same: its keys name no rows any more.
func (l *Ledger) dropDivergent(t *table, m *member) error {
	var keys []digest.Key
	err := l.state.DivergentKeys(m.id, t.record.Epoch.Table, nil, nil, func(k digest.Key, _ *DivergentKey) (bool, error) {
		keys = append(keys, slices.Clone(k))
		return true, nil
	})
	for _, k := range keys {
		if err == nil {
			err = l.heal(m, t, t.coverage[m.id], k)
		}
	}
	return err
}

// SetProblem says what keeps a member's table from being watched, or that nothing does.
func (l *Ledger) SetProblem(id cdc.TableID, on MemberID, problem string) error {
	t := l.tables[id]
	c := t.coverage[on]
	c.problem = problem
	if problem == "" || c.Phase == Waiting {
		return nil
	}
	return l.unverify(t, l.members[on], problem)
}

// Redefined says that a member's definition of a table is another one that leaves its shape as it is: its rows may have
// been rewritten without a trace in the stream.
func (l *Ledger) Redefined(id cdc.TableID, on MemberID, version string) error {
	t := l.tables[id]
	t.record.Versions[on], t.dirty = version, true
	return l.unverify(t, l.members[on], "its definition changed")
}

// Defined says that at the time at all definitions of a member were the ones that the ledger was told of.
func (l *Ledger) Defined(id MemberID, at time.Time) { l.members[id].definedAt = at }

// Doubt says that what is kept of a table on a member may not be true.
func (l *Ledger) Doubt(id cdc.TableID, on MemberID, reason string) error {
	return l.unverify(l.tables[id], l.members[on], reason)
}

// Drop forgets a table that is not watched any more. Its divergences are resolved.
func (l *Ledger) Drop(id cdc.TableID) error {
	t := l.tables[id]
	l.journal.forget(id)
	for _, m := range l.sortedMembers() {
		if err := l.dropDivergent(t, m); err != nil {
			return err
		}
		if err := l.state.DropSpace(t.coverage[m.id].space); err != nil {
			return err
		}
		if err := l.forgetVerified(t.coverage[m.id]); err != nil {
			return err
		}
		t.coverage[m.id].breakWatches()
	}
	for _, f := range l.byNumber {
		if f.Table == id {
			f.live, f.Divergence.Detail = 0, "the table is not watched any more"
		}
	}
	for at := range l.touched {
		if at.table == id {
			delete(l.touched, at)
		}
	}
	delete(l.tables, id)
	if err := l.state.DropBoundaries(id); err != nil {
		return err
	}
	return l.state.DeleteTable(id)
}

// Epochs returns the epoch of each table.
func (l *Ledger) Epochs() map[cdc.TableID]cdc.Epoch {
	epochs := make(map[cdc.TableID]cdc.Epoch, len(l.tables))
	for id, t := range l.tables {
		epochs[id] = t.record.Epoch
	}
	return epochs
}

// Versions returns the definitions, by member, that the table's epoch began with.
func (l *Ledger) Versions(id cdc.TableID) map[MemberID]string {
	if t := l.tables[id]; t != nil {
		return t.record.Versions
	}
	return nil
}

// unverify forgets what is kept of a table on a member, which is read anew. Without the reference's rows no member's
// can be compared, and when the ranges are to be cut anew all members are read anew.
func (l *Ledger) unverify(t *table, m *member, reason string) error {
	if m == l.ref {
		l.journal.forget(t.record.Epoch.Table)
		l.unjournaled(t)
		t.record.Forgotten = l.ref.record.Position.LSN
	}
	for _, on := range l.sortedMembers() {
		c := t.coverage[on.id]
		if on != m && m != l.ref {
			continue
		}
		c.Compared = false
		clear(c.inFlight)
		if on == m || t.ranges == nil || on.scanOnly {
			if err := l.wait(t, c, reason); err != nil {
				return err
			}
		} else if c.Phase == Live {
			c.Reason = "the reference is being read anew: " + reason
		}
	}
	return nil
}

// wait drops the rows of a coverage and puts it before its next scan.
func (l *Ledger) wait(t *table, c *coverage, reason string) error {
	if c.Phase != Waiting {
		if err := l.state.DropSpace(c.space); err != nil {
			return err
		}
	}
	if err := l.forgetVerified(c); err != nil {
		return err
	}
	c.breakWatches()
	c.Suspects = nil
	c.Phase, c.Reason, c.tree, c.cut, c.settled, c.frozen, t.dirty = Waiting, reason, nil, 0, 0, false, true
	return nil
}

// Unverify says that what is kept of all tables of a member does not hold, because its stream has a hole before start.
// What the member had replayed before it need not be there any more: it may have been restored from a backup.
func (l *Ledger) Unverify(id MemberID, start cdc.Position, server cdc.Server, reason string) error {
	m := l.members[id]
	if m == l.ref {
		if err := l.forgetLanes(); err != nil {
			return err
		}
	}
	m.record.Position, m.record.Server, m.record.Ahead, m.dirty = start, server, cdc.TxSet{}, true
	for _, ln := range m.lanes {
		ln.known, ln.record.Applied = false, cdc.TxSet{}
	}
	for _, t := range l.sortedTables() {
		l.unjournaled(t)
		if err := l.unverify(t, m, reason); err != nil {
			return err
		}
	}
	return nil
}

// forgetLanes drops how far the lanes are and what they have yet to replay: it may be told in positions of a log that the
// reference does not write any more.
func (l *Ledger) forgetLanes() error {
	for _, m := range l.sortedMembers() {
		for _, ln := range m.lanes {
			ln.known, ln.lost = false, cdc.TxSet{}
			ln.record.Applied, m.dirty = cdc.TxSet{}, true
			if err := l.empty(ln); err != nil {
				return err
			}
		}
	}
	return nil
}

// Opened says who the member is whose stream goes on without a hole.
func (l *Ledger) Opened(id MemberID, server cdc.Server) {
	m := l.members[id]
	m.record.Server, m.dirty = server, true
}

// Wanted lists the spaces of a member that wait for a scan and can have one now.
func (l *Ledger) Wanted(id MemberID) []Space {
	var wanted []Space
	for _, t := range l.sortedTables() {
		if c := t.coverage[id]; c.Phase == Waiting && !l.members[id].scanOnly && l.hold(t, l.members[id]) == "" {
			wanted = append(wanted, Space{Member: id, Table: c.space.Table, Generation: c.Generation + 1})
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
	case m == l.ref:
		return ""
	case ln == nil:
		return l.noLane(m)
	case ln.Tables[t.name()] != "":
		return ln.Tables[t.name()]
	case !ln.known:
		return fmt.Sprintf("it is not known yet how far %s is", ln.Title)
	case !ln.lost.IsZero():
		return c.Reason
	case t.ranges == nil:
		return "the reference is read first"
	}
	return ""
}

func (l *Ledger) noLane(m *member) string {
	return fmt.Sprintf("nothing on %s replicates it from %s", m.name, l.ref.name)
}

// Scanning says that a space that was wanted is about to be filled: changes that the stream shows from now on pile up.
func (l *Ledger) Scanning(at Space) {
	t := l.tables[at.Table]
	c := t.coverage[at.Member]
	c.space, c.Generation, c.Phase, c.cut, c.tree, t.dirty = at, at.Generation, Scanning, 0, nil, true
	c.scanBegan = l.now
}

// current reports whether a scan is still wanted: nothing has put its table back to Waiting since it began.
func (l *Ledger) current(at Space, phase Phase) (*table, *coverage) {
	t := l.tables[at.Table]
	if c := t.coverage[at.Member]; c.Phase == phase && c.space == at {
		return t, c
	}
	return nil, nil
}

// Cut says at which position of the member's log the rows of a running scan are.
func (l *Ledger) Cut(at Space, cut cdc.LSN) {
	if _, c := l.current(at, Scanning); c != nil {
		c.cut = cut
	}
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

// Failed says that a scan has ended without its rows.
func (l *Ledger) Failed(at Space, reason string) error {
	t, c := l.current(at, Scanning)
	if c == nil {
		return nil
	}
	return l.wait(t, c, reason)
}

// Loaded says that a space holds all rows of the scan, of a view that ends at settled, with their range digests by
// boundaries.
func (l *Ledger) Loaded(at Space, settled cdc.LSN, boundaries []digest.Key, sums []merkle.Sum) error {
	t, c := l.current(at, Scanning)
	if c == nil {
		return l.state.DropSpace(at)
	}
	c.frozen, c.settled = false, settled
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
	at := c.space
	more, err := l.state.TakePending(at, replayChunk, func(p *Pending) error {
		if p.Commit < c.cut || p.Change.Epoch != t.record.Epoch.Number || c.Phase != Replaying {
			return nil
		}
		var fx effects
		return l.changeOrDoubt(t, c, m, &p.Change, &fx)
	})
	// Until the stream has passed the end of the view it shows changes that the scan has already seen.
	if err != nil || more || c.Phase != Replaying || m.record.Position.LSN < max(c.cut, c.settled) {
		return more, err
	}
	c.Phase, c.Reason, t.dirty = Live, "compared once the member has caught up", true
	return false, l.Verified(at.Table, at.Member, Verified{At: c.scanBegan, Position: c.cut}, nil)
}
