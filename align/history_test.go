package align_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

func runHistory(t *rapid.T, faults bool) *world {
	w := newWorld(t, rapid.SampledFrom([]string{"postgres", "mariadb", "mysql"}).Draw(t, "engine"), faults)
	all := []cdc.MemberID{refID, oneLane, twoLane}
	any := func() *server { return w.servers[all[rapid.IntRange(0, 2).Draw(t, "server")]] }
	replica := func() *server { return w.servers[all[rapid.IntRange(1, 2).Draw(t, "replica")]] }
	// Most histories begin with a group that is compared, the others with one that nothing is known of.
	if rapid.IntRange(0, 3).Draw(t, "warm") > 0 {
		for range 5 {
			w.author()
		}
		w.settle(8)
	}
	for range rapid.IntRange(20, 200).Draw(t, "steps") {
		w.now = w.now.Add(time.Millisecond)
		switch rapid.IntRange(0, 15).Draw(t, "step") {
		case 0, 1, 2:
			w.author()
		case 3, 4, 5:
			s := replica()
			lanes := s.sortedLanes()
			lane := lanes[rapid.IntRange(0, len(lanes)-1).Draw(t, "lane")]
			w.replay(s, lane, faults && rapid.IntRange(0, 4).Draw(t, "faulty") == 0)
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
			w.t.Logf("tick")
		case 13:
			w.commit()
		case 14:
			switch rapid.IntRange(0, 4).Draw(t, "mishap") {
			case 0, 1:
				w.crash()
			case 2, 3: // something cast doubt on what is kept of a table on a member, the reference too
				w.must(w.ledger.Doubt(tables[rapid.IntRange(0, 1).Draw(t, "table")], any().id, "drawn"))
			}
		case 15:
			if faults {
				if s := replica(); rapid.Bool().Draw(t, "ring") {
					w.ring(s)
				} else {
					w.stray(s)
				}
			}
		}
		if !faults {
			if d := w.divergent(); len(d) > 0 {
				t.Fatalf("false divergence: %v", d)
			}
		}
		w.checkReasons()
	}
	w.settle(45)
	w.check()
	w.close()
	return w
}

// Whatever the batching, the order in which the streams arrive, and the restarts in between: the incremental range
// digests are those of the final rows, and the divergent keys are those that differ.
func TestAnyHistoryEndsWithTheDigestsOfItsRowsAndExactKeys(t *testing.T) {
	resumed := 0
	rapid.Check(t, func(t *rapid.T) { resumed += runHistory(t, true).resumed })
	if resumed == 0 {
		t.Error("no scan went on after an interruption")
	}
}

// Without a fault nothing may ever be held to differ, at no step.
func TestHealthyReplicasNeverDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runHistory(t, false) })
}

// A row is changed with sql_log_bin = 0, and the next update makes it right again: the member's log says that the row was
// another one before than was known. No difference is left, and the sums must be those of the rows.
func TestBeforeImageOfARowThatWasChangedWithoutATraceDoesNotSpoilTheSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "mysql", false)
		w.authorOf([]change{{table: 1, key: 3, to: 7001}, {table: 1, key: 4, to: 7002}})
		w.settle(45)
		w.servers[oneLane].rows[1][3] = 7003
		w.authorOf([]change{{table: 1, key: 3, to: rapid.SampledFrom([]int{0, 7004}).Draw(t, "to")}})
		w.settle(45)
		w.checkReasons()
		w.check()
		w.close()
	})
}

// What a lane replays before anything is known of it is applied at once, also if the reference's stream is behind.
func TestMemberAheadOfTheReferencesStreamIsNotComparedYet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]string{"postgres", "mariadb", "mysql"}).Draw(t, "engine"), false)
		ref, one := w.servers[refID], w.servers[oneLane]
		ref.scanned(w)
		w.authorOf([]change{{table: 1, key: 3, to: 7001}})
		w.replay(one, one.laneOf(1), false)
		w.deliver(one)
		w.ask(one)
		w.claim(one)
		one.scanned(w)
		if found := w.divergent(); len(found) > 0 {
			t.Fatalf("false divergence: %v", found)
		}
		w.settle(45)
		w.check()
		w.close()
	})
}

