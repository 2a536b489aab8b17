package digest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var testHasher = NewHasher([32]byte{1, 2, 3})

// testShape has the given columns, which it sorts, and the key columns by name.
func testShape(columns []Column, key ...string) Shape {
	s := Shape{Table: "public.t", Columns: slices.Clone(columns)}
	slices.SortFunc(s.Columns, func(a, b Column) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range key {
		s.Key = append(s.Key, slices.IndexFunc(s.Columns, func(c Column) bool { return c.Name == name }))
	}
	return s
}

func testEncoder(t testing.TB, s Shape) *Encoder {
	t.Helper()
	e, err := NewEncoder(testHasher, s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// texts maps column names to PostgreSQL's text; a column that is not there is NULL.
type texts map[string]string

// leftOut as a text stands for an unchanged value that was not sent.
const leftOut = "\x00left out"

func encode(t testing.TB, s Shape, values texts) Row {
	t.Helper()
	e := testEncoder(t, s)
	e.Reset()
	for i, c := range s.Columns {
		text, ok := values[c.Name]
		switch {
		case !ok:
			e.Null(i)
		case text == leftOut:
			e.Unchanged(i)
		default:
			if err := e.PostgresText(i, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var r Row
	if err := e.Row(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

func text(name string) Column { return Column{Name: name, Class: Text} }

func wide(name string, class Class) Column {
	c := Column{Name: name, Class: class, Wide: true}
	if class == Verbatim {
		c.Type = "json"
	}
	return c
}

func TestRowsThatDifferHaveDifferentDigests(t *testing.T) {
	key := Column{Name: "id", Class: Int}
	ab := testShape([]Column{key, text("a"), text("b")}, "id")
	tests := []struct {
		rule                string
		shape, otherShape   Shape
		values, otherValues texts
	}{
		{"NULL is not the empty text", ab, ab, texts{"id": "1"}, texts{"id": "1", "a": ""}},
		{"NULL is not the text null", ab, ab, texts{"id": "1"}, texts{"id": "1", "a": "null"}},
		{"values keep their boundaries", ab, ab, texts{"id": "1", "a": "xy", "b": "z"}, texts{"id": "1", "a": "x", "b": "yz"}},
		{"values keep their columns", ab, ab, texts{"id": "1", "a": "x"}, texts{"id": "1", "b": "x"}},
		{"names keep their boundaries", testShape([]Column{key, text("a")}, "id"), testShape([]Column{key, text("ax")}, "id"),
			texts{"id": "1", "a": "x1"}, texts{"id": "1", "ax": "1"}},
		{"classes differ", testShape([]Column{key, text("a")}, "id"), testShape([]Column{key, {Name: "a", Class: Verbatim, Type: "x"}}, "id"),
			texts{"id": "1", "a": "x"}, texts{"id": "1", "a": "x"}},
		{"verbatim types differ", testShape([]Column{key, {Name: "a", Class: Verbatim, Type: "x"}}, "id"), testShape([]Column{key, {Name: "a", Class: Verbatim, Type: "y"}}, "id"),
			texts{"id": "1", "a": "x"}, texts{"id": "1", "a": "x"}},
		{"bpchar keeps inner and leading blanks", testShape([]Column{key, {Name: "a", Class: Text, Type: TypeBPChar}}, "id"), testShape([]Column{key, text("a")}, "id"),
			texts{"id": "1", "a": " x y "}, texts{"id": "1", "a": "x y"}},
		{"a bit of a float", testShape([]Column{key, {Name: "a", Class: Float}}, "id"), testShape([]Column{key, {Name: "a", Class: Float}}, "id"),
			texts{"id": "1", "a": "0.1"}, texts{"id": "1", "a": "0.10000000000000002"}},
		{"negative zero", testShape([]Column{key, {Name: "a", Class: Float}}, "id"), testShape([]Column{key, {Name: "a", Class: Float}}, "id"),
			texts{"id": "1", "a": "0"}, texts{"id": "1", "a": "-0"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			if a, b := encode(t, tt.shape, tt.values), encode(t, tt.otherShape, tt.otherValues); a.Digest == b.Digest {
				t.Error("digests are the same")
			}
		})
	}
}

func TestTablesAreDigestedApart(t *testing.T) {
	s := testShape([]Column{{Name: "id", Class: Int}, wide("w", Text)}, "id")
	o := s
	o.Table = "public.other"
	values := texts{"id": "1", "w": strings.Repeat("x", 100)}
	a, b := encode(t, s, values), encode(t, o, values)
	if a.Digest == b.Digest || a.Columns[0].Digest == b.Columns[0].Digest {
		t.Error("digests of two tables are the same")
	}
}

func TestKeysOfTheSecretGiveDifferentDigests(t *testing.T) {
	if testHasher.sum([]byte("x")) == NewHasher([32]byte{}).sum([]byte("x")) {
		t.Error("digest does not depend on the key")
	}
}

// drawRow draws a value or NULL for each column but the key.
func drawRow(t *rapid.T, s Shape) texts {
	values := texts{"id": rapid.StringMatching(`[1-9][0-9]{0,8}`).Draw(t, "id")}
	for _, c := range s.Columns {
		if c.Name != "id" && rapid.IntRange(0, 4).Draw(t, "null") > 0 {
			values[c.Name] = drawText(t, c.Class)
		}
	}
	return values
}

func drawText(t *rapid.T, class Class) string {
	switch class {
	case Decimal:
		return rapid.StringMatching(`-?[0-9]{1,30}(\.[0-9]{1,30})?`).Draw(t, "decimal")
	case Bytes:
		return rapid.StringMatching(`\\x([0-9a-f]{2}){0,30}`).Draw(t, "bytes")
	case JSON:
		return rapid.StringMatching(`\{"a": [1-9][0-9]{0,8}, "b": \[null, "[a-z]{0,20}"\]\}`).Draw(t, "json")
	}
	return rapid.StringN(0, 40, -1).Draw(t, "text")
}

var manyColumns = testShape([]Column{
	{Name: "id", Class: Int}, text("plain"), {Name: "n", Class: Decimal},
	wide("wb", Bytes), wide("wd", Decimal), wide("wj", JSON), wide("wt", Text), wide("wv", Verbatim),
}, "id")

func TestOrderOfSettingDoesNotMatter(t *testing.T) {
	e := testEncoder(t, manyColumns)
	rapid.Check(t, func(rt *rapid.T) {
		values := drawRow(rt, manyColumns)
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)).Perm(len(manyColumns.Columns))
		e.Reset()
		for _, i := range order {
			if v, ok := values[manyColumns.Columns[i].Name]; !ok {
				e.Null(i)
			} else if err := e.PostgresText(i, []byte(v)); err != nil {
				rt.Fatal(err)
			}
		}
		var got Row
		if err := e.Row(&got); err != nil {
			rt.Fatal(err)
		}
		if want := encode(t, manyColumns, values); got.Digest != want.Digest {
			rt.Errorf("digest in order %v differs", order)
		}
	})
}

func TestANullColumnMoreLeavesTheDigestAsItWas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := drawRow(rt, manyColumns)
		name := rapid.SampledFrom([]string{"a", "m", "zz"}).Draw(rt, "name")
		more := testShape(append(slices.Clone(manyColumns.Columns), wide(name, Text)), "id")
		if encode(t, manyColumns, values).Digest != encode(t, more, values).Digest {
			rt.Error("digest changed")
		}
	})
}

func TestAPartialRowCompletedIsTheWholeRow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		after := drawRow(rt, manyColumns)
		want := encode(t, manyColumns, after)

		// The row before has the same values where the update leaves them out.
		sent, before := texts{}, drawRow(rt, manyColumns)
		for name, v := range after {
			sent[name] = v
		}
		for _, c := range want.Columns {
			if rapid.Bool().Draw(rt, "left out") {
				name := manyColumns.Columns[c.Column].Name
				sent[name], before[name] = leftOut, after[name]
			}
		}
		got := encode(t, manyColumns, sent)
		if got.Partial != nil {
			if !got.Digest.IsZero() {
				rt.Error("an incomplete row has a digest")
			}
			whole, err := testHasher.Complete(got.Partial, encode(t, manyColumns, before).Columns)
			if err != nil {
				rt.Fatal(err)
			}
			got = whole
		}
		if diff := cmp.Diff(want.Columns, got.Columns); got.Digest != want.Digest || len(want.Columns) > 0 && diff != "" {
			rt.Errorf("completed row differs: %s", diff)
		}
	})
}

