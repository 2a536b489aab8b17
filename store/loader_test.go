package store_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/store"
)

func fill(t *testing.T, g *store.Group, numbers ...int) *store.Loader {
	t.Helper()
	l, err := g.Loader(space, false)
	must(t, err)
	for _, n := range numbers {
		must(t, l.Add(key(n), row(n)))
	}
	return l
}

func TestLoaderDropsWhatAnEarlierOneLeft(t *testing.T) {
	reopened(t, vfs.NewMem(), func(_ *store.Store, g *store.Group) {
		near := space
		near.Generation++
		must(t, g.SetRow(near, key(1), row(1)))
		must(t, g.Commit())
		must(t, fill(t, g, 1, 2, 3).Close())
		must(t, fill(t, g, 9, 8).Close())
		if got := rows(t, g, space); len(got) != 2 || got[0][:8] != string(key(8)) {
			t.Errorf("rows are %q, want 8 and 9", got)
		}
		if got := rows(t, g, near); len(got) != 1 {
			t.Errorf("rows of the next generation are %q", got)
		}
	})
}

func TestLoadedRowsAreDurableOnceClosed(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := open(t, mem)
	g := group(t, s, "shop")
	must(t, fill(t, g, 1, 2).Close())
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	end(t, g, s)
	reopened(t, crashed, func(_ *store.Store, g *store.Group) {
		if got := rows(t, g, space); len(got) != 2 {
			t.Errorf("rows after the crash are %q, want two", got)
		}
	})
}

func TestLoaderTakesMoreThanABatchHolds(t *testing.T) {
	reopened(t, vfs.NewMem(), func(_ *store.Store, g *store.Group) {
		const n = 70_000
		l, err := g.Loader(space, false)
		must(t, err)
		for i := range n {
			must(t, l.Add(key(i), row(i)))
		}
		must(t, l.Close())
		boundaries, sums, err := l.Sum(nil, true, 1000)
		must(t, err)
		total := merkle.Sum{}
		for _, s := range sums {
			total = total.Add(s)
		}
		want := merkle.Sum{}
		for i := range n {
			want = want.Add(merkle.Of(hash(i)))
		}
		if total != want || len(sums) != len(boundaries)+1 || len(sums) < 35 {
			t.Errorf("%d ranges sum to %v, want %v", len(sums), total, want)
		}
	})
}

func TestLoaderSumsByGivenBoundaries(t *testing.T) {
	reopened(t, vfs.NewMem(), func(_ *store.Store, g *store.Group) {
		l := fill(t, g, 5, 1, 2, 7)
		must(t, l.Close())
		boundaries, sums, err := l.Sum([]digest.Key{key(2), key(3), key(7)}, false, 0)
		must(t, err)
		want := []merkle.Sum{merkle.Of(hash(1)), merkle.Of(hash(2)), merkle.Of(hash(5)), merkle.Of(hash(7))}
		if diff := cmp.Diff(want, sums); diff != "" || len(boundaries) != 3 {
			t.Error(diff)
		}
	})
}

func TestLoaderSumsAnEmptyTable(t *testing.T) {
	reopened(t, vfs.NewMem(), func(_ *store.Store, g *store.Group) {
		l := fill(t, g)
		must(t, l.Close())
		boundaries, sums, err := l.Sum(nil, true, 1000)
		if err != nil || len(boundaries) != 0 || !cmp.Equal(sums, []merkle.Sum{{}}) {
			t.Errorf("%q, %v, %v, want one empty range", boundaries, sums, err)
		}
	})
}
