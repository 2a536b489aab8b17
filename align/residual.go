package align

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

func (s share) negative() share { return share{merkle.Sum{}.Sub(s.sum), -s.keys} }

func (c *coverage) addInFlight(start digest.Key, d share)  { addShare(c.inFlight, start, d) }
func (c *coverage) addDivergent(start digest.Key, d share) { addShare(c.divergent, start, d) }

// clearInFlight forgets what is in flight, and what is apart behind it.
func (c *coverage) clearInFlight() {
	clear(c.inFlight)
	clear(c.apart)
}

func addShare(shares map[string]share, start digest.Key, d share) {
	s := shares[string(start)]
	s.sum, s.keys = s.sum.Add(d.sum), s.keys+d.keys
	if s == (share{}) {
		delete(shares, string(start))
		return
	}
	shares[string(start)] = s
}

// unexplained returns what is left of reference - in flight - apart - known differences - member for one range. It is zero at
// every moment, whatever the lag; anything else is a difference that nothing has named yet.
func (l *Ledger) unexplained(t *table, c *coverage, i int) merkle.Sum {
	start := t.ranges.Start(i)
	return t.coverage[l.ref.id].tree.Sum(i).
		Sub(c.inFlight[string(start)].sum).
		Sub(c.apart[string(start)].sum).
		Sub(c.divergent[string(start)].sum).
		Sub(c.tree.Sum(i))
}

// compare begins to hold the tables of members against the reference's where all that is needed is there.
func (l *Ledger) compare() error {
	for _, t := range l.sortedTables() {
		for _, m := range l.sortedMembers() {
			c := t.coverage[m.id]
			if m.scanOnly && !c.Compared && l.scannable(t, m) && l.journaled(t, m, c) {
				if err := l.beginScanned(t, m, c); err != nil {
					return err
				}
			}
			if l.comparable(t, m) {
				if err := l.begin(t, m, c); err != nil {
					return fmt.Errorf("compare table %s of %s: %w", t.name(), m.name, err)
				}
			}
		}
	}
	return nil
}

// comparable reports whether a comparison that has not begun can begin: both sides are live and were heard from since, it is
// known what the member's lane has replayed, of what it has yet to replay every row is journaled, and its rows are not ahead
// of the reference's stream.
func (l *Ledger) comparable(t *table, m *member) bool {
	c := t.coverage[m.id]
	if m == l.ref || c.Compared || !m.follows(c) || !l.ref.follows(t.coverage[l.ref.id]) {
		return false
	}
	return l.journaled(t, m, c) && !l.ahead(m, c, m.lanes[c.Lane])
}

// journaled reports whether it is known what a member's lane has replayed, and every row of what it has yet to replay.
func (l *Ledger) journaled(t *table, m *member, c *coverage) bool {
	ln := m.lanes[c.Lane]
	return ln != nil && ln.known && ln.record.Lost.IsZero() && l.covers(m, ln, t.record.Unjournaled)
}

// follows reports whether a member's rows are there and its stream has gone on since. While it is shut, as that of a server
// that writes no log for a time, rows that are read may show what it never will.
func (m *member) follows(c *coverage) bool { return c.Phase == Live && m.provenAt.After(c.liveAt) }

// ahead reports whether the rows that were read of a member may show transactions which the reference's stream has yet to
// show. What the reference has not shown although it has shown all that it had when the rows were there is not its own: it
// is the member's, or of a log that the reference had before it was set back.
func (l *Ledger) ahead(m *member, c *coverage, ln *lane) bool {
	seen := ln.early
	if ln.Name == cdc.GTIDLane {
		if seen = m.shown(); !l.coming(m.has()).IsZero() {
			return true
		}
	}
	return !l.ref.shown().Covers(seen) && !l.ref.provenAt.After(c.liveAt)
}

// begin compares all ranges of a table once; from then on they are followed. What a server replayed without logging it is
// known by the reference's transactions that it passes over. Those that the reference has shown before now need not be
// journaled, so rows that were read before the server was started are read anew.
func (l *Ledger) begin(t *table, m *member, c *coverage) error {
	if c.Restarted {
		return l.unverify(t, m, m.name+" was started since its rows were read, and may have replayed some transactions without logging them")
	}
	why := blame{cause: finding.CausePreexisting}
	if !c.ComparedAt.IsZero() {
		why = blame{cause: finding.CauseUnknown, detail: "it came about while the table was not compared"}
	}
	c.Compared, c.ComparedAt, c.Reason, t.dirty = true, l.now, "", true
	l.countInFlight(t, m, c)
	if t.record.Sparse {
		if err := l.forgetSuspicions(t, m); err != nil {
			return err
		}
	}
	if err := l.recountDivergent(t, m, c); err != nil {
		return err
	}
	for i := range t.ranges.Len() {
		start := string(t.ranges.Start(i))
		if _, suspect := c.divergent[start]; !suspect && l.unexplained(t, c, i).IsZero() {
			continue
		}
		if !l.know(t, c, start) {
			c.suspicion(start, nil, why)
			l.drill(t, start)
			continue
		}
		if err := l.resolve(t, m, c, i, why); err != nil || !c.Compared {
			return err
		}
	}
	return nil
}

