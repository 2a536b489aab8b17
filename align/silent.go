package align

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// maxSuspects bounds the keys of rows under suspicion that are remembered by name over a restart.
const maxSuspects = 1000

// Suspect says that rows of a member were read and are not what its stream says. Until they are settled nothing is said
// of the table: whether they differ between members is not known.
func (l *Ledger) Suspect(id cdc.TableID, on cdc.MemberID, keys []digest.Key) {
	t := l.tables[id]
	if t == nil || t.record.Sparse || t.coverage[on] == nil {
		return // it has come to be watched in another way since they were read
	}
	c := t.coverage[on]
	for _, k := range keys {
		at, known := slices.BinarySearchFunc(c.Suspects, k, compareKeys)
		if !known && len(c.Suspects) < maxSuspects {
			c.Suspects = slices.Insert(c.Suspects, at, slices.Clone(k))
		}
	}
	t.dirty = t.dirty || len(keys) > 0
}

func compareKeys(a, b digest.Key) int { return bytes.Compare(a, b) }

// Settled says that rows under suspicion were read again, on all members that can be, and are under none any more.
func (l *Ledger) Settled(id cdc.TableID, keys []digest.Key) {
	t := l.tables[id]
	if t == nil {
		return
	}
	settled := func(k digest.Key) bool {
		return slices.ContainsFunc(keys, func(o digest.Key) bool { return bytes.Equal(o, k) })
	}
	for _, c := range t.coverage {
		if len(c.Suspects) > 0 {
			c.Suspects, t.dirty = slices.DeleteFunc(c.Suspects, settled), true
		}
	}
}

// Suspects returns the keys under suspicion of a table, of all members.
func (l *Ledger) Suspects(id cdc.TableID) []digest.Key {
	t := l.tables[id]
	if t == nil {
		return nil
	}
	var keys []digest.Key
	for _, m := range l.sortedMembers() {
		keys = append(keys, t.coverage[m.id].Suspects...)
	}
	slices.SortFunc(keys, compareKeys)
	return slices.CompactFunc(keys, func(a, b digest.Key) bool { return bytes.Equal(a, b) })
}

// Mark returns what a member must have replayed to have all that the reference has shown so far.
func (l *Ledger) Mark() cdc.TxSet { return l.ref.record.Position.Tip().Clone() }

// CaughtUp reports whether a member is known to have replayed, of what concerns the table, all of mark.
func (l *Ledger) CaughtUp(id cdc.TableID, on cdc.MemberID, mark cdc.TxSet) bool {
	t, m := l.tables[id], l.members[on]
	if t == nil || m == l.ref {
		return t != nil
	}
	ln := m.lanes[t.coverage[on].Lane]
	return ln != nil && ln.known && ln.record.Applied.Covers(mark)
}

// Mend brings what is kept of rows to what was read of them on servers that were found, twice, to hold others than their
// streams say, and judges the rows of all members. The finding and the mended rows become durable together. Rows that the
// stream has changed since are left: what they are now is known.
//
// The reads of all members must be of one time as far as the rows go: the reference's rows were the same before and after
// the members', and the members had replayed what the reference had shown.
func (l *Ledger) Mend(id cdc.TableID, found map[cdc.MemberID][]Mismatch) error {
	t := l.tables[id]
	silent := make(map[string][]*member) // on which members a row was changed
	for _, on := range slices.Sorted(maps.Keys(found)) {
		m, c := l.members[on], t.coverage[on]
		for _, r := range found[on] {
			silent[string(r.Key)] = append(silent[string(r.Key)], m)
			c.Silent++
			t.dirty = true
			if r.Moved || c.Phase != Live {
				continue
			}
			if err := l.mendRow(t, c, r.ScannedRow); err != nil {
				return err
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(silent)) {
		if err := l.judgeSilent(t, digest.Key(key), silent[key]); err != nil {
			return fmt.Errorf("judge a row of %s that was changed without a trace: %w", t.name(), err)
		}
	}
	return nil
}

func (l *Ledger) mendRow(t *table, c *coverage, r ScannedRow) error {
	before, err := l.rowDigest(c.space, r.Key)
	if err != nil {
		return err
	}
	var fx effects
	return l.replaceRow(t, c, r.Key, before, r.Row, &fx)
}

// judgeSilent judges a row on every member that is compared.
func (l *Ledger) judgeSilent(t *table, key digest.Key, on []*member) error {
	for _, m := range l.sortedMembers() {
		c := t.coverage[m.id]
		if !c.Compared || m.scanOnly {
			continue
		}
		actual, err := l.rowDigest(c.space, key)
		if err != nil {
			return err
		}
		if err := l.judgeRow(m, t, c, key, actual, blame{cause: finding.CauseSilent, detail: tracelessly(m, on)}); err != nil {
			return err
		}
	}
	return nil
}

func tracelessly(m *member, on []*member) string {
	who := on[0]
	if slices.Contains(on, m) {
		who = m
	}
	return fmt.Sprintf("rows were changed on %s without a trace in its log", who.name)
}
