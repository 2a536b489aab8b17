package align_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// simDrill is a range of a sparse table that is being read, in two halves of different moments.
type simDrill struct {
	align.Drill
	on     cdc.MemberID
	watch  *align.Watch
	rows   []align.ScannedRow
	halves int
	end    cdc.LSN
	sure   bool
}

// drillStep begins to read the rows of a range that is wanted, or brings a read one step forward.
func (w *world) drillStep(s *server) {
	for i, d := range w.drills {
		if d.on != s.id {
			continue
		}
		switch {
		case d.halves < 2:
			w.readHalf(s, d)
		case d.watch.Broken() || w.ledger.Position(s.id) >= d.end:
			if w.endDrill(d) {
				w.drills = slices.Delete(w.drills, i, i+1)
			}
		}
		return
	}
	wanted := w.ledger.Drills(s.id)
	if len(wanted) == 0 {
		return
	}
	w.beginDrill(s, &simDrill{Drill: wanted[rapid.IntRange(0, len(wanted)-1).Draw(w.t, "drill")], on: s.id})
}

func (w *world) beginDrill(s *server, d *simDrill) {
	if d.watch = w.ledger.Watch(d.Table, s.id); d.watch != nil {
		w.t.Logf("drill %v on %d", d.Drill, s.id)
		w.drills = append(w.drills, d)
	}
}

func (w *world) readHalf(s *server, d *simDrill) {
	for n := range maxKey + 1 {
		k := keyOf(d.Table, n)
		if n%2 != d.halves || bytes.Compare(k, d.Start) < 0 || d.End != nil && bytes.Compare(k, d.End) >= 0 {
			continue
		}
		if value := s.rows[d.Table][n]; value != 0 {
			row := digest.AppendRow(nil, &digest.Row{Digest: digestOf(d.Table, n, value)})
			d.rows = append(d.rows, align.ScannedRow{Key: k, Row: row})
		}
	}
	d.halves++
	d.end = s.end
}

// endDrill hands the rows over; if they do not fit they are read once more.
func (w *world) endDrill(d *simDrill) bool {
	ok, err := w.ledger.Drilled(d.watch, d.Drill, d.rows, d.sure)
	w.must(err)
	w.ledger.Unwatch(d.watch)
	w.t.Logf("drilled %v on %d: %v", d.Drill, d.on, ok)
	if ok {
		w.drilled++
		return true
	}
	if !w.silent {
		w.t.Fatalf("the sum of %v on %d is not that of its rows", d.Drill, d.on)
	}
	d.watch, d.rows, d.halves, d.sure = w.ledger.Watch(d.Table, d.on), nil, 0, true
	return d.watch == nil
}

func runSparse(t *rapid.T, faults bool) *world {
	w := newWorldOf(t, rapid.SampledFrom([]string{"mariadb", "mysql"}).Draw(t, "engine"), faults, true)
	all := []cdc.MemberID{refID, oneLane, twoLane}
	any := func() *server { return w.servers[all[rapid.IntRange(0, 2).Draw(t, "server")]] }
	replica := func() *server { return w.servers[all[rapid.IntRange(1, 2).Draw(t, "replica")]] }
	for range 8 {
		w.author()
	}
	w.settle(12)
	for range rapid.IntRange(20, 200).Draw(t, "steps") {
		w.now = w.now.Add(time.Millisecond)
		switch rapid.IntRange(0, 17).Draw(t, "step") {
		case 0, 1, 2:
			w.author()
		case 3, 4, 5:
			w.replay(replica(), cdc.GTIDLane, faults && rapid.IntRange(0, 4).Draw(t, "faulty") == 0)
		case 6, 7, 8, 9:
			w.deliver(any())
		case 10:
			s := any()
			w.ask(s)
			w.claim(s)
		case 11:
			w.scanStep(any())
		case 12:
			_, err := w.ledger.Replay()
			w.must(err)
			w.ledger.At(w.now)
			w.must(w.ledger.Tick())
		case 13:
			w.commit()
		case 14:
			if rapid.IntRange(0, 3).Draw(t, "crash") == 0 {
				w.crash()
			}
		case 15:
			if faults {
				w.stray(replica())
			}
		default:
			w.drillStep(any())
		}
		if !faults {
			if d := w.divergent(); len(d) > 0 {
				t.Fatalf("false divergence: %v", d)
			}
		}
		w.checkReasons()
	}
	w.settle(45)
	w.end()
	return w
}

// checkForgotten makes sure that rows are kept only of ranges in which some differ.
func (w *world) checkForgotten() {
	differ := make(map[int]bool)
	for _, id := range []cdc.MemberID{oneLane, twoLane} {
		ranges, _ := w.ledger.RangeDigests(1, id)
		w.must(w.group.DivergentKeys(id, 1, nil, nil, func(k digest.Key, _ *align.DivergentKey) (bool, error) {
			differ[ranges.Find(k)] = true
			return true, nil
		}))
	}
	for id := range w.servers {
		ranges, _ := w.ledger.RangeDigests(1, id)
		for generation := range uint32(100) {
			at := align.Space{Member: id, Table: 1, Generation: generation}
			w.must(w.group.Rows(at, nil, nil, func(k digest.Key, _ []byte) (bool, error) {
				if !differ[ranges.Find(k)] {
					w.t.Fatalf("a row of range %d of member %d is kept although none of it differs", ranges.Find(k), id)
				}
				return true, nil
			}))
		}
	}
}

