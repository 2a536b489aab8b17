package diff

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/status"
)

// inGroup runs a test on a group of a reference with ten rows and a member, of each engine.
func inGroup(t *testing.T, test func(t *testing.T, g *group, us *member)) {
	t.Helper()
	for _, engine := range cdctest.Engines {
		t.Run(string(engine), func(t *testing.T) { inGroupOf(t, engine, test) })
	}
}

func inGroupOf(t *testing.T, engine cdctest.Engine, test func(t *testing.T, g *group, us *member)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		g := newGroup(engine, 1, equal(10))
		test(t, g, g.member())
	})
}

// equal are rows with the keys from 1 to n.
func equal(n int) map[int]int {
	rows := map[int]int{}
	for k := 1; k <= n; k++ {
		rows[k] = 1
	}
	return rows
}

// during does things beside the comparison, until it is over.
func during(t *testing.T, o Options, things ...func(context.Context)) Result {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	for _, do := range things {
		go do(ctx)
	}
	r := run(t, o).Results[0]
	stop()
	synctest.Wait()
	return r
}

func expect(t *testing.T, r Result, verdict status.Verdict, reason string, keys ...string) {
	t.Helper()
	if r.Verdict != verdict || !strings.Contains(r.Reason, reason) || reason == "" && r.Reason != "" {
		t.Errorf("verdict %s (%s), want %s (%s)", r.Verdict, r.Reason, verdict, reason)
	}
	if diff := cmp.Diff(keys, found(r)); diff != "" {
		t.Errorf("keys (-want +got)\n%s", diff)
	}
}

func TestEqualTablesAreInStep(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		r := run(t, g.options(us)).Results[0]
		expect(t, r, status.InStep, "")
		if r.ReferenceRows != 10 || r.MemberRows != 10 || r.Parts != 1 || r.Suspects != 0 {
			t.Errorf("read %+v, want ten rows of each in one part", r)
		}
	})
}

func TestNeighboursAreOneRange(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		for _, k := range []int{2, 3, 4, 6} {
			us.Silently(remove(k))
		}
		us.Silently(put(9, 5))
		us.Silently(put(10, 5))
		us.Silently(put(11, 5))
		us.Silently(put(12, 5))
		for _, rows := range []int{1, 2, 3, 100} {
			o := g.options(us)
			o.PartRows = rows
			r := run(t, o).Results[0]
			expect(t, r, status.Diverged, "", "9-10 changed", "11-12 extra", "2-4 missing", "6 missing")
			if r.Keys != 8 {
				t.Errorf("%d keys, want 8", r.Keys)
			}
		}
	})
}

func TestDivergenceIsTheRecordOfTheContract(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		us.Silently(put(2, 3))
		us.Silently(put(3, 3))
		began := time.Now().UTC()
		d := run(t, g.options(us)).Results[0].Divergences
		if len(d) != 1 {
			t.Fatalf("%d divergences, want 1: %+v", len(d), d)
		}
		if d[0].FirstSeen.Before(began) || d[0].ConfirmedAt.Before(d[0].FirstSeen) {
			t.Errorf("seen at %v and confirmed at %v, want both after %v", d[0].FirstSeen, d[0].ConfirmedAt, began)
		}
		d[0].FirstSeen, d[0].ConfirmedAt = time.Time{}, time.Time{}
		want := finding.Divergence{
			ID: "1", Group: "shop", Table: goods, Member: "us-1", Reference: "eu-1", State: finding.Open, Kind: finding.Changed, Cause: finding.CauseUnknown,
			Ranges:    []finding.Range{{First: []byte(`{"id":2}`), Last: []byte(`{"id":3}`), Changed: 2}},
			Positions: map[string]string{"eu-1": g.at(g.ref).String(), "us-1": g.at(us).String()}, Keys: 2, LagBudget: "1s",
		}
		if diff := cmp.Diff(want, d[0]); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestMoreRangesThanAreListedAreCounted(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		for k := 1; k <= 9; k += 2 {
			us.Silently(put(k, 3))
		}
		o := g.options(us)
		o.MaxRanges = 2
		r := run(t, o).Results[0]
		expect(t, r, status.Diverged, "", "1 changed", "3 changed")
		if d := r.Divergences[0]; !d.Truncated || d.Keys != 5 {
			t.Errorf("%d keys, truncated %v, want 5 and true", d.Keys, d.Truncated)
		}
	})
}

