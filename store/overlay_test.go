package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Rows are written, deleted, looked up, iterated over, dropped by the space, committed and lost in any order; what is
// there is always what a plain map has.
func TestRowsAreWhatWasLastWrittenWhateverHappensInBetween(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem()
		st, g := openRows(t, fs)
		spaces := []align.Space{{Member: 1, Table: 1, Generation: 1}, {Member: 1, Table: 1, Generation: 2}, {Member: 2, Table: 1, Generation: 1}}
		now := map[align.Space]map[string]string{}
		for _, at := range spaces {
			now[at] = map[string]string{}
		}
		committed := copyOf(now)
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			at := rapid.SampledFrom(spaces).Draw(t, "space")
			key := digest.Key(rapid.StringMatching(`[a-c]{0,2}`).Draw(t, "key"))
			switch rapid.IntRange(0, 11).Draw(t, "op") {
			case 0, 1, 2, 3:
				row := rapid.StringMatching(`[x-z]{1,6}`).Draw(t, "row")
				must(t, g.SetRow(at, key, []byte(row)))
				now[at][string(key)] = row
			case 4, 5:
				must(t, g.DeleteRow(at, key))
				delete(now[at], string(key))
			case 6, 7:
				row, err := g.Row(at, key)
				must(t, err)
				if want := now[at][string(key)]; string(row) != want {
					t.Fatalf("row %q is %q, want %q", key, row, want)
				}
			case 8:
				checkRows(t, g, at, now[at])
			case 9:
				if rapid.Bool().Draw(t, "drop") {
					must(t, g.DropSpace(at))
					clear(now[at])
				}
			case 10:
				must(t, g.Commit())
				committed = copyOf(now)
			case 11:
				must(t, g.Close())
				must(t, st.Close())
				st, g = openRows(t, fs)
				now = copyOf(committed)
			}
		}
		for _, at := range spaces {
			checkRows(t, g, at, now[at])
		}
		must(t, g.Close())
		must(t, st.Close())
	})
}

func openRows(t *rapid.T, fs vfs.FS) (*Store, *Group) {
	st, err := Open("data", Options{FS: fs, Cache: 256 << 10})
	must(t, err)
	g, err := st.Group("shop")
	must(t, err)
	return st, g
}

func checkRows(t *rapid.T, g *Group, at align.Space, want map[string]string) {
	got := map[string]string{}
	var last []byte
	must(t, g.Rows(at, nil, nil, func(k digest.Key, row []byte) (bool, error) {
		if len(got) > 0 && bytes.Compare(last, k) >= 0 {
			return false, fmt.Errorf("key %q comes after %q", k, last)
		}
		got[string(k)], last = string(row), slices.Clone(k)
		return true, nil
	}))
	if !maps.Equal(got, want) {
		t.Fatalf("rows of %v are %v, want %v", at, got, want)
	}
}

func copyOf(m map[align.Space]map[string]string) map[align.Space]map[string]string {
	c := maps.Clone(m)
	for at := range c {
		c[at] = maps.Clone(c[at])
	}
	return c
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Keys whose hashes are the same are told apart.
func TestOverlayTellsKeysOfOneHashApart(t *testing.T) {
	o := newOverlay()
	o.put([]byte("a"), []byte("1"), false)
	first := o.entries[0]
	o.put([]byte("b"), []byte("2"), false)
	for hash := range o.at { // as if both had the hash of one
		o.at[hash] = 1
	}
	o.entries[1].next = 0
	o.entries[0] = first
	for key, want := range map[string]string{"a": "1", "b": "2"} {
		if got, known := o.get([]byte(key)); !known || string(got) != want {
			t.Errorf("key %s is %q (%v), want %s", key, got, known, want)
		}
	}
}
