package digest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Keys as JSON: an object with the key's columns in the order of the primary key.
//
//	int, decimal, float     a number; NaN, Infinity and -Infinity are strings
//	text, verbatim          a string; if it is not UTF-8, {"bytes":"\\xff"}
//	bytes                   a string: \x and hexadecimal digits
//	uuid                    a string
//	date                    2024-02-29; infinity and -infinity; MySQL's 0000-00-00 and 2024-02-00
//	time                    18:04:56.78
//	timestamp               2024-02-29T18:04:56.78
//	instant                 2024-02-29T18:04:56.78Z

// KeyJSON returns the key as people read it: {"id":500000}.
func (s Shape) KeyJSON(k Key) (json.RawMessage, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	out := []byte{'{'}
	rest := []byte(k)
	for i, col := range s.Key {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendJSONString(out, s.Columns[col].Name), ':')
		var ok bool
		if out, rest, ok = appendPartJSON(out, s.Columns[col].Class, rest); !ok {
			return nil, s.errBadKey(col)
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("table %s: key has %d bytes after its last column; it was made with another shape", s.Table, len(rest))
	}
	return append(out, '}'), nil
}

// appendPartJSON decodes one column of a key off the start of b and appends it to out.
func appendPartJSON(out []byte, class Class, b []byte) (_, rest []byte, ok bool) {
	switch class {
	case Int:
		return appendIntJSON(out, b)
	case Decimal:
		text, rest, ok := cutDecimal(b)
		return append(out, text...), rest, ok
	case Float:
		v, rest, ok := cutFloat(b)
		return appendFloatJSON(out, v), rest, ok
	case Text, Verbatim:
		text, rest, ok := cutTerminated(b)
		return appendTextJSON(out, text), rest, ok
	case Bytes:
		v, rest, ok := cutTerminated(b)
		return appendJSONString(out, `\x`+hex.EncodeToString(v)), rest, ok
	case UUID:
		if len(b) < 16 {
			return out, b, false
		}
		return appendJSONString(out, formatUUID(b[:16])), b[16:], true
	}
	text, rest, ok := cutTemporal(class, b)
	return appendJSONString(out, text), rest, ok
}

func appendIntJSON(out, b []byte) (_, rest []byte, ok bool) {
	i, rest, ok := cutInt(b)
	if i.negative {
		return strconv.AppendInt(out, int64(i.bits), 10), rest, ok
	}
	return strconv.AppendUint(out, i.bits, 10), rest, ok
}

func appendFloatJSON(out []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(out, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(out, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(out, `"-Infinity"`...)
	}
	return strconv.AppendFloat(out, v, 'g', -1, 64)
}

func appendTextJSON(out, text []byte) []byte {
	if utf8.Valid(text) {
		return appendJSONString(out, string(text))
	}
	out = appendJSONString(append(out, `{"bytes":`...), `\x`+hex.EncodeToString(text))
	return append(out, '}')
}

// appendJSONString appends s, which is UTF-8, as a JSON string that leaves <, > and & as they are.
func appendJSONString(out []byte, s string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return append(out, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func formatUUID(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// cutTemporal decodes a date, time, timestamp or instant.
func cutTemporal(class Class, b []byte) (text string, rest []byte, ok bool) {
	if class != Time {
		if sign, rest, ok := cutInfinity(b); ok {
			return formatInfinity(sign), rest, true
		}
	}
	if class == Time {
		v, rest, ok := cutBounded(b, -maxTime, maxTime)
		return formatClock(v), rest, ok
	}
	text, rest, ok = cutDay(b)
	if class == Date || !ok {
		return text, rest, ok
	}
	us, rest, ok := cutBounded(rest, 0, dayMicroseconds-1)
	if !ok {
		return "", b, false
	}
	text += "T" + formatClock(us)
	if class == Instant {
		text += "Z"
	}
	return text, rest, true
}

// cutDay decodes a date, of the calendar or not.
func cutDay(b []byte) (text string, rest []byte, ok bool) {
	if year, month, day, rest, ok := cutIrregular(b); ok {
		return fmt.Sprintf("%04d-%02d-%02d", year, month, day), rest, true
	}
	days, rest, ok := cutBounded(b, minDays, maxDays)
	if !ok {
		return "", b, false
	}
	return formatDate(days), rest, true
}

func formatInfinity(sign int) string {
	if sign < 0 {
		return "-infinity"
	}
	return "infinity"
}

// cutBounded reads an int from low to high off the start of b.
func cutBounded(b []byte, low, high int64) (v int64, rest []byte, ok bool) {
	i, rest, ok := cutInt(b)
	v, fits := i.int64()
	if !ok || !fits || v < low || v > high {
		return 0, b, false
	}
	return v, rest, true
}