// What is on its way for less than the lag budget is no difference.
func TestMemberThatCatchesUpInTimeIsInStep(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		g.ref.Write(put(3, 2), remove(4), put(11, 1))
		us.lag = 900 * time.Millisecond
		r := during(t, g.options(us), g.replays(us))
		expect(t, r, status.InStep, "")
		if r.Suspects != 3 {
			t.Errorf("%d suspects, want 3", r.Suspects)
		}
	})
}

func TestMemberOverItsLagBudgetIsStale(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		began := g.at(g.ref)
		g.ref.Write(put(3, 2), remove(4), put(11, 1))
		us.Enable(us.lane, false)
		r := run(t, g.options(us)).Results[0]
		expect(t, r, status.Stale, "", "3-4 stale", "11 stale")
		d := r.Divergences[0]
		had := g.at(g.ref).Latest()
		want := fmt.Sprintf("%s of us-1 has replayed up to %v only, and not %v, after 1s: it is stopped", g.title(us), began, had.Without(began))
		if d.Detail != want {
			t.Errorf("detail %q, want %q", d.Detail, want)
		}
		if x := d.Ranges[0]; x.Changed != 1 || x.Extra != 1 || x.Missing != 0 {
			t.Errorf("range %+v, want one row changed and one extra", x)
		}
	})
}

func TestLagWithinTheBudgetThatIsNotWaitedForIsNotKnown(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		g.ref.Write(put(3, 2))
		o := g.options(us)
		wait := 100 * time.Millisecond
		o.Wait = &wait
		began := time.Now()
		expect(t, run(t, o).Results[0], status.Unverified, "after 100ms, which is less than its lag budget")
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// Its author waits for a synchronous standby that is down; the subscriber has the row already.
func TestCommitThatOnlyTheMemberShowsIsNoDifference(t *testing.T) {
	for _, busy := range []bool{false, true} {
		inGroup(t, func(t *testing.T, g *group, us *member) {
			g.ref.WriteHidden(time.Hour, put(3, 2))
			us.Replay(us.lane, cdctest.Rightly, rand.New(rand.NewPCG(1, 1)))
			r := during(t, g.options(us), g.replays(us), func(ctx context.Context) {
				for n := 1; sleep(ctx, time.Millisecond) == nil && busy; n++ {
					g.ref.Write(put(9, n))
				}
			})
			expect(t, r, status.Unverified, "eu-1 does not show yet what us-1 may have from it already")
		})
		inGroup(t, func(t *testing.T, g *group, us *member) {
			g.ref.WriteHidden(time.Second, put(3, 2))
			us.Replay(us.lane, cdctest.Rightly, rand.New(rand.NewPCG(1, 1)))
			expect(t, during(t, g.options(us), g.replays(us)), status.InStep, "")
		})
	}
}

// A row that is written there and back looks the same twice on the reference, and is the other on the member in between.
func TestRowThatIsWrittenThereAndBackIsNotAccused(t *testing.T) {
	for n := range 60 {
		inGroup(t, func(t *testing.T, g *group, us *member) {
			us.lag = time.Millisecond
			r := during(t, g.options(us), g.replays(us), func(ctx context.Context) {
				for n := 0; sleep(ctx, time.Millisecond) == nil; n++ {
					var rows []cdctest.Change
					for k := 1; k <= 10; k++ {
						rows = append(rows, put(k, 1+(n+k)%2))
					}
					g.ref.Write(rows...)
				}
			})
			if len(r.Divergences) > 0 || r.Verdict == status.Diverged {
				t.Errorf("run %d: %s %v", n, r.Verdict, found(r))
			}
		})
	}
}

func TestRowThatNeverStandsStillIsNamed(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		us.lag = time.Millisecond
		next := 1
		r := during(t, g.options(us), g.replays(us), func(ctx context.Context) {
			for ; sleep(ctx, 2*time.Millisecond) == nil; next++ {
				g.ref.Write(put(7, next))
				us.Silently(put(7, 1_000_000+next))
			}
		})
		expect(t, r, status.Unverified, `keys that were written again and again while they were read (1): {"id":7}`)
	})
}

// A server with GTIDs has one lane for all that may ever come to it.
func TestTableThatNothingReplicatesIsNotJudged(t *testing.T) {
	inGroupOf(t, cdctest.Postgres, func(t *testing.T, g *group, us *member) {
		us.Silently(put(3, 4))
		us.Carry(us.lane, goods, false, "")
		expect(t, run(t, g.options(us)).Results[0], status.Unverified, "nothing on us-1 replicates it from eu-1; keys that differ now: 1")
	})
}

