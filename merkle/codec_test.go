package merkle_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/merkle"
)

func TestATreeSurvivesItsEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boundaries := between(t, nil, nil, 100)
		list := rapid.SliceOfN(sums(), len(boundaries)+1, len(boundaries)+1).Draw(t, "sums")
		tree := merkle.NewTree(merkle.NewPartition(boundaries), list)
		b := tree.AppendBinary(nil)
		got, err := merkle.ParseTree(b)
		if err != nil || got.Root() != tree.Root() {
			t.Fatalf("%v", err)
		}
		if _, err := merkle.ParseTree(b[:rapid.IntRange(0, len(b)-1).Draw(t, "length")]); err == nil {
			t.Fatal("a tree that is cut off is taken for one")
		}
		if _, err := merkle.ParseTree(append(slices.Clone(b), 0)); err == nil {
			t.Fatal("a tree with something behind it is taken for one")
		}
	})
}

func FuzzParseTree(f *testing.F) {
	f.Add(evenly(1).AppendBinary(nil))
	f.Add(evenly(130).AppendBinary(nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := merkle.ParseTree(b)
		if err != nil {
			return
		}
		again, err := merkle.ParseTree(tree.AppendBinary(nil))
		if err != nil || again.Root() != tree.Root() {
			t.Errorf("%x: %v", b, err)
		}
		if tree.Root() == (merkle.Hash{}) || bytes.Equal(b, nil) {
			t.Errorf("%x is a tree", b)
		}
	})
}
