package align_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"lockstep/align"
	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/merkle"
	"lockstep/store"
)

// The simulation: a reference and two replicas, each a map of rows and a log, written as simply as possible. Replica 2
// replays everything by one subscription, replica 3 each table by one of its own. Steps are drawn at random: write,
// replay (rightly or wrongly), write to a replica, read a bit of a log, ask for progress, scan, commit, crash.

const (
	refID   = align.MemberID(1)
	oneLane = align.MemberID(2)
	twoLane = align.MemberID(3)
)

var tables = []cdc.TableID{1, 2}

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
	id   align.MemberID
	rows rows
	log  []*cdc.Transaction
	end  cdc.LSN
	// of a replica: per lane, how many of the reference's transactions it has gone through, and its position
	next    map[string]int
	applied map[string]cdc.LSN
	read    int // of log, by lockstep
}

type world struct {
	t       *rapid.T
	servers map[align.MemberID]*server
	fs      *vfs.MemFS
	store   *store.Store
	group   *store.Group
	ledger  *align.Ledger
	now     time.Time
	faults  bool
	claims  map[align.MemberID]*cdc.Progress
	scans   []*simScan
	values  int
	ids     int // of divergences
	// maxInFlight is small in some histories, so that lanes get lost.
	maxInFlight int
}

type simScan struct {
	at   align.Space
	rows map[int]int
}

func laneOf(m align.MemberID, t cdc.TableID) string {
	if m == oneLane {
		return "pg_20"
	}
	return fmt.Sprintf("pg_3%d", t)
}

func lanesOf(m align.MemberID) map[string][]cdc.TableID {
	if m == oneLane {
		return map[string][]cdc.TableID{"pg_20": tables}
	}
	return map[string][]cdc.TableID{"pg_31": {1}, "pg_32": {2}}
}

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

func newWorld(t *rapid.T, faults bool) *world {
	w := &world{
		t: t, faults: faults, fs: vfs.NewCrashableMem(), now: time.Unix(1_700_000_000, 0),
		servers: make(map[align.MemberID]*server), claims: make(map[align.MemberID]*cdc.Progress),
	}
	w.maxInFlight = rapid.SampledFrom([]int{0, 12}).Draw(t, "max in flight")
	for _, id := range []align.MemberID{refID, oneLane, twoLane} {
		s := &server{id: id, rows: newRows(), end: cdc.LSN(1000 * int(id)), next: map[string]int{}, applied: map[string]cdc.LSN{}}
		w.servers[id] = s
	}
	w.open()
	for _, id := range tables {
		e := cdc.Epoch{Table: id, Number: 1, Shape: shapeOf(id)}
		w.must(w.ledger.SetEpoch(e, map[align.MemberID]string{}, "not read yet"))
	}
	for id, s := range w.servers {
		w.must(w.ledger.Unverify(id, s.end, cdc.Server{SystemID: fmt.Sprint(id)}, "not read yet"))
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
		if id != align.MemberID(i+1) {
			w.t.Fatalf("member %s has number %d", name, id)
		}
	}
	saved, err := w.group.Load()
	w.must(err)
	w.ledger, err = align.Load(align.Options{
		Group: "sim", Members: map[align.MemberID]string{refID: "ref", oneLane: "one", twoLane: "two"}, Reference: refID,
		Budget: func(string) time.Duration { return 10 * time.Second }, Hasher: digest.NewHasher([32]byte{}),
		NewID: func(time.Time) string { w.ids++; return fmt.Sprintf("%06d", w.ids) }, RangeRows: 4,
		MaxInFlight: w.maxInFlight,
	}, w.group, saved)
	w.must(err)
	w.ledger.At(w.now)
}

