package cdctest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Change is what a transaction does to a row of a server.
type Change struct {
	Table    string
	Key      int
	From     int // the key that the row moves from; 0: it does not move
	Delete   bool
	Truncate bool
	// Set are the values that the row gets; those of other columns stay. As a replay it is the whole row of the author.
	Set Row
	// known are the columns of the author, if this is a replay: what Set lacks of them becomes NULL.
	known []digest.Column
}

// Put sets values of a row, which is made if it does not exist.
func Put(table string, key int, set Row) Change { return Change{Table: table, Key: key, Set: set} }

// Delete deletes a row.
func Delete(table string, key int) Change { return Change{Table: table, Key: key, Delete: true} }

// Move gives a row another key, and sets values of it.
func Move(table string, from, to int, set Row) Change {
	return Change{Table: table, Key: to, From: from, Set: set}
}

// Truncate deletes all rows.
func Truncate(table string) Change { return Change{Table: table, Truncate: true} }

// Write carries out a transaction of an application on the server and returns its id; the zero id if it did nothing, or
// would have to wait for rows that a hidden one has changed. An empty transaction is one of GTID engines that has an id and
// changes nothing.
func (s *Server) Write(changes ...Change) (id cdc.TxID) {
	s.do(func() { id = s.writeFree(changes) })
	return id
}

// Silently changes rows without a trace in the log, but for those that a hidden transaction has changed.
func (s *Server) Silently(changes ...Change) {
	s.do(func() {
		for _, c := range changes {
			if s.locked(c) {
				continue
			}
			for _, l := range s.apply(c) {
				s.note(l.table, l.key, step{end: s.end, before: l.before, after: l.after})
			}
		}
	})
}

// Noise moves the log on by what concerns nobody.
func (s *Server) Noise() { s.do(func() { s.end += 8 }) }

func (s *Server) now() time.Time { return time.Now().Add(s.skew) }

// Skew sets by how much the server's clock is off.
func (s *Server) Skew(d time.Duration) { s.do(func() { s.skew = d }) }

// write carries out changes and logs what they really did. A transaction that is written here first has neither id nor
// lane.
func (s *Server) write(id cdc.TxID, lane string, at time.Time, changes []Change) cdc.TxID {
	s.cluster.written++
	e := &entry{id: id, lane: lane, commit: s.end + 8, end: s.end + 16, time: at, written: time.Now(), serial: s.cluster.written}
	for _, c := range changes {
		e.steps = append(e.steps, s.apply(c)...)
	}
	own := lane == ""
	if own && len(e.steps) == 0 && (!s.cluster.gtids() || len(changes) > 0) {
		return cdc.TxID{}
	}
	if own {
		e.id = s.newID(e.end)
	}
	if s.cluster.gtids() {
		e.lane = cdc.GTIDLane
		if s.unlogged && own {
			e.id = cdc.TxID{} // sql_log_bin = 0 and a server without a binlog give no id
		} else {
			s.execute(e.id)
		}
	}
	s.record(e)
	for _, l := range e.steps {
		st := step{id: e.id, end: e.end, before: l.before, after: l.after}
		if s.unlogged {
			st.id = cdc.TxID{}
			if own {
				s.untold = append(s.untold, RowName{l.table, l.key})
			}
		}
		s.note(l.table, l.key, st)
		if t := s.tables[l.table]; t.problem == "" {
			e.changes = append(e.changes, l)
		}
	}
	if s.unlogged {
		s.unshown = s.unshown || !own
		return e.id
	}
	s.end = e.end
	s.log = append(s.log, e)
	if s.cluster.Engine == MariaDB {
		s.logged.Pass(cdc.Event{Through: e.id})
	}
	if s.cluster.gtids() && len(s.hidden) > 0 {
		s.hide(e)
	}
	return e.id
}

