package mysql

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// watchlist says what of a stream is wanted and how it is decoded. Its contents are never changed, only replaced, so that
// all of a transaction is decoded with one and the same.
type watchlist struct {
	mu  sync.Mutex // held to replace now
	now atomic.Pointer[watched]
}

// watched is what the list holds at one time.
type watched struct {
	tables map[string]*watchedTable // by qualified name
	ids    map[cdc.TableID]*watchedTable
}

// watchedTable is one table, with the shape of its current epoch.
type watchedTable struct {
	name          string // qualified
	schema, table string // as in name
	epoch         cdc.Epoch
	definition    *definition // nil: it was given up as too old
}

// known reports whether the table has a shape to decode its rows by.
func (w *watchedTable) known() bool { return w.definition != nil && len(w.epoch.Shape.Columns) > 0 }

// set gives a table its new shape. An epoch without columns makes the table known, so that changes of it are reported as
// Touched, and its rows are not decoded.
func (l *watchlist) set(t cdc.Table, e cdc.Epoch, d *definition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.load()
	next := &watched{tables: maps.Clone(old.tables), ids: maps.Clone(old.ids)}
	if before := old.ids[e.Table]; before != nil {
		delete(next.tables, before.name)
	}
	w := &watchedTable{name: t.Name, epoch: e, definition: d}
	w.schema, w.table, _ = strings.Cut(t.Name, ".")
	next.ids[e.Table], next.tables[t.Name] = w, w
	l.now.Store(next)
}

// load returns the list as it is now.
func (l *watchlist) load() *watched {
	if w := l.now.Load(); w != nil {
		return w
	}
	l.now.CompareAndSwap(nil, &watched{tables: map[string]*watchedTable{}, ids: map[cdc.TableID]*watchedTable{}})
	return l.now.Load()
}
