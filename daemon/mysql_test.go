package daemon_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/status"
)

// onMySQL runs a test on MySQL and on MariaDB, with a primary eu-1 and replicas us-1 and us-2.
func onMySQL(t *testing.T, o cluster.Options, test func(t *testing.T, w *watch, c *cluster.MySQLCluster)) {
	onFlavours(t, o, test, dbtest.MariaDB1011, dbtest.MySQL97)
}

// onMariaDB and onMySQL97 run a test on one of the two, and on both in `make soak`: for what is the same on both.
func onMariaDB(t *testing.T, o cluster.Options, test func(t *testing.T, w *watch, c *cluster.MySQLCluster)) {
	onOne(t, o, test, dbtest.MariaDB1011)
}

func onMySQL97(t *testing.T, o cluster.Options, test func(t *testing.T, w *watch, c *cluster.MySQLCluster)) {
	onOne(t, o, test, dbtest.MySQL97)
}

func onOne(t *testing.T, o cluster.Options, test func(t *testing.T, w *watch, c *cluster.MySQLCluster), flavour dbtest.Flavour) {
	if dbtest.Soaking() {
		onMySQL(t, o, test)
		return
	}
	onFlavours(t, o, test, flavour)
}

func onFlavours(t *testing.T, o cluster.Options, test func(t *testing.T, w *watch, c *cluster.MySQLCluster), flavours ...dbtest.Flavour) {
	t.Parallel()
	for _, flavour := range flavours {
		t.Run(flavour.String(), func(t *testing.T) {
			t.Parallel()
			install := dbtest.NeedMySQL(t, flavour)
			o := o
			o.Server.Below, o.Server.Reuse, o.DataDir = dbtest.MemoryDir(), o.Server.Conf == nil, t.TempDir()
			if o.LagBudget == 0 {
				o.LagBudget = time.Second
			}
			c, err := cluster.StartMySQL(t.Context(), install, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Logf("close cluster: %v", err)
				}
			})
			test(t, &watch{t: t, c: c}, c)
		})
	}
}

const mysqlTable = "CREATE TABLE items (id bigint PRIMARY KEY, name varchar(100), price decimal(10,2)) ENGINE=InnoDB;"

// rowsOf inserts items whose price is their number modulo 7.
func rowsOf(from, to int) string {
	var values []string
	for n := from; n <= to; n++ {
		values = append(values, fmt.Sprintf("(%d, 'item %d', %d)", n, n, n%7))
	}
	return "INSERT INTO items VALUES " + strings.Join(values, ", ")
}

func TestMySQLDifferencesAreFoundWithTheirKeysAndCauses(t *testing.T) {
	onMySQL(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.exec("eu-1", rowsOf(1, 3000))
		w.replayed()
		quietly := "SET sql_log_bin = 0"
		w.exec("us-1", quietly, "UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12", "DELETE FROM items WHERE id = 2000")
		w.start()
		w.finds(
			`us-1 app.items changed preexisting {"id":10}..{"id":12}`,
			`us-1 app.items missing preexisting {"id":2000}..{"id":2000}`,
		)
		w.exec("us-2", "INSERT INTO items VALUES (9000, 'extra', 1)", "UPDATE items SET price = 99 WHERE id IN (5, 6)")
		w.finds(
			`us-1 app.items changed preexisting {"id":10}..{"id":12}`,
			`us-1 app.items missing preexisting {"id":2000}..{"id":2000}`,
			`us-2 app.items extra errant_transaction {"id":9000}..{"id":9000}`,
			`us-2 app.items changed errant_transaction {"id":5}..{"id":6}`,
		)
		for _, d := range w.open() {
			if d.Cause == finding.CauseErrant && (d.IntroducedBy == nil || strings.Count(d.IntroducedBy.Transaction, "-") < 2) {
				t.Errorf("the errant transaction is %+v, want its GTID", d.IntroducedBy)
			}
		}
		w.exec("us-2", "DELETE FROM items WHERE id = 9000", "UPDATE items SET price = id % 7 WHERE id IN (5, 6)")
		w.exec("us-1", "UPDATE items SET name = CONCAT('item ', id) WHERE id BETWEEN 10 AND 12", "INSERT INTO items VALUES (2000, 'item 2000', 2000 % 7)")
		w.finds()
		w.inStep()
		w.exec("eu-1", "CREATE TABLE brief (id int PRIMARY KEY)")
		w.until("the new table to be watched", func() bool { return w.table("us-1", "app.brief").Verdict == status.InStep })
		w.exec("us-1", "INSERT INTO brief VALUES (1)")
		w.finds(`us-1 app.brief extra errant_transaction {"id":1}..{"id":1}`)
		w.exec("eu-1", "DROP TABLE brief")
		w.forgets("app.brief")
		// The member skips a transaction.
		ctx := t.Context()
		us1, eu1 := c.Member("us-1"), c.Member("eu-1")
		if err := us1.StopApplier(ctx); err != nil {
			t.Fatal(err)
		}
		w.exec("eu-1", "UPDATE items SET name = 'skipped' WHERE id BETWEEN 100 AND 102")
		if err := us1.SkipNext(ctx, eu1); err != nil {
			t.Fatal(err)
		}
		w.exec("eu-1", "UPDATE items SET name = 'not skipped' WHERE id = 200")
		w.finds(`us-1 app.items changed skipped_transaction {"id":100}..{"id":102}`)
		w.exec("eu-1", "UPDATE items SET name = 'again' WHERE id BETWEEN 100 AND 102")
		w.finds()
		w.inStep()
	})
}

