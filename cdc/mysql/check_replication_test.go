package mysql

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// replicaSettings make a replica lose or change what it replays.
var replicaSettings = map[bool]map[string]string{
	true: {"replicate_ignore_table": "app.secret", "replicate_wild_ignore_table": "app.tmp%", "replicate_rewrite_db": "old->app",
		"slave_exec_mode": "IDEMPOTENT", "slave_run_triggers_for_rbr": "YES", "slave_skip_errors": "1062"},
	false: {"replicate_ignore_table": "app.secret", "replicate_wild_ignore_table": "app.tmp%", "replicate_rewrite_db": "old->app",
		"replica_exec_mode": "IDEMPOTENT", "replica_skip_errors": "1062"},
}

var replicaLines = map[bool][]string{
	true: {
		"fail replication: gives schemas other names than on the source (replicate_rewrite_db=old->app)",
		"fail table app.secret: the replica leaves it out (replicate_ignore_table=app.secret)",
		"fail tables: the replica leaves it out (replicate_wild_ignore_table=app.tmp%): 2 tables: app.tmp_1, app.tmp_2",
		"warn read_only: OFF on a replica: what an application writes here is on no other server",
		"warn slave_exec_mode: IDEMPOTENT: rows that are missing or there already are passed over without an error",
		"warn slave_run_triggers_for_rbr: YES: triggers run here on rows that the source's have run on already",
		"warn slave_skip_errors: 1062: transactions that fail with these errors are passed over",
	},
	false: {
		"fail replication: gives schemas other names than on the source (replicate_rewrite_db=(old,app))",
		"fail table app.secret: the replica leaves it out (replicate_ignore_table=app.secret)",
		"fail tables: the replica leaves it out (replicate_wild_ignore_table=app.tmp%): 2 tables: app.tmp_1, app.tmp_2",
		"warn super_read_only: OFF on a replica: what an application writes here is on no other server",
		"warn replica_exec_mode: IDEMPOTENT: rows that are missing or there already are passed over without an error",
		"warn replica_skip_errors: 1062: transactions that fail with these errors are passed over",
	},
}

func TestReplicaThatMayDifferIsFound(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		mariadb := install.Flavour.MariaDB()
		primary := dbtest.StartMySQLT(t, install, anew)
		replica := dbtest.StartMySQLT(t, install, dbtest.Options{Database: "app", Conf: replicaSettings[mariadb]})
		for _, s := range []*dbtest.MySQLServer{primary, replica} {
			if err := s.Quietly(t.Context(), `CREATE TABLE good (id INT PRIMARY KEY, n INT); CREATE TABLE secret (id INT PRIMARY KEY);
				CREATE TABLE tmp_1 (id INT PRIMARY KEY); CREATE TABLE tmp_2 (id INT PRIMARY KEY)`); err != nil {
				t.Fatal(err)
			}
		}
		if err := replica.Follow(t.Context(), primary); err != nil {
			t.Fatal(err)
		}
		dbtest.ExecT(t, replica, "SET GLOBAL read_only = OFF")
		o, match := checkOptions(replica, "root"), checkPrefix("app.")
		r := runCheck(t, o, match)
		if diff := cmp.Diff(replicaLines[mariadb], notOK(r)); diff != "" {
			t.Errorf("broken replica: %s", diff)
		}
		if err := runScript(t.Context(), replica, r.SQL()); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Join(notOK(runCheck(t, o, match)), "\n"); strings.Contains(lines, "IDEMPOTENT") || strings.Contains(lines, "triggers") {
			t.Errorf("after the script: %s", lines)
		}
	})
}

