package cdctest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// lockstepSlot is the slot by which a PostgreSQL server keeps its log for lockstep.
const lockstepSlot = "lockstep"

// Source is what lockstep sees of a server. It implements [cdc.Source] and [cdc.Member].
type Source struct {
	server *Server
	hasher *digest.Hasher
	// ScanOnly says that the log is not read: what the member says of its progress is proven by nothing. It is to be set
	// before the source is used.
	ScanOnly bool
	// What follows is guarded by the cluster's lock.
	epochs  map[string]registered // by table
	history int                   // of the log that the stream shows
	shown   cdc.LSN               // by this source's stream
	open    bool
	began   bool // its stream has: rows are read in views that show all that it has shown
	dead    bool // its process was killed: nothing that it does reaches the server any more
}

// Kill is what the end of lockstep's process looks like to the server.
func (x *Source) Kill() {
	defer x.lock()()
	x.dead = true
	x.server.wake()
}

// gate is how a question fares on its way to the server.
func (x *Source) gate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := x.server.gate(ctx); err != nil {
		return err
	}
	if x.dead {
		return errKilled
	}
	return nil
}

// registered is a definition that lockstep was told how to decode.
type registered struct {
	table cdc.Table
	epoch cdc.Epoch
	coder *coder // nil: the epoch has no columns yet
}

// Source opens the server for lockstep, whose digests are made by h.
func (s *Server) Source(h *digest.Hasher) *Source {
	return &Source{server: s, hasher: h, epochs: make(map[string]registered)}
}

func (x *Source) lock() func() {
	x.server.cluster.mu.Lock()
	return x.server.cluster.mu.Unlock
}

// Server implements [cdc.Reader].
func (x *Source) Server(ctx context.Context) (cdc.Server, error) {
	defer x.lock()()
	s := x.server
	if err := x.gate(ctx); err != nil {
		return cdc.Server{}, err
	}
	server := cdc.Server{SystemID: s.systemID, Version: "0 (" + string(s.cluster.Engine) + ")"}
	if !s.cluster.gtids() {
		server.Timeline, server.Database = s.timeline, "app"
	}
	return server, nil
}

// Light implements [cdc.Beacons].
func (x *Source) Light(ctx context.Context, b cdc.Beacon) (quench func(context.Context) error, err error) {
	defer x.lock()()
	if err := x.gate(ctx); err != nil {
		return nil, err
	}
	x.server.beacons[b] = x.server.connection
	return func(ctx context.Context) error {
		defer x.lock()()
		err := x.gate(ctx)
		if err == nil && !x.server.burns(b) {
			err = cdc.ErrQuenched
		}
		delete(x.server.beacons, b) // with its connection, if by nothing else
		return err
	}, nil
}

// Sees implements [cdc.Beacons].
func (x *Source) Sees(ctx context.Context, b cdc.Beacon) (bool, error) {
	defer x.lock()()
	if err := x.gate(ctx); err != nil {
		return false, err
	}
	return x.server.burns(b), nil
}

func (s *Server) burns(b cdc.Beacon) bool {
	connection, lit := s.beacons[b]
	return lit && connection == s.connection
}

// Tables implements [cdc.Reader].
func (x *Source) Tables(ctx context.Context, match func(string) bool) ([]cdc.Table, error) {
	defer x.lock()()
	s := x.server
	if err := x.gate(ctx); err != nil {
		return nil, err
	}
	if s.faults.Catalog {
		return nil, errDenied
	}
	var list []cdc.Table
	for _, name := range slices.Sorted(maps.Keys(s.tables)) {
		if match(name) && !s.faults.Withhold {
			list = append(list, s.definition(s.tables[name]))
		}
	}
	return list, nil
}

// Gone implements [cdc.Source].
func (x *Source) Gone(ctx context.Context, names []string) (gone []string, doubt string, err error) {
	defer x.lock()()
	s := x.server
	switch err := x.gate(ctx); {
	case err != nil:
		return nil, "", err
	case s.faults.Catalog:
		return nil, "", errDenied
	case s.faults.Withhold:
		return nil, "GRANT SELECT", nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return s.tables[name] != nil }), "", nil
}

