package mysql

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestProgress(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			g := dbtest.MySQLGroupT(t, dbtest.NeedMySQL(t, f), 1, "CREATE TABLE app.a (id int PRIMARY KEY); CREATE TABLE app.b (id int PRIMARY KEY)", anew)
			if err := g.GrantLockstep(t.Context(), "pw"); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				name string
				run  func(*testing.T, *dbtest.MySQLGroup)
			}{
				{"a running replica has replayed what its source has", runningReplica},
				{"a server that replicates from nobody says so", loneServer},
				{"a stopped replica is not enabled", stoppedReplica},
				{"a skipped transaction counts as replayed", skippedTransaction},
				{"a privilege that lacks is asked for", seesNothing},
				{"filters keep tables out", filteredReplica},
				{"channels have their names", namedChannels},
				{"the barrier is where the log ends", barrierAtEnd},
				{"an error of the replica is told", failingReplica},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, g) })
			}
		})
	}
}

func caughtUp(t *testing.T, g *dbtest.MySQLGroup) {
	t.Helper()
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// progress asks for progress with all tables of app listed.
func progress(t *testing.T, s *Source) cdc.Progress {
	t.Helper()
	if _, err := s.Tables(t.Context(), func(name string) bool { return strings.HasPrefix(name, "app.") }); err != nil {
		t.Fatal(err)
	}
	p, err := s.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Lanes) != 1 || p.Lanes[0].Name != cdc.GTIDLane || len(p.Applied) != 1 {
		t.Fatalf("%+v", p)
	}
	return p
}

func runningReplica(t *testing.T, g *dbtest.MySQLGroup) {
	run(t, g.Primary, "INSERT INTO app.a VALUES (1)")
	caughtUp(t, g)
	primary, replica := probe(t, g.Primary, ""), probe(t, g.Replicas[0], "")
	own, err := primary.Confirmed(t.Context())
	if err != nil || len(own) != 1 {
		t.Fatalf("%v, %v", own, err)
	}
	p := progress(t, replica)
	lane := p.Lanes[0]
	if set, ok := own[lane.Slot]; !ok || !set.IsZero() {
		t.Errorf("the replica reads from %q, its source is %v", lane.Slot, own)
	}
	want := cdc.Lane{Name: cdc.GTIDLane, Title: "replication", Slot: lane.Slot, Enabled: true, Tables: map[string]string{"app.a": "", "app.b": ""}}
	if diff := cmp.Diff(want, lane); diff != "" {
		t.Error(diff)
	}
	if written := progress(t, primary).Applied[cdc.GTIDLane]; written.IsZero() || !p.Applied[cdc.GTIDLane].Covers(written) {
		t.Errorf("replayed %v of %v", p.Applied, written)
	}
}

func loneServer(t *testing.T, g *dbtest.MySQLGroup) {
	lane := progress(t, probe(t, g.Primary, "")).Lanes[0]
	if lane.Enabled || lane.Slot != "" || lane.Problem != "no replication is configured on it" {
		t.Errorf("%+v", lane)
	}
}

func stoppedReplica(t *testing.T, g *dbtest.MySQLGroup) {
	s, replica := probe(t, g.Replicas[0], ""), g.Replicas[0]
	if err := replica.StopApplier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lane := progress(t, s).Lanes[0]; lane.Enabled || lane.Problem != "" {
		t.Errorf("%+v", lane)
	}
	run(t, g.Primary, "INSERT INTO app.a VALUES (2)")
	written, have := progress(t, probe(t, g.Primary, "")).Applied[cdc.GTIDLane], progress(t, s).Applied[cdc.GTIDLane]
	if have.Covers(written) {
		t.Errorf("stopped, it has replayed %v of %v", have, written)
	}
	if err := replica.StartApplier(t.Context()); err != nil {
		t.Fatal(err)
	}
	caughtUp(t, g)
	if lane := progress(t, s).Lanes[0]; !lane.Enabled {
		t.Errorf("%+v", lane)
	}
}