func TestReplicationThatDoesNotRunIsFound(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		g := dbtest.MySQLGroupT(t, install, 1, "CREATE TABLE t (id INT PRIMARY KEY)", anew)
		replica := g.Replicas[0]
		from := fmt.Sprintf("from 127.0.0.1:%d ", g.Primary.Port)
		check := func() preflight.Check {
			return checkOf(t, runCheck(t, checkOptions(replica, "root"), checkPrefix("app.")), "replication")
		}
		healthy := runCheck(t, checkOptions(replica, "root"), checkPrefix("app."))
		if diff := cmp.Diff([]string(nil), notOK(healthy)); diff != "" {
			t.Errorf("healthy replica: %s", diff)
		}
		if c := checkOf(t, healthy, "replication"); c.Detail != from+"runs" {
			t.Errorf("%+v", c)
		}
		if c := checkOf(t, runCheck(t, checkOptions(g.Primary, "root"), checkPrefix("app.")), "replication"); c.State != preflight.OK || c.Detail != "from nowhere: writes are made here" {
			t.Errorf("primary: %+v", c)
		}

		if err := replica.StopApplier(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopped := check()
		if stopped.State != preflight.Fail || stopped.Detail != from+"does not run (receiver: Yes, applier: No)" {
			t.Errorf("%+v", stopped)
		}
		start, _, _ := strings.Cut(stopped.Hint, " once ")
		dbtest.ExecT(t, replica, start)
		if err := replica.WaitReplicating(t.Context()); err != nil {
			t.Fatal(err)
		}

		byPlace := "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 0; START REPLICA"
		if install.Flavour.MariaDB() {
			byPlace = "STOP SLAVE; CHANGE MASTER TO MASTER_USE_GTID = no; START SLAVE"
		}
		dbtest.ExecT(t, replica, byPlace)
		if err := replica.WaitReplicating(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := check()
		if c.State != preflight.Warn || !strings.HasPrefix(c.Detail, from+"goes by places in files") {
			t.Errorf("%+v", c)
		}
		dbtest.ExecT(t, replica, c.Hint)
		if err := replica.WaitReplicating(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := check(); c.State != preflight.OK {
			t.Errorf("after %q: %+v", c.Hint, c)
		}

		if err := replica.Quietly(t.Context(), "INSERT INTO app.t VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		dbtest.ExecT(t, g.Primary, "INSERT INTO t VALUES (1)")
		if err := g.WaitCaughtUp(t.Context()); err == nil {
			t.Fatal("the applier did not stop")
		}
		said := regexp.MustCompile(`applier: No\): .*(failed executing|Could not execute)`)
		if c := check(); c.State != preflight.Fail || !said.MatchString(c.Detail) {
			t.Errorf("%+v", c)
		}
	})
}

func TestMemberWithAnotherColumnIsFoundInTheGroup(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		g := dbtest.MySQLGroupT(t, install, 1, "CREATE TABLE t (id INT PRIMARY KEY, moved BIGINT, ours INT)", anew)
		if err := g.Replicas[0].Quietly(t.Context(), "ALTER TABLE app.t MODIFY moved VARCHAR(5) CHARACTER SET latin1, DROP ours"); err != nil {
			t.Fatal(err)
		}
		a, b := checkOptions(g.Primary, "root"), checkOptions(g.Replicas[0], "root")
		a.Member, b.Member = "eu-1", "us-1"
		match := checkPrefix("app.")
		groupLines := func(reports ...*preflight.Report) []string {
			return notOK(&preflight.Report{Checks: preflight.Group(reports, nil, "", func(string) []string { return nil })})
		}
		first := runCheck(t, a, match)
		want := []string{
			"fail table app.t: column moved is bigint on eu-1 and varchar(5) CHARACTER SET latin1 on us-1",
			"warn table app.t: column ours is on eu-1 and missing on us-1",
		}
		if install.Flavour.MariaDB() {
			want[0] = strings.Replace(want[0], "bigint", "bigint(20)", 1)
		}
		if diff := cmp.Diff(want, groupLines(first, runCheck(t, b, match))); diff != "" {
			t.Error(diff)
		}
		a.Member = "eu-2"
		if diff := cmp.Diff([]string{"fail members: eu-1 and eu-2 say that they are the same server, as a copy does, too; whether they are two is not known: they were not asked"}, groupLines(first, runCheck(t, a, match))); diff != "" {
			t.Error(diff)
		}
	})
}