// Progress implements [cdc.Reader].
func (x *Source) Progress(ctx context.Context) (cdc.Progress, error) {
	defer x.lock()()
	s := x.server
	if err := x.gate(ctx); err != nil {
		return cdc.Progress{}, err
	}
	if s.faults.Progress {
		return cdc.Progress{}, errDenied
	}
	if x.open && x.history != s.history0 {
		return cdc.Progress{}, &cdc.GapError{Reason: "the log went back while it was read"}
	}
	if s.unlogged && !x.ScanOnly {
		return cdc.Progress{}, errLogOff // what it has replayed is not in the log
	}
	p := cdc.Progress{Barrier: s.end, End: s.end, Applied: make(map[string]cdc.TxSet)}
	if x.ScanOnly {
		p.Barrier, p.End = 0, 0
	}
	if s.cluster.gtids() {
		p.Applied[cdc.GTIDLane] = s.counted()
		if s.cluster.Engine == MariaDB && s.slavePosition.Seq > 0 {
			p.Position.Add(s.slavePosition)
		}
		if x.ScanOnly {
			p.Applied[cdc.GTIDLane] = s.visible()
		}
		p.Self = s.id()
		ln := cdc.Lane{Name: cdc.GTIDLane, Title: "replication", Tables: make(map[string]string)}
		if s.follows != nil {
			p.Follows = []string{s.follows.id()}
			ln.Slot, ln.Enabled, ln.Problem = s.follows.id(), !s.stopped, s.problem
		} else {
			ln.Problem = "it replicates from nobody"
		}
		for name := range s.tables {
			ln.Tables[name] = ""
		}
		p.Lanes = append(p.Lanes, ln)
		return p, nil
	}
	for _, name := range s.lanes() {
		sub := s.subscriptions[name]
		p.Applied[name] = cdc.Everything(sub.position)
		p.Lanes = append(p.Lanes, cdc.Lane{
			Name: name, Title: fmt.Sprintf("subscription %q", name), Slot: sub.Slot, Enabled: sub.enabled,
			Problem: sub.problem, Tables: cloneMap(sub.tables),
		})
	}
	return p, nil
}

// Confirmed implements [cdc.Source].
func (x *Source) Confirmed(ctx context.Context) (map[string]cdc.TxSet, error) {
	defer x.lock()()
	s := x.server
	if err := x.gate(ctx); err != nil {
		return nil, err
	}
	if s.cluster.gtids() {
		return map[string]cdc.TxSet{s.id(): {}}, nil
	}
	confirmed := make(map[string]cdc.TxSet)
	for name, sl := range s.slots {
		confirmed[name] = cdc.Everything(max(sl.confirmed, sl.start))
	}
	return confirmed, nil
}

// Written implements [cdc.Member].
func (x *Source) Written(ctx context.Context) (cdc.TxSet, error) {
	defer x.lock()()
	if err := x.gate(ctx); err != nil {
		return cdc.TxSet{}, err
	}
	return x.server.counted(), nil
}

// Visible implements [cdc.Member].
func (x *Source) Visible(ctx context.Context) (cdc.TxSet, error) {
	defer x.lock()()
	if err := x.gate(ctx); err != nil {
		return cdc.TxSet{}, err
	}
	return x.server.visible(), nil
}

// everything is all transactions that the log has had. MySQL's counts those that it does not have, too.
func (s *Server) everything() cdc.TxSet {
	switch s.cluster.Engine {
	case MySQL:
		return s.executed.Clone()
	case MariaDB:
		return s.logged.Shown.Clone()
	}
	return cdc.Everything(s.end)
}

