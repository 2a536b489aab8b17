package merkle_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/merkle"
)

func TestEveryRangeIsProven(t *testing.T) {
	for _, n := range []int{1, 2, 64, 65, 4097} {
		tree := evenly(n)
		root := tree.Root()
		for i := range n {
			if !leads(tree.Prove(i), root) {
				t.Fatalf("range %d of %d", i, n)
			}
		}
	}
}

func leads(p merkle.Proof, to merkle.Hash) bool {
	root, err := p.Root()
	return err == nil && root == to
}

func TestProofFollowsTheTree(t *testing.T) {
	tree := evenly(130)
	tree.Root()
	tree.Add(7, merkle.Sum{Lo: 1, Rows: 1})
	p := tree.Prove(7)
	if !leads(p, tree.Root()) {
		t.Fatal("a proof does not lead to the root")
	}
	tree.Add(129, merkle.Sum{Lo: 1, Rows: 1})
	if leads(p, tree.Root()) {
		t.Error("a proof still holds under the root of another state")
	}
}

// forgeries are all ways to change a proof by a little.
var forgeries = map[string]func(t *rapid.T, p *merkle.Proof) bool{
	"start": func(t *rapid.T, p *merkle.Proof) bool { return flip(t, &p.Start) },
	"end":   func(t *rapid.T, p *merkle.Proof) bool { return flip(t, &p.End) },
	"start becomes longer": func(_ *rapid.T, p *merkle.Proof) bool {
		p.Start = append(slices.Clone(p.Start), 0)
		return true
	},
	"byte moves from end to start": func(_ *rapid.T, p *merkle.Proof) bool {
		if len(p.End) == 0 {
			return false
		}
		p.Start, p.End = append(slices.Clone(p.Start), p.End[0]), p.End[1:]
		return true
	},
	"digest": func(t *rapid.T, p *merkle.Proof) bool {
		p.Sum.Lo ^= 1 << rapid.IntRange(0, 63).Draw(t, "bit")
		return true
	},
	"digest, upper half": func(t *rapid.T, p *merkle.Proof) bool {
		p.Sum.Hi ^= 1 << rapid.IntRange(0, 63).Draw(t, "bit")
		return true
	},
	"rows": func(t *rapid.T, p *merkle.Proof) bool {
		p.Sum.Rows ^= 1 << rapid.IntRange(0, 63).Draw(t, "bit")
		return true
	},
	"sibling": func(t *rapid.T, p *merkle.Proof) bool {
		s := step(t, p)
		if s == nil || len(s.Siblings) == 0 {
			return false
		}
		n := rapid.IntRange(0, len(s.Siblings)-1).Draw(t, "sibling")
		s.Siblings[n][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		return true
	},
	"sibling is missing": func(t *rapid.T, p *merkle.Proof) bool {
		s := step(t, p)
		if s == nil || len(s.Siblings) == 0 {
			return false
		}
		s.Siblings = s.Siblings[1:]
		return true
	},
	"index": func(t *rapid.T, p *merkle.Proof) bool {
		s := step(t, p)
		if s == nil {
			return false
		}
		s.Index += rapid.SampledFrom([]int{-1000, -64, -1, 1, 64, 1 << 40}).Draw(t, "by")
		return true
	},
	"level is missing": func(_ *rapid.T, p *merkle.Proof) bool {
		if len(p.Path) == 0 {
			return false
		}
		p.Path = p.Path[:len(p.Path)-1]
		return true
	},
	"level too many": func(_ *rapid.T, p *merkle.Proof) bool {
		p.Path = append(p.Path, merkle.Step{})
		return true
	},
}

func step(t *rapid.T, p *merkle.Proof) *merkle.Step {
	if len(p.Path) == 0 {
		return nil
	}
	return &p.Path[rapid.IntRange(0, len(p.Path)-1).Draw(t, "level")]
}

func flip(t *rapid.T, b *[]byte) bool {
	if len(*b) == 0 {
		return false
	}
	*b = slices.Clone(*b)
	(*b)[rapid.IntRange(0, len(*b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	return true
}

func TestForgedProofFails(t *testing.T) {
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.SampledFrom([]int{1, 2, 64, 65, 200, 4097}).Draw(t, "ranges")
				tree := evenly(n)
				p := tree.Prove(rapid.IntRange(0, n-1).Draw(t, "range"))
				if forge(t, &p) && leads(p, tree.Root()) {
					t.Fatalf("%+v is taken for a proof", p)
				}
			})
		})
	}
}

// A node with more children than a tree makes is no proof, whatever its hash.
func TestProofWithTooManySiblingsFails(t *testing.T) {
	p := merkle.Proof{Path: []merkle.Step{{Siblings: make([]merkle.Hash, merkle.Fanout)}}}
	if _, err := p.Root(); err == nil {
		t.Error("a node with 65 children is taken for one of a tree")
	}
}
