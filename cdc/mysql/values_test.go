package mysql

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	wire "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// TestValues holds the bytes of real servers' logs against what SELECT gives of the same rows, and both against what the
// value is.
func TestValues(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"every value digests alike in the log and in a SELECT": func(t *testing.T, server *dbtest.MySQLServer) {
			tables := append(slices.Clone(valueTables), mysqlTables...)
			if server.Install.Flavour.MariaDB() {
				tables = append(slices.Clone(valueTables), mariadbTables...)
			}
			for _, metadata := range []string{"FULL", "MINIMAL"} {
				run(t, server, "SET GLOBAL binlog_row_metadata = "+metadata)
				compareValues(t, server, "v", metadata == "FULL", tables)
			}
			run(t, server, "SET GLOBAL binlog_row_metadata = FULL")
		},
		"so it does without metadata, with compressed rows, and of times in an old form": func(t *testing.T, server *dbtest.MySQLServer) {
			if !server.Install.Flavour.MariaDB() {
				t.Skip("MariaDB's alone")
			}
			run(t, server, "SET GLOBAL binlog_row_metadata = NO_LOG")
			compareValues(t, server, "v", false, append(slices.Clone(valueTables), mariadbTables...))
			run(t, server, "SET GLOBAL binlog_row_metadata = FULL", "SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10")
			log := compareValues(t, server, "v", true, valueTables)
			mustHave(t, log, func(c captured, _ *tableMap) bool { return rowsLayouts[eventKind(c.kind)].compressed })
			run(t, server, "SET GLOBAL log_bin_compress = DEFAULT, GLOBAL log_bin_compress_min_len = DEFAULT", "SET GLOBAL mysql56_temporal_format = OFF")
			log = compareValues(t, server, "old", true, timeTables)
			for _, kind := range []columnType{wire.MYSQL_TYPE_TIME, wire.MYSQL_TYPE_DATETIME, wire.MYSQL_TYPE_TIMESTAMP} {
				mustHave(t, log, func(_ captured, m *tableMap) bool { return m.columns[1].kind == kind })
			}
			run(t, server, "SET GLOBAL mysql56_temporal_format = ON")
		},
	})
}

// valueTable is a table with one column beside its key, and the values that are put into it.
type valueTable struct {
	kind   string
	values []valueCase
	labels bool // what the catalog shows of it is not enough
	// computed says that the server makes the values, so that none is NULL.
	computed bool
}

// valueCase is a value, as SQL writes it and as we show it in a key. An empty want is for JSON, which is in no key, and for
// what a SELECT is enough for.
type valueCase struct{ sql, want string }

// captured is a row as one event of the log has it.
type captured struct {
	description []byte // of its table
	kind        byte
	body        []byte
}

// mustHave makes sure that the log has what a test is about.
func mustHave(t *testing.T, log map[string][]captured, what func(captured, *tableMap) bool) {
	t.Helper()
	for _, list := range log {
		for _, c := range list {
			if m, err := parseTableMap(c.description, 6); err == nil && what(c, m) {
				return
			}
		}
	}
	t.Error("the log has nothing of what this test is about")
}

// compareValues fills the tables of a schema, which the first call makes, and then looks at what the log and SELECT tell.
// Later calls have the same tables, or those that stand first.
func compareValues(t *testing.T, server *dbtest.MySQLServer, schema string, labels bool, tables []valueTable) map[string][]captured {
	t.Helper()
	s := probe(t, server, "")
	statements := []string{
		"CREATE DATABASE IF NOT EXISTS " + schema, "USE " + schema,
		"SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'",
		"CREATE TABLE IF NOT EXISTS marker (id int PRIMARY KEY)", "DELETE FROM marker",
	}
	for i, table := range tables {
		statements = append(statements, fmt.Sprintf("CREATE TABLE IF NOT EXISTS t%[1]d (id int PRIMARY KEY, v %[2]s); DELETE FROM t%[1]d", i, table.kind))
	}
	run(t, server, statements...)
	from, err := s.Prepare(t.Context(), cdc.Position{})
	if err != nil {
		t.Fatal(err)
	}
	statements = statements[1:3]
	for i, table := range tables {
		var rows []string
		for j, value := range table.values {
			rows = append(rows, fmt.Sprintf("(%d, %s)", j, value.sql))
		}
		if !table.computed {
			rows = append(rows, fmt.Sprintf("(%d, NULL)", len(rows)))
		}
		statements = append(statements, fmt.Sprintf("INSERT IGNORE INTO t%d (id, v) VALUES %s", i, strings.Join(rows, ", ")))
		statements = append(statements, fmt.Sprintf("UPDATE t%d SET id = id + 1000", i))
	}
	run(t, server, append(statements, "INSERT INTO marker VALUES (1)")...)
	log := readLog(t, s, from, schema)
	definitions := catalog(t, s, schema)
	for i, table := range tables {
		if table.labels && !labels {
			continue
		}
		t.Run(table.kind, func(t *testing.T) {
			name := fmt.Sprintf("t%d", i)
			compareTable(t, s, definitions[name], table, log[name])
		})
	}
	return log
}

