package daemon_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/preflight"
	"github.com/lockstep-cdc/lockstep/status"
)

const canaryTable = "CREATE TABLE lockstep_canary (id bigint PRIMARY KEY, note varchar(100) NOT NULL);"

// canaryOf has canaries written into us-1 again and again.
func canaryOf(c servers, table string) configured {
	return configured{c, func(g *config.Group) {
		g.Canary = config.Canary{Table: table, Every: time.Second, Members: []string{"us-1"}}
		g.Expected = []config.Expected{{Members: []string{"us-1"}, Tables: []string{table}, Kinds: []string{"extra"}}}
	}}
}

func (w *watch) canary() status.Canary {
	for _, m := range w.daemon.Groups()[0].Status().Members {
		if m.Canary != nil {
			if m.Name != "us-1" {
				w.t.Errorf("%s has a canary", m.Name)
			}
			return *m.Canary
		}
	}
	w.t.Fatal("no member has a canary")
	return status.Canary{}
}

// checksCanary has a check say what a canary lacks, and then that it lacks nothing.
func (w *watch) checksCanary(lacks string) {
	w.t.Helper()
	g := w.c.Configuration().Groups[0]
	check := func(member, table string) (found []preflight.Check) {
		g.Canary.Table = table
		r, err := daemon.Check(w.t.Context(), &g, g.Member(member))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range r.Checks {
			if strings.HasPrefix(c.Subject, "canary ") {
				found = append(found, c)
			}
		}
		return found
	}
	table := g.Canary.Table
	c := check("us-1", table)
	if len(c) != 1 || c[0].State != preflight.Warn || !strings.Contains(c[0].Detail, lacks) || strings.Contains(c[0].Detail, "us-1") || !strings.Contains(c[0].Hint, "INSERT and DELETE") {
		w.t.Fatalf("without rights: %+v", c)
	}
	w.exec("us-1", c[0].SQL) // as lockstep check -o sql prints it
	if c := check("us-1", table); len(c) != 1 || c[0].State != preflight.OK {
		w.t.Errorf("with rights: %+v", c)
	}
	if c := check("us-1", table+"_not"); len(c) != 1 || c[0].State != preflight.Warn {
		w.t.Errorf("without the table: %+v", c)
	}
	g.Canary.Members = nil
	if c := check("eu-1", table); len(c) != 0 {
		w.t.Errorf("of the reference: %+v", c)
	}
}

// sings waits until canaries were found, and checks what is said of them.
func (w *watch) sings() {
	w.t.Helper()
	g := w.c.Configuration().Groups[0]
	budget := g.LagBudget(g.Canary.Table)
	w.until("two canaries to be found", func() bool { return w.canary().Found >= 2 })
	s := w.canary()
	if s.Missed+s.Failed != 0 || s.Last < budget || s.Last > time.Minute {
		w.t.Errorf("canaries: %+v, want all found, after the lag budget of %v", s, budget)
	}
	for _, d := range w.divergences() {
		if !d.Expected {
			w.t.Errorf("a canary is an unexpected divergence: %+v", d)
		}
	}
	for _, series := range []string{
		`lockstep_divergences_open{group="shop",kind="extra",member="us-1"} 0`,
		`lockstep_divergences_opened_total{group="shop",kind="extra",member="us-1"} 0`,
		`lockstep_canaries_total{group="shop",member="us-1",result="missed"} 0`,
	} {
		if !strings.Contains(scrape(w.t, w), series) {
			w.t.Errorf("there is no %s", series)
		}
	}
}

// What lockstep itself does by one configuration and then by another, on one group.
func TestConfigurations(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable + canaryTable + "CREATE TABLE notes (id bigint PRIMARY KEY);", Subscribers: 1, LagBudget: 500 * time.Millisecond})
	t.Run("canaries are found and alert nobody", func(t *testing.T) { canariesAreFound(t, c) })
	t.Run("what is expected is not broken", func(t *testing.T) { expectedIsNotBroken(t, c) })
	t.Run("canaries that fail are counted", func(t *testing.T) { failingCanariesAreCounted(t, c) })
	t.Run("one that is read anew takes effect and loses nothing", func(t *testing.T) { readAnewAndNothingLost(t, c) })
}

