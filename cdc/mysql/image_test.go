package mysql

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/digest"
)

// ordersDefinition is that of shop.orders in testdata.
func ordersDefinition(json string) *definition {
	text := func(kind, columnType string) digest.MySQLType {
		return digest.MySQLType{DataType: kind, ColumnType: columnType, Charset: "utf8mb4"}
	}
	plain := func(kind, columnType string) digest.MySQLType {
		return digest.MySQLType{DataType: kind, ColumnType: columnType}
	}
	attributes := text("longtext", "longtext")
	if json == "json" {
		attributes = plain("json", "json")
	}
	return &definition{schema: "shop", table: "orders", name: "shop.orders", columns: []columnDefinition{
		{name: "id", kind: digest.MySQLType{DataType: "bigint", ColumnType: "bigint unsigned", Unsigned: true}},
		{name: "customer", kind: plain("binary", "binary(16)")},
		{name: "email", kind: text("varchar", "varchar(100)")},
		{name: "status", kind: text("enum", "enum('new','paid','shipped')")},
		{name: "amount", kind: plain("decimal", "decimal(10,2)")},
		{name: "weight", kind: plain("double", "double")},
		{name: "paid", kind: plain("tinyint", "tinyint(1)")},
		{name: "note", kind: text("text", "text")},
		{name: "created", kind: plain("timestamp", "timestamp(6)")},
		{name: "attributes", kind: attributes},
	}, key: []keyPart{{column: "id"}}}
}

// oddDefinition is that of shop.odd in testdata.
func oddDefinition() *definition {
	return &definition{schema: "shop", table: "odd", name: "shop.odd", columns: []columnDefinition{
		{name: "a", kind: digest.MySQLType{DataType: "int", ColumnType: "int unsigned", Unsigned: true}},
		{name: "b", kind: digest.MySQLType{DataType: "varchar", ColumnType: "varchar(300)", Charset: "latin1"}},
		{name: "s", kind: digest.MySQLType{DataType: "set", ColumnType: "set('x','y','a''b')", Charset: "utf8mb4"}},
		{name: "e", kind: digest.MySQLType{DataType: "enum", ColumnType: "enum('é')", Charset: "latin1"}},
		{name: "c", kind: digest.MySQLType{DataType: "char", ColumnType: "char(100)", Charset: "utf8mb4"}},
		{name: "g", kind: digest.MySQLType{DataType: "geometry", ColumnType: "geometry"}},
	}, key: []keyPart{{column: "b"}, {column: "a"}}}
}

// shapeOf is the shape of a table that is compared whole.
func shapeOf(d *definition) digest.Shape {
	shape := digest.Shape{Table: d.name}
	for _, c := range d.columns {
		shape.Columns = append(shape.Columns, digest.MySQLColumn(c.name, c.kind))
	}
	slices.SortFunc(shape.Columns, func(a, b digest.Column) int { return strings.Compare(a.Name, b.Name) })
	for _, k := range d.key {
		shape.Key = append(shape.Key, slices.IndexFunc(shape.Columns, func(c digest.Column) bool { return c.Name == k.column }))
	}
	return shape
}

// captures are the logs in testdata.
var captures = []struct{ file, json string }{{"log-mysql-9.7.txt", "json"}, {"log-mariadb-10.11.txt", "longtext"}}

// readCapture returns the events in a file of testdata, with headers and checksums.
func readCapture(t testing.TB, file string) (events [][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, data, _ := strings.Cut(strings.TrimSpace(line), " "); name != "#" {
			event, err := hex.DecodeString(data)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, event)
		}
	}
	return events
}

// rowsOf returns the rows events of a capture, with the description of their table.
func rowsOf(t testing.TB, file string) (list []captured) {
	t.Helper()
	var description []byte
	for _, event := range readCapture(t, file)[1:] {
		h, body, err := parseHeader(event)
		if err != nil {
			t.Fatal(err)
		}
		if body, err = checkSum(event, body); err != nil {
			t.Fatal(err)
		}
		if h.kind == replication.TABLE_MAP_EVENT {
			description = body
			continue
		}
		list = append(list, captured{description, byte(h.kind), body})
	}
	return list
}

// logReader decodes the images of one captured event.
type logReader struct {
	*plan
	rowsHeader
	shape   digest.Shape
	encoder *digest.Encoder
}

func readerOf(t testing.TB, d *definition, event captured) *logReader {
	t.Helper()
	m, err := parseTableMap(event.description, 6)
	if err != nil {
		t.Fatal(err)
	}
	r := &logReader{shape: shapeOf(d)}
	reason := ""
	if r.plan, reason = newPlan(d, m, r.shape); reason != "" {
		t.Fatal(reason)
	}
	if r.rowsHeader, err = parseRows(event.kind, event.body, 6); err != nil {
		t.Fatal(err)
	}
	if r.encoder, err = digest.NewEncoder(scanHasher, r.shape); err != nil {
		t.Fatal(err)
	}
	return r
}

