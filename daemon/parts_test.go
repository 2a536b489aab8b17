package daemon_test

import (
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/status"
)

// Tables are read in parts while they are written to, and lockstep is stopped in the middle of it, again and again: what
// was read is not read anew, and what is kept at the end is what is there.
func TestSoakOfTablesThatAreReadInPartsOnPostgreSQL(t *testing.T) {
	needSoak(t)
	c := startCluster(t, cluster.Options{Schema: load.Schema, LagBudget: 10 * time.Second})
	readInParts(t, &watch{t: t, c: c}, c.DSN("eu-1"))
}

func TestTablesThatAreReadInPartsUnderLoadGoOnAfterARestart(t *testing.T) {
	o := cluster.Options{Schema: load.MySQLSchema, LagBudget: 10 * time.Second}
	onMariaDB(t, o, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		readInParts(t, w, c.DSN("eu-1"))
	})
}

// compared reports whether all tables of all members are held against the reference's.
func (w *watch) compared() bool {
	tables := 0
	for _, m := range w.daemon.Groups()[0].Status().Members {
		for _, t := range m.Tables {
			tables++
			if t.Verdict == status.Unverified {
				return false
			}
		}
	}
	return tables > 0
}

func readInParts(t *testing.T, w *watch, dsn string) {
	if err := load.FillShare(t.Context(), dsn, 4); err != nil {
		t.Fatal(err)
	}
	w.exec("eu-1", "INSERT INTO accounts (id, owner, balance) SELECT id + 2000000, owner, balance FROM accounts")
	writing := load.Start(t.Context(), dsn, load.Options{Clients: 2, Pause: 25 * time.Millisecond, Large: 500, Seed: 4})
	w.inParts = true
	w.start()
	for n := 0; n < 20 && w.resumed.Load() < 2; n++ {
		w.until("rows to be read", func() bool {
			for _, s := range w.daemon.Groups()[0].Scans() {
				if s.Rows > int64(500+1000*n) {
					return true
				}
			}
			return w.compared()
		})
		w.stop()
		w.start()
	}
	if w.resumed.Load() == 0 {
		t.Error("no scan went on after a restart")
	}
	w.until("all to be compared", w.compared)
	if err := writing.Stop(); err != nil {
		t.Fatal(err)
	}
	w.replayed()
	w.inStep()
	w.neverDiverged()
	w.checkDigests()
}
