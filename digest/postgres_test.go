package digest

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"
)

// canonicalOf returns the canonical form that PostgresText makes of text.
func canonicalOf(t testing.TB, c Column, text string) ([]byte, error) {
	t.Helper()
	e := testEncoder(t, Shape{Table: "t", Columns: []Column{{Name: "a", Class: Int}, {Name: "v", Class: c.Class, Type: c.Type}}, Key: []int{0}})
	e.Reset()
	if err := e.PostgresText(1, []byte(text)); err != nil {
		return nil, err
	}
	return e.arena[e.values[1].start:e.values[1].end], nil
}

// setWith returns the canonical form that a setter makes.
func setWith(t testing.TB, class Class, set func(e *Encoder, col int)) []byte {
	t.Helper()
	typ := ""
	if class == Verbatim {
		typ = "x"
	}
	e := testEncoder(t, Shape{Table: "t", Columns: []Column{{Name: "a", Class: Int}, {Name: "v", Class: class, Type: typ}}, Key: []int{0}})
	e.Reset()
	set(e, 1)
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e.arena[e.values[1].start:e.values[1].end]
}

func micros(year int, month time.Month, day, hour, minute, second, us int) int64 {
	t := time.Date(year, month, day, hour, minute, second, us*1000, time.UTC)
	return t.UnixMicro()
}

