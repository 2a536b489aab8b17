package monitor_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// change has the group go by its options with a change.
func (w *watching) change(t *testing.T, change func(*monitor.Options)) {
	t.Helper()
	w.options.Members = slices.Clone(w.options.Members)
	change(&w.options)
	if err := w.Change(t.Context(), w.options); err != nil {
		t.Fatal(err)
	}
}

// source is another one of the replica.
func (w *watching) source() cdc.Source { return w.b.Source(digest.NewHasher(w.secret)) }

// said checks how often the log has said something since the count was last taken.
func (w *watching) said(t *testing.T, counts map[string]int, want map[string]int) {
	t.Helper()
	for text, n := range want {
		now := w.log.count(text)
		if got := now - counts[text]; got != n {
			t.Errorf("%q was said %d times, want %d", text, got, n)
		}
		counts[text] = now
	}
}

// What goes on while other things come and go is not touched: no stream is opened anew, no row is read again, nothing is in doubt.
func TestChangeTouchesOnlyWhatChanges(t *testing.T) {
	const (
		streamA, streamB = "change stream opened\" group=shop member=a", "change stream opened\" group=shop member=b"
		readA, readB     = "reading table\" group=shop member=a", "reading table\" group=shop member=b"
	)
	for _, engine := range cdctest.Engines {
		t.Run(string(engine), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := watch(t, engine, func(string, string) error { return nil }, nil)
				defer w.end()
				for _, table := range watchedTables {
					w.write(table, 1, 1)
				}
				rest(10 * time.Second)
				counts := make(map[string]int)
				w.said(t, counts, map[string]int{streamA: 1, streamB: 1, readA: 3, readB: 3})

				w.change(t, func(o *monitor.Options) {
					o.Match = func(table string) bool { return table != watchedTables[0] }
					o.Budget = func(string) time.Duration { return time.Minute }
				})
				if got := w.table("b", watchedTables[0]); got.Table != "" {
					t.Errorf("a table that is excluded is %+v", got)
				}
				w.is(t, "b", watchedTables[1], status.InStep, "")
				w.write(watchedTables[0], 1, 2)
				w.write(watchedTables[1], 1, 2)
				rest(5 * time.Second)
				w.said(t, counts, map[string]int{streamA: 0, streamB: 0, readA: 0, readB: 0})

				w.change(t, func(o *monitor.Options) { o.Match = func(string) bool { return true } })
				w.is(t, "b", watchedTables[1], status.InStep, "")
				rest(5 * time.Second)
				w.is(t, "b", watchedTables[0], status.InStep, "")
				w.said(t, counts, map[string]int{streamA: 0, streamB: 0, readA: 1, readB: 1})

				w.change(t, func(o *monitor.Options) { o.Members[1].Source = w.source() })
				w.is(t, "b", watchedTables[1], status.InStep, "")
				w.write(watchedTables[1], 1, 3)
				rest(5 * time.Second)
				w.is(t, "b", watchedTables[1], status.InStep, "")
				w.said(t, counts, map[string]int{streamA: 0, streamB: 1, readA: 0, readB: 0})

				w.change(t, func(o *monitor.Options) { o.Members = o.Members[:1] })
				if n := len(w.Status().Members); n != 1 {
					t.Errorf("there are %d members", n)
				}
				rest(5 * time.Second)
				w.change(t, func(o *monitor.Options) {
					o.Members = append(o.Members, monitor.Member{Name: "b", Source: w.source()})
				})
				rest(10 * time.Second)
				w.is(t, "b", watchedTables[1], status.InStep, "")
				w.said(t, counts, map[string]int{streamA: 0, streamB: 1, readA: 0, readB: 3})

				w.change(t, func(o *monitor.Options) {
					source := w.b.Source(digest.NewHasher(w.secret))
					source.ScanOnly = true
					o.Members[1] = monitor.Member{Name: "b", Source: source, ScanOnly: true}
				})
				w.is(t, "b", watchedTables[1], status.Unverified, "")
				rest(15 * time.Second)
				w.is(t, "b", watchedTables[1], status.InStep, "")
				w.said(t, counts, map[string]int{streamA: 0, streamB: 0, readA: 0, readB: 0})
			})
		})
	}
}

// A member whose tables are being read is connected to anew: they are read from the beginning, or go on.
func TestReadThatIsCutShortByAChangeIsDoneAgain(t *testing.T) {
	for _, parts := range []int64{0, -1} {
		bubble.Test(t, func(t *testing.T) {
			hanging := make(chan struct{})
			w := watch(t, cdctest.MySQL, func(doing, table string) error {
				if table == watchedTables[1] && doing != "decode" {
					<-hanging
				}
				return nil
			}, func(o *monitor.Options) { o.PartsFrom = parts })
			defer w.end()
			for _, table := range watchedTables {
				w.write(table, 1, 1)
			}
			rest(10 * time.Second)
			w.is(t, "b", watchedTables[1], status.Unverified, "")
			time.AfterFunc(time.Second, func() { close(hanging) })
			w.change(t, func(o *monitor.Options) { o.Members[1].Source = w.source() })
			rest(10 * time.Second)
			for _, table := range watchedTables {
				w.is(t, "b", table, status.InStep, "")
			}
		})
	}
}

