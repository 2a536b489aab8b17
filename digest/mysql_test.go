package digest

import (
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMySQLTypesHaveClasses(t *testing.T) {
	tests := []struct {
		dataType, columnType, charset string
		class                         Class
		typ                           string
	}{
		{"tinyint", "tinyint(1)", "", Int, ""},
		{"mediumint", "mediumint(8) unsigned", "", Int, ""},
		{"bigint", "bigint(20) unsigned", "", Int, ""},
		{"year", "year(4)", "", Int, ""},
		{"bit", "bit(64)", "", Int, ""},
		{"decimal", "decimal(10,2)", "", Decimal, ""},
		{"float", "float(7,3)", "", Float, TypeFloat4},
		{"double", "double", "", Float, ""},
		{"char", "char(5)", "utf8mb4", Text, TypeBPChar},
		{"varchar", "varchar(5)", "utf8mb3", Text, ""},
		{"varchar", "varchar(5)", "utf8", Text, ""},
		{"text", "text", "ascii", Text, ""},
		{"longtext", "longtext", "latin1", Text, ""}, // and MariaDB's JSON
		{"varchar", "varchar(5)", "gbk", Bytes, "charset gbk"},
		{"char", "char(5)", "ucs2", Bytes, "charset ucs2"},
		{"text", "text", "", Bytes, "charset "}, // no server does that
		{"enum", "enum('a')", "gbk", Text, ""},
		{"set", "set('a')", "latin1", Text, ""},
		{"binary", "binary(16)", "", Bytes, ""},
		{"longblob", "longblob", "", Bytes, ""},
		{"uuid", "uuid", "", UUID, ""},
		{"inet4", "inet4", "", Bytes, TypeINET4},
		{"inet6", "inet6", "", Bytes, TypeINET6},
		{"date", "date", "", Date, ""},
		{"time", "time(3)", "", Time, ""},
		{"datetime", "datetime(6)", "", Timestamp, ""},
		{"timestamp", "timestamp", "", Instant, ""},
		{"json", "json", "", JSON, ""},
		{"point", "point", "", Bytes, TypeGeometry},
		{"geomcollection", "geomcollection", "", Bytes, TypeGeometry},
		{"vector", "vector(3)", "", Bytes, TypeVector},
		{"xmltype", "xmltype", "utf8mb4", Verbatim, "mysql xmltype"},
		{"", "", "", Verbatim, "mysql "},
	}
	for _, tt := range tests {
		want := Column{Name: "v", Class: tt.class, Type: tt.typ}
		got := MySQLColumn("v", MySQLType{DataType: tt.dataType, ColumnType: tt.columnType, Charset: tt.charset})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: %s", tt.columnType, tt.charset, diff)
		}
		if err := got.validate(); err != nil {
			t.Errorf("%s: %v", tt.columnType, err)
		}
	}
}

func TestSameTypesOfBothEnginesAreComparable(t *testing.T) {
	for mysql, postgres := range map[string]string{
		"bigint": "int8", "decimal": "numeric", "float": "float4", "double": "float8", "char": "bpchar", "text": "text", "varbinary": "bytea", "uuid": "uuid",
		"date": "date", "time": "time", "datetime": "timestamp", "timestamp": "timestamptz", "json": "jsonb",
	} {
		here := MySQLColumn("v", MySQLType{DataType: mysql, Charset: "utf8mb4"})
		if there := PostgresColumn("v", PostgresType{Name: postgres}); !here.Comparable(there) {
			t.Errorf("%s and %s: %+v, %+v", mysql, postgres, here, there)
		}
	}
}

// mysqlKey is the key of a column that set sets.
func mysqlKey(t testing.TB, class Class, set func(*Encoder)) (Shape, Key, error) {
	t.Helper()
	s := Shape{Table: "t", Columns: []Column{{Name: "k", Class: class}}, Key: []int{0}}
	e := testEncoder(t, s)
	e.Reset()
	set(e)
	k, err := e.AppendKey(nil)
	return s, k, err
}