// Rows that lockstep writes on purpose are found, measured, taken away, and alert nobody.
func canariesAreFound(t *testing.T, c *cluster.Cluster) {
	w := &watch{t: t, c: canaryOf(c, "public.lockstep_canary")}
	w.checksCanary("permission denied for table lockstep_canary")
	w.start()
	w.exec("eu-1", "INSERT INTO lockstep_canary VALUES (1, 'not of lockstep')")
	w.sings()
	w.stop()
	w.exec("us-1", "DO $$ BEGIN IF (SELECT count(*) FROM lockstep_canary) <> 1 THEN RAISE 'canaries are left, or others are gone'; END IF; END $$")
}

// Writes that were expected took both replicas out of trust at once.
func expectedIsNotBroken(t *testing.T, c *cluster.Cluster) {
	w := &watch{t: t, c: configured{c, func(g *config.Group) {
		g.Expected = []config.Expected{{Members: []string{"us-1"}, Tables: []string{"public.notes"}, Kinds: []string{"extra"}}}
	}}}
	w.exec("eu-1", "INSERT INTO notes VALUES (1), (2)")
	w.replayed()
	w.start()
	w.inStep()
	trusts := func(want bool) {
		t.Helper()
		code, answer := w.trust(w.daemon.API())
		if (code == http.StatusOK) != want {
			t.Errorf("trust answers %d %v", code, answer)
		}
	}
	w.exec("us-1", "INSERT INTO notes VALUES (10)")
	w.finds(`us-1 public.notes extra errant_transaction {"id":10}..{"id":10}`)
	w.until("it to be said so", func() bool {
		s := w.table("us-1", "public.notes")
		return s.Verdict == status.Expected && s.Ranges[status.Expected] == 1 && s.Ranges[status.Diverged] == 0 && s.DivergentKeys == 1
	})
	trusts(true)
	if body := scrape(t, w); !strings.Contains(body, `lockstep_ranges{group="shop",member="us-1",state="expected",table="public.notes"} 1`) || !strings.Contains(body, `lockstep_divergences_expected{group="shop",member="us-1"} 1`) {
		t.Error(body)
	}

	// What nobody expects is what it was, in the same range too.
	w.exec("us-1", "DELETE FROM notes WHERE id = 2")
	w.until("it to be diverged", func() bool {
		s := w.table("us-1", "public.notes")
		return s.Verdict == status.Diverged && s.Ranges[status.Diverged] == 1 && s.Ranges[status.Expected] == 0
	})
	trusts(false)
	w.exec("us-1", "INSERT INTO notes VALUES (2)", "DELETE FROM notes WHERE id = 10")
	w.inStep()
	trusts(true)
}

// A canary that cannot be written, or is not found, is counted as what it is.
func failingCanariesAreCounted(t *testing.T, c *cluster.Cluster) {
	w := &watch{t: t, c: canaryOf(c, "public.items")}
	w.start()
	w.until("canaries to fail in a table of other columns", func() bool { return w.canary().Failed >= 2 })
	w.inStep()
	w.stop()

	w = &watch{t: t, c: canaryOf(c, "public.lockstep_canary"), tune: func(o *monitor.Options) { o.Canary.Patience = -250 * time.Millisecond }}
	w.start()
	w.until("a canary not to be found within half of the lag budget", func() bool { return w.canary().Missed > 0 })
}

func TestCanariesAreFoundOnMySQL(t *testing.T) {
	o := cluster.Options{Schema: canaryTable, Subscribers: 1, LagBudget: 500 * time.Millisecond}
	onMariaDB(t, o, func(_ *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.c = canaryOf(c, "app.lockstep_canary")
		w.exec("us-1", "SET GLOBAL read_only = 0")
		w.checksCanary("INSERT command denied")
		w.start()
		w.sings()
	})
}
