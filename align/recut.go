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

// recut splits ranges of the reference that have doubled and merges ones that starve, among those that changed.
func (l *Ledger) recut() error {
	for _, at := range l.sortedTouched() {
		t := l.tables[at.table]
		ref := t.coverage[l.ref.id]
		if ref.Phase != Live || t.frozen() {
			continue
		}
		i := t.ranges.Find(digest.Key(at.start))
		var err error
		switch rows := ref.tree.Sum(i).Rows; {
		case t.record.Sparse:
			err = l.splitSparse(t, ref, i)
		case rows > 2*l.opt.RangeRows:
			err = l.split(t, ref, i)
		case rows < l.opt.RangeRows/4:
			err = l.mergeStarved(t, ref, i, rows)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *table) frozen() bool {
	for _, c := range t.coverage {
		if c.frozen {
			return true
		}
	}
	return false
}

func (l *Ledger) split(t *table, ref *coverage, i int) error {
	cut := NewCutter(l.opt.RangeRows)
	err := l.state.Rows(ref.space, t.ranges.Start(i), t.ranges.End(i), func(k digest.Key, _ []byte) (bool, error) {
		cut.Add(k)
		return true, nil
	})
	if err != nil {
		return err
	}
	return l.replaceRanges(t, i, i+1, cut.Boundaries)
}

func (l *Ledger) mergeStarved(t *table, ref *coverage, i int, rows int64) error {
	switch {
	case i+1 < t.ranges.Len() && rows+ref.tree.Sum(i+1).Rows <= l.opt.RangeRows:
		return l.replaceRanges(t, i, i+2, nil)
	case i > 0 && rows+ref.tree.Sum(i-1).Rows <= l.opt.RangeRows:
		return l.replaceRanges(t, i-1, i+1, nil)
	}
	return nil
}

// replaceRanges cuts the span of ranges i to j (exclusive) at boundaries instead, on all members.
func (l *Ledger) replaceRanges(t *table, i, j int, boundaries []digest.Key) error {
	start, end := slices.Clone(t.ranges.Start(i)), slices.Clone(t.ranges.End(j-1))
	var old []digest.Key
	for n := i; n < j; n++ {
		old = append(old, t.ranges.Start(n))
	}
	t.ranges.Replace(i, j, boundaries)
	if err := l.saveBoundaries(t.record.Epoch.Table, old[1:], boundaries); err != nil {
		return err
	}
	for _, m := range l.sortedMembers() {
		c := t.coverage[m.id]
		if m.scanOnly && c.Compared {
			if err := l.reshare(t, m, c, old, start, end); err != nil {
				return err
			}
		}
		if c.tree == nil {
			continue
		}
		sums, err := l.sumSpan(c.space, start, end, boundaries)
		if err != nil {
			return err
		}
		c.tree.Replace(i, j, sums)
		if err := l.saveSums(c, t.ranges, i, old, sums); err != nil {
			return err
		}
		if err := l.reshare(t, m, c, old, start, end); err != nil {
			return err
		}
	}
	return nil
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

func (l *Ledger) saveSums(c *coverage, ranges *merkle.Partition, i int, old []digest.Key, sums []merkle.Sum) error {
	for _, start := range old {
		if err := l.state.DeleteSum(c.space, start); err != nil {
			return err
		}
	}
	for n, s := range sums {
		if err := l.state.SetSum(c.space, ranges.Start(i+n), s); err != nil {
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

// reshare gives what is in flight and what differs in a span to its new ranges.
func (l *Ledger) reshare(t *table, m *member, c *coverage, old []digest.Key, start, end digest.Key) error {
	var inFlight, divergent bool
	for _, o := range old {
		_, f := c.inFlight[string(o)]
		_, d := c.divergent[string(o)]
		inFlight, divergent = inFlight || f, divergent || d
		delete(c.inFlight, string(o))
		delete(c.divergent, string(o))
	}
	if inFlight {
		for f := range m.lanes[c.Lane].awaited {
			for _, ch := range f.changes {
				if ch.Table == c.space.Table && string(ch.Key) >= string(start) && (end == nil || string(ch.Key) < string(end)) {
					c.addInFlight(t.startOf(ch.Key), share{ch.delta(), 1})
				}
			}
		}
	}
	if !divergent {
		return nil
	}
	return l.state.DivergentKeys(m.id, c.space.Table, start, end, func(k digest.Key, d *DivergentKey) (bool, error) {
		c.addDivergent(t.startOf(k), d.share())
		return true, nil
	})
}
