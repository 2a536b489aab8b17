package mysql

import (
	"strings"
	"testing"

	wire "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/digest"
)

// described is a table with a key and one more column, as the log has it under full metadata.
func described(c mappedColumn) *tableMap {
	return &tableMap{schema: "s", table: "t", signedness: true, names: true, labels: true, columns: []mappedColumn{{name: "id", kind: wire.MYSQL_TYPE_LONG}, c}}
}

// definedAs is the same table as the catalog has it.
func definedAs(t digest.MySQLType) *definition {
	return &definition{schema: "s", table: "t", name: "s.t", key: []keyPart{{column: "id"}}, columns: []columnDefinition{
		{name: "id", kind: digest.MySQLType{DataType: "int", ColumnType: "int"}}, {name: "v", kind: t},
	}}
}

func catalogType(columnType, charset string) digest.MySQLType {
	dataType := columnType[:len(columnType)-len(strings.TrimLeft(columnType, "abcdefghijklmnopqrstuvwxyz"))]
	return digest.MySQLType{DataType: dataType, ColumnType: columnType, Charset: charset, Unsigned: strings.HasSuffix(columnType, "unsigned")}
}

func TestDriftBetweenLogAndCatalogIsNamed(t *testing.T) {
	tests := []struct {
		name string
		log  mappedColumn
		was  digest.MySQLType
		want string
	}{
		{"same", mappedColumn{name: "V", kind: wire.MYSQL_TYPE_LONG}, catalogType("int", ""), ""},
		{"renamed", mappedColumn{name: "w", kind: wire.MYSQL_TYPE_LONG}, catalogType("int", ""), `column "w" was added`},
		{"sign", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_LONG, unsigned: true}, catalogType("int", ""), `column "v" changed its sign: it was int`},
		{"no sign", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_LONG}, catalogType("int unsigned", ""), `column "v" changed its sign: it was int unsigned`},
		{"wider", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_LONGLONG}, catalogType("int", ""), `column "v" changed: it was int, the log has bigint`},
		{"scale", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_NEWDECIMAL, meta: 10<<8 | 4}, catalogType("decimal(10,2)", ""), `column "v" changed: it was decimal(10,2), the log has decimal(10,4)`},
		{"no scale", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_NEWDECIMAL, meta: 2<<8 | 4}, catalogType("decimal(10,2)", ""), `the log has decimal(2,4)`},
		{"fraction", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_DATETIME2, meta: 3}, catalogType("datetime", ""), `column "v" changed: it was datetime, the log has datetime(3)`},
		{"bits", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BIT, meta: 1<<8 | 1}, catalogType("bit(10)", ""), `the log has bit(9)`},
		{"too many bits", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BIT, meta: 9 << 8}, catalogType("bit(64)", ""), `the log has bit(72)`},
		{"longer", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_VARCHAR, meta: 160}, catalogType("varchar(20)", "utf8mb4"), `the log has varchar or varbinary of 160 bytes`},
		{"wider padding", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_STRING, meta: 8}, catalogType("binary(4)", ""), `the log has char or binary of 8 bytes`},
		{"charset", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_VARCHAR, meta: 20, collation: 8}, catalogType("varchar(5)", "utf8mb4"), `column "v" changed from character set utf8mb4 to latin1`},
		{"bytes to text", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 2, collation: 45}, catalogType("blob", ""), `column "v" changed from character set binary to utf8mb4`},
		{"text to bytes", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 2, collation: 63}, catalogType("text", "latin1"), `column "v" changed from character set latin1 to binary`},
		{"collation alone", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 2, collation: 46}, catalogType("text", "utf8mb4"), ""},
		{"unknown collation", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 2, collation: 9999}, catalogType("text", "utf8mb4"), ""},
		{"labels in another order", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_ENUM, meta: 1, labels: []string{"b", "a"}}, catalogType("enum('a','b')", "utf8mb4"), `column "v" has label "b" in the log where the catalog has "a"`},
		{"more labels", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_SET, meta: 1, labels: []string{"a", "b"}}, catalogType("set('a')", "utf8mb4"), `column "v" has 2 labels in the log, 1 in the catalog`},
		{"so many labels as bytes", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_ENUM, meta: 2, labels: []string{"a"}}, catalogType("enum('a')", "utf8mb4"), `column "v" changed`},
		{"of MariaDB's json", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 4}, catalogType("json", ""), `the log has text or blob`},
		{"unknown in the log", mappedColumn{name: "v", kind: 200}, catalogType("int", ""), `column "v" is of a type that lockstep cannot read`},
		{"unknown in the catalog", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 4}, catalogType("xmltype", "utf8mb4"), `column "v" is of a type that lockstep cannot read`},
		{"prefix of a blob", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_BLOB, meta: 9}, catalogType("blob", ""), `the log has text or blob`},
		{"fraction of a fraction", mappedColumn{name: "v", kind: wire.MYSQL_TYPE_TIME2, meta: 7}, catalogType("time(6)", ""), `the log has time(7)`},
	}
	for _, tt := range tests {
		d := definedAs(tt.was)
		p, reason := newPlan(d, described(tt.log), shapeOf(d))
		if (reason == "") != (tt.want == "") || !strings.Contains(reason, tt.want) || (p == nil) == (reason == "") {
			t.Errorf("%s: reason is %q, want %q", tt.name, reason, tt.want)
		}
	}
}

