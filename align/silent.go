package align

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// maxSuspects bounds the keys of rows under suspicion that are remembered by name over a restart.
const maxSuspects = 1000

// suspectsAtOnce is how many rows of a suspicion are read again before people are told. Where it has more, those say enough: that
// not one of so many differs is how it looks if all were changed on all servers.
const suspectsAtOnce = 100

// Suspect says that rows of a member were read and are not what its stream says. Until they are settled nothing is said
// of the table: whether they differ between members is not known.
func (l *Ledger) Suspect(id cdc.TableID, on cdc.MemberID, keys []digest.Key) {
	t := l.tables[id]
	if t == nil || t.record.Sparse || t.coverage[on] == nil || t.coverage[on].Phase != Live {
		return // it has come to be watched in another way since they were read, or is read anew
	}
	c := t.coverage[on]
	for _, k := range keys {
		if len(c.Suspects) < maxSuspects {
			t.suspectKey(c, k)
		}
	}
}

// suspectKey puts a row under suspicion.
func (t *table) suspectKey(c *coverage, k digest.Key) {
	if at, known := slices.BinarySearchFunc(c.Suspects, k, digest.Key.Compare); !known {
		c.Suspects, t.dirty = slices.Insert(c.Suspects, at, slices.Clone(k)), true
	}
}

func (c *coverage) underSuspicion(k digest.Key) bool {
	_, is := slices.BinarySearchFunc(c.Suspects, k, digest.Key.Compare)
	return is
}

// suspectFound puts the keys of a suspicion under suspicion that came from reading: what is kept of the reference may be older than
// what was read, if the rows were changed on all servers without a trace, as by a foreign key's cascade.
func (l *Ledger) suspectFound(f *finding.Finding) error {
	var keys []digest.Key
	err := l.state.DivergentKeys(f.Member, f.Table, nil, nil, func(k digest.Key, d *DivergentKey) (bool, error) {
		if d.Finding == f.Number {
			keys = append(keys, slices.Clone(k))
		}
		return len(keys) < suspectsAtOnce, nil
	})
	l.Suspect(f.Table, f.Member, keys)
	return err
}

// Suspects returns the keys of a table that are under suspicion on a member.
func (l *Ledger) Suspects(id cdc.TableID, on cdc.MemberID) []digest.Key {
	if t := l.tables[id]; t != nil {
		return t.coverage[on].Suspects
	}
	return nil
}

// Suspected reports whether rows of a table are under suspicion on a member, or on the reference that it is held against.
func (l *Ledger) Suspected(id cdc.TableID, on cdc.MemberID) bool {
	t := l.tables[id]
	return t != nil && l.suspected(t, t.coverage[on]) > 0
}

// CaughtUp reports whether a member is known to have replayed, of what concerns the table, all of mark.
func (l *Ledger) CaughtUp(id cdc.TableID, on cdc.MemberID, mark cdc.TxSet) bool {
	t, m := l.tables[id], l.members[on]
	if t == nil || m == l.ref {
		return t != nil
	}
	ln := m.lanes[t.coverage[on].Lane]
	return ln != nil && ln.known && l.covers(m, ln, mark)
}

// Reread is what rows under suspicion were found to be, when they were read again.
type Reread struct {
	Keys []digest.Key // of the rows
	// Found has, for each member on which they were read, those that are not what its stream says. What was found may have happened
	// on the others, too: there they are under suspicion until they are read.
	Found map[cdc.MemberID][]Mismatch
}