func TestCompleteNamesTheColumnThatIsNotStored(t *testing.T) {
	r := encode(t, manyColumns, texts{"id": "1", "wt": leftOut})
	_, err := testHasher.Complete(r.Partial, nil)
	if err == nil || !strings.Contains(err.Error(), `"wt"`) {
		t.Errorf("error is %v", err)
	}
}

func TestCompleteLeavesThePartialRowAlone(t *testing.T) {
	r := encode(t, manyColumns, texts{"id": "1", "wt": leftOut})
	for _, d := range []Digest{{1}, {2}} {
		whole, err := testHasher.Complete(r.Partial, []ColumnDigest{{r.Partial.Holes[0].Column, d}})
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := testHasher.Complete(r.Partial, whole.Columns); again.Digest != whole.Digest {
			t.Error("completing twice differs")
		}
	}
}

// PostgreSQL 15: of 200 text columns stored out of line, an update leaves out those of 24 bytes and none of 23; it
// leaves out char(3000) with 3 letters.
func TestOnlyValuesThatAreAlwaysSentAreInlined(t *testing.T) {
	padded := wide("w", Text)
	padded.Type = TypeBPChar
	tests := []struct {
		column Column
		text   string
		apart  bool
	}{
		{wide("w", Text), strings.Repeat("x", 15), false},
		{wide("w", Text), strings.Repeat("x", 16), true},
		{wide("w", Text), strings.Repeat("é", 8), true},
		{wide("w", Bytes), `\x` + strings.Repeat("00", 15), false},
		{wide("w", Bytes), `\x` + strings.Repeat("00", 16), true},
		{wide("w", Decimal), "123456789012345678", false},
		{wide("w", Decimal), "1234567890123456789", true},
		{wide("w", Decimal), "1" + strings.Repeat("0", 100000), false}, // zeros are not stored
		{padded, "abc", true},
		{wide("w", JSON), "1", true},
		{wide("w", Verbatim), "{}", true},
		{text("w"), strings.Repeat("x", 1000), false},
	}
	for _, tt := range tests {
		r := encode(t, testShape([]Column{{Name: "id", Class: Int}, tt.column}, "id"), texts{"id": "1", "w": tt.text})
		if apart := len(r.Columns) > 0; apart != tt.apart {
			t.Errorf("%s %s of %d bytes: apart is %v", tt.column.Class, tt.column.Type, len(tt.text), apart)
		}
	}
}

