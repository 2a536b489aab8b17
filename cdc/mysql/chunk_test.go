package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/internal/dbtest"
)

func TestChunks(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"tables read in tiny chunks have the rows that one statement has": everyKey,
		"a chunk is read off the index":                                   offIndex,
	})
}

// keyTables are tables by the type of their key, and whether they can be read in chunks.
var keyTables = []struct {
	name, columns, rows string
	pageable            bool
}{
	{"ints", "k bigint PRIMARY KEY", "(-9223372036854775808), (-1), (0), (1), (7), (9223372036854775807)", true},
	{"unsigned_ints", "k bigint unsigned PRIMARY KEY", "(0), (1), (9223372036854775807), (9223372036854775808), (18446744073709551615)", true},
	{"small_ints", "k tinyint, m mediumint unsigned, PRIMARY KEY (k, m)", "(-128, 0), (-128, 16777215), (127, 0), (127, 1), (0, 0)", true},
	{"bits", "k bit(64), b bit(3), PRIMARY KEY (k, b)", "(0, 0), (0, 5), (1, 7), (18446744073709551615, 0), (18446744073709551615, 1)", true},
	{"decimals", "k decimal(30,10) PRIMARY KEY", "(-12345678901234567890.0000000001), (-12345678901234567890.0000000002), (0), (0.0000000001), (12345678901234567890.0000000001), (12345678901234567890.0000000002)", true},
	{"wide_decimals", "k decimal(65,30) unsigned PRIMARY KEY", "(0), (99999999999999999999999999999999999.999999999999999999999999999999), (99999999999999999999999999999999999.999999999999999999999999999998), (1)", true},
	{"composite", "a int, b varchar(10), c int, n int, PRIMARY KEY (a, b, c)", "(1, '', 1, 1), (1, '', 2, 1), (1, 'x', 1, 1), (1, 'y', 1, 2), (2, '', 1, 1), (2, 'x', 3, 1), (2, 'x', 4, 1), (2, 'x', 5, 1)", true},
	{"descending", "a int, b int, c int, PRIMARY KEY (b DESC, a, c DESC)", "(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (2, 1, 2), (3, 3, 3), (0, 3, 4)", true},
	{"folded_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY", `(''), ('a'), ('B'), ('c'), ('Ärger'), ('zebra'), ('ß'), ('😀'), ('it''s'), ('back\\slash'), ('%'), ('a b')`, true},
	{"binary_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY", `(''), ('a'), ('A'), ('a '' b'), ('é'), ('e'), ('😀'), ('\0'), ('\n')`, true},
	{"latin_text", "k varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY", "('a'), ('é'), ('å'), ('ö'), ('z'), ('€'), ('ü')", true},
	{"narrow_text", "k varchar(20) CHARACTER SET utf8mb3 PRIMARY KEY", "('a'), ('é'), ('ø'), ('z'), ('€')", true},
	{"wide_text", "k varchar(20) CHARACTER SET utf16 PRIMARY KEY", "('a'), ('é'), ('ø'), ('z'), ('😀')", true},
	{"asian_text", "k varchar(20) CHARACTER SET gbk PRIMARY KEY", "('a'), ('中'), ('文'), ('z')", true},
	{"padded_text", "k char(6) CHARACTER SET utf8mb4 PRIMARY KEY", "(''), ('a'), ('a b'), ('b'), ('abcdef')", true},
	{"bytes", "k varbinary(8) PRIMARY KEY", `(''), ('\0'), ('\0\0'), ('a'), ('A'), (X'ff'), (X'ff00'), ('''')`, true},
	{"padded_bytes", "k binary(4) PRIMARY KEY", `(''), ('\0a'), ('a'), ('ab'), (X'ffffffff'), (X'00ff')`, true},
	{"dates", "k date PRIMARY KEY", "('0000-00-00'), ('2024-00-15'), ('2024-01-00'), ('1000-01-01'), ('2024-02-29'), ('9999-12-31')", true},
	{"moments", "k datetime(6) PRIMARY KEY", "('0000-00-00'), ('2024-01-01 00:00:00.000001'), ('2024-01-01 00:00:00.000002'), ('9999-12-31 23:59:59.999999'), ('2024-01-01')", true},
	{"coarse_moments", "k datetime PRIMARY KEY", "('0000-00-00'), ('2024-01-01 00:00:00'), ('2024-01-01 00:00:01'), ('9999-12-31 23:59:59')", true},
	{"instants", "k timestamp(3) PRIMARY KEY", "('0000-00-00'), ('1970-01-01 00:00:01'), ('2024-03-31 01:59:59.999'), ('2024-03-31 02:00:00'), ('2038-01-19 03:14:07.999')", true},
	{"times", "k time(6) PRIMARY KEY", "('-838:59:59'), ('-00:00:00.000001'), ('00:00:00'), ('00:00:00.000001'), ('24:00:00'), ('838:59:59')", true},
	{"enums", "k enum('z', 'a', 'm') PRIMARY KEY", "('z'), ('a'), ('m')", false},
	{"sets", "k set('z', 'a') PRIMARY KEY", "(''), ('z'), ('a'), ('z,a')", false},
	{"years", "k year PRIMARY KEY", "(0), (1901), (1970), (2000), (2069), (2155)", false},
	{"doubles", "k double PRIMARY KEY", "(-1e300), (0), (0.1), (0.30000000000000004), (1e300)", false},
	{"floats", "k float PRIMARY KEY", "(-1e30), (0), (0.1), (0.3), (1e30)", false},
}