func skippedTransaction(t *testing.T, g *dbtest.MySQLGroup) {
	replica := g.Replicas[0]
	if err := replica.StopApplier(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, g.Primary, "INSERT INTO app.a VALUES (3)")
	if err := replica.SkipNext(t.Context(), g.Primary); err != nil {
		t.Fatal(err)
	}
	written, have := progress(t, probe(t, g.Primary, "")).Applied[cdc.GTIDLane], progress(t, probe(t, replica, "")).Applied[cdc.GTIDLane]
	if !have.Covers(written) {
		t.Errorf("it has passed over or replayed %v of %v", have, written)
	}
	if n, err := dbtest.MySQLValue[int64](t.Context(), replica, "SELECT COUNT(*) FROM app.a WHERE id = 3"); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func seesNothing(t *testing.T, g *dbtest.MySQLGroup) {
	replica := g.Replicas[0]
	if err := replica.Quietly(t.Context(), "CREATE USER poor@'%' IDENTIFIED BY 'pw'", "GRANT SELECT ON *.* TO poor@'%'"); err != nil {
		t.Fatal(err)
	}
	s := probe(t, replica, "")
	s.address.user = "poor"
	v := parseVersionOf(replica)
	grant := fmt.Sprintf("GRANT %s ON *.* TO 'poor'@'%%';", v.seeLog())
	if _, err := s.Progress(t.Context()); !cdc.IsSetup(err) || !strings.Contains(err.Error(), grant) {
		t.Errorf("%v, want one with %s", err, grant)
	}
	if err := replica.Quietly(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	lane := progress(t, s).Lanes[0]
	if v.seeReplicas() == v.seeLog() {
		if lane.Problem != "" {
			t.Errorf("%+v", lane)
		}
		return
	}
	grant = fmt.Sprintf("GRANT %s ON *.* TO 'poor'@'%%';", v.seeReplicas())
	if lane.Enabled || !strings.Contains(lane.Problem, grant) {
		t.Errorf("%+v, want a problem with %s", lane, grant)
	}
	if err := replica.Quietly(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if lane := progress(t, s).Lanes[0]; !lane.Enabled || lane.Problem != "" {
		t.Errorf("%+v", lane)
	}
}

func filteredReplica(t *testing.T, g *dbtest.MySQLGroup) {
	replica, set, clear := g.Replicas[0], "CHANGE REPLICATION FILTER REPLICATE_IGNORE_TABLE = (app.b)", "CHANGE REPLICATION FILTER REPLICATE_IGNORE_TABLE = ()"
	if replica.Install.Flavour.MariaDB() {
		set, clear = "SET GLOBAL replicate_ignore_table = 'app.b'", "SET GLOBAL replicate_ignore_table = ''"
	}
	within := func(statement string) {
		t.Helper()
		if replica.Install.Flavour.MariaDB() {
			run(t, replica, "STOP SLAVE", statement, "START SLAVE")
		} else {
			run(t, replica, "STOP REPLICA", statement, "START REPLICA")
		}
		if err := replica.WaitReplicating(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	within(set)
	want := map[string]string{"app.a": "", "app.b": "the replica leaves it out (replicate_ignore_table=app.b)"}
	if diff := cmp.Diff(want, progress(t, probe(t, replica, "")).Lanes[0].Tables); diff != "" {
		t.Error(diff)
	}
	within(clear)
	if diff := cmp.Diff(map[string]string{"app.a": "", "app.b": ""}, progress(t, probe(t, replica, "")).Lanes[0].Tables); diff != "" {
		t.Error(diff)
	}
}

func namedChannels(t *testing.T, g *dbtest.MySQLGroup) {
	replica := g.Replicas[0]
	add, drop := "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_AUTO_POSITION = 1 FOR CHANNEL 'side'", "RESET REPLICA ALL FOR CHANNEL 'side'"
	if replica.Install.Flavour.MariaDB() {
		add, drop = "CHANGE MASTER 'side' TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USE_GTID = slave_pos", "RESET SLAVE 'side' ALL"
	}
	run(t, replica, add)
	defer run(t, replica, drop)
	lane := progress(t, probe(t, replica, "")).Lanes[0]
	if lane.Title != `replication channel "side"` || lane.Enabled || lane.Problem != "" {
		t.Errorf("%+v", lane)
	}
}

func barrierAtEnd(t *testing.T, g *dbtest.MySQLGroup) {
	s := probe(t, g.Primary, "")
	before := progress(t, s)
	if again := progress(t, s); again.Barrier != before.Barrier {
		t.Errorf("%v, then %v: nothing was written", before.Barrier, again.Barrier)
	}
	run(t, g.Primary, "INSERT INTO app.b VALUES (10)")
	after := progress(t, s)
	run(t, g.Primary, "FLUSH BINARY LOGS")
	rotated := progress(t, s)
	if after.Barrier <= before.Barrier || rotated.Barrier <= after.Barrier {
		t.Errorf("%v, %v, %v", before.Barrier, after.Barrier, rotated.Barrier)
	}
	if written := after.Applied[cdc.GTIDLane]; written.Equal(before.Applied[cdc.GTIDLane]) || !written.Covers(before.Applied[cdc.GTIDLane]) {
		t.Errorf("%v after %v", written, before.Applied)
	}
}

func failingReplica(t *testing.T, g *dbtest.MySQLGroup) {
	replica := g.Replicas[0]
	if err := replica.Quietly(t.Context(), "INSERT INTO app.a VALUES (99)"); err != nil {
		t.Fatal(err)
	}
	run(t, g.Primary, "INSERT INTO app.a VALUES (99)")
	s := probe(t, replica, "")
	var lane cdc.Lane
	err := dbtest.WaitFor(t.Context(), "the replica to fail", func(ctx context.Context) (bool, error) {
		p, err := s.Progress(ctx)
		if err == nil {
			lane = p.Lanes[0]
		}
		return lane.Problem != "" && !lane.Enabled, err // the error is told before the thread has ended
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(lane.Problem, "\n") || !strings.Contains(lane.Problem, "rror") {
		t.Errorf("%+v", lane)
	}
}
