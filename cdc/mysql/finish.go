package mysql

import (
	"fmt"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// finish hands over the group at hand, which has just been passed. What was shown before is not yielded again.
func (a *assembler) finish() (cdc.Event, bool, error) {
	g := &a.group
	end, err := a.cursor.place()
	if err != nil {
		return cdc.Event{}, false, err
	}
	how := g.end
	g.open, g.end = false, running
	shown, err := a.shown(end)
	if err == nil {
		err = a.settle(how, shown)
	}
	if err != nil {
		return cdc.Event{}, false, err
	}
	event := cdc.Event{Position: end, Through: g.id}
	a.reread.Pass(event)
	if shown {
		return cdc.Event{}, false, nil
	}
	a.mark.note(g.telling)
	event = a.show(event)
	if how != preparedXA {
		a.recheck()
		event.Transaction = a.transaction(end)
	}
	return event, true, nil
}

// shown reports whether the group at hand was shown before this stream began. It fails if the log is not the one that
// was read then.
func (a *assembler) shown(end cdc.LSN) (bool, error) {
	g := &a.group
	before := a.from.Shown.Contains(g.id)
	if a.mariadb { // where a number may come twice, so that only the place tells
		if known := before; g.start < a.from.LSN && (!known || end > a.from.LSN) {
			return false, a.otherLog()
		}
		return end <= a.from.LSN, nil
	}
	if !before && g.start < a.from.LSN {
		return false, a.otherLog()
	}
	return before, nil
}

func (a *assembler) otherLog() error {
	return &cdc.GapError{
		Reason: fmt.Sprintf("the log has transaction %v at %v, where lockstep had read something else: it is not the log that it was", a.group.id, a.group.start),
		Hint:   "keep the log of a server that is watched",
	}
}

// settle does to the distributed transactions what the group at hand says.
func (a *assembler) settle(how ending, shown bool) error {
	g := &a.group
	if a.distributed != nil && (how == preparedXA || how == xaEnded) {
		a.distributed(g.xid, how == xaEnded)
	}
	switch how {
	case preparedXA:
		g.spare()
		a.waiting.add(&prepared{
			xid: g.xid, id: g.id, before: a.reread.Last.Clone(),
			changes: slices.Clone(g.changes), touched: g.touched, others: slices.Clone(g.others),
		})
	case xaUndone:
		a.waiting.take(g.xid)
	case xaEnded:
		p := a.waiting.take(g.xid)
		switch {
		case p == nil && shown: // so was its first group, which is not read again
		case p == nil:
			return unknownXA(g.xid)
		default:
			g.changes, g.touched, g.others = append(g.changes, p.changes...), append(g.touched, p.touched...), p.others
			g.list = nil // the list may have changed since
		}
	}
	return nil
}

// recheck looks at the list again, once it is noted how far the stream is. A table that was put on the list since the
// group began may be read from then on, so it must not be overlooked: rows that are read later do not have this group.
func (a *assembler) recheck() {
	g := &a.group
	list := a.current()
	if list == g.list {
		return
	}
	for _, name := range g.others {
		if w := list.tables[name]; w != nil {
			g.touch(w.epoch.Table, "")
		}
	}
	for _, e := range g.effects {
		for _, w := range e.on(list, e.schema, a.fold()) {
			if !slices.ContainsFunc(g.changes, func(c cdc.Change) bool { return c.Table == w.epoch.Table }) {
				g.touch(w.epoch.Table, e.reason)
			}
		}
	}
}

// spare drops the changes of tables that are touched.
func (g *group) spare() {
	if len(g.touched) == 0 {
		return
	}
	g.changes = slices.DeleteFunc(g.changes, func(c cdc.Change) bool {
		return slices.ContainsFunc(g.touched, func(t cdc.Touched) bool { return t.Table == c.Table })
	})
}

// large is from how many changes on a transaction gets the memory in which they were collected, in place of a copy.
const large = 4096

// transaction is what the group at hand did, or nil if it did nothing to us.
func (a *assembler) transaction(end cdc.LSN) *cdc.Transaction {
	g := &a.group
	g.spare()
	if len(g.changes)+len(g.touched) == 0 {
		return nil
	}
	tx := &cdc.Transaction{
		ID: g.id, Lane: cdc.GTIDLane, Commit: g.start, End: end, CommitTime: g.time, Changes: g.changes, Touched: g.touched,
	}
	if len(g.changes) < large {
		tx.Changes = slices.Clone(g.changes)
	} else {
		g.changes = nil
	}
	return tx
}
