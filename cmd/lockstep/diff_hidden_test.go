package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// hide writes a row on eu-1 whose commit waits for a synchronous replica that never comes, while us-1 replays it at once:
// what eu-1's readers see is older than what us-1's do. The server's processes hear one by one that commits have to wait,
// so it takes several tries. It returns what ends the wait.
func (d *diffed) hide(release ...string) (end func()) {
	d.t.Helper()
	for balance := 4000; ; balance++ {
		done := make(chan error, 1)
		go func() {
			done <- d.Exec(d.t.Context(), "eu-1", fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = %d", balance, hiddenRow))
		}()
		isThere := fmt.Sprintf("SELECT id FROM accounts WHERE id = %d AND balance = %d", hiddenRow, balance)
		err := dbtest.WaitFor(d.t.Context(), "us-1 to have the row", func(ctx context.Context) (bool, error) {
			rows, err := d.Query(ctx, "us-1", isThere)
			return len(rows) > 0, err
		})
		if err != nil {
			d.t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				d.t.Fatal(err)
			}
		case <-time.After(time.Second):
			return func() {
				d.t.Helper()
				d.exec("eu-1", release...)
				if err := <-done; err != nil {
					d.t.Fatal(err)
				}
			}
		}
	}
}

const hiddenRow = load.ReservedFrom + 5

func (d *diffed) says(code int, want string) {
	d.t.Helper()
	got, stdout, stderr := d.diff("--wait", "1s")
	if got != code || !strings.Contains(stdout, want) {
		d.t.Errorf("exit code %d, want %d, and no %q in\n%s%s", got, code, want, stdout, stderr)
	}
}

func TestDiffDoesNotTakeACommitThatWaitsForAStandbyForADifference(t *testing.T) {
	t.Parallel()
	for _, version := range inSoak(dbtest.PG15, dbtest.PG18) {
		t.Run(version.String(), func(t *testing.T) {
			o := diffOptionsOf(t, load.Schema)
			o.Install = dbtest.Need(t, version)
			c, err := cluster.Start(t.Context(), o)
			d := &diffed{replicated: c, t: t, schema: "public"}
			ready(t, d, err)
			d.yaml = c.YAML
			d.exec("eu-1", "ALTER SYSTEM SET synchronous_standby_names = 'nosuch'", "SELECT pg_reload_conf()")
			end := d.hide("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
			d.says(exitUnknown, "GRANT pg_read_all_stats TO \"lockstep\";")
			d.exec("eu-1", "BEGIN; SET LOCAL synchronous_commit = off; GRANT pg_read_all_stats TO lockstep; COMMIT")
			d.says(exitUnknown, "eu-1 does not show yet what us-1 may have from it already")
			end()
			d.says(exitInStep, "in_step")
		})
	}
}

func TestDiffDoesNotTakeACommitThatWaitsForAReplicaForADifference(t *testing.T) {
	t.Parallel()
	c, err := cluster.StartMySQL(t.Context(), dbtest.NeedMySQL(t, dbtest.MariaDB1011), diffOptionsOf(t, load.MySQLSchema))
	d := &diffed{replicated: c, t: t, schema: cluster.Database}
	ready(t, d, err)
	d.yaml = c.YAML
	c.Primary.Spoil()
	d.exec("eu-1", "SET GLOBAL rpl_semi_sync_master_timeout = 600000", "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
		"SET GLOBAL rpl_semi_sync_master_enabled = ON")
	end := d.hide("SET GLOBAL rpl_semi_sync_master_enabled = OFF")
	d.says(exitUnknown, "eu-1 does not show yet what us-1 may have from it already")
	end()
	d.says(exitInStep, "in_step")
}

func TestDiffOfAPhysicalStandby(t *testing.T) {
	t.Parallel()
	for _, version := range inSoak(dbtest.PG15, dbtest.PG18) {
		t.Run(version.String(), func(t *testing.T) {
			o := diffOptionsOf(t, load.Schema)
			o.Install = dbtest.Need(t, version)
			c, err := cluster.Start(t.Context(), o)
			d := &diffed{replicated: c, t: t, schema: "public"}
			ready(t, d, err)
			standby := dbtest.StandbyT(t, c.Member("eu-1"), dbtest.Options{})
			member := fmt.Sprintf("    members:\n      - {name: eu-2, dsn: %q}\n", standby.DSNFor(dbtest.LockstepUser, cluster.Database))
			d.yaml = strings.Replace(c.YAML, "    members:\n", member, 1)
			writing := load.Start(t.Context(), c.DSN("eu-1"), load.Options{Clients: 2, Seed: 3, Pause: 25 * time.Millisecond})
			if code, stdout, stderr := d.diff("--member", "eu-2"); code != exitInStep {
				t.Errorf("exit code %d beside a load\n%s%s", code, stdout, stderr)
			}
			if err := writing.Stop(); err != nil {
				t.Fatal(err)
			}
			dbtest.ExecT(t, standby, "SELECT pg_wal_replay_pause()")
			d.exec("eu-1", fmt.Sprintf("UPDATE accounts SET balance = 4711 WHERE id = %d", hiddenRow))
			d.yaml = strings.ReplaceAll(d.yaml, "lag_budget: 20s", "lag_budget: 1s")
			code, stdout, stderr := d.diff("--member", "eu-2")
			for _, want := range []string{"stale", fmt.Sprintf(`{"id":%d}`, hiddenRow), "streaming replication of eu-2 has replayed up to"} {
				if code != exitDiverged || !strings.Contains(stdout, want) {
					t.Errorf("exit code %d, no %q in\n%s%s", code, want, stdout, stderr)
				}
			}
			dbtest.ExecT(t, standby, "SELECT pg_wal_replay_resume()")
			if code, stdout, stderr := d.diff(); code != exitInStep || strings.Count(stdout, "in_step") < 6 {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}