func TestColumnsThatCameAndWentAreNamed(t *testing.T) {
	d := definedAs(catalogType("int", ""))
	shape := shapeOf(d)
	column := func(name string) mappedColumn { return mappedColumn{name: name, kind: wire.MYSQL_TYPE_LONG} }
	for want, m := range map[string]*tableMap{
		`column "note" was added`:                       {names: true, columns: []mappedColumn{column("id"), column("v"), column("note")}},
		`column "v" was dropped`:                        {names: true, columns: []mappedColumn{column("id")}},
		`column "v" was moved`:                          {names: true, columns: []mappedColumn{column("v"), column("id")}},
		`it has 3 columns in the log, 2 in the catalog`: {columns: []mappedColumn{column(""), column(""), column("")}},
	} {
		if p, reason := newPlan(d, m, shape); reason != want || p != nil {
			t.Errorf("reason is %q, want %q", reason, want)
		}
	}
	shape.Columns = append(shape.Columns, digest.Column{Name: "w", Class: digest.Int})
	if _, reason := newPlan(d, described(column("v")), shape); reason != `column "w" was dropped or renamed` {
		t.Errorf("reason is %q", reason)
	}
	shape.Columns[1].Class = digest.Text
	if _, reason := newPlan(d, described(column("v")), shape); reason != `column "v" changed from text to int` {
		t.Errorf("reason is %q", reason)
	}
}

func TestAnotherPrimaryKeyIsNamed(t *testing.T) {
	d := definedAs(catalogType("int", ""))
	for want, key := range map[string][]mappedKey{
		"": {{column: 0}},
		"its primary key is (v) in the log, not what it was":     {{column: 1}},
		"its primary key is (id, v) in the log, not what it was": {{column: 0}, {column: 1}},
		"its primary key is (id) in the log, not what it was":    {{column: 0, prefix: true}},
	} {
		m := described(mappedColumn{name: "v", kind: wire.MYSQL_TYPE_LONG})
		m.key = key
		if _, reason := newPlan(d, m, shapeOf(d)); reason != want {
			t.Errorf("reason is %q, want %q", reason, want)
		}
	}
}

// The log was written before columns in front of the key were dropped, or after one was added behind it: it numbers columns
// that the catalog does not have. That ended the process, at every start.
func TestKeyOfColumnsThatTheCatalogLacksIsNoPanic(t *testing.T) {
	d := definedAs(catalogType("int", ""))
	for _, names := range []bool{true, false} {
		m := described(mappedColumn{name: "v", kind: wire.MYSQL_TYPE_LONG})
		m.names = names
		m.columns = append(m.columns, mappedColumn{name: "k2", kind: wire.MYSQL_TYPE_LONG})
		m.key = []mappedKey{{column: 2}}
		if p, reason := newPlan(d, m, shapeOf(d)); p != nil || reason == "" {
			t.Errorf("names told: %v: a plan without doubt", names)
		}
	}
}