// A table waits for what was in flight while the reference was read: if that cannot arrive, people must read why.
func TestWhatWaitsForALaneThatStandsStillSaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, one := compared(t)
		w.authorOf([]change{{table: 1, key: 3, to: 7002}})
		w.deliver(w.servers[refID])
		w.must(w.ledger.Doubt(1, refID, "there is doubt"))
		w.servers[refID].scanned(w)
		w.ask(one)
		for i := range w.claims[one.id].Lanes {
			w.claims[one.id].Lanes[i].Enabled = false
		}
		for w.deliver(one) {
		}
		w.claim(one)
		w.must(w.ledger.Tick())
		for _, m := range w.ledger.Status(false) {
			for _, table := range m.Tables {
				if m.ID == one.id && table.Table == shapeOf(1).Table && (table.Verdict != status.Unverified || !strings.HasSuffix(table.Reason, "is stopped")) {
					t.Fatalf("%s: %s", table.Verdict, table.Reason)
				}
			}
		}
	})
}

// A lane fell too far behind, and has caught up with what was written by then. What was written since is in no journal: rows that it
// has changed do not differ.
func TestWhatWasWrittenWhileALaneWasLostIsNotHeldAgainstIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, one := compared(t)
		w.maxInFlight = 12
		w.commit()
		w.crash()
		lane := one.laneOf(1)
		w.ask(one)
		w.claim(one)
		write := func(changes ...change) {
			w.authorOf(changes)
			for w.deliver(w.servers[refID]) {
			}
			_, err := w.ledger.Replay()
			w.must(err)
		}
		for n := range 7 {
			write(change{table: 1, key: 3, to: 7002 + n}, change{table: 1, key: 4, to: 7002 + n})
		}
		for range 7 {
			w.replay(one, lane, false)
		}
		write(change{table: 1, key: 3, to: 7100})
		for range 5 {
			one.scanned(w)
			w.now = w.now.Add(time.Millisecond)
			for _, heard := range []*server{w.servers[refID], one} {
				w.ask(heard)
				w.claim(heard)
			}
		}
		if found := w.divergent(); len(found) > 0 {
			t.Fatalf("false divergence: %v", found)
		}
		w.settle(45)
		w.check()
		w.close()
	})
}

// After the clock was set, or the machine slept, nobody knows how long ago a member was heard from.
func TestWhatWasHeardBeforeTheClockJumpedCountsForNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, one := compared(t)
		expect := func(when string, want map[cdc.MemberID]bool) {
			for _, m := range w.ledger.Status(false) {
				for _, table := range m.Tables {
					if known, mute := want[m.ID]; known && mute != strings.Contains(table.Reason, "since the clock of lockstep's machine was set") {
						t.Fatalf("%s %s is %s: %q", when, m.Name, table.Verdict, table.Reason)
					}
				}
			}
		}
		expect("before,", map[cdc.MemberID]bool{refID: false, one.id: false})
		w.now = w.now.Add(time.Millisecond)
		w.ledger.At(w.now)
		w.ledger.Mistrust()
		expect("after it", map[cdc.MemberID]bool{refID: true, one.id: true})
		w.now = w.now.Add(time.Millisecond)
		heard := func(s *server) {
			w.ask(s)
			for w.deliver(s) {
			}
			w.claim(s)
		}
		heard(w.servers[refID])
		expect("with the reference heard", map[cdc.MemberID]bool{refID: false, one.id: true})
		heard(one)
		expect("with both heard", map[cdc.MemberID]bool{refID: false, one.id: false})
	})
}

// After a restart a lane is known from what was kept, and neither its name nor whether it goes on is: of that it was said that " of
// us-1 is stopped".
func TestALaneThatWasNotAskedForSinceTheStartIsNotSaidToBeStopped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, one := compared(t)
		w.authorOf([]change{{table: 1, key: 3, to: 7002}})
		w.deliver(w.servers[refID])
		w.must(w.ledger.Doubt(1, refID, "there is doubt"))
		w.servers[refID].scanned(w)
		w.commit()
		w.crash()
		for _, m := range w.ledger.Status(false) {
			for _, table := range m.Tables {
				if m.ID == one.id && (strings.Contains(table.Reason, "is stopped") || strings.Contains(table.Reason, "  ") || strings.Contains(table.Reason, "how far  is")) {
					t.Fatalf("%s: %s", table.Verdict, table.Reason)
				}
			}
		}
		w.close()
	})
}

// compared is a group that is compared and agrees, in the row 3 too, and its member of one lane.
func compared(t *rapid.T) (*world, *server) {
	w := newWorld(t, rapid.SampledFrom([]string{"postgres", "mariadb", "mysql"}).Draw(t, "engine"), false)
	w.authorOf([]change{{table: 1, key: 3, to: 7001}})
	w.settle(45)
	return w, w.servers[oneLane]
}

