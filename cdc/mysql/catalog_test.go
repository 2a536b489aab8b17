package mysql

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestCatalog(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"odd tables are listed with their problems":               oddTables,
		"columns are all that row images carry":                   allColumns,
		"version changes with what shapes rows and nothing else":  versions,
		"definitions are kept for tables that were listed":        keptByVersion,
		"hidden primary key is seen":                              hiddenKey,
		"a table that we may not read is not listed":              withheld,
		"a table that is hidden from us is not gone":              hiddenIsNotGone,
		"foreign keys that act are found without more privileges": actingKeys,
	})
}

// catalog lists the tables of a schema, by name.
func catalog(t *testing.T, s *Source, schema string) map[string]cdc.Table {
	t.Helper()
	tables, err := s.Tables(t.Context(), func(name string) bool { return strings.HasPrefix(name, schema+".") })
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]cdc.Table{}
	for _, table := range tables {
		byName[strings.TrimPrefix(table.Name, schema+".")] = table
	}
	if !slices.IsSortedFunc(tables, func(a, b cdc.Table) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("tables are not in order: %v", tables)
	}
	return byName
}

func oddTables(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE odd",
		"CREATE TABLE odd.plain (id int PRIMARY KEY)",
		"CREATE TABLE odd.keyless (a int)",
		"CREATE TABLE odd.unique_only (a int NOT NULL UNIQUE)",
		"CREATE TABLE odd.prefixed (a varchar(20), b int, PRIMARY KEY (b, a(5)))",
		"CREATE TABLE odd.whole (a varchar(20), PRIMARY KEY (a))",
		"CREATE TABLE odd.blobbed (b blob, PRIMARY KEY (b(10)))",
		"CREATE TABLE odd.memory (id int PRIMARY KEY) ENGINE = MEMORY",
		"CREATE TABLE odd.isam (id int PRIMARY KEY) ENGINE = MyISAM",
		"CREATE TABLE odd.parts (id int PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3",
		"CREATE TABLE odd.descending (a int, b int, PRIMARY KEY (a DESC, b))",
		"CREATE TABLE odd.`dotted.name` (id int PRIMARY KEY)",
		"CREATE TABLE odd.`we\"ird``` (`Co``l` int PRIMARY KEY)",
		"CREATE TABLE odd.Mixed (Id int PRIMARY KEY, Äpfel int)",
		"CREATE VIEW odd.seen AS SELECT * FROM odd.plain")
	want := map[string]string{
		"plain": "", "whole": "", "isam": "", "parts": "", "descending": "", "we\"ird`": "", "Mixed": "",
		"keyless": "has no primary key", "unique_only": "has no primary key",
		"prefixed": `only the start of column "a" counts`, "blobbed": `only the start of column "b" counts`,
		"memory": "is of engine MEMORY", "dotted.name": "has a dot in its name",
	}
	if server.Install.Flavour.MariaDB() {
		run(t, server, "CREATE TABLE odd.aria (id int PRIMARY KEY) ENGINE = Aria", "CREATE SEQUENCE odd.numbers",
			"CREATE TABLE odd.history (id int PRIMARY KEY) WITH SYSTEM VERSIONING",
			"CREATE TABLE odd.span (id int PRIMARY KEY, f date, t date, PERIOD FOR p (f, t))", "CREATE TABLE odd.u (u uuid PRIMARY KEY)")
		want["aria"], want["span"], want["u"], want["history"] = "", "", "", "is system-versioned"
	} else {
		run(t, server, "CREATE TABLE odd.functional (id int PRIMARY KEY, n int, KEY ((n + 1)))", "CREATE TABLE odd.hole (id int PRIMARY KEY) ENGINE = BLACKHOLE")
		want["functional"], want["hole"] = "", "is of engine BLACKHOLE"
	}
	got := catalog(t, probe(t, server, ""), "odd")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Error(diff)
	}
	for name, table := range got {
		if words := want[name]; (words == "") != (table.Problem == "") || !strings.Contains(table.Problem, words) {
			t.Errorf("%s: problem %q, want one about %q", name, table.Problem, words)
		}
		if (table.Problem == "") != (table.Hint == "") {
			t.Errorf("%s: problem %q, hint %q", name, table.Problem, table.Hint)
		}
		if diff := cmp.Diff([]string{table.Name}, table.Leaves); diff != "" || table.Version == "" || table.Publications != nil {
			t.Errorf("%+v", table)
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, got["descending"].Key); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"id"}, got["Mixed"].Key); diff != "" {
		t.Error(diff)
	}
}