// Without a row index the keys come from reading ranges whose sums do not agree; they are the same keys.
func TestAnyHistoryWithoutARowIndexEndsWithExactKeys(t *testing.T) {
	drilled := 0
	rapid.Check(t, func(t *rapid.T) { drilled += runSparse(t, true).drilled })
	if drilled == 0 {
		t.Error("no range was read to find its keys")
	}
}

func TestHealthyReplicasNeverDifferWithoutARowIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runSparse(t, false) })
}

// settledSparse is a group with a sparse table that is compared, with rows of some keys.
func settledSparse(t *rapid.T, keys ...int) *world {
	w := newWorldOf(t, rapid.SampledFrom([]string{"mariadb", "mysql"}).Draw(t, "engine"), true, true)
	for _, n := range keys {
		w.authorOf([]change{{table: 1, key: n, to: 7000 + n}})
	}
	w.settle(45)
	return w
}

func (w *world) end() {
	w.check()
	w.checkForgotten()
	w.close()
}

func TestRangeThatDifferedBeforeACrashIsReadAfterIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := settledSparse(t, 1, 5, 9)
		s := w.servers[oneLane]
		s.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 5, to: 8001}})
		for range 2 { // once the reference has shown all that it has, the other transaction is the replica's own
			for w.deliver(s) {
			}
			w.now = w.now.Add(time.Second)
			w.ask(w.servers[refID])
			w.claim(w.servers[refID])
		}
		if s.read < len(s.log) {
			t.Fatal("the replica's own transaction was not applied")
		}
		w.commit()
		if rapid.Bool().Draw(t, "drilled") {
			w.settle(3)
		}
		w.crash()
		w.settle(45)
		if len(w.divergent()) != 1 {
			t.Fatalf("divergent keys are %v", w.divergent())
		}
		w.end()
	})
}

func TestRangeOfASparseTableThatHasGrownIsSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := settledSparse(t, 1)
		for n := range maxKey {
			w.authorOf([]change{{table: 1, key: n + 1, to: 8000 + n}})
		}
		w.settle(45)
		if ranges, _ := w.ledger.RangeDigests(1, refID); ranges.Len() < 5 {
			t.Fatalf("%d rows are in %d ranges", maxKey, ranges.Len())
		}
		w.end()
	})
}

// scrubRange reads the rows of a range again although nothing is known to differ.
func (w *world) scrubRange(s *server) {
	after := keyOf(1, rapid.IntRange(0, maxKey).Draw(w.t, "scrub after"))
	if d, ok := w.ledger.RangeBehind(1, s.id, after); ok && !slices.ContainsFunc(w.drills, func(d *simDrill) bool { return d.on == s.id }) {
		w.beginDrill(s, &simDrill{Drill: d, on: s.id})
	}
}

// Rows are changed without a trace in any log, and the stream changes them further: reading all ranges finds the keys, and
// until then nothing is made up.
func TestRowsChangedWithoutATraceInASparseTableAreFoundByReadingItsRanges(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		w := settledSparse(t, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		w.silent = true
		any := func() *server {
			return w.servers[[]cdc.MemberID{refID, oneLane, twoLane}[rapid.IntRange(0, 2).Draw(t, "server")]]
		}
		for range rapid.IntRange(10, 120).Draw(t, "steps") {
			w.now = w.now.Add(time.Millisecond)
			switch s := any(); rapid.IntRange(0, 8).Draw(t, "step") {
			case 0:
				w.authorOf([]change{{table: 1, key: rapid.IntRange(1, 12).Draw(t, "key"), to: 9000 + len(w.history)}})
			case 1, 2:
				if s.id != refID {
					w.replay(s, cdc.GTIDLane, false)
				}
			case 3, 4:
				w.deliver(s)
			case 5:
				n := rapid.IntRange(1, 12).Draw(t, "silent key")
				if w.values++; rapid.Bool().Draw(t, "silent delete") {
					delete(s.rows[1], n)
				} else {
					s.rows[1][n] = 20_000 + w.values
				}
			case 6:
				w.commit()
			case 7:
				w.scrubRange(s)
			case 8:
				w.drillStep(s)
			}
		}
		w.settle(45)
		for range 2 { // all ranges of all members
			for _, id := range []cdc.MemberID{refID, oneLane, twoLane} {
				ranges, _ := w.ledger.RangeDigests(1, id)
				for i := range ranges.Len() {
					d, ok := w.ledger.RangeBehind(1, id, ranges.Start(i))
					if !ok {
						t.Fatalf("range %d of member %d cannot be read", i, id)
					}
					for len(w.drills) > 0 {
						w.settle(1)
					}
					w.beginDrill(w.servers[id], &simDrill{Drill: d, on: id})
				}
			}
		}
		w.settle(45)
		found += len(w.divergent())
		w.end()
	})
	if found == 0 {
		t.Error("no row that was changed without a trace was found")
	}
}