// Mend brings what is kept of rows to what was read of them on servers that were found, twice, to hold others than their
// streams say, and judges the rows of the members on which they were read, where they are under suspicion no more. The finding
// and the mended rows become durable together. Rows that the stream has changed since are left: what they are now is known.
//
// The reads of all members must be of one time as far as the rows go: the reference's rows were the same before and after
// the members', the members had replayed what the reference had shown, and the reference's last [Watch] is unsettled.
func (l *Ledger) Mend(id cdc.TableID, r Reread) error {
	t := l.tables[id]
	if t == nil {
		return nil
	}
	silent := make(map[string][]*member) // on which members a row was changed
	for _, on := range slices.Sorted(maps.Keys(r.Found)) {
		m, c := l.members[on], t.coverage[on]
		for _, row := range r.Found[on] {
			silent[string(row.Key)] = append(silent[string(row.Key)], m)
			c.Silent++
			t.dirty = true
			if row.Moved || c.Phase != Live {
				continue
			}
			if err := l.mendRow(t, m, c, row.ScannedRow); err != nil {
				return err
			}
		}
	}
	t.settledAt = l.now
	for _, c := range t.coverage {
		for _, w := range c.watches {
			w.settled = true
		}
	}
	for _, m := range l.sortedMembers() {
		if _, read := r.Found[m.id]; !read {
			t.suspect(m, slices.Sorted(maps.Keys(silent)))
			continue
		}
		if err := l.settle(m, t, r.Keys, silent); err != nil {
			return fmt.Errorf("judge rows of %s that were changed without a trace: %w", t.name(), err)
		}
	}
	return nil
}

// suspect puts rows under suspicion that were changed elsewhere.
func (t *table) suspect(on *member, keys []string) {
	c := t.coverage[on.id]
	if on.scanOnly || c.Phase != Live {
		return // its rows are not kept, or are read anew
	}
	for _, k := range keys {
		t.suspectKey(c, digest.Key(k))
	}
}

// settle ends the suspicion of rows on a member where they were read, and judges them: those that were changed without a trace
// anywhere now, and those that were before, when they could not be read here.
func (l *Ledger) settle(m *member, t *table, keys []digest.Key, silent map[string][]*member) error {
	c := t.coverage[m.id]
	judged := slices.Collect(maps.Keys(silent))
	c.Suspects = slices.DeleteFunc(c.Suspects, func(k digest.Key) bool {
		_, settled := slices.BinarySearchFunc(keys, k, digest.Key.Compare)
		if _, found := silent[string(k)]; settled && !found {
			judged = append(judged, string(k))
		}
		t.dirty = t.dirty || settled
		return settled
	})
	if !c.Compared || m.scanOnly {
		return nil
	}
	slices.Sort(judged)
	for _, k := range judged {
		key := digest.Key(k)
		if on := silent[k]; slices.Contains(on, m) || slices.Contains(on, l.ref) {
			if err := l.unsuspect(m, t, c, key); err != nil {
				return err
			}
		}
		actual, err := l.rowDigest(c.space, key)
		if err == nil {
			err = l.judgeRow(m, t, c, key, actual, blame{cause: finding.CauseSilent, detail: tracelessly(m, silent[k])})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unsuspect takes back that a row differs, if people were not told: one side of it was not what it was held to be, and since when it differs
// is not known.
func (l *Ledger) unsuspect(m *member, t *table, c *coverage, key digest.Key) error {
	d, err := l.state.DivergentKey(m.id, c.space.Table, key)
	if err != nil || d == nil {
		return err
	}
	if f := l.findings.Number(d.Finding); f != nil && f.Confirmed {
		return nil
	}
	return l.heal(m, t, c, key)
}

func (l *Ledger) mendRow(t *table, m *member, c *coverage, r ScannedRow) error {
	before, err := l.rowDigest(c.space, r.Key)
	if err != nil {
		return err
	}
	if m == l.ref {
		l.journal.outdate(t.record.Epoch.Table, r.Key)
	}
	var fx effects
	return l.replaceRow(t, c, r.Key, before, r.Row, &fx)
}

// tracelessly says on which server a row was changed, if that is known still.
func tracelessly(m *member, on []*member) string {
	switch {
	case len(on) == 0:
		return "rows were changed on another server without a trace in its log, while this one could not be read"
	case slices.Contains(on, m):
		return fmt.Sprintf("rows were changed on %s without a trace in its log", m.name)
	}
	return fmt.Sprintf("rows were changed on %s without a trace in its log", on[0].name)
}