// everyKey reads tables of InnoDB on MySQL, of MyISAM on MariaDB, which reads those of InnoDB in one view.
func everyKey(t *testing.T, server *dbtest.MySQLServer) {
	engine := "InnoDB"
	if server.Install.Flavour.MariaDB() {
		engine = "MyISAM"
	}
	run(t, server, "CREATE DATABASE keyed")
	for _, k := range keyTables {
		run(t, server, "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = ''",
			fmt.Sprintf("CREATE TABLE keyed.%s (%s) ENGINE = %s", k.name, k.columns, engine), fmt.Sprintf("INSERT INTO keyed.%s VALUES %s", k.name, k.rows))
	}
	s := probe(t, server, "")
	s.begin(cdc.Position{})
	s.chunk = time.Nanosecond // chunks stay as small as they are
	tables := catalog(t, s, "keyed")
	for _, k := range keyTables {
		t.Run(k.name, func(t *testing.T) {
			table := tables[k.name]
			d := s.definition(table)
			if table.Problem != "" || d.pageable() != k.pageable {
				t.Fatalf("%+v, in chunks: %t", table, d.pageable())
			}
			want := readWith(t, s, table, func(v *snapshot, ctx context.Context, r *rowReader) error {
				r.pager.columns, r.pager.order = nil, ""
				return v.chunks(ctx, r)
			})
			if len(want) != strings.Count(k.rows, "(") {
				t.Fatalf("%d rows of %s", len(want), k.rows)
			}
			if !k.pageable {
				return
			}
			slices.Sort(want)
			for _, rows := range []int{1, 2, 3, len(want), 100} {
				s.firstChunk = rows
				got := readWith(t, s, table, (*snapshot).chunks)
				slices.Sort(got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("in chunks of %d: %s", rows, diff)
				}
			}
		})
	}
}

type reading func(*snapshot, context.Context, *rowReader) error