// A wide column's value cannot be chosen so that it looks like a digest.
func TestAnInlinedValueIsNotTakenForADigest(t *testing.T) {
	s := testShape([]Column{{Name: "id", Class: Int}, wide("w", Bytes)}, "id")
	plain := testShape([]Column{{Name: "id", Class: Int}, {Name: "w", Class: Bytes}}, "id")
	a := encode(t, s, texts{"id": "1", "w": `\x` + strings.Repeat("ab", 40)})
	b := encode(t, plain, texts{"id": "1", "w": `\x` + a.Columns[0].Digest.String()})
	if a.Digest == b.Digest {
		t.Error("digests are the same")
	}
}

func TestMisuseOfTheEncoderIsAnError(t *testing.T) {
	s := testShape([]Column{{Name: "id", Class: Int}, text("a"), wide("k", Text)}, "id", "k")
	a, id, k := 0, 1, 2
	tests := []struct {
		name     string
		set      func(*Encoder)
		row, key string // parts of the errors; empty: none
	}{
		{"nothing set", func(*Encoder) {}, `"a" was not set`, `"id" was not set`},
		{"key alone", func(e *Encoder) { e.Int(id, 1); e.Text(k, nil) }, `"a" was not set`, ""},
		{"key is NULL", func(e *Encoder) { e.Null(a); e.Int(id, 1); e.Null(k) }, "", `"k" is NULL`},
		{"wrong class", func(e *Encoder) { e.Text(id, nil) }, `"id" (int) has class int`, `"id" (int) has class int`},
		{"no such column", func(e *Encoder) { e.Int(3, 1) }, "none with number 3", "none with number 3"},
		{"negative column", func(e *Encoder) { e.Null(-1) }, "none with number -1", "none with number -1"},
		{"narrow column left out", func(e *Encoder) { e.Unchanged(a) }, `"a" (text) was left out`, `"a" (text) was left out`},
		{"key column left out", func(e *Encoder) { e.Unchanged(k) }, `"k" (text) was left out`, `"k" (text) was left out`},
		{"infinite text", func(e *Encoder) { e.Infinity(a, 1) }, "no infinity", "no infinity"},
		{"malformed after good", func(e *Encoder) {
			e.Int(id, 1)
			_ = e.PostgresText(id, []byte("x"))
		}, `"a" was not set`, `"id" was not set`},
	}
	e := testEncoder(t, s)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e.Reset()
			tt.set(e)
			expectError(t, e.Row(new(Row)), tt.row)
			_, err := e.AppendKey(nil)
			expectError(t, err, tt.key)
		})
	}
}

