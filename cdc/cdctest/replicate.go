package cdctest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Subscription is a way by which a PostgreSQL server replays what another one writes.
type Subscription struct {
	Lane, Slot string
	author     *Server
	tables     map[string]string // to why it is not comparable yet
	position   cdc.LSN           // of the last that it replayed, in the author's log; what it has passed over only the slot tells
	enabled    bool
	problem    string
}

// Subscribe makes the server replay tables of a PostgreSQL author from now on, and returns the lane.
func (s *Server) Subscribe(author *Server, slotName string, tables ...string) string {
	lane := ""
	s.do(func() {
		lane = fmt.Sprintf("pg_%d", s.cluster.next)
		s.cluster.next++
		sub := &Subscription{Lane: lane, Slot: slotName, author: author, tables: make(map[string]string), position: author.end, enabled: true}
		for _, name := range tables {
			sub.tables[name] = ""
		}
		s.subscriptions[lane] = sub
		author.slots[slotName] = &slot{confirmed: author.end}
		author.wake()
	})
	return lane
}

// Unsubscribe ends a subscription.
func (s *Server) Unsubscribe(lane string) {
	s.do(func() {
		if sub := s.subscriptions[lane]; sub != nil {
			delete(sub.author.slots, sub.Slot)
			delete(s.subscriptions, lane)
		}
	})
}

// Carry says that a subscription replicates a table, for a reason that it cannot be compared yet (empty: it can), or with
// carries false that it does not.
func (s *Server) Carry(lane, table string, carries bool, hold string) {
	s.do(func() {
		sub := s.subscriptions[lane]
		switch {
		case sub == nil:
		case carries:
			sub.tables[table] = hold
		default:
			delete(sub.tables, table)
		}
	})
}

// Enable pauses replication by a lane, or lets it go on.
func (s *Server) Enable(lane string, enabled bool) {
	s.do(func() {
		if sub := s.subscriptions[lane]; sub != nil {
			sub.enabled = enabled
		}
		s.stopped = s.cluster.gtids() && !enabled
	})
}

// Lanes returns by which lanes the server replays what others write, in order.
func (s *Server) Lanes() []string {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.lanes()
}

func (s *Server) lanes() []string {
	if !s.cluster.gtids() {
		return slices.Sorted(maps.Keys(s.subscriptions))
	}
	if s.follows == nil {
		return nil
	}
	return []string{cdc.GTIDLane}
}

// Follow makes a server of MySQL or MariaDB replicate from another one, or from none.
func (s *Server) Follow(author *Server) {
	s.do(func() { s.follows, s.problem, s.stopped, s.slavePosition = author, "", false, s.newest })
}

// Follows returns from which server this one replicates; nil: from none.
func (s *Server) Follows() *Server {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.follows
}

// Fault is how a replay goes.
type Fault uint8

// The ways in which replays go.
const (
	Rightly Fault = iota
	Skipped       // the transaction is passed over
	Short         // its first change is left out
	Long          // one more row is changed
	Altered       // its last change gets other values
	Twice         // it is applied twice
)

// Replay lets a lane go through the next transaction of its author, which may be another than the first of a few on
// MySQL. It returns the rows that came to be wrong by it, and false if there was nothing to replay.
func (s *Server) Replay(lane string, f Fault, random *rand.Rand) bool {
	return s.doIf(func() bool {
		if s.cluster.gtids() {
			return s.replayGTID(f, random)
		}
		sub := s.subscriptions[lane]
		return sub != nil && s.replaySubscription(sub, f, random)
	})
}

func (s *Server) replaySubscription(sub *Subscription, f Fault, random *rand.Rand) bool {
	sl := sub.author.slots[sub.Slot]
	if !sub.enabled || sl == nil {
		return false
	}
	if next := sub.author.after(sub.passed()); len(next) > 0 {
		e := next[0]
		if e.lane == sub.Lane {
			return false
		}
		mine := sub.mine(e)
		if s.lockedAny(mine) {
			return false
		}
		if problem := s.lacks(mine); problem != "" {
			sub.problem = problem
			return false
		}
		sl.confirmed, sub.problem = e.end, ""
		if len(mine) > 0 {
			sub.position = e.end
			s.replay(cdc.TxID{Seq: uint64(e.end)}, sub.Lane, e, mine, f, random)
		}
		return true
	}
	if sub.author.end > sub.passed() {
		sl.confirmed = sub.author.end
		return true
	}
	return false
}

// passed is up to where the author's log is not sent again: what was replayed, and what was confirmed.
func (sub *Subscription) passed() cdc.LSN {
	if sl := sub.author.slots[sub.Slot]; sl != nil {
		return max(sub.position, sl.confirmed)
	}
	return sub.position
}

