package digest

import (
	"bytes"
	"errors"
	"strings"
)

// PostgresType names the type of a column as PostgreSQL's catalog does. Of a domain it is the base type.
type PostgresType struct {
	Schema string // of the type; empty: pg_catalog
	Name   string // pg_type.typname; of an array over a user's type the element's name and "[]"
	Enum   bool   // pg_type.typtype is 'e'
	// Toastable says that the server may store values out of line: pg_type.typlen is -1 and pg_attribute.attstorage is
	// not 'p'.
	Toastable bool
}

// postgresClasses are the types that have an engine-neutral class. All others are compared as the server prints them:
// two values that print differently differ, even if the server's "=" calls them equal (1 mon and 30 days).
var postgresClasses = map[string]Class{
	"bool": Int, "int2": Int, "int4": Int, "int8": Int, "oid": Int,
	"numeric": Decimal,
	"float4":  Float, "float8": Float,
	"text": Text, "varchar": Text, "bpchar": Text, "name": Text,
	"bytea":       Bytes,
	"uuid":        UUID,
	"date":        Date,
	"time":        Time,
	"timestamp":   Timestamp,
	"timestamptz": Instant,
	"jsonb":       JSON, // but json is verbatim: it keeps white space, order and duplicates
}

// PostgresColumn returns the column of the given name and type.
func PostgresColumn(name string, t PostgresType) Column {
	c := Column{Name: name, Class: t.class(), Wide: t.Toastable && !t.neverToasted()}
	switch {
	case c.Class == Verbatim:
		c.Type = t.String()
	case c.Class == Float && t.Name == TypeFloat4:
		c.Type = TypeFloat4
	case c.Class == Text && t.Name == TypeBPChar && t.builtin():
		c.Type = TypeBPChar
	}
	c.Wide = c.Wide && c.Class.varies()
	return c
}

func (t PostgresType) builtin() bool { return t.Schema == "" || t.Schema == "pg_catalog" }

func (t PostgresType) class() Class {
	if t.Enum || t.Name == "citext" {
		return Text
	}
	if class, ok := postgresClasses[t.Name]; ok && t.builtin() {
		return class
	}
	return Verbatim
}

// neverToasted reports whether the type is of varying length but always so short that the server has no reason to move
// it: see inlineLimit. An address takes at most 22 bytes with its header.
func (t PostgresType) neverToasted() bool {
	return t.Enum || t.builtin() && (t.Name == "inet" || t.Name == "cidr")
}

// String returns the type's name as it is the same on all servers: int4, int4[], public.mood.
func (t PostgresType) String() string {
	name := t.Name
	if !t.builtin() {
		return t.Schema + "." + name
	}
	if element, ok := strings.CutPrefix(name, "_"); ok {
		return element + "[]"
	}
	return name
}

var (
	errNotDate   = errors.New("is not a date as PostgreSQL prints it with DateStyle ISO")
	errNotTime   = errors.New("is not a time as PostgreSQL prints it with DateStyle ISO")
	errNotMoment = errors.New("is not a timestamp as PostgreSQL prints it with DateStyle ISO")
	errNotUTC    = errors.New("is not in UTC; lockstep's sessions must run with TimeZone UTC")
)

// PostgresText sets a column to the value that text spells, which is what PostgreSQL's output function prints under
// DateStyle ISO, IntervalStyle postgres, extra_float_digits 3, bytea_output hex and TimeZone UTC. On an error the column
// is unset.
func (e *Encoder) PostgresText(col int, text []byte) error {
	if !e.has(col) {
		return e.err
	}
	c := &e.columns[col]
	e.begin(col, c.Class)
	arena, err := e.appendPostgres(e.arena, c.Column, text)
	if err != nil {
		return e.describe(col, err)
	}
	e.arena = arena
	e.finish(col)
	return nil
}

// appendPostgres appends the canonical form of text.
func (e *Encoder) appendPostgres(dst []byte, c Column, text []byte) ([]byte, error) {
	switch c.Class {
	case Int:
		return appendPostgresInt(dst, text)
	case Decimal:
		return appendDecimal(dst, text)
	case Float:
		if c.Type == TypeFloat4 {
			return appendFloatText(dst, text, 32)
		}
		return appendFloatText(dst, text, 64)
	case Text:
		if c.Type == TypeBPChar {
			text = bytes.TrimRight(text, " ")
		}
		return append(dst, text...), nil
	case Bytes:
		return appendHexText(dst, text)
	case UUID:
		return appendUUIDText(dst, text)
	case Date:
		return appendPostgresDate(dst, text)
	case Time:
		return appendPostgresTime(dst, text)
	case Timestamp, Instant:
		return appendPostgresMoment(dst, text, c.Class == Instant)
	case JSON:
		return e.json.appendCanonical(dst, text)
	}
	return append(dst, text...), nil
}

// appendPostgresInt reads digits, or a boolean's t or f.
func appendPostgresInt(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "t":
		return appendInt(dst, 1), nil
	case "f":
		return appendInt(dst, 0), nil
	}
	return appendIntText(dst, text)
}

// appendPostgresDate reads 2024-02-29, 0044-03-15 BC, infinity, -infinity.
func appendPostgresDate(dst, text []byte) ([]byte, error) {
	if sign := infinitySign(text); sign != 0 {
		return appendInfinity(dst, sign), nil
	}
	text, bc := bytes.CutSuffix(text, []byte(" BC"))
	days, rest, ok := cutPostgresDate(text, bc)
	if !ok || len(rest) > 0 {
		return dst, errNotDate
	}
	return appendInt(dst, days), nil
}

// appendPostgresTime reads 18:04:56.78 and 24:00:00.
func appendPostgresTime(dst, text []byte) ([]byte, error) {
	us, rest, ok := cutClock(text)
	if !ok || len(rest) > 0 || us > dayMicroseconds {
		return dst, errNotTime
	}
	return appendInt(dst, us), nil
}

// appendPostgresMoment reads 2024-02-29 18:04:56.78, with +00 after it if zoned, and BC at the end.
func appendPostgresMoment(dst, text []byte, zoned bool) ([]byte, error) {
	if sign := infinitySign(text); sign != 0 {
		return appendInfinity(dst, sign), nil
	}
	text, bc := bytes.CutSuffix(text, []byte(" BC"))
	days, rest, ok := cutPostgresDate(text, bc)
	if !ok || len(rest) == 0 || rest[0] != ' ' {
		return dst, errNotMoment
	}
	us, rest, ok := cutClock(rest[1:])
	if !ok || us >= dayMicroseconds {
		return dst, errNotMoment
	}
	if zoned {
		if rest, ok = bytes.CutPrefix(rest, []byte("+00")); !ok {
			return dst, errNotUTC
		}
	}
	if len(rest) > 0 {
		return dst, errNotMoment
	}
	return appendMoment(dst, days, us), nil
}

// cutPostgresDate reads a date; PostgreSQL has no year 0, and 1 BC is the year 0 of the calendar.
func cutPostgresDate(text []byte, bc bool) (days int64, rest []byte, ok bool) {
	year, month, day, rest, ok := cutDate(text)
	if !ok || year == 0 {
		return 0, text, false
	}
	if bc {
		year = 1 - year
	}
	days, ok = daysSince1970(year, month, day)
	return days, rest, ok
}

func infinitySign(text []byte) int {
	switch string(text) {
	case "infinity":
		return +1
	case "-infinity":
		return -1
	}
	return 0
}
