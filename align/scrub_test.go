package align_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// simRead is rows of a table being read from a server while it goes on.
type simRead struct {
	on    *server
	watch *align.Watch
	scan  align.Scan
	read  bool
}

// scrubStep begins to read rows of a server, or brings a read one step forward.
func (w *world) scrubStep(s *server) {
	for i, r := range w.reads {
		if r.on == s {
			if w.readStep(r) {
				w.reads = slices.Delete(w.reads, i, i+1)
			}
			return
		}
	}
	table := tables[rapid.IntRange(0, 1).Draw(w.t, "scrub table")]
	watch := w.ledger.Watch(table, s.id)
	if watch == nil {
		return
	}
	r := &simRead{on: s, watch: watch}
	w.reads = append(w.reads, r)
	r.scan.View.Cut = s.end
	if s.engine == "mysql" { // rows are of some moment between two positions
		return
	}
	w.readRows(r)
}

// readRows draws which rows to read, and reads them.
func (w *world) readRows(r *simRead) {
	table := r.watch.Table()
	r.read, r.scan.View.Settled = true, r.on.end
	from, to := 0, 24
	switch rapid.IntRange(0, 2).Draw(w.t, "scan of") {
	case 0: // some keys
		r.scan.Keys = []digest.Key{}
		for n := 1; n <= 24; n++ {
			if rapid.Bool().Draw(w.t, "asked for") {
				r.scan.Keys = append(r.scan.Keys, keyOf(table, n))
			}
		}
	case 1: // a span
		from = rapid.IntRange(0, 24).Draw(w.t, "after")
		to = rapid.IntRange(from, 24).Draw(w.t, "through")
		fallthrough
	case 2:
		r.scan.Span = true
		if from > 0 {
			r.scan.After = keyOf(table, from)
		}
		if to < 24 {
			r.scan.Through = keyOf(table, to)
		}
	}
	for n := from + 1; n <= to; n++ {
		key := keyOf(table, n)
		asked := r.scan.Keys == nil || slices.ContainsFunc(r.scan.Keys, func(k digest.Key) bool { return bytes.Equal(k, key) })
		if value := r.on.rows[table][n]; value != 0 && asked {
			r.scan.Rows = append(r.scan.Rows, align.ScannedRow{Key: key, Row: digest.AppendRow(nil, &digest.Row{Digest: digestOf(table, n, value)})})
		}
	}
}

// readStep reports whether the read has ended.
func (w *world) readStep(r *simRead) bool {
	switch {
	case !r.read:
		w.readRows(r)
		return false
	case !r.watch.Broken() && w.ledger.Position(r.on.id) < r.scan.View.Settled:
		return false
	case !r.watch.Broken():
		var found []align.Mismatch
		for _, part := range r.scan.Split(rapid.IntRange(1, 9).Draw(w.t, "at once")) {
			some, err := w.ledger.Mismatches(r.watch, &part)
			w.must(err)
			found = append(found, some...)
		}
		w.scanned++
		if len(found) > 0 && !w.silent {
			w.t.Fatalf("member %d table %d: a read of %d rows from %v to %v finds %d that are not as the log says, first %x",
				r.on.id, r.watch.Table(), len(r.scan.Rows), r.scan.View.Cut, r.scan.View.Settled, len(found), found[0].Key)
		}
	}
	w.ledger.Unwatch(r.watch)
	return true
}

// change behind the log's back
func (w *world) silently(s *server) {
	t := tables[rapid.IntRange(0, 1).Draw(w.t, "silent table")]
	n := rapid.IntRange(1, 24).Draw(w.t, "silent key")
	w.values++
	if rapid.IntRange(0, 2).Draw(w.t, "silent op") == 0 {
		delete(s.rows[t], n)
	} else {
		s.rows[t][n] = w.values
	}
	w.t.Logf("silent change of %d %d on %d", t, n, s.id)
}

// scrubAll reads all rows of all members, while nothing else happens, and mends what is kept of them.
func (w *world) scrubAll() (mended int) {
	for _, t := range tables {
		mended += w.reread(t, nil)
	}
	return mended
}

// resolve reads the rows that are under suspicion again, where that can be done, while nothing else happens.
func (w *world) resolve() {
	for _, t := range tables {
		keys := []digest.Key{}
		for id := range w.servers {
			keys = append(keys, w.ledger.Suspects(t, id)...)
		}
		slices.SortFunc(keys, digest.Key.Compare)
		if len(keys) > 0 && w.ledger.Live(t, refID) {
			w.reread(t, slices.CompactFunc(keys, func(a, b digest.Key) bool { return bytes.Equal(a, b) }))
		}
	}
}