// Prepare implements [cdc.Source].
func (x *Source) Prepare(ctx context.Context, from cdc.Position) (cdc.Position, error) {
	defer x.lock()()
	s := x.server
	if err := x.gate(ctx); err != nil {
		return cdc.Position{}, err
	}
	if s.unlogged {
		s.seenOff = true
		return cdc.Position{}, errLogOff
	}
	sl := s.slots[lockstepSlot]
	if from.LSN == 0 {
		s.slots[lockstepSlot] = &slot{start: s.end}
		s.shown = max(s.shown, s.end)
		start := cdc.Position{LSN: s.end, Shown: s.everything(), Last: s.logged.Last.Clone(), Mark: s.mark(s.end)}
		x.history, x.shown, x.open = s.history0, s.end, true
		return start, nil
	}
	switch {
	case sl == nil:
		return cdc.Position{}, &cdc.GapError{Reason: `slot "lockstep" does not exist`}
	case from.LSN > s.end || from.LSN > s.shown:
		return cdc.Position{}, &cdc.GapError{Reason: fmt.Sprintf("the log ends at %v, before %v, which it has shown", s.end, from.LSN)}
	case parseMark(from.Mark).resets != s.resets:
		return cdc.Position{}, &cdc.GapError{Reason: fmt.Sprintf("the log was begun anew: it does not have what comes after %v", from)}
	case s.otherThan(from):
		return cdc.Position{}, &cdc.GapError{Reason: fmt.Sprintf("the log has something else before %v than it has shown: the server was put back to an older state", from)}
	case from.LSN <= s.gap:
		return cdc.Position{}, &cdc.GapError{Reason: fmt.Sprintf("the log was off for a while after %v", s.gap)}
	case from.LSN < sl.start && sl.told:
		s.cluster.violate("%s was told that it may forget its log up to %v, and is asked for what comes after %v", s.Name, sl.start, from.LSN)
		return cdc.Position{}, &cdc.GapError{Reason: "the log was given up"}
	case from.LSN < s.purged && s.cluster.Engine == MariaDB: // who finds out when it is asked for the log
	case from.LSN < sl.start || from.LSN < s.purged:
		return cdc.Position{}, &cdc.GapError{Reason: fmt.Sprintf("the log after %v is gone", from.LSN)}
	}
	x.history, x.shown, x.open = s.history0, from.LSN, true
	return from, nil
}

// logMark tells a log from one that was begun anew, or that was written again after the server was put back, as the moments do in which a file of
// it was begun, a transaction was written, and the server was started.
type logMark struct{ resets, serial, history int }

func (s *Server) mark(at cdc.LSN) string { return s.markOf(s.last(at)) }

func (s *Server) markOf(e *entry) string {
	if e == nil {
		e = &entry{}
	}
	return fmt.Sprint(s.resets, e.serial, s.history0)
}

func parseMark(text string) (m logMark) {
	fmt.Sscan(text, &m.resets, &m.serial, &m.history)
	return m
}

// last is the last transaction that the log has up to a position; nil: there is none any more.
func (s *Server) last(at cdc.LSN) *entry {
	log := s.log[:len(s.log)-len(s.after(at))]
	if len(log) == 0 {
		return nil
	}
	return log[len(log)-1]
}

// otherThan reports whether the log has another transaction before a position than it had, or may have: where GTIDs tell what was missed,
// it is read on behind what it has not any more.
func (s *Server) otherThan(p cdc.Position) bool {
	e, was := s.last(p.LSN), parseMark(p.Mark)
	if e == nil {
		return s.cluster.gtids() && was.history != s.history0
	}
	return e.serial != was.serial
}

// heartbeat is how often a stream shows that nothing happens.
const heartbeat = time.Second