// image decodes the next image.
func (r *logReader) image(t testing.TB, present []byte) (key string, row digest.Digest) {
	t.Helper()
	r.encoder.Reset()
	rest, err := r.decodeImage(r.data, present, r.encoder)
	if err != nil {
		t.Fatal(err)
	}
	r.data = rest
	return encoded(t, r.shape, r.encoder)
}

// encoded is the row that an encoder holds.
func encoded(t testing.TB, shape digest.Shape, e *digest.Encoder) (key string, row digest.Digest) {
	t.Helper()
	k, err := e.AppendKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := shape.KeyJSON(k)
	if err != nil {
		t.Fatal(err)
	}
	var r digest.Row
	if err := e.Row(&r); err != nil {
		t.Fatal(err)
	}
	return string(text), r.Digest
}

func TestRowsOfARealLogAreDecoded(t *testing.T) {
	for _, capture := range captures {
		t.Run(capture.file, func(t *testing.T) {
			r := readerOf(t, ordersDefinition(capture.json), rowsOf(t, capture.file)[0])
			for i := range 20 {
				key, row := r.image(t, r.present)
				wantKey, want := order(t, r, i, capture.json)
				if key != wantKey || row != want {
					t.Errorf("row %d: key %s, want %s; digest %v, want %v", i, key, wantKey, row, want)
				}
			}
			if len(r.data) > 0 || r.flags&1 == 0 || r.rowsHeader.columns != 10 {
				t.Errorf("%d bytes are left, flags %x, %d columns", len(r.data), r.flags, r.rowsHeader.columns)
			}
		})
	}
}

// order encodes a row of shop.orders from what was written into it.
func order(t *testing.T, r *logReader, i int, json string) (key string, row digest.Digest) {
	e := r.encoder
	at := func(name string) int {
		return slices.IndexFunc(r.shape.Columns, func(c digest.Column) bool { return c.Name == name })
	}
	e.Reset()
	e.Uint(at("id"), uint64(500000+i))
	e.Bytes(at("customer"), []byte("\x6b\x1f\x6d\x8e\x3b\x1c\x4f\x0e\x9a\x53\x7a\x6f\x0c\x2d\x1e"+string(rune(i))))
	e.Text(at("email"), fmt.Appendf(nil, "somebody%d@example.com", i))
	e.Text(at("status"), []byte("shipped"))
	amount := e.Decimal(at("amount"), fmt.Appendf(nil, "%d.50", 1299+i))
	e.Float(at("weight"), 12.375)
	e.Int(at("paid"), int64(i%2))
	e.Text(at("note"), []byte("leave at the door, ring twice, mind the dog"))
	e.Instant(at("created"), time.Date(2026, 11, 23, 0, 32, i, 123456000, time.UTC).UnixMicro())
	attributes := []byte(`{"gift": true, "coupon": "XMAS"}`)
	if json == "json" {
		amount = errors.Join(amount, e.JSON(at("attributes"), attributes))
	} else {
		e.Text(at("attributes"), attributes)
	}
	if amount != nil {
		t.Fatal(amount)
	}
	return encoded(t, r.shape, e)
}

func TestUpdatesHaveTwoImages(t *testing.T) {
	for _, capture := range captures {
		events := rowsOf(t, capture.file)[1:]
		var keys []string
		rows := map[string]digest.Digest{}
		for _, event := range events {
			r := readerOf(t, oddDefinition(), event)
			for _, present := range [][]byte{r.present, r.presentAfter} {
				if present == nil {
					continue
				}
				key, row := r.image(t, present)
				keys = append(keys, key)
				if before, seen := rows[key]; seen && row != before {
					t.Errorf("%s: %s has two digests", capture.file, key)
				}
				rows[key] = row
			}
			if len(r.data) > 0 {
				t.Errorf("%s: %d bytes are left", capture.file, len(r.data))
			}
		}
		first, second := `{"b":"é","a":1}`, `{"b":"é","a":2}`
		if diff := cmp.Diff([]string{first, first, second, second}, keys); diff != "" {
			t.Error(capture.file, diff)
		}
	}
}

func TestColumnThatIsNotComparedIsGoneOver(t *testing.T) {
	event := rowsOf(t, captures[0].file)[0]
	d := ordersDefinition("json")
	m, err := parseTableMap(event.description, 6)
	if err != nil {
		t.Fatal(err)
	}
	whole := shapeOf(d)
	id := slices.IndexFunc(whole.Columns, func(c digest.Column) bool { return c.Name == "id" })
	shape := digest.Shape{Table: d.name, Columns: whole.Columns[id : id+1], Key: []int{0}}
	p, reason := newPlan(d, m, shape)
	if reason != "" {
		t.Fatal(reason)
	}
	r, err := parseRows(event.kind, event.body, 6)
	if err != nil {
		t.Fatal(err)
	}
	e := testEncoder(t, shape)
	n := 0
	for data := r.data; len(data) > 0; n++ {
		e.Reset()
		if data, err = p.decodeImage(data, r.present, e); err != nil {
			t.Fatal(err)
		}
		if key, _ := encoded(t, shape, e); key != fmt.Sprintf(`{"id":%d}`, 500000+n) {
			t.Errorf("row %d has key %s", n, key)
		}
	}
	if n != 20 {
		t.Errorf("%d rows", n)
	}
}