func TestDatesThatNoCalendarHasAreValues(t *testing.T) {
	tests := []struct {
		year, month, day int
		want             string
	}{
		{0, 0, 0, "0000-00-00"},
		{0, 0, 1, "0000-00-01"},
		{0, 2, 30, "0000-02-30"},
		{2023, 2, 29, "2023-02-29"},
		{2024, 0, 0, "2024-00-00"},
		{2024, 0, 15, "2024-00-15"},
		{2024, 2, 0, "2024-02-00"},
		{2024, 4, 31, "2024-04-31"},
		{9999, 11, 31, "9999-11-31"},
		{0, 1, 1, "0000-01-01"}, // from here on they are in the calendar
		{0, 2, 29, "0000-02-29"},
		{1969, 12, 31, "1969-12-31"},
		{2024, 2, 29, "2024-02-29"},
		{9999, 12, 31, "9999-12-31"},
	}
	for class, suffix := range map[Class]string{Date: "", Timestamp: "T18:04:56.5", Instant: "T18:04:56.5Z"} {
		var before Key
		for _, tt := range tests {
			const us = ((18*60+4)*60+56)*secondMicroseconds + 500_000
			s, k, err := mysqlKey(t, class, func(e *Encoder) {
				switch class {
				case Date:
					e.CivilDate(0, tt.year, tt.month, tt.day)
				case Timestamp:
					e.CivilTimestamp(0, tt.year, tt.month, tt.day, us)
				default:
					e.CivilInstant(0, tt.year, tt.month, tt.day, us)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if k.Compare(before) <= 0 {
				t.Errorf("%s %s is not after the one before", class, tt.want)
			}
			before = k
			if got, err := s.KeyJSON(k); err != nil || string(got) != `{"k":"`+tt.want+suffix+`"}` {
				t.Errorf("%s %s reads %s, %v", class, tt.want, got, err)
			}
			checkKeyRoundTrip(t, s, k)
		}
	}
}

func TestCivilTimesAreTheSameAsCounted(t *testing.T) {
	at := time.Date(2026, 11, 23, 18, 4, 56, 123456000, time.UTC)
	us := at.UnixMicro() - at.Truncate(24*time.Hour).UnixMicro()
	for class, sets := range map[Class][2]func(*Encoder){
		Date:      {func(e *Encoder) { e.CivilDate(0, 2026, 11, 23) }, func(e *Encoder) { e.Date(0, at.Unix()/86400) }},
		Timestamp: {func(e *Encoder) { e.CivilTimestamp(0, 2026, 11, 23, us) }, func(e *Encoder) { e.Timestamp(0, at.UnixMicro()) }},
		Instant:   {func(e *Encoder) { e.CivilInstant(0, 2026, 11, 23, us) }, func(e *Encoder) { e.Instant(0, at.UnixMicro()) }},
	} {
		_, civil, err := mysqlKey(t, class, sets[0])
		_, counted, err2 := mysqlKey(t, class, sets[1])
		if err != nil || err2 != nil || civil.Compare(counted) != 0 {
			t.Errorf("%s: %x, %v; %x, %v", class, civil, err, counted, err2)
		}
	}
}

func TestDatesThatMySQLCannotHaveAreErrors(t *testing.T) {
	for _, d := range [][3]int{{-1, 1, 1}, {10000, 1, 1}, {2024, 13, 1}, {2024, -1, 1}, {2024, 1, 32}, {2024, 1, -1}} {
		if _, k, err := mysqlKey(t, Date, func(e *Encoder) { e.CivilDate(0, d[0], d[1], d[2]) }); err == nil {
			t.Errorf("%v has key %x", d, k)
		}
	}
	for _, us := range []int64{-1, dayMicroseconds} {
		if _, k, err := mysqlKey(t, Instant, func(e *Encoder) { e.CivilInstant(0, 2024, 1, 1, us) }); err == nil {
			t.Errorf("%d microseconds have key %x", us, k)
		}
	}
}

func TestDaysAreThoseOfTheCalendar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		year, month, day := rapid.IntRange(-9999999, 9999999).Draw(t, "year"), rapid.IntRange(0, 14).Draw(t, "month"), rapid.IntRange(0, 40).Draw(t, "day")
		date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
		days, ok := daysSince1970(year, month, day)
		if exists := date.Year() == year && int(date.Month()) == month && date.Day() == day; ok != exists || ok && days != date.Unix()/86400 {
			t.Errorf("%d-%d-%d: %d, %t; want %d, %t", year, month, day, days, ok, date.Unix()/86400, exists)
		}
	})
}

