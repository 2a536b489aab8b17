package digest

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
)

// The canonical form of a decimal, in PostgreSQL's order of numeric:
//
//	-Infinity   10
//	negative    20, then all of what follows for its absolute value with each bit flipped
//	0           30
//	positive    40  +----------------+--------+--------+-----+----+
//	                | exponent, 4 B  | pair+1 | pair+1 | ... | 00 |
//	                +----------------+--------+--------+-----+----+
//	Infinity    50
//	NaN         60  (equal to itself and greater than all else)
//
// The value is 0.ddddd… times ten to the exponent, where the first digit is not zero. Two digits make a pair, 0 to 99;
// trailing zeros are dropped and a last single digit is the first of its pair. The exponent is big-endian with its sign
// bit flipped. So 1.5, 1.50 and 15e-1 are one value.
const (
	decimalNegInfinity = 0x10
	decimalNegative    = 0x20
	decimalZero        = 0x30
	decimalPositive    = 0x40
	decimalInfinity    = 0x50
	decimalNaN         = 0x60

	exponentBias = 1 << 31
)

var (
	errNotDecimal  = errors.New("is not a decimal number")
	errDecimalSize = errors.New("has an exponent that is out of range")
)

// number is the text of a finite decimal, taken apart.
type number struct {
	negative bool
	digits   []byte // from the first digit that is not zero to the last, with the point where it falls between; empty: zero
	exponent int64
}

// appendDecimal appends the canonical form of the number that text spells.
func appendDecimal(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "NaN":
		return append(dst, decimalNaN), nil
	case "Infinity":
		return append(dst, decimalInfinity), nil
	case "-Infinity":
		return append(dst, decimalNegInfinity), nil
	}
	n, ok := parseNumber(text)
	if !ok {
		return dst, errNotDecimal
	}
	if len(n.digits) > 0 && (n.exponent < math.MinInt32 || n.exponent > math.MaxInt32) {
		return dst, errDecimalSize
	}
	return n.append(dst), nil
}

func (n number) append(dst []byte) []byte {
	if len(n.digits) == 0 {
		return append(dst, decimalZero)
	}
	tag, flip := byte(decimalPositive), byte(0)
	if n.negative {
		tag, flip = decimalNegative, 0xff
	}
	dst = append(dst, tag)
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n.exponent+exponentBias))
	pair, half := byte(0), false
	for _, c := range n.digits {
		switch {
		case c == '.':
		case half:
			dst, half = append(dst, pair+(c-'0')+1), false
		default:
			pair, half = (c-'0')*10, true
		}
	}
	if half {
		dst = append(dst, pair+1)
	}
	dst = append(dst, 0)
	for i := start; i < len(dst); i++ {
		dst[i] ^= flip
	}
	return dst
}

// parseNumber takes text apart: an optional minus, digits, an optional point and digits, an optional exponent.
func parseNumber(text []byte) (n number, ok bool) {
	if len(text) > 0 && text[0] == '-' {
		n.negative, text = true, text[1:]
	}
	whole := countDigits(text)
	end := whole
	if end < len(text) && text[end] == '.' {
		fraction := countDigits(text[end+1:])
		if fraction == 0 {
			return n, false
		}
		end += 1 + fraction
	}
	if whole == 0 {
		return n, false
	}
	exponent, ok := parseExponent(text[end:])
	if !ok {
		return n, false
	}
	n.significant(text[:end], whole)
	n.exponent += exponent
	return n, true
}

// significant sets digits and exponent from a mantissa with so many digits before the point.
func (n *number) significant(mantissa []byte, whole int) {
	first := 0
	for first < len(mantissa) && (mantissa[first] == '0' || mantissa[first] == '.') {
		first++
	}
	last := len(mantissa)
	for last > first && (mantissa[last-1] == '0' || mantissa[last-1] == '.') {
		last--
	}
	n.digits, n.exponent = mantissa[first:last], int64(whole-first)
	if first > whole {
		n.exponent++ // the point is among the characters skipped
	}
}

// parseExponent parses nothing, or e, an optional sign and digits.
func parseExponent(text []byte) (v int64, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	negative := len(text) > 0 && text[0] == '-'
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		text = text[1:]
	}
	if len(text) == 0 || countDigits(text) != len(text) {
		return 0, false
	}
	for _, c := range text {
		if v = v*10 + int64(c-'0'); v > math.MaxUint32 {
			v = math.MaxUint32 << 8 // out of range, whatever the mantissa
		}
	}
	if negative {
		v = -v
	}
	return v, true
}

func countDigits(b []byte) int {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

// cutDecimal reads a canonical decimal off the start of b and returns it as JSON: a number, or a string if it is not
// finite.
func cutDecimal(b []byte) (text string, rest []byte, ok bool) {
	if len(b) == 0 {
		return "", b, false
	}
	switch b[0] {
	case decimalNegInfinity:
		return `"-Infinity"`, b[1:], true
	case decimalZero:
		return "0", b[1:], true
	case decimalInfinity:
		return `"Infinity"`, b[1:], true
	case decimalNaN:
		return `"NaN"`, b[1:], true
	case decimalPositive, decimalNegative:
		return cutFinite(b)
	}
	return "", b, false
}

func cutFinite(b []byte) (text string, rest []byte, ok bool) {
	sign, flip := "", byte(0)
	if b[0] == decimalNegative {
		sign, flip = "-", 0xff
	}
	if len(b) < 5 {
		return "", b, false
	}
	exponent := int64(binary.BigEndian.Uint32(b[1:])^(uint32(flip)*0x01010101)) - exponentBias
	digits, rest, ok := cutPairs(b[5:], flip)
	if !ok || digits[0] == '0' {
		return "", b, false
	}
	return sign + formatDecimal(digits, exponent), rest, true
}

// cutPairs reads pairs of digits up to their end. There is at least one pair, and the last is not zero.
func cutPairs(b []byte, flip byte) (digits string, rest []byte, ok bool) {
	var out []byte
	for i, c := range b {
		c ^= flip
		switch {
		case c > 100:
			return "", b, false
		case c > 0:
			out = append(out, '0'+(c-1)/10, '0'+(c-1)%10)
			continue
		}
		n := len(out)
		if n == 0 || out[n-2] == '0' && out[n-1] == '0' {
			return "", b, false
		}
		if out[n-1] == '0' {
			out = out[:n-1]
		}
		return string(out), b[i+1:], true
	}
	return "", b, false
}

// formatDecimal returns 0.digits times ten to the exponent as a JSON number, with an exponent only where plain digits
// would be mostly zeros.
func formatDecimal(digits string, exponent int64) string {
	const zeros = 20
	point := int(exponent)
	switch {
	case exponent > int64(len(digits)+zeros) || exponent < -zeros:
		if len(digits) > 1 {
			digits = digits[:1] + "." + digits[1:]
		}
		return digits + "e" + strconv.FormatInt(exponent-1, 10)
	case point <= 0:
		return "0." + strings.Repeat("0", -point) + digits
	case point >= len(digits):
		return digits + strings.Repeat("0", point-len(digits))
	}
	return digits[:point] + "." + digits[point:]
}
