package digest

import (
	"crypto/sha256"
	"testing"
)

var benchmarkShape = testShape([]Column{
	PostgresColumn("id", PostgresType{Name: "int8"}),
	PostgresColumn("customer", PostgresType{Name: "uuid"}),
	PostgresColumn("email", PostgresType{Name: "text", Toastable: true}),
	PostgresColumn("status", PostgresType{Name: "varchar", Toastable: true}),
	PostgresColumn("amount", PostgresType{Name: "numeric", Toastable: true}),
	PostgresColumn("weight", PostgresType{Name: "float8"}),
	PostgresColumn("paid", PostgresType{Name: "bool"}),
	PostgresColumn("note", PostgresType{Name: "text", Toastable: true}),
	PostgresColumn("created", PostgresType{Name: "timestamptz"}),
	PostgresColumn("attributes", PostgresType{Name: "jsonb", Toastable: true}),
}, "id")

func benchmarkEncoder(tb testing.TB) (*Encoder, [][]byte) {
	values := texts{
		"id": "500000", "customer": "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b", "email": "somebody@example.com", "status": "shipped",
		"amount": "1299.50", "weight": "12.375", "paid": "t", "note": "leave at the door, ring twice, mind the dog",
		"created": "2026-11-23 00:32:00.123456+00", "attributes": `{"gift": true, "coupon": "XMAS"}`,
	}
	list := make([][]byte, len(benchmarkShape.Columns))
	for i, c := range benchmarkShape.Columns {
		list[i] = []byte(values[c.Name])
	}
	return testEncoder(tb, benchmarkShape), list
}

func encodeBenchmarkRow(tb testing.TB, e *Encoder, values [][]byte, r *Row, key []byte) []byte {
	e.Reset()
	for i, v := range values {
		if err := e.PostgresText(i, v); err != nil {
			tb.Fatal(err)
		}
	}
	if err := e.Row(r); err != nil {
		tb.Fatal(err)
	}
	key, err := e.AppendKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// BenchmarkRow compares a row from text to key and digest with plain SHA-256 and with the bare keyed hash over the same
// encoding.
func BenchmarkRow(b *testing.B) {
	e, values := benchmarkEncoder(b)
	var r Row
	key := encodeBenchmarkRow(b, e, values, &r, nil)
	encoding := append([]byte(nil), e.row...)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			key = encodeBenchmarkRow(b, e, values, &r, key[:0])
		}
	})
	b.Run("narrow", func(b *testing.B) { // no wide column: one digest a row
		s := benchmarkShape
		s.Columns = append([]Column(nil), s.Columns...)
		for i := range s.Columns {
			s.Columns[i].Wide = false
		}
		e := testEncoder(b, s)
		b.ReportAllocs()
		for b.Loop() {
			key = encodeBenchmarkRow(b, e, values, &r, key[:0])
		}
	})
	b.Run("hash", func(b *testing.B) {
		b.SetBytes(int64(len(encoding)))
		for b.Loop() {
			testHasher.sum(encoding)
		}
	})
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(int64(len(encoding)))
		for b.Loop() {
			sha256.Sum256(encoding)
		}
	})
}

func BenchmarkKey(b *testing.B) {
	s := testShape([]Column{{Name: "a", Class: Int}, {Name: "b", Class: Text}, {Name: "c", Class: Decimal}}, "a", "b", "c")
	e := testEncoder(b, s)
	var key []byte
	email, amount := []byte("somebody@example.com"), []byte("1299.50")
	b.ReportAllocs()
	for b.Loop() {
		e.Reset()
		e.Int(0, 500000)
		e.Text(1, email)
		if err := e.Decimal(2, amount); err != nil {
			b.Fatal(err)
		}
		var err error
		if key, err = e.AppendKey(key[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
