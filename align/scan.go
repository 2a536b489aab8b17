package align

import (
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// SetEpoch begins a new epoch of a table: with the first definition, or when a member's definition has changed. All
// members are read anew.
func (l *Ledger) SetEpoch(e cdc.Epoch, versions map[cdc.MemberID]string, reason string) error {
	t := l.tables[e.Table]
	known := t != nil
	if !known {
		t = &table{record: &TableRecord{Members: make(map[cdc.MemberID]*CoverageRecord)}, coverage: make(map[cdc.MemberID]*coverage)}
		l.tables[e.Table] = t
	}
	sameKey := slices.EqualFunc(keyColumns(t.record.Epoch.Shape), keyColumns(e.Shape), digest.Column.Comparable)
	t.record.Sparse = l.opt.Sparse != nil && l.opt.Sparse(e.Shape.Table)
	l.forgetDrills(e.Table)
	t.record.Epoch, t.record.Versions, t.ranges, t.dirty = e, versions, nil, true
	if err := l.state.DropBoundaries(e.Table); err != nil {
		return err
	}
	for _, m := range l.sortedMembers() {
		l.cover(t, m.id)
		if known {
			t.coverage[m.id].redefinedAt = l.now
		}
		if !sameKey {
			if err := l.dropDivergent(t, m); err != nil {
				return err
			}
		}
	}
	return l.unverify(t, l.ref, reason)
}

// keyColumns are the columns of a key. Keys that were made with columns of other types name no rows any more.
func keyColumns(s digest.Shape) []digest.Column {
	columns := make([]digest.Column, len(s.Key))
	for i, c := range s.Key {
		columns[i] = s.Columns[c]
	}
	return columns
}

// dropDivergent resolves the findings of a table whose key is no longer the same: its keys name no rows any more.
func (l *Ledger) dropDivergent(t *table, m *member) error {
	return l.healKeys(t, m, func(*DivergentKey) bool { return true })
}

// healKeys takes the keys of a table that are to go out of a member's divergent set.
func (l *Ledger) healKeys(t *table, m *member, goes func(*DivergentKey) bool) error {
	var keys []digest.Key
	err := l.state.DivergentKeys(m.id, t.record.Epoch.Table, nil, nil, func(k digest.Key, d *DivergentKey) (bool, error) {
		if goes(d) {
			keys = append(keys, slices.Clone(k))
		}
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
func (l *Ledger) SetProblem(id cdc.TableID, on cdc.MemberID, problem string) error {
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
func (l *Ledger) Redefined(id cdc.TableID, on cdc.MemberID, version string) error {
	t := l.tables[id]
	t.record.Versions[on], t.dirty = version, true
	t.coverage[on].redefinedAt = l.now
	return l.unverify(t, l.members[on], "its definition changed")
}

// Defined says that at the time at all definitions of a member were the ones that the ledger was told of.
func (l *Ledger) Defined(id cdc.MemberID, at time.Time) { l.members[id].definedAt = at }

// Doubt says that what is kept of a table on a member may not be true.
func (l *Ledger) Doubt(id cdc.TableID, on cdc.MemberID, reason string) error {
	return l.unverify(l.tables[id], l.members[on], reason)
}

// Drop forgets a table that is not watched any more, for a reason. Its divergences are resolved.
func (l *Ledger) Drop(id cdc.TableID, reason string) error {
	t := l.tables[id]
	l.journal.forget(id)
	for _, m := range l.sortedMembers() {
		if err := l.dropDivergent(t, m); err != nil {
			return err
		}
		c := t.coverage[m.id]
		c.breakWatches()
		l.generations[id] = max(l.generations[id], c.Generation)
	}
	for _, f := range l.findings.All() {
		if f.Table == id {
			if err := l.forget(f, reason); err != nil {
				return err
			}
		}
	}
	for at := range l.touched {
		if at.table == id {
			delete(l.touched, at)
		}
	}
	l.forgetDrills(id)
	delete(l.tables, id)
	return l.state.DropTable(id)
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
func (l *Ledger) Versions(id cdc.TableID) map[cdc.MemberID]string {
	if t := l.tables[id]; t != nil {
		return t.record.Versions
	}
	return nil
}

// unverify forgets what is kept of a table on a member, which is read anew. Without the reference's rows no member's
// can be compared, and when the ranges are to be cut anew all members are read anew.
func (l *Ledger) unverify(t *table, m *member, reason string) error {
	if m == l.ref {
		l.forgetInFlight(t)
	}
	for _, on := range l.sortedMembers() {
		c := t.coverage[on.id]
		if on != m && m != l.ref {
			continue
		}
		c.Compared = false
		c.clearInFlight()
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

// forgetInFlight takes what is in flight of a table out of the journal, with the reference's rows.
func (l *Ledger) forgetInFlight(t *table) {
	l.journal.forget(t.record.Epoch.Table)
	l.unjournaled(t)
	t.record.Forgotten = l.ref.record.Position.LSN
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
	if m := l.members[c.space.Member]; m.scanOnly && c.keys > 0 {
		if err := l.forgetSuspicions(t, m); err != nil {
			return err
		}
	}
	c.breakWatches()
	c.Suspects, c.drilled, c.blames = nil, nil, nil
	c.Phase, c.Reason, c.Scan, c.tree, c.frozen, c.paused, t.dirty = Waiting, reason, nil, nil, false, false, true
	return nil
}

// forgetSuspicions takes keys out of the divergent set that people were not told of. Rows of a member that is only scanned are
// judged when they are read, and so are those of a sparse table that was read anew: a suspicion of before would be confirmed
// without another look, or lend its age to a difference that came later. Those of a divergence stay, in whatever way they differ
// now: it waits for them.
func (l *Ledger) forgetSuspicions(t *table, m *member) error {
	return l.healKeys(t, m, func(d *DivergentKey) bool {
		f := l.findings.Number(d.Finding)
		return f == nil || !f.Confirmed && !l.findings.Heir(f)
	})
}

// Unverify says that what is kept of all tables of a member does not hold, because its stream has a hole before start.
// What the member had replayed before it need not be there any more: it may have been restored from a backup.
func (l *Ledger) Unverify(id cdc.MemberID, start cdc.Position, server cdc.Server, reason string) error {
	m := l.members[id]
	if m == l.ref {
		clear(l.leader)
		clear(l.refused)
		if err := l.forgetLanes(); err != nil {
			return err
		}
	}
	m.record.Position, m.record.Server, m.dirty = start, server, true
	m.record.Ahead, m.record.Started = cdc.TxSet{}, nil
	for _, id := range maps.Clone(l.refused) {
		l.lead(id)
	}
	for _, ln := range m.lanes {
		ln.known, *ln.record = false, LaneRecord{}
	}
	for _, t := range l.sortedTables() {
		if m == l.ref {
			t.record.Unjournaled = cdc.TxSet{} // what is in it may be of a log that the reference does not have any more
		}
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
			ln.known = false
			ln.record.Applied, ln.record.Lost, m.dirty = cdc.TxSet{}, cdc.TxSet{}, true
			if err := l.empty(ln); err != nil {
				return err
			}
		}
	}
	return nil
}

// Opened says who the member is whose stream goes on without a hole.
func (l *Ledger) Opened(id cdc.MemberID, server cdc.Server) {
	m := l.members[id]
	m.record.Server, m.dirty = server, true
}
