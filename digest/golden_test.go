package digest

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The vectors pin what is in users' stores. If one changes, the stored format has changed: a new format version is
// needed, and a re-baseline of all tables.
func TestStoredFormatIsUnchanged(t *testing.T) {
	columns := []Column{
		PostgresColumn("id", PostgresType{Name: "int8"}),
		PostgresColumn("amount", PostgresType{Name: "numeric", Toastable: true}),
		PostgresColumn("at", PostgresType{Name: "timestamptz"}),
		PostgresColumn("body", PostgresType{Name: "jsonb", Toastable: true}),
		PostgresColumn("day", PostgresType{Name: "date"}),
		PostgresColumn("hour", PostgresType{Name: "time"}),
		PostgresColumn("name", PostgresType{Name: "text", Toastable: true}),
		PostgresColumn("owner", PostgresType{Name: "uuid"}),
		PostgresColumn("raw", PostgresType{Name: "bytea", Toastable: true}),
		PostgresColumn("span", PostgresType{Name: "interval"}),
		PostgresColumn("weight", PostgresType{Name: "float8"}),
	}
	full := texts{
		"id": "500000", "amount": "-12.50", "at": "2026-11-23 00:32:00.5+00", "body": `{"b": [1.50, null], "a": "x"}`, "day": "0044-03-15 BC", "hour": "18:04:56",
		"name": strings.Repeat("long ", 10), "owner": "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b", "raw": `\x00ff`, "span": "1 mon", "weight": "0.1",
	}
	tests := []struct {
		name         string
		key          []string
		values       texts
		wantKey, row string // row as the index keeps it
	}{
		{"key alone", []string{"id"}, texts{"id": "1"}, goldenKeyAlone, goldenRowAlone},
		{"every class", []string{"id"}, full, goldenKeyFull, goldenRowFull},
		{"composite key", []string{"name", "amount", "raw", "weight", "day", "at", "hour", "owner", "span"}, full, goldenKeyComposite, goldenRowComposite},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testShape(columns, tt.key...)
			key, row := goldenRow(t, s, tt.values)
			if key != tt.wantKey {
				t.Errorf("key is\n%s", key)
			}
			if row != tt.row {
				t.Errorf("row is\n%s", row)
			}
		})
	}
}

func goldenRow(t *testing.T, s Shape, values texts) (key, row string) {
	h := NewHasher([32]byte([]byte("a fixed secret of 32 bytes......")))
	e, err := NewEncoder(h, s)
	if err != nil {
		t.Fatal(err)
	}
	e.Reset()
	for i, c := range s.Columns {
		if text, ok := values[c.Name]; !ok {
			e.Null(i)
		} else if err := e.PostgresText(i, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	k, err := e.AppendKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var r Row
	if err := e.Row(&r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(k), hex.EncodeToString(AppendRow(nil, &r))
}

const (
	goldenKeyAlone = "8101"
	goldenRowAlone = "c955427bc4c126cffc4b82ade09d276d"
	goldenKeyFull  = "8307a120"
	goldenRowFull  = "806a45fee618b17301b3e871d5b33dcd" + // of the row
		"0002" + "e5e21a77b9a739504694296268dc7529" + // body
		"0006" + "e5618e592343d4facb75c85e3d03d7f4" // name
	goldenKeyComposite = "6c6f6e67206c6f6e67206c6f6e67206c6f6e67206c6f6e67206c6f6e67206c6f6e67206c6f6e67206c6f6e67206c6f6e67200001" + // name
		"207ffffffdf2ccff" + "00ffff0001" + "bfb999999999999a" + "7cf4c848" + // amount, raw, weight, day
		"82512c8472788120" + "850f28062200" + // at, hour
		"6b1f6d8e3b1c4f0e9a537a6f0c2d1e4b" + "31206d6f6e0001" // owner, span
	goldenRowComposite = "d8e07882acf18bbb096e28e2ee7de545" +
		"0002" + "e5e21a77b9a739504694296268dc7529" // body; key columns are never digested apart
)
