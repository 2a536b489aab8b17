package mysql

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/digest"
)

// kindCase is a column as the log and the catalog have it.
type kindCase struct {
	told mappedColumn
	kind digest.MySQLType
}

func kindOf(declared, charset string, kind columnType, meta uint16) kindCase {
	return kindCase{mappedColumn{kind: kind, meta: meta}, catalogType(declared, charset)}
}

// valueOf decodes one value, and shows it as in a key.
func valueOf(t *testing.T, c kindCase, image string) (string, error) {
	t.Helper()
	bytes, err := hex.DecodeString(strings.ReplaceAll(image, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	d := definedAs(c.kind)
	shape := digest.Shape{Table: d.name, Columns: shapeOf(d).Columns[1:], Key: []int{0}}
	p, reason := newPlan(d, &tableMap{columns: []mappedColumn{{kind: wire.MYSQL_TYPE_LONG}, c.told}}, shape)
	if reason != "" {
		t.Fatal(reason)
	}
	e := testEncoder(t, shape)
	e.Reset()
	rest, err := p.decodeImage(append([]byte{0, 1, 0, 0, 0}, bytes...), []byte{3}, e)
	if err != nil {
		return "", err
	}
	if len(rest) > 0 {
		return "", fmt.Errorf("%d bytes are left", len(rest))
	}
	key, err := e.AppendKey(nil)
	if err != nil {
		return "", err
	}
	text, err := shape.KeyJSON(key)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(text), `{"v":`), "}"), nil
}

func TestTimesInRowImages(t *testing.T) {
	type sort struct {
		declared string
		kind     columnType
		meta     uint16
	}
	tests := []struct {
		sort
		image, want string
	}{
		// The table in my_time_packed_to_binary's comment (mysys/my_time.cc of the servers' source).
		{sort{"time(2)", wire.MYSQL_TYPE_TIME2, 2}, "800000 00", `"00:00:00"`},
		{sort{"time(2)", wire.MYSQL_TYPE_TIME2, 2}, "7fffff ff", `"-00:00:00.01"`},
		{sort{"time(2)", wire.MYSQL_TYPE_TIME2, 2}, "7fffff 9d", `"-00:00:00.99"`},
		{sort{"time(2)", wire.MYSQL_TYPE_TIME2, 2}, "7fffff 00", `"-00:00:01"`},
		{sort{"time(2)", wire.MYSQL_TYPE_TIME2, 2}, "7ffffe ff", `"-00:00:01.01"`},
		{sort{"time(2)", wire.MYSQL_TYPE_TIME2, 2}, "7ffffe f6", `"-00:00:01.1"`},
		{sort{"time(4)", wire.MYSQL_TYPE_TIME2, 4}, "7fffff ffff", `"-00:00:00.0001"`},
		{sort{"time(4)", wire.MYSQL_TYPE_TIME2, 4}, "7fffff d8f1", `"-00:00:00.9999"`},
		{sort{"time(6)", wire.MYSQL_TYPE_TIME2, 6}, "7fffff ffffff", `"-00:00:00.000001"`},
		{sort{"time", wire.MYSQL_TYPE_TIME2, 0}, "b46efb", `"838:59:59"`},
		{sort{"time", wire.MYSQL_TYPE_TIME2, 0}, "4b9105", `"-838:59:59"`},
		{sort{"datetime(6)", wire.MYSQL_TYPE_DATETIME2, 6}, "8000000000 000000", `"0000-00-00T00:00:00"`},
		{sort{"datetime", wire.MYSQL_TYPE_DATETIME2, 0}, "99b2bb2138", `"2024-02-29T18:04:56"`},
		{sort{"datetime(1)", wire.MYSQL_TYPE_DATETIME2, 1}, "99b21e0000 5a", `"2024-00-15T00:00:00.9"`},
		{sort{"timestamp(6)", wire.MYSQL_TYPE_TIMESTAMP2, 6}, "00000000 000000", `"0000-00-00T00:00:00Z"`},
		{sort{"timestamp(6)", wire.MYSQL_TYPE_TIMESTAMP2, 6}, "00000001 000001", `"1970-01-01T00:00:01.000001Z"`},
		{sort{"timestamp(1)", wire.MYSQL_TYPE_TIMESTAMP2, 1}, "7fffffff 5a", `"2038-01-19T03:14:07.9Z"`},
		{sort{"timestamp", wire.MYSQL_TYPE_TIMESTAMP2, 0}, "ffffffff", `"2106-02-07T06:28:15Z"`}, // MariaDB from 11.5 on
		{sort{"date", wire.MYSQL_TYPE_DATE, 0}, "000000", `"0000-00-00"`},
		{sort{"date", wire.MYSQL_TYPE_DATE, 0}, "0fd00f", `"2024-00-15"`},
		{sort{"date", wire.MYSQL_TYPE_NEWDATE, 0}, "9f1f4e", `"9999-12-31"`},
		{sort{"year", wire.MYSQL_TYPE_YEAR, 0}, "00", "0"},
		{sort{"year", wire.MYSQL_TYPE_YEAR, 0}, "ff", "2155"},
		// From before MySQL 5.6.
		{sort{"time", wire.MYSQL_TYPE_TIME, 0}, "a7f57f", `"838:59:59"`},
		{sort{"time", wire.MYSQL_TYPE_TIME, 0}, "590a80", `"-838:59:59"`},
		{sort{"time", wire.MYSQL_TYPE_TIME, 0}, "ffffff", `"-00:00:01"`},
		{sort{"time", wire.MYSQL_TYPE_TIME, 0}, "f88a01", `"10:11:12"`},
		{sort{"datetime", wire.MYSQL_TYPE_DATETIME, 0}, "28a4ab8b68120000", `"2024-02-29T18:04:56"`},
		{sort{"datetime", wire.MYSQL_TYPE_DATETIME, 0}, "7787d105f15a0000", `"9999-12-31T23:59:59"`},
		{sort{"datetime", wire.MYSQL_TYPE_DATETIME, 0}, "0000000000000000", `"0000-00-00T00:00:00"`},
		{sort{"timestamp", wire.MYSQL_TYPE_TIMESTAMP, 0}, "01000000", `"1970-01-01T00:00:01Z"`},
		{sort{"timestamp", wire.MYSQL_TYPE_TIMESTAMP, 0}, "00000000", `"0000-00-00T00:00:00Z"`},
	}
	for _, tt := range tests {
		if got, err := valueOf(t, kindOf(tt.declared, "", tt.kind, tt.meta), tt.image); err != nil || got != tt.want {
			t.Errorf("%s %s: %s, %v; want %s", tt.declared, tt.image, got, err, tt.want)
		}
	}
}