// readLog reads the log of a schema up to the row of its table "marker".
func readLog(t *testing.T, s *Source, from cdc.Position, schema string) map[string][]captured {
	t.Helper()
	d, err := s.dump(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer d.hangUp()
	log, maps, summed := map[string][]captured{}, map[uint64][]byte{}, false
	for {
		event, err := d.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h, body, err := parseHeader(event)
		if err != nil {
			t.Fatal(err)
		}
		if h.kind == replication.FORMAT_DESCRIPTION_EVENT {
			summed, _, err = parseFormat(event, body)
		} else if summed && !h.artificial() {
			body, err = checkSum(event, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, rows := rowsLayouts[h.kind]
		switch {
		case h.kind == replication.TABLE_MAP_EVENT:
			maps[littleEndian(body[:6])] = bytes.Clone(body)
		case rows:
			description := maps[littleEndian(body[:6])]
			m, err := parseTableMap(description, 6)
			if err != nil {
				t.Fatal(err)
			}
			if m.schema == schema && m.table == "marker" {
				return log
			}
			log[m.table] = append(log[m.table], captured{description, byte(h.kind), bytes.Clone(body)})
		}
	}
}

// compareTable decodes what the log has of a table. Its rows were inserted, and their keys moved then.
func compareTable(t *testing.T, s *Source, table cdc.Table, values valueTable, log []captured) {
	d := s.definition(table)
	if d == nil {
		t.Fatal("the table is not in the catalog")
	}
	shape := epochOf(table).Shape
	inserted, before, after := map[string]digest.Digest{}, map[string]digest.Digest{}, map[string]digest.Digest{}
	var shown []string
	for _, event := range log {
		r, p := planned(t, d, shape, event)
		e, show := testEncoder(t, shape), shower(t, d, table, event)
		for data := r.data; len(data) > 0; {
			if r.presentAfter == nil {
				shown = append(shown, show(data, r.present))
				data = imageOf(t, p, shape, e, data, r.present, inserted)
				continue
			}
			data = imageOf(t, p, shape, e, data, r.present, before)
			data = imageOf(t, p, shape, e, data, r.presentAfter, after)
		}
	}
	scanned, list := scanTable(t, s, d, shape), slices.Clone(values.values)
	if !values.computed {
		list = append(list, valueCase{"NULL", "NULL"})
	}
	if n := len(list); len(shown) != n || len(inserted) != n || len(before) != n || len(after) != n || len(scanned) != n {
		t.Fatalf("%d rows inserted, %d moved to %d, %d scanned; want %d", len(inserted), len(before), len(after), len(scanned), n)
	}
	for i, value := range list {
		first, moved := fmt.Sprintf(`{"id":%d}`, i), fmt.Sprintf(`{"id":%d}`, i+1000)
		if inserted[first] != before[first] || inserted[first].IsZero() {
			t.Errorf("%s: the image before an update is not that of the insert", value.sql)
		}
		if after[moved] != scanned[moved] || after[moved].IsZero() {
			t.Errorf("%s: the log and SELECT do not digest alike; the log has %s", value.sql, shown[i])
		}
		if value.want != shown[i] && value.want != "" && shown[i] != "" {
			t.Errorf("%s: the log has %s, want %s", value.sql, shown[i], value.want)
		}
	}
}

// planned makes the plan for the rows of an event.
func planned(t *testing.T, d *definition, shape digest.Shape, event captured) (rowsHeader, *plan) {
	t.Helper()
	m, err := parseTableMap(event.description, 6)
	if err != nil {
		t.Fatal(err)
	}
	p, reason := newPlan(d, m, shape)
	if reason != "" {
		t.Fatalf("no plan: %s; the log says %+v", reason, m)
	}
	r, err := parseRows(event.kind, event.body, 6)
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

func testEncoder(t testing.TB, shape digest.Shape) *digest.Encoder {
	t.Helper()
	e, err := digest.NewEncoder(scanHasher, shape)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// shower returns what shows the value of an image, as we show it in a key; JSON can be in none.
func shower(t *testing.T, d *definition, table cdc.Table, event captured) func(data, present []byte) string {
	t.Helper()
	value := table.Columns[slices.IndexFunc(table.Columns, func(c digest.Column) bool { return c.Name == "v" })]
	if value.Class == digest.JSON {
		return func(_, _ []byte) string { return "" }
	}
	shape := digest.Shape{Table: table.Name, Columns: []digest.Column{value}, Key: []int{0}}
	_, p := planned(t, d, shape, event)
	e := testEncoder(t, shape)
	return func(data, present []byte) string {
		e.Reset()
		if _, err := p.decodeImage(data, present, e); err != nil {
			t.Fatal(err)
		}
		key, err := e.AppendKey(nil)
		if err != nil {
			return "NULL"
		}
		text, err := shape.KeyJSON(key)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(strings.TrimPrefix(string(text), `{"v":`), "}")
	}
}

func imageOf(t *testing.T, p *plan, shape digest.Shape, e *digest.Encoder, data, present []byte, rows map[string]digest.Digest) []byte {
	t.Helper()
	e.Reset()
	rest, err := p.decodeImage(data, present, e)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, shape, e, rows)
	return rest
}

// keep adds the row that the encoder holds to rows.
func keep(t *testing.T, shape digest.Shape, e *digest.Encoder, rows map[string]digest.Digest) {
	t.Helper()
	key, err := e.AppendKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var r digest.Row
	if err := e.Row(&r); err != nil {
		t.Fatal(err)
	}
	id, err := shape.KeyJSON(key)
	if err != nil {
		t.Fatal(err)
	}
	rows[string(id)] = r.Digest
}

// scanTable reads the table's rows by the binary protocol.
func scanTable(t *testing.T, s *Source, d *definition, shape digest.Shape) map[string]digest.Digest {
	t.Helper()
	c, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.hangUp()
	rows, e := map[string]digest.Digest{}, testEncoder(t, shape)
	var list []string
	for _, column := range shape.Columns {
		list = append(list, d.column(column.Name).selected())
	}
	err = c.stream(t.Context(), "SELECT "+strings.Join(list, ", ")+" FROM "+quoteName(d.schema, d.table), func(values []wire.FieldValue) error {
		e.Reset()
		for i := range values {
			if err := d.column(shape.Columns[i].Name).scan(e, i, &values[i]); err != nil {
				return err
			}
		}
		keep(t, shape, e, rows)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