// Restarts, rotations, connections that are cut in the middle of a transaction, another server id, and a switch of roles
// are no difference; and one that is made afterwards is found.
func TestMySQLServersThatRestartRotateAndSwitchRolesKeepStep(t *testing.T) {
	// A replica asks its primary again after a second.
	onMariaDB(t, cluster.Options{Schema: mysqlTable, LagBudget: 5 * time.Second}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		ctx := t.Context()
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		w.exec("eu-1", rowsOf(1, 500))
		w.start()
		w.inStep()
		check(c.Member("us-1").Restart(ctx))
		w.exec("eu-1", rowsOf(501, 600), "FLUSH BINARY LOGS", "UPDATE items SET price = price + 1 WHERE id < 300", "FLUSH BINARY LOGS")
		for range 3 {
			_, err := c.Member("eu-1").KillDumpThreads(ctx)
			check(err)
			_, err = c.Member("us-2").KillDumpThreads(ctx)
			check(err)
			w.exec("eu-1", "UPDATE items SET price = price + 1")
		}
		w.replayed()
		w.inStep()
		c.Primary.Spoil()
		w.exec("eu-1", "SET GLOBAL server_id = 4000001")
		w.exec("eu-1", "DELETE FROM items WHERE id % 10 = 0", rowsOf(1000, 1100))
		w.replayed()
		w.inStep()
		check(c.Promote(ctx, 0)) // us-1 is the primary now
		w.exec("us-1", "UPDATE items SET name = CONCAT(name, '!') WHERE id < 50", rowsOf(2000, 2100))
		w.replayed()
		w.until("the rows to arrive", func() bool { return w.table("us-2", "app.items").Rows == w.table("us-1", "app.items").Rows })
		w.inStep()
		w.neverDiverged()
		w.exec("us-2", "UPDATE items SET name = 'wrong' WHERE id = 7")
		w.finds(`us-2 app.items changed errant_transaction {"id":7}..{"id":7}`)
	})
}

// A session that logs less than whole rows makes the table unverified until it was read anew.
func TestSessionThatDoesNotLogWholeRowsMakesTheTableUnverified(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: mysqlTable + "CREATE TABLE other (id int PRIMARY KEY, v text);"}, func(t *testing.T, w *watch, _ *cluster.MySQLCluster) {
		w.exec("eu-1", rowsOf(1, 500), "INSERT INTO other VALUES (1, 'a')")
		w.start()
		w.inStep()
		before := w.table("us-1", "app.other").ComparedAt.Time
		for _, setting := range []string{"binlog_row_image = 'MINIMAL'", "binlog_format = 'STATEMENT'"} {
			// A statement may set off triggers, which write to other tables.
			if after := w.table("us-1", "app.other").ComparedAt.Time; !after.Equal(before) {
				t.Errorf("another table was compared anew at %v", after)
			}
			compared := w.table("us-1", "app.items").ComparedAt.Time
			w.exec("eu-1", "SET SESSION "+setting, "UPDATE items SET name = 'half' WHERE id = 7")
			w.until("the table to be read anew", func() bool { return w.table("us-1", "app.items").ComparedAt.After(compared) })
			w.inStep()
		}
		w.exec("eu-1", "ALTER TABLE items ADD COLUMN note varchar(20) DEFAULT 'none'", "UPDATE items SET note = 'mine' WHERE id = 9", "CREATE TABLE third (id int PRIMARY KEY)", "INSERT INTO third VALUES (1)")
		w.until("the new table to be compared", func() bool { return w.table("us-1", "app.third").Verdict == status.InStep })
		w.inStep()
		w.exec("eu-1", "TRUNCATE other")
		w.until("the table to be empty", func() bool { return w.table("us-2", "app.other").Rows == 0 })
		w.inStep()
		w.neverDiverged()
		w.exec("us-2", "UPDATE items SET note = 'theirs' WHERE id = 9")
		w.finds(`us-2 app.items changed errant_transaction {"id":9}..{"id":9}`)
	})
}

