package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// Fanout is the number of children of an inner node.
const Fanout = 64

// Hash names a node of a Tree.
type Hash [sha256.Size]byte

// String prints h in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String prints.
func ParseHash(s string) (h Hash, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is no hash of a tree", s)
	}
	return Hash(b), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Hash) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHash(string(text))
	return err
}

// Tree holds the range digests of one table on one member, over a Partition that it shares with the other members.
//
//	level 2                 root
//	level 1     n0   n1   …              SHA-256(0x01 || child hashes), up to 64 children
//	level 0   h0 … h63 h64 …             SHA-256(0x00 || len(start) || start || len(end) || end || Sum)
//
// Hashes are computed when a root is asked for, along the paths that changed since.
type Tree struct {
	ranges *Partition
	sums   []Sum
	// levels[0] has one hash a range; the last level has one hash. Entries of stale[0] are to be computed anew.
	levels [][]Hash
	stale  map[int]struct{}
}

// NewTree returns a tree over ranges with the given range digests, one a range; nil means all empty.
func NewTree(ranges *Partition, sums []Sum) *Tree {
	if sums == nil {
		sums = make([]Sum, ranges.Len())
	}
	return &Tree{ranges: ranges, sums: sums}
}

// Ranges returns the tree's partition.
func (t *Tree) Ranges() *Partition { return t.ranges }

// Sum returns the digest of range i.
func (t *Tree) Sum(i int) Sum { return t.sums[i] }

// Add adds d to the digest of range i.
func (t *Tree) Add(i int, d Sum) {
	t.sums[i] = t.sums[i].Add(d)
	if t.levels != nil {
		t.stale[i] = struct{}{}
	}
}

// Total returns the digest of the whole table.
func (t *Tree) Total() Sum {
	var total Sum
	for _, s := range t.sums {
		total = total.Add(s)
	}
	return total
}

// Replace gives the span of ranges i to j (exclusive) new digests, after the partition's own Replace.
func (t *Tree) Replace(i, j int, sums []Sum) {
	t.sums = slices.Replace(t.sums, i, j, sums...)
	t.levels = nil
}

// Root returns the hash over all ranges.
func (t *Tree) Root() Hash {
	if t.levels == nil {
		t.build()
	} else {
		t.refresh()
	}
	return t.levels[len(t.levels)-1][0]
}

func (t *Tree) leaf(i int) Hash {
	return leafHash(t.ranges.Start(i), t.ranges.End(i), t.sums[i])
}

func leafHash(start, end []byte, s Sum) Hash {
	b := make([]byte, 0, 1+2*binary.MaxVarintLen64+len(start)+len(end)+sumSize)
	b = append(b, 0)
	b = binary.AppendUvarint(b, uint64(len(start)))
	b = append(b, start...)
	b = binary.AppendUvarint(b, uint64(len(end)))
	b = append(b, end...)
	return sha256.Sum256(s.AppendBinary(b))
}

func nodeHash(children []Hash) Hash {
	h := sha256.New()
	h.Write([]byte{1})
	for i := range children {
		h.Write(children[i][:])
	}
	return Hash(h.Sum(nil))
}

func (t *Tree) build() {
	level := make([]Hash, t.ranges.Len())
	for i := range level {
		level[i] = t.leaf(i)
	}
	t.levels = [][]Hash{level}
	for len(level) > 1 {
		up := make([]Hash, (len(level)+Fanout-1)/Fanout)
		for i := range up {
			up[i] = nodeHash(level[i*Fanout : min((i+1)*Fanout, len(level))])
		}
		t.levels = append(t.levels, up)
		level = up
	}
	t.stale = make(map[int]struct{})
}

func (t *Tree) refresh() {
	stale := t.stale
	t.stale = make(map[int]struct{})
	for i := range stale {
		t.levels[0][i] = t.leaf(i)
	}
	for n := 1; n < len(t.levels); n++ {
		parents := make(map[int]struct{}, len(stale))
		for i := range stale {
			parents[i/Fanout] = struct{}{}
		}
		below := t.levels[n-1]
		for i := range parents {
			t.levels[n][i] = nodeHash(below[i*Fanout : min((i+1)*Fanout, len(below))])
		}
		stale = parents
	}
}

// Proof shows that one range with its digest is under a root.
type Proof struct {
	Start []byte `json:"start"`
	End   []byte `json:"end"` // nil for the last range
	Sum   Sum    `json:"sum"`
	Path  []Step `json:"path"` // from the leaf up
}

// Step is one level of a Proof: the node's siblings, itself among them left out.
type Step struct {
	Index    int    `json:"index"`    // of the node among its parent's children
	Siblings []Hash `json:"siblings"` // the parent's other children, in order
}

// Prove returns the proof of range i under Root.
func (t *Tree) Prove(i int) Proof {
	t.Root()
	p := Proof{Start: t.ranges.Start(i), End: t.ranges.End(i), Sum: t.sums[i]}
	for n := 0; n+1 < len(t.levels); n++ {
		first := i / Fanout * Fanout
		group := t.levels[n][first:min(first+Fanout, len(t.levels[n]))]
		p.Path = append(p.Path, Step{Index: i - first, Siblings: slices.Delete(slices.Clone(group), i-first, i-first+1)})
		i /= Fanout
	}
	return p
}

// Index is the number of the range that p is about.
func (p Proof) Index() (i int) {
	for level := len(p.Path) - 1; level >= 0; level-- {
		i = i*Fanout + p.Path[level].Index
	}
	return i
}

// Root is that of the tree of which p proves a range; the error says where it leads to none.
func (p Proof) Root() (Hash, error) {
	h := leafHash(p.Start, p.End, p.Sum)
	for level, step := range p.Path {
		if step.Index < 0 || step.Index > len(step.Siblings) || len(step.Siblings) >= Fanout {
			return Hash{}, fmt.Errorf("range proof: level %d: index %d among %d siblings", level, step.Index, len(step.Siblings))
		}
		h = nodeHash(slices.Insert(slices.Clone(step.Siblings), step.Index, h))
	}
	return h, nil
}