// crash loses what was not committed and goes on from what was.
func (w *world) crash() {
	w.t.Logf("crash")
	clone := w.fs.CrashClone(vfs.CrashCloneCfg{})
	w.must(w.group.Close())
	w.must(w.store.Close())
	w.fs = clone
	clear(w.claims)
	w.scans = nil
	w.open()
	for id, s := range w.servers {
		s.read = 0
		for s.read < len(s.log) && s.log[s.read].End <= w.ledger.Position(id) {
			s.read++
		}
	}
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

// write carries out changes on a server and logs what they really did.
func (s *server) write(id cdc.TxID, lane string, at time.Time, changes []change) {
	tx := &cdc.Transaction{ID: id, Lane: lane, Commit: s.end + 1, End: s.end + 7, CommitTime: at}
	s.end += 7
	if lane == "" {
		tx.ID = cdc.TxID{Seq: uint64(tx.End)}
	}
	for _, c := range changes {
		if logged := s.apply(c); logged != nil {
			tx.Changes = append(tx.Changes, *logged)
		}
	}
	if len(tx.Changes) > 0 || lane != "" {
		s.log = append(s.log, tx)
	}
}

func (s *server) apply(c change) *cdc.Change {
	now := s.rows[c.table]
	out := &cdc.Change{Table: c.table, Epoch: 1, Key: keyOf(c.table, c.key)}
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
		c := change{table: t, key: rapid.IntRange(1, 24).Draw(w.t, "key"), to: w.values}
		switch rapid.IntRange(0, 19).Draw(w.t, "op") {
		case 0, 1, 2, 3:
			c.to = 0
		case 4, 5, 6:
			from := rapid.IntRange(1, 24).Draw(w.t, "from")
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

// history holds the changes of the reference's transactions, by position in its log.
func (w *world) author(history *[][]change) {
	s := w.servers[refID]
	changes := w.draw(s)
	if len(changes) == 0 {
		return
	}
	w.now = w.now.Add(time.Millisecond)
	s.write(cdc.TxID{}, "", w.now, changes)
	*history = append(*history, changes)
	w.t.Logf("author %v %+v", s.end, changes)
}

// replay lets one lane of a replica go through the next transaction of the reference.
func (w *world) replay(s *server, lane string, history [][]change, faulty bool) bool {
	n := s.next[lane]
	if n == len(history) {
		return false
	}
	s.next[lane]++
	tx := w.servers[refID].log[n]
	var mine []change
	for _, c := range history[n] {
		if laneOf(s.id, c.table) == lane {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return true
	}
	s.applied[lane] = tx.End
	if faulty {
		switch rapid.IntRange(0, 2).Draw(w.t, "fault") {
		case 0: // skipped: nothing in the log, but the lane's position moves
			return true
		case 1:
			mine = mine[1:]
		case 2:
			w.values++
			mine = append(mine, change{table: mine[0].table, key: rapid.IntRange(1, 24).Draw(w.t, "wrong"), to: w.values})
		}
	}
	s.write(tx.ID, lane, tx.CommitTime, mine)
	w.t.Logf("replay on %d by %s: %v at %v %+v", s.id, lane, tx.ID, s.end, mine)
	return true
}

// deliver applies the next transaction of a server's log, if the ledger is ready for it.
func (w *world) deliver(s *server) bool {
	w.ledger.At(w.now)
	if s.read == len(s.log) {
		w.ledger.Advance(s.id, s.end)
		return false
	}
	tx := s.log[s.read]
	if !w.ledger.Ready(s.id, tx) {
		return false
	}
	w.must(w.ledger.Apply(s.id, tx))
	w.t.Logf("apply of %d: %v ending %v", s.id, tx.ID, tx.End)
	s.read++
	return true
}

func (w *world) ask(s *server) {
	if w.claims[s.id] != nil {
		return
	}
	p := &cdc.Progress{Barrier: s.end, Applied: maps.Clone(s.applied)}
	if s.id != refID {
		for name, ts := range lanesOf(s.id) {
			ln := cdc.Lane{Name: name, Title: name, Slot: name, Enabled: true, Tables: map[string]string{}}
			for _, t := range ts {
				ln.Tables[shapeOf(t).Table] = ""
			}
			p.Lanes = append(p.Lanes, ln)
			// What the reference knows: everything up to here was replayed, whether it touched a table or not.
			if n := s.next[name]; n > 0 {
				p.Applied[name] = max(p.Applied[name], w.servers[refID].log[n-1].End)
			}
			p.Applied[name] = max(p.Applied[name], 1000)
		}
	}
	w.claims[s.id] = p
}

func (w *world) claim(s *server) {
	if p := w.claims[s.id]; p != nil && w.ledger.Position(s.id) >= p.Barrier {
		w.ledger.At(w.now)
		slots := make(map[string]cdc.LSN)
		for name := range lanesOf(s.id) {
			slots[name] = 0
		}
		w.must(w.ledger.Progress(s.id, w.now, *p, slots))
		w.t.Logf("progress of %d: %v", s.id, p.Applied)
		delete(w.claims, s.id)
	}
}

// scanStep begins a scan, or brings a running one a step forward.
func (w *world) scanStep(s *server) {
	for i, sc := range w.scans {
		if sc.at.Member == s.id {
			w.finish(sc)
			w.scans = slices.Delete(w.scans, i, i+1)
			return
		}
	}
	wanted := w.ledger.Wanted(s.id)
	if len(wanted) == 0 {
		return
	}
	at := wanted[0]
	w.ledger.Scanning(at)
	w.ledger.Cut(at, s.end)
	w.t.Logf("scan %v cut %v", at, s.end)
	w.scans = append(w.scans, &simScan{at: at, rows: maps.Clone(s.rows[at.Table])})
}

func (w *world) finish(sc *simScan) {
	if rapid.IntRange(0, 9).Draw(w.t, "scan fails") == 0 {
		w.must(w.ledger.Failed(sc.at, "drawn"))
		return
	}
	loader, err := w.group.Loader(sc.at)
	w.must(err)
	for n, value := range sc.rows {
		row := digest.AppendRow(nil, &digest.Row{Digest: digestOf(sc.at.Table, n, value)})
		w.must(loader.Add(keyOf(sc.at.Table, n), row))
	}
	w.must(loader.Close())
	bounds, wanted := w.ledger.Freeze(sc.at)
	if !wanted {
		return
	}
	bounds, sums, err := loader.Sum(bounds, bounds == nil, w.ledger.RangeRows())
	w.must(err)
	w.must(w.ledger.Loaded(sc.at, bounds, sums))
	w.t.Logf("loaded %v", sc.at)
}

func (w *world) divergent() map[string]bool {
	found := make(map[string]bool)
	for _, id := range []align.MemberID{oneLane, twoLane} {
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
	for _, id := range []align.MemberID{oneLane, twoLane} {
		for _, t := range tables {
			for n := 1; n <= 24; n++ {
				a, b := w.servers[refID].rows[t][n], w.servers[id].rows[t][n]
				kind := align.Changed
				switch {
				case a == b:
					continue
				case a == 0:
					kind = align.Extra
				case b == 0:
					kind = align.Missing
				}
				found[fmt.Sprintf(`%d %d {"id":%d} %s`, id, t, n, kind)] = true
			}
		}
	}
	return found
}

// settle lets everything arrive and be read.
func (w *world) settle(history [][]change, rounds int) {
	for range rounds {
		for _, id := range []align.MemberID{refID, oneLane, twoLane} {
			s := w.servers[id]
			if id != refID {
				for lane := range lanesOf(id) {
					for w.replay(s, lane, history, false) {
					}
				}
			}
			for w.deliver(s) {
			}
			w.ask(s)
			w.claim(s)
			w.scanStep(s)
			w.ledger.Defined(id, w.now)
		}
		_, err := w.ledger.Replay()
		w.must(err)
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
			if t.Phase != align.Live {
				w.t.Fatalf("%s %s is not live: %s", m.Name, t.Table, t.Reason)
			}
			if m.ID != refID && t.ComparedAt.IsZero() {
				w.t.Fatalf("%s %s is not compared: %s", m.Name, t.Table, t.Reason)
			}
		}
		for _, t := range tables {
			w.checkSums(m.ID, t)
		}
	}
	if got, want := w.divergent(), w.oracle(); !maps.Equal(got, want) {
		w.t.Fatalf("divergent keys\n got %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if told := w.told(); told != len(w.oracle()) {
		for _, id := range []align.MemberID{oneLane, twoLane} {
			for _, t := range tables {
				w.must(w.group.DivergentKeys(id, t, nil, nil, func(k digest.Key, d *align.DivergentKey) (bool, error) {
					w.t.Logf("member %d table %d key %x: finding %d %s", id, t, k, d.Finding, d.Kind)
					return true, nil
				}))
			}
		}
		w.must(w.group.Divergences(func(d *align.Divergence) bool {
			w.t.Logf("divergence %s %s %s %s %s %s keys %d seen %v", d.ID, d.Member, d.Table, d.State, d.Kind, d.Cause, d.Keys, d.FirstSeen)
			return true
		}))
		w.t.Fatalf("%d keys are told of, %d differ at %v", told, len(w.oracle()), w.now)
	}
}

// told sums up the keys of the divergences that people are told of.
func (w *world) told() int {
	keys := 0
	w.must(w.group.Divergences(func(d *align.Divergence) bool {
		if d.State == align.Open {
			keys += int(d.Keys)
		}
		return true
	}))
	return keys
}

func (w *world) checkSums(id align.MemberID, t cdc.TableID) {
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