func TestImageWithoutAllColumnsIsRefusedBeforeAnythingIsEncoded(t *testing.T) {
	for _, capture := range captures {
		r := readerOf(t, ordersDefinition(capture.json), rowsOf(t, capture.file)[0])
		for bit := range 10 {
			present := bytes.Clone(r.present)
			present[bit/8] &^= 1 << (bit % 8)
			r.encoder.Reset()
			if _, err := r.decodeImage(r.data, present, r.encoder); !errors.Is(err, errPartialImage) {
				t.Errorf("without column %d: %v", bit, err)
			}
			if err := r.encoder.Row(new(digest.Row)); err == nil {
				t.Errorf("without column %d a row was made", bit)
			}
		}
		if _, err := r.decodeImage(r.data, r.present[:1], r.encoder); !errors.Is(err, errPartialImage) {
			t.Errorf("with fewer columns: %v", err)
		}
	}
}

func TestChangesWithinJSONAreRefused(t *testing.T) {
	_, err := parseRows(byte(replication.PARTIAL_UPDATE_ROWS_EVENT), rowsOf(t, captures[0].file)[0].body, 6)
	if !errors.Is(err, errPartialJSON) {
		t.Error(err)
	}
}

func TestImageThatEndsTooEarlyIsAnError(t *testing.T) {
	for _, capture := range captures {
		for _, d := range []*definition{ordersDefinition(capture.json), oddDefinition()} {
			event := rowsOf(t, capture.file)[map[string]int{"orders": 0, "odd": 1}[d.table]]
			r := readerOf(t, d, event)
			rest, err := r.decodeImage(r.data, r.present, r.encoder)
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(r.data) - len(rest) {
				r.encoder.Reset()
				if _, err := r.decodeImage(r.data[:n], r.present, r.encoder); !errors.Is(err, errEnds) || !strings.HasPrefix(err.Error(), "table "+d.name) {
					t.Fatalf("%s: the first %d bytes of a row: %v", d.name, n, err)
				}
			}
		}
	}
}

func TestDecodingARowAllocatesNothing(t *testing.T) {
	for _, capture := range captures {
		r := readerOf(t, ordersDefinition(capture.json), rowsOf(t, capture.file)[0])
		var row digest.Row
		key := make(digest.Key, 0, 64)
		allocs := testing.AllocsPerRun(100, func() { decodeAll(t, r, &row, key) })
		if allocs > 0 {
			t.Errorf("%s: %v allocations for 20 rows", capture.file, allocs)
		}
	}
}

// decodeAll decodes all images of an event of inserts, to key and digest.
func decodeAll(t testing.TB, r *logReader, row *digest.Row, key digest.Key) {
	for data := r.data; len(data) > 0; {
		var err error
		r.encoder.Reset()
		if data, err = r.decodeImage(data, r.present, r.encoder); err != nil {
			t.Fatal(err)
		}
		if key, err = r.encoder.AppendKey(key[:0]); err != nil {
			t.Fatal(err)
		}
		if err = r.encoder.Row(row); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkDecodeRows compares rows from the log to values, and to key and digest, with what go-mysql makes of the same
// rows: 20 of 10 columns.
func BenchmarkDecodeRows(b *testing.B) {
	for _, capture := range captures {
		name := strings.TrimSuffix(strings.TrimPrefix(capture.file, "log-"), ".txt")
		event := rowsOf(b, capture.file)[0]
		r := readerOf(b, ordersDefinition(capture.json), event)
		b.Run(name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(event.body)))
			for b.Loop() {
				h, err := parseRows(event.kind, event.body, 6)
				for data := h.data; len(data) > 0 && err == nil; {
					r.encoder.Reset()
					data, err = r.decodeImage(data, h.present, r.encoder)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(20*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
		b.Run(name+"/ours to key and digest", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(event.body)))
			var row digest.Row
			key := make(digest.Key, 0, 64)
			for b.Loop() {
				decodeAll(b, r, &row, key)
			}
			b.ReportMetric(20*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
		b.Run(name+"/go-mysql", func(b *testing.B) { benchmarkGoMySQL(b, capture.file) })
	}
}

func benchmarkGoMySQL(b *testing.B, file string) {
	parser := replication.NewBinlogParser()
	if strings.Contains(file, "mariadb") {
		parser.SetFlavor("mariadb")
	}
	var rows *replication.RowsEvent
	var data []byte
	parser.SetRowsEventDecodeFunc(func(e *replication.RowsEvent, d []byte) error {
		rows, data = e, d
		return nil
	})
	for _, event := range readCapture(b, file)[:3] {
		if _, err := parser.Parse(event); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		at, err := rows.DecodeHeader(data)
		if err != nil {
			b.Fatal(err)
		}
		if err := rows.DecodeData(at, data); err != nil || len(rows.Rows) != 20 {
			b.Fatal(len(rows.Rows), err)
		}
	}
	b.ReportMetric(20*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