// Stream implements [cdc.Source].
func (x *Source) Stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	defer x.lock()()
	s := x.server
	connection, at := s.connection, from.LSN
	if at < s.purged {
		return &cdc.GapError{Reason: fmt.Sprintf("the log after %v is gone", at)}
	}
	x.began, x.shown = true, at
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.connection != connection, s.faults.Refuse, x.dead:
			return errReset
		case s.faults.Hang, s.faults.Stream:
			if err := s.await(ctx, 0); err != nil {
				return err
			}
			continue
		}
		next, ok := x.next(at)
		if !ok {
			if err := s.await(ctx, heartbeat); err != nil {
				return err
			}
			continue
		}
		delay := s.faults.Slow + time.Duration(s.cluster.random.IntN(3000))*time.Microsecond
		if err := s.linger(ctx, delay); err != nil {
			return err
		}
		if f := s.faults; s.connection != connection || x.dead || x.history != s.history0 || f.Refuse || f.Hang || f.Stream {
			continue
		}
		at = next.Position
		x.shown = max(x.shown, at)
		s.shown = max(s.shown, at)
		if err := x.hand(next, yield); err != nil {
			return err
		}
	}
}

// hand gives an event to lockstep, without the lock.
func (x *Source) hand(e cdc.Event, yield func(cdc.Event) error) error {
	x.server.cluster.mu.Unlock()
	defer x.server.cluster.mu.Lock()
	return yield(e)
}

// next is the first event after a position.
func (x *Source) next(at cdc.LSN) (cdc.Event, bool) {
	s := x.server
	if x.history != s.history0 {
		return cdc.Event{}, false // the file that it reads is gone, and nothing is written to it
	}
	for _, e := range s.log {
		if e.end <= at {
			continue
		}
		event := cdc.Event{Position: e.end, Through: e.id, Mark: s.markOf(e)}
		if !s.cluster.gtids() {
			event.Through = cdc.TxID{Seq: uint64(e.end)}
		}
		event.Transaction, event.Started = x.decode(e), s.startedBetween(at, e.end)
		return event, true
	}
	if s.end <= at {
		return cdc.Event{}, false
	}
	event := cdc.Event{Position: s.end, Started: s.startedBetween(at, s.end)}
	if !s.cluster.gtids() {
		event.Through.Seq = uint64(s.end)
	}
	return event, true
}

func (s *Server) startedBetween(after, upTo cdc.LSN) bool {
	return slices.ContainsFunc(s.starts, func(at cdc.LSN) bool { return at > after && at <= upTo })
}

// decode makes of a log's entry what lockstep is told of it; nil if nothing in it concerns it.
func (x *Source) decode(e *entry) *cdc.Transaction {
	tx := &cdc.Transaction{ID: e.id, Lane: e.lane, Commit: e.commit, End: e.end, CommitTime: e.time}
	truncating := ""
	touch := func(table cdc.TableID, reason string) {
		if !slices.ContainsFunc(tx.Touched, func(t cdc.Touched) bool { return t.Table == table }) {
			tx.Touched = append(tx.Touched, cdc.Touched{Table: table, Reason: reason})
		}
	}
	for i := range e.changes {
		l := &e.changes[i]
		r, known := x.epochs[l.table]
		switch {
		case !known && x.server.cluster.gtids():
			continue // a log has all tables of its server
		case !known:
			touch(0, l.table+" was not known when it changed")
			continue
		case r.coder == nil:
			touch(r.epoch.Table, "")
			continue
		case !x.fits(r, l.columns):
			touch(r.epoch.Table, "its columns are others than they were")
			continue
		case l.op == cdc.Truncate:
			if truncating != l.table {
				tx.Changes = append(tx.Changes, cdc.Change{Table: r.epoch.Table, Op: cdc.Truncate, Epoch: r.epoch.Number})
			}
			truncating = l.table
			continue
		case l.from < 0:
			continue // the next one says where the row moves to
		}
		truncating = ""
		ch, err := x.change(r, l, e)
		if err != nil {
			touch(r.epoch.Table, err.Error())
			continue
		}
		tx.Changes = append(tx.Changes, ch)
	}
	proof := !x.server.cluster.gtids() && e.lane != "" // of how far the lane has come
	if len(tx.Changes) == 0 && len(tx.Touched) == 0 && !proof {
		return nil
	}
	return tx
}

