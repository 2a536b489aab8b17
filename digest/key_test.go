package digest

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// operand is a value of one class: how to set it, and how it is ordered in PostgreSQL.
type operand struct {
	set func(e *Encoder, col int)
	// Compared in order: the first that differs decides.
	rank int // of what is not an ordinary number: infinities, NaN
	rat  *big.Rat
	text string
}

func (a operand) compare(b operand) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	if a.rat != nil && b.rat != nil {
		if c := a.rat.Cmp(b.rat); c != 0 {
			return c
		}
	}
	return strings.Compare(a.text, b.text)
}

// operands draw a value of each class that can be in a key.
var operands = map[Class]func(*rapid.T) operand{
	Int: func(t *rapid.T) operand {
		if rapid.Bool().Draw(t, "unsigned") {
			v := rapid.Uint64().Draw(t, "uint")
			return operand{rat: new(big.Rat).SetUint64(v), set: func(e *Encoder, col int) { e.Uint(col, v) }}
		}
		v := rapid.Int64().Draw(t, "int")
		return operand{rat: new(big.Rat).SetInt64(v), set: func(e *Encoder, col int) { e.Int(col, v) }}
	},
	Decimal: drawDecimal,
	Float: func(t *rapid.T) operand {
		v := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1),
			math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64})).Draw(t, "float")
		o := operand{set: func(e *Encoder, col int) { e.Float(col, v) }}
		switch {
		case math.IsNaN(v):
			o.rank = 2
		case math.IsInf(v, 0):
			o.rank = int(math.Copysign(1, v))
		default:
			o.rat = new(big.Rat).SetFloat64(v)
		}
		return o
	},
	Text: func(t *rapid.T) operand {
		v := drawBytes(t)
		return operand{text: v, set: func(e *Encoder, col int) { e.Text(col, []byte(v)) }}
	},
	Bytes: func(t *rapid.T) operand {
		v := drawBytes(t)
		return operand{text: v, set: func(e *Encoder, col int) { e.Bytes(col, []byte(v)) }}
	},
	Verbatim: func(t *rapid.T) operand {
		v := drawBytes(t)
		return operand{text: v, set: func(e *Encoder, col int) { e.Verbatim(col, []byte(v)) }}
	},
	UUID: func(t *rapid.T) operand {
		v := [16]byte(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0xff}), 16, 16).Draw(t, "uuid"))
		return operand{text: string(v[:]), set: func(e *Encoder, col int) { e.UUID(col, v) }}
	},
	Date:      func(t *rapid.T) operand { return drawTemporal(t, minDays, maxDays, (*Encoder).Date) },
	Timestamp: func(t *rapid.T) operand { return drawTemporal(t, math.MinInt64, math.MaxInt64, (*Encoder).Timestamp) },
	Instant:   func(t *rapid.T) operand { return drawTemporal(t, math.MinInt64, math.MaxInt64, (*Encoder).Instant) },
	Time: func(t *rapid.T) operand {
		v := rapid.Int64Range(-maxTime, maxTime).Draw(t, "time")
		return operand{rat: new(big.Rat).SetInt64(v), set: func(e *Encoder, col int) { e.Time(col, v) }}
	},
}

func drawDecimal(t *rapid.T) operand {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{"NaN", "Infinity", "-Infinity", "0", "0.00", "-0", "1.0", "1.00", "-1", "1e40", "-1e-40"}),
		rapid.StringMatching(`-?[0-9]{1,3}(\.[0-9]{1,5})?`),
		rapid.StringMatching(`-?[0-9]{1,40}(\.[0-9]{1,40})?`),
		rapid.StringMatching(`-?[0-9]{1,5}(\.[0-9]{1,5})?e[+-]?[0-9]{1,2}`),
	).Draw(t, "decimal")
	o := operand{set: func(e *Encoder, col int) {
		if err := e.Decimal(col, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}}
	switch text {
	case "NaN":
		o.rank = 2
	case "Infinity":
		o.rank = 1
	case "-Infinity":
		o.rank = -1
	default:
		o.rat, _ = new(big.Rat).SetString(text)
	}
	return o
}

func drawBytes(t *rapid.T) string {
	b := rapid.OneOf(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 0xfe, 0xff}), 0, 5), rapid.SliceOf(rapid.Byte())).Draw(t, "bytes")
	return string(b)
}

