package align

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Heard takes in how a member says that it replicates, as soon as it has: the rest of what it says, of which [Ledger.Progress] is told, may wait
// for that.
func (l *Ledger) Heard(id cdc.MemberID, p cdc.Progress) error {
	l.members[id].progress = p
	return l.findUpstream()
}

// Progress takes in what a member said of itself at the time at. The member's stream must have been applied up to
// p.Barrier, so that nothing that p.Applied counts is still to come. confirmed is what the reference knows of the same
// lanes, by slot, asked before the member was; nil if it did not answer, and then the lanes stay as they were. A
// *cdc.GapError says that the member has replayed less than it had before: it was set back, and nothing was taken in.
func (l *Ledger) Progress(id cdc.MemberID, at time.Time, p cdc.Progress, confirmed map[string]cdc.TxSet) error {
	m := l.members[id]
	if err := m.setBack(p.Applied); err != nil {
		return err
	}
	m.provenAt = at
	if said, ok := p.Applied[cdc.GTIDLane]; ok {
		m.said, m.saidAt = said, l.now
	}
	if m == l.ref {
		l.findErrant(at, &p)
		return nil
	}
	if confirmed != nil {
		if err := l.setLanes(m, cdc.OfAuthor(p.Lanes, confirmed)); err != nil {
			return err
		}
		m.assignedAt, m.assignedBy = at, l.ref.definedAt
	}
	for _, name := range slices.Sorted(maps.Keys(m.lanes)) {
		ln := m.lanes[name]
		applied, said := p.Applied[name]
		if said && !ln.record.Said.Covers(applied) {
			ln.record.Said, m.dirty = applied.Clone(), true
		}
		if c, ok := confirmed[ln.Slot]; ok {
			applied, said = applied.Clone(), true
			applied.AddSet(c)
		}
		if passed := l.passedBy(m, p.Position); !passed.IsZero() {
			applied = applied.Clone()
			applied.AddSet(passed)
		}
		if !said {
			continue
		}
		if err := l.claimed(m, ln, applied); err != nil {
			return err
		}
	}
	return nil
}

// findErrant works out which transactions members have that the reference has not: what a member had said before the reference
// was asked at that time, without what the reference said then and has shown. Logs tell neither of those from before they begin
// nor of those that change no table that is watched.
func (l *Ledger) findErrant(asked time.Time, ref *cdc.Progress) {
	for _, m := range l.members {
		if m != l.ref && !m.saidAt.IsZero() && !m.saidAt.After(asked) {
			m.errant = l.foreign(ref.Lacks(m.said))
			m.compared = true
		}
	}
}

// errantOf returns the transactions that a member has, by what it says or by its log, and that the reference will not have. A position of
// MariaDB's, where the reference is a replica itself, moves on over numbers that are not its own: of these only the log tells.
func (l *Ledger) errantOf(m *member) cdc.TxSet {
	has := m.errant.Clone()
	has.AddSet(m.record.Ahead)
	return l.foreign(has)
}

// setBack is for a member that says of a lane to have replayed less than it said before.
func (m *member) setBack(applied map[string]cdc.TxSet) error {
	for name, ln := range m.lanes {
		if now, said := applied[name]; said && now.Behind(ln.record.Said) {
			return &cdc.GapError{Reason: fmt.Sprintf("%s has replayed %v now, and had replayed %v: the server was set back to an earlier state", ln.title(), now, ln.record.Said)}
		}
	}
	return nil
}

// claimed takes in what a lane is said to have replayed. What the reference has not shown yet says nothing; it is told of
// again.
func (l *Ledger) claimed(m *member, ln *lane, applied cdc.TxSet) error {
	ln.known = true
	if ln.Name != cdc.GTIDLane {
		ln.early = applied.Without(l.ref.shown())
	}
	if applied = applied.And(l.ref.shown()); !ln.record.Applied.Covers(applied) {
		ln.record.Applied.AddSet(applied)
		m.dirty = true
		if err := l.drain(m, ln); err != nil {
			return err
		}
	}
	if !ln.record.Lost.IsZero() && l.covers(m, ln, ln.record.Lost) {
		l.found(m, ln)
	}
	return nil
}

// found ends the time in which a lane was lost. What the reference wrote in between was not journaled for it.
func (l *Ledger) found(m *member, ln *lane) {
	ln.record.Lost, m.dirty = cdc.TxSet{}, true
	for _, t := range l.sortedTables() {
		if t.coverage[m.id].Lane == ln.Name {
			l.unjournaled(t)
		}
	}
}

// setLanes brings a member's lanes and the way its tables are assigned to them up to date.
func (l *Ledger) setLanes(m *member, lanes []cdc.Lane) error {
	seen, fresh := make(map[string]bool, len(lanes)), make(map[string]bool)
	for _, now := range lanes {
		seen[now.Name] = true
		ln := m.lanes[now.Name]
		if ln == nil {
			fresh[now.Name] = true
			ln = &lane{record: &LaneRecord{}}
			m.lanes[now.Name], m.record.Lanes[now.Name], m.dirty = ln, ln.record, true
		}
		ln.Lane = now
	}
	for _, t := range l.sortedTables() {
		if err := l.assign(t, m, lanes); err != nil {
			return err
		}
		if fresh[t.coverage[m.id].Lane] {
			l.unjournaled(t) // what the reference has shown before is in no queue of it
		}
	}
	for name, ln := range m.lanes {
		if seen[name] {
			continue
		}
		if err := l.empty(ln); err != nil {
			return err
		}
		delete(m.lanes, name)
		delete(m.record.Lanes, name)
		m.dirty = true
	}
	return nil
}

// assign finds the lane of a table. A table that changes lanes, or is copied anew, is read anew: how far the old lane
// was says nothing about the new one.
func (l *Ledger) assign(t *table, m *member, lanes []cdc.Lane) error {
	c := t.coverage[m.id]
	ln, hold := cdc.Route(lanes, t.name())
	name := ""
	if ln != nil {
		name = ln.Name
	}
	switch {
	case ln == nil:
		return l.holdTable(t, m, c, "", orElse(hold, l.noLane(m)))
	case name != c.Lane:
		l.unjournaled(t)
		return l.holdTable(t, m, c, name, "waits for its first scan")
	case hold != "":
		return l.holdTable(t, m, c, name, hold)
	}
	return nil
}

// holdTable gives a table the lane name and puts it before its next scan, if it is not there already.
func (l *Ledger) holdTable(t *table, m *member, c *coverage, name, reason string) error {
	if c.Lane == name && c.Phase == Waiting {
		c.Reason = reason
		return nil
	}
	c.Lane, t.dirty = name, true
	return l.unverify(t, m, reason)
}
