package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/status"
)

func items(from, to int) string { return itemsIn("items", from, to) }

func itemsIn(table string, from, to int) string {
	return fmt.Sprintf("INSERT INTO %s SELECT n, 'item ' || n, n %% 7 FROM generate_series(%d, %d) n", table, from, to)
}

// postgresTables are one for each part of the story, so that none of them depends on what another one left.
const postgresTables = oneTable + `
CREATE TABLE moved (LIKE items INCLUDING ALL);
CREATE TABLE shapes (LIKE items INCLUDING ALL);
CREATE TABLE halves (LIKE items INCLUDING ALL);
CREATE TABLE other (id int PRIMARY KEY, v text);
CREATE TABLE docs (id int PRIMARY KEY, n int, body text, extra jsonb);
CREATE TABLE accounts (id bigint PRIMARY KEY, owner text);
CREATE TABLE brief (LIKE items INCLUDING ALL);`

// What happens to a group of PostgreSQL servers, one after another, to one lockstep: each part ends with the members in step.
// The simulation plays the same and more in any order; here it is real servers that decode, replicate and die.
func TestPostgreSQL(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: postgresTables})
	w := &watch{t: t, c: c}
	differencesFromBeforeTheFirstStartAreFound(w)
	truncateKeyMovesAndSavepointsKeepStep(w)
	wideValuesThatAnUpdateLeavesOutAreKnown(w)
	schemaChangeMakesTheTableUnverifiedAndItComesBack(w)
	tableThatIsDroppedEverywhereIsForgotten(w)
	initialCopyIsSyncingAndNotDiverged(w, c)
}

// The same for servers that die, and for what replicates from where.
func TestPostgreSQLServersThatDieAndReplicateFromElsewhere(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: postgresTables})
	w := &watch{t: t, c: c}
	w.start()
	w.inStep()
	membersThatAreDownAreUnverifiedAndWhatTheirDisksChangedIsFound(w, c)
	partOfATableIsUnverifiedAndRaisesNoAlarm(w)
	subscriberOfASubscriberIsUnverifiedAndRaisesNoAlarm(w, c)
	referenceThatIsASubscriberItselfRaisesNoAlarm(w, c)
}

