package digest

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"
)

// JSONTree sets a column of class JSON to the value that build writes. It is for engines whose logs have JSON as a
// binary tree. If build fails the column is unset.
func (e *Encoder) JSONTree(col int, build func(*JSONWriter) error) error {
	if !e.begin(col, JSON) {
		return e.err
	}
	p := &e.json
	p.out, p.members = e.arena, p.members[:0]
	err := build((*JSONWriter)(p))
	out := p.out
	p.out = nil
	if err != nil {
		return e.describe(col, err)
	}
	e.arena = out
	e.finish(col)
	return nil
}

// JSONWriter takes one JSON value in parts, in the order in which a text has them. What is written is what JSON text of
// the same value is turned into.
type JSONWriter jsonParser

// JSONObject is an object that was begun.
type JSONObject struct{ first, start int }

var errNotFinite = errors.New("has a number that is not finite")

// Null writes null.
func (w *JSONWriter) Null() { w.out = append(w.out, 'n') }

// Bool writes true or false.
func (w *JSONWriter) Bool(v bool) {
	if v {
		w.out = append(w.out, 't')
	} else {
		w.out = append(w.out, 'f')
	}
}

// Int writes a number.
func (w *JSONWriter) Int(v int64) {
	if v < 0 {
		w.integer(true, -uint64(v))
	} else {
		w.integer(false, uint64(v))
	}
}

// Uint writes a number.
func (w *JSONWriter) Uint(v uint64) { w.integer(false, v) }

func (w *JSONWriter) integer(negative bool, v uint64) {
	var buffer [20]byte
	digits := strconv.AppendUint(buffer[:0], v, 10)
	w.Digits(negative, digits, len(digits))
}

// Digits writes a number in ASCII digits, of which so many are before the point.
func (w *JSONWriter) Digits(negative bool, digits []byte, whole int) {
	w.out = decimalOf(negative, digits, whole).append(append(w.out, 'd'))
}

// Float writes the shortest number that names v among doubles.
func (w *JSONWriter) Float(v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return errNotFinite
	}
	var buffer [32]byte
	out, err := appendDecimal(append(w.out, 'd'), strconv.AppendFloat(buffer[:0], v, 'e', -1, 64))
	w.out = out
	return err
}

// String writes a string of UTF-8.
func (w *JSONWriter) String(v []byte) { w.out = appendTerminated(append(w.out, 's'), v) }

// Base64 writes a string: a prefix, and v in base64 with a line feed after each line of so many characters but the last.
func (w *JSONWriter) Base64(prefix string, v []byte, line int) {
	w.out = append(append(w.out, 's'), prefix...)
	for n := line / 4 * 3; len(v) > n; v = v[n:] {
		w.out = append(base64.StdEncoding.AppendEncode(w.out, v[:n]), '\n')
	}
	w.out = append(base64.StdEncoding.AppendEncode(w.out, v), textEnd, textEnded)
}

// BeginArray begins an array; its elements follow.
func (w *JSONWriter) BeginArray() { w.out = append(w.out, '[') }

// EndArray ends the array that was begun last.
func (w *JSONWriter) EndArray() { w.out = append(w.out, ']') }

// BeginObject begins an object; for each member, Name and the value follow.
func (w *JSONWriter) BeginObject() JSONObject {
	w.out = append(w.out, '{')
	return JSONObject{first: len(w.members), start: len(w.out)}
}

// Name begins a member of o. Of equal names the last counts.
func (w *JSONWriter) Name(o JSONObject, name []byte) {
	w.endMember(o)
	m := member{start: len(w.out)}
	w.String(name)
	m.middle = len(w.out)
	w.members = append(w.members, m)
}

// EndObject ends o.
func (w *JSONWriter) EndObject(o JSONObject) {
	w.endMember(o)
	(*jsonParser)(w).sort(o.start, w.members[o.first:])
	w.members = w.members[:o.first]
	w.out = append(w.out, '}')
}

// endMember ends the value of the last member of o, if there is one.
func (w *JSONWriter) endMember(o JSONObject) {
	if n := len(w.members); n > o.first {
		w.members[n-1].end = len(w.out)
	}
}
