package monitor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/align"
	"lockstep/config"
	"lockstep/internal/dbtest"
)

// mysqlGroup is a primary eu-1 and replicas us-1 and us-2, and how lockstep is to watch them.
type mysqlGroup struct {
	*dbtest.MySQLGroup
	config  *config.Config
	members map[string]*dbtest.MySQLServer // as they were named at the start, whoever is the primary now
}

func (g *mysqlGroup) member(name string) *dbtest.MySQLServer { return g.members[name] }

// onMySQL runs a test on MySQL and on MariaDB.
func onMySQL(t *testing.T, schema string, o dbtest.Options, test func(t *testing.T, w *watch)) {
	for _, flavour := range []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97} {
		t.Run(flavour.String(), func(t *testing.T) {
			t.Parallel()
			install := dbtest.NeedMySQL(t, flavour)
			o.Below = dbtest.MemoryDir()
			g := &mysqlGroup{MySQLGroup: dbtest.MySQLGroupT(t, install, 2, schema, o), members: map[string]*dbtest.MySQLServer{}}
			if err := g.GrantLockstep(t.Context(), "secret"); err != nil {
				t.Fatal(err)
			}
			var yaml strings.Builder
			password := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&yaml, "data_dir: %s\nlisten: 127.0.0.1:0\nlag_budget: 1s\ngroups:\n  - name: shop\n    engine: mysql\n    tables: {include: [\"app.*\"]}\n    members:\n", t.TempDir())
			for i, s := range g.Members() {
				name := []string{"eu-1", "us-1", "us-2"}[i]
				g.members[name] = s
				fmt.Fprintf(&yaml, "      - {name: %s, dsn: %q, password_file: %s}\n", name, s.DSNFor(dbtest.LockstepUser, "app"), password)
			}
			var err error
			if g.config, err = config.Parse("lockstep.yaml", []byte(yaml.String())); err != nil {
				t.Fatal(err)
			}
			test(t, &watch{t: t, group: g})
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
	onMySQL(t, mysqlTable, dbtest.Options{}, func(t *testing.T, w *watch) {
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
			if d.Cause == align.CauseErrant && (d.IntroducedBy == nil || strings.Count(d.IntroducedBy.Transaction, "-") < 2) {
				t.Errorf("the errant transaction is %+v, want its GTID", d.IntroducedBy)
			}
		}
		w.exec("us-2", "DELETE FROM items WHERE id = 9000", "UPDATE items SET price = id % 7 WHERE id IN (5, 6)")
		w.exec("us-1", "UPDATE items SET name = CONCAT('item ', id) WHERE id BETWEEN 10 AND 12", "INSERT INTO items VALUES (2000, 'item 2000', 2000 % 7)")
		w.finds()
		w.inStep()
		// The member skips a transaction.
		ctx := t.Context()
		us1, eu1 := w.group.member("us-1"), w.group.member("eu-1")
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
	onMySQL(t, mysqlTable, dbtest.Options{}, func(t *testing.T, w *watch) {
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
		check(w.group.member("us-1").Restart(ctx))
		w.exec("eu-1", rowsOf(501, 600), "FLUSH BINARY LOGS", "UPDATE items SET price = price + 1 WHERE id < 300", "FLUSH BINARY LOGS")
		for range 3 {
			_, err := w.group.member("eu-1").KillDumpThreads(ctx)
			check(err)
			_, err = w.group.member("us-2").KillDumpThreads(ctx)
			check(err)
			w.exec("eu-1", "UPDATE items SET price = price + 1")
		}
		w.replayed()
		w.inStep()
		w.exec("eu-1", "SET GLOBAL server_id = 4000001")
		w.exec("eu-1", "DELETE FROM items WHERE id % 10 = 0", rowsOf(1000, 1100))
		w.replayed()
		w.inStep()
		check(w.group.Promote(ctx, 0)) // us-1 is the primary now
		w.exec("us-1", "UPDATE items SET name = CONCAT(name, '!') WHERE id < 50", rowsOf(2000, 2100))
		w.replayed()
		w.until("the rows to arrive", func() bool { return w.table("us-2", "app.items").Rows == w.table("us-1", "app.items").Rows })
		w.inStep()
		w.neverDiverged()
		w.exec("us-2", "UPDATE items SET name = 'wrong' WHERE id = 7")
		w.finds(`us-2 app.items changed errant_transaction {"id":7}..{"id":7}`)
	})
}

// Binlogs that are purged while lockstep is away are a hole: the member is read anew, and what differs by then is found.
func TestPurgedBinlogsAreAHoleAndNotASilentGap(t *testing.T) {
	onMySQL(t, mysqlTable, dbtest.Options{}, func(t *testing.T, w *watch) {
		w.exec("eu-1", rowsOf(1, 500))
		w.start()
		w.inStep()
		w.stop()
		w.exec("eu-1", "UPDATE items SET price = price + 1")
		w.replayed()
		w.exec("us-1", "UPDATE items SET name = 'wrong' WHERE id = 7")
		for _, member := range []string{"us-1", "us-2"} {
			if err := w.group.member(member).PurgeBinlogs(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.exec("eu-1", rowsOf(501, 510))
		w.start()
		w.finds(`us-1 app.items changed unknown {"id":7}..{"id":7}`)
		w.exec("eu-1", "UPDATE items SET name = 'healed' WHERE id = 7")
		w.finds()
		w.inStep()
		if n := len(w.divergences()); n != 1 {
			t.Errorf("%d divergences on record: %v", n, w.divergences())
		}
	})
}

// A session that logs less than whole rows makes the table unverified until it was read anew.
func TestSessionThatDoesNotLogWholeRowsMakesTheTableUnverified(t *testing.T) {
	onMySQL(t, mysqlTable+"CREATE TABLE other (id int PRIMARY KEY, v text);", dbtest.Options{}, func(t *testing.T, w *watch) {
		w.exec("eu-1", rowsOf(1, 500), "INSERT INTO other VALUES (1, 'a')")
		w.start()
		w.inStep()
		before := w.table("us-1", "app.other").ComparedAt
		for _, setting := range []string{"binlog_row_image = 'MINIMAL'", "binlog_format = 'STATEMENT'"} {
			// A statement may set off triggers, which write to other tables.
			if after := w.table("us-1", "app.other").ComparedAt; !after.Equal(before) {
				t.Errorf("another table was compared anew at %v", after)
			}
			compared := w.table("us-1", "app.items").ComparedAt
			w.exec("eu-1", "SET SESSION "+setting, "UPDATE items SET name = 'half' WHERE id = 7")
			w.until("the table to be read anew", func() bool { return w.table("us-1", "app.items").ComparedAt.After(compared) })
			w.inStep()
		}
		w.exec("eu-1", "ALTER TABLE items ADD COLUMN note varchar(20) DEFAULT 'none'", "UPDATE items SET note = 'mine' WHERE id = 9", "CREATE TABLE third (id int PRIMARY KEY)", "INSERT INTO third VALUES (1)")
		w.until("the new table to be compared", func() bool { return w.table("us-1", "app.third").Verdict == align.InStep })
		w.inStep()
		w.exec("eu-1", "TRUNCATE other")
		w.until("the table to be empty", func() bool { return w.table("us-2", "app.other").Rows == 0 })
		w.inStep()
		w.neverDiverged()
		w.exec("us-2", "UPDATE items SET note = 'theirs' WHERE id = 9")
		w.finds(`us-2 app.items changed errant_transaction {"id":9}..{"id":9}`)
	})
}