// recountDivergent makes the shares of the divergent keys anew, and has the ranges of their divergences found anew.
func (l *Ledger) recountDivergent(t *table, m *member, c *coverage) error {
	t.insertedAt = l.now
	clear(c.divergent)
	return l.state.DivergentKeys(m.id, c.space.Table, nil, nil, func(k digest.Key, d *DivergentKey) (bool, error) {
		c.addDivergent(t.startOf(k), d.share())
		return true, nil
	})
}

// walk judges every row of a range on either side, and every key of it that is held to differ, and counts what is apart.
func (l *Ledger) walk(t *table, m *member, c *coverage, i int, why blame) error {
	awaited := l.awaitedOf(t, m, c, i)
	keys, err := l.keysOf(t, m, c, i, awaited)
	if err != nil {
		return err
	}
	start := t.ranges.Start(i)
	delete(c.apart, string(start))
	for _, k := range keys {
		key := digest.Key(k)
		expected, err := l.expected(m, t, c, key)
		if err != nil {
			return err
		}
		reference, err := l.rowDigest(t.coverage[l.ref.id].space, key)
		if err != nil {
			return err
		}
		addShare(c.apart, start, share{sum: merkle.Delta(expected, reference).Sub(awaited[k])})
		actual, err := l.rowDigest(c.space, key)
		if err != nil {
			return err
		}
		if err := l.judge(m, t, c, key, expected, actual, c.blameOf(string(t.ranges.Start(i)), key, why)); err != nil {
			return err
		}
	}
	return nil
}

// awaitedOf returns what the changes that a lane has yet to replay make of each row of a range.
func (l *Ledger) awaitedOf(t *table, m *member, c *coverage, i int) map[string]merkle.Sum {
	sums := make(map[string]merkle.Sum)
	for f := range m.lanes[c.Lane].awaited {
		for _, ch := range f.changes {
			if ch.Table == c.space.Table && t.ranges.Find(ch.Key) == i {
				sums[string(ch.Key)] = sums[string(ch.Key)].Add(ch.delta())
			}
		}
	}
	return sums
}

// keysOf returns all keys of a range that are on the reference, on the member, in flight, or held to differ.
func (l *Ledger) keysOf(t *table, m *member, c *coverage, i int, awaited map[string]merkle.Sum) ([]string, error) {
	var keys []string
	start, end := t.ranges.Start(i), t.ranges.End(i)
	add := func(k digest.Key, _ []byte) (bool, error) {
		keys = append(keys, string(k))
		return true, nil
	}
	for _, at := range []Space{t.coverage[l.ref.id].space, c.space} {
		if err := l.state.Rows(at, start, end, add); err != nil {
			return nil, err
		}
	}
	keys = slices.AppendSeq(keys, maps.Keys(awaited))
	err := l.state.DivergentKeys(m.id, c.space.Table, start, end, func(k digest.Key, _ *DivergentKey) (bool, error) {
		keys = append(keys, string(k))
		return true, nil
	})
	slices.Sort(keys)
	return slices.Compact(keys), err
}

// check holds the digests of the ranges that changed against each other. A residual that no key accounts for is
// resolved to its keys.
func (l *Ledger) check() error {
	for _, at := range l.sortedTouched() {
		t := l.tables[at.table]
		if t.coverage[l.ref.id].Phase != Live {
			continue
		}
		i := t.ranges.Find(digest.Key(at.start))
		for _, m := range l.sortedMembers() {
			if c := t.coverage[m.id]; c.Compared && !m.scanOnly && l.know(t, c, at.start) && !l.unexplained(t, c, i).IsZero() {
				if err := l.resolve(t, m, c, i, blame{cause: finding.CauseUnknown}); err != nil {
					return err
				}
			}
		}
		if t.record.Sparse && t.ranges != nil && t.coverage[l.ref.id].Phase == Live {
			if err := l.settleDrill(t, t.ranges.Find(digest.Key(at.start))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (at touchedRange) compare(other touchedRange) int {
	if at.table != other.table {
		return cmp.Compare(at.table, other.table)
	}
	return strings.Compare(at.start, other.start)
}

// resolve finds the keys that differ in a range. If they do not explain its residual, the sums of its rows are made anew:
// a row that was changed without a trace in the log is another one than the log says it was before its next change, and
// the sum is off by the difference from then on. If even that does not do, what is kept of the table is not true and it is
// read anew.
func (l *Ledger) resolve(t *table, m *member, c *coverage, i int, why blame) error {
	if err := l.walk(t, m, c, i, why); err != nil {
		return err
	}
	if l.unexplained(t, c, i).IsZero() {
		return nil
	}
	l.touched[touchedRange{c.space.Table, string(t.ranges.Start(i))}] = struct{}{}
	for _, on := range []*coverage{t.coverage[l.ref.id], c} {
		sums, err := l.sumSpan(on.space, t.ranges.Start(i), t.ranges.End(i), nil)
		if err != nil {
			return err
		}
		on.tree.Add(i, sums[0].Sub(on.tree.Sum(i)))
	}
	left := l.unexplained(t, c, i)
	if left.IsZero() {
		return nil
	}
	return l.unverify(t, m, fmt.Sprintf("range digest %v does not match its rows", left))
}

func (l *Ledger) sortedTouched() []touchedRange {
	return slices.SortedFunc(maps.Keys(l.touched), touchedRange.compare)
}