func days(year int, month time.Month, day int) int64 {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

// The texts are what PostgreSQL 15 prints under the pinned settings.
func TestPostgresTextIsTheValueItPrints(t *testing.T) {
	integer := func(v int64) func(*Encoder, int) { return func(e *Encoder, col int) { e.Int(col, v) } }
	float := func(v float64) func(*Encoder, int) { return func(e *Encoder, col int) { e.Float(col, v) } }
	raw := func(v string) func(*Encoder, int) { return func(e *Encoder, col int) { e.Text(col, []byte(v)) } }
	date := func(v int64) func(*Encoder, int) { return func(e *Encoder, col int) { e.Date(col, v) } }
	clock := func(v int64) func(*Encoder, int) { return func(e *Encoder, col int) { e.Time(col, v) } }
	timestamp := func(v int64) func(*Encoder, int) { return func(e *Encoder, col int) { e.Timestamp(col, v) } }
	instant := func(v int64) func(*Encoder, int) { return func(e *Encoder, col int) { e.Instant(col, v) } }
	infinity := func(sign int) func(*Encoder, int) { return func(e *Encoder, col int) { e.Infinity(col, sign) } }
	binary := func(v string) func(*Encoder, int) { return func(e *Encoder, col int) { e.Bytes(col, []byte(v)) } }
	verbatim := func(v string) func(*Encoder, int) { return func(e *Encoder, col int) { e.Verbatim(col, []byte(v)) } }

	tests := []struct {
		typ, text string
		set       func(*Encoder, int)
	}{
		{"bool", "t", integer(1)},
		{"bool", "f", integer(0)},
		{"int2", "-32768", integer(math.MinInt16)},
		{"int8", "-9223372036854775808", integer(math.MinInt64)},
		{"int8", "9223372036854775807", integer(math.MaxInt64)},
		{"oid", "4294967295", integer(math.MaxUint32)},

		{"float8", "0.1", float(0.1)},
		{"float4", "0.1", float(float64(float32(0.1)))},
		{"float4", "3.4028235e+38", float(math.MaxFloat32)},
		{"float4", "1e-45", float(math.SmallestNonzeroFloat32)},
		{"float8", "1e+16", float(1e16)},
		{"float8", "1e-323", float(1e-323)},
		{"float8", "1.7976931348623157e+308", float(math.MaxFloat64)},
		{"float8", "-0", float(math.Copysign(0, -1))},
		{"float8", "NaN", float(math.Float64frombits(0xfff8000000000123))}, // one NaN
		{"float8", "Infinity", float(math.Inf(1))},
		{"float4", "-Infinity", float(math.Inf(-1))},

		{"text", "", raw("")},
		{"text", " a ", raw(" a ")},
		{"text", "e\u0301", raw("e\u0301")}, // no Unicode normalisation
		{"varchar", "abc  ", raw("abc  ")},
		{"bpchar", "abc  ", raw("abc")},
		{"bpchar", "     ", raw("")},
		{"bpchar", "a\t ", raw("a\t")}, // only blanks are padding

		{"bytea", `\x`, binary("")},
		{"bytea", `\xdead00`, binary("\xde\xad\x00")},

		{"date", "2024-02-29", date(days(2024, 2, 29))},
		{"date", "1969-12-31", date(-1)},
		{"date", "0044-03-15 BC", date(days(-43, 3, 15))},
		{"date", "0001-02-29 BC", date(days(0, 2, 29))}, // 1 BC is a leap year
		{"date", "4713-11-24 BC", date(days(-4712, 11, 24))},
		{"date", "5874897-12-31", date(days(5874897, 12, 31))},
		{"date", "infinity", infinity(+1)},
		{"date", "-infinity", infinity(-1)},

		{"time", "00:00:00", clock(0)},
		{"time", "12:00:00.000001", clock(43200000001)},
		{"time", "24:00:00", clock(86400000000)},

		{"timestamp", "1970-01-01 00:00:00", timestamp(0)},
		{"timestamp", "1969-12-31 23:59:59.999999", timestamp(-1)},
		{"timestamp", "2024-02-29 18:04:56.78", timestamp(micros(2024, 2, 29, 18, 4, 56, 780000))},
		{"timestamp", "4713-11-24 00:00:00 BC", timestamp(micros(-4712, 11, 24, 0, 0, 0, 0))},
		{"timestamp", "10000-01-01 00:00:00", timestamp(micros(10000, 1, 1, 0, 0, 0, 0))},
		{"timestamp", "infinity", infinity(+1)},
		{"timestamptz", "10000-01-01 00:00:00+00", instant(micros(10000, 1, 1, 0, 0, 0, 0))},
		{"timestamptz", "0044-03-15 00:00:00.5+00 BC", instant(micros(-43, 3, 15, 0, 0, 0, 500000))},
		{"timestamptz", "-infinity", infinity(-1)},

		{"json", `{"b":1,  "b":2}`, verbatim(`{"b":1,  "b":2}`)},
		{"interval", "1 year 2 mons", verbatim("1 year 2 mons")},
		{"inet", "10.0.0.1/8", verbatim("10.0.0.1/8")},
		{"money", "$12.34", verbatim("$12.34")},
		{"_text", `{1,NULL,"a b"}`, verbatim(`{1,NULL,"a b"}`)},
	}
	for _, tt := range tests {
		c := PostgresColumn("v", PostgresType{Name: tt.typ})
		got, err := canonicalOf(t, c, tt.text)
		if err != nil {
			t.Errorf("%s %q: %v", tt.typ, tt.text, err)
			continue
		}
		if want := setWith(t, c.Class, tt.set); !bytes.Equal(got, want) {
			t.Errorf("%s %q is %x, want %x", tt.typ, tt.text, got, want)
		}
	}
}

// Both texts of a pair are one value.
func TestTextsOfOneValueAreEncodedAlike(t *testing.T) {
	tests := []struct{ typ, a, b string }{
		{"numeric", "1.5", "1.500"},
		{"numeric", "0", "0.00"},
		{"numeric", "0.00", "-0.00"}, // PostgreSQL prints -0.00 as 0.00
		{"numeric", "100", "1e2"},
		{"numeric", "0.015", "15E-3"},
		{"numeric", "0", "0e99999999999"},
		{"numeric", "00012.50", "12.5"},
		{"jsonb", `{"a": 1, "b": 2}`, `{"b":2,"a":1.0}`},
		{"jsonb", `{"b": 1, "b": 2}`, `{"b": 2}`}, // the last of equal names wins
		{"jsonb", `{"b": {"x": 1}, "a": 0, "b": 3, "a": []}`, `{"a": [], "b": 3}`},
		{"jsonb", `[1000, 0, 0.001]`, ` [ 1e3 , -0 , 1E-3 ] `},
		{"jsonb", `"é😀/` + "\u007f" + `"`, `"\u00e9\ud83d\ude00\/\u007F"`},
		{"jsonb", `"\b\f\n\r\t\"\\"`, `"\u0008\u000c\u000a\u000d\u0009\u0022\u005c"`},
		{"jsonb", `{"\u0061": 1}`, `{"a": 1}`},
	}
	for _, tt := range tests {
		c := PostgresColumn("v", PostgresType{Name: tt.typ})
		a, err := canonicalOf(t, c, tt.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := canonicalOf(t, c, tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s: %q is %x, %q is %x", tt.typ, tt.a, a, tt.b, b)
		}
	}
}

func TestTextsOfDifferentValuesAreEncodedApart(t *testing.T) {
	tests := map[string][]string{
		"numeric": {"1", "10", "0.1", "0.01", "-1", "0", "NaN", "Infinity", "-Infinity", "100000000000000000000", "0.00000000000000000001"},
		"jsonb": {`null`, `true`, `false`, `0`, `""`, `"null"`, `[]`, `{}`, `[[]]`, `[null]`, `[{}]`, `{"": null}`, `[1, 2]`, `[12]`, `["1"]`, `{"a": 1}`,
			`{"a": {"b": 1}}`, `{"a": {}, "b": 1}`, `{"a": {"b": 1, "}": 2}}`, `{"a": {"b": 1}, "}": 2}`, `"\u0000"`, `"\u0001"`, `["a", "b"]`, `["a\u0000\u0001sb"]`},
	}
	for typ, list := range tests {
		seen := map[string]string{}
		for _, text := range list {
			got, err := canonicalOf(t, PostgresColumn("v", PostgresType{Name: typ}), text)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[string(got)]; ok {
				t.Errorf("%s: %q and %q are encoded alike", typ, text, other)
			}
			seen[string(got)] = text
		}
	}
}

// PostgreSQL's last timestamp does not fit 64 bits of microseconds since 1970.
func TestTheLastTimestampIsAfterAllOthers(t *testing.T) {
	c := PostgresColumn("v", PostgresType{Name: "timestamp"})
	last, err := canonicalOf(t, c, "294276-12-31 23:59:59.999999")
	if err != nil {
		t.Fatal(err)
	}
	if most := setWith(t, Timestamp, func(e *Encoder, col int) { e.Timestamp(col, math.MaxInt64) }); bytes.Compare(last, most) <= 0 {
		t.Errorf("%x is not after %x", last, most)
	}
}

func TestMalformedPostgresTextIsAnErrorThatNamesTheColumn(t *testing.T) {
	deep := strings.Repeat("[", maxJSONDepth+1) + strings.Repeat("]", maxJSONDepth+1)
	tests := map[string][]string{
		"int8":    {"", "-", "x", "1.0", "+1", " 1", "1 ", "true", "18446744073709551616", "-9223372036854775809", "0x1", "1_000"},
		"numeric": {"", "-", ".", "1.", ".5", "+1", "1e", "1e+", "1e99999999999", "1e-99999999999", "nan", "--1", "1 ", "0x1", "1.2.3"},
		"float8":  {"", "nan", "inf", "0x1p-2", "1e999", "1_0", "-", "e", "1 "},
		"bytea":   {"", `\`, "x00", `\x0`, `\xzz`, `\000\377A`}, // the last is bytea_output escape
		"uuid":    {"", "00000000-0000-0000-0000-00000000-000", "6b1f6d8e3b1c4f0e9a537a6f0c2d1e4b", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4g", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4bb"},
		"date": {"", "2024-2-29", "2024-02-30", "2023-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "0000-01-01", "0000-01-01 BC", "99999999-01-01", "29/02/2024",
			"02-29-2024", "2024-02-29 ", "2024-02-29 AD", "Infinity", "-2024-02-29"},
		"time": {"", "1:00:00", "12:00", "12:60:00", "12:00:60", "24:00:00.000001", "25:00:00", "100:00:00", "12:00:00.", "12:00:00.1234567", "12:00:00+00", "-01:00:00"},
		"timestamp": {"", "2024-02-29", "2024-02-29T00:00:00", "2024-02-29 24:00:00", "2024-02-29 00:00:00+00", "29/02/2024 18:04:56.789 IST", "2024-02-29 00:00:00 BCE",
			"2024-02-29 00:00:00  BC"},
		"timestamptz": {"2024-02-29 00:00:00", "2024-02-29 05:30:00+05:30", "2024-02-29 00:00:00+00:30", "2024-02-29 00:00:00-00", "2024-02-29 00:00:00+00Z"},
		"jsonb": {"", " ", "nul", "truex", "01", "-", "1.", ".1", "+1", "NaN", "Infinity", "1 2", "[", "[1", "[1,", "[1,]", "[,1]", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{1:1}`,
			`{"a" 1}`, `"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\ud800"`, `"\udc00"`, `"\ud800\u0041"`, `"\ud800\n"`, "\"\n\"", "\"\x00\"", "1\x00", "\x00", deep, "1e99999999999"},
	}
	for typ, list := range tests {
		c := PostgresColumn("v", PostgresType{Name: typ})
		for _, text := range list {
			got, err := canonicalOf(t, c, text)
			if err == nil {
				t.Errorf("%s %.40q is %.40x, want an error", typ, text, got)
				continue
			}
			if !strings.Contains(err.Error(), `column "v" (`+c.Class.String()+`)`) {
				t.Errorf("%s %.40q: error %q does not name the column and its class", typ, text, err)
			}
		}
	}
}

func TestTypesHaveClassesAndNames(t *testing.T) {
	tests := []struct {
		typ  PostgresType
		want Column
	}{
		{PostgresType{Name: "int4"}, Column{Class: Int}},
		{PostgresType{Schema: "pg_catalog", Name: "numeric", Toastable: true}, Column{Class: Decimal, Wide: true}},
		{PostgresType{Name: "float4"}, Column{Class: Float, Type: TypeFloat4}},
		{PostgresType{Name: "float8"}, Column{Class: Float}},
		{PostgresType{Name: "bpchar", Toastable: true}, Column{Class: Text, Type: TypeBPChar, Wide: true}},
		{PostgresType{Name: "varchar", Toastable: true}, Column{Class: Text, Wide: true}},
		{PostgresType{Name: "text"}, Column{Class: Text}}, // SET STORAGE PLAIN
		{PostgresType{Name: "char"}, Column{Class: Verbatim, Type: "char"}},
		{PostgresType{Name: "jsonb", Toastable: true}, Column{Class: JSON, Wide: true}},
		{PostgresType{Name: "json", Toastable: true}, Column{Class: Verbatim, Type: "json", Wide: true}},
		{PostgresType{Name: "timetz"}, Column{Class: Verbatim, Type: "timetz"}},
		{PostgresType{Name: "inet", Toastable: true}, Column{Class: Verbatim, Type: "inet"}}, // at most 22 bytes
		{PostgresType{Name: "_int4", Toastable: true}, Column{Class: Verbatim, Type: "int4[]", Wide: true}},
		{PostgresType{Schema: "public", Name: "mood", Enum: true}, Column{Class: Text}},
		{PostgresType{Schema: "public", Name: "mood[]", Toastable: true}, Column{Class: Verbatim, Type: "public.mood[]", Wide: true}},
		{PostgresType{Schema: "public", Name: "_mood"}, Column{Class: Verbatim, Type: "public._mood"}},
		{PostgresType{Schema: "ext", Name: "citext", Toastable: true}, Column{Class: Text, Wide: true}},
		{PostgresType{Schema: "public", Name: "int4"}, Column{Class: Verbatim, Type: "public.int4"}}, // someone's own type
		{PostgresType{Schema: "public", Name: "bpchar", Enum: true}, Column{Class: Text}},
	}
	for _, tt := range tests {
		tt.want.Name = "c"
		if got := PostgresColumn("c", tt.typ); got != tt.want {
			t.Errorf("%+v is %+v, want %+v", tt.typ, got, tt.want)
		}
	}
}

func TestColumnsOfOtherTypesAreNotComparable(t *testing.T) {
	column := func(typ string) Column { return PostgresColumn("c", PostgresType{Name: typ, Toastable: true}) }
	tests := []struct {
		a, b string
		want bool
	}{
		{"int2", "int8", true},
		{"text", "varchar", true},
		{"text", "bpchar", false},   // the padding would be a difference in each row
		{"float4", "float8", false}, // 0.1 is another number
		{"json", "jsonb", false},
		{"timestamp", "timestamptz", false},
		{"interval", "money", false},
	}
	for _, tt := range tests {
		if got := column(tt.a).Comparable(column(tt.b)); got != tt.want {
			t.Errorf("%s and %s: comparable is %v", tt.a, tt.b, got)
		}
	}
}

func TestErrorsDoNotQuoteValues(t *testing.T) {
	for _, typ := range []string{"int8", "numeric", "float8", "bytea", "uuid", "date", "time", "timestamp", "timestamptz", "jsonb"} {
		_, err := canonicalOf(t, PostgresColumn("v", PostgresType{Name: typ}), "s3cret")
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error is %v", typ, err)
		}
	}
}

func TestUUIDText(t *testing.T) {
	got, err := canonicalOf(t, Column{Class: UUID}, "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b")
	if err != nil || hex.EncodeToString(got) != "6b1f6d8e3b1c4f0e9a537a6f0c2d1e4b" {
		t.Errorf("got %x, %v", got, err)
	}
	want := setWith(t, UUID, func(e *Encoder, col int) { e.UUID(col, [16]byte(got)) })
	if !bytes.Equal(got, want) {
		t.Errorf("UUID sets %x", want)
	}
}
