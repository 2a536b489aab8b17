package digest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// write writes what a JSON text was decoded to.
func (w *JSONWriter) write(v any) error {
	switch v := v.(type) {
	case nil:
		w.Null()
	case bool:
		w.Bool(v)
	case int64:
		w.Int(v)
	case uint64:
		w.Uint(v)
	case float64:
		return w.Float(v)
	case string:
		w.String([]byte(v))
	case []any:
		w.BeginArray()
		for _, element := range v {
			if err := w.write(element); err != nil {
				return err
			}
		}
		w.EndArray()
	case []jsonMember:
		o := w.BeginObject()
		for _, m := range v {
			w.Name(o, []byte(m.name))
			if err := w.write(m.value); err != nil {
				return err
			}
		}
		w.EndObject(o)
	}
	return nil
}

type jsonMember struct {
	name  string
	value any
}

// jsonText prints the same as text.
func jsonText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return string(appendJSONString(nil, v))
	case []any:
		var list []string
		for _, element := range v {
			list = append(list, jsonText(element))
		}
		return "[" + strings.Join(list, ", ") + "]"
	case []jsonMember:
		var list []string
		for _, m := range v {
			list = append(list, string(appendJSONString(nil, m.name))+": "+jsonText(m.value))
		}
		return "{" + strings.Join(list, ", ") + "}"
	}
	return fmt.Sprint(v)
}

// randomJSON makes a value with names that come twice, and that are the start of another.
func randomJSON(r *rand.Rand, depth int) any {
	names := []string{"", "a", "aa", "b", "a\x00", "é"}
	switch n := r.IntN(10); {
	case n < 2 && depth > 0:
		list := []any{}
		for range r.IntN(4) {
			list = append(list, randomJSON(r, depth-1))
		}
		return list
	case n < 5 && depth > 0:
		members := []jsonMember{}
		for range r.IntN(6) {
			members = append(members, jsonMember{names[r.IntN(len(names))], randomJSON(r, depth-1)})
		}
		return members
	}
	scalars := []any{nil, true, false, r.Int64() - math.MaxInt64/2, r.Uint64(), int64(math.MinInt64), uint64(100), int64(-100), r.NormFloat64(), math.Copysign(0, -1), 1e300, 5e-324, names[r.IntN(len(names))], "\x00\n\"<>"}
	return scalars[r.IntN(len(scalars))]
}

func TestJSONTreeIsTheSameAsItsText(t *testing.T) {
	s := Shape{Table: "t", Columns: []Column{{Name: "id", Class: Int}, {Name: "v", Class: JSON}}, Key: []int{0}}
	tree, text := testEncoder(t, s), testEncoder(t, s)
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		v := randomJSON(r, 4)
		var rows [2]Row
		for i, e := range []*Encoder{tree, text} {
			e.Reset()
			e.Int(0, 1)
			err := error(nil)
			if i == 0 {
				err = e.JSONTree(1, func(w *JSONWriter) error { return w.write(v) })
			} else {
				err = e.JSON(1, []byte(jsonText(v)))
			}
			if err == nil {
				err = e.Row(&rows[i])
			}
			if err != nil {
				t.Fatalf("%s: %v", jsonText(v), err)
			}
		}
		if rows[0].Digest != rows[1].Digest {
			t.Fatalf("%s: tree and text do not digest alike", jsonText(v))
		}
	}
}

func TestJSONTreeThatFailsLeavesTheColumnUnset(t *testing.T) {
	s := Shape{Table: "t", Columns: []Column{{Name: "id", Class: Int}, {Name: "v", Class: JSON}}, Key: []int{0}}
	e := testEncoder(t, s)
	e.Reset()
	e.Int(0, 1)
	err := e.JSONTree(1, func(w *JSONWriter) error {
		w.BeginArray()
		return w.Float(math.Inf(1))
	})
	if err == nil || !strings.Contains(err.Error(), `table t: column "v" (json) has a number that is not finite`) {
		t.Errorf("error is %v", err)
	}
	if err := e.Row(new(Row)); err == nil {
		t.Error("a row was made")
	}
}

func TestBase64HasLines(t *testing.T) {
	s := Shape{Table: "t", Columns: []Column{{Name: "id", Class: Int}, {Name: "v", Class: JSON}}, Key: []int{0}}
	for n, want := range map[int]string{0: "x:", 1: "x:AA==", 3: "x:AAAA", 6: "x:AAAAAAAA", 7: `x:AAAAAAAA\nAA==`, 12: `x:AAAAAAAA\nAAAAAAAA`, 13: `x:AAAAAAAA\nAAAAAAAA\nAA==`} {
		var rows [2]Row
		for i := range rows {
			e := testEncoder(t, s)
			e.Reset()
			e.Int(0, 1)
			err := e.JSON(1, []byte(`"`+want+`"`))
			if i == 0 {
				err = e.JSONTree(1, func(w *JSONWriter) error { w.Base64("x:", make([]byte, n), 8); return nil })
			}
			if err == nil {
				err = e.Row(&rows[i])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if rows[0].Digest != rows[1].Digest {
			t.Errorf("%d bytes are not %s", n, want)
		}
	}
}
