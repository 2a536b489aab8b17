package mysql

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

const (
	defined   = "touched : tables were defined"
	rewritten = "ALTER TABLE may have rewritten its rows"
)

func statements(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	already := defined // MariaDB does not log what does nothing
	if server.Install.Flavour.MariaDB() {
		already = ""
	}
	for _, test := range []struct{ statement, want string }{
		{"ALTER TABLE a ADD COLUMN extra int", "touched a: " + rewritten + "; " + defined},
		{"ALTER TABLE a DROP COLUMN extra", "touched a: " + rewritten + "; " + defined},
		{"ALTER TABLE " + m.schema + ".b ADD INDEX (n), COMMENT = 'x'", defined},
		{"CREATE INDEX more ON a (n)", defined},
		{"CREATE TABLE other (id int PRIMARY KEY)", defined},
		{"CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY)", already},
		{"CREATE TEMPORARY TABLE t1 (id int); DROP TABLE t1", ""},
		{"RENAME TABLE a TO c, b TO a, c TO b", "touched a: RENAME TABLE removed it, or put another table in its place; touched b: RENAME TABLE removed it, or put another table in its place; " + defined},
		{"CREATE VIEW v AS SELECT * FROM a", ""},
		{"CREATE TRIGGER tr AFTER INSERT ON b FOR EACH ROW SET @x = 1", ""},
		{"CREATE USER somebody", ""},
		{"GRANT SELECT ON " + m.schema + ".a TO somebody", ""},
		{"DROP USER somebody", ""},
		{"ANALYZE TABLE a", ""},
		{"OPTIMIZE TABLE b", ""},
		{"CREATE PROCEDURE p() BEGIN DELETE FROM a; END", ""},
		{"CREATE TABLE `drop``me` (id int PRIMARY KEY); DROP TABLE `drop``me`", defined + "|" + defined},
	} {
		if got := strings.Join(m.ran(test.statement), "|"); got != test.want {
			t.Errorf("%s: %q, want %q", test.statement, got, test.want)
		}
		m.do("DROP TRIGGER IF EXISTS tr", "DROP VIEW IF EXISTS v")
		m.read()
	}
	if server.Install.Flavour.MariaDB() { // where an ALTER TABLE may be told of twice, when it begins and when it has ended
		got := m.ran("SET SESSION binlog_alter_two_phase = ON; ALTER TABLE a ADD COLUMN twice int")
		if want := "touched a: " + rewritten + "; " + defined; len(got) != 2 || got[0] != want || got[1] != want {
			t.Errorf("%q", got)
		}
	}
	m.do("CREATE TABLE copied SELECT 1 AS id", "DROP TABLE b", "DROP DATABASE "+m.schema)
	got := m.read()
	want := []string{defined, "touched b: DROP TABLE removed it; " + defined, "touched a: its database was dropped; touched b: its database was dropped; " + defined}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// ran runs statements and returns what the stream shows of them.
func (m *tail) ran(statements ...string) []string {
	m.t.Helper()
	m.do(statements...)
	return m.read()
}

func untransactional(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server, "CREATE TABLE my (id int PRIMARY KEY, n int, note varchar(300)) ENGINE = MyISAM")
	m.do("INSERT INTO my VALUES (1, 1, 'x'), (2, 2, 'y')", "UPDATE my SET n = 7", "DELETE FROM my WHERE id = 1")
	m.want("insert my 1; insert my 2", "update my 1; update my 2", "delete my 1")
	if server.Install.Flavour.MariaDB() { // MySQL does not let GTIDs be used with such a mixture
		m.do("BEGIN; INSERT INTO a VALUES (1, 1, 'x'); UPDATE my SET n = 8; ROLLBACK")
		m.want("update my 2")
	}
	m.same()
}

func partialImages(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'x'), (2, 2, 'x')")
	m.want("insert a 1; insert a 2")
	m.do("SET SESSION binlog_row_image = MINIMAL; BEGIN; INSERT INTO b VALUES (1, 1, 'x'); UPDATE a SET n = 3 WHERE id = 1; COMMIT")
	got := m.read()
	if len(got) != 1 || !strings.HasPrefix(got[0], "insert b 1; touched a: ") {
		t.Errorf("%q", got)
	}
}

func statementFormat(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("SET SESSION binlog_format = STATEMENT; INSERT INTO a VALUES (1, 1, 'x')",
		"SET SESSION binlog_format = ROW; INSERT INTO b VALUES (2, 1, 'x')")
	both := "touched a: " + statementReason + "; touched b: " + statementReason
	m.want(both, "insert b 2")
	m.do("SET SESSION binlog_format = STATEMENT", "SET @v = 3, @@rand_seed1 = 1; UPDATE a SET n = @v", "INSERT INTO b (id, n) SELECT id + 100, n FROM b")
	m.want(both, both)
}

func shapeless(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server, "CREATE TABLE later (id int PRIMARY KEY)")
	for id, table := range m.tables {
		if table.Name == m.schema+".b" {
			m.SetEpoch(table, cdc.Epoch{Table: id, Number: 1})
		}
	}
	m.do("BEGIN; INSERT INTO a VALUES (1, 1, 'x'); INSERT INTO b VALUES (1, 1, 'x'); COMMIT", "TRUNCATE b")
	m.want("insert a 1; touched b: ", "touched b: ")
}

