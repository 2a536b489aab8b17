package daemon_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// withMember is a cluster of which one more server is a member.
type withMember struct {
	servers
	member config.Member
}

func (w withMember) Configuration() *config.Config {
	add := func(g *config.Group) { g.Members = append(g.Members, w.member) }
	return configured{w.servers, add}.Configuration()
}

func onStandby(t *testing.T, test func(t *testing.T, w *watch, c *cluster.Cluster, standby *dbtest.Server), versions ...dbtest.Version) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			c, err := cluster.Start(t.Context(), cluster.Options{
				Install: dbtest.Need(t, version), Schema: load.Schema, Subscribers: 1, DataDir: t.TempDir(), LagBudget: 3 * time.Second,
				Server: dbtest.Options{Below: dbtest.MemoryDir(), Reuse: true},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Logf("close cluster: %v", err)
				}
			})
			if err := load.FillShare(t.Context(), c.DSN("eu-1"), 5); err != nil {
				t.Fatal(err)
			}
			// A page that was damaged on purpose is read as it is.
			standby := dbtest.StandbyT(t, c.Member("eu-1"), dbtest.Options{Conf: map[string]string{"ignore_checksum_failure": "on"}})
			dsn := standby.DSNFor(dbtest.LockstepUser, cluster.Database)
			test(t, &watch{t: t, c: withMember{c, config.Member{Name: "eu-2", DSN: dsn}}}, c, standby)
		})
	}
}

func TestStandbyIsScannedUnderLoadWithoutAFalseAlarmAndItsDamagedRowIsFound(t *testing.T) {
	onStandby(t, func(t *testing.T, w *watch, c *cluster.Cluster, standby *dbtest.Server) {
		w.start()
		w.inStep()
		writing := load.Start(t.Context(), c.DSN("eu-1"), load.Options{Clients: 2, Pause: 25 * time.Millisecond, Large: 500, Seed: 5})
		w.scrub()
		if err := writing.Stop(); err != nil {
			t.Fatal(err)
		}
		w.replayed()
		w.inStep()
		w.neverDiverged()
		for _, m := range w.daemon.Groups()[0].Status().Members {
			if m.ScanOnly != (m.Name == "eu-2") {
				t.Errorf("%s is only scanned: %v", m.Name, m.ScanOnly)
			}
		}

		id := load.ReservedFrom + 7
		damage(t, c.Member("eu-1"), standby, id)
		w.inStep()
		w.scrub()
		w.finds(fmt.Sprintf(`eu-2 public.accounts changed silent {"id":%d}..{"id":%d}`, id, id))

		// The primary writes the row again, and with it the standby's is whole.
		w.exec("eu-1", fmt.Sprintf("UPDATE accounts SET owner = 'again' WHERE id = %d", id))
		w.finds()
		w.inStep()
	}, dbtest.PG18)
}

// damage changes a byte of an account on a standby. The table is vacuumed first: a primary that reads a page cleans it up,
// and would send the whole page to the standby.
func damage(t *testing.T, primary, standby *dbtest.Server, id int) {
	t.Helper()
	dbtest.ExecT(t, primary, fmt.Sprintf("UPDATE accounts SET owner = 'to be damaged' WHERE id = %d", id), "VACUUM (FREEZE) accounts", "CHECKPOINT")
	if err := dbtest.WaitReplayed(t.Context(), primary, standby.StandbyName()); err != nil {
		t.Fatal(err)
	}
	flip(t, standby, "to be damaged")
}

// flip changes a byte of an account, which it knows by its owner, in a server's file of the accounts while it is stopped.
func flip(t *testing.T, s *dbtest.Server, owner string) {
	t.Helper()
	ctx := t.Context()
	s.Spoil()
	dbtest.ExecT(t, s, "CHECKPOINT") // so that a restart does not write the page anew
	path := accountsFile(t, s)
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	flipIn(t, path, owner)
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
}

// accountsFile is where a server keeps the accounts.
func accountsFile(t *testing.T, s *dbtest.Server) string {
	t.Helper()
	return filepath.Join(value(t, s, "SHOW data_directory"), value(t, s, "SELECT pg_relation_filepath('accounts')"))
}

func flipIn(t *testing.T, path, owner string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(page, []byte(owner))
	if at < 0 {
		t.Fatalf("the row is not in %s", path)
	}
	page[at] ^= 1
	if err := os.WriteFile(path, page, 0o600); err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, s *dbtest.Server, query string) string {
	t.Helper()
	v, err := dbtest.Value[string](t.Context(), s, query)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
