package daemon_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/status"
)

func items(from, to int) string {
	return fmt.Sprintf("INSERT INTO items SELECT n, 'item ' || n, n %% 7 FROM generate_series(%d, %d) n", from, to)
}

func TestDifferencesFromBeforeTheFirstStartAreFound(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable})
	w := &watch{t: t, c: c}
	w.exec("eu-1", items(1, 5000))
	w.replayed()
	w.exec("us-1", "UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12", "DELETE FROM items WHERE id = 4000")
	w.exec("us-2", "INSERT INTO items VALUES (9000, 'extra', 1)")
	w.start()
	w.finds(
		`us-1 public.items changed preexisting {"id":10}..{"id":12}`,
		`us-1 public.items missing preexisting {"id":4000}..{"id":4000}`,
		`us-2 public.items extra preexisting {"id":9000}..{"id":9000}`,
	)
	w.exec("us-2", "DELETE FROM items WHERE id = 9000")
	w.exec("us-1", "UPDATE items SET name = 'item ' || id WHERE id BETWEEN 10 AND 12", "INSERT INTO items VALUES (4000, 'item 4000', 4000 % 7)")
	w.finds()
	w.inStep()
}

func TestTruncateKeyMovesAndSavepointsKeepStep(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable, Subscribers: 1})
	w := startWatch(t, c)
	w.exec("eu-1", items(1, 3000))
	w.inStep()
	w.exec("eu-1",
		"UPDATE items SET id = id + 10000 WHERE id % 2 = 0",
		"BEGIN; DELETE FROM items WHERE id = 1; SAVEPOINT s; DELETE FROM items WHERE id < 100; ROLLBACK TO s; COMMIT",
		"BEGIN; TRUNCATE items; "+items(5, 50)+"; COMMIT",
		items(51, 4000))
	w.replayed()
	w.until("the rows to arrive", func() bool { return w.table("us-1", "public.items").Rows == 3996 })
	w.inStep()
	w.neverDiverged()
	w.exec("us-1", "TRUNCATE items")
	w.finds(`us-1 public.items missing errant_transaction {"id":5}..{"id":4000}`)
}

func TestSchemaChangeMakesTheTableUnverifiedAndItComesBack(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable + "CREATE TABLE other (id int PRIMARY KEY, v text);"})
	w := startWatch(t, c)
	w.exec("eu-1", items(1, 2000), "INSERT INTO other VALUES (1, 'a')")
	w.inStep()
	for _, member := range []string{"us-1", "us-2", "eu-1"} {
		w.exec(member, "ALTER TABLE items ADD COLUMN note text DEFAULT 'none'")
	}
	w.exec("eu-1", "UPDATE items SET note = 'mine' WHERE id = 7")
	w.until("the table to be read anew", func() bool { return w.table("us-1", "public.items").Verdict == status.Unverified })
	if s := w.table("us-1", "public.other"); !s.Live {
		t.Errorf("another table is read anew too: %s", s.Reason)
	}
	w.inStep()
	w.neverDiverged()
	w.exec("us-2", "UPDATE items SET note = 'theirs' WHERE id = 9")
	w.finds(`us-2 public.items changed errant_transaction {"id":9}..{"id":9}`)
	w.exec("us-1", "ALTER TABLE items ALTER COLUMN name TYPE varchar(200) USING upper(name)")
	w.until("the rewrite to be found", func() bool {
		for _, d := range w.open() {
			if d.Member == "us-1" && d.Keys == 2000 && d.Kind == finding.Changed {
				return true
			}
		}
		return false
	})
}

func TestInitialCopyIsSyncingAndNotDiverged(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable, Subscribers: 1})
	w := &watch{t: t, c: c}
	w.exec("eu-1", items(1, 1000))
	w.replayed()
	w.exec("us-1", "ALTER SUBSCRIPTION app_0 DISABLE", "ALTER SUBSCRIPTION app_0 SET (slot_name = NONE)", "DROP SUBSCRIPTION app_0", "TRUNCATE items")
	w.exec("eu-1", "SELECT pg_drop_replication_slot('app_0')")
	w.start()
	w.until("the reference to be read", func() bool { return w.table("eu-1", "public.items").Rows == 1000 })
	w.until("the table to be unverified", func() bool {
		s := w.table("us-1", "public.items")
		return s.Verdict == status.Unverified && s.Reason == "nothing on us-1 replicates it from eu-1"
	})
	w.exec("us-1", fmt.Sprintf("CREATE SUBSCRIPTION app_0 CONNECTION '%s' PUBLICATION app", c.Publisher.DSN(cluster.Database)))
	w.exec("eu-1", "UPDATE items SET price = 8 WHERE id < 300", items(1001, 1100))
	w.inStep()
	w.neverDiverged()
}

