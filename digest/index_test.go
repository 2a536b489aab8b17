package digest

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAnIndexedRowIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := encode(t, manyColumns, drawRow(rt, manyColumns))
		b := AppendRow([]byte("before"), &want)[len("before"):]
		got := Row{Columns: []ColumnDigest{{Column: 9}}, Partial: new(Partial)}
		if err := ParseRow(b, &got); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(append([]ColumnDigest{}, want.Columns...), append([]ColumnDigest{}, got.Columns...)); got.Digest != want.Digest || got.Partial != nil || diff != "" {
			rt.Errorf("row differs: %s", diff)
		}
		if d, err := RowDigest(b); err != nil || d != want.Digest {
			rt.Errorf("digest is %v, %v", d, err)
		}
	})
}

func TestADamagedIndexedRowIsAnError(t *testing.T) {
	row := AppendRow(nil, &Row{Digest: Digest{1}, Columns: []ColumnDigest{{Column: 1}, {Column: 2}}})
	disordered := AppendRow(nil, &Row{Digest: Digest{1}, Columns: []ColumnDigest{{Column: 2}, {Column: 2}}})
	incomplete := encode(t, manyColumns, texts{"id": "1", "wt": leftOut})
	tests := map[string][]byte{
		"nothing":    nil,
		"short":      row[:15],
		"long":       row[:len(row)-1],
		"no row":     make([]byte, 16),
		"disordered": disordered,
		"incomplete": AppendRow(nil, &incomplete),
	}
	for name, b := range tests {
		if err := ParseRow(b, new(Row)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add(AppendRow(nil, &Row{Digest: Digest{1}, Columns: []ColumnDigest{{Column: 1}, {Column: 2}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Row
		if err := ParseRow(b, &r); err != nil {
			return
		}
		if again := AppendRow(nil, &r); !bytes.Equal(again, b) {
			t.Errorf("%x is read as a row that is written %x", b, again)
		}
	})
}