func TestTimesThatCannotBeAreErrors(t *testing.T) {
	for image, kind := range map[string]kindCase{
		"b47000":           kindOf("time", "", wire.MYSQL_TYPE_TIME2, 0),              // 839 hours
		"800f00":           kindOf("time", "", wire.MYSQL_TYPE_TIME2, 0),              // 60 minutes
		"80003c":           kindOf("time", "", wire.MYSQL_TYPE_TIME2, 0),              // 60 seconds
		"800000 64":        kindOf("time(2)", "", wire.MYSQL_TYPE_TIME2, 2),           // a second of fraction
		"7fffffffff":       kindOf("datetime", "", wire.MYSQL_TYPE_DATETIME2, 0),      // less than nothing
		"99b2bb8138":       kindOf("datetime", "", wire.MYSQL_TYPE_DATETIME2, 0),      // 24 hours
		"ffffffffff":       kindOf("datetime", "", wire.MYSQL_TYPE_DATETIME2, 0),      // the year 10082
		"99b2bb2138 64":    kindOf("datetime(2)", "", wire.MYSQL_TYPE_DATETIME2, 2),   // a second of fraction
		"00000001 0f4240":  kindOf("timestamp(6)", "", wire.MYSQL_TYPE_TIMESTAMP2, 6), // the same
		"a0ffff":           kindOf("date", "", wire.MYSQL_TYPE_DATE, 0),               // the year 32767
		"ffffffffffffffff": kindOf("datetime", "", wire.MYSQL_TYPE_DATETIME, 0),
	} {
		if got, err := valueOf(t, kind, image); err == nil {
			t.Errorf("%s %s is %s", kind.kind.ColumnType, image, got)
		}
	}
}

