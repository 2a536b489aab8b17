package align_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/store"
)

// The simulation: a reference and two replicas, each a map of rows and a log, written as simply as possible. On PostgreSQL
// replica 2 replays everything by one subscription, replica 3 each table by one of its own; on MariaDB and MySQL both
// replay all by GTID, on MySQL in another order where transactions touch different rows. Steps are drawn at random: write,
// replay (rightly or wrongly), write to a replica, replay that on the reference, read a bit of a log, ask for progress,
// scan, commit, crash.

const (
	refID   = cdc.MemberID(1)
	oneLane = cdc.MemberID(2)
	twoLane = cdc.MemberID(3)
)

var tables = []cdc.TableID{1, 2}

// maxKey is the last key that a row can have; the first is 1.
const maxKey = 24

// row is a row of the simulation: its value; 0 is no row.
type rows map[cdc.TableID]map[int]int

func newRows() rows { return rows{1: {}, 2: {}} }

func (r rows) clone() rows {
	c := rows{}
	for t, m := range r {
		c[t] = maps.Clone(m)
	}
	return c
}

// server is one simulated server: what is in it, and what its log says.
type server struct {
	engine string
	id     cdc.MemberID
	rows   rows
	log    []cdc.Event
	end    cdc.LSN
	// of a replica: per lane, which of the reference's transactions it has gone through, and what it says of that
	done    map[string]map[int]bool
	applied map[string]cdc.TxSet
	held    bool // settle does not replay on it
	read    int  // of log, by lockstep
	offered []time.Time
	seq     uint64
	logged  cdc.TxSet // ids in the log, of engines that have GTIDs
	written []written // here first, and not replayed on the reference yet
}

// written is a transaction as its author wrote it.
type written struct {
	id      cdc.TxID
	author  cdc.MemberID
	changes []change
}

func (s *server) gtids() bool { return s.engine != "postgres" }

// newID names a transaction that is written on the server first.
func (s *server) newID() cdc.TxID {
	s.seq++
	if s.engine == "mariadb" {
		return cdc.MariaDBTxID(0, uint32(s.id), s.seq)
	}
	return cdc.TxID{Source: fmt.Sprintf("00000000-0000-0000-0000-00000000000%d", s.id), Seq: s.seq}
}

type world struct {
	t       *rapid.T
	servers map[cdc.MemberID]*server
	fs      *vfs.MemFS
	store   *store.Store
	group   *store.Group
	ledger  *align.Ledger
	now     time.Time
	engine  string
	faults  bool
	claims  map[cdc.MemberID]*simClaim
	history []written // by position in the reference's log
	scans   []*simScan
	reads   []*simRead
	scanned int // reads that came to their end
	// sparse says that of table 1 no rows are kept.
	sparse  bool
	drills  []*simDrill
	drilled int                   // drills that came to their end
	resumed int                   // scans in parts that went on after an interruption
	silent  bool                  // rows are changed without a trace
	only    map[cdc.MemberID]bool // members that are only scanned
	values  int
	ids     int // of divergences
	// maxInFlight is small in some histories, so that lanes get lost.
	maxInFlight int
}

type simScan struct {
	at   align.Space
	rows map[int]int // nil: they are read at the end
	// A scan in parts has stored the rows of up to through.
	parts   bool
	through int
	loader  *store.Loader
}

type simClaim struct {
	cdc.Progress
	at time.Time
}

func (s *server) laneOf(t cdc.TableID) string {
	switch {
	case s.gtids():
		return cdc.GTIDLane
	case s.id == oneLane:
		return "pg_20"
	}
	return fmt.Sprintf("pg_3%d", t)
}

func (s *server) lanes() map[string][]cdc.TableID {
	lanes := make(map[string][]cdc.TableID)
	for _, t := range tables {
		lanes[s.laneOf(t)] = append(lanes[s.laneOf(t)], t)
	}
	return lanes
}

func (s *server) sortedLanes() []string { return slices.Sorted(maps.Keys(s.lanes())) }

