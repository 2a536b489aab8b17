package postgres

import (
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// watchlist says what of a stream is wanted and how it is decoded. It is never changed, only replaced, so that a
// transaction is decoded with one and the same from its Begin to its Commit.
type watchlist struct {
	tables map[string]*watched      // by the qualified name of the table and of each of its leaves
	types  map[uint32]columnType    // by pg_type.oid on this member
	ids    map[cdc.TableID]*watched // the same, once each
}

// watched is one table, with the shape of its current epoch.
type watched struct {
	table cdc.Table
	epoch cdc.Epoch // without columns: the table is known, its shape is not
}

func newWatchlist() *watchlist {
	return &watchlist{tables: map[string]*watched{}, types: map[uint32]columnType{}, ids: map[cdc.TableID]*watched{}}
}

// with returns the list with a table's new shape.
func (l *watchlist) with(t cdc.Table, e cdc.Epoch) *watchlist {
	next := &watchlist{tables: maps.Clone(l.tables), types: l.types, ids: maps.Clone(l.ids)}
	if old := l.ids[e.Table]; old != nil {
		maps.DeleteFunc(next.tables, func(_ string, w *watched) bool { return w == old })
	}
	w := &watched{table: t, epoch: e}
	next.ids[e.Table] = w
	next.tables[t.Name] = w
	for _, leaf := range t.Leaves {
		next.tables[leaf] = w
	}
	return next
}

// withTypes returns the list with the types that the catalog holds now.
func (l *watchlist) withTypes(types map[uint32]columnType) *watchlist {
	return &watchlist{tables: l.tables, types: types, ids: l.ids}
}

// covered reports whether the relations are all that holds rows of the table.
func (w *watched) covered(relations []string) bool {
	if slices.Contains(relations, w.table.Name) {
		return true
	}
	return !slices.ContainsFunc(w.table.Leaves, func(leaf string) bool { return !slices.Contains(relations, leaf) })
}