func differencesFromBeforeTheFirstStartAreFound(w *watch) {
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

func truncateKeyMovesAndSavepointsKeepStep(w *watch) {
	w.exec("eu-1",
		itemsIn("moved", 1, 3000),
		"UPDATE moved SET id = id + 10000 WHERE id % 2 = 0",
		"BEGIN; DELETE FROM moved WHERE id = 1; SAVEPOINT s; DELETE FROM moved WHERE id < 100; ROLLBACK TO s; COMMIT",
		"BEGIN; TRUNCATE moved; "+itemsIn("moved", 5, 50)+"; COMMIT",
		itemsIn("moved", 51, 4000))
	w.replayed()
	w.until("the rows to arrive", func() bool { return w.table("us-1", "public.moved").Rows == 3996 })
	w.inStep()
	w.neverDiverged()
	w.exec("us-1", "TRUNCATE moved")
	w.finds(`us-1 public.moved missing errant_transaction {"id":5}..{"id":4000}`)
	w.exec("eu-1", "TRUNCATE moved")
	w.finds()
}

func wideValuesThatAnUpdateLeavesOutAreKnown(w *watch) {
	w.exec("eu-1", `INSERT INTO docs SELECT n, 0, (SELECT string_agg(md5((n*1000+i)::text), '') FROM generate_series(1, 300) i), jsonb_build_object('n', n)
		FROM generate_series(1, 50) n`)
	w.exec("eu-1", "UPDATE docs SET n = n + 1", "UPDATE docs SET id = id + 100 WHERE id > 40")
	w.replayed()
	w.until("the rows to arrive", func() bool { return w.table("us-1", "public.docs").Rows == 50 })
	w.inStep()
	w.neverDiverged()
	w.exec("us-1", "UPDATE docs SET body = body || '!' WHERE id = 7", "UPDATE docs SET n = n WHERE id = 8")
	w.finds(`us-1 public.docs changed errant_transaction {"id":7}..{"id":7}`)
	w.exec("eu-1", "UPDATE docs SET n = 9 WHERE id = 7") // leaves body out: the difference must stay known
	w.replayed()
	w.until("the update to be seen on both", func() bool { return w.table("us-1", "public.docs").DivergentKeys == 1 })
	w.finds(`us-1 public.docs changed errant_transaction {"id":7}..{"id":7}`)
	w.exec("eu-1", "DELETE FROM docs WHERE id = 7")
	w.finds()
}

func schemaChangeMakesTheTableUnverifiedAndItComesBack(w *watch) {
	w.exec("eu-1", itemsIn("shapes", 1, 2000), "INSERT INTO other VALUES (1, 'a')")
	w.replayed()
	w.until("the rows to arrive", func() bool { return w.table("us-1", "public.shapes").Rows == 2000 })
	w.inStep()
	members, altered := []string{"us-1", "us-2", "eu-1"}, time.Now()
	for _, member := range members {
		w.exec(member, "ALTER TABLE shapes ADD COLUMN note text DEFAULT 'none'")
	}
	w.exec("eu-1", "UPDATE shapes SET note = 'mine' WHERE id = 7")
	w.until("the table to be read anew", func() bool { return w.table("us-1", "public.shapes").Verdict == status.Unverified })
	if s := w.table("us-1", "public.other"); !s.Live {
		w.t.Errorf("another table is read anew too: %s", s.Reason)
	}
	w.until("it to be read anew on all members", func() bool { // not all need have been asked for their columns at once
		return !slices.ContainsFunc(members, func(member string) bool { return w.table(member, "public.shapes").VerifiedAt.Before(altered) })
	})
	w.inStep()
	w.neverDiverged()
	w.exec("us-2", "UPDATE shapes SET note = 'theirs' WHERE id = 9")
	w.finds(`us-2 public.shapes changed errant_transaction {"id":9}..{"id":9}`)
	w.exec("eu-1", "UPDATE shapes SET note = 'again' WHERE id = 9")
	w.finds()
	w.exec("us-1", "ALTER TABLE shapes ALTER COLUMN name TYPE varchar(200) USING upper(name)")
	w.until("the rewrite to be found", func() bool {
		open := w.open()
		w.expect(open)
		return slices.ContainsFunc(open, func(d finding.Divergence) bool {
			return d.Member == "us-1" && d.Keys == 2000 && d.Kind == finding.Changed
		})
	})
	w.exec("us-1", "ALTER TABLE shapes ALTER COLUMN name TYPE text USING lower(name)")
	w.finds()
	w.inStep()
}

func tableThatIsDroppedEverywhereIsForgotten(w *watch) {
	const table = "public.brief"
	w.exec("us-1", "INSERT INTO brief VALUES (1, 'a', 1)")
	w.finds(`us-1 public.brief extra errant_transaction {"id":1}..{"id":1}`)
	w.exec("eu-1", "DROP TABLE brief")
	w.until("the table to be missed", func() bool {
		return strings.HasSuffix(w.table("us-1", table).Reason, "; it is still on us-2: drop it there, make it on eu-1, or exclude it")
	})
	w.exec("us-1", "DROP TABLE brief")
	w.exec("us-2", "DROP TABLE brief")
	w.forgets(table)
}

func initialCopyIsSyncingAndNotDiverged(w *watch, c *cluster.Cluster) {
	for _, member := range []string{"eu-1", "us-1", "us-2"} {
		w.exec(member, "CREATE TABLE copied (LIKE items INCLUDING ALL)")
	}
	if err := c.Mend(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.exec("eu-1", itemsIn("copied", 1, 1000))
	w.until("the reference to be read", func() bool { return w.table("eu-1", "public.copied").Rows == 1000 })
	w.until("the table to be unverified", func() bool {
		s := w.table("us-1", "public.copied")
		return s.Verdict == status.Unverified && s.Reason == "nothing on us-1 replicates it from eu-1"
	})
	w.exec("us-1", "ALTER SUBSCRIPTION app_0 REFRESH PUBLICATION")
	w.exec("us-2", "ALTER SUBSCRIPTION app_1 REFRESH PUBLICATION")
	w.exec("eu-1", "UPDATE copied SET price = 8 WHERE id < 300", itemsIn("copied", 1001, 1100))
	w.inStep()
	w.neverDiverged()
}

// A member that dies is unverified, and without the reference all are. No log shows what became of a page on disk meanwhile,
// on a publisher or on a subscriber: a scrub does.
func membersThatAreDownAreUnverifiedAndWhatTheirDisksChangedIsFound(w *watch, c *cluster.Cluster) {
	w.exec("eu-1", "INSERT INTO accounts SELECT id, 'account ' || id FROM generate_series(1, 1000) id")
	dies := func(member string, id int) *dbtest.Server {
		s, owner := c.Member(member), "to be damaged on "+member
		w.exec("eu-1", fmt.Sprintf("UPDATE accounts SET owner = '%s' WHERE id = %d", owner, id))
		w.replayed()
		w.until("the rows to arrive", func() bool { return w.table("us-1", "public.accounts").Rows == 1000 })
		s.Spoil()
		dbtest.ExecT(w.t, s, "VACUUM (FREEZE) accounts", "CHECKPOINT") // so that a restart does not write the page anew
		path := accountsFile(w.t, s)
		if err := s.Kill(); err != nil {
			w.t.Fatal(err)
		}
		flipIn(w.t, path, owner)
		return s
	}
	comesBack := func(s *dbtest.Server) {
		if err := s.Restart(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	us1 := dies("us-1", 100)
	w.exec("eu-1", items(5001, 5100))
	w.until("the dead member to be unverified", func() bool { return w.table("us-1", "public.items").Verdict == status.Unverified })
	if s := w.table("us-2", "public.items"); !s.Live {
		w.t.Errorf("the other member is read anew: %s", s.Reason)
	}
	comesBack(us1)
	w.inStep()
	eu1 := dies("eu-1", 110)
	w.until("without the reference nothing to be in step", func() bool { return w.table("us-2", "public.items").Verdict == status.Unverified })
	comesBack(eu1)
	w.exec("eu-1", items(5101, 5200))
	w.inStep()
	w.neverDiverged()
	w.scrub()
	w.finds(
		`us-1 public.accounts changed silent {"id":100}..{"id":100} {"id":110}..{"id":110}`,
		`us-2 public.accounts changed silent {"id":110}..{"id":110}`,
	)
	w.exec("eu-1", "UPDATE accounts SET owner = 'again' WHERE id IN (100, 110)")
	w.finds()
	w.inStep()
}

func partOfATableIsUnverifiedAndRaisesNoAlarm(w *watch) {
	w.exec("eu-1", "BEGIN; DROP PUBLICATION app; CREATE PUBLICATION app FOR TABLE items, moved, shapes, other, docs, accounts, brief, halves WHERE (id < 50); COMMIT")
	w.until("the filtered table to be unverified", func() bool {
		s := w.table("us-1", "public.halves")
		return s.Verdict == status.Unverified && s.Reason == `publication "app" leaves out rows that are not (id < 50)`
	})
	w.exec("eu-1", itemsIn("halves", 1, 100), "INSERT INTO other VALUES (1, 'a'), (2, 'b')")
	w.until("the other table to be in step", func() bool {
		s := w.table("us-1", "public.other")
		return s.Verdict == status.InStep && s.Rows == 2
	})
	w.neverDiverged()
	w.exec("eu-1", "BEGIN; DROP PUBLICATION app; CREATE PUBLICATION app FOR ALL TABLES; TRUNCATE halves; COMMIT")
	w.replayed()
	w.inStep()
	w.neverDiverged()
}

func subscriberOfASubscriberIsUnverifiedAndRaisesNoAlarm(w *watch, c *cluster.Cluster) {
	w.replayed()
	w.exec("us-2", "DROP SUBSCRIPTION app_1")
	w.exec("us-1", "CREATE PUBLICATION onward FOR ALL TABLES")
	w.exec("us-2", fmt.Sprintf("CREATE SUBSCRIPTION onward CONNECTION '%s' PUBLICATION onward WITH (copy_data = false)", c.Member("us-1").DSN(cluster.Database)))
	w.exec("eu-1", itemsIn("halves", 1, 100))
	w.until("the rows to arrive at the first", func() bool { return w.table("us-1", "public.halves").Rows == 100 })
	w.until("the cascaded subscriber to be unverified", func() bool {
		s := w.table("us-2", "public.halves")
		return s.Verdict == status.Unverified && s.Reason == "nothing on us-2 replicates it from eu-1"
	})
	w.exec("eu-1", "UPDATE halves SET price = 9")
	w.until("the first subscriber to be in step", func() bool { return w.table("us-1", "public.halves").Verdict == status.InStep })
	w.neverDiverged()
}

// A reference that subscribes itself shows what it has replayed with the end that the transaction had in the log of its own
// publisher. Its subscribers mark the same transaction with the end that it has in the reference's log. While it went by the
// former name it was in flight for ever, or for none, and a false alarm.
func referenceThatIsASubscriberItselfRaisesNoAlarm(w *watch, c *cluster.Cluster) {
	w.stop()
	w.c = configured{c, func(g *config.Group) {
		g.Members = slices.DeleteFunc(g.Members, func(m config.Member) bool { return m.Name == "eu-1" })
		g.Reference = "us-1"
	}}
	for range 4 { // so that the positions of the publisher's log are far ahead of the reference's
		w.exec("eu-1", "CREATE TABLE spare (id int)", "DROP TABLE spare", "SELECT pg_switch_wal()")
	}
	w.start()
	w.exec("eu-1", itemsIn("halves", 101, 200))
	w.until("the rows to arrive at the end", func() bool { return w.table("us-2", "public.halves").Rows == 200 })
	w.exec("eu-1", "UPDATE halves SET price = 9 WHERE id <= 50", "DELETE FROM halves WHERE id > 190")
	w.until("all to be replayed", func() bool { return w.table("us-2", "public.halves").Rows == 190 })
	w.inStep()
	w.exec("us-2", "UPDATE halves SET price = 1 WHERE id = 7")
	w.finds(`us-2 public.halves changed errant_transaction {"id":7}..{"id":7}`)
	w.exec("eu-1", "UPDATE halves SET price = 3 WHERE id = 7")
	w.finds()
	w.neverDiverged()
}
