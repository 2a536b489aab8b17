package digest

import (
	"errors"
	"fmt"
)

// Null sets a column to NULL.
func (e *Encoder) Null(col int) {
	if e.has(col) {
		e.values[col].state = null
	}
}

// Unchanged says that the value of a wide column was left out because the update did not change it.
func (e *Encoder) Unchanged(col int) {
	if !e.has(col) {
		return
	}
	e.values[col].state = unset
	if !e.columns[col].wide {
		e.fail(col, errors.New("was left out of an update, but the shape says that it is always sent"))
		return
	}
	e.values[col].state = unchanged
}

// Int sets a column of class Int.
func (e *Encoder) Int(col int, v int64) {
	if e.begin(col, Int) {
		e.arena = appendInt(e.arena, v)
		e.finish(col)
	}
}

// Uint sets a column of class Int. Equal numbers are equal values, whether set with Int or Uint.
func (e *Encoder) Uint(col int, v uint64) {
	if e.begin(col, Int) {
		e.arena = appendUint(e.arena, v)
		e.finish(col)
	}
}

// Decimal sets a column of class Decimal: plain digits or with an exponent, NaN, Infinity, -Infinity.
func (e *Encoder) Decimal(col int, text []byte) error {
	return e.parsed(col, Decimal, text, appendDecimal)
}

// Float sets a column of class Float. Negative zero is a value of its own, except in keys.
func (e *Encoder) Float(col int, v float64) {
	if e.begin(col, Float) {
		e.arena = appendFloat(e.arena, v)
		e.finish(col)
	}
}

// Text sets a column of class Text. Blank padding is to be cut off by the caller.
func (e *Encoder) Text(col int, v []byte) { e.raw(col, Text, v) }

// Bytes sets a column of class Bytes.
func (e *Encoder) Bytes(col int, v []byte) { e.raw(col, Bytes, v) }

// Verbatim sets a column of class Verbatim.
func (e *Encoder) Verbatim(col int, text []byte) { e.raw(col, Verbatim, text) }

// UUID sets a column of class UUID.
func (e *Encoder) UUID(col int, v [16]byte) { e.raw(col, UUID, v[:]) }

// Date sets a column of class Date to so many days since 1970-01-01.
func (e *Encoder) Date(col int, days int64) {
	if !e.begin(col, Date) {
		return
	}
	if days < minDays || days > maxDays {
		e.fail(col, errors.New("date is out of range"))
		return
	}
	e.arena = appendInt(e.arena, days)
	e.finish(col)
}

// Time sets a column of class Time to so many microseconds since midnight.
func (e *Encoder) Time(col int, us int64) {
	if !e.begin(col, Time) {
		return
	}
	if us < -maxTime || us > maxTime {
		e.fail(col, errors.New("time is out of range"))
		return
	}
	e.arena = appendInt(e.arena, us)
	e.finish(col)
}

// Timestamp sets a column of class Timestamp to so many microseconds since 1970-01-01 00:00:00.
func (e *Encoder) Timestamp(col int, us int64) { e.moment(col, Timestamp, us) }

// Instant sets a column of class Instant to so many microseconds since 1970-01-01 00:00:00 UTC.
func (e *Encoder) Instant(col int, us int64) { e.moment(col, Instant, us) }

// Infinity sets a column of class Date, Timestamp or Instant to infinity, or to -infinity if sign is negative.
func (e *Encoder) Infinity(col int, sign int) {
	if !e.has(col) {
		return
	}
	switch class := e.columns[col].Class; class {
	case Date, Timestamp, Instant:
		e.begin(col, class)
		e.arena = appendInfinity(e.arena, sign)
		e.finish(col)
	default:
		e.fail(col, fmt.Errorf("of class %s has no infinity to set so", class))
	}
}

// JSON sets a column of class JSON to the value that text describes.
func (e *Encoder) JSON(col int, text []byte) error {
	return e.parsed(col, JSON, text, e.json.appendCanonical)
}

// parsed sets a column to what parse makes of text. If that fails the column is unset.
func (e *Encoder) parsed(col int, class Class, text []byte, parse func(dst, text []byte) ([]byte, error)) error {
	if !e.begin(col, class) {
		return e.err
	}
	arena, err := parse(e.arena, text)
	if err != nil {
		return e.describe(col, err)
	}
	e.arena = arena
	e.finish(col)
	return nil
}

func (e *Encoder) raw(col int, class Class, v []byte) {
	if e.begin(col, class) {
		e.arena = append(e.arena, v...)
		e.finish(col)
	}
}

func (e *Encoder) moment(col int, class Class, us int64) {
	if e.begin(col, class) {
		days, rest := us/dayMicroseconds, us%dayMicroseconds
		if rest < 0 {
			days, rest = days-1, rest+dayMicroseconds
		}
		e.arena = appendMoment(e.arena, days, rest)
		e.finish(col)
	}
}

// begin makes the arena ready for a column's value to be appended: that of a wide column is preceded by what its digest
// is bound to.
func (e *Encoder) begin(col int, class Class) bool {
	if !e.has(col) {
		return false
	}
	c := &e.columns[col]
	e.values[col].state = unset
	if c.Class != class {
		e.fail(col, fmt.Errorf("has class %s and was set to a value of class %s", c.Class, class))
		return false
	}
	if c.wide {
		e.arena = append(e.arena, c.bound...)
	}
	e.values[col].start = len(e.arena)
	return true
}

// finish takes what was appended to the arena since begin as the column's value.
func (e *Encoder) finish(col int) {
	c, v := &e.columns[col], &e.values[col]
	v.end, v.state = len(e.arena), inline
	if !c.wide || c.inlines && v.end-v.start <= inlineLimit {
		return
	}
	v.start -= len(c.bound)
	d := e.hasher.sum(e.arena[v.start:v.end])
	e.arena = append(e.arena[:v.start], d[:]...)
	v.end, v.state = len(e.arena), apart
}

func (e *Encoder) has(col int) bool {
	if col >= 0 && col < len(e.columns) {
		return true
	}
	e.noColumn(col)
	return false
}

func (e *Encoder) noColumn(col int) {
	if e.err == nil {
		e.err = fmt.Errorf("table %s has %d columns and none with number %d", e.shape.Table, len(e.columns), col)
	}
}

// fail keeps the first error for AppendKey and Row.
func (e *Encoder) fail(col int, err error) {
	if e.err == nil {
		e.err = e.describe(col, err)
	}
}

// describe names the column that err is about, never its value.
func (e *Encoder) describe(col int, err error) error {
	c := &e.columns[col]
	return fmt.Errorf("table %s: column %q (%s) %w", e.shape.Table, c.Name, c.Class, err)
}