func TestDecimalDigitsAreTheSameAsText(t *testing.T) {
	for _, tt := range []struct {
		negative bool
		digits   string
		whole    int
		text     string
	}{
		{false, "0000150", 5, "1.50"},
		{true, "0000150", 5, "-1.5"},
		{true, "00000", 3, "0"},
		{false, "000", 0, "-0"},
		{false, "", 0, "0"},
		{false, "000000001", 0, "1e-9"},
		{true, strings.Repeat("9", 65), 35, "-" + strings.Repeat("9", 35) + "." + strings.Repeat("9", 30)},
		{false, "100", 3, "100"},
	} {
		_, digits, err := mysqlKey(t, Decimal, func(e *Encoder) { e.DecimalDigits(0, tt.negative, []byte(tt.digits), tt.whole) })
		_, text, err2 := mysqlKey(t, Decimal, func(e *Encoder) {
			if err := e.Decimal(0, []byte(tt.text)); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil || err2 != nil || digits.Compare(text) != 0 {
			t.Errorf("%s: %x, %v; %x, %v", tt.text, digits, err, text, err2)
		}
	}
}

func TestBytesArePaddedAndTextIsAppended(t *testing.T) {
	s, k, err := mysqlKey(t, Bytes, func(e *Encoder) { e.PaddedBytes(0, []byte{1, 2}, 4) })
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.KeyJSON(k); err != nil || string(got) != `{"k":"\\x01020000"}` {
		t.Errorf("%s, %v", got, err)
	}
	s, k, err = mysqlKey(t, Text, func(e *Encoder) { e.TextFrom(0, func(dst []byte) []byte { return append(dst, "a,b"...) }) })
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.KeyJSON(k); err != nil || string(got) != `{"k":"a,b"}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestSettersOfAnotherClassAreErrors(t *testing.T) {
	for name, set := range map[string]func(*Encoder){
		"date":      func(e *Encoder) { e.CivilDate(0, 2024, 1, 1) },
		"timestamp": func(e *Encoder) { e.CivilTimestamp(0, 2024, 1, 1, 0) },
		"instant":   func(e *Encoder) { e.CivilInstant(0, 2024, 1, 1, 0) },
		"decimal":   func(e *Encoder) { e.DecimalDigits(0, false, []byte("1"), 1) },
		"text":      func(e *Encoder) { e.TextFrom(0, func(dst []byte) []byte { return dst }) },
		"bytes":     func(e *Encoder) { e.PaddedBytes(0, nil, 1) },
		"json":      func(e *Encoder) { _ = e.JSONTree(0, func(w *JSONWriter) error { w.Null(); return nil }) },
	} {
		if _, k, err := mysqlKey(t, Int, set); err == nil {
			t.Errorf("%s: an integer has key %x", name, k)
		}
	}
}

// The vectors pin what is in users' stores, as those of TestStoredFormatIsUnchanged do.
func TestStoredFormatOfMySQLIsUnchanged(t *testing.T) {
	s := testShape([]Column{
		MySQLColumn("id", MySQLType{DataType: "bigint"}), MySQLColumn("day", MySQLType{DataType: "date"}), MySQLColumn("at", MySQLType{DataType: "timestamp"}),
		MySQLColumn("civil", MySQLType{DataType: "datetime"}), MySQLColumn("span", MySQLType{DataType: "time"}), MySQLColumn("amount", MySQLType{DataType: "decimal"}),
		MySQLColumn("address", MySQLType{DataType: "inet4"}), MySQLColumn("doc", MySQLType{DataType: "json"}), MySQLColumn("name", MySQLType{DataType: "char", Charset: "latin1"}),
	}, "day", "civil", "at", "span", "amount", "address", "name", "id")
	e, err := NewEncoder(NewHasher([32]byte([]byte("a fixed secret of 32 bytes......"))), s)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) int {
		return slices.IndexFunc(s.Columns, func(c Column) bool { return c.Name == name })
	}
	e.Reset()
	e.Uint(at("id"), math.MaxUint64)
	e.CivilDate(at("day"), 2024, 0, 15)
	e.CivilInstant(at("at"), 0, 0, 0, 0)
	e.CivilTimestamp(at("civil"), 2024, 2, 30, 1)
	e.Time(at("span"), -maxTime)
	e.DecimalDigits(at("amount"), true, []byte("1250"), 2)
	e.PaddedBytes(at("address"), []byte{10}, 4)
	e.Text(at("name"), []byte("é"))
	err = e.JSONTree(at("doc"), func(w *JSONWriter) error {
		return w.write([]jsonMember{{"b", []any{1.5, nil}}, {"a", "x"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := e.AppendKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var r Row
	if err := e.Row(&r); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(key); got != goldenMySQLKey {
		t.Errorf("key is\n%s", got)
	}
	if got := r.Digest.String(); got != goldenMySQLRow {
		t.Errorf("row is\n%s", got)
	}
}

const (
	goldenMySQLKey = "0207e8000f" + "0207e8021e8101" + "020000000080" + "79fcb9cf476001" + // day, civil, at, span
		"207ffffffdf2ccff" + "0a00ff00ff00ff0001" + "c3a90001" + "88ffffffffffffffff" // amount, address, name, id
	goldenMySQLRow = "85cfa7c0de12409e5ff9a56f7a890ffe"
)