// everyKind is a column of each type that the log may have.
var everyKind = []kindCase{
	kindOf("tinyint", "", wire.MYSQL_TYPE_TINY, 0), kindOf("smallint unsigned", "", wire.MYSQL_TYPE_SHORT, 0), kindOf("mediumint", "", wire.MYSQL_TYPE_INT24, 0),
	kindOf("int unsigned", "", wire.MYSQL_TYPE_LONG, 0), kindOf("bigint unsigned", "", wire.MYSQL_TYPE_LONGLONG, 0), kindOf("year", "", wire.MYSQL_TYPE_YEAR, 0),
	kindOf("bit(10)", "", wire.MYSQL_TYPE_BIT, 1<<8|2), kindOf("decimal(65,30)", "", wire.MYSQL_TYPE_NEWDECIMAL, 65<<8|30), kindOf("float", "", wire.MYSQL_TYPE_FLOAT, 4),
	kindOf("double", "", wire.MYSQL_TYPE_DOUBLE, 8), kindOf("char(100)", "utf8mb4", wire.MYSQL_TYPE_STRING, 400), kindOf("char(5)", "latin1", wire.MYSQL_TYPE_STRING, 5),
	kindOf("varchar(300)", "latin1", wire.MYSQL_TYPE_VARCHAR, 300), kindOf("text", "gbk", wire.MYSQL_TYPE_BLOB, 2), kindOf("binary(4)", "", wire.MYSQL_TYPE_STRING, 4),
	kindOf("uuid", "", wire.MYSQL_TYPE_STRING, 16), kindOf("enum('a','b')", "utf8mb4", wire.MYSQL_TYPE_ENUM, 1), kindOf("set('a','b','c')", "utf8mb4", wire.MYSQL_TYPE_SET, 1),
	kindOf("varchar(10)", "utf8mb4", typeVarcharCompressed, 41), kindOf("longblob", "", typeBlobCompressed, 4), kindOf("geometry", "", wire.MYSQL_TYPE_GEOMETRY, 4),
	kindOf("vector", "", wire.MYSQL_TYPE_VECTOR, 4), kindOf("date", "", wire.MYSQL_TYPE_DATE, 0), kindOf("time(3)", "", wire.MYSQL_TYPE_TIME2, 3), kindOf("time(3)", "", wire.MYSQL_TYPE_TIME, 0),
	kindOf("time", "", wire.MYSQL_TYPE_TIME, 0), kindOf("datetime(5)", "", wire.MYSQL_TYPE_DATETIME2, 5), kindOf("datetime(5)", "", wire.MYSQL_TYPE_DATETIME, 0),
	kindOf("datetime", "", wire.MYSQL_TYPE_DATETIME, 0), kindOf("timestamp(6)", "", wire.MYSQL_TYPE_TIMESTAMP2, 6), kindOf("timestamp(6)", "", wire.MYSQL_TYPE_TIMESTAMP, 0),
	kindOf("timestamp", "", wire.MYSQL_TYPE_TIMESTAMP, 0),
}

// FuzzValues wants of any bytes a value that can be shown and read again, or an error that names the column, and no panic.
func FuzzValues(f *testing.F) {
	for i := range everyKind {
		f.Add(uint8(i), []byte("\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		f.Add(uint8(i), []byte("\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	}
	f.Add(uint8(18), []byte("\x0b\x81\x05\x78\x9c\x4b\x4c\x4a\x4e\x49\x05\x00"))
	f.Fuzz(func(t *testing.T, choice uint8, image []byte) {
		c := everyKind[int(choice)%len(everyKind)]
		text, err := valueOf(t, c, hex.EncodeToString(image))
		if err != nil {
			if !strings.Contains(err.Error(), `column "v"`) && !strings.Contains(err.Error(), "are left") {
				t.Errorf("%s: error is %v", c.kind.ColumnType, err)
			}
			return
		}
		d := definedAs(c.kind)
		shape := digest.Shape{Table: d.name, Columns: shapeOf(d).Columns[1:], Key: []int{0}}
		if _, err := shape.ParseKey([]byte(`{"v":` + text + `}`)); err != nil {
			t.Errorf("%s: %s cannot be read again: %v", c.kind.ColumnType, text, err)
		}
	})
}

// FuzzRows wants no panic, and no image that takes no bytes.
func FuzzRows(f *testing.F) {
	for _, capture := range captures {
		for _, event := range rowsOf(f, capture.file) {
			f.Add(event.kind, event.body)
		}
	}
	f.Add(byte(166), []byte("\x01\x00\x00\x00\x00\x00\x01\x00\x01\xff\x81\x04\x78\x9c"))
	readers := []*logReader{
		readerOf(f, ordersDefinition("json"), rowsOf(f, captures[0].file)[0]), readerOf(f, ordersDefinition("longtext"), rowsOf(f, captures[1].file)[0]),
		readerOf(f, oddDefinition(), rowsOf(f, captures[0].file)[1]),
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		h, err := parseRows(kind, body, 6)
		if err != nil {
			return
		}
		for _, r := range readers {
			for data := h.data; len(data) > 0; {
				r.encoder.Reset()
				rest, err := r.decodeImage(data, h.present, r.encoder)
				if err != nil {
					break
				}
				if len(rest) >= len(data) {
					t.Fatal("an image without a byte")
				}
				data = rest
			}
		}
	})
}