// newID names a transaction that is written on the server first.
func (s *Server) newID(end cdc.LSN) cdc.TxID {
	s.seq++
	switch s.cluster.Engine {
	case MariaDB:
		return cdc.MariaDBTxID(0, uint32(s.number), s.nextInDomain())
	case MySQL:
		id := cdc.TxID{Source: s.uuid(), Seq: s.seq}
		for s.executed.Contains(id) { // as a dump said that was loaded
			id.Seq++
		}
		s.seq = id.Seq
		return id
	}
	return cdc.TxID{Seq: uint64(end)}
}

// nextInDomain is the number after the highest that the server knows of the domain, whoever gave it.
func (s *Server) nextInDomain() uint64 {
	next := s.slavePosition.Seq + 1
	for _, e := range s.log {
		next = max(next, e.id.Seq+1)
	}
	return max(next, s.seq)
}

func (s *Server) uuid() string {
	return fmt.Sprintf("00000000-0000-0000-0000-%012d", s.number)
}

// id is what the ids of transactions that were first written on the server say of it.
func (s *Server) id() string {
	if s.cluster.Engine == MySQL {
		return s.uuid()
	}
	return fmt.Sprint(s.number)
}

func (s *Server) execute(id cdc.TxID) {
	s.executed.Add(id)
	if s.cluster.Engine == MariaDB {
		s.newest = id
	}
	s.seq = max(s.seq, ownSeq(s, id))
}

func ownSeq(s *Server, id cdc.TxID) uint64 {
	if s.cluster.Engine == MySQL && id.Source != s.uuid() {
		return 0
	}
	return id.Seq
}

// note keeps what became of a row.
func (s *Server) note(table string, key int, st step) {
	at := rowAt{table, key}
	s.history[at] = append(s.history[at], st)
}

// apply carries out one change and returns what it really did, row by row.
func (s *Server) apply(c Change) []logged {
	t := s.tables[c.Table]
	if t == nil {
		return nil
	}
	columns := slices.Clone(t.columns)
	if c.Truncate {
		var all []logged
		for _, key := range slices.Sorted(maps.Keys(t.rows)) {
			all = append(all, logged{table: c.Table, columns: columns, op: cdc.Truncate, key: key, before: t.rows[key]})
		}
		clear(t.rows)
		if len(all) == 0 { // it is in the log all the same
			all = []logged{{table: c.Table, columns: columns, op: cdc.Truncate}}
		}
		return all
	}
	now := t.rows[c.Key]
	if c.Delete {
		if now == nil {
			return nil
		}
		delete(t.rows, c.Key)
		return []logged{{table: c.Table, columns: columns, op: cdc.Delete, key: c.Key, before: now}}
	}
	if c.From == 0 || c.From == c.Key {
		after := t.merged(now, c)
		if now != nil && s.cluster.gtids() && maps.Equal(now, after) {
			return nil // the log has what changed, not what was asked for
		}
		t.rows[c.Key] = after
		op := cdc.Update
		if now == nil {
			op = cdc.Insert
		}
		return []logged{{table: c.Table, columns: columns, op: op, key: c.Key, before: now, after: after}}
	}
	was := t.rows[c.From]
	if was == nil || now != nil { // no server moves a row to where one is
		return nil
	}
	after := t.merged(was, c)
	delete(t.rows, c.From)
	t.rows[c.Key] = after
	return []logged{
		{table: c.Table, columns: columns, op: cdc.Delete, key: c.From, before: was, after: nil, from: -1},
		{table: c.Table, columns: columns, op: cdc.Update, key: c.Key, from: c.From, before: nil, after: after},
	}
}

// merged is a row after a change of it.
func (t *table) merged(row Row, c Change) Row {
	after := Row{}
	for name, v := range row {
		if !slices.ContainsFunc(c.known, func(k digest.Column) bool { return k.Name == name }) {
			after[name] = v
		}
	}
	for name, v := range c.Set {
		if t.column(name) >= 0 && name != keyColumn {
			after[name] = v
		}
	}
	return after
}