func allColumns(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE cols", `CREATE TABLE cols.a (z bigint unsigned, Id int, v int GENERATED ALWAYS AS (id + 1) VIRTUAL,
		s int GENERATED ALWAYS AS (id + 2) STORED, hidden int INVISIBLE DEFAULT 3, e enum(' unsigned', 'b'), PRIMARY KEY (Id))`)
	s := probe(t, server, "")
	table := catalog(t, s, "cols")["a"]
	var names []string
	for _, c := range table.Columns {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff([]string{"e", "hidden", "id", "s", "v", "z"}, names); diff != "" {
		t.Error(diff)
	}
	d := s.definition(table)
	if d == nil {
		t.Fatal("the definition was not kept")
	}
	names = nil
	for _, c := range d.columns {
		names = append(names, c.as)
		if c.kind.Unsigned != (c.name == "z") {
			t.Errorf("column %s: unsigned %t", c.name, c.kind.Unsigned)
		}
	}
	if diff := cmp.Diff([]string{"z", "Id", "v", "s", "hidden", "e"}, names); diff != "" {
		t.Errorf("not in the order of the row image: %s", diff)
	}
}

func versions(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE ver", `CREATE TABLE ver.a (id int AUTO_INCREMENT PRIMARY KEY, n int, e enum('a', 'b'), c varchar(10) CHARACTER SET latin1,
		g int GENERATED ALWAYS AS (n + 1) VIRTUAL, d datetime)`)
	s := probe(t, server, "")
	last := catalog(t, s, "ver")["a"].Version
	for _, test := range []struct {
		statement string
		shapes    bool
	}{
		{"INSERT INTO ver.a (n) VALUES (1), (2), (3)", false},
		{"ANALYZE TABLE ver.a", false},
		{"ALTER TABLE ver.a ADD KEY (n)", false},
		{"ALTER TABLE ver.a COMMENT 'x', ALTER n SET DEFAULT 5", false},
		{"ALTER TABLE ver.a AUTO_INCREMENT = 1000", false},
		{"ALTER TABLE ver.a PARTITION BY HASH (id) PARTITIONS 2", false},
		{"ALTER TABLE ver.a MODIFY e enum('b', 'a')", true},
		{"ALTER TABLE ver.a MODIFY c varchar(11) CHARACTER SET latin1", true},
		{"ALTER TABLE ver.a MODIFY c varchar(11) CHARACTER SET utf8mb4", true},
		{"ALTER TABLE ver.a MODIFY c varchar(11) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", true},
		{"ALTER TABLE ver.a MODIFY d datetime(3)", true},
		{"ALTER TABLE ver.a MODIFY n int unsigned", true},
		{"ALTER TABLE ver.a MODIFY n int unsigned AFTER e", true},
		{"ALTER TABLE ver.a MODIFY g int GENERATED ALWAYS AS (n + 2) VIRTUAL", true},
		{"ALTER TABLE ver.a ADD x int", true},
		{"ALTER TABLE ver.a RENAME COLUMN x TO y", true},
		{"UPDATE ver.a SET y = 0", false},
		{"ALTER TABLE ver.a MODIFY y int NOT NULL DEFAULT 0", true},
		{"ALTER TABLE ver.a DROP PRIMARY KEY, ADD PRIMARY KEY (id, y)", true},
		{"ALTER TABLE ver.a REMOVE PARTITIONING", false},
		{"ALTER TABLE ver.a ENGINE = MyISAM", true},
	} {
		run(t, server, test.statement)
		now := catalog(t, s, "ver")["a"].Version
		if (now != last) != test.shapes {
			t.Errorf("%s: version %s became %s", test.statement, last, now)
		}
		last = now
	}
}

func keptByVersion(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE kept", "CREATE TABLE kept.a (id int PRIMARY KEY)", "CREATE TABLE kept.b (id int PRIMARY KEY)")
	s := probe(t, server, "")
	first := catalog(t, s, "kept")
	run(t, server, "ALTER TABLE kept.a ADD n int", "DROP TABLE kept.b")
	second := catalog(t, s, "kept")
	for _, table := range []cdc.Table{first["a"], second["a"]} {
		if d := s.definition(table); d == nil || len(d.columns) != len(table.Columns) {
			t.Errorf("%s: %+v", table.Version, d)
		}
	}
	if d := s.definition(cdc.Table{Name: "kept.a", Version: "another"}); d != nil {
		t.Errorf("%+v", d)
	}
	progress, err := s.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"kept.a": ""}, progress.Lanes[0].Tables); diff != "" {
		t.Error(diff)
	}
}

func hiddenKey(t *testing.T, server *dbtest.MySQLServer) {
	if server.Install.Flavour.MariaDB() {
		t.Skip("MariaDB makes no primary keys by itself")
	}
	run(t, server, "CREATE DATABASE gipk", "SET sql_generate_invisible_primary_key = ON; CREATE TABLE gipk.a (n int)",
		"SET GLOBAL show_gipk_in_create_table_and_information_schema = OFF")
	defer run(t, server, "SET GLOBAL show_gipk_in_create_table_and_information_schema = ON")
	table := catalog(t, probe(t, server, ""), "gipk")["a"]
	if table.Problem != "" || len(table.Columns) != 2 || !slices.Equal(table.Key, []string{"my_row_id"}) {
		t.Errorf("%+v", table)
	}
}

func withheld(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE closed", "CREATE TABLE closed.a (id int PRIMARY KEY)", "CREATE TABLE closed.b (id int PRIMARY KEY, n int)",
		"SET sql_log_bin = 0; CREATE USER poor@'%' IDENTIFIED BY 'pw'")
	s := probe(t, server, "")
	s.address.user = "poor"
	if _, err := s.Tables(t.Context(), func(string) bool { return true }); !cdc.IsSetup(err) || !strings.Contains(err.Error(), "GRANT "+parseVersionOf(server).seeLog()+" ON *.* TO 'poor'@'%';") {
		t.Errorf("%v", err)
	}
	run(t, server, "SET sql_log_bin = 0; GRANT "+parseVersionOf(server).seeLog()+" ON *.* TO poor@'%'; GRANT SELECT ON closed.b TO poor@'%'")
	tables := catalog(t, s, "closed")
	if diff := cmp.Diff([]string{"b"}, slices.Sorted(maps.Keys(tables))); diff != "" {
		t.Error(diff)
	}
}

// hiddenIsNotGone takes rights away in turn: what the server does not list is gone for who surely sees the schema, whether that is there or not.
func hiddenIsNotGone(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE is_there", "CREATE TABLE is_there.a (id int PRIMARY KEY)", "CREATE TABLE is_there.b (id int PRIMARY KEY)",
		"SET sql_log_bin = 0; CREATE USER seer@'%' IDENTIFIED BY 'pw'")
	s := probe(t, server, "")
	s.address.user = "seer"
	names := []string{"is_there.a", "is_there.c", "is_gone.a"}
	asked := func(when string, surely ...string) {
		t.Helper()
		gone, doubt, err := s.Gone(t.Context(), names)
		if err != nil || !slices.Equal(gone, surely) || (doubt == "") != (len(surely) == 2) {
			t.Errorf("%s: %q is gone (%q, %v), and not %q", when, gone, doubt, err, surely)
		}
	}
	if _, doubt, _ := s.Gone(t.Context(), names); !strings.HasSuffix(doubt, "may not read: GRANT SELECT ON `is\\_there`.* TO 'seer'@'%'; GRANT SELECT ON `is\\_gone`.* TO 'seer'@'%';") {
		t.Errorf("the doubt is %q", doubt)
	}
	asked("without a right")
	for _, step := range []struct {
		statement string
		surely    []string
	}{
		{"GRANT SELECT ON is_there.a TO seer@'%'", nil},
		{"GRANT SELECT ON `is\\_there`.* TO seer@'%'", names[1:2]},
		{"GRANT INSERT ON *.* TO seer@'%'", names[1:2]},
		{"GRANT SELECT ON *.* TO seer@'%'", names[1:]},
		{"REVOKE SELECT, INSERT ON *.* FROM seer@'%'", names[1:2]},
		{"REVOKE SELECT ON `is\\_there`.* FROM seer@'%'", nil},
	} {
		run(t, server, "SET sql_log_bin = 0; "+step.statement)
		asked(step.statement, step.surely...)
	}
}

func parseVersionOf(server *dbtest.MySQLServer) version {
	return version{mariadb: server.Install.Flavour.MariaDB()}
}

const familySchema = `CREATE DATABASE family;
CREATE TABLE family.parent (id int PRIMARY KEY, n int UNIQUE);
CREATE TABLE family.cascading (id int PRIMARY KEY, p int, CONSTRAINT falls FOREIGN KEY (p) REFERENCES family.parent (id) ON DELETE CASCADE);
CREATE TABLE family.nulling (id int PRIMARY KEY, p int, CONSTRAINT empties FOREIGN KEY (p) REFERENCES family.parent (n) ON UPDATE SET NULL);
CREATE TABLE family.holding (id int PRIMARY KEY, p int, CONSTRAINT holds FOREIGN KEY (p) REFERENCES family.parent (id))`

func actingKeys(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, familySchema)
	tables := catalog(t, probe(t, server, ""), "family")
	for name, words := range map[string]string{
		"parent": "", "holding": "",
		"cascading": "changes made by foreign key falls (ON DELETE CASCADE)",
		"nulling":   "changes made by foreign key empties (ON UPDATE SET NULL)",
	} {
		if !server.Install.Flavour.MariaDB() {
			words = "" // MySQL 9.7 logs what foreign keys do
		}
		if got := tables[name]; got.Hides != words || got.Problem != "" {
			t.Errorf("%s: hides %q, problem %q, want %q and none", name, got.Hides, got.Problem, words)
		}
	}
}

func TestWhatForeignKeysOfInnoDBItselfDoIsHidden(t *testing.T) {
	server := dbtest.StartMySQLT(t, dbtest.NeedMySQL(t, dbtest.MySQL97), dbtest.Options{Database: "app", Conf: map[string]string{
		"innodb_native_foreign_keys": "ON", "binlog_ignore_db": "unlogged",
	}})
	if err := server.GrantLockstep(t.Context(), "pw"); err != nil {
		t.Fatal(err)
	}
	run(t, server, familySchema)
	run(t, server, "CREATE DATABASE unlogged; CREATE TABLE unlogged.a (id int PRIMARY KEY)")
	s := probe(t, server, "")
	for name, words := range map[string]string{"parent": "", "holding": "", "cascading": "falls (ON DELETE CASCADE)", "nulling": "empties (ON UPDATE SET NULL)"} {
		if got := catalog(t, s, "family")[name].Hides; (got == "") != (words == "") || !strings.Contains(got, words) {
			t.Errorf("%s: %q, want %q", name, got, words)
		}
	}
	if got := catalog(t, s, "unlogged")["a"].Problem; !strings.Contains(got, "is kept out of the log (binlog_ignore_db=unlogged)") {
		t.Errorf("%q", got)
	}
}

func TestNamesOfTablesAreFoldedAsTheServerDoes(t *testing.T) {
	server := dbtest.StartMySQLT(t, dbtest.NeedMySQL(t, dbtest.MariaDB1011), dbtest.Options{Database: "app", Conf: map[string]string{
		"lower_case_table_names": "1", "binlog_do_db": "app",
	}})
	if err := server.GrantLockstep(t.Context(), "pw"); err != nil {
		t.Fatal(err)
	}
	run(t, server, "CREATE TABLE App.Orders (Id int PRIMARY KEY)", "CREATE DATABASE Other; CREATE TABLE Other.A (id int PRIMARY KEY)")
	s := probe(t, server, "")
	if got := catalog(t, s, "app"); len(got) != 1 || got["orders"].Problem != "" {
		t.Errorf("%+v", got)
	}
	if !s.fold.Load() {
		t.Error("the source does not know that names are folded")
	}
	if got := catalog(t, s, "other")["a"].Problem; !strings.Contains(got, "is kept out of the log (binlog_do_db=app)") {
		t.Errorf("%q", got)
	}
}
