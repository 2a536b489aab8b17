package cdctest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

func parts(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	var changes []Change
	for i := range 10 {
		changes = append(changes, Put("a", 10*i-30, Row{"v": i}))
	}
	write(t, s.Author, append(changes, Put("b", 1, Row{"v": 1}))...)
	x.read()
	x.same()
	var keys []digest.Key // of a, ascending
	for at := range x.rows {
		if x.name(at.table) == "a" {
			keys = append(keys, digest.Key(at.key))
		}
	}
	slices.SortFunc(keys, digest.Key.Compare)
	if first := x.key(1, 1, keys[0]); first != "-30" {
		t.Fatalf("the first key is %s", first)
	}
	write(t, s.Author, Delete("a", 30)) // of keys[6]: a bound need not exist
	x.read()
	without := slices.Delete(slices.Clone(keys), 6, 7)
	for name, c := range map[string]struct {
		part cdc.Part
		want []digest.Key
	}{
		"all":             {cdc.Part{}, without},
		"after one":       {cdc.Part{After: keys[2]}, without[3:]},
		"through one":     {cdc.Part{Through: keys[2]}, without[:3]},
		"between":         {cdc.Part{After: keys[2], Through: keys[6]}, without[3:6]},
		"after none":      {cdc.Part{After: keys[6]}, without[6:]},
		"limited":         {cdc.Part{Limit: 4}, without[:4]},
		"after, limited":  {cdc.Part{After: keys[1], Limit: 2}, without[2:4]},
		"between nothing": {cdc.Part{After: keys[5], Through: keys[6]}, nil},
		"after the last":  {cdc.Part{After: keys[9], Limit: 5}, nil},
		"by keys":         {cdc.Part{Keys: []digest.Key{keys[7], keys[1], keys[6]}}, []digest.Key{keys[1], keys[7]}},
		"by keys alone":   {cdc.Part{Keys: []digest.Key{keys[7], keys[1]}, After: keys[3], Through: keys[4], Limit: 1}, []digest.Key{keys[1], keys[7]}},
		"by no keys":      {cdc.Part{Keys: []digest.Key{}}, nil},
	} {
		var got []digest.Key
		view, err := x.source.Read(bounded(t), x.tables["a"], x.epochs["a"], c.part, func(k digest.Key, row *digest.Row) error {
			got = append(got, slices.Clone(k))
			if want := x.rows[place{1, string(k)}]; row.Digest != want.Digest {
				return fmt.Errorf("%x is %v, want %v", k, row.Digest, want.Digest)
			}
			return nil
		})
		must(t, err)
		if c.part.Keys != nil {
			slices.SortFunc(got, digest.Key.Compare)
		}
		if !slices.EqualFunc(got, c.want, func(a, b digest.Key) bool { return a.Compare(b) == 0 }) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
		if view.Cut > view.Settled || view.Cut < transactionsOf(x.events)[0].End {
			t.Errorf("%s: %+v, and the stream has shown up to %v", name, view, x.at.LSN)
		}
	}
	err := fmt.Errorf("enough")
	if _, got := x.source.Read(bounded(t), x.tables["a"], x.epochs["a"], cdc.Part{}, func(digest.Key, *digest.Row) error { return err }); got == nil {
		t.Error("the receiver's error is not returned")
	}
}