// The reference may be a replica itself: then another member, or the server that both replicate from, has what it has yet to replay, and what
// it wrote itself comes to nobody.
func TestAReplicaAsTheReference(t *testing.T) {
	for _, engine := range []cdctest.Engine{cdctest.MariaDB, cdctest.MySQL} {
		for _, held := range []string{"eu-1", "us-2"} {
			t.Run(fmt.Sprintf("%s/%s", engine, held), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					g := newGroup(engine, 1, equal(10))
					source, us := g.ref, g.member()
					other := g.member()
					us.lag = 300 * time.Millisecond
					us.Write(put(3, 7)) // comes to nobody, and is written over
					source.Write(put(3, 8))
					g.ref = us
					against := map[string]*member{"eu-1": source, "us-2": other}[held]
					against.Silently(put(5, 9))
					next := 10
					r := during(t, g.options(against), g.followsOf(source, us), g.followsOf(source, other), func(ctx context.Context) {
						for ; sleep(ctx, 20*time.Millisecond) == nil; next++ {
							source.Write(put(7, next))
						}
					})
					expect(t, r, status.Diverged, "", "5 changed")
				})
			})
		}
	}
}

func TestTableThatOneLaneDoesNotBringIsNotJudged(t *testing.T) {
	for want, change := range map[string]func(g *group, us *member){
		"nothing on us-1 replicates it": func(g *group, us *member) {
			us.Unsubscribe(us.lane)
			us.Subscribe(g.server("eu-2").Server, "slot_us-1", goods)
		},
		"initial copy; keys": func(_ *group, us *member) { us.Carry(us.lane, goods, true, "initial copy") },
		"both replicate it":  func(g *group, us *member) { us.Subscribe(g.ref.Server, "second", goods) },
		`publication "some" leaves out rows`: func(g *group, us *member) {
			us.progress = func(p *cdc.Progress) { p.Lanes[0].Publications = []string{"some"} }
			g.ref.table = func(t *cdc.Table) { t.Publications = map[string]cdc.Carried{"some": {Without: "rows"}} }
		},
	} {
		inGroupOf(t, cdctest.Postgres, func(t *testing.T, g *group, us *member) {
			us.Silently(put(3, 4))
			change(g, us)
			expect(t, run(t, g.options(us)).Results[0], status.Unverified, want)
		})
	}
}

func TestTablesThatAreDefinedOtherwiseAreNotCompared(t *testing.T) {
	for want, change := range map[string]func(ref, us *member){
		"it does not exist on us-1":                                 func(_, us *member) { us.DropTable(goods) },
		"it does not exist on eu-1":                                 func(ref, _ *member) { ref.DropTable(goods) },
		`its primary key on us-1 is ["v"], on the reference ["id"]`: func(_, us *member) { us.table = func(t *cdc.Table) { t.Key = []string{"v"} } },
		`column "v" is int  on eu-1 and text  on us-1`:              func(_, us *member) { us.AlterColumn(goods, cdctest.Wide("v")) },
		"we may not read it: GRANT SELECT ON public.goods TO lockstep": func(_, us *member) {
			us.table = func(t *cdc.Table) {
				t.Problem, t.Hint = "we may not read it", "GRANT SELECT ON public.goods TO lockstep"
			}
		},
	} {
		inGroup(t, func(t *testing.T, g *group, us *member) {
			change(g.ref, us)
			r := run(t, g.options(us)).Results[0]
			expect(t, r, status.Unverified, want)
			if r.Table != goods || r.Member != "us-1" {
				t.Errorf("about %s on %s", r.Table, r.Member)
			}
		})
	}
}

// A column that one member lacks is compared on the others.
func TestAColumnThatOneMemberLacksIsComparedOnTheOthers(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		other := g.member()
		for _, m := range []*member{g.ref, other} {
			m.AddColumn(goods, cdctest.Int("w"))
		}
		results := run(t, g.options(us, other)).Results
		if r := results[0]; r.Verdict != status.Unverified || !slices.Equal(r.NotCompared, []string{"w"}) || r.MemberRows != 10 {
			t.Errorf("who lacks it: %+v", r)
		}
		if r := results[1]; r.Verdict != status.InStep || r.NotCompared != nil || r.MemberRows != 10 {
			t.Errorf("who has it: %+v", r)
		}
	})
}