// reread reads rows of a table on all members that have all that the reference has, all rows if keys is nil.
func (w *world) reread(t cdc.TableID, keys []digest.Key) (mended int) {
	again := align.Reread{Keys: keys, Found: make(map[cdc.MemberID][]align.Mismatch)}
	for id, s := range w.servers {
		watch := w.ledger.Watch(t, id)
		switch {
		case watch == nil && keys == nil:
			w.t.Fatalf("member %d table %d is not live", id, t)
		case watch == nil, keys != nil && !w.ledger.CaughtUp(t, id, w.ledger.Mark()):
			continue
		}
		scan := align.Scan{Span: keys == nil, Keys: keys, View: cdc.View{Cut: s.end, Settled: s.end}}
		for _, n := range slices.Sorted(maps.Keys(s.rows[t])) {
			key := keyOf(t, n)
			if _, asked := slices.BinarySearchFunc(keys, key, digest.Key.Compare); asked || keys == nil {
				scan.Rows = append(scan.Rows, align.ScannedRow{Key: key, Row: digest.AppendRow(nil, &digest.Row{Digest: digestOf(t, n, s.rows[t][n])})})
			}
		}
		some, err := w.ledger.Mismatches(watch, &scan)
		w.must(err)
		w.ledger.Unwatch(watch)
		again.Found[id] = some
		mended += len(some)
	}
	w.must(w.ledger.Mend(t, again))
	return mended
}

// Rows that are read while everything goes on, at any moment between two positions, are what the log says they were:
// whatever was written meanwhile, moved over the border of what is read, or not visible yet.
func TestRowsReadWhileTheyChangeAreNeverHeldToBeOthers(t *testing.T) {
	reads := 0
	rapid.Check(t, func(t *rapid.T) { reads += runScrubs(t, false).scanned })
	if reads == 0 {
		t.Fatal("no history had a read that came to its end")
	}
}

// Rows are changed on any member without a trace in its log. Once all rows are read, what differs is known by its exact
// keys, and every range digest is that of the rows.
func TestScrubFindsWhatNoLogShows(t *testing.T) {
	mended := 0
	rapid.Check(t, func(t *rapid.T) {
		w := runScrubs(t, true)
		w.settle(45)
		mended += w.scrubAll()
		w.settle(45)
		w.check()
		if again := w.scrubAll(); again > 0 {
			t.Fatalf("%d rows are not what is kept of them after they were mended", again)
		}
	})
	if mended == 0 {
		t.Fatal("no history had a row to be mended")
	}
}

func runScrubs(t *rapid.T, silent bool) *world {
	w := newWorld(t, rapid.SampledFrom([]string{"postgres", "mariadb", "mysql"}).Draw(t, "engine"), silent)
	w.silent = silent
	t.Cleanup(w.close)
	for range 5 {
		w.author()
	}
	w.settle(8)
	all := []cdc.MemberID{refID, oneLane, twoLane}
	for range rapid.IntRange(20, 150).Draw(t, "steps") {
		w.now = w.now.Add(time.Millisecond)
		s := w.servers[all[rapid.IntRange(0, 2).Draw(t, "server")]]
		switch rapid.IntRange(0, 13).Draw(t, "step") {
		case 0, 1:
			w.author()
		case 2, 3:
			if s.id != refID {
				lanes := s.sortedLanes()
				w.replay(s, lanes[rapid.IntRange(0, len(lanes)-1).Draw(t, "lane")], false)
			}
		case 4, 5, 6:
			w.deliver(s)
		case 7, 8, 9, 10:
			w.scrubStep(s)
		case 11:
			w.ask(s)
			w.claim(s)
		case 12:
			w.ledger.At(w.now)
			w.must(w.ledger.Tick())
			w.commit()
		case 13:
			if silent {
				w.silently(s)
			} else if rapid.IntRange(0, 3).Draw(t, "mishap") == 0 {
				w.crash()
			}
		}
		if !silent {
			if d := w.divergent(); len(d) > 0 {
				t.Fatalf("false divergence: %v", d)
			}
		}
	}
	return w
}

