package mysql

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// TestReplicaShowsTheTransactionsOfItsSource compares what both logs have: ids, times, rows.
func TestReplicaShowsTheTransactionsOfItsSource(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			g := dbtest.MySQLGroupT(t, dbtest.NeedMySQL(t, f), 1, "CREATE DATABASE IF NOT EXISTS app", anew)
			if err := g.GrantLockstep(t.Context(), "pw"); err != nil {
				t.Fatal(err)
			}
			source := tailOf(t, g.Members()[0])
			caughtUpWith(t, g)
			replica := mirror(source, g.Members()[1])
			xa := source.session()
			exec(t, xa, "XA START 'x'", "INSERT INTO a VALUES (1, 1, 'x')", "XA END 'x'", "XA PREPARE 'x'")
			source.do("INSERT INTO b VALUES (1, 1, 'é'), (2, NULL, NULL)", "UPDATE b SET id = 3 WHERE id = 2", "DELETE FROM b WHERE id = 1")
			exec(t, xa, "XA COMMIT 'x'")
			source.do("TRUNCATE b", "BEGIN; INSERT INTO a SELECT 5, 5, NULL; INSERT INTO b SELECT * FROM a; COMMIT", "ALTER TABLE b ADD COLUMN x int")
			caughtUpWith(t, g)
			want, got := source.read(), replica.read()
			if diff := cmp.Diff(want, got); diff != "" || len(want) != 7 {
				t.Errorf("%d transactions: -source +replica\n%s", len(want), diff)
			}
			if diff := cmp.Diff(source.rows, replica.rows); diff != "" {
				t.Errorf("-source +replica\n%s", diff)
			}
			if diff := cmp.Diff(source.times, replica.times, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
				t.Errorf("-source +replica\n%s", diff)
			}
			if !source.at.Shown.Equal(replica.at.Shown) || !source.at.Last.Equal(replica.at.Last) {
				t.Errorf("source is at %v, %v, replica at %v, %v", source.at.Shown, source.at.Last, replica.at.Shown, replica.at.Last)
			}
			if !errantIsShown(t, replica) {
				t.Error("a transaction of the replica's own is not shown as such")
			}
			whatIsNotLoggedIsAGap(t, g, source, replica)
		})
	}
}

func caughtUpWith(t *testing.T, g *dbtest.MySQLGroup) {
	t.Helper()
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// whatIsNotLoggedIsAGap runs the replica for a while so that it does not log what it replays.
func whatIsNotLoggedIsAGap(t *testing.T, g *dbtest.MySQLGroup, source, replica *tail) {
	t.Helper()
	setting := "log_replica_updates"
	if replica.server.Install.Flavour.MariaDB() {
		setting = "log_slave_updates"
	}
	again := func(value string) {
		replica.bounce(map[string]string{setting: value})
	}
	again("OFF")
	if _, err := replica.Prepare(t.Context(), replica.at); !cdc.IsUnlogged(err) {
		t.Errorf("%v, want that it does not log what it replays", err)
	}
	source.do("INSERT INTO a VALUES (201, 1, 'unlogged')")
	caughtUpWith(t, g)
	again("ON")
	source.do("INSERT INTO a VALUES (202, 1, 'logged')")
	caughtUpWith(t, g)
	if !replica.server.Install.Flavour.MariaDB() {
		replica.isGap("was purged")
		return
	}
	if replica.started > 0 {
		t.Error("the server was started by what its log showed before it was")
	}
	replica.want("insert a 202")
	if replica.started == 0 {
		t.Error("the log shows nothing of the server's start")
	}
	again("OFF")
	replica.do("STOP SLAVE", "RESET SLAVE ALL")
	replica.want()
	replica.do("CHANGE MASTER TO MASTER_HOST = '127.0.0.1'")
	replica.isGap("does not log what it replays")
}

// mirror is a tail of a replica, of the same tables.
func mirror(source *tail, server *dbtest.MySQLServer) *tail {
	source.t.Helper()
	m := *source
	m.Source, m.server = probe(source.t, server, ""), server
	m.tables, m.epochs = map[cdc.TableID]cdc.Table{}, map[cdc.TableID]cdc.Epoch{}
	m.through, m.times = map[cdc.TxID]int{}, map[cdc.TxID]time.Time{}
	m.rows, m.started = map[string]digest.Digest{}, 0
	m.learn(1)
	m.restart()
	return &m
}

// errantIsShown writes on the replica itself.
func errantIsShown(t *testing.T, m *tail) bool {
	t.Helper()
	before := m.at.Shown.Clone()
	m.do("SET GLOBAL read_only = OFF", "INSERT INTO a VALUES (99, 1, 'errant')")
	got := m.read()
	errant := m.at.Shown.Without(before)
	p, err := m.Progress(t.Context())
	return err == nil && len(got) == 1 && strings.HasPrefix(got[0], "insert a 99") && !errant.IsZero() && p.Applied[cdc.GTIDLane].Covers(errant)
}
