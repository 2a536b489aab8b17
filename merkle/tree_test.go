package merkle_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// evenly returns a tree of n ranges, each with a sum of its own.
func evenly(n int) *merkle.Tree {
	var boundaries []digest.Key
	sums := make([]merkle.Sum, n)
	for i := range n {
		if i > 0 {
			boundaries = append(boundaries, binary.BigEndian.AppendUint32(nil, uint32(i)))
		}
		sums[i] = merkle.Sum{Hi: uint64(i) * 0x9e3779b97f4a7c15, Lo: uint64(i), Rows: int64(i)}
	}
	return merkle.NewTree(merkle.NewPartition(boundaries), sums)
}

// rebuilt makes a tree of its own from what t holds.
func rebuilt(t *merkle.Tree) *merkle.Tree {
	var boundaries []digest.Key
	var sums []merkle.Sum
	for i := range t.Ranges().Len() {
		if i > 0 {
			boundaries = append(boundaries, t.Ranges().Start(i))
		}
		sums = append(sums, t.Sum(i))
	}
	return merkle.NewTree(merkle.NewPartition(boundaries), sums)
}

// The roots were computed apart from this package, from the drawing above Tree.
func TestRootsAreTheOnesOfTheFirstVersion(t *testing.T) {
	for _, c := range []struct {
		ranges int
		root   string
	}{
		{1, "ea49aa9f6f6cf2d53d454e628ba5a339cc000230c4651655d0237711d747f50b"},
		{2, "30fa0e31baeeb3ce8b237526f717703b5e3522e6aa0461eb430db331f7f91c26"},
		{64, "7acd3dd7ae33639985597c07290063874ccffca944061bf703f7de9789b0beed"},
		{65, "5b21c49cfe66cd43ef6c39d968a9f952a92afff689d1f842f1b513add65fb31d"},
		{4097, "03dd570d35a1d2ddc457a3bf750ae31458db88dff00cd7bb1e546f79181efe78"},
	} {
		if got := evenly(c.ranges).Root().String(); got != c.root {
			t.Errorf("root over %d ranges is %s, want %s", c.ranges, got, c.root)
		}
	}
}

func TestNewTreeWithoutSumsIsEmpty(t *testing.T) {
	tree := merkle.NewTree(merkle.NewPartition([]digest.Key{{1}, {2}}), nil)
	if !tree.Total().IsZero() || !tree.Sum(2).IsZero() {
		t.Errorf("an empty tree sums to %v", tree.Total())
	}
}

// However a tree came to hold what it holds, and whenever its root was asked for, the root is that of a new tree.
func TestRootDependsOnlyOnWhatTheTreeHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := evenly(rapid.SampledFrom([]int{1, 2, 63, 64, 65, 130, 4100}).Draw(t, "ranges"))
		steps := rapid.IntRange(1, 8).Draw(t, "steps")
		for range steps {
			change(t, tree)
			if rapid.Bool().Draw(t, "ask") {
				tree.Root()
			}
		}
		if got, want := tree.Root(), rebuilt(tree).Root(); got != want {
			t.Fatalf("root is %v, of a new tree %v", got, want)
		}
	})
}

func change(t *rapid.T, tree *merkle.Tree) {
	p := tree.Ranges()
	i := rapid.IntRange(0, p.Len()-1).Draw(t, "range")
	before := tree.Total()
	if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
		d := sums().Draw(t, "sum")
		tree.Add(i, d)
		if got, want := tree.Total(), before.Add(d); got != want {
			t.Fatalf("total is %v, want %v", got, want)
		}
		return
	}
	j := min(p.Len(), i+rapid.IntRange(1, 70).Draw(t, "span"))
	var fresh []digest.Key
	for n := range rapid.IntRange(0, 70).Draw(t, "cuts") {
		fresh = append(fresh, append(slices.Clone(p.Start(i)), 0, byte(n)))
	}
	replaced := make([]merkle.Sum, len(fresh)+1)
	for i := range replaced {
		replaced[i] = sums().Draw(t, "sum")
	}
	p.Replace(i, j, fresh)
	tree.Replace(i, j, replaced)
}

func TestEveryChangeOfASumChangesTheRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := evenly(rapid.IntRange(1, 200).Draw(t, "ranges"))
		before := tree.Root()
		d := sums().Filter(func(s merkle.Sum) bool { return !s.IsZero() }).Draw(t, "sum")
		i := rapid.IntRange(0, tree.Ranges().Len()-1).Draw(t, "range")
		tree.Add(i, d)
		if tree.Root() == before {
			t.Fatal("the root stayed")
		}
		tree.Add(i, merkle.Sum{}.Sub(d))
		if tree.Root() != before {
			t.Fatal("the root did not come back")
		}
	})
}