// Replicas that replay in parallel, on MySQL in another order than the primary, under load, stopped now and then: nothing is ever held to differ, and in the end every digest is that of the rows.
func TestParallelReplicasUnderLoadNeverDiverge(t *testing.T) {
	onMySQL97(t, cluster.Options{Schema: load.MySQLSchema, LagBudget: 10 * time.Second}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		parallel := []string{"STOP REPLICA SQL_THREAD", "SET GLOBAL replica_preserve_commit_order = OFF", "SET GLOBAL replica_parallel_workers = 4", "START REPLICA SQL_THREAD"}
		if c.Primary.Install.Flavour.MariaDB() {
			parallel = []string{"STOP SLAVE", "SET GLOBAL slave_parallel_mode = 'optimistic'", "SET GLOBAL slave_parallel_threads = 4", "START SLAVE"}
		}
		for _, replica := range c.Replicas {
			replica.Spoil()
			dbtest.ExecT(t, replica, parallel...)
		}
		ctx := t.Context()
		if err := load.FillShare(ctx, c.DSN("eu-1"), 5); err != nil {
			t.Fatal(err)
		}
		writing := load.Start(ctx, c.DSN("eu-1"), load.Options{Clients: 4, Pause: 2 * time.Millisecond, Large: 500, Seed: 3})
		w.start()
		for n := range 2 {
			member := []string{"us-1", "us-2"}[n%2]
			rows := writing.Counts().Rows.Load()
			if err := c.Pause(ctx, member); err != nil {
				t.Fatal(err)
			}
			w.until("the load to write", func() bool { return writing.Counts().Rows.Load() > rows+1000 })
			if err := c.Resume(ctx, member); err != nil {
				t.Fatal(err)
			}
		}
		if err := writing.Stop(); err != nil {
			t.Fatal(err)
		}
		w.replayed()
		w.inStep()
		w.neverDiverged()
		w.checkDigests()
	})
}

// The reference is a replica, which others are ahead of all the time, and which wrote something of its own once: it came to nobody, and was
// written over since.
func TestAReplicaAsTheReferenceRaisesNoAlarm(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: mysqlTable, LagBudget: 2 * time.Second}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		ctx := t.Context()
		w.c = configured{c, func(g *config.Group) { g.Reference = "us-1" }}
		w.exec("eu-1", rowsOf(1, 300))
		w.replayed()
		w.start()
		w.inStep()
		w.exec("us-1", "UPDATE items SET name = 'mine' WHERE id = 7")
		w.finds(`eu-1 app.items changed skipped_transaction {"id":7}..{"id":7}`, `us-2 app.items changed skipped_transaction {"id":7}..{"id":7}`)
		w.exec("eu-1", "UPDATE items SET name = 'ours' WHERE id = 7")
		w.finds()
		w.inStep()
		us1 := c.Member("us-1")
		if err := us1.StopApplier(ctx); err != nil {
			t.Fatal(err)
		}
		w.exec("eu-1", "UPDATE items SET price = price + 1", rowsOf(1000, 1100))
		w.until("it to be said what is waited for", func() bool {
			return strings.Contains(w.table("eu-1", "app.items").Reason, "us-1, the reference, is a replica itself, and has yet to replay") &&
				w.table("us-2", "app.items").Verdict == status.Unverified
		})
		if err := us1.StartApplier(ctx); err != nil {
			t.Fatal(err)
		}
		w.inStep()
		w.scrub()
		w.inStep()
		w.neverDiverged()
		w.exec("us-2", "UPDATE items SET name = 'theirs' WHERE id = 9")
		w.finds(`us-2 app.items changed errant_transaction {"id":9}..{"id":9}`)
		w.until("it to be listed", func() bool {
			i := slices.IndexFunc(w.daemon.Groups()[0].Status().Members, func(m status.Member) bool { return m.Name == "us-2" })
			m := w.daemon.Groups()[0].Status().Members[i]
			return m.Errant != "" && m.ErrantCount != nil && *m.ErrantCount > 0
		})
	})
}

// The primary dies with a transaction that no replica has, a replica is promoted, and the old primary comes back as its replica. Which one is the
// reference is seen by itself, no row is read again, and what was lost is told of with its transaction.
func TestAfterAFailoverNothingIsReadAgainAndWhatWasLostIsFound(t *testing.T) {
	onMySQL97(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		ctx := t.Context()
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		w.exec("eu-1", rowsOf(1, 3000))
		w.replayed()
		w.start()
		w.inStep()
		read := w.reads.now()
		for _, replica := range c.Replicas {
			check(replica.StopApplier(ctx))
		}
		w.exec("eu-1", "UPDATE items SET name = 'lost' WHERE id IN (5, 6)")
		w.until("it to be in flight", func() bool { return w.table("us-1", "app.items").Verdict == status.Lagging })
		old := c.Primary
		old.Spoil()
		check(old.Stop(ctx))
		check(c.Promote(ctx, 0))
		w.until("the reference to be another one", func() bool { return w.daemon.Groups()[0].Status().Reference == "us-1" })
		w.until("who replicates from it to be in step", func() bool { return w.table("us-2", "app.items").Verdict == status.InStep })
		w.exec("us-1", "UPDATE items SET name = 'new' WHERE id = 7")
		check(old.Restart(ctx))
		check(old.Follow(ctx, c.Primary))
		w.finds(`eu-1 app.items changed errant_transaction {"id":5}..{"id":6}`)
		w.exec("eu-1", "UPDATE items SET name = CONCAT('item ', id) WHERE id IN (5, 6)")
		w.finds()
		w.inStep()
		if now := w.reads.now(); !maps.Equal(read, now) {
			t.Errorf("tables were read %v times, and %v before the failover", now, read)
		}
	})
}