// fits reports whether rows of a table with these columns can be decoded: on PostgreSQL if the columns of the epoch are
// among them, whatever else there is by now.
func (x *Source) fits(r registered, columns []digest.Column) bool {
	if x.server.cluster.gtids() {
		return slices.Equal(r.table.Columns, columns)
	}
	return among(r.epoch.Shape, columns)
}

// among reports whether all columns of a shape are among others.
func among(s digest.Shape, columns []digest.Column) bool {
	return !slices.ContainsFunc(s.Columns, func(want digest.Column) bool {
		return !slices.ContainsFunc(columns, func(c digest.Column) bool { return c.Comparable(want) })
	})
}

func (x *Source) change(r registered, l *logged, e *entry) (ch cdc.Change, err error) {
	ch = cdc.Change{Table: r.epoch.Table, Op: l.op, Epoch: r.epoch.Number}
	if ch.Key, err = r.coder.key(l.key); err != nil {
		return ch, err
	}
	before, from := l.before, l.key
	if l.from > 0 {
		from = l.from
		if ch.OldKey, err = r.coder.key(l.from); err != nil {
			return ch, err
		}
		for i := range e.changes {
			if o := &e.changes[i]; o == l {
				before = e.changes[i-1].before
			}
		}
	}
	if x.server.cluster.gtids() {
		ch.HasBefore = true
		if before != nil {
			row, err := r.coder.row(from, before, nil)
			if err != nil {
				return ch, err
			}
			ch.Before = row.Digest
		}
		before = nil // its images are whole
	}
	if l.op == cdc.Delete {
		return ch, nil
	}
	ch.Row, err = r.coder.row(l.key, l.after, before)
	return ch, err
}

// SetEpoch implements [cdc.Source].
func (x *Source) SetEpoch(t cdc.Table, e cdc.Epoch) {
	r := registered{table: t, epoch: e}
	if len(e.Shape.Columns) > 0 {
		var err error
		if r.coder, err = newCoder(x.hasher, e.Shape); err != nil {
			panic(fmt.Sprintf("cdctest: shape of %s: %v", t.Name, err))
		}
	}
	defer x.lock()()
	x.epochs[t.Name] = r
}

// Durable implements [cdc.Source].
func (x *Source) Durable(p cdc.LSN) {
	defer x.lock()()
	s := x.server
	sl := s.slots[lockstepSlot]
	if x.dead || sl == nil || p <= sl.start || p > x.shown || s.cluster.gtids() || x.history != s.history0 {
		return
	}
	sl.start, sl.told = p, true
}

// Execute implements [cdc.Source], as far as canaries go.
func (x *Source) Execute(ctx context.Context, _, statement string) error {
	defer x.lock()()
	s := x.server
	if err := x.gate(ctx); err != nil {
		return err
	}
	var table string
	var id int
	if strings.HasPrefix(statement, "EXPLAIN ") {
		return nil
	}
	if _, err := fmt.Sscanf(statement, "INSERT INTO %s (id, note) VALUES (%d,", &table, &id); err == nil {
		s.write(cdc.TxID{}, "", s.now(), []Change{Put(table, id, Row{"note": 1})})
		s.wake()
		return nil
	}
	if _, err := fmt.Sscanf(statement, "DELETE FROM %s WHERE", &table); err == nil && s.tables[table] != nil {
		var changes []Change
		for _, key := range slices.Sorted(maps.Keys(s.tables[table].rows)) {
			if s.tables[table].rows[key]["note"] == 1 {
				changes = append(changes, Delete(table, key))
			}
		}
		if len(changes) > 0 {
			s.write(cdc.TxID{}, "", s.now(), changes)
			s.wake()
		}
		return nil
	}
	return fmt.Errorf("syntax error in %q", statement)
}

// Pressure implements [cdc.Gauger].
func (x *Source) Pressure(ctx context.Context) (cdc.Pressure, error) {
	defer x.lock()()
	return cdc.Pressure{}, x.gate(ctx)
}

// Close implements [cdc.Reader].
func (x *Source) Close() {}