// A row that was told to be changed is gone: until that is told the divergence stays open, over a restart too. No all-clear is
// given while the row differs, and one is once it does not.
func TestADivergenceGoesOnWhileItsRowsDifferInAnotherWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, one := compared(t)
		one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3, to: 7002}})
		w.settle(20)
		w.check()
		one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3}})
		crashes := rapid.IntRange(0, 20).Draw(t, "crashes after")
		for i := range 20 {
			w.settle(1)
			if w.told() == 0 {
				t.Fatalf("nothing is told %d s after the row came to differ in another way", i+1)
			}
			if i == crashes {
				w.crash()
			}
		}
		w.check()
		one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3, to: 7001}})
		w.settle(20)
		w.check()
		w.close()
	})
}

// A row that differs in another way each second is told of once the budget is over, and no all-clear is given from then on,
// over a restart too, until it is right again.
func TestARowThatKeepsDifferingInOtherWaysIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, one := compared(t)
		crashes := rapid.IntRange(0, 40).Draw(t, "crashes after")
		for i := range 40 {
			one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3, to: []int{7002, 0}[i%2]}})
			w.settle(1)
			if i == crashes {
				w.crash()
			}
			if i > 20 && w.told() == 0 {
				t.Fatalf("nothing is told %d s after the row began to differ", i+1)
			}
		}
		w.must(w.group.Divergences(func(d *finding.Divergence) bool {
			if d.State == finding.Resolved && !strings.Contains(d.Detail, "differ in another way now: ") {
				t.Errorf("%+v is over, and does not say how the row goes on", d)
			}
			return true
		}))
		w.settle(20)
		w.check()
		one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3, to: 7001}})
		w.settle(20)
		w.check()
		w.close()
	})
}

// What was kept by a clock that was a day ahead, which was put right since, is not waited for: a row that differs is told of, and
// so is lateness.
func TestAClockThatWasAheadDelaysNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]string{"postgres", "mariadb", "mysql"}).Draw(t, "engine"), false)
		w.authorOf([]change{{table: 1, key: 3, to: 7001}})
		w.now = w.now.Add(24 * time.Hour)
		w.settle(45)
		one := w.servers[oneLane]
		if rapid.Bool().Draw(t, "late") {
			w.authorOf([]change{{table: 1, key: 3, to: 7002}})
			for w.deliver(w.servers[refID]) {
			}
			one.held = true
		} else {
			one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3, to: 7002}})
		}
		w.settle(1)
		w.commit()
		w.now = w.now.Add(-24 * time.Hour)
		w.crash()
		w.settle(45)
		if w.told() == 0 {
			t.Fatal("nothing is told")
		}
		w.close()
	})
}

// Which lane brings all of a table is judged by the reference's definitions: a publication may leave out rows since a moment
// ago. A suspicion waits until it was judged by definitions that were read after it began; a false alarm was raised by lanes
// that were asked for before the definitions were.
func TestASuspicionWaitsForLanesByTheDefinitionsOfThen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "postgres", false)
		w.settle(45)
		one := w.servers[oneLane]
		one.write(cdc.TxID{}, "", w.now, []change{{table: 1, key: 3, to: 7002}})
		later := func() {
			for w.deliver(one) {
			}
			_, err := w.ledger.Replay()
			w.must(err)
			w.must(w.ledger.Tick())
			w.commit()
			w.now = w.now.Add(time.Minute)
			w.ledger.At(w.now)
		}
		later()
		w.ask(one)
		w.claim(one)
		later()
		w.ledger.Defined(refID, w.now)
		w.ledger.Defined(oneLane, w.now)
		later()
		later()
		if w.told() > 0 {
			t.Fatal("a divergence is told of before the lanes were asked for again")
		}
		w.ask(one)
		w.claim(one)
		later()
		later()
		if w.told() > 0 {
			t.Fatal("a divergence is told of before the reference has shown what it had")
		}
		w.ask(w.servers[refID])
		w.claim(w.servers[refID])
		later()
		if w.told() == 0 {
			t.Fatal("a row that differs is not told of")
		}
		w.close()
	})
}

// scanned reads the tables of a server and shows its stream, as far as the ledger lets it.
func (s *server) scanned(w *world) {
	for range 40 {
		w.scanStep(s)
		for w.deliver(s) {
		}
		_, err := w.ledger.Replay()
		w.must(err)
		w.must(w.ledger.Tick())
	}
}
