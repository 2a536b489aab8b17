package merkle

import (
	"bytes"
	"slices"
	"sort"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Partition cuts the key space of one table into half-open ranges that all members share. Range i holds the keys from
// Start(i) up to, not including, Start(i+1); the first range starts at the empty key, the last has no end.
type Partition struct {
	starts []digest.Key
}

// NewPartition returns the partition with the given inner boundaries, which must be ascending, distinct and not empty.
func NewPartition(boundaries []digest.Key) *Partition {
	p := &Partition{starts: make([]digest.Key, 1, len(boundaries)+1)}
	for _, b := range boundaries {
		p.starts = append(p.starts, slices.Clone(b))
	}
	return p
}

// Len returns the number of ranges, at least one.
func (p *Partition) Len() int { return len(p.starts) }

// Start returns the first key that may be in range i.
func (p *Partition) Start(i int) digest.Key { return p.starts[i] }

// End returns the key that ends range i, or nil for the last range.
func (p *Partition) End(i int) digest.Key {
	if i+1 == len(p.starts) {
		return nil
	}
	return p.starts[i+1]
}

// Find returns the range that holds k.
func (p *Partition) Find(k digest.Key) int {
	return sort.Search(len(p.starts), func(i int) bool { return bytes.Compare(p.starts[i], k) > 0 }) - 1
}

// Replace cuts the span of ranges i to j (exclusive) at the given inner boundaries in place of the ones it had: none
// merges the span into one range.
func (p *Partition) Replace(i, j int, boundaries []digest.Key) {
	fresh := make([]digest.Key, len(boundaries))
	for n, b := range boundaries {
		fresh[n] = slices.Clone(b)
	}
	p.starts = slices.Replace(p.starts, i+1, j, fresh...)
}