// A server with binlog_row_metadata=NO_LOG tells no signs. Taking the numbers for signed ones made two equal servers differ.
func TestSignsComeFromTheCatalogIfTheLogTellsNone(t *testing.T) {
	for columnType, want := range map[string]string{"bigint unsigned": `{"v":18446744073709551615}`, "bigint": `{"v":-1}`} {
		d := definedAs(catalogType(columnType, ""))
		shape := digest.Shape{Table: "s.t", Columns: shapeOf(d).Columns[1:], Key: []int{0}}
		p, reason := newPlan(d, &tableMap{columns: []mappedColumn{{kind: wire.MYSQL_TYPE_LONG}, {kind: wire.MYSQL_TYPE_LONGLONG}}}, shape)
		if reason != "" {
			t.Fatal(reason)
		}
		e := testEncoder(t, shape)
		e.Reset()
		if _, err := p.decodeImage([]byte("\x00\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), []byte{3}, e); err != nil {
			t.Fatal(err)
		}
		if key, _ := encoded(t, shape, e); key != want {
			t.Errorf("%s: %s", columnType, key)
		}
	}
}

func TestLabelsAreReadFromTheTextOfAType(t *testing.T) {
	for text, want := range map[string][]string{
		`enum('a','b')`:                  {"a", "b"},
		`set('a,b','it''s','')`:          {"a,b", "it's", ""},
		`enum('''','\\','\n\r\0','),(')`: {"'", `\`, "\n\r\x00", "),("},
		`enum('é')`:                      {"é"},
		`enum('a') /* comment */`:        {"a"},
	} {
		got, err := parseLabels(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	for _, text := range []string{"", "enum", "enum(", "enum()", "enum('a'", "enum('a',", "enum('a',)", "enum('a)", `enum('a\`, "enum('a' 'b')", "enum(a)"} {
		if got, err := parseLabels(text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestLabelsThatTheCatalogCannotShowComeFromTheLog(t *testing.T) {
	have := &columnDefinition{name: "v", kind: catalogType("enum('?','why?')", "utf8mb4")}
	if _, err := have.labelTexts(&mappedColumn{}); err == nil || !strings.Contains(err.Error(), "binlog_row_metadata=FULL") {
		t.Errorf("error is %v", err)
	}
	got, err := have.labelTexts(&mappedColumn{labels: []string{"😀", "why?"}})
	if diff := cmp.Diff([][]byte{[]byte("😀"), []byte("why?")}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	latin1 := &columnDefinition{name: "v", kind: catalogType("enum('why?')", "latin1")}
	if _, err := latin1.labelTexts(&mappedColumn{}); err != nil {
		t.Errorf("all of latin1 can be shown: %v", err)
	}
}

func TestLabelsInAForeignCharacterSetAreReadIfTheyAreTheSameInAll(t *testing.T) {
	for charset, labels := range map[string]map[string]bool{
		"gbk":   {"a-b_c 1": true, "中": false, "a~": false, `a\`: false},
		"swe7":  {"abc": true, "a[": false},
		"utf16": {"abc": false},
		"ucs2":  {"abc": false},
	} {
		for label, readable := range labels {
			have := &columnDefinition{name: "v", kind: digest.MySQLType{DataType: "enum", ColumnType: "enum(" + quoteText(label) + ")", Charset: charset}}
			_, err := have.labelTexts(&mappedColumn{})
			if (err == nil) != readable {
				t.Errorf("%s %q: %v", charset, label, err)
			}
			e := testEncoder(t, digest.Shape{Table: "t", Columns: []digest.Column{{Name: "v", Class: digest.Text}}, Key: []int{0}})
			e.Reset()
			if err := have.scanText(e, 0, []byte(label)); (err == nil) != readable {
				t.Errorf("%s %q scanned: %v", charset, label, err)
			}
		}
	}
}

func TestLatin1IsWindows1252WithoutHoles(t *testing.T) {
	var all []byte
	for c := range 256 {
		all = append(all, byte(c))
	}
	got := []rune(string(appendLatin1(nil, all)))
	if len(got) != 256 {
		t.Fatalf("%d characters", len(got))
	}
	seen := map[rune]bool{}
	for c, r := range got {
		if (c < 0x80 || c >= 0xa0) && r != rune(c) || seen[r] {
			t.Errorf("byte %x is %U", c, r)
		}
		seen[r] = true
	}
	if text := string(got[0x80:0xa0]); text != "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ" {
		t.Errorf("80 to 9f are %q", text)
	}
}

// The log's numbers are of the log's columns, of which the catalog may have fewer by now.
func TestKeyOfColumnsThatTheCatalogLacks(t *testing.T) {
	d := definedAs(catalogType("int", ""))
	m := &tableMap{columns: make([]mappedColumn, 9), key: []mappedKey{{column: 8}}}
	if reason := compareKeys(d, m); reason != "its primary key is (column 9) in the log, not what it was" {
		t.Errorf("reason is %q", reason)
	}
}
