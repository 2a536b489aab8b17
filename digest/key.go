package digest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// A key is the encodings of the key's columns one after the other, in the order of the primary key. Each is in the order
// of the column's values and none is the start of another, so that keys as bytes are in the order of keys as tuples, and
// can be decoded with the shape alone.
//
//	int, decimal, uuid, date, time, timestamp, instant
//	                        the canonical form: see value.go and decimal.go
//	float                   8 bytes: the canonical form with the sign bit flipped, of a negative number with all bits
//	                        flipped; -0 is 0. NaN comes last, as in PostgreSQL
//	text, bytes, verbatim   +----------------------------+---------+
//	                        | bytes, with 00 as 00 ff    | 00 01   |   ordered as bytes (the C collation)
//	                        +----------------------------+---------+
//
// JSON has no order. NULL cannot be part of a primary key.
const (
	textEnd   = 0x00 // starts an escape
	textEnded = 0x01 // after textEnd: the end
	textZero  = 0xff // after textEnd: a zero byte
)

// Compare is -1, 0 or +1 as k is before, equal to or after o.
func (k Key) Compare(o Key) int { return bytes.Compare(k, o) }

// appendKeyPart appends the key encoding of a value given in canonical form.
func appendKeyPart(dst []byte, class Class, canonical []byte) []byte {
	switch class {
	case Text, Bytes, Verbatim:
		return appendTerminated(dst, canonical)
	case Float:
		return binary.BigEndian.AppendUint64(dst, sortableFloat(binary.BigEndian.Uint64(canonical)))
	}
	return append(dst, canonical...)
}

func appendTerminated(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return append(append(dst, b...), textEnd, textEnded)
		}
		dst = append(append(dst, b[:i]...), textEnd, textZero)
		b = b[i+1:]
	}
}

// cutTerminated is the inverse of appendTerminated.
func cutTerminated(b []byte) (text, rest []byte, ok bool) {
	for {
		i := bytes.IndexByte(b, textEnd)
		if i < 0 || i+1 == len(b) {
			return nil, b, false
		}
		text = append(text, b[:i]...)
		switch b[i+1] {
		case textEnded:
			return text, b[i+2:], true
		case textZero:
			text = append(text, 0)
		default:
			return nil, b, false
		}
		b = b[i+2:]
	}
}

const signBit = 1 << 63

func sortableFloat(bits uint64) uint64 {
	switch {
	case bits == signBit: // -0
		return signBit
	case bits&signBit != 0:
		return ^bits
	}
	return bits | signBit
}

// cutFloat reads a float's key encoding off the start of b.
func cutFloat(b []byte) (v float64, rest []byte, ok bool) {
	if len(b) < 8 {
		return 0, b, false
	}
	sortable := binary.BigEndian.Uint64(b)
	bits := ^sortable
	if sortable&signBit != 0 {
		bits = sortable &^ signBit
	}
	v = math.Float64frombits(bits)
	canonical := appendFloat(nil, v)
	return v, b[8:], sortableFloat(binary.BigEndian.Uint64(canonical)) == sortable
}

// errBadKey is for a key that was not made with the shape it is decoded with.
func (s Shape) errBadKey(col int) error {
	return fmt.Errorf("table %s: key is damaged, or was made with another shape, at column %q", s.Table, s.Columns[col].Name)
}