// The spans of verified keys against a map from each key to when it was verified.
func TestVerifiedSpansTellWhenEachKeyWasVerified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "postgres", false)
		defer w.close()
		want := make(map[int]time.Time)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(6, 100).Draw(t, "later")) * time.Second)
			after := rapid.IntRange(0, 20).Draw(t, "after")
			through := rapid.IntRange(after+1, 21).Draw(t, "through")
			v := align.Verified{At: w.now}
			if after > 0 {
				v.After = keyOf(1, after)
			}
			var to digest.Key
			if through < 21 {
				to = keyOf(1, through)
			}
			w.must(w.ledger.Verified(1, oneLane, v, to))
			for n := after + 1; n <= through; n++ {
				want[n] = w.now
			}
			if rapid.IntRange(0, 4).Draw(t, "crash") == 0 {
				w.commit()
				w.crash()
			}
			oldest := w.now
			for n := 1; n <= 21; n++ {
				if want[n].Before(oldest) {
					oldest = want[n]
				}
			}
			if got := w.ledger.Stalest(1, oneLane); !got.At.Equal(oldest) {
				t.Fatalf("the stalest key was verified at %v, told is %v (%s)", oldest, got.At, fmt.Sprint(want))
			}
			w.checkStalestOf(want, rapid.IntRange(0, 20).Draw(t, "behind"), rapid.IntRange(1, 21).Draw(t, "up to"))
		}
	})
}

// What was read for a scrub beside rows that had been read a second before was held to be as old as those, and read again,
// at full speed, until five seconds were over.
func TestAScrubIsDoneWhenItsRowsWereReadHoweverSoonItIsAskedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "postgres", false)
		defer w.close()
		for _, m := range []cdc.MemberID{refID, oneLane, twoLane} {
			w.must(w.ledger.Verified(1, m, align.Verified{At: w.now}, nil))
		}
		w.now = w.now.Add(time.Second)
		request := &align.ScrubRequest{Tables: []string{"public.t1"}, Requested: w.now, After: keyOf(1, 5), Through: keyOf(1, 9)}
		w.ledger.Asked(w.now)
		for _, m := range []cdc.MemberID{refID, oneLane, twoLane} {
			if done := w.ledger.ScrubDone(request); done == 1 {
				t.Fatal("it is done before all was read")
			}
			w.must(w.ledger.Verified(1, m, align.Verified{After: keyOf(1, 5), At: w.now.Add(time.Millisecond)}, keyOf(1, 9)))
		}
		if done := w.ledger.ScrubDone(request); done != 1 {
			t.Errorf("done is %v", done)
		}
	})
}

// checkStalestOf holds what is told of the keys behind one up to another against when each was verified.
func (w *world) checkStalestOf(verified map[int]time.Time, after, through int) {
	if through <= after {
		return
	}
	request, oldest := &align.ScrubRequest{Requested: w.now}, w.now
	if after > 0 {
		request.After = keyOf(1, after)
	}
	if through < 21 {
		request.Through = keyOf(1, through)
	}
	first := after + 1 // of the oldest
	for n := after + 1; n <= through; n++ {
		if verified[n].Before(oldest) {
			first, oldest = n, verified[n]
		}
	}
	got := w.ledger.StalestOf(request, 1, oneLane)
	behind := digest.Key(nil)
	if first > 1 {
		behind = keyOf(1, first-1)
	}
	if !got.At.Equal(oldest) || !bytes.Equal(got.After, behind) {
		w.t.Fatalf("of %d to %d the stalest are behind %x, verified at %v; told is %x, %v (%v)", after+1, through, behind, oldest, got.After, got.At, verified)
	}
}

// comparison is rows of a member that is only scanned on their way to be held against the reference's.
type comparison struct {
	watch   *align.Watch
	table   cdc.TableID
	mark    cdc.TxSet
	scan    align.Scan
	read    bool
	barrier cdc.LSN
}

