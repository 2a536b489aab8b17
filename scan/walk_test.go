package scan

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// readPart is what a server gives for a part of a table of these keys.
func readPart(keys []digest.Key, p cdc.Part) (rows []digest.Key) {
	for _, k := range keys {
		inside := (p.After == nil || bytes.Compare(k, p.After) > 0) && (p.Through == nil || bytes.Compare(k, p.Through) <= 0)
		if inside && (p.Limit == 0 || len(rows) < p.Limit) {
			rows = append(rows, k)
		}
	}
	return rows
}

// TestWalkReadsEachRowOnceAndLeavesNoGap also changes walks in the middle for ones that begin where they had come, and
// lets chunks fail.
func TestWalkReadsEachRowOnceAndLeavesNoGap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := make([]digest.Key, rapid.IntRange(0, 3000).Draw(t, "rows"))
		for i := range keys {
			keys[i] = digest.Key{byte(i >> 8), byte(i)}
		}
		bound := rapid.Custom(func(t *rapid.T) digest.Key {
			if n := rapid.IntRange(-1, 3000).Draw(t, "key"); n >= 0 {
				return digest.Key{byte(n >> 8), byte(n), 7}
			}
			return nil
		})
		over := cdc.Part{After: bound.Draw(t, "after"), Through: bound.Draw(t, "through")}
		walk := NewWalk(cdc.KeyOrder, over, 0)
		var got []digest.Key
		end := over.After
		for !walk.Done() {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				walk = NewWalk(cdc.KeyOrder, cdc.Part{After: walk.Passed(), Through: over.Through}, 0)
			case 1:
				walk.Next(rapid.IntRange(1, 200).Draw(t, "lost")) // could not be read
			}
			part := walk.Next(rapid.IntRange(0, 1000).Draw(t, "most"))
			if part.Limit == 0 {
				t.Fatal("a chunk without a limit")
			}
			rows := readPart(keys, part)
			var last digest.Key
			if len(rows) > 0 {
				last = slices.Clone(rows[len(rows)-1])
			}
			covered := walk.Read(len(rows), last, time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms"))*time.Millisecond)
			if last != nil {
				last[0] ^= 0xff // it belongs to the reader
			}
			if !bytes.Equal(covered.After, end) || covered.Limit != 0 {
				t.Fatalf("covers %v, the one before ended with %v", covered, end)
			}
			if diff := cmp.Diff(readPart(keys, covered), rows); diff != "" {
				t.Fatalf("rows of the part that is covered: %s", diff)
			}
			got, end = append(got, rows...), covered.Through
		}
		if !bytes.Equal(end, over.Through) {
			t.Fatalf("the walk ended with %v, not with %v", end, over.Through)
		}
		if diff := cmp.Diff(readPart(keys, over), got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestUnorderedTableIsOneChunk(t *testing.T) {
	walk := NewWalk(cdc.Unordered, cdc.Part{After: digest.Key{1}, Through: digest.Key{2}}, time.Second)
	if diff := cmp.Diff(cdc.Part{}, walk.Next(100)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(cdc.Part{}, walk.Read(1_000_000, digest.Key{9}, time.Hour)); diff != "" || !walk.Done() {
		t.Errorf("%s, done: %t", diff, walk.Done())
	}
}

func TestChunksGrowAndShrinkToTheirTime(t *testing.T) {
	took := func(perRow time.Duration) func(int) time.Duration {
		return func(rows int) time.Duration { return time.Duration(rows) * perRow }
	}
	tests := []struct {
		name string
		took func(rows int) time.Duration
		want int
	}{
		{"quick rows come in chunks of the time", took(50 * time.Microsecond), 10_000},
		{"at most so many", took(time.Nanosecond), maxChunk},
		{"slow rows", took(2 * time.Millisecond), 250},
		{"at least so many", took(time.Second), minChunk},
		{"a clock that stands still", took(0), maxChunk},
	}
	for _, test := range tests {
		walk := NewWalk(cdc.KeyOrder, cdc.Part{}, 500*time.Millisecond)
		before := walk.Next(0).Limit
		if before != firstChunk {
			t.Errorf("%s: begins with %d", test.name, before)
		}
		for range 20 {
			limit := walk.Next(0).Limit
			if limit > 2*before || limit < before/2 {
				t.Errorf("%s: jumps from %d to %d", test.name, before, limit)
			}
			before = limit
			walk.Read(limit, digest.Key{1}, test.took(limit))
		}
		if got := walk.Next(0).Limit; got != test.want {
			t.Errorf("%s: %d rows, want %d", test.name, got, test.want)
		}
	}
	if got := NewWalk(cdc.KeyOrder, cdc.Part{}, 0).Next(7).Limit; got != 7 {
		t.Errorf("%d rows where at most 7 are wanted", got)
	}
}
