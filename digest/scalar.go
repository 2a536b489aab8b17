package digest

import (
	"encoding/hex"
	"errors"
	"math"
	"strconv"
)

// Errors about text complete a sentence that names the column; they never quote the value.
var (
	errNotInt   = errors.New("is not an integer of up to 64 bits")
	errNotFloat = errors.New("is not a floating-point number")
	errNotHex   = errors.New(`is not \x and hexadecimal digits`)
	errNotUUID  = errors.New("is not a UUID in five groups of digits")
)

// appendIntText appends the canonical form of an integer written in digits.
func appendIntText(dst, text []byte) ([]byte, error) {
	if len(text) > 0 && text[0] == '-' {
		v, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return dst, errNotInt
		}
		return appendInt(dst, v), nil
	}
	if countDigits(text) != len(text) {
		return dst, errNotInt
	}
	v, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return dst, errNotInt
	}
	return appendUint(dst, v), nil
}

// appendFloatText appends the canonical form of a float whose text is the shortest that names it among floats of so many
// bits.
func appendFloatText(dst, text []byte, bits int) ([]byte, error) {
	v, ok := parseFloat(text, bits)
	if !ok {
		return dst, errNotFloat
	}
	return appendFloat(dst, v), nil
}

// appendHexText appends the bytes that \x and hexadecimal digits spell.
func appendHexText(dst, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return dst, errNotHex
	}
	out, err := hex.AppendDecode(dst, text[2:])
	if err != nil {
		return dst, errNotHex
	}
	return out, nil
}

// parseFloat parses plain or scientific digits, NaN, Infinity and -Infinity, as PostgreSQL spells them.
func parseFloat(text []byte, bits int) (v float64, ok bool) {
	switch string(text) {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(+1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	for _, c := range text {
		if !isNumberByte(c) {
			return 0, false // strconv knows more spellings
		}
	}
	v, err := strconv.ParseFloat(string(text), bits)
	return v, err == nil
}

// appendUUIDText appends the 16 bytes of a UUID in groups of 8, 4, 4, 4 and 12 digits.
func appendUUIDText(dst, text []byte) ([]byte, error) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, errNotUUID
	}
	out := dst
	for i := 0; i < len(text); i += 2 {
		switch i {
		case 8, 13, 18, 23: // where the dashes are; any other is no digit
			i++
		}
		high, ok1 := hexDigit(text[i])
		low, ok2 := hexDigit(text[i+1])
		if !ok1 || !ok2 {
			return dst, errNotUUID
		}
		out = append(out, high<<4|low)
	}
	return out, nil
}
