package align

import (
	"errors"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// A table without a row index is sparse: of its rows only the sums of its ranges are kept. Its members' logs carry whole
// before-images, so the sums follow them without a look at any row. What is left of a range that no transaction explains
// says that rows of it differ, but not which. The rows of such a range are read from the servers then (a drill), and kept
// for as long as any of them differs; while they are kept the range is like one of any other table.

// knows reports whether the rows of a range, by its start, are kept of a member.
func (t *table) knows(c *coverage, start string) bool {
	if !t.record.Sparse || c.Phase != Live {
		return true
	}
	_, drilled := c.drilled[start]
	return drilled
}

// know reports whether rows of a range are kept of both sides, so that a row of it can be judged.
func (l *Ledger) know(t *table, c *coverage, start string) bool {
	return t.knows(t.coverage[l.ref.id], start) && t.knows(c, start)
}

// Changes that cannot be applied without the rows.
var (
	errNoBefore  = errIncomplete{errors.New("its row_index is off, and a change does not say what the row was before")}
	errTruncated = errIncomplete{errors.New("its row_index is off, and it was truncated")}
)

// suspicion remembers who is to blame for the rows of a range that cannot be judged yet, by key. The empty key stands for
// those of which nothing else is known.
func (c *coverage) suspicion(start string, key digest.Key, why blame) {
	if c.blames == nil {
		c.blames = make(map[string]map[string]blame)
	}
	byKey := c.blames[start]
	if byKey == nil {
		byKey = make(map[string]blame)
		c.blames[start] = byKey
	}
	if _, known := byKey[string(key)]; !known && len(byKey) < maxBlames {
		byKey[string(key)] = why
	}
}

// maxBlames bounds the keys of one range for which a transaction is remembered.
const maxBlames = 1000

// cleared takes back a suspicion: the row is as it must be.
func (c *coverage) cleared(start string, key digest.Key) {
	if byKey := c.blames[start]; byKey != nil {
		delete(byKey, string(key))
	}
}

// blameOf returns who is to blame for a row that differs, if somebody else than why is known.
func (c *coverage) blameOf(start string, key digest.Key, why blame) blame {
	for _, k := range []digest.Key{key, nil} {
		if b, known := c.blames[start][string(k)]; known {
			return b
		}
	}
	return why
}

// passSparse takes note of what the replay of a row made of it, of which it is not kept what it must be.
func (l *Ledger) passSparse(ln *lane, c *coverage, start string, ch *inFlightChange, actual digest.Digest, found bool, why blame) {
	expected, awaited := l.journal.expected(ch.Table, ch.Key, ln)
	if !awaited {
		expected = ch.After
	}
	if found && actual == expected {
		c.cleared(start, ch.Key)
		return
	}
	c.suspicion(start, ch.Key, why)
	l.touched[touchedRange{ch.Table, start}] = struct{}{}
}

// drill wants the rows of a range to be read.
func (l *Ledger) drill(t *table, start string) {
	l.drills[touchedRange{t.record.Epoch.Table, start}] = struct{}{}
}

// needed reports whether the rows of a range are wanted: rows of it differ on some member, or it has grown so much that
// it is to be split.
func (l *Ledger) needed(t *table, i int) bool {
	for _, m := range l.members {
		c := t.coverage[m.id]
		if !c.Compared || m.scanOnly || m == l.ref {
			continue
		}
		if _, differ := c.divergent[string(t.ranges.Start(i))]; differ || !l.unexplained(t, c, i).IsZero() {
			return true
		}
	}
	return l.tooLong(t, i)
}

// tooLong reports whether a range of a sparse table is worth being split although all of its rows have to be read for it.
func (l *Ledger) tooLong(t *table, i int) bool {
	return t.coverage[l.ref.id].tree.Sum(i).Rows > 4*l.opt.RangeRows
}

// settleDrill wants the rows of a range, or forgets them.
func (l *Ledger) settleDrill(t *table, i int) error {
	start := string(t.ranges.Start(i))
	if l.needed(t, i) {
		l.drill(t, start)
		return nil
	}
	delete(l.drills, touchedRange{t.record.Epoch.Table, start})
	for _, c := range t.coverage {
		delete(c.blames, start)
		if _, drilled := c.drilled[start]; !drilled {
			continue
		}
		if err := l.forgetRows(c.space, t.ranges.Start(i), t.ranges.End(i)); err != nil {
			return err
		}
		delete(c.drilled, start)
	}
	return nil
}

func (l *Ledger) forgetRows(at Space, start, end digest.Key) error {
	var keys []digest.Key
	err := l.state.Rows(at, start, end, func(k digest.Key, _ []byte) (bool, error) {
		keys = append(keys, slices.Clone(k))
		return true, nil
	})
	for _, k := range keys {
		if err == nil {
			err = l.state.DeleteRow(at, k)
		}
	}
	return err
}

// sparsen forgets the rows of a coverage that was read, and keeps their sums.
func (l *Ledger) sparsen(c *coverage) error {
	c.drilled = make(map[string]struct{})
	return l.state.DropRows(c.space)
}

// Resparse takes up which tables' rows are kept, where that is another answer than before.
func (l *Ledger) Resparse() error {
	for _, t := range l.sortedTables() {
		was := t.record.Sparse
		if err := l.setSparse(t); err != nil {
			return err
		}
		if was == t.record.Sparse {
			continue
		}
		for _, m := range l.sortedMembers() {
			c := t.coverage[m.id]
			c.breakWatches()
			var err error
			switch {
			case m.scanOnly:
				c.Compared = false
				c.clearInFlight()
				err = l.wait(t, c, watchedOtherwise)
			case t.record.Sparse && c.Phase == Live:
				err = l.sparsen(c)
			}
			if err != nil {
				return err
			}
		}
		l.forgetDrills(t.record.Epoch.Table)
		l.loadDrills(t)
	}
	return nil
}

// loadDrills finds the ranges of a table whose rows are to be read though all are dropped: as after a start, over which drilled rows
// are not kept.
func (l *Ledger) loadDrills(t *table) {
	if !t.record.Sparse || t.ranges == nil || t.coverage[l.ref.id].Phase != Live {
		return
	}
	for i := range t.ranges.Len() {
		if l.needed(t, i) {
			l.drill(t, string(t.ranges.Start(i)))
		}
	}
}

func (l *Ledger) forgetDrills(id cdc.TableID) {
	maps.DeleteFunc(l.drills, func(at touchedRange, _ struct{}) bool { return at.table == id })
}

// Drill is a range of a sparse table whose rows are to be read from a member.
type Drill struct {
	Table      cdc.TableID
	Start, End digest.Key // the first key, nil for the lowest there is, and the first key behind it, nil for none
}

// Drills lists the ranges whose rows are wanted from a member and not kept of it.
func (l *Ledger) Drills(on cdc.MemberID) []Drill {
	var list []Drill
	for _, at := range slices.SortedFunc(maps.Keys(l.drills), touchedRange.compare) {
		t := l.tables[at.table]
		c := t.coverage[on]
		if c.Phase != Live || t.coverage[l.ref.id].Phase != Live || t.knows(c, at.start) || on != l.ref.id && !c.Compared {
			continue
		}
		list = append(list, t.drillAt(t.ranges.Find(digest.Key(at.start))))
	}
	return list
}

func (t *table) drillAt(i int) Drill {
	d := Drill{Table: t.record.Epoch.Table, End: slices.Clone(t.ranges.End(i))}
	if i > 0 {
		d.Start = slices.Clone(t.ranges.Start(i))
	}
	return d
}

// Sparse reports whether a table's rows are not kept.
func (l *Ledger) Sparse(id cdc.TableID) bool {
	t := l.tables[id]
	return t != nil && t.record.Sparse
}

// RangeBehind returns the range of a sparse table, live on a member, that holds the keys right behind after.
func (l *Ledger) RangeBehind(id cdc.TableID, on cdc.MemberID, after digest.Key) (Drill, bool) {
	t := l.tables[id]
	if t == nil || t.ranges == nil || t.coverage[on].Phase != Live {
		return Drill{}, false
	}
	return t.drillAt(t.ranges.Find(behind(after))), true
}

// Drilled takes the rows of a range as they were read, one after another and each at some moment, while w watched; the
// member's stream has been applied up to the end of the last view. With what the stream did to them since they are the
// rows of now, so their sum must be the range's. If it is not, rows were changed without a trace in the log, or lockstep
// has made a mistake; unless it is sure, which is to say read twice, Drilled does nothing but report false.
func (l *Ledger) Drilled(w *Watch, d Drill, rows []ScannedRow, sure bool) (bool, error) {
	t := l.tables[d.Table]
	if w.broken || t == nil || t.ranges == nil {
		return true, nil // it is wanted again, if it still is
	}
	c := t.coverage[w.at.Member]
	i := t.ranges.Find(d.Start)
	if now := t.drillAt(i); string(now.Start) != string(d.Start) || string(now.End) != string(d.End) {
		return true, nil
	}
	digests, err := w.now(d, rows)
	if err != nil {
		return false, err
	}
	var sum merkle.Sum
	for _, r := range digests {
		sum = sum.Add(merkle.Of(r))
	}
	if off := sum.Sub(c.tree.Sum(i)); !off.IsZero() {
		if !sure {
			return false, nil
		}
		l.mendRange(t, c, i, off)
	}
	if _, wanted := l.drills[touchedRange{d.Table, string(t.ranges.Start(i))}]; !wanted {
		return true, nil
	}
	return true, l.keepDrilled(t, c, i, digests)
}

// now returns the digests of the rows of a range, from what was read of them and what was done to them since.
func (w *Watch) now(d Drill, rows []ScannedRow) (map[string]digest.Digest, error) {
	digests := make(map[string]digest.Digest, len(rows))
	within := func(k string) bool { return k >= string(d.Start) && (d.End == nil || k < string(d.End)) }
	for _, r := range rows {
		if !within(string(r.Key)) {
			continue
		}
		var err error
		if digests[string(r.Key)], err = r.digest(); err != nil {
			return nil, err
		}
	}
	for k, states := range w.states {
		if within(k) {
			digests[k] = states[len(states)-1].after
		}
	}
	maps.DeleteFunc(digests, func(_ string, d digest.Digest) bool { return d.IsZero() })
	return digests, nil
}

// mendRange makes the sum of a range what its rows are.
func (l *Ledger) mendRange(t *table, c *coverage, i int, off merkle.Sum) {
	start := string(t.ranges.Start(i))
	changed := l.members[c.space.Member]
	c.Silent++
	t.dirty = true
	c.tree.Add(i, off)
	l.touched[touchedRange{t.record.Epoch.Table, start}] = struct{}{}
	for _, m := range l.sortedMembers() {
		if m != l.ref && (m == changed || changed == l.ref) {
			t.coverage[m.id].suspicion(start, nil, blame{cause: finding.CauseSilent, detail: tracelessly(m, []*member{changed})})
		}
	}
}

// keepDrilled keeps the rows of a range in place of what was kept of it.
func (l *Ledger) keepDrilled(t *table, c *coverage, i int, digests map[string]digest.Digest) error {
	if err := l.forgetRows(c.space, t.ranges.Start(i), t.ranges.End(i)); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(digests)) {
		l.scratch = digest.AppendRow(l.scratch[:0], &digest.Row{Digest: digests[k]})
		if err := l.state.SetRow(c.space, digest.Key(k), l.scratch); err != nil {
			return err
		}
	}
	start := string(t.ranges.Start(i))
	c.drilled[start] = struct{}{}
	l.touched[touchedRange{t.record.Epoch.Table, start}] = struct{}{}
	return nil
}