// Of a column that only one side has nothing can be said: the table is not in step, whatever the other columns hold, unless that is
// how it is meant to be. A row that differs in them is found all the same.
func TestColumnsThatOnlyOneSideHasAreNotCompared(t *testing.T) {
	for on, want := range map[string]string{"eu-1": `not compared: column "w", only on eu-1`, "us-1": `not compared: column "w", only on us-1`} {
		inGroup(t, func(t *testing.T, g *group, us *member) {
			if on == "us-1" {
				us.AddColumn(goods, cdctest.Int("w"))
			} else {
				g.ref.AddColumn(goods, cdctest.Int("w"))
			}
			if r := run(t, g.options(us)).Results[0]; r.Verdict != status.Unverified || r.Reason != "" || r.Note != want || !slices.Equal(r.NotCompared, []string{"w"}) || r.MemberRows == 0 {
				t.Errorf("verdict %s, reason %q, note %q, not compared %q, of %d rows", r.Verdict, r.Reason, r.Note, r.NotCompared, r.MemberRows)
			}
			o := g.options(us)
			o.AllowMissingColumns = true
			if r := run(t, o).Results[0]; r.Verdict != status.InStep || r.Note != want {
				t.Errorf("allowed: verdict %s, note %q", r.Verdict, r.Note)
			}
			o = g.options(us)
			o.Exclude = func(string) []string { return []string{"w"} }
			if r := run(t, o).Results[0]; r.Verdict != status.InStep || r.Note != "" || r.NotCompared != nil {
				t.Errorf("excluded: verdict %s, note %q", r.Verdict, r.Note)
			}
			o.Exclude = func(string) []string { return []string{"id"} }
			if r := run(t, o).Results[0]; r.Verdict != status.Unverified || !strings.Contains(r.Reason, `key column "id" is excluded`) || r.Note != "" {
				t.Errorf("of nothing that can be compared: verdict %s, reason %q, note %q", r.Verdict, r.Reason, r.Note)
			}
		})
	}
}

func TestMemberThatFailsIsNotInStep(t *testing.T) {
	for _, name := range []string{"eu-1", "us-1"} {
		for failing := 1; failing <= 12; failing++ {
			inGroup(t, func(t *testing.T, g *group, us *member) {
				us.Silently(put(3, 2))
				reads := 0
				fails := us
				if name == g.ref.Name {
					fails = g.ref
				}
				fails.read = func(int) error {
					if reads++; reads == failing {
						return errors.New("connection lost")
					}
					return nil
				}
				o := g.options(us)
				o.PartRows = 2
				r := run(t, o).Results[0]
				if reads < failing {
					if r.Verdict != status.Diverged || r.Reason != "" {
						t.Errorf("%s (%s) without a failure", r.Verdict, r.Reason)
					}
					return
				}
				if r.Verdict == status.InStep || !strings.Contains(r.Reason, "connection lost") {
					t.Errorf("read %d of %s fails: %s (%s)", failing, name, r.Verdict, r.Reason)
				}
			})
		}
	}
}

func TestOneMemberThatFailsLeavesTheOthersTheirVerdict(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		second := g.member()
		second.Silently(remove(5))
		us.read = func(int) error { return &cdc.SetupError{Problem: "permission denied", Hint: "GRANT SELECT"} }
		o := g.options(us, second)
		o.PartRows = 2
		r := run(t, o)
		expect(t, r.Results[0], status.Unverified, "permission denied: GRANT SELECT")
		expect(t, r.Results[1], status.Diverged, "", "5 missing")
		if r.Results[0].Unreachable {
			t.Error("a member that answers is said not to")
		}
	})
}

func TestTableWithoutAnOrderIsReadWhole(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		us.Unsort(goods)
		us.Silently(remove(2))
		us.Silently(remove(3))
		us.Silently(put(20, 2))
		expect(t, run(t, g.options(us)).Results[0], status.Diverged, "", "20 extra", "2 missing", "3 missing")
		o := g.options(us)
		o.MaxWhole = 9
		expect(t, run(t, o).Results[0], status.Unverified, "more than 9 rows")
	})
}

