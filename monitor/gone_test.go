package monitor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

const goneTable, forgotten = "app.one", "table is gone on all members, and is not watched any more"

// drop takes the table away where it is.
func drop(servers ...*cdctest.Server) {
	for _, s := range servers {
		s.DropTable(goneTable)
	}
}

// resting is a group in whose tables nothing differs.
func resting(t *testing.T, engine cdctest.Engine, change func(*monitor.Options)) *watching {
	w := watch(t, engine, func(string, string) error { return nil }, change)
	for _, table := range watchedTables {
		w.write(table, 1, 1)
	}
	rest(10 * time.Second)
	w.is(t, "b", goneTable, status.InStep, "")
	return w
}

// A table that was dropped on all members stayed unverified for ever, so that a group was never in step again. It is forgotten, and
// its divergences with it; one that comes back is a new table.
func TestTableThatIsGoneEverywhereIsForgotten(t *testing.T) {
	for _, engine := range cdctest.Engines {
		t.Run(string(engine), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := resting(t, engine, nil)
				defer w.end()
				w.b.Write(cdctest.Put(goneTable, 1, cdctest.Row{"v": 7}))
				rest(15 * time.Second)
				w.is(t, "b", goneTable, status.Diverged, "")
				drop(w.a, w.b)
				rest(25 * time.Second)
				if got := w.table("b", goneTable); got.Table != "" || w.log.count(forgotten) != 1 {
					t.Errorf("a table that is gone is %+v, and was forgotten %d times", got, w.log.count(forgotten))
				}
				w.is(t, "b", watchedTables[1], status.InStep, "")
				_ = w.Divergences(func(d *finding.Divergence) bool {
					if d.State != finding.Resolved || d.Detail == "" {
						t.Errorf("of a table that is gone there is %+v", d)
					}
					return true
				})

				for _, s := range []*cdctest.Server{w.a, w.b} {
					s.CreateTable(goneTable, cdctest.Int("other"))
				}
				w.a.Write(cdctest.Put(goneTable, 2, cdctest.Row{"other": 1}))
				w.replay()
				rest(25 * time.Second)
				w.is(t, "b", goneTable, status.InStep, "")
			})
		})
	}
}

// That a table is gone is believed of who has said so for sure, after the reference had.
func TestTableThatMayBeThereIsNotForgotten(t *testing.T) {
	named := func(o *monitor.Options) { o.Named = func(table string) bool { return table == goneTable } }
	cases := map[string]struct {
		engine  cdctest.Engine
		options func(*monitor.Options)
		vanish  func(w *watching)
		reason  string // as status has it
		come    func(w *watching)
		forgets bool // once come
	}{
		"a right is taken away on all": {cdctest.MySQL, nil, func(w *watching) {
			w.a.Break(cdctest.Faults{Withhold: true})
			w.b.Break(cdctest.Faults{Withhold: true})
		}, "it does not exist on a; whether it is gone on a is not sure: GRANT", func(w *watching) { w.a.Break(cdctest.Faults{}); w.b.Break(cdctest.Faults{}) }, false},
		"a right is taken away on one": {cdctest.MariaDB, nil, func(w *watching) {
			drop(w.a)
			w.b.Break(cdctest.Faults{Withhold: true})
		}, "it does not exist on a; whether it is gone on b is not sure: GRANT", func(w *watching) { drop(w.b); w.b.Break(cdctest.Faults{}) }, true},
		"one has it": {cdctest.Postgres, nil, func(w *watching) { drop(w.a) },
			"it does not exist on a; it is still on b: drop it there, make it on a, or exclude it", func(w *watching) { drop(w.b) }, true},
		"one does not answer": {cdctest.MariaDB, nil, func(w *watching) {
			w.b.Break(cdctest.Faults{Catalog: true})
			rest(10 * time.Second)
			drop(w.a, w.b)
		}, "it does not exist on a; b has not said since whether it has it", func(w *watching) { w.b.Break(cdctest.Faults{}) }, true},
		"the reference does not answer": {cdctest.Postgres, nil, func(w *watching) {
			w.a.Break(cdctest.Faults{Catalog: true})
			drop(w.a, w.b)
		}, "", func(w *watching) { w.a.Break(cdctest.Faults{}) }, true},
		"it is named": {cdctest.Postgres, named, func(w *watching) { drop(w.a, w.b) },
			"it does not exist on a, and tables.include names it: make it there, or take it out of tables.include", func(*watching) {}, false},
		"one that is only scanned has it": {cdctest.MySQL, func(o *monitor.Options) { o.Members[1].ScanOnly = true }, func(w *watching) { drop(w.a) },
			"it is still on b", func(w *watching) { drop(w.b) }, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := watch(t, c.engine, func(string, string) error { return nil }, c.options)
				defer w.end()
				for _, table := range watchedTables {
					w.write(table, 1, 1)
				}
				rest(10 * time.Second)
				c.vanish(w)
				rest(30 * time.Second)
				if got := w.table("b", goneTable); got.Table == "" || w.log.count(forgotten) > 0 {
					t.Fatalf("the table is %+v, and was forgotten %d times", got, w.log.count(forgotten))
				}
				if c.reason != "" {
					w.is(t, "b", goneTable, status.Unverified, c.reason)
				}
				c.come(w)
				rest(30 * time.Second)
				if got := w.table("b", goneTable).Table == ""; got != c.forgets || w.log.count(forgotten) > 1 {
					t.Errorf("that it is forgotten is %v (said %d times)", got, w.log.count(forgotten))
				}
			})
		})
	}
}

// What went and came back while a member could not be asked is there.
func TestTableThatCameBackIsNotForgotten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := resting(t, cdctest.MySQL, nil)
		defer w.end()
		w.b.Break(cdctest.Faults{Catalog: true})
		drop(w.a, w.b)
		rest(20 * time.Second)
		for _, s := range []*cdctest.Server{w.a, w.b} {
			s.CreateTable(goneTable, cdctest.Int("v"), cdctest.Int("note"))
		}
		w.b.Break(cdctest.Faults{})
		rest(30 * time.Second)
		w.is(t, "b", goneTable, status.InStep, "")
		if n := w.log.count(forgotten); n > 0 || !slices.Contains(w.a.Tables(), goneTable) {
			t.Errorf("it was forgotten %d times", n)
		}
	})
}