// mine are the changes of an author's transaction that the subscription replicates.
func (sub *Subscription) mine(e *entry) []logged {
	var mine []logged
	for _, l := range e.changes {
		if hold, carries := sub.tables[l.table]; carries && hold == "" {
			mine = append(mine, l)
		}
	}
	return mine
}

// lacks says which column keeps changes from being applied, as PostgreSQL's apply worker does.
func (s *Server) lacks(changes []logged) string {
	for _, l := range changes {
		t := s.tables[l.table]
		if t == nil {
			return fmt.Sprintf("logical replication target relation %q does not exist", l.table)
		}
		for _, c := range l.columns {
			if t.column(c.Name) < 0 {
				return fmt.Sprintf("logical replication target relation %q is missing replicated column: %q", l.table, c.Name)
			}
		}
	}
	return ""
}

func (s *Server) replayGTID(f Fault, random *rand.Rand) bool {
	a := s.follows
	if a == nil || s.stopped {
		return false
	}
	var open []*entry
	for _, e := range s.ahead(a) {
		conflict := slices.ContainsFunc(open, func(o *entry) bool { return touchSame(o, e) })
		if len(open) > 0 && (s.cluster.Engine != MySQL || conflict) {
			break
		}
		if open = append(open, e); len(open) == 3 {
			break
		}
	}
	if s.cluster.Engine == MySQL && !a.beforeLog().Without(s.executed).IsZero() || a.lost(s.slavePosition) {
		s.problem = "Cannot replicate because the source purged required binary logs"
		return false
	}
	if s.strayed(a) {
		s.problem = "connecting slave requested to start from a GTID which is not in the master's binlog"
		return false
	}
	if len(open) == 0 {
		return false
	}
	s.problem = ""
	e := open[random.IntN(len(open))]
	if s.lockedAny(e.changes) {
		return false
	}
	s.replay(e.id, cdc.GTIDLane, e, e.changes, f, random)
	return true
}

// after is the log after a place.
func (s *Server) after(at cdc.LSN) []*entry {
	i, _ := slices.BinarySearchFunc(s.log, at+1, func(e *entry, at cdc.LSN) int { return cmp.Compare(e.end, at) })
	return s.log[i:]
}

// ahead are the next few transactions of an author's log that the server has not gone through.
func (s *Server) ahead(a *Server) (list []*entry) {
	past := s.passed(a)
	for _, e := range a.log {
		if e.id.Seq != 0 && !past(e.id, e.end) {
			if list = append(list, e); len(list) == 4 {
				break
			}
		}
	}
	return list
}

// passed returns what says of a transaction of an author's log whether the server need not replay it. MySQL goes by the set of what was
// executed; MariaDB goes on behind the last one of the domain that was replayed, whatever is before it.
func (s *Server) passed(a *Server) func(cdc.TxID, cdc.LSN) bool {
	if s.cluster.Engine != MariaDB {
		return func(id cdc.TxID, _ cdc.LSN) bool { return s.executed.Contains(id) }
	}
	last := slices.IndexFunc(a.log, func(e *entry) bool { return e.id == s.slavePosition })
	for i := len(a.log) - 1; last < 0 && i >= 0; i-- { // it strayed: the last that both have is where they part
		if id := a.log[i].id; id.Seq != 0 && s.executed.Contains(id) {
			last = i
		}
	}
	if last < 0 {
		return func(id cdc.TxID, _ cdc.LSN) bool { return id.Seq <= s.slavePosition.Seq }
	}
	at := a.log[last].end
	return func(_ cdc.TxID, end cdc.LSN) bool { return end <= at }
}

// strayed reports whether a server of MariaDB's is behind a transaction that the author does not have.
func (s *Server) strayed(a *Server) bool {
	at := s.slavePosition
	return s.cluster.Engine == MariaDB && at.Seq > a.purgedSeq && !slices.ContainsFunc(a.log, func(e *entry) bool { return e.id == at })
}

// lost reports whether the log does not go on behind a transaction any more.
func (s *Server) lost(after cdc.TxID) bool {
	if s.cluster.Engine != MariaDB || s.purged == 0 {
		return false
	}
	return after.Seq < s.purgedSeq
}

// beforeLog are the transactions that were purged from the log.
func (s *Server) beforeLog() cdc.TxSet {
	var kept cdc.TxSet
	for _, e := range s.log {
		if e.id.Seq > 0 {
			kept.AddRange(e.id.Source, e.id.Seq, e.id.Seq)
		}
	}
	return s.executed.Without(kept)
}

