package digest

import (
	"bytes"
	"encoding/json"
	"testing"
)

// fuzzColumns has a column of each class and of each type that is read in its own way.
var fuzzColumns = func() (columns []Column) {
	for _, typ := range []string{"int8", "numeric", "float4", "float8", "text", "bpchar", "bytea", "uuid", "date", "time", "timestamp", "timestamptz", "jsonb", "interval"} {
		columns = append(columns, PostgresColumn("v", PostgresType{Name: typ, Toastable: true}))
	}
	return columns
}()

// FuzzPostgresText wants no panic, the same row from the same text, and a key that can be read and written again.
func FuzzPostgresText(f *testing.F) {
	for i, text := range []string{"-1", "-0.0150e3", "1e-45", "NaN", "x", "abc  ", `\xdead`, "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b", "0044-03-15 BC", "24:00:00",
		"294276-12-31 23:59:59.999999", "0044-03-15 00:00:00.5+00 BC", `{"b": [1.50, "\ud83d\ude00"], "b": {}}`, "1 mon"} {
		f.Add(uint8(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, choice uint8, text []byte) {
		c := fuzzColumns[int(choice)%len(fuzzColumns)]
		s := Shape{Table: "t", Columns: []Column{{Name: "a", Class: Int}, c}, Key: []int{0}}
		first, ok := fuzzRow(t, s, text)
		if second, _ := fuzzRow(t, s, text); first.Digest != second.Digest {
			t.Error("one text has two digests")
		}
		if !ok || c.Class == JSON {
			return
		}
		c.Wide = false
		checkKeyRoundTrip(t, Shape{Table: "t", Columns: []Column{c}, Key: []int{0}}, textKey(t, c, string(text)))
	})
}

func fuzzRow(t *testing.T, s Shape, text []byte) (r Row, ok bool) {
	e := testEncoder(t, s)
	e.Reset()
	e.Int(0, 1)
	if err := e.PostgresText(1, text); err != nil {
		if e.Row(&r) == nil {
			t.Error("a row was made without its value")
		}
		return Row{}, false
	}
	if err := e.Row(&r); err != nil {
		t.Fatal(err)
	}
	return r, true
}

// FuzzKeyDecode wants no panic, and that each key is the only encoding of its value.
func FuzzKeyDecode(f *testing.F) {
	f.Add(uint8(Int-1), []byte{0x81, 5})
	f.Add(uint8(Int-1), []byte{0x77, 0x80, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(Decimal-1), []byte{decimalPositive, 0x80, 0, 0, 1, 16, 0})
	f.Add(uint8(Decimal-1), []byte{decimalNegative, 0x7f, 0xff, 0xff, 0xfe, 0xef, 0xff})
	f.Add(uint8(Float-1), []byte{0x80, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(Text-1), []byte("a\x00\xffb\x00\x01"))
	f.Add(uint8(UUID-1), bytes.Repeat([]byte{7}, 16))
	f.Add(uint8(Date-1), []byte{0x82, 1, 0})
	f.Add(uint8(Instant-1), []byte{0x82, 1, 0, 0x81, 9})
	f.Fuzz(func(t *testing.T, choice uint8, k []byte) {
		class := Class(choice%uint8(Verbatim)) + 1
		if class == JSON {
			return
		}
		s := keyShape(class)
		if _, err := s.KeyJSON(k); err == nil {
			checkKeyRoundTrip(t, s, k)
		}
	})
}

// FuzzKeyJSON wants of any JSON, as requests and archives have it, an error or a key that can be written and read again, and no panic.
func FuzzKeyJSON(f *testing.F) {
	for i, text := range []string{"-1", `"-0.015"`, `"1e-45"`, `"NaN"`, `"x"`, `"abc  "`, `{"v":"dead"}`, `"6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b"`, `"0044-03-15 BC"`, `"24:00:00"`,
		`"294276-12-31T23:59:59.999999"`, `{"v":"0044-03-15T00:00:00.5Z BC"}`, `{"v":{"b":[1.5]}}`, `"1 mon"`} {
		f.Add(uint8(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, choice uint8, text []byte) {
		c := fuzzColumns[int(choice)%len(fuzzColumns)]
		c.Wide = false
		if c.Class == JSON || !json.Valid(text) { // which is what a json.RawMessage holds
			return
		}
		s := Shape{Table: "t", Columns: []Column{c}, Key: []int{0}}
		key, err := s.ParseBound(text)
		if err != nil {
			return
		}
		written, err := s.KeyJSON(key)
		if err != nil {
			t.Fatalf("%s is the key %x, which cannot be written: %v", text, key, err)
		}
		if again, err := s.ParseKey(written); err != nil || again.Compare(key) != 0 {
			t.Errorf("%s is the key %x, is written as %s, and that is %x (%v)", text, key, written, again, err)
		}
	})
}
