package digest

import (
	"strings"
	"testing"
)

func TestKeysReadAsJSON(t *testing.T) {
	tests := []struct{ typ, text, want string }{
		{"int8", "500000", `{"k":500000}`},
		{"int8", "-9223372036854775808", `{"k":-9223372036854775808}`},
		{"int8", "18446744073709551615", `{"k":18446744073709551615}`},
		{"numeric", "12.50", `{"k":12.5}`},
		{"numeric", "-0.001", `{"k":-0.001}`},
		{"numeric", "1200", `{"k":1200}`},
		{"numeric", "1" + strings.Repeat("0", 100), `{"k":1e100}`},
		{"numeric", "-0." + strings.Repeat("0", 99) + "15", `{"k":-1.5e-100}`},
		{"numeric", "NaN", `{"k":"NaN"}`},
		{"numeric", "-Infinity", `{"k":"-Infinity"}`},
		{"float8", "1e+16", `{"k":1e+16}`},
		{"float8", "-0", `{"k":0}`},
		{"float8", "Infinity", `{"k":"Infinity"}`},
		{"text", `a "<b>" é`, `{"k":"a \"<b>\" é"}`},
		{"text", "\xff", `{"k":{"bytes":"\\xff"}}`}, // a server with SQL_ASCII
		{"inet", "10.0.0.1/8", `{"k":"10.0.0.1/8"}`},
		{"bytea", `\xdead`, `{"k":"\\xdead"}`},
		{"uuid", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b", `{"k":"6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b"}`},
		{"date", "2024-02-29", `{"k":"2024-02-29"}`},
		{"date", "0044-03-15 BC", `{"k":"-0043-03-15"}`},
		{"date", "0001-03-15 BC", `{"k":"0000-03-15"}`},
		{"date", "5874897-12-31", `{"k":"+5874897-12-31"}`},
		{"date", "infinity", `{"k":"infinity"}`},
		{"time", "18:04:56.78", `{"k":"18:04:56.78"}`},
		{"time", "24:00:00", `{"k":"24:00:00"}`},
		{"timestamp", "294276-12-31 23:59:59.999999", `{"k":"+294276-12-31T23:59:59.999999"}`},
		{"timestamptz", "2024-02-29 18:04:56.78+00", `{"k":"2024-02-29T18:04:56.78Z"}`},
		{"timestamptz", "-infinity", `{"k":"-infinity"}`},
	}
	for _, tt := range tests {
		c := PostgresColumn("k", PostgresType{Name: tt.typ})
		s := Shape{Table: "t", Columns: []Column{c}, Key: []int{0}}
		k := textKey(t, c, tt.text)
		got, err := s.KeyJSON(k)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s %s reads %s, %v, want %s", tt.typ, tt.text, got, err, tt.want)
			continue
		}
		checkKeyRoundTrip(t, s, k)
	}
}

func TestKeyColumnsReadInTheOrderOfThePrimaryKey(t *testing.T) {
	s := testShape([]Column{{Name: "a", Class: Int}, text("b"), {Name: "c", Class: Int}}, "c", "a")
	k, err := s.ParseKey([]byte(` {"a": 1, "c": 2} `))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.KeyJSON(k); err != nil || string(got) != `{"c":2,"a":1}` {
		t.Errorf("key reads %s, %v", got, err)
	}
}

func TestKeysThatPeopleMistypeAreErrors(t *testing.T) {
	tests := []struct {
		typ, json, part string
	}{
		{"int8", ``, "not a JSON object"},
		{"int8", `[1]`, "not a JSON object; it is made of k"},
		{"int8", `5`, "not a JSON object; it is made of k"},
		{"int8", `{"k":1`, "not a JSON object"},
		{"int8", "{\"k\":\"\xff\"}", "not UTF-8"},
		{"int8", `{}`, "made of k"},
		{"int8", `{"x":1}`, "made of k"},
		{"int8", `{"k":1,"x":1}`, "made of k"},
		{"int8", `{"k":null}`, `"k" (int)`},
		{"int8", `{"k":1e3}`, `"k" (int)`},
		{"int8", `{"k":"1"}`, `"k" (int)`},
		{"numeric", `{"k":"one"}`, `"k" (decimal)`},
		{"numeric", `{"k":[]}`, `"k" (decimal)`},
		{"float8", `{"k":true}`, `"k" (float)`},
		{"text", `{"k":1}`, `"k" (text)`},
		{"text", `{"k":{"bytes":"ff"}}`, `"k" (text)`},
		{"text", `{"k":{}}`, `"k" (text)`},
		{"bytea", `{"k":"ff"}`, `"k" (bytes)`},
		{"uuid", `{"k":"x"}`, `"k" (uuid)`},
		{"date", `{"k":"2024-02-32"}`, `"k" (date)`},
		{"date", `{"k":"2024-02-29T00:00:00"}`, `"k" (date)`},
		{"time", `{"k":"1:00"}`, `"k" (time)`},
		{"timestamp", `{"k":"2024-02-29 00:00:00"}`, `"k" (timestamp)`},
		{"timestamp", `{"k":"2024-02-29T00:00:00Z"}`, `"k" (timestamp)`},
		{"timestamptz", `{"k":"2024-02-29T00:00:00"}`, `"k" (instant)`},
		{"timestamptz", `{"k":"2024-02-29T24:00:00Z"}`, `"k" (instant)`},
	}
	for _, tt := range tests {
		s := Shape{Table: "t", Columns: []Column{PostgresColumn("k", PostgresType{Name: tt.typ})}, Key: []int{0}}
		_, err := s.ParseKey([]byte(tt.json))
		if err == nil || !strings.Contains(err.Error(), tt.part) {
			t.Errorf("%s %s: error is %v, want %q", tt.typ, tt.json, err, tt.part)
		}
	}
}

func TestAKeyOfAnotherShapeIsAnError(t *testing.T) {
	s := keyShape(Int, Text)
	good, err := s.ParseKey([]byte(`{"a":1,"b":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if text, err := s.KeyJSON(good[:n]); err == nil {
			t.Errorf("the first %d bytes read %s", n, text)
		}
	}
	if text, err := s.KeyJSON(append(good, 0)); err == nil {
		t.Errorf("a byte more reads %s", text)
	}
	if text, err := (Shape{}).KeyJSON(good); err == nil {
		t.Errorf("without a shape it reads %s", text)
	}
}