func touchSame(a, b *entry) bool {
	for _, x := range a.changes {
		for _, y := range b.changes {
			if x.table == y.table && (x.key == y.key || x.from == y.key && y.key > 0 || x.key == y.from && x.key > 0 || x.op == cdc.Truncate || y.op == cdc.Truncate) {
				return true
			}
		}
	}
	return false
}

// replay applies changes of an author's transaction.
func (s *Server) replay(id cdc.TxID, lane string, e *entry, mine []logged, f Fault, random *rand.Rand) {
	if s.cluster.Engine == MariaDB {
		if s.slavePosition = id; id.Source == fmt.Sprintf("0-%d", s.number) {
			return // it came from here
		}
	}
	changes := s.replayed(mine)
	switch f {
	case Skipped:
		if s.cluster.gtids() {
			s.execute(id)
			if s.cluster.Engine == MySQL { // an empty transaction is in the log
				s.write(id, lane, e.time, nil)
			}
		}
		s.cluster.tell(s, "skips %v", id)
		return
	case Short:
		if len(changes) > 0 {
			changes = changes[1:]
		}
	case Long:
		if len(mine) > 0 {
			if more := Put(mine[0].table, 1+random.IntN(30), Row{"v": 900_000 + random.IntN(90_000)}); !s.locked(more) {
				changes = append(changes, more)
			}
		}
	case Altered:
		if n := len(changes); n > 0 && !changes[n-1].Delete && !changes[n-1].Truncate {
			set := changes[n-1].Set.clone()
			if set == nil {
				set = Row{}
			}
			set["v"] = 800_000 + random.IntN(90_000)
			changes[n-1].Set = set
		}
	case Twice:
		changes = append(changes, s.replayed(mine)...)
	}
	s.cluster.tell(s, "replays %v by %s", id, lane)
	s.write(id, lane, e.time, changes)
}

// replayed makes of what an author logged what a follower does.
func (s *Server) replayed(mine []logged) []Change {
	var changes []Change
	truncating := ""
	for _, l := range mine {
		if l.op == cdc.Truncate {
			if truncating != l.table {
				changes = append(changes, Truncate(l.table))
			}
			truncating = l.table
			continue
		}
		truncating = ""
		if l.from < 0 {
			continue // the row moves; the next one says where to
		}
		if l.op == cdc.Delete {
			changes = append(changes, Delete(l.table, l.key))
			continue
		}
		known, set := l.columns, l.after
		if s.cluster.Engine == Postgres && l.before != nil {
			known = slices.DeleteFunc(slices.Clone(l.columns), func(c digest.Column) bool { return leftOut(c, l.before, l.after) })
			set = l.after.only(known)
		}
		if l.op == cdc.Update && l.from == 0 && s.missing(l, changes) {
			continue // an update of a row that is not there does nothing
		}
		changes = append(changes, Change{Table: l.table, Key: l.key, From: l.from, Set: set, known: known})
	}
	return changes
}

// missing reports whether the row of an update is not there, after the changes before it.
func (s *Server) missing(l logged, before []Change) bool {
	t := s.tables[l.table]
	there := t != nil && t.rows[l.key] != nil
	for _, c := range before {
		switch {
		case c.Table != l.table:
		case c.Truncate, c.Delete && c.Key == l.key, c.From == l.key:
			there = false
		case c.Key == l.key:
			there = true
		}
	}
	return !there
}

// leftOut reports whether an update leaves a column out because its value did not change.
func leftOut(c digest.Column, before, after Row) bool {
	was, had := before[c.Name]
	v, has := after[c.Name]
	return c.Wide && had && has && was == v
}

// Carries reports whether a subscription replicates a table.
func (s *Server) Carries(lane, table string) bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	sub := s.subscriptions[lane]
	if sub == nil {
		return false
	}
	_, carries := sub.tables[table]
	return carries
}

// Disabled reports whether somebody has stopped a lane of the server by which something comes.
func (s *Server) Disabled() bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, sub := range s.subscriptions {
		if !sub.enabled {
			return true
		}
	}
	return s.stopped && s.source() != nil
}

// Stuck says what keeps replication from going on, now or once it has come to it, until somebody seeds or connects the server
// anew; empty: nothing does.
func (s *Server) Stuck() string {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.cluster.gtids() {
		return s.problem
	}
	for _, lane := range s.lanes() {
		sub := s.subscriptions[lane]
		for _, e := range sub.author.after(sub.passed()) {
			if problem := s.lacks(sub.mine(e)); problem != "" && e.lane != lane {
				return problem
			}
		}
	}
	return ""
}
