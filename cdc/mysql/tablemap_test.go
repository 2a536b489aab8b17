package mysql

import (
	"bytes"
	"testing"

	wire "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/go-cmp/cmp"
)

func TestTableMapOfARealLogIsRead(t *testing.T) {
	want := func(mariadb bool) *tableMap {
		m := &tableMap{schema: "shop", table: "orders", signedness: true, names: true, labels: true, key: []mappedKey{{column: 0}}, columns: []mappedColumn{
			{name: "id", kind: wire.MYSQL_TYPE_LONGLONG, unsigned: true},
			{name: "customer", kind: wire.MYSQL_TYPE_STRING, meta: 16, collation: 63},
			{name: "email", kind: wire.MYSQL_TYPE_VARCHAR, meta: 400, collation: 255},
			{name: "status", kind: wire.MYSQL_TYPE_ENUM, meta: 1, collation: 255, labels: []string{"new", "paid", "shipped"}},
			{name: "amount", kind: wire.MYSQL_TYPE_NEWDECIMAL, meta: 10<<8 | 2},
			{name: "weight", kind: wire.MYSQL_TYPE_DOUBLE, meta: 8, nullable: true},
			{name: "paid", kind: wire.MYSQL_TYPE_TINY},
			{name: "note", kind: wire.MYSQL_TYPE_BLOB, meta: 2, nullable: true, collation: 255},
			{name: "created", kind: wire.MYSQL_TYPE_TIMESTAMP2, meta: 6, nullable: true},
			{name: "attributes", kind: wire.MYSQL_TYPE_JSON, meta: 4, nullable: true},
		}}
		if mariadb {
			m.columns[9].kind, m.columns[9].collation = wire.MYSQL_TYPE_BLOB, 46
			for _, i := range []int{2, 3, 7} {
				m.columns[i].collation = 45
			}
		}
		return m
	}
	for _, capture := range captures {
		got, err := parseTableMap(rowsOf(t, capture.file)[0].description, 6)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want(capture.json != "json"), got, cmp.AllowUnexported(tableMap{}, mappedColumn{}, mappedKey{})); diff != "" {
			t.Errorf("%s: %s", capture.file, diff)
		}
	}
}

// What a MariaDB server says of collations is off by the geometries, so nothing is taken from it.
func TestCollationsBesideGeometriesAreNotTaken(t *testing.T) {
	for _, capture := range captures {
		m, err := parseTableMap(rowsOf(t, capture.file)[1].description, 6)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range m.columns {
			if c.text() && c.collation != 0 {
				t.Errorf("%s: column %s has collation %d", capture.file, c.name, c.collation)
			}
		}
		if diff := cmp.Diff([]string{"x", "y", "a'b"}, m.columns[2].labels); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]mappedKey{{column: 1}, {column: 0}}, m.key, cmp.AllowUnexported(mappedKey{})); diff != "" {
			t.Error(diff)
		}
		if label := m.columns[3].labels[0]; label != "\xe9" {
			t.Errorf("the label of a latin1 column is %q", label)
		}
	}
}

func TestTableMapThatEndsTooEarlyIsAnError(t *testing.T) {
	for _, capture := range captures {
		for _, event := range rowsOf(t, capture.file)[:2] {
			whole, err := parseTableMap(event.description, 6)
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(event.description) {
				m, err := parseTableMap(event.description[:n], 6)
				if err == nil && len(m.columns) != len(whole.columns) {
					t.Errorf("the first %d bytes are another table", n)
				}
			}
		}
	}
}

func TestWideCharactersHaveTheirWidth(t *testing.T) {
	for meta, want := range map[string]mappedColumn{
		"\xfe\x28": {kind: wire.MYSQL_TYPE_STRING, meta: 40},
		"\xee\x90": {kind: wire.MYSQL_TYPE_STRING, meta: 400}, // char(100) of utf8mb4
		"\xce\xfc": {kind: wire.MYSQL_TYPE_STRING, meta: 1020},
		"\xf7\x02": {kind: wire.MYSQL_TYPE_ENUM, meta: 2},
		"\xf8\x08": {kind: wire.MYSQL_TYPE_SET, meta: 8},
	} {
		c := cursor{rest: []byte(meta)}
		if diff := cmp.Diff(want, c.column(wire.MYSQL_TYPE_STRING), cmp.AllowUnexported(mappedColumn{})); diff != "" || c.short {
			t.Errorf("%x: %s", meta, diff)
		}
	}
}

func TestPrefixesInAPrimaryKeyAreRead(t *testing.T) {
	m := &tableMap{columns: make([]mappedColumn, 3)}
	value := cursor{rest: []byte{2, 0, 1, 5}}
	m.primaryKey(&value, true)
	if diff := cmp.Diff([]mappedKey{{column: 2}, {column: 1, prefix: true}}, m.key, cmp.AllowUnexported(mappedKey{})); diff != "" || value.short {
		t.Error(diff)
	}
	value = cursor{rest: []byte{3}}
	if m.primaryKey(&value, false); !value.short {
		t.Error("a column that the table does not have is part of its key")
	}
}

func TestPackedIntegersAreBounded(t *testing.T) {
	tests := []struct {
		packed string
		want   uint64
		short  bool
	}{
		{"\x00", 0, false}, {"\xfa", 250, false}, {"\xfc\xfb\x00", 251, false}, {"\xfd\x01\x02\x03", 0x030201, false}, {"\xfe\x01\x00\x00\x00\x00\x00\x00\x80", 1<<63 + 1, false},
		{"", 0, true}, {"\xfb", 0, true}, {"\xff", 0, true}, {"\xfc\x01", 0, true}, {"\xfe\x01\x02\x03", 0, true},
	}
	for _, tt := range tests {
		c := cursor{rest: []byte(tt.packed)}
		if got := c.packed(); got != tt.want || c.short != tt.short {
			t.Errorf("%x: %d, short %t", tt.packed, got, c.short)
		}
	}
	c := cursor{rest: []byte("\xfe\xff\xff\xff\xff\xff\xff\xff\xff")}
	if n := c.length(); n != 0 || !c.short {
		t.Errorf("a length of %d in 9 bytes", n)
	}
}

// FuzzTableMap wants no panic, and the same description of the same bytes.
func FuzzTableMap(f *testing.F) {
	for _, capture := range captures {
		for _, event := range rowsOf(f, capture.file) {
			f.Add(event.description)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseTableMap(body, 6)
		again, err2 := parseTableMap(bytes.Clone(body), 6)
		if (err == nil) != (err2 == nil) || !cmp.Equal(m, again, cmp.AllowUnexported(tableMap{}, mappedColumn{}, mappedKey{})) {
			t.Error("one body has two descriptions")
		}
		if err != nil {
			return
		}
		for _, d := range []*definition{ordersDefinition("json"), ordersDefinition("longtext"), oddDefinition()} {
			if p, reason := newPlan(d, m, shapeOf(d)); (p == nil) == (reason == "") {
				t.Errorf("a plan %v and a reason %q", p, reason)
			}
		}
	})
}