// splitSparse splits a range that has grown long, once its rows are there of all members.
func (l *Ledger) splitSparse(t *table, ref *coverage, i int) (*cut, error) {
	start := string(t.ranges.Start(i))
	if !l.tooLong(t, i) {
		return nil, nil
	}
	for _, c := range t.coverage {
		if c.tree != nil && !t.knows(c, start) {
			l.drill(t, start)
			return nil, nil
		}
	}
	return l.split(t, ref, i)
}

// drilledAnew says that the rows of what drilled ranges were split into are known, and lets go of those that are not needed.
func (l *Ledger) drilledAnew(t *table, cuts []*cut) error {
	for _, x := range cuts {
		for _, c := range t.coverage {
			for _, start := range x.starts() {
				if c.drilled != nil {
					c.drilled[string(start)] = struct{}{}
				}
			}
		}
		for _, start := range x.starts() {
			if err := l.settleDrill(t, t.ranges.Find(start)); err != nil {
				return err
			}
		}
	}
	return nil
}

// drilling reports whether rows differ on a member of which the keys are not known yet.
func (l *Ledger) drilling(t *table, c *coverage) bool {
	if !t.record.Sparse || !c.Compared {
		return false
	}
	for at := range l.drills {
		if at.table == c.space.Table && !l.unexplained(t, c, t.ranges.Find(digest.Key(at.start))).IsZero() {
			return true
		}
	}
	return false
}
