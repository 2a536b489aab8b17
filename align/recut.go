package align

import (
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Cutter cuts ascending keys into ranges of about rows rows.
type Cutter struct {
	rows       int64
	in         int64
	Boundaries []digest.Key
}

// NewCutter returns a Cutter that aims at rows rows a range.
func NewCutter(rows int64) *Cutter { return &Cutter{rows: rows} }

// Add takes the next key and reports whether it begins a range.
func (x *Cutter) Add(k digest.Key) bool {
	if x.in == x.rows {
		x.in = 1
		x.Boundaries = append(x.Boundaries, slices.Clone(k))
		return true
	}
	x.in++
	return false
}

// RangeRows returns the number of rows that a range aims at.
func (l *Ledger) RangeRows() int64 { return l.opt.RangeRows }

// recut splits ranges of the reference that have doubled and merges ones that starve, among those that changed. All of a
// table is cut anew at once, so that this takes no longer than it took to change so many rows.
func (l *Ledger) recut() error {
	touched := l.sortedTouched()
	for len(touched) > 0 {
		id, n := touched[0].table, 1
		for n < len(touched) && touched[n].table == id {
			n++
		}
		if err := l.recutTable(l.tables[id], touched[:n]); err != nil {
			return err
		}
		touched = touched[n:]
	}
	return nil
}

// cut is a stretch of ranges, from i up to, not including, j, that is cut at boundaries instead: one range is split, or
// more of them become one.
type cut struct {
	i, j       int
	boundaries []digest.Key
	old        []digest.Key // the starts of the ranges
	end        digest.Key   // of the last one
}

func (x *cut) merges() bool { return len(x.boundaries) == 0 }

// starts are those of the new ranges.
func (x *cut) starts() []digest.Key { return append([]digest.Key{x.old[0]}, x.boundaries...) }

func (l *Ledger) recutTable(t *table, touched []touchedRange) error {
	ref := t.coverage[l.ref.id]
	if ref.Phase != Live || t.frozen() {
		return nil
	}
	var cuts []*cut
	done := 0 // ranges up to here are dealt with
	for _, at := range touched {
		i := t.ranges.Find(digest.Key(at.start))
		if i < done {
			continue
		}
		x, err := l.cutAt(t, ref, i, done)
		if err != nil {
			return err
		}
		if x != nil {
			cuts, done = append(cuts, x), x.j
		}
	}
	if len(cuts) == 0 {
		return nil
	}
	if err := l.replaceRanges(t, cuts); err != nil || !t.record.Sparse {
		return err
	}
	return l.drilledAnew(t, cuts)
}

// cutAt says what becomes of range i and others around it, but for those before range from; nil: nothing.
func (l *Ledger) cutAt(t *table, ref *coverage, i, from int) (*cut, error) {
	switch rows := ref.tree.Sum(i).Rows; {
	case t.record.Sparse:
		return l.splitSparse(t, ref, i)
	case rows > 2*l.opt.RangeRows:
		return l.split(t, ref, i)
	case rows < l.opt.RangeRows/4:
		return l.merge(t, ref, i, from), nil
	}
	return nil, nil
}

func (t *table) frozen() bool {
	for _, c := range t.coverage {
		if c.frozen {
			return true
		}
	}
	return false
}

func (l *Ledger) split(t *table, ref *coverage, i int) (*cut, error) {
	cutter := NewCutter(l.opt.RangeRows)
	err := l.state.Rows(ref.space, t.ranges.Start(i), t.ranges.End(i), func(k digest.Key, _ []byte) (bool, error) {
		cutter.Add(k)
		return true, nil
	})
	if len(cutter.Boundaries) == 0 {
		return nil, err
	}
	return t.cut(i, i+1, cutter.Boundaries), err
}

// merge joins a range that starves with those behind it, for as long as either side starves, or else with the one before.
func (l *Ledger) merge(t *table, ref *coverage, i, from int) *cut {
	starves := func(rows int64) bool { return rows < l.opt.RangeRows/4 }
	rows, j := ref.tree.Sum(i).Rows, i+1
	for ; j < t.ranges.Len(); j++ {
		next := ref.tree.Sum(j).Rows
		if rows+next > l.opt.RangeRows || !starves(rows) && !starves(next) {
			break
		}
		rows += next
	}
	if j == i+1 && i > from && rows+ref.tree.Sum(i-1).Rows <= l.opt.RangeRows {
		i--
	}
	if j == i+1 {
		return nil
	}
	return t.cut(i, j, nil)
}

func (t *table) cut(i, j int, boundaries []digest.Key) *cut {
	x := &cut{i: i, j: j, boundaries: boundaries, end: slices.Clone(t.ranges.End(j - 1))}
	for n := i; n < j; n++ {
		x.old = append(x.old, t.ranges.Start(n))
	}
	return x
}

// replaceRanges makes cuts, which are ascending, on all members.
func (l *Ledger) replaceRanges(t *table, cuts []*cut) error {
	for _, x := range slices.Backward(cuts) { // the last one first, so that indexes hold
		t.ranges.Replace(x.i, x.j, x.boundaries)
		if err := l.saveBoundaries(t.record.Epoch.Table, x.old[1:], x.boundaries); err != nil {
			return err
		}
	}
	for _, m := range l.sortedMembers() {
		c := t.coverage[m.id]
		if c.tree == nil && !(m.scanOnly && c.Compared) {
			continue
		}
		if err := l.reshare(t, m, c, cuts); err != nil {
			return err
		}
		if c.tree == nil {
			continue
		}
		for _, x := range slices.Backward(cuts) {
			sums, err := l.sumsOf(c, x)
			if err != nil {
				return err
			}
			c.tree.Replace(x.i, x.j, sums)
			if err := l.saveSums(c, x, sums); err != nil {
				return err
			}
		}
	}
	return nil
}

// sumsOf are the sums of a member's new ranges. Rows are read only where ranges are split.
func (l *Ledger) sumsOf(c *coverage, x *cut) ([]merkle.Sum, error) {
	if !x.merges() {
		return l.sumSpan(c.space, x.old[0], x.end, x.boundaries)
	}
	var sum merkle.Sum
	for n := x.i; n < x.j; n++ {
		sum = sum.Add(c.tree.Sum(n))
	}
	return []merkle.Sum{sum}, nil
}

func (l *Ledger) saveBoundaries(t cdc.TableID, old, fresh []digest.Key) error {
	for _, b := range old {
		if err := l.state.DeleteBoundary(t, b); err != nil {
			return err
		}
	}
	for _, b := range fresh {
		if err := l.state.SetBoundary(t, b); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) saveSums(c *coverage, x *cut, sums []merkle.Sum) error {
	for _, start := range x.old {
		if err := l.state.DeleteSum(c.space, start); err != nil {
			return err
		}
	}
	for n, start := range x.starts() {
		if err := l.state.SetSum(c.space, start, sums[n]); err != nil {
			return err
		}
	}
	return nil
}

// sumSpan sums the rows from start to end by the ranges that boundaries cut it into.
func (l *Ledger) sumSpan(at Space, start, end digest.Key, boundaries []digest.Key) ([]merkle.Sum, error) {
	s := NewSummer(boundaries)
	err := l.state.Rows(at, start, end, func(k digest.Key, row []byte) (bool, error) {
		d, err := digest.RowDigest(row)
		if err == nil {
			s.Add(k, d)
		}
		return true, err
	})
	return s.Sums(), err
}

// Summer sums rows, in ascending order of their keys, by ranges.
type Summer struct {
	boundaries []digest.Key
	sums       []merkle.Sum
}

// NewSummer returns a Summer over the ranges that boundaries cut.
func NewSummer(boundaries []digest.Key) *Summer {
	return &Summer{boundaries: boundaries, sums: make([]merkle.Sum, 1, len(boundaries)+1)}
}

// Add takes the next row.
func (s *Summer) Add(k digest.Key, d digest.Digest) {
	for at := len(s.sums) - 1; at < len(s.boundaries) && string(k) >= string(s.boundaries[at]); at++ {
		s.sums = append(s.sums, merkle.Sum{})
	}
	s.sums[len(s.sums)-1] = s.sums[len(s.sums)-1].Add(merkle.Of(d))
}

// Sums returns one digest a range.
func (s *Summer) Sums() []merkle.Sum {
	for len(s.sums) <= len(s.boundaries) {
		s.sums = append(s.sums, merkle.Sum{})
	}
	return s.sums
}

// reshare gives what is in flight and what differs to the new ranges. Once for all cuts, because what is in flight is in no
// order that would tell what is of a range.
func (l *Ledger) reshare(t *table, m *member, c *coverage, cuts []*cut) error {
	inFlight := make(map[string]bool) // the new ranges of which something is
	for _, x := range cuts {
		f, d := take(c.inFlight, x.old), take(c.divergent, x.old)
		if take(c.apart, x.old) != (share{}) { // it is counted anew
			for _, start := range x.starts() {
				l.touched[touchedRange{c.space.Table, string(start)}] = struct{}{}
			}
		}
		if x.merges() {
			c.addInFlight(x.old[0], f)
			c.addDivergent(x.old[0], d)
			continue
		}
		if f != (share{}) {
			for _, start := range x.starts() {
				inFlight[string(start)] = true
			}
		}
		if d == (share{}) {
			continue
		}
		err := l.state.DivergentKeys(m.id, c.space.Table, x.old[0], x.end, func(k digest.Key, d *DivergentKey) (bool, error) {
			c.addDivergent(t.startOf(k), d.share())
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	if len(inFlight) == 0 {
		return nil
	}
	for f := range m.lanes[c.Lane].awaited {
		for _, ch := range f.changes {
			if ch.Table != c.space.Table {
				continue
			}
			if start := t.startOf(ch.Key); inFlight[string(start)] {
				c.addInFlight(start, share{ch.delta(), 1})
			}
		}
	}
	return nil
}

// take takes the shares of ranges and returns their sum.
func take(shares map[string]share, starts []digest.Key) (all share) {
	for _, start := range starts {
		s := shares[string(start)]
		all.sum, all.keys = all.sum.Add(s.sum), all.keys+s.keys
		delete(shares, string(start))
	}
	return all
}
