package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestChunks(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"tables read in tiny chunks have the rows that one statement has": everyKey,
		"a chunk is read off the index":                                   offIndex,
	})
}

// keyTable is a table by the type of its key.
type keyTable struct {
	name, columns, rows string
	order               cdc.Order // in which it can be read in parts
	on                  string    // the flavour that has such tables; empty: both
}

// has reports whether a server has such tables; MySQL's MyISAM knows no descending keys.
func (k keyTable) has(server *dbtest.MySQLServer, engine string) bool {
	mariadb := server.Install.Flavour.MariaDB()
	return (k.on == "" || (k.on == "mariadb") == mariadb) && (mariadb || engine == "InnoDB" || !strings.Contains(k.columns, "DESC"))
}

var keyTables = []keyTable{
	{"ints", "k bigint PRIMARY KEY", "(-9223372036854775808), (-1), (0), (1), (7), (9223372036854775807)", cdc.KeyOrder, ""},
	{"unsigned_ints", "k bigint unsigned PRIMARY KEY", "(0), (1), (9223372036854775807), (9223372036854775808), (18446744073709551615)", cdc.KeyOrder, ""},
	{"small_ints", "k tinyint, m mediumint unsigned, PRIMARY KEY (k, m)", "(-128, 0), (-128, 16777215), (127, 0), (127, 1), (0, 0)", cdc.KeyOrder, ""},
	{"bits", "k bit(64), b bit(3), PRIMARY KEY (k, b)", "(0, 0), (0, 5), (1, 7), (18446744073709551615, 0), (18446744073709551615, 1)", cdc.KeyOrder, ""},
	{"decimals", "k decimal(30,10) PRIMARY KEY", "(-12345678901234567890.0000000001), (-12345678901234567890.0000000002), (0), (0.0000000001), (12345678901234567890.0000000001), (12345678901234567890.0000000002)", cdc.KeyOrder, ""},
	{"wide_decimals", "k decimal(65,30) unsigned PRIMARY KEY", "(0), (99999999999999999999999999999999999.999999999999999999999999999999), (99999999999999999999999999999999999.999999999999999999999999999998), (1)", cdc.KeyOrder, ""},
	{"composite", "a int, b varchar(10), c int, n int, PRIMARY KEY (a, b, c)", "(1, '', 1, 1), (1, '', 2, 1), (1, 'x', 1, 1), (1, 'y', 1, 2), (2, '', 1, 1), (2, 'x', 3, 1), (2, 'x', 4, 1), (2, 'x', 5, 1)", cdc.ServerOrder, ""},
	{"descending", "a int, b int, c int, PRIMARY KEY (b DESC, a, c DESC)", "(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (2, 1, 2), (3, 3, 3), (0, 3, 4)", cdc.ServerOrder, ""},
	{"folded_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY", `(''), ('a'), ('B'), ('c'), ('Ärger'), ('zebra'), ('ß'), ('😀'), ('it''s'), ('back\\slash'), ('%'), ('a b')`, cdc.ServerOrder, ""},
	{"binary_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY", `(''), ('a'), ('A'), ('a '' b'), ('é'), ('e'), ('😀'), ('\0'), ('\n')`, cdc.ServerOrder, ""},
	{"latin_text", "k varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY", "('a'), ('é'), ('å'), ('ö'), ('z'), ('€'), ('ü')", cdc.ServerOrder, ""},
	{"narrow_text", "k varchar(20) CHARACTER SET utf8mb3 PRIMARY KEY", "('a'), ('é'), ('ø'), ('z'), ('€')", cdc.ServerOrder, ""},
	{"wide_text", "k varchar(20) CHARACTER SET utf16 PRIMARY KEY", "('a'), ('é'), ('ø'), ('z'), ('😀')", cdc.ServerOrder, ""},
	{"asian_text", "k varchar(20) CHARACTER SET gbk PRIMARY KEY", "('a'), ('中'), ('文'), ('z')", cdc.ServerOrder, ""},
	{"padded_text", "k char(6) CHARACTER SET utf8mb4 PRIMARY KEY", "(''), ('a'), ('a b'), ('b'), ('abcdef')", cdc.ServerOrder, ""},
	{"bytes", "k varbinary(8) PRIMARY KEY", `(''), ('\0'), ('\0\0'), ('a'), ('A'), (X'ff'), (X'ff00'), ('''')`, cdc.KeyOrder, ""},
	{"padded_bytes", "k binary(4) PRIMARY KEY", `(''), ('\0a'), ('a'), ('ab'), (X'ffffffff'), (X'00ff')`, cdc.KeyOrder, ""},
	{"dates", "k date PRIMARY KEY", "('0000-00-00'), ('2024-00-15'), ('2024-01-00'), ('1000-01-01'), ('2024-02-29'), ('9999-12-31')", cdc.ServerOrder, ""},
	{"moments", "k datetime(6) PRIMARY KEY", "('0000-00-00'), ('2024-01-01 00:00:00.000001'), ('2024-01-01 00:00:00.000002'), ('9999-12-31 23:59:59.999999'), ('2024-01-01')", cdc.ServerOrder, ""},
	{"coarse_moments", "k datetime PRIMARY KEY", "('0000-00-00'), ('2024-01-01 00:00:00'), ('2024-01-01 00:00:01'), ('9999-12-31 23:59:59')", cdc.ServerOrder, ""},
	{"instants", "k timestamp(3) PRIMARY KEY", "('0000-00-00'), ('1970-01-01 00:00:01'), ('2024-03-31 01:59:59.999'), ('2024-03-31 02:00:00'), ('2038-01-19 03:14:07.999')", cdc.KeyOrder, ""},
	{"times", "k time(6) PRIMARY KEY", "('-838:59:59'), ('-00:00:00.000001'), ('00:00:00'), ('00:00:00.000001'), ('24:00:00'), ('838:59:59')", cdc.KeyOrder, ""},
	{"tabbed_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY", `('a'), ('a\t'), ('a\0'), ('a!'), ('a \t'), ('b '), ('c  '), ('')`, cdc.ServerOrder, ""},
	{"folded_pairs", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, n int, PRIMARY KEY (k, n)", `('abc', 1), ('ABC', 2), ('Abc ', 3), ('äbc', 4), ('b', 1), ('B ', 0)`, cdc.ServerOrder, ""},
	{"bytewise_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin PRIMARY KEY", `('a'), ('a '), ('a  '), ('A'), ('a\t'), ('a\0'), ('a\0\0'), ('é'), ('～'), ('😀'), ('')`, cdc.KeyOrder, "mysql"},
	{"accented_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs PRIMARY KEY", `('a'), ('á'), ('A'), ('Á'), ('a '), ('ab'), ('ß'), ('ss'), ('😀')`, cdc.ServerOrder, "mysql"},
	{"unpadded_text", "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY", `('a'), ('a '), ('a  '), ('A'), ('a\t'), ('a\0'), ('a\0\0'), ('é'), ('～'), ('😀'), ('')`, cdc.KeyOrder, "mariadb"},
	{"unpadded_narrow_text", "k varchar(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_nopad_bin, n int, PRIMARY KEY (k, n)", `('a', 2), ('a', 1), ('a ', 1), ('A', 1), ('a\t', 1), ('é', 1), ('～', 1), ('', 1)`, cdc.KeyOrder, "mariadb"},
	{"unpadded_ascii", "k varchar(20) CHARACTER SET ascii COLLATE ascii_nopad_bin PRIMARY KEY", `('a'), ('a '), ('A'), ('a\t'), ('~'), ('')`, cdc.KeyOrder, "mariadb"},
	{"uuids", "k uuid PRIMARY KEY", "('00000000-0000-0000-0000-000000000000'), ('6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b'), ('0b1f6d8e-3b1c-1f0e-9a53-7a6f0c2d1e4b'), ('ff1f6d8e-3b1c-11ee-9a53-7a6f0c2d1e4b'), ('ffffffff-ffff-ffff-ffff-ffffffffffff'), ('0190163d-8694-739b-aea5-966c26f8ad91')", cdc.ServerOrder, "mariadb"},
	{"addresses", "k inet4, m inet6, PRIMARY KEY (k, m)", "('0.0.0.0', '::'), ('1.2.3.0', '::1'), ('1.2.3.0', 'fe80::'), ('127.0.0.1', '::'), ('128.0.0.1', '::'), ('255.255.255.255', 'ffff::')", cdc.KeyOrder, "mariadb"},
	{"odd_dates", "k date, m datetime(3), PRIMARY KEY (k, m)", "('2024-02-30', '0000-00-00'), ('2024-02-30', '2023-02-31 12:00:00.5'), ('2024-04-31', '0000-01-01'), ('0000-05-06', '2024-00-00'), ('2024-02-28', '0001-01-01')", cdc.ServerOrder, ""},
	{"short_decimals", "k decimal(10,5), PRIMARY KEY (k)", "(-99999.99999), (-1.5), (-1.50001), (-0.00001), (0), (0.00001), (9), (10), (10.5), (99999)", cdc.KeyOrder, ""},
	{"long_decimals", "k decimal(65,0) PRIMARY KEY", "(-10000000000000000000000000000000000000000), (10000000000000000000000000000000000000000), (1), (99999999999999999999999999999999999999999999999999999999999999999)", cdc.KeyOrder, ""},
	{"tiny_decimals", "k decimal(30,30) PRIMARY KEY", "(0.000000000000000000000000000001), (-0.000000000000000000000000000001), (0), (0.1)", cdc.KeyOrder, ""},
	{"enums", "k enum('z', 'a', 'm') PRIMARY KEY", "('z'), ('a'), ('m')", cdc.Unordered, ""},
	{"sets", "k set('z', 'a') PRIMARY KEY", "(''), ('z'), ('a'), ('z,a')", cdc.Unordered, ""},
	{"years", "k year PRIMARY KEY", "(0), (1901), (1970), (2000), (2069), (2155)", cdc.Unordered, ""},
	{"doubles", "k double PRIMARY KEY", "(-1e300), (0), (0.1), (0.30000000000000004), (1e300)", cdc.Unordered, ""},
	{"floats", "k float PRIMARY KEY", "(-1e30), (0), (0.1), (0.3), (1e30)", cdc.Unordered, ""},
}

// makeKeyTables makes those that a flavour has, in a schema of their own.
func makeKeyTables(t *testing.T, server *dbtest.MySQLServer, schema, engine string) {
	t.Helper()
	run(t, server, "CREATE DATABASE "+schema)
	for _, k := range keyTables {
		if k.has(server, engine) {
			run(t, server, "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'",
				fmt.Sprintf("CREATE TABLE %s.%s (%s) ENGINE = %s", schema, k.name, k.columns, engine), fmt.Sprintf("INSERT INTO %s.%s VALUES %s", schema, k.name, k.rows))
		}
	}
}

// everyKey reads tables of InnoDB on MySQL, of MyISAM on MariaDB, which reads those of InnoDB in one view.
func everyKey(t *testing.T, server *dbtest.MySQLServer) {
	engine := "InnoDB"
	if server.Install.Flavour.MariaDB() {
		engine = "MyISAM"
	}
	makeKeyTables(t, server, "keyed", engine)
	s := probe(t, server, "")
	s.begin(cdc.Position{})
	s.chunk = time.Nanosecond // chunks stay as small as they are
	tables := catalog(t, s, "keyed")
	for _, k := range keyTables {
		if !k.has(server, engine) {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			table := tables[k.name]
			if table.Problem != "" || table.Order != k.order {
				t.Fatalf("%+v, in order %v", table, table.Order)
			}
			want := readWith(t, s, table, func(v *snapshot, ctx context.Context, r *rowReader) error {
				r.pager.columns, r.pager.order = nil, ""
				return v.chunks(ctx, r)
			})
			if len(want) != strings.Count(k.rows, "(") {
				t.Fatalf("%d rows of %s", len(want), k.rows)
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
