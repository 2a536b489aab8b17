package digest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errKeySyntax = errors.New("is not written as a value of its class")

// ParseKey is the inverse of [Shape.KeyJSON]: it returns the key that a JSON object describes, which must have all
// columns of the key and no others, in any order.
func (s Shape) ParseKey(data json.RawMessage) (Key, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("table %s: key is not UTF-8; write a text that is not as {\"bytes\":\"\\\\xff\"}", s.Table)
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil, fmt.Errorf("table %s: key is not a JSON object; it is made of %s", s.Table, s.keyNames())
	}
	if len(fields) != len(s.Key) {
		return nil, fmt.Errorf("table %s: key has %d columns, but %d were given; it is made of %s", s.Table, len(s.Key), len(fields), s.keyNames())
	}
	var k Key
	for _, col := range s.Key {
		c := s.Columns[col]
		field, ok := fields[c.Name]
		if !ok {
			return nil, fmt.Errorf("table %s: key lacks column %q; it is made of %s", s.Table, c.Name, s.keyNames())
		}
		canonical, err := parsePart(c.Class, field)
		if err != nil {
			return nil, fmt.Errorf("table %s: key column %q (%s) %w", s.Table, c.Name, c.Class, err)
		}
		k = appendKeyPart(k, c.Class, canonical)
	}
	return k, nil
}

func (s Shape) keyNames() string {
	var names []string
	for _, col := range s.Key {
		names = append(names, s.Columns[col].Name)
	}
	return strings.Join(names, ", ")
}

// parsePart returns the canonical form of one column of a key.
func parsePart(class Class, field json.RawMessage) ([]byte, error) {
	switch class {
	case Int:
		return appendIntText(nil, field)
	case Text, Verbatim:
		return parseTextPart(field)
	}
	text := field
	if field[0] == '"' {
		var s string
		if err := json.Unmarshal(field, &s); err != nil {
			return nil, err
		}
		text = []byte(s)
	}
	switch class {
	case Decimal:
		return appendDecimal(nil, text)
	case Float:
		return appendFloatText(nil, text, 64)
	case Bytes:
		return appendHexText(nil, text)
	case UUID:
		return appendUUIDText(nil, text)
	}
	return parseTemporal(class, text)
}

func parseTextPart(field json.RawMessage) ([]byte, error) {
	if field[0] == '{' {
		var raw struct{ Bytes string }
		if err := json.Unmarshal(field, &raw); err != nil {
			return nil, err
		}
		return appendHexText(nil, []byte(raw.Bytes))
	}
	if field[0] != '"' {
		return nil, errKeySyntax
	}
	var s string
	err := json.Unmarshal(field, &s)
	return []byte(s), err
}

// parseTemporal is the inverse of cutTemporal.
func parseTemporal(class Class, text []byte) ([]byte, error) {
	if class == Time {
		negative := len(text) > 0 && text[0] == '-'
		if negative {
			text = text[1:]
		}
		us, rest, ok := cutClock(text)
		if !ok || len(rest) > 0 {
			return nil, errKeySyntax
		}
		if negative {
			us = -us
		}
		return appendInt(nil, us), nil
	}
	switch string(text) {
	case "infinity":
		return appendInfinity(nil, +1), nil
	case "-infinity":
		return appendInfinity(nil, -1), nil
	}
	date, rest, ok := parseDay(text)
	if !ok {
		return nil, errKeySyntax
	}
	if class == Date {
		if len(rest) > 0 {
			return nil, errKeySyntax
		}
		return date, nil
	}
	return parseMoment(class, date, rest)
}

// parseDay is the inverse of cutDay.
func parseDay(text []byte) (date, rest []byte, ok bool) {
	if days, rest, ok := parseISODate(text); ok {
		return appendInt(nil, days), rest, true
	}
	year, month, day, rest, ok := cutDate(text)
	if !ok {
		return nil, text, false
	}
	date, ok = appendCivil(nil, year, month, day)
	return date, rest, ok
}

// parseMoment parses what follows the date: T, the time, and Z for an instant.
func parseMoment(class Class, date, rest []byte) ([]byte, error) {
	zone := ""
	if class == Instant {
		zone = "Z"
	}
	if len(rest) == 0 || rest[0] != 'T' {
		return nil, errKeySyntax
	}
	us, rest, ok := cutClock(rest[1:])
	if !ok || us >= dayMicroseconds || string(rest) != zone {
		return nil, errKeySyntax
	}
	return appendInt(date, us), nil
}

// ParseBound returns the key that JSON describes: an object of all its columns or, of a key of one column, its value.
func (s Shape) ParseBound(data json.RawMessage) (Key, error) {
	if data == nil {
		return nil, nil
	}
	if len(s.Key) != 1 || data[0] == '{' {
		return s.ParseKey(data)
	}
	column := s.Columns[s.Key[0]]
	if data[0] != '"' && (column.Class == Text || column.Class == Verbatim) {
		data = json.RawMessage(strconv.Quote(string(data))) // 7 as a text
	}
	object, err := json.Marshal(map[string]json.RawMessage{column.Name: data})
	if err != nil {
		return nil, fmt.Errorf("table %s: key: %w", s.Table, err)
	}
	return s.ParseKey(object)
}
