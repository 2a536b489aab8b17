package align

import (
	"github.com/lockstep-cdc/lockstep/cdc"
)

// Members come, go, and come to be watched in another way while others go on. What is kept of them is then what is kept after a start
// with the other members (see [Load]).

// What is said of what is not watched as before.
const (
	unwatchedMember  = "the member is not watched any more"
	watchedOtherwise = "it is watched in another way than before"
)

// Enter begins to hold a member against the reference.
func (l *Ledger) Enter(id cdc.MemberID, name string, scanOnly bool) {
	m := newMember(id, name, nil)
	m.scanOnly, m.record.ScanOnly, m.dirty = scanOnly, scanOnly, true
	l.members[id] = m
	for _, t := range l.sortedTables() {
		l.cover(t, id)
		t.dirty = true
	}
}

// Leave forgets a member that is not watched any more. Its divergences are resolved. It cannot be the reference.
func (l *Ledger) Leave(id cdc.MemberID) error {
	m := l.members[id]
	for _, ln := range m.lanes {
		if err := l.empty(ln); err != nil {
			return err
		}
	}
	for _, f := range l.findings.All() {
		if f.Member != id {
			continue
		}
		if err := l.forget(f, unwatchedMember); err != nil {
			return err
		}
	}
	delete(l.members, id)
	if err := l.findUpstream(); err != nil {
		return err
	}
	for _, t := range l.sortedTables() {
		c := t.coverage[id]
		c.breakWatches()
		delete(t.coverage, id)
		delete(t.record.Members, id)
		delete(t.record.Versions, id)
		t.dirty = true
		for start := range c.divergent { // rows of ranges may be wanted for its sake only
			l.touched[touchedRange{t.record.Epoch.Table, start}] = struct{}{}
		}
	}
	return l.state.DropMember(id)
}

// Switch has a member that was only scanned show its stream from now on, or the other way round: then what is kept of its rows is not
// what is to be kept.
func (l *Ledger) Switch(id cdc.MemberID, scanOnly bool) error {
	m := l.members[id]
	m.scanOnly, m.record.ScanOnly, m.dirty = scanOnly, scanOnly, true
	for _, t := range l.sortedTables() {
		if err := l.unverify(t, m, watchedOtherwise); err != nil {
			return err
		}
		if err := l.forgetSuspicions(t, m); err != nil {
			return err
		}
	}
	return nil
}
