package daemon_test

import (
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/status"
)

func needSoak(t *testing.T) {
	if !dbtest.Soaking() {
		t.Skip("make soak runs it: it takes minutes")
	}
}

// scrubbed has all rows read again and again under load until the time is over, and returns how often.
func (w *watch) scrubbed(dsn string, d time.Duration) (scrubs int, transactions int64) {
	w.t.Helper()
	writing := load.Start(w.t.Context(), dsn, load.Options{Clients: 4, Pause: time.Millisecond, Seed: 11})
	for end := time.Now().Add(d); time.Now().Before(end); scrubs++ {
		w.scrub()
	}
	if err := writing.Stop(); err != nil {
		w.t.Fatal(err)
	}
	return scrubs, writing.Counts().Transactions.Load()
}

// neverDoubted fails the test if a row was held to have changed without a trace, or a difference was held to be one.
func (w *watch) neverDoubted() {
	w.t.Helper()
	w.neverDiverged()
	for _, m := range w.daemon.Groups()[0].Status().Members {
		for _, table := range m.Tables {
			if table.Silent > 0 || table.Verdict != status.InStep {
				w.t.Errorf("%s %s: %s, %d silent changes", m.Name, table.Table, table.Verdict, table.Silent)
			}
		}
	}
}

func TestSoakOfAStandbyThatIsScannedUnderLoad(t *testing.T) {
	needSoak(t)
	onStandby(t, func(t *testing.T, w *watch, c *cluster.Cluster, _ *dbtest.Server) {
		w.start()
		w.inStep()
		scrubs, transactions := w.scrubbed(c.DSN("eu-1"), 5*time.Minute)
		w.replayed()
		w.inStep()
		w.neverDoubted()
		t.Logf("%d scrubs, %d transactions", scrubs, transactions)
	}, dbtest.PG15, dbtest.PG18)
}

func TestSoakOfScrubsUnderLoad(t *testing.T) {
	needSoak(t)
	o := cluster.Options{Schema: load.MySQLSchema, LagBudget: 10 * time.Second}
	onMySQL(t, o, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.c = withoutRowIndex{c, []string{"app.accounts"}}
		if err := load.Fill(t.Context(), c.DSN("eu-1")); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.inStep()
		scrubs, transactions := w.scrubbed(c.DSN("eu-1"), 5*time.Minute)
		w.replayed()
		w.inStep()
		w.neverDoubted()
		t.Logf("%d scrubs, %d transactions", scrubs, transactions)
	})
}