// readWith returns key and digest of each row.
func readWith(t *testing.T, s *Source, table cdc.Table, read reading) []string {
	t.Helper()
	view, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	var rows []string
	r, err := s.rowReader(s.definition(table), epochOf(table), func(k digest.Key, r *digest.Row) error {
		rows = append(rows, fmt.Sprintf("%x %v", k, r.Digest))
		return nil
	})
	if err == nil {
		err = read(view.(*snapshot), t.Context(), r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// epochOf is the shape with all columns of a table.
func epochOf(table cdc.Table) cdc.Epoch {
	shape := digest.Shape{Table: table.Name, Columns: table.Columns}
	for _, name := range table.Key {
		shape.Key = append(shape.Key, slices.IndexFunc(table.Columns, func(c digest.Column) bool { return c.Name == name }))
	}
	return cdc.Epoch{Table: 1, Number: 1, Shape: shape}
}

// offIndex asks the server how it finds the rows of a chunk in the middle of a table.
func offIndex(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.long_one (a int, b varchar(10), c datetime(3), d int, pad char(100), KEY (d), PRIMARY KEY (a, b DESC, c))",
		"INSERT INTO app.long_one SELECT n % 50, n DIV 50, '2024-01-01', n, 'x' FROM (SELECT a.i + 10 * b.i + 100 * c.i AS n FROM "+
			"(SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) a, "+
			"(SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b, "+
			"(SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c) n", "ANALYZE TABLE app.long_one")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["long_one"]
	d := s.definition(table)
	err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
		p := newPager(d, "a, b, c, d", epochOf(table).Shape)
		key := func(n int) digest.Key {
			return keyOf(t, table, fmt.Sprintf(`{"a":%d,"b":"10","c":"2024-01-01T00:00:00"}`, n))
		}
		for _, part := range []cdc.Part{
			{After: key(25), Limit: 10}, {After: key(25), Through: key(47), Limit: 10}, {Through: key(3), After: key(2)},
			{Keys: []digest.Key{key(1), key(2), key(3), key(49)}},
		} {
			before, err := handlerReads(ctx, c)
			if err != nil {
				return err
			}
			statement, err := p.statement(part)
			if err != nil {
				return err
			}
			rows, err := c.query(ctx, statement)
			if err != nil || len(rows) == 0 {
				t.Errorf("%s: %v, %v", statement, rows, err)
			}
			if read, err := handlerReads(ctx, c); err != nil || read-before > 2*int64(len(rows))+10 {
				t.Errorf("%s: %d rows were looked at for %d, %v", statement, read-before, len(rows), err)
			}
		}
		statement, err := p.statement(cdc.Part{After: key(25), Limit: 10})
		if err != nil {
			return err
		}
		explain := "EXPLAIN FORMAT = TRADITIONAL "
		if c.version.mariadb {
			explain = "EXPLAIN "
		}
		rows, err := c.query(ctx, explain+statement)
		if err == nil && (len(rows) != 1 || rows[0].text("type") != "range" || rows[0].text("key") != "PRIMARY" || strings.Contains(rows[0].text("Extra"), "filesort")) {
			t.Errorf("%v", rows)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// keyOf makes a key of a table.
func keyOf(t *testing.T, table cdc.Table, text string) digest.Key {
	t.Helper()
	k, err := epochOf(table).Shape.ParseKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// handlerReads counts the rows that the session has asked engines for.
func handlerReads(ctx context.Context, c *session) (n int64, err error) {
	rows, err := c.query(ctx, "SHOW SESSION STATUS LIKE 'Handler_read%'")
	for _, r := range rows {
		var count int64
		if _, err := fmt.Sscan(r.at(1), &count); err != nil {
			return 0, err
		}
		n += count
	}
	return n, err
}

func TestChunkTakesTheTimeItShould(t *testing.T) {
	for _, test := range []struct {
		rows int
		took time.Duration
		want int
	}{
		{1000, 500 * time.Millisecond, 1000}, {1000, 0, 2000}, {1000, 400 * time.Millisecond, 1250}, {1000, 10 * time.Second, 500},
		{100, time.Hour, 100}, {3, time.Hour, 3}, {90_000, 0, 100_000}, {100_000, 0, 100_000},
	} {
		if got := nextChunk(test.rows, 500*time.Millisecond, test.took); got != test.want {
			t.Errorf("%d rows in %v: next %d, want %d", test.rows, test.took, got, test.want)
		}
	}
}
