package merkle_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// keys are short and of few letters, so that drawn ones often are equal, or prefixes of each other.
func keys() *rapid.Generator[digest.Key] {
	return rapid.Custom(func(t *rapid.T) digest.Key {
		return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 'b', 0xff}), 0, 4).Draw(t, "key")
	})
}

// between draws ascending boundaries after start and before end, which may be nil.
func between(t *rapid.T, start, end digest.Key, atMost int) []digest.Key {
	var list []digest.Key
	for _, k := range rapid.SliceOfN(keys(), 0, atMost).Draw(t, "boundaries") {
		if bytes.Compare(k, start) > 0 && (end == nil || bytes.Compare(k, end) < 0) {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b digest.Key) int { return bytes.Compare(a, b) })
	return slices.CompactFunc(list, func(a, b digest.Key) bool { return bytes.Equal(a, b) })
}

// oracle is a partition as simple as can be: its boundaries.
type oracle []digest.Key

func (o oracle) find(k digest.Key) int {
	n := 0
	for _, b := range o {
		if bytes.Compare(b, k) <= 0 {
			n++
		}
	}
	return n
}

// replace puts fresh in the place of the boundaries inside ranges i to j.
func (o oracle) replace(i, j int, fresh []digest.Key) oracle {
	return slices.Concat(o[:i], fresh, o[j-1:])
}

func (o oracle) check(t *rapid.T, p *merkle.Partition) {
	if p.Len() != len(o)+1 {
		t.Fatalf("%d ranges, want %d", p.Len(), len(o)+1)
	}
	for i := range p.Len() {
		start, end := digest.Key{}, digest.Key(nil)
		if i > 0 {
			start = o[i-1]
		}
		if i < len(o) {
			end = o[i]
		}
		if !bytes.Equal(p.Start(i), start) || !bytes.Equal(p.End(i), end) || (p.End(i) == nil) != (end == nil) {
			t.Fatalf("range %d is %x to %x, want %x to %x", i, p.Start(i), p.End(i), start, end)
		}
	}
	for _, k := range rapid.SliceOfN(keys(), 1, 10).Draw(t, "looked for") {
		if got, want := p.Find(k), o.find(k); got != want {
			t.Fatalf("%x is found in range %d, want %d", k, got, want)
		}
	}
}

func TestPartitionBehavesAsAListOfBoundaries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := oracle(between(t, nil, nil, 12))
		p := merkle.NewPartition(want)
		want.check(t, p)
		for range rapid.IntRange(0, 5).Draw(t, "replacements") {
			i := rapid.IntRange(0, p.Len()-1).Draw(t, "i")
			j := rapid.IntRange(i+1, p.Len()).Draw(t, "j")
			fresh := between(t, p.Start(i), p.End(j-1), 6)
			p.Replace(i, j, fresh)
			want = want.replace(i, j, fresh)
			want.check(t, p)
		}
	})
}

func TestPartitionKeepsNoSliceOfItsCaller(t *testing.T) {
	first, second := digest.Key("m"), digest.Key("t")
	p := merkle.NewPartition([]digest.Key{first})
	p.Replace(1, 2, []digest.Key{second})
	first[0], second[0] = 'x', 'x'
	if got := []string{string(p.Start(1)), string(p.Start(2))}; !cmp.Equal(got, []string{"m", "t"}) {
		t.Errorf("boundaries became %q", got)
	}
}
