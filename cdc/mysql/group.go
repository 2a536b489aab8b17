package mysql

import (
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// group is what was read of the transaction at hand.
type group struct {
	open bool
	groupHeader
	serial     uint64 // counts groups
	start      cdc.LSN
	file       uint64 // that it began in
	rolling    bool   // BEGIN or XA START was seen: a commit ends it
	end        ending
	xid        string // of a prepared transaction
	telling    telling
	savepoints []savedAt

	list    *watched
	changes []cdc.Change // reused
	touched []cdc.Touched
	effects []statementEffect
	others  []string // tables whose rows were passed over as not watched
	keys    keys
}

// ending is how a group ends.
type ending uint8

const (
	running    ending = iota
	committed         // what it did counts
	rolledBack        // what it did to tables without transactions counts
	preparedXA        // what it did counts from XA COMMIT on
	xaEnded           // with what was prepared
	xaUndone
)

type savedAt struct {
	name    string
	changes int
}

type statementEffect struct {
	effect
	schema string
}

// control takes a statement that is about the group itself.
func (g *group) control(c control, about string) {
	const undone = "a part of a transaction that changed it was rolled back, but for tables without transactions"
	switch c {
	case begin, xaStart:
		g.rolling = true
	case commit:
		g.end = committed
	case rollback:
		g.end = rolledBack
		g.doubt(0, undone)
	case savepoint:
		g.savepoints = append(g.savepoints, savedAt{about, len(g.changes)})
	case rollbackTo:
		from := 0
		for _, s := range g.savepoints {
			if strings.EqualFold(s.name, about) {
				from = s.changes
			}
		}
		g.doubt(from, undone)
	case xaCommit:
		g.end, g.xid = xaEnded, about
	case xaRollback:
		g.end, g.xid = xaUndone, about
	}
}

// doubt touches the tables of the changes from a certain one on.
func (g *group) doubt(from int, reason string) {
	for i := from; i < len(g.changes); i++ {
		if i == from || g.changes[i].Table != g.changes[i-1].Table {
			g.touch(g.changes[i].Table, reason)
		}
	}
}

// touch notes a table once, with the first reason. None of its changes in this transaction is given.
func (g *group) touch(table cdc.TableID, reason string) {
	g.put(cdc.Touched{Table: table, Reason: reason})
}

// touchFor is touch because of an error; nil: the table has no shape yet.
func (g *group) touchFor(table cdc.TableID, err error) { g.put(cdc.Doubt(table, err)) }

func (g *group) put(t cdc.Touched) {
	if !slices.ContainsFunc(g.touched, func(have cdc.Touched) bool { return have.Table == t.Table }) {
		g.touched = append(g.touched, t)
	}
}

// affect notes what a statement does to the tables of a list.
func (a *assembler) affect(e statementEffect, list *watched) {
	g := &a.group
	for _, w := range e.on(list, e.schema, a.fold()) {
		switch {
		case !e.truncate:
			g.touch(w.epoch.Table, e.reason)
		case !w.known():
			g.touch(w.epoch.Table, "")
		default:
			g.changes = append(g.changes, cdc.Change{Table: w.epoch.Table, Op: cdc.Truncate, Epoch: w.epoch.Number})
		}
	}
	if e.catalog {
		g.touch(0, "tables were defined")
	}
}
