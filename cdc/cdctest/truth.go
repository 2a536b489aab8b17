package cdctest

import (
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Difference says what a member has otherwise than it must.
type Difference struct {
	Expected, Actual Row // nil: no row
}

// Differences returns, by key, which rows of a table a member has otherwise than it must, in the columns of the reference
// that are not excluded. What a member must have is, row by row, what the reference had before the first change that the
// member has yet to replay, or if there is none what the reference has. known is false where that cannot be said: nothing
// brings the table from the reference to the member, or one of them lacks it or a column of it.
func (s *Server) Differences(ref *Server, name string, excluded []string) (differ map[int]Difference, known bool) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	mine, theirs := s.tables[name], ref.tables[name]
	replayed, routed := s.replayedOf(ref, name)
	if mine == nil || theirs == nil || !routed {
		return nil, false
	}
	var columns []digest.Column
	for _, c := range theirs.columns {
		if slices.Contains(excluded, c.Name) {
			continue
		}
		at := mine.column(c.Name)
		if at < 0 || !c.Comparable(mine.columns[at]) {
			return nil, false
		}
		columns = append(columns, c)
	}
	differ, coming := make(map[int]Difference), s.before(ref, name)
	check := func(key int) {
		if coming[key] {
			return
		}
		if want, have := ref.valueFor(name, key, replayed), mine.rows[key]; !want.same(have, columns) {
			differ[key] = Difference{want.only(columns), have.only(columns)}
		}
	}
	for key := range mine.rows {
		check(key)
	}
	for at := range ref.history {
		if at.table == name && mine.rows[at.key] == nil {
			check(at.key)
		}
	}
	return differ, true
}

// Before lists the keys of rows that the server has changed, and that a reference, a replica itself, has yet to replay: whether they
// differ is not known until it has.
func (s *Server) Before(ref *Server, table string) map[int]bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.before(ref, table)
}

// before lists the keys of rows that the server has changed, and that a reference has yet to replay from the one that it follows:
// that it has not is no difference.
func (s *Server) before(ref *Server, table string) map[int]bool {
	keys := make(map[int]bool)
	if !ref.replicates() {
		return keys
	}
	past := ref.passed(ref.follows)
	for _, e := range ref.follows.log {
		if e.id.Seq == 0 || past(e.id, e.end) || ref.executed.Contains(e.id) || !s.executed.Contains(e.id) {
			continue
		}
		for _, l := range e.changes {
			if l.table == table {
				keys[l.key], keys[l.from] = true, true
			}
		}
	}
	return keys
}

// Strayed reports whether the position of a server of MariaDB's is one that the server that it follows does not have: by numbers it has
// replayed what it lacks, and what comes to it once somebody has mended that is not known.
func (s *Server) Strayed() bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.replicates() && s.strayed(s.follows)
}

// replayedOf returns which of the reference's transactions a server has gone through, of what concerns a table, and
// whether anything brings the table from there.
func (s *Server) replayedOf(ref *Server, table string) (func(step) bool, bool) {
	if s == ref {
		return func(step) bool { return true }, true
	}
	if s.cluster.gtids() {
		past := s.passed(ref)
		return func(st step) bool {
			return st.id.Seq == 0 || past(st.id, st.end) || s.executed.Contains(st.id) || !s.gets(ref, st.id)
		}, true
	}
	var from *Subscription
	for _, sub := range s.subscriptions {
		hold, carries := sub.tables[table]
		if !carries {
			continue
		}
		if from != nil || sub.author != ref || hold != "" {
			return nil, false
		}
		from = sub
	}
	if from == nil || ref.slots[from.Slot] == nil {
		return nil, false
	}
	at := from.passed()
	return func(st step) bool { return st.id.Seq == 0 || st.end <= at }, true
}

// Replicates reports whether a reference is a replica itself.
func (s *Server) Replicates() bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.replicates()
}

// replicates reports whether the server gets what others write: it follows one, and was not promoted since, whereupon its replication stands
// still and others follow it.
func (s *Server) replicates() bool {
	followed := slices.ContainsFunc(s.cluster.servers, func(o *Server) bool { return o.follows == s })
	return s.follows != nil && !(s.stopped && followed)
}

// source is the server from which one gets what others write; nil: there is none. What is left over from before the server was promoted brings
// nothing: it stands still, and whom it followed gets by now what this one writes.
func (s *Server) source() *Server {
	if !s.stopped {
		return s.follows
	}
	seen := make(map[*Server]bool)
	for up := s.follows; up != nil && !up.stopped && !seen[up]; up = up.follows {
		if seen[up] = true; up.follows == s {
			return nil
		}
	}
	return s.follows
}

// gets reports whether a transaction of a reference that the server lacks comes to it: what it wrote itself and lacks was lost by a reset. Where the reference is a replica itself, what it wrote comes to
// those only that replicate from it.
func (s *Server) gets(ref *Server, id cdc.TxID) bool {
	if !ref.replicates() {
		return true
	}
	seen := map[*Server]bool{s: true}
	for up := s.source(); up != nil && !seen[up]; up = up.source() {
		if seen[up] = true; up == ref || id.Author() == up.id() {
			return true
		}
	}
	return false
}

// Namesake reports whether a subscription that brings a table follows another server than the reference, which has a slot of
// the same name: a subscription's slot is all that its own server says of where it leads to.
func (s *Server) Namesake(ref *Server, table string) bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, sub := range s.subscriptions {
		if _, carries := sub.tables[table]; carries && sub.author != ref && ref.slots[sub.Slot] != nil {
			return true
		}
	}
	return false
}

// valueFor is what a row must be for who has gone through some transactions.
func (s *Server) valueFor(table string, key int, through func(step) bool) Row {
	steps := s.history[rowAt{table, key}]
	for _, st := range steps {
		if !through(st) {
			return st.before
		}
	}
	if t := s.tables[table]; t != nil {
		return t.rows[key]
	}
	return nil
}

// record notes which rows a transaction changed.
func (s *Server) record(e *entry) {
	for _, l := range e.steps {
		at := rowAt{l.table, l.key}
		if s.touched[at] == nil {
			s.touched[at] = make(map[string]bool)
		}
		s.touched[at][e.id.String()], s.touched[at][e.end.String()] = true, true
	}
}

// Touched reports whether a transaction, named by its id or by its end in the server's log, ever changed a row on the server.
func (s *Server) Touched(tx, table string, key int) bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.touched[rowAt{table, key}][tx]
}

// InFlight returns how many transactions of the reference a member has yet to go through that change a table, and when
// the first of them was written.
func (s *Server) InFlight(ref *Server, table string) (n int, first time.Time) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	through, routed := s.replayedOf(ref, table)
	if !routed {
		return 0, first
	}
	for _, e := range ref.log {
		if slices.ContainsFunc(e.changes, func(l logged) bool { return l.table == table }) && !through(step{id: e.id, end: e.end}) {
			if n++; n == 1 {
				first = e.written
			}
		}
	}
	return n, first
}

// Executed returns the GTIDs that the server has; of PostgreSQL none.
func (s *Server) Executed() cdc.TxSet {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.executed.Clone()
}

// End returns where the log ends.
func (s *Server) End() cdc.LSN {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.end
}