// Rows are read again while their table's row index goes, and comes back. They are held against nothing that is not there.
func TestRowIndexChangesWhileRowsAreRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		reading := make(chan struct{})
		w := watch(t, cdctest.MySQL, func(doing, table string) error {
			if table == watchedTables[0] && doing == "part" && hangs.CompareAndSwap(true, false) {
				<-reading
			}
			return nil
		}, func(o *monitor.Options) {
			o.Scrub.Every = func(string) time.Duration { return 20 * time.Second }
		})
		defer w.end()
		for key := range 10 {
			w.write(watchedTables[0], key, 1)
		}
		rest(10 * time.Second)
		for _, off := range []bool{true, false} {
			hangs.Store(true)
			rest(20 * time.Second)
			if hangs.Load() {
				t.Fatal("no rows are read again")
			}
			w.change(t, func(o *monitor.Options) {
				o.RowIndex = func(table string) bool { return !off || table != watchedTables[0] }
			})
			reading <- struct{}{}
			rest(time.Minute)
			w.is(t, "b", watchedTables[0], status.InStep, "")
		}
		if n := w.log.count("are not what the log says"); n > 0 {
			t.Errorf("rows are held to have changed without a trace %d times", n)
		}
		if n := w.log.count("change stream opened"); n != 2 {
			t.Errorf("streams were opened %d times", n)
		}
	})
}

// Nobody waits for ever for a change of a group that has ended.
func TestChangeOfAGroupThatHasEnded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := watch(t, cdctest.MySQL, func(string, string) error { return nil }, nil)
		rest(time.Second)
		w.end()
		if err := w.Change(t.Context(), w.options); err == nil {
			t.Error("a group that has ended is changed")
		}
	})
}

// A canary is written as often as it is said now, into those that it is said of now.
func TestCanaryChangesWhileStreamsGoOn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := watch(t, cdctest.MySQL, func(string, string) error { return nil }, nil)
		defer w.end()
		for _, table := range watchedTables {
			w.write(table, 1, 1)
		}
		rest(10 * time.Second)
		canary := func(every time.Duration, into ...string) monitor.CanaryPlan {
			return monitor.CanaryPlan{Table: watchedTables[2], Every: every, Into: func(m string) bool { return slices.Contains(into, m) }}
		}
		w.change(t, func(o *monitor.Options) { o.Canary = canary(time.Hour, "b") })
		if c := w.Status().Members[1].Canary; c == nil || c.Every != time.Hour {
			t.Errorf("the canary is %+v", c)
		}
		w.change(t, func(o *monitor.Options) { o.Canary = canary(time.Minute, "b") })
		if c := w.Status().Members[1].Canary; c == nil || c.Every != time.Minute {
			t.Errorf("the canary is %+v", c)
		}
		w.change(t, func(o *monitor.Options) { o.Canary = canary(time.Minute) })
		if c := w.Status().Members[1].Canary; c != nil {
			t.Errorf("there is a canary: %+v", c)
		}
		if n := w.log.count("change stream opened"); n != 2 {
			t.Errorf("streams were opened %d times", n)
		}
	})
}

// refusing is a source that may not be written to for a while.
type refusing struct {
	cdc.Source
	refuses atomic.Bool
}

func (r *refusing) Execute(ctx context.Context, table, statement string) error {
	if r.refuses.Load() {
		return errors.New("permission denied")
	}
	return r.Source.Execute(ctx, table, statement)
}

// A canary that lockstep left when it was killed, or could not take away, had its table differ for ever, and kept the next from being
// written.
func TestCanaryThatWasLeftIsTakenAway(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var source *refusing
		w := watch(t, cdctest.MySQL, func(string, string) error { return nil }, func(o *monitor.Options) {
			source = &refusing{Source: o.Members[1].Source}
			o.Members[1].Source = source
			o.Canary = monitor.CanaryPlan{Table: watchedTables[2], Every: 10 * time.Second, Into: func(string) bool { return true }}
			left := monitor.CanaryStatements(watchedTables[2], 7)[0] // by the lockstep before
			if err := source.Execute(t.Context(), watchedTables[2], left); err != nil {
				t.Fatal(err)
			}
		})
		defer w.end()
		sings := func(when string) {
			t.Helper()
			before := w.Status().Members[1].Canary.Found
			rest(2 * time.Minute)
			if now := w.Status().Members[1].Canary.Found; now == before {
				t.Errorf("%s no canary is found", when)
			}
		}
		sings("after a start")
		source.refuses.Store(true)
		rest(time.Minute)
		if w.Status().Members[1].Canary.Failed == 0 {
			t.Error("one that cannot be taken away is not said to fail")
		}
		source.refuses.Store(false)
		sings("once it can be taken away")
	})
}