func shapeOf(t cdc.TableID) digest.Shape {
	return digest.Shape{Table: fmt.Sprintf("public.t%d", t), Columns: []digest.Column{{Name: "id", Class: digest.Int}}, Key: []int{0}}
}

func keyOf(t cdc.TableID, n int) digest.Key {
	k, err := shapeOf(t).ParseKey([]byte(fmt.Sprintf(`{"id":%d}`, n)))
	if err != nil {
		panic(err)
	}
	return k
}

func digestOf(t cdc.TableID, n, value int) digest.Digest {
	if value == 0 {
		return digest.Digest{}
	}
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], uint64(t))
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	binary.BigEndian.PutUint64(b[16:], uint64(value))
	sum := sha256.Sum256(b[:])
	return digest.Digest(sum[:16])
}

func newWorld(t *rapid.T, engine string, faults bool, only ...cdc.MemberID) *world {
	return newWorldOf(t, engine, faults, false, only...)
}

func newWorldOf(t *rapid.T, engine string, faults, sparse bool, only ...cdc.MemberID) *world {
	w := &world{
		t: t, engine: engine, faults: faults, sparse: sparse, only: make(map[cdc.MemberID]bool), fs: vfs.NewCrashableMem(), now: time.Unix(1_700_000_000, 0),
		servers: make(map[cdc.MemberID]*server), claims: make(map[cdc.MemberID]*simClaim),
	}
	for _, id := range only {
		w.only[id] = true
	}
	w.maxInFlight = rapid.SampledFrom([]int{0, 12}).Draw(t, "max in flight")
	for _, id := range []cdc.MemberID{refID, oneLane, twoLane} {
		s := &server{engine: w.engine, id: id, rows: newRows(), end: cdc.LSN(1000 * int(id)), done: map[string]map[int]bool{}, applied: map[string]cdc.TxSet{}}
		for name := range s.lanes() {
			s.done[name] = make(map[int]bool)
		}
		w.servers[id] = s
	}
	w.open()
	for _, id := range tables {
		e := cdc.Epoch{Table: id, Number: 1, Shape: shapeOf(id)}
		w.must(w.ledger.SetEpoch(e, map[cdc.MemberID]string{}, "not read yet"))
	}
	for id, s := range w.servers {
		start := cdc.Position{LSN: s.end}
		if !s.gtids() {
			start.Shown = cdc.Everything(s.end)
		}
		w.must(w.ledger.Unverify(id, start, cdc.Server{SystemID: fmt.Sprint(id)}, "not read yet"))
	}
	w.commit()
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

func (w *world) open() {
	var err error
	w.store, err = store.Open("data", store.Options{FS: w.fs, Cache: 256 << 10})
	w.must(err)
	w.group, err = w.store.Group("sim")
	w.must(err)
	for i, name := range []string{"ref", "one", "two"} {
		id, err := w.group.MemberID(name)
		w.must(err)
		if id != cdc.MemberID(i+1) {
			w.t.Fatalf("member %s has number %d", name, id)
		}
	}
	saved, err := w.group.Load()
	w.must(err)
	w.ledger, err = align.Load(align.Options{
		Group: "sim", Members: map[cdc.MemberID]string{refID: "ref", oneLane: "one", twoLane: "two"}, Reference: refID,
		Budget: func(string) time.Duration { return 10 * time.Second }, Hasher: digest.NewHasher([32]byte{}),
		NewID: func(time.Time) string { w.ids++; return fmt.Sprintf("%06d", w.ids) }, RangeRows: 4,
		MaxInFlight: w.maxInFlight, ScanOnly: w.only, Now: w.now,
		Sparse: func(table string) bool { return w.sparse && table == "public.t1" },
	}, w.group, saved)
	w.must(err)
	w.ledger.At(w.now)
}

// crash loses what was not committed and goes on from what was.
func (w *world) crash() {
	w.t.Logf("crash")
	clone := w.fs.CrashClone(vfs.CrashCloneCfg{})
	w.close()
	w.fs = clone
	clear(w.claims)
	w.scans, w.reads, w.drills = nil, nil, nil
	w.open()
	for id, s := range w.servers {
		s.read = 0
		for s.read < len(s.log) && s.log[s.read].Position <= w.ledger.Position(id) {
			s.read++
		}
		s.offered = s.offered[:min(len(s.offered), s.read)]
	}
}

func (w *world) close() {
	w.must(w.group.Close())
	w.must(w.store.Close())
}

func (w *world) commit() {
	w.t.Logf("commit")
	w.must(w.ledger.Flush())
	w.must(w.group.Commit())
}

// change is one change of the simulation; to is the value after it, 0 for a delete.
type change struct {
	table    cdc.TableID
	key, to  int
	from     int // the key that moved here, or 0
	truncate bool
}

// write carries out changes on a server and logs what they really did. A transaction that is written here first has
// neither id nor lane; it returns its id.
func (s *server) write(id cdc.TxID, lane string, at time.Time, changes []change) cdc.TxID {
	tx := &cdc.Transaction{ID: id, Lane: lane, Commit: s.end + 1, End: s.end + 7, CommitTime: at}
	s.end += 7
	for _, c := range changes {
		if logged := s.apply(c); logged != nil {
			tx.Changes = append(tx.Changes, *logged)
		}
	}
	if len(tx.Changes) == 0 && lane == "" {
		return cdc.TxID{}
	}
	e := cdc.Event{Position: tx.End, Through: cdc.TxID{Seq: uint64(tx.End)}, Transaction: tx}
	switch {
	case s.gtids():
		if tx.Lane = cdc.GTIDLane; lane == "" {
			tx.ID = s.newID()
		}
		e.Through = tx.ID
		s.logged.Add(tx.ID)
		if len(tx.Changes) == 0 {
			e.Transaction = nil
		}
	case lane == "":
		tx.ID = e.Through
	}
	s.log = append(s.log, e)
	return tx.ID
}

func (s *server) apply(c change) *cdc.Change {
	now := s.rows[c.table]
	out := &cdc.Change{Table: c.table, Epoch: 1, Key: keyOf(c.table, c.key)}
	if s.gtids() {
		if c.from != 0 && now[c.key] != 0 { // no server moves a row to where one is
			c.from = 0
		}
		out.HasBefore, out.Before = true, digestOf(c.table, c.key, now[c.key])
		if c.from != 0 {
			out.Before = digestOf(c.table, c.from, now[c.from])
		}
	}
	switch {
	case c.truncate:
		clear(now)
		out.Op, out.Key = cdc.Truncate, nil
		return out
	case c.to == 0:
		if now[c.key] == 0 {
			return nil
		}
		delete(now, c.key)
		out.Op = cdc.Delete
		return out
	}
	out.Op = cdc.Update
	if c.from != 0 {
		if now[c.from] == 0 {
			return nil
		}
		delete(now, c.from)
		out.OldKey = keyOf(c.table, c.from)
	}
	now[c.key] = c.to
	out.Row = digest.Row{Digest: digestOf(c.table, c.key, c.to)}
	return out
}

// draw returns random changes that are possible on the server.
func (w *world) draw(s *server) []change {
	var list []change
	scratch := &server{rows: s.rows.clone()}
	for range rapid.IntRange(1, 5).Draw(w.t, "changes") {
		t := tables[rapid.IntRange(0, 1).Draw(w.t, "table")]
		w.values++
		c := change{table: t, key: rapid.IntRange(1, maxKey).Draw(w.t, "key"), to: w.values}
		switch rapid.IntRange(0, 19).Draw(w.t, "op") {
		case 0, 1, 2, 3:
			c.to = 0
		case 4, 5, 6:
			from := rapid.IntRange(1, maxKey).Draw(w.t, "from")
			if from != c.key && scratch.rows[t][c.key] == 0 {
				c.from = from
			}
		case 7:
			c = change{table: t, truncate: rapid.Bool().Draw(w.t, "truncate"), key: 1, to: w.values}
		}
		if scratch.apply(c) != nil {
			list = append(list, c)
		}
	}
	return list
}

// author writes to the reference.
func (w *world) author() {
	if changes := w.draw(w.servers[refID]); len(changes) > 0 {
		w.authorOf(changes)
	}
}

func (w *world) authorOf(changes []change) {
	s := w.servers[refID]
	id := s.write(cdc.TxID{}, "", w.now, changes)
	w.history = append(w.history, written{id, refID, changes})
	w.t.Logf("author %v ending %v %+v", id, s.end, changes)
}

// stray writes to a replica.
func (w *world) stray(s *server) {
	changes := w.draw(s)
	if id := s.write(cdc.TxID{}, "", w.now, changes); id.Seq != 0 {
		s.written = append(s.written, written{id, s.id, changes})
		w.t.Logf("stray %v on %d ending %v %+v", id, s.id, s.end, changes)
	}
}

// ring lets the reference replay what was written to a replica first, as where all are primaries.
func (w *world) ring(s *server) {
	if !s.gtids() || len(s.written) == 0 {
		return
	}
	tx := s.written[0]
	s.written = s.written[1:]
	ref := w.servers[refID]
	ref.write(tx.id, cdc.GTIDLane, w.now, tx.changes)
	w.history = append(w.history, tx)
	w.t.Logf("ring %v ending %v", tx.id, ref.end)
}

// next draws the transaction of the reference that a lane of a replica goes through next; -1 if there is none. On MySQL
// it may be one of the first few, if none before it touches the same rows.
func (w *world) next(s *server, lane string) int {
	var open []int
	for n := 0; n < len(w.history) && len(open) < 3; n++ {
		if s.done[lane][n] {
			continue
		}
		conflict := slices.ContainsFunc(open, func(o int) bool { return touchSame(w.history[o].changes, w.history[n].changes) })
		if len(open) == 0 || s.engine == "mysql" && !conflict {
			open = append(open, n)
		} else {
			break
		}
	}
	if len(open) == 0 {
		return -1
	}
	return open[rapid.IntRange(0, len(open)-1).Draw(w.t, "next")]
}

func touchSame(a, b []change) bool {
	for _, x := range a {
		for _, y := range b {
			same := func(k, l int) bool { return k != 0 && k == l }
			if x.table == y.table && (x.truncate || y.truncate ||
				same(x.key, y.key) || same(x.from, y.key) || same(x.key, y.from) || same(x.from, y.from)) {
				return true
			}
		}
	}
	return false
}

// replay lets one lane of a replica go through the next transaction of the reference.
func (w *world) replay(s *server, lane string, faulty bool) bool {
	n := w.next(s, lane)
	if n < 0 {
		return false
	}
	s.done[lane][n] = true
	if w.history[n].author == s.id {
		return true // it came from here
	}
	tx := w.servers[refID].log[n]
	commitTime := w.now
	if tx.Transaction != nil {
		commitTime = tx.Transaction.CommitTime
	}
	var mine []change
	for _, c := range w.history[n].changes {
		if s.laneOf(c.table) == lane {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return true
	}
	applied := s.applied[lane]
	applied.Add(tx.Through)
	s.applied[lane] = applied
	if faulty {
		switch rapid.IntRange(0, 2).Draw(w.t, "fault") {
		case 0: // skipped: nothing in the log, but the lane's position moves; on MySQL an empty transaction is
			if s.engine == "mysql" {
				s.write(tx.Through, lane, commitTime, nil)
			}
			w.t.Logf("skip of %v on %d", tx.Through, s.id)
			return true
		case 1:
			mine = mine[1:]
		case 2:
			w.values++
			mine = append(mine, change{table: mine[0].table, key: rapid.IntRange(1, maxKey).Draw(w.t, "wrong"), to: w.values})
		}
	}
	s.write(tx.Through, lane, commitTime, mine)
	w.t.Logf("replay on %d by %s: %v at %v %+v", s.id, lane, tx.Through, s.end, mine)
	return true
}

// came is when the next transaction of a server's log was first offered.
func (s *server) came(now time.Time) time.Time {
	for len(s.offered) <= s.read {
		s.offered = append(s.offered, now)
	}
	return s.offered[s.read]
}

// deliver applies the next transaction of a server's log, if the ledger is ready for it.
func (w *world) deliver(s *server) bool {
	w.ledger.At(w.now)
	if w.only[s.id] {
		return false
	}
	if s.read == len(s.log) {
		e := cdc.Event{Position: s.end}
		if !s.gtids() {
			e.Through.Seq = uint64(s.end)
		}
		w.ledger.Advance(s.id, e)
		return false
	}
	e := s.log[s.read]
	if e.Transaction != nil {
		if !w.ledger.Ready(s.id, e.Transaction, s.came(w.now)) {
			return false
		}
		w.must(w.ledger.Apply(s.id, e))
	}
	w.ledger.Advance(s.id, e)
	w.t.Logf("apply of %d: %v ending %v", s.id, e.Through, e.Position)
	s.read++
	return true
}

func (w *world) ask(s *server) {
	if w.claims[s.id] != nil {
		return
	}
	p := &simClaim{cdc.Progress{Barrier: s.end, Applied: map[string]cdc.TxSet{}}, w.now}
	if w.only[s.id] {
		p.Barrier = 0
	}
	if s.id != refID {
		for name, ts := range s.lanes() {
			ln := cdc.Lane{Name: name, Title: name, Slot: name, Enabled: true, Tables: map[string]string{}}
			for _, t := range ts {
				ln.Tables[shapeOf(t).Table] = ""
			}
			p.Lanes = append(p.Lanes, ln)
			applied := s.applied[name].Clone()
			if s.gtids() {
				applied.AddSet(s.logged)
			} else {
				// What the reference knows: everything up to here was replayed, whether it touched a table or not.
				applied.AddSet(cdc.Everything(1000))
				if n := len(s.done[name]); n > 0 {
					applied.Add(w.servers[refID].log[n-1].Through)
				}
			}
			p.Applied[name] = applied
		}
	}
	w.claims[s.id] = p
}

func (w *world) claim(s *server) {
	if p := w.claims[s.id]; p != nil && w.ledger.Position(s.id) >= p.Barrier {
		w.ledger.At(w.now)
		slots := make(map[string]cdc.TxSet)
		for name := range s.lanes() {
			slots[name] = cdc.TxSet{}
		}
		w.must(w.ledger.Heard(s.id, p.Progress))
		w.must(w.ledger.Progress(s.id, p.at, p.Progress, slots))
		w.t.Logf("progress of %d: %v", s.id, p.Applied)
		delete(w.claims, s.id)
	}
}

// scanStep begins a scan, or brings a running one a step forward.
func (w *world) scanStep(s *server) {
	for i, sc := range w.scans {
		if sc.at.Member == s.id {
			if sc.parts && w.readPart(s, sc) {
				return
			}
			w.finish(sc)
			w.scans = slices.Delete(w.scans, i, i+1)
			return
		}
	}
	wanted := w.ledger.Wanted(s.id)
	if len(wanted) == 0 {
		return
	}
	at, record := wanted[0].At, wanted[0].Scan
	w.ledger.Scanning(at)
	sc := &simScan{at: at}
	if sc.parts = record.Through != nil || rapid.Bool().Draw(w.t, "scan in parts"); sc.parts {
		w.goOn(sc, record)
	} else {
		w.ledger.Cut(at, s.end)
		w.t.Logf("scan %v cut %v", at, s.end)
		if s.engine != "mysql" {
			sc.rows = maps.Clone(s.rows[at.Table])
		}
	}
	w.scans = append(w.scans, sc)
}

// goOn begins a scan in parts, or goes on with one.
func (w *world) goOn(sc *simScan, record align.ScanRecord) {
	sc.through = -1
	for n := range maxKey + 1 {
		if bytes.Equal(record.Through, keyOf(sc.at.Table, n)) {
			sc.through = n
			w.resumed++
		}
	}
	w.t.Logf("scan %v in parts after %d", sc.at, sc.through)
	var err error
	sc.loader, err = w.group.Loader(sc.at, record.Through != nil)
	w.must(err)
}

// readPart reads the next rows of a scan in parts, in a view that is of now and may begin as early as what the stream has
// shown. It returns false at the end.
func (w *world) readPart(s *server, sc *simScan) bool {
	if sc.through >= maxKey {
		return false
	}
	first, rows := sc.through+1, int64(0)
	sc.through = min(first+rapid.IntRange(2, 12).Draw(w.t, "keys of part"), maxKey)
	for n := first; n <= sc.through; n++ {
		if value := s.rows[sc.at.Table][n]; value != 0 {
			row := digest.AppendRow(nil, &digest.Row{Digest: digestOf(sc.at.Table, n, value)})
			w.must(sc.loader.Add(keyOf(sc.at.Table, n), row))
			rows++
		}
	}
	w.must(sc.loader.Flush())
	cut := w.ledger.Position(s.id)
	cut += cdc.LSN(rapid.IntRange(0, int(s.end-cut)).Draw(w.t, "cut"))
	w.t.Logf("part %v %d..%d of %v..%v", sc.at, first, sc.through, cut, s.end)
	w.ledger.Reached(sc.at, cdc.View{Cut: cut, Settled: s.end}, keyOf(sc.at.Table, sc.through), rows)
	return true
}

func (w *world) finish(sc *simScan) {
	if rapid.IntRange(0, 9).Draw(w.t, "scan fails") == 0 {
		w.must(w.ledger.Failed(sc.at, "drawn"))
		return
	}
	settled := cdc.LSN(0)
	if !sc.parts {
		settled = w.loadWhole(sc)
	}
	w.must(sc.loader.Close())
	bounds, wanted := w.ledger.Freeze(sc.at)
	if !wanted {
		w.must(w.ledger.Failed(sc.at, ""))
		return
	}
	bounds, sums, err := sc.loader.Sum(bounds, bounds == nil, w.ledger.RangeRows())
	w.must(err)
	w.must(w.ledger.Loaded(sc.at, settled, bounds, sums))
	w.t.Logf("loaded %v", sc.at)
}

func (w *world) loadWhole(sc *simScan) (settled cdc.LSN) {
	if sc.rows == nil { // of a later moment than the cut
		sc.rows, settled = w.servers[sc.at.Member].rows[sc.at.Table], w.servers[sc.at.Member].end
	}
	var err error
	sc.loader, err = w.group.Loader(sc.at, false)
	w.must(err)
	for n, value := range sc.rows {
		row := digest.AppendRow(nil, &digest.Row{Digest: digestOf(sc.at.Table, n, value)})
		w.must(sc.loader.Add(keyOf(sc.at.Table, n), row))
	}
	return settled
}

func (w *world) divergent() map[string]bool {
	found := make(map[string]bool)
	for _, id := range []cdc.MemberID{oneLane, twoLane} {
		for _, t := range tables {
			err := w.group.DivergentKeys(id, t, nil, nil, func(k digest.Key, d *align.DivergentKey) (bool, error) {
				text, err := shapeOf(t).KeyJSON(k)
				found[fmt.Sprintf("%d %d %s %s", id, t, text, d.Kind)] = true
				return true, err
			})
			w.must(err)
		}
	}
	return found
}

// oracle lists the keys that differ between the servers as they are.
func (w *world) oracle() map[string]bool {
	found := make(map[string]bool)
	for _, id := range []cdc.MemberID{oneLane, twoLane} {
		for _, t := range tables {
			for n := 1; n <= 24; n++ {
				a, b := w.servers[refID].rows[t][n], w.servers[id].rows[t][n]
				kind := finding.Changed
				switch {
				case a == b:
					continue
				case a == 0:
					kind = finding.Extra
				case b == 0:
					kind = finding.Missing
				}
				found[fmt.Sprintf(`%d %d {"id":%d} %s`, id, t, n, kind)] = true
			}
		}
	}
	return found
}

// settle lets everything arrive and be read.
func (w *world) settle(rounds int) {
	for range rounds {
		for _, id := range []cdc.MemberID{refID, oneLane, twoLane} {
			s := w.servers[id]
			if id != refID && !s.held {
				for _, lane := range s.sortedLanes() {
					for w.replay(s, lane, false) {
					}
				}
			}
			for w.deliver(s) {
			}
			w.ask(s)
			w.claim(s)
			w.scanStep(s)
			for range 6 {
				w.drillStep(s)
			}
			w.ledger.Defined(id, w.now)
		}
		_, err := w.ledger.Replay()
		w.must(err)
		w.resolve()
		w.now = w.now.Add(time.Second)
		w.ledger.At(w.now)
		w.must(w.ledger.Tick())
		w.commit()
	}
}

// checkReasons fails if a table is in doubt because the ledger's own sums do not add up.
func (w *world) checkReasons() {
	for _, m := range w.ledger.Status(false) {
		for _, t := range m.Tables {
			if strings.Contains(t.Reason, "does not match") {
				w.t.Fatalf("%s %s: %s", m.Name, t.Table, t.Reason)
			}
		}
	}
}

// check holds the ranges against the rows of the servers.
func (w *world) check() {
	for _, m := range w.ledger.Status(true) {
		for _, t := range m.Tables {
			if !t.Live {
				w.t.Fatalf("%s %s is not live: %s", m.Name, t.Table, t.Reason)
			}
			if m.ID != refID && t.ComparedAt.IsZero() {
				w.t.Fatalf("%s %s is not compared: %s", m.Name, t.Table, t.Reason)
			}
		}
		for _, t := range tables {
			w.checkSums(m.ID, t)
		}
		if s := w.servers[m.ID]; s.gtids() && !m.Exact.Shown.Equal(s.logged) {
			w.t.Fatalf("member %d has shown %v, its log has %v", m.ID, m.Exact.Shown, s.logged)
		}
	}
	if got, want := w.divergent(), w.oracle(); !maps.Equal(got, want) {
		w.t.Fatalf("divergent keys\n got %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if told := w.told(); told != len(w.oracle()) {
		for _, id := range []cdc.MemberID{oneLane, twoLane} {
			for _, t := range tables {
				w.must(w.group.DivergentKeys(id, t, nil, nil, func(k digest.Key, d *align.DivergentKey) (bool, error) {
					w.t.Logf("member %d table %d key %x: finding %d %s", id, t, k, d.Finding, d.Kind)
					return true, nil
				}))
			}
		}
		w.must(w.group.Divergences(func(d *finding.Divergence) bool {
			w.t.Logf("divergence %s %s %s %s %s %s keys %d seen %v", d.ID, d.Member, d.Table, d.State, d.Kind, d.Cause, d.Keys, d.FirstSeen)
			return true
		}))
		w.t.Fatalf("%d keys are told of, %d differ at %v", told, len(w.oracle()), w.now)
	}
}

// told sums up the keys of the divergences that people are told of.
func (w *world) told() int {
	keys := 0
	w.must(w.group.Divergences(func(d *finding.Divergence) bool {
		if d.State == finding.Open {
			keys += int(d.Keys)
		}
		return true
	}))
	return keys
}

func (w *world) checkSums(id cdc.MemberID, t cdc.TableID) {
	ranges, sums := w.ledger.RangeDigests(t, id)
	want := make([]merkle.Sum, ranges.Len())
	for n, value := range w.servers[id].rows[t] {
		i := ranges.Find(keyOf(t, n))
		want[i] = want[i].Add(merkle.Of(digestOf(t, n, value)))
	}
	if !slices.Equal(sums, want) {
		w.t.Fatalf("member %d table %d: range digests %v, rebuilt %v", id, t, sums, want)
	}
}
