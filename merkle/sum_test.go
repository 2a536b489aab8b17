package merkle_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// sums draws from all values and, more often than chance would, from those next to a carry.
func sums() *rapid.Generator[merkle.Sum] {
	word := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, math.MaxUint64, 1 << 63}))
	return rapid.Custom(func(t *rapid.T) merkle.Sum {
		return merkle.Sum{Hi: word.Draw(t, "hi"), Lo: word.Draw(t, "lo"), Rows: rapid.Int64().Draw(t, "rows")}
	})
}

func digests() *rapid.Generator[digest.Digest] {
	return rapid.Custom(func(t *rapid.T) digest.Digest {
		if rapid.IntRange(0, 4).Draw(t, "none") == 0 {
			return digest.Digest{}
		}
		return digest.Digest(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "digest"))
	})
}

func TestSumsFormAnAbelianGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := sums().Draw(t, "a"), sums().Draw(t, "b"), sums().Draw(t, "c")
		if a.Add(b) != b.Add(a) {
			t.Fatal("order matters")
		}
		if a.Add(b).Add(c) != a.Add(b.Add(c)) {
			t.Fatal("grouping matters")
		}
		if a.Add(merkle.Sum{}) != a {
			t.Fatal("the empty range counts")
		}
		if a.Add(b).Sub(b) != a || a.Sub(b).Add(b) != a {
			t.Fatal("Sub does not undo Add")
		}
		if !a.Sub(a).IsZero() || a.Sub(b).IsZero() != (a == b) {
			t.Fatal("a difference is zero for other than equal ranges")
		}
	})
}

func TestSumIsOfOneNumberOf128Bits(t *testing.T) {
	low := merkle.Sum{Lo: math.MaxUint64, Rows: 1}
	if got, want := low.Add(merkle.Sum{Lo: 1, Rows: 1}), (merkle.Sum{Hi: 1, Rows: 2}); got != want {
		t.Errorf("the carry is lost: %v, want %v", got, want)
	}
	if got, want := (merkle.Sum{Hi: 1}).Sub(merkle.Sum{Lo: 1}), (merkle.Sum{Lo: math.MaxUint64}); got != want {
		t.Errorf("the borrow is lost: %v, want %v", got, want)
	}
}

// A row that a member holds twice must not vanish from its digest, as it would from an XOR.
func TestEqualRowsDoNotCancel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := digests().Filter(func(d digest.Digest) bool { return !d.IsZero() }).Draw(t, "row")
		sum := merkle.Sum{}
		for n := range int64(5) {
			if sum.Rows != n || n > 0 && sum.IsZero() {
				t.Fatalf("%d equal rows sum to %v", n, sum)
			}
			sum = sum.Add(merkle.Of(d))
		}
	})
}

func TestDeltaTurnsOneRowStateIntoAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rest := sums().Draw(t, "rest")
		before, after := digests().Draw(t, "before"), digests().Draw(t, "after")
		if got, want := rest.Add(merkle.Of(before)).Add(merkle.Delta(before, after)), rest.Add(merkle.Of(after)); got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestNoRowIsNoSum(t *testing.T) {
	if got := merkle.Of(digest.Digest{}); !got.IsZero() {
		t.Errorf("no row sums to %v", got)
	}
}

func TestSumSurvivesItsEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := sums().Draw(t, "sum")
		b := s.AppendBinary([]byte("before"))
		got, err := merkle.ParseSum(b[len("before"):])
		if err != nil || got != s {
			t.Fatalf("%v, %v, want %v", got, err, s)
		}
	})
}

func TestSumOfAnotherLengthIsRefused(t *testing.T) {
	for _, size := range []int{0, 1, 16, 23, 25, 48} {
		if _, err := merkle.ParseSum(make([]byte, size)); err == nil {
			t.Errorf("%d bytes are taken for a sum", size)
		}
	}
}

func FuzzParseSum(f *testing.F) {
	f.Add(merkle.Sum{Hi: 1, Lo: 2, Rows: -3}.AppendBinary(nil))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := merkle.ParseSum(b)
		if err == nil && string(s.AppendBinary(nil)) != string(b) {
			t.Errorf("%x reads as %v, which is written as %x", b, s, s.AppendBinary(nil))
		}
	})
}