func TestSoManyDifferencesThatTheWalkEndsAreNotThoughtToBeAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for name, tamper := range map[string]func(*member, int){
			"changed": func(us *member, k int) { us.Silently(put(k, 2)) },
			"extra":   func(us *member, k int) { us.Silently(put(1000+k, 2)) },
		} {
			g := newGroup(cdctest.MySQL, 1, equal(1000))
			us := g.member()
			for k := 1; k <= 1000; k++ {
				tamper(us, k)
			}
			o := g.options(us)
			o.PartRows, o.MaxSuspects = 50, 200
			r := run(t, o).Results[0]
			if r.Verdict != status.Diverged || !strings.Contains(r.Reason, "not all of it was compared") || !r.Divergences[0].Truncated {
				t.Errorf("%s: %s (%s), truncated %v", name, r.Verdict, r.Reason, r.Divergences[0].Truncated)
			}
			if r.Keys < 200 || r.Keys > 300 {
				t.Errorf("%s: %d keys, want about 200", name, r.Keys)
			}
		}
	})
}

func TestRowsAreReadNoFasterThanAllowed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGroup(cdctest.Postgres, 1, equal(1000))
		us := g.member()
		most := 0
		var mu sync.Mutex
		us.read = func(n int) error {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, n)
			return nil
		}
		g.ref.read = us.read
		o := g.options(us)
		o.MaxRowsPerSecond = 100
		began := time.Now()
		expect(t, run(t, o).Results[0], status.InStep, "")
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("1000 rows of each side at 100 a second took %v", took)
		}
		if most > 50 {
			t.Errorf("%d rows were read at once", most)
		}
	})
}

func TestNothingIsSaidOfOneServerUnderTwoNames(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, _ *member) {
		_, err := New(g.options(g.ref)).Run(t.Context())
		var refused *Error
		if !errors.As(err, &refused) || !refused.Usage {
			t.Errorf("got %v", err)
		}
	})
}

func TestInterruptedComparisonSaysNothing(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		ctx, stop := context.WithCancelCause(t.Context())
		us.read = func(int) error { stop(errors.New("enough")); return nil }
		r, err := New(g.options(us)).Run(ctx)
		if r != nil || err == nil || err.Error() != "enough" {
			t.Errorf("got %v, %v", r, err)
		}
	})
}

func TestStepsTellWhatGoesOn(t *testing.T) {
	inGroup(t, func(t *testing.T, g *group, us *member) {
		g.ref.Write(put(3, 2))
		c := New(g.options(us))
		seen := map[string]bool{}
		done := make(chan error)
		go func() {
			_, err := c.Run(t.Context())
			done <- err
		}()
		for running := true; running; {
			select {
			case err := <-done:
				running = false
				if err != nil {
					t.Error(err)
				}
			case <-time.After(100 * time.Microsecond):
			}
			for _, s := range c.Steps() {
				seen[fmt.Sprint(s.Member, " ", s.Waits)] = true
			}
		}
		for _, want := range []string{"eu-1 ", "us-1 ", "us-1 " + g.at(g.ref).Latest().String()} {
			if !seen[want] {
				t.Errorf("step %q was not told; there were %v", want, seen)
			}
		}
		if left := c.Steps(); len(left) > 0 {
			t.Errorf("%v goes on after the end", left)
		}
	})
}

// A table of half a million rows that all differ was asked for row by row, some twenty times: half an hour. What differs in one row
// after another is read again as it was at first, so that twice as many rows are twice as much to read; single rows are asked for by
// their keys.
func TestWhatDiffersRowAfterRowIsReadAgainInItsOrder(t *testing.T) {
	for _, c := range []struct {
		engine         cdctest.Engine
		every          int // so many rows, one differs
		mostReads      int // of the member
		mostRows, keys int
	}{
		{cdctest.Postgres, 1, 8, 6 * 5000, 5000},
		{cdctest.MySQL, 1, 8, 6 * 5000, 5000},
		{cdctest.Postgres, 100, 20, 5000 + 5*50, 50},
	} {
		bubble.Test(t, func(t *testing.T) {
			g := newGroup(c.engine, 1, equal(5000))
			us := g.member()
			for k := c.every; k <= 5000; k += c.every {
				us.Silently(put(k, 2))
			}
			var mu sync.Mutex
			reads, rows := 0, 0
			us.read = func(n int) error {
				mu.Lock()
				defer mu.Unlock()
				reads, rows = reads+1, rows+n
				return nil
			}
			o := g.options(us)
			o.PartRows = 5000
			if r := run(t, o).Results[0]; r.Keys != int64(c.keys) || r.Reason != "" || reads > c.mostReads || rows > c.mostRows {
				t.Errorf("%s, one of %d: %d keys, %s; %d reads of %d rows", c.engine, c.every, r.Keys, r.Reason, reads, rows)
			}
		})
	}
}