// compareStep begins to read rows of a member that is only scanned, or brings a read one step forward.
func (w *world) compareStep(s *server, c *comparison, keys []digest.Key) *comparison {
	switch {
	case c == nil:
		c = &comparison{table: tables[rapid.IntRange(0, 1).Draw(w.t, "compared table")]}
		if !w.ledger.Scannable(c.table, s.id) {
			return nil
		}
		c.watch, c.mark = w.ledger.Watch(c.table, refID), w.ledger.Mark()
		c.scan.Keys = keys
	case c.watch.Broken():
		return nil
	case !c.read && w.ledger.CaughtUp(c.table, s.id, c.mark):
		c.read, c.barrier = true, w.servers[refID].end
		c.scan.Span = c.scan.Keys == nil
		for _, n := range slices.Sorted(maps.Keys(s.rows[c.table])) {
			key := keyOf(c.table, n)
			if keys == nil || slices.ContainsFunc(keys, func(k digest.Key) bool { return bytes.Equal(k, key) }) {
				c.scan.Rows = append(c.scan.Rows, align.ScannedRow{Key: key, Row: digest.AppendRow(nil, &digest.Row{Digest: digestOf(c.table, n, s.rows[c.table][n])})})
			}
		}
	case c.read && w.ledger.Position(refID) >= c.barrier:
		suspects, err := w.ledger.Compare(c.watch, s.id, &c.scan)
		w.must(err)
		w.ledger.Unwatch(c.watch)
		if len(suspects) > 0 && !w.silent {
			w.t.Fatalf("%d rows of member %d are held not to be the reference's, first %x", len(suspects), s.id, suspects[0])
		}
		w.scanned++
		return nil
	}
	return c
}

// compareAll judges every row of a member that is only scanned, while nothing else happens.
func (w *world) compareAll(s *server) {
	for _, t := range tables {
		if !w.ledger.Scannable(t, s.id) {
			w.t.Fatalf("table %d cannot be scanned", t)
		}
		watch := w.ledger.Watch(t, refID)
		scan := align.Scan{Keys: []digest.Key{}}
		for n := 1; n <= 24; n++ {
			scan.Keys = append(scan.Keys, keyOf(t, n))
			if value := s.rows[t][n]; value != 0 {
				scan.Rows = append(scan.Rows, align.ScannedRow{Key: keyOf(t, n), Row: digest.AppendRow(nil, &digest.Row{Digest: digestOf(t, n, value)})})
			}
		}
		suspects, err := w.ledger.Compare(watch, s.id, &scan)
		w.must(err)
		if len(suspects) > 0 {
			w.t.Fatalf("%d rows are said to have moved although nothing did", len(suspects))
		}
		w.ledger.Unwatch(watch)
	}
}

func runComparisons(t *rapid.T, faults bool) *world {
	w := newWorld(t, rapid.SampledFrom([]string{"postgres", "mariadb", "mysql"}).Draw(t, "engine"), faults, twoLane)
	w.silent, w.maxInFlight = faults, 0
	t.Cleanup(w.close)
	w.settle(8)
	var c *comparison
	two := w.servers[twoLane]
	all := []cdc.MemberID{refID, oneLane, twoLane}
	for range rapid.IntRange(20, 150).Draw(t, "steps") {
		w.now = w.now.Add(time.Millisecond)
		s := w.servers[all[rapid.IntRange(0, 2).Draw(t, "server")]]
		switch rapid.IntRange(0, 12).Draw(t, "step") {
		case 0, 1:
			w.author()
		case 2, 3, 4:
			if s.id != refID {
				lanes := s.sortedLanes()
				lane := lanes[rapid.IntRange(0, len(lanes)-1).Draw(t, "lane")]
				w.replay(s, lane, faults && rapid.IntRange(0, 4).Draw(t, "faulty") == 0)
			}
		case 5, 6:
			w.deliver(s)
		case 7, 8, 9:
			c = w.compareStep(two, c, nil)
		case 10, 11:
			w.ask(s)
			w.claim(s)
		case 12:
			w.must(w.ledger.Tick())
			w.commit()
		}
		if !faults {
			if d := w.divergent(); len(d) > 0 {
				t.Fatalf("false divergence: %v", d)
			}
		}
	}
	return w
}

// A member that is only scanned is read at any moment while the reference goes on and the member replays it late: if it
// replays rightly, no row of it is ever held to differ.
func TestScannedMembersThatReplayRightlyNeverDiffer(t *testing.T) {
	reads := 0
	rapid.Check(t, func(t *rapid.T) { reads += runComparisons(t, false).scanned })
	if reads == 0 {
		t.Fatal("no history had a read that came to its end")
	}
}

func TestScannedMembersDifferInTheRowsThatDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := runComparisons(t, true)
		w.settle(45)
		w.compareAll(w.servers[twoLane])
		w.settle(20)
		if got, want := w.divergent(), w.oracle(); !maps.Equal(got, want) {
			t.Fatalf("divergent keys\n got %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	})
}
