package daemon_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// A base backup of the publisher was promoted, and replicates from it since. It has the publisher's system identifier, and was refused
// as the same server. By two names it is still refused, in a reload and at a start.
func TestPromotedCopyIsWatchedBesideItsOriginOnPostgreSQL(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable, Subscribers: 1})
	if err := c.Exec(t.Context(), "eu-1", rowsOf(1, 50)); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := dbtest.StandbyT(t, c.Member("eu-1"), dbtest.Options{})
	dbtest.ExecT(t, promoted, "SELECT pg_promote()")
	if err := dbtest.Subscribe(t.Context(), promoted, "app_copy", c.Member("eu-1"), "app"); err != nil {
		t.Fatal(err)
	}
	member := config.Member{Name: "eu-2", DSN: promoted.DSNFor(dbtest.LockstepUser, cluster.Database)}
	right := withMember{c, member}
	s := supervise(t, right)
	s.inStep()
	s.exec("eu-1", "UPDATE items SET name = 'on all' WHERE id = 7")
	if err := dbtest.WaitReplayed(t.Context(), c.Member("eu-1"), "app_copy"); err != nil {
		t.Fatal(err)
	}
	s.inStep()
	s.neverDiverged()
	dbtest.ExecT(t, promoted, "UPDATE items SET name = 'on the copy' WHERE id = 3")
	wrong := `eu-2 public.items changed errant_transaction {"id":3}..{"id":3}`
	s.finds(wrong)

	// The copy is down, and the origin says anew who it is. It is not refused for that nobody can tell it from the copy now.
	opens := s.opens.now()
	if err := promoted.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.exec("eu-1", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'lockstep'")
	s.until("the origin to be watched without its copy", func() bool {
		return s.opens.now()["eu-1"] > opens["eu-1"] && s.table("us-1", "public.items").Verdict == status.InStep
	})
	if err := promoted.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until("the copy to be watched again", func() bool {
		return s.opens.now()["eu-2"] > opens["eu-2"] && s.table("eu-2", "public.items").Verdict == status.Diverged
	})
	s.finds(wrong)

	twice := withMember{right, config.Member{Name: "twin", DSN: member.DSN}}
	refused := func() bool {
		m := s.member("shop", "twin")
		return m.State == status.Unverified && strings.Contains(m.Trouble, "members eu-2 and twin are the same server")
	}
	if err := s.reload(twice.Configuration()); err != nil {
		t.Fatal(err)
	}
	s.until("the copy by another name to be refused", refused)
	s.stop()
	s = supervise(t, twice)
	s.until("the copy by another name to be refused at a start", refused)
	s.finds(wrong)
}

// calledAlike are a group's servers, as lockstep sees them where each has the same name: containers of several clusters have one host name,
// port and data folder.
func calledAlike(id string) func(*monitor.Options) {
	return func(o *monitor.Options) {
		o.Members = slices.Clone(o.Members)
		for i := range o.Members {
			o.Members[i].Source = namesake{o.Members[i].Source, id}
		}
	}
}

type namesake struct {
	cdc.Source
	id string
}

func (n namesake) Server(ctx context.Context) (cdc.Server, error) {
	s, err := n.Source.Server(ctx)
	s.SystemID = n.id
	return s, err
}

func TestServersOfOneNameAreWatchedOnMariaDB(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.tune = calledAlike("mariadb-0:3306/var/lib/mysql/")
		w.exec("eu-1", rowsOf(1, 50))
		w.replayed()
		w.start()
		w.inStep()
		w.neverDiverged()
		w.exec("us-2", "UPDATE items SET name = 'on one' WHERE id = 3")
		w.finds(`us-2 app.items changed errant_transaction {"id":3}..{"id":3}`)
	})
}

func TestServersOfOneUUIDAreRefusedOnMySQL(t *testing.T) {
	onMySQL97(t, cluster.Options{Schema: mysqlTable, Subscribers: 1}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.tune = calledAlike("3e11fa47-71ca-11e1-9e33-c80aa9429562")
		w.start()
		w.until("a server to be refused", func() bool {
			for _, m := range w.daemon.Groups()[0].Status().Members {
				if strings.Contains(m.Trouble, "are two servers of one server_uuid") && strings.Contains(m.Trouble, "auto.cnf") {
					return true
				}
			}
			return false
		})
	})
}