func expectError(t *testing.T, err error, part string) {
	t.Helper()
	if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		t.Errorf("error is %v, want %q", err, part)
	}
}

func TestShapesThatCannotBeEncodedAreRefused(t *testing.T) {
	id := Column{Name: "id", Class: Int}
	tests := []struct {
		shape Shape
		part  string
	}{
		{Shape{Columns: []Column{id}}, "no key"},
		{Shape{Columns: []Column{id}, Key: []int{1}}, "not among"},
		{Shape{Columns: []Column{id}, Key: []int{-1}}, "not among"},
		{Shape{Columns: []Column{id}, Key: []int{0, 0}}, "twice"},
		{Shape{Columns: []Column{id, id}, Key: []int{0}}, "sorted"},
		{Shape{Columns: []Column{id, text("a")}, Key: []int{0}}, "sorted"},
		{Shape{Columns: []Column{{Class: Int}}, Key: []int{0}}, "no name"},
		{Shape{Columns: []Column{{Name: "id"}}, Key: []int{0}}, "unknown class"},
		{Shape{Columns: []Column{{Name: "id", Class: 99}}, Key: []int{0}}, "unknown class"},
		{Shape{Columns: []Column{{Name: "id", Class: Verbatim}}, Key: []int{0}}, "type"},
		{Shape{Columns: []Column{wide("id", Int)}, Key: []int{0}}, "wide"},
		{Shape{Columns: []Column{{Name: "id", Class: JSON}}, Key: []int{0}}, "json"},
	}
	for _, tt := range tests {
		_, err := NewEncoder(testHasher, tt.shape)
		expectError(t, err, tt.part)
	}
}

func TestEncodingARowAllocatesNothing(t *testing.T) {
	e, values := benchmarkEncoder(t)
	var r Row
	var key []byte
	if n := testing.AllocsPerRun(100, func() { key = encodeBenchmarkRow(t, e, values, &r, key[:0]) }); n > 0 {
		t.Errorf("%v allocations a row", n)
	}
}

func TestALargeValueDoesNotKeepItsBuffer(t *testing.T) {
	e := testEncoder(t, testShape([]Column{text("id")}, "id"))
	e.Reset()
	e.Text(0, make([]byte, 3*keptBuffer))
	if err := e.Row(new(Row)); err != nil {
		t.Fatal(err)
	}
	e.Reset()
	if cap(e.arena) > 0 || cap(e.row) > 0 {
		t.Error("buffers are kept")
	}
}
