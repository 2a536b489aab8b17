package cdctest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// A commit that waits for a synchronous replica is in the log, and on followers, before readers of its server see it. On
// PostgreSQL commits after it do not wait for it; on MySQL and MariaDB rows become visible in the order of the log. Until
// then the rows are locked. A restart ends the wait.

// hidden is a transaction that is in the log and that readers do not see.
type hidden struct {
	entry *entry
	steps []logged
	waits bool // false: for one before it only
}

// WriteHidden is Write by a transaction that readers see so much later than the log has it.
func (s *Server) WriteHidden(for_ time.Duration, changes ...Change) (id cdc.TxID) {
	s.do(func() {
		before := len(s.log)
		if id = s.writeFree(changes); len(s.log) == before {
			return
		}
		if len(s.hidden) == 0 || s.hidden[len(s.hidden)-1].entry != s.log[before] {
			s.hide(s.log[before])
		}
		h := s.hidden[len(s.hidden)-1]
		h.waits = true
		time.AfterFunc(for_, func() { s.do(func() { s.reveal(h) }) })
	})
	return id
}

// writeFree carries out a transaction of an application, unless it has to wait for rows that another one has locked.
func (s *Server) writeFree(changes []Change) cdc.TxID {
	if slices.ContainsFunc(changes, s.locked) {
		return cdc.TxID{}
	}
	return s.write(cdc.TxID{}, "", s.now(), changes)
}

func (s *Server) hide(e *entry) { s.hidden = append(s.hidden, &hidden{entry: e, steps: e.steps}) }

// reveal ends the wait of a transaction.
func (s *Server) reveal(h *hidden) {
	h.waits = false
	if !s.cluster.gtids() {
		s.hidden = slices.DeleteFunc(s.hidden, func(o *hidden) bool { return o == h })
		return
	}
	for len(s.hidden) > 0 && !s.hidden[0].waits {
		s.hidden = s.hidden[1:]
	}
}

// locked reports whether a change is of rows that readers do not see as they are.
func (s *Server) locked(c Change) bool {
	for _, h := range s.hidden {
		for _, l := range h.steps {
			if l.table == c.Table && (c.Truncate || l.op == cdc.Truncate || l.key == c.Key || c.From != 0 && l.key == c.From) {
				return true
			}
		}
	}
	return false
}

// lockedAny is locked of what an author has logged.
func (s *Server) lockedAny(changes []logged) bool {
	return slices.ContainsFunc(changes, func(l logged) bool {
		return s.locked(Change{Table: l.table, Key: l.key, Truncate: l.op == cdc.Truncate})
	})
}

// visibleRows copies a table as readers see it.
func (s *Server) visibleRows(t *table) map[int]Row {
	rows := maps.Clone(t.rows)
	for _, h := range slices.Backward(s.hidden) {
		for _, l := range slices.Backward(h.steps) {
			switch {
			case l.table != t.name:
			case l.before == nil:
				delete(rows, l.key)
			default:
				rows[l.key] = l.before
			}
		}
	}
	return rows
}

// visible is all transactions that readers see, or that the server has passed over.
func (s *Server) visible() cdc.TxSet {
	if len(s.hidden) > 0 && !s.cluster.gtids() {
		return cdc.Everything(s.hidden[0].entry.commit - 1)
	}
	var unseen cdc.TxSet
	for _, h := range s.hidden {
		// A number of MariaDB's says all before it: one that is hidden hides no number before its own.
		unseen.AddRange(h.entry.id.Source, h.entry.id.Seq, h.entry.id.Seq)
	}
	return s.passedOver(s.everything().Without(unseen))
}

// counted is what the server says that it has, or has passed over. MySQL counts a transaction once it is visible.
func (s *Server) counted() cdc.TxSet {
	if s.cluster.Engine == MySQL {
		return s.visible()
	}
	return s.passedOver(s.everything())
}

// passedOver adds to a set what the position of MariaDB's replication names: also what the server skipped, and what came from
// the server itself, which it does not replay.
func (s *Server) passedOver(set cdc.TxSet) cdc.TxSet {
	if s.slavePosition.Seq > 0 {
		set.Add(s.slavePosition)
	}
	return set
}

var errUnseen = errors.New("transactions that the log has are not visible to readers after 1m0s: they may wait for a synchronous replica")

// awaitVisible waits until readers see all that ends at or before a place in the log.
func (s *Server) awaitVisible(ctx context.Context, through cdc.LSN) error {
	deadline := time.Now().Add(time.Minute)
	for slices.ContainsFunc(s.hidden, func(h *hidden) bool { return h.entry.end <= through }) {
		left := time.Until(deadline)
		if left <= 0 {
			return errUnseen
		}
		if err := s.await(ctx, left); err != nil {
			return err
		}
	}
	return nil
}