func drawTemporal(t *rapid.T, low, high int64, set func(*Encoder, int, int64)) operand {
	if sign := rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(t, "infinity"); sign != 0 {
		return operand{rank: sign, set: func(e *Encoder, col int) { e.Infinity(col, sign) }}
	}
	v := rapid.OneOf(rapid.Int64Range(low, high), rapid.Int64Range(-3, 3)).Draw(t, "since 1970")
	return operand{rat: new(big.Rat).SetInt64(v), set: func(e *Encoder, col int) { set(e, col, v) }}
}

// keyShape has one key column of each class given.
func keyShape(classes ...Class) Shape {
	s := Shape{Table: "public.t"}
	for i, class := range classes {
		c := Column{Name: string(rune('a' + i)), Class: class}
		if class == Verbatim {
			c.Type = "inet"
		}
		s.Columns, s.Key = append(s.Columns, c), append(s.Key, i)
	}
	return s
}

func keyOf(t testing.TB, e *Encoder, tuple []operand) Key {
	e.Reset()
	for i, o := range tuple {
		o.set(e, i)
	}
	k, err := e.AppendKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func drawTuple(t *rapid.T, classes []Class) (tuple []operand) {
	for _, class := range classes {
		tuple = append(tuple, operands[class](t))
	}
	return tuple
}

func compareTuples(a, b []operand) int {
	for i := range a {
		if c := a[i].compare(b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func TestKeysAreInTheOrderOfTheirValues(t *testing.T) {
	for class := range operands {
		t.Run(class.String(), func(t *testing.T) {
			checkKeyOrder(t, func(*rapid.T) []Class { return []Class{class} })
		})
	}
}

func TestCompositeKeysAreInTheOrderOfTheirTuples(t *testing.T) {
	checkKeyOrder(t, func(t *rapid.T) []Class {
		return rapid.SliceOfN(rapid.SampledFrom([]Class{Int, Decimal, Float, Text, Bytes, UUID, Date, Time, Timestamp, Instant, Verbatim}), 2, 4).Draw(t, "classes")
	})
}

func checkKeyOrder(t *testing.T, draw func(*rapid.T) []Class) {
	rapid.Check(t, func(rt *rapid.T) {
		classes := draw(rt)
		s := keyShape(classes...)
		e := testEncoder(t, s)
		a, b := drawTuple(rt, classes), drawTuple(rt, classes)
		for i := range a { // tuples with a common start are the interesting ones
			if rapid.Bool().Draw(rt, "same") {
				b[i] = a[i]
				continue
			}
			break
		}
		ka, kb := keyOf(t, e, a), keyOf(t, e, b)
		if got, want := ka.Compare(kb), compareTuples(a, b); got != want {
			rt.Errorf("keys %x and %x compare %d, their values %d", ka, kb, got, want)
		}
		for _, k := range []Key{ka, kb} {
			checkKeyRoundTrip(rt, s, k)
		}
	})
}

func checkKeyRoundTrip(t rapid.TB, s Shape, k Key) {
	text, err := s.KeyJSON(k)
	if err != nil {
		t.Fatalf("key %x: %v", k, err)
	}
	again, err := s.ParseKey(text)
	if err != nil {
		t.Fatalf("key %s: %v", text, err)
	}
	if !bytes.Equal(k, again) {
		t.Errorf("key %x is %s, which is %x", k, text, again)
	}
}

func TestOneValueHasOneKey(t *testing.T) {
	tests := []struct{ typ, a, b string }{
		{"numeric", "1.0", "1.00"},
		{"float8", "0", "-0"},
		{"bpchar", "a", "a   "},
	}
	for _, tt := range tests {
		c := PostgresColumn("id", PostgresType{Name: tt.typ})
		if a, b := textKey(t, c, tt.a), textKey(t, c, tt.b); !bytes.Equal(a, b) {
			t.Errorf("%s %s is %x, %s is %x", tt.typ, tt.a, a, tt.b, b)
		}
	}
}

func textKey(t testing.TB, c Column, text string) Key {
	t.Helper()
	e := testEncoder(t, Shape{Table: "t", Columns: []Column{c}, Key: []int{0}})
	e.Reset()
	if err := e.PostgresText(0, []byte(text)); err != nil {
		t.Fatal(err)
	}
	k, err := e.AppendKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Both are text columns stored out of line in an update: PostgreSQL sends the old key then.
func TestALongTextKeyIsItsWholeValue(t *testing.T) {
	c := PostgresColumn("id", PostgresType{Name: "text", Toastable: true})
	long := strings.Repeat("x", 2500)
	if k := textKey(t, c, long); string(k) != long+"\x00\x01" {
		t.Errorf("key is %.20x, %d bytes", []byte(k), len(k))
	}
}
