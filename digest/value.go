package digest

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The canonical forms of values. All but those of text, bytes, verbatim, JSON and float are in the order of the values,
// and none of them is the start of another's, so they stand in keys as they are.
//
//	int        +------------+----------------+   n is the number of bytes that the number needs, 0 to 8;
//	  >= 0     | 0x80 + n   | n bytes, BE    |   0 is 80, 5 is 81 05, 256 is 82 01 00
//	  <  0     | 0x7f - n   | n bytes, BE    |   -1 is 7f, -2 is 7e fe, -257 is 7d fe ff: the low bytes of the two's
//	           +------------+----------------+   complement, as many as ^number needs
//	float      8 bytes BE: the bits of the value as a double; one NaN
//	uuid       16 bytes
//	date       int: days since 1970-01-01; or 01 for -infinity, fe for infinity; or 02, see mysql.go
//	time       int: microseconds since midnight
//	timestamp, instant
//	           a date as above, int: microseconds of the day; or 01, fe
//	           (PostgreSQL's year 294276 is more microseconds after 1970 than 64 bits count)
//	text, bytes, verbatim
//	           as they are
//	decimal    see decimal.go
//	json       see json.go
const (
	intZero     = 0x80
	negInfinity = 0x01
	posInfinity = 0xfe
)

func appendInt(dst []byte, v int64) []byte {
	if v >= 0 {
		return appendUint(dst, uint64(v))
	}
	n := byteLen(uint64(^v))
	return appendLow(append(dst, byte(intZero-1-n)), uint64(v), n)
}

func appendUint(dst []byte, v uint64) []byte {
	n := byteLen(v)
	return appendLow(append(dst, byte(intZero+n)), v, n)
}

func byteLen(v uint64) int { return (bits.Len64(v) + 7) / 8 }

func appendLow(dst []byte, v uint64, n int) []byte {
	for n--; n >= 0; n-- {
		dst = append(dst, byte(v>>(8*n)))
	}
	return dst
}

// integer is a number from -2^63 to 2^64-1.
type integer struct {
	negative bool
	bits     uint64 // two's complement if negative
}

// int64 returns i as an int64, if it is one.
func (i integer) int64() (v int64, ok bool) {
	return int64(i.bits), i.negative || i.bits <= math.MaxInt64
}

// cutInt reads a canonical int off the start of b.
func cutInt(b []byte) (i integer, rest []byte, ok bool) {
	if len(b) == 0 {
		return i, b, false
	}
	n := int(b[0]) - intZero
	if n < 0 {
		i.negative, n = true, -1-n
	}
	if n > 8 || len(b) < 1+n {
		return i, b, false
	}
	if i.negative {
		i.bits = math.MaxUint64
	}
	for _, c := range b[1 : 1+n] {
		i.bits = i.bits<<8 | uint64(c)
	}
	return i, b[1+n:], i.needs(n)
}

// needs reports whether n is the number of bytes that i is encoded in.
func (i integer) needs(n int) bool {
	if !i.negative {
		return byteLen(i.bits) == n
	}
	return int64(i.bits) < 0 && byteLen(^i.bits) == n
}

func appendFloat(dst []byte, v float64) []byte {
	if v != v {
		v = math.NaN()
	}
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendInfinity(dst []byte, sign int) []byte {
	if sign < 0 {
		return append(dst, negInfinity)
	}
	return append(dst, posInfinity)
}

// cutInfinity reads an infinity of a date, timestamp or instant off the start of b.
func cutInfinity(b []byte) (sign int, rest []byte, ok bool) {
	switch {
	case len(b) > 0 && b[0] == negInfinity:
		return -1, b[1:], true
	case len(b) > 0 && b[0] == posInfinity:
		return +1, b[1:], true
	}
	return 0, b, false
}

func appendMoment(dst []byte, days, us int64) []byte {
	return appendInt(appendInt(dst, days), us)
}
