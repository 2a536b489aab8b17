package store_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/store"
)

// What is forgotten goes by the table of kinds, so a kind that is not in it would be left behind.
func TestEveryKindOfKeyIsInTheTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	must(t, err)
	var named []byte
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "kind") {
			return true
		}
		first, _, _, err := strconv.UnquoteChar(strings.Trim(v.Values[0].(*ast.BasicLit).Value, "'"), '\'')
		must(t, err)
		named = append(named, byte(first))
		return true
	})
	slices.Sort(named)
	kinds := store.KeyKinds()
	slices.Sort(kinds)
	if !slices.Equal(named, kinds) || len(slices.Compact(kinds)) != len(named) {
		t.Errorf("kinds by name: %q, in the table: %q", named, kinds)
	}
}

// filled is a store that has a key of every kind for all groups, members, tables and generations.
func filled(t *testing.T) (*store.Store, *store.Group) {
	t.Helper()
	s := open(t, vfs.NewMem())
	var groups []*store.Group
	for _, name := range []string{"shop", "other"} {
		g := group(t, s, name)
		groups = append(groups, g)
		for _, member := range []string{"eu", "us"} {
			_, err := g.MemberID(member)
			must(t, err)
		}
		for _, kind := range store.KeyKinds() {
			for m := range cdc.MemberID(2) {
				for table := range cdc.TableID(2) {
					for generation := range uint32(2) {
						if key := store.Key(kind, g.Number(), 1+m, 1+table, 1+generation); len(key) > 1 {
							must(t, s.SetKey(append(key, "rest"...)))
						}
					}
				}
			}
		}
	}
	t.Cleanup(func() {
		must(t, groups[0].Close())
		must(t, groups[1].Close())
		must(t, s.Close())
	})
	return s, groups[0]
}

func keys(t *testing.T, s *store.Store) []string {
	t.Helper()
	list, err := s.Keys()
	must(t, err)
	return list
}

// gone are the keys that there were before and are not any more.
func gone(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(before), func(k string) bool { return slices.Contains(after, k) })
}

func TestADropLeavesNoKeyInItsScopeAndTakesNoneOutsideIt(t *testing.T) {
	for _, c := range []struct {
		name string
		drop func(*store.Group) error
		// takes reports whether the drop is to take a key of group 1. Kinds are spelled out here once more.
		takes func(kind byte, m cdc.MemberID, table cdc.TableID, generation uint32) bool
	}{
		{"space", func(g *store.Group) error { return g.DropSpace(align.Space{Member: 1, Table: 2, Generation: 1}) },
			func(kind byte, m cdc.MemberID, table cdc.TableID, generation uint32) bool {
				return bytes.IndexByte([]byte("RSQ"), kind) >= 0 && m == 1 && table == 2 && generation == 1
			}},
		{"table", func(g *store.Group) error { return g.DropTable(2) },
			func(kind byte, _ cdc.MemberID, table cdc.TableID, _ uint32) bool {
				return bytes.IndexByte([]byte("TBDZYRSQ"), kind) >= 0 && table == 2
			}},
		{"member", func(g *store.Group) error { return g.DropMember(1) },
			func(kind byte, m cdc.MemberID, _ cdc.TableID, _ uint32) bool {
				return bytes.IndexByte([]byte("MDZYRSQ"), kind) >= 0 && m == 1
			}},
		{"verified", func(g *store.Group) error { return g.DropVerified(1, 2) },
			func(kind byte, m cdc.MemberID, table cdc.TableID, _ uint32) bool {
				return kind == 'Z' && m == 1 && table == 2
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, g := filled(t)
			before := keys(t, s)
			must(t, c.drop(g))
			must(t, g.Commit())
			var want []string
			for _, kind := range store.KeyKinds() {
				for m := range cdc.MemberID(2) {
					for table := range cdc.TableID(2) {
						for generation := range uint32(2) {
							if c.takes(kind, 1+m, 1+table, 1+generation) {
								want = append(want, string(append(store.Key(kind, g.Number(), 1+m, 1+table, 1+generation), "rest"...)))
							}
						}
					}
				}
			}
			slices.Sort(want)
			if got := gone(before, keys(t, s)); !slices.Equal(got, slices.Compact(want)) {
				t.Errorf("gone are %q\nwant %q", got, slices.Compact(want))
			}
		})
	}
}