func TestSubscriberOfASubscriberIsUnverifiedAndRaisesNoAlarm(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable})
	w := &watch{t: t, c: c}
	w.exec("us-2", "DROP SUBSCRIPTION app_1")
	w.exec("us-1", "CREATE PUBLICATION onward FOR ALL TABLES")
	w.exec("us-2", fmt.Sprintf("CREATE SUBSCRIPTION onward CONNECTION '%s' PUBLICATION onward", c.Member("us-1").DSN(cluster.Database)))
	w.start()
	w.exec("eu-1", items(1, 100))
	w.until("the row to arrive at the end", func() bool { return w.table("us-1", "public.items").Rows == 100 })
	w.until("the cascaded subscriber to be unverified", func() bool {
		s := w.table("us-2", "public.items")
		return s.Verdict == status.Unverified && s.Reason == "nothing on us-2 replicates it from eu-1"
	})
	w.exec("eu-1", "UPDATE items SET price = 9")
	w.until("the first subscriber to be in step", func() bool { return w.table("us-1", "public.items").Verdict == status.InStep })
	w.neverDiverged()
}

func TestPartOfATableIsUnverifiedAndRaisesNoAlarm(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable + "CREATE TABLE other (id int PRIMARY KEY, v text);", Subscribers: 1})
	w := &watch{t: t, c: c}
	w.exec("eu-1", "DROP PUBLICATION app", "CREATE PUBLICATION app FOR TABLE items WHERE (id < 50), other")
	w.exec("us-1", "ALTER SUBSCRIPTION app_0 REFRESH PUBLICATION WITH (copy_data = false)")
	w.start()
	w.exec("eu-1", items(1, 100), "INSERT INTO other VALUES (1, 'a')")
	w.until("the other table to be in step", func() bool {
		s := w.table("us-1", "public.other")
		return s.Verdict == status.InStep && s.Rows == 1
	})
	w.until("the filtered table to be unverified", func() bool {
		s := w.table("us-1", "public.items")
		return s.Verdict == status.Unverified && s.Reason == `publication "app" leaves out rows that are not (id < 50)`
	})
	w.neverDiverged()
}

func TestMemberThatIsDownIsUnverifiedAndNeverInStep(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable})
	w := startWatch(t, c)
	w.exec("eu-1", items(1, 100))
	w.inStep()
	if err := c.Member("us-1").Kill(); err != nil {
		t.Fatal(err)
	}
	w.exec("eu-1", items(101, 200))
	w.until("the dead member to be unverified", func() bool { return w.table("us-1", "public.items").Verdict == status.Unverified })
	if s := w.table("us-2", "public.items"); !s.Live {
		t.Errorf("the other member is read anew: %s", s.Reason)
	}
	if err := c.Member("us-1").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.inStep()
	if err := c.Publisher.Kill(); err != nil {
		t.Fatal(err)
	}
	w.until("without the reference nothing to be in step", func() bool { return w.table("us-2", "public.items").Verdict == status.Unverified })
	if err := c.Publisher.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec("eu-1", items(201, 300))
	w.inStep()
	w.neverDiverged()
}

func TestWideValuesThatAnUpdateLeavesOutAreKnown(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: `CREATE TABLE docs (id int PRIMARY KEY, n int, body text, extra jsonb);`, Subscribers: 1})
	w := startWatch(t, c)
	w.exec("eu-1", `INSERT INTO docs SELECT n, 0, (SELECT string_agg(md5((n*1000+i)::text), '') FROM generate_series(1, 300) i), jsonb_build_object('n', n)
		FROM generate_series(1, 50) n`)
	w.inStep()
	w.exec("eu-1", "UPDATE docs SET n = n + 1", "UPDATE docs SET id = id + 100 WHERE id > 40")
	w.replayed()
	w.inStep()
	w.neverDiverged()
	w.exec("us-1", "UPDATE docs SET body = body || '!' WHERE id = 7", "UPDATE docs SET n = n WHERE id = 8")
	w.finds(`us-1 public.docs changed errant_transaction {"id":7}..{"id":7}`)
	w.exec("eu-1", "UPDATE docs SET n = 9 WHERE id = 7") // leaves body out: the difference must stay known
	w.replayed()
	w.until("the update to be seen on both", func() bool { return w.table("us-1", "public.docs").DivergentKeys == 1 })
	w.finds(`us-1 public.docs changed errant_transaction {"id":7}..{"id":7}`)
}
