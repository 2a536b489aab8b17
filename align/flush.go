package align

import (
	"github.com/lockstep-cdc/lockstep/digest"
)

// Flush checks what was applied since the last Flush and hands all that changed to the state. The state is to be
// committed next; only then is a position durable.
func (l *Ledger) Flush() error {
	if err := l.check(); err != nil {
		return err
	}
	if err := l.saveTouched(); err != nil {
		return err
	}
	if err := l.recut(); err != nil {
		return err
	}
	clear(l.touched)
	for _, f := range l.findings.All() {
		if !f.Saved {
			f.Saved = true
			if err := l.state.SetFinding(f); err != nil {
				return err
			}
		}
	}
	if err := l.saveInFlight(); err != nil {
		return err
	}
	return l.saveRecords()
}

// saveInFlight keeps the transactions that came since the last Flush and that some lane has still to replay.
func (l *Ledger) saveInFlight() error {
	for _, f := range l.journal.fresh {
		if len(f.lanes) > 0 {
			if err := l.state.SetInFlight(f.InFlight); err != nil {
				return err
			}
		}
	}
	clear(l.journal.fresh)
	l.journal.fresh = l.journal.fresh[:0]
	return nil
}

func (l *Ledger) saveTouched() error {
	for at := range l.touched {
		t := l.tables[at.table]
		if t.ranges == nil {
			continue
		}
		i := t.ranges.Find(digest.Key(at.start))
		for _, c := range t.coverage {
			if c.tree == nil {
				continue
			}
			if err := l.state.SetSum(c.space, t.ranges.Start(i), c.tree.Sum(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Ledger) saveRecords() error {
	for _, t := range l.sortedTables() {
		if t.dirty {
			t.dirty = false
			if err := l.state.SetTable(t.record); err != nil {
				return err
			}
		}
	}
	for _, m := range l.sortedMembers() {
		if m.dirty {
			m.dirty = false
			if err := l.state.SetMember(m.id, m.record); err != nil {
				return err
			}
		}
	}
	return nil
}