func redefinedTable(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("ALTER TABLE a ADD COLUMN more int", "BEGIN; INSERT INTO a VALUES (1, 1, 'x', 1); INSERT INTO b VALUES (1, 1, 'x'); COMMIT")
	got := m.read()
	if len(got) != 2 || !strings.HasPrefix(got[1], "insert b 1; touched a: ") {
		t.Errorf("%q", got)
	}
	m.learn(2)
	clear(m.rows)
	m.do("DELETE FROM a", "DELETE FROM b", "INSERT INTO a VALUES (5, 1, 'x', 1)")
	m.want("delete a 1", "delete b 1", "insert a 5")
	m.same()
}

// renumberedColumns has the log tell, by numbers, of columns of the key that the catalog has no more, or not yet.
func renumberedColumns(t *testing.T, server *dbtest.MySQLServer) {
	for _, test := range []struct {
		table     string
		versioned bool // MariaDB's alone
		do        []string
	}{
		// The rows are older than the definition that we know.
		{"c (x int, y int, id int PRIMARY KEY)", false, []string{"INSERT INTO c VALUES (1, 1, 1)", "ALTER TABLE c DROP COLUMN x, DROP COLUMN y"}},
		// They are younger.
		{"c (id int PRIMARY KEY)", false, []string{"ALTER TABLE c DROP PRIMARY KEY, ADD k2 int AUTO_INCREMENT PRIMARY KEY", "INSERT INTO c (id) VALUES (1)"}},
		{"c (id int PRIMARY KEY, n int)", true, []string{"INSERT INTO c VALUES (1, 1)", "ALTER TABLE c ADD SYSTEM VERSIONING", "UPDATE c SET n = 2"}},
	} {
		if test.versioned && !server.Install.Flavour.MariaDB() {
			continue
		}
		for _, learned := range []bool{false, true} {
			m := tailOf(t, server, "CREATE TABLE "+test.table)
			m.do(test.do...)
			if learned { // as after a restart of lockstep: the definition of now, the position of then
				m.learn(2)
			}
			m.do("INSERT INTO a VALUES (1, 1, 'x')")
			got := m.read()
			if !strings.Contains(strings.Join(got, "|"), "touched c: ") || len(got) == 0 || got[len(got)-1] != "insert a 1" {
				t.Errorf("%q, learned anew: %v: %q", test.do, learned, got)
			}
		}
	}
}

func undecodableOthers(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	odd := "CREATE TABLE odd (id int PRIMARY KEY, j json, g geometry, b bit(64), e enum('x', 'y'))"
	if server.Install.Flavour.MariaDB() {
		odd = "CREATE TABLE odd (id int PRIMARY KEY, t text COMPRESSED, v varchar(100) COMPRESSED, u uuid, i inet6); CREATE SEQUENCE numbers"
	}
	m.do(odd)
	m.read()
	if server.Install.Flavour.MariaDB() {
		m.do("INSERT INTO odd (id, t, v) VALUES (1, REPEAT('x', 500), REPEAT('y', 90))", "SELECT NEXT VALUE FOR numbers")
	} else {
		m.do(`INSERT INTO odd VALUES (1, '{"a": [1, 2]}', POINT(1, 2), b'101', 'y')`)
	}
	m.do("INSERT INTO a VALUES (1, 1, 'x')")
	m.want("insert a 1")
	m.same()
}

func largeTransaction(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	const rows = 1000 // of 200 bytes: many events of the log, and more than it keeps of a transaction in memory
	m.do(fmt.Sprintf("INSERT INTO a SELECT n, 1, REPEAT('n', 200) FROM (%s) AS s", counted(rows)))
	if got := m.read(); len(got) != 1 || strings.Count(got[0], "insert a ") != rows {
		t.Errorf("%d transactions, want one with %d rows", len(got), rows)
	}
	m.same()
	m.do(fmt.Sprintf("UPDATE a SET id = id + %d", rows))
	if got := m.read(); len(got) != 1 || strings.Count(got[0], " was ") != rows {
		t.Errorf("%d transactions, want one with %d moved rows", len(got), rows)
	}
	m.same()
}

// raced sets a table's epoch while the transaction that changes it is being read. The scan that follows need not have its
// rows.
func raced(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	var b cdc.TableID
	for id, table := range m.tables {
		if table.Name == m.schema+".b" {
			b = id
		}
	}
	before := &watched{tables: map[string]*watchedTable{}, ids: map[cdc.TableID]*watchedTable{}}
	for id, w := range m.list.load().ids {
		if id != b {
			before.ids[id], before.tables[w.name] = w, w
		}
	}
	m.do("BEGIN; INSERT INTO a VALUES (1, 1, 'x'); INSERT INTO b VALUES (1, 1, 'x'); COMMIT")
	d, err := m.dump(t.Context(), m.at)
	if err != nil {
		t.Fatal(err)
	}
	defer d.hangUp()
	a := newAssembler(m.at, m.hasher)
	first := true
	a.mariadb, a.fold = d.version.mariadb, m.fold.Load
	a.current = func() *watched { // as SetEpoch had it while the group is open
		if a.group.end == running && first && !a.group.open {
			return before
		}
		return m.list.load()
	}
	a.passed = func(e cdc.Event) { first = first && e.Through.IsZero() }
	for {
		event, err := d.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, something, err := a.feed(event)
		if err != nil {
			t.Fatal(err)
		}
		if something && e.Transaction != nil {
			if got := m.take(e); got != "insert a 1; touched b: " {
				t.Errorf("%q", got)
			}
			return
		}
	}
}