// writing changes rows of a and b on three connections until stop is called: two rows of a transaction always have the
// same value.
func writing(t *testing.T, d Driver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 3 {
		random := rand.New(rand.NewPCG(uint64(w), 1))
		writers.Go(func() {
			for i := 0; i < 150 && ctx.Err() == nil; i++ {
				key, set := 100*w+2*random.IntN(10), Row{"v": i}
				if random.IntN(3) == 0 {
					set["note"] = i
				}
				changes := []Change{Put("a", key, set), Put("a", key+1, set)}
				switch random.IntN(5) {
				case 0:
					changes = []Change{Delete("a", key), Delete("a", key+1)}
				case 1:
					changes = append(changes, Put("b", key, set))
				}
				if err := d.Write(t.Context(), changes...); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	return func() { cancel(); writers.Wait() }
}

// seen is what was read of table a while it changed.
type seen struct {
	cut, settled cdc.LSN
	rows         rows
}

func (x *tail) readWhole(t *testing.T) seen {
	t.Helper()
	has := make(rows)
	v, err := x.source.Read(bounded(t), x.tables["a"], x.epochs["a"], cdc.Part{}, has.add(1))
	must(t, err)
	return seen{v.Cut, v.Settled, has}
}

func (x *tail) readSnapshot(t *testing.T) seen {
	t.Helper()
	snapshot, err := x.source.Snapshot(bounded(t))
	must(t, err)
	defer snapshot.Close()
	has := make(rows)
	must(t, snapshot.Rows(bounded(t), x.tables["a"], x.epochs["a"], has.add(1)))
	settled, err := snapshot.Settled(bounded(t))
	must(t, err)
	return seen{snapshot.Cut(), settled, has}
}

// underWrites reads table a several times while it changes and the stream is read, and returns what was read.
func (x *tail) underWrites(s Subject, times int, read func(t *testing.T) seen) (all []seen) {
	x.t.Helper()
	stopWriting, stopReading := writing(x.t, s.Author), x.background()
	for range times {
		all = append(all, read(x.t))
	}
	stopWriting()
	_ = stopReading()
	x.read()
	x.same()
	return all
}

// from brings what was read up to date, from where the view begins to where it is settled.
func (v seen) upTo(settled cdc.LSN, all []*cdc.Transaction) rows {
	r := maps.Clone(v.rows)
	for _, tx := range all {
		if tx.Commit >= v.cut && tx.Commit < settled {
			for _, c := range tx.Changes {
				if c.Table == 1 {
					_ = r.apply(c, false)
				}
			}
		}
	}
	return r
}

func snapshotUnderWrites(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	views := x.underWrites(s, 4, x.readSnapshot)
	all := transactionsOf(x.events)
	empty := seen{rows: rows{}}
	for i, v := range views {
		if v.cut > v.settled {
			t.Errorf("it begins at %v and is settled at %v", v.cut, v.settled)
		}
		for _, at := range []cdc.LSN{v.settled, (v.settled + x.at.LSN) / 2, x.at.LSN} {
			if diff := empty.upTo(at, all).diff(v.upTo(at, all)); diff != "" {
				t.Errorf("snapshot %d from %v to %v, brought up to %v, is not what the stream says: %s", i, v.cut, v.settled, at, diff)
			}
		}
	}
}

// partUnderWrites looks for transactions after the cut that make of the rows at the cut what was read. They are the first
// few; but on PostgreSQL one may be visible before another that has committed earlier.
func partUnderWrites(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	views := x.underWrites(s, 8, x.readWhole)
	all := transactionsOf(x.events)
	for i, v := range views {
		r, between := rows{}, []*cdc.Transaction(nil)
		for _, tx := range all {
			if tx.Commit < v.cut {
				r.carryOut(tx)
			} else if tx.Commit < v.settled {
				between = append(between, tx)
			}
		}
		if !v.shows(r, between, s.Engine == Postgres) {
			t.Errorf("part %d with %d rows, from %v to %v, is none of %d moments", i, len(v.rows), v.cut, v.settled, len(between)+1)
		}
	}
}

// carryOut carries out what a transaction does to table a.
func (r rows) carryOut(tx *cdc.Transaction) {
	for _, c := range tx.Changes {
		if c.Table == 1 {
			_ = r.apply(c, false)
		}
	}
}

// shows reports whether what was read is r and some of the transactions after it: the first few, or, where they need not be
// visible in their order, any that do not build on one that is left out.
func (v seen) shows(r rows, after []*cdc.Transaction, anyOrder bool) bool {
	if r.equal(v.rows) {
		return true
	}
	if len(after) == 0 {
		return false
	}
	first, later := after[0], after[1:]
	if anyOrder && v.leavesOut(r, first, later) {
		return true
	}
	next := maps.Clone(r)
	next.carryOut(first)
	return v.shows(next, later, anyOrder)
}

// leavesOut is shows without the first transaction after r. Its rows then stay as r has them, which what was read seldom
// agrees with: that keeps the search from trying every set of transactions.
func (v seen) leavesOut(r rows, first *cdc.Transaction, later []*cdc.Transaction) bool {
	for _, c := range first.Changes {
		at := place{c.Table, string(c.Key)}
		now, is := r[at]
		if read, was := v.rows[at]; c.Table == 1 && (is != was || !alike(now, read)) {
			return false
		}
	}
	return v.shows(r, slices.DeleteFunc(slices.Clone(later), func(tx *cdc.Transaction) bool { return overlap(first, tx) }), true)
}

// overlap reports whether two transactions change the same row of table a.
func overlap(a, b *cdc.Transaction) bool {
	return slices.ContainsFunc(a.Changes, func(c cdc.Change) bool {
		return c.Table == 1 && slices.ContainsFunc(b.Changes, func(d cdc.Change) bool { return d.Table == 1 && c.Key.Compare(d.Key) == 0 })
	})
}
