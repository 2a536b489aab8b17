package mysql

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Readers of values in row images, other than times. Each is given as many bytes as the plan says, and the column that
// it is for; what it returns does not name the column, unless it is a namedError.

var (
	errDecimal = errors.New("holds a decimal that cannot be read")
	errTooLong = errors.New("holds more bytes than its type has")
	errNoLabel = errors.New("holds the number of a label that it does not have")
	errBadSize = errors.New("holds a value of a size that its type does not have")
)

// readInt reads a signed integer of 1, 2, 3, 4 or 8 bytes.
func readInt(c *planColumn, e *digest.Encoder, v []byte) error {
	switch len(v) {
	case 1:
		e.Int(c.target, int64(int8(v[0])))
	case 2:
		e.Int(c.target, int64(int16(binary.LittleEndian.Uint16(v))))
	case 3:
		e.Int(c.target, int64(int32(uint32(v[0])<<8|uint32(v[1])<<16|uint32(v[2])<<24)>>8))
	case 4:
		e.Int(c.target, int64(int32(binary.LittleEndian.Uint32(v))))
	case 8:
		e.Int(c.target, int64(binary.LittleEndian.Uint64(v)))
	default:
		return errBadSize
	}
	return nil
}

func readUint(c *planColumn, e *digest.Encoder, v []byte) error {
	switch len(v) {
	case 4:
		e.Uint(c.target, uint64(binary.LittleEndian.Uint32(v)))
	case 8:
		e.Uint(c.target, binary.LittleEndian.Uint64(v))
	default:
		e.Uint(c.target, littleEndian(v))
	}
	return nil
}

// readYear reads the years since 1900, of which 0 is the year 0.
func readYear(c *planColumn, e *digest.Encoder, v []byte) error {
	year := int64(v[0])
	if year > 0 {
		year += 1900
	}
	e.Int(c.target, year)
	return nil
}

// readBit reads bits as a number, the highest byte first.
func readBit(c *planColumn, e *digest.Encoder, v []byte) error {
	e.Uint(c.target, bigEndian(v))
	return nil
}

// bigEndian reads up to 8 bytes.
func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func readFloat(c *planColumn, e *digest.Encoder, v []byte) error {
	e.Float(c.target, float64(math.Float32frombits(binary.LittleEndian.Uint32(v))))
	return nil
}

func readDouble(c *planColumn, e *digest.Encoder, v []byte) error {
	e.Float(c.target, math.Float64frombits(binary.LittleEndian.Uint64(v)))
	return nil
}

func readDecimal(c *planColumn, e *digest.Encoder, v []byte) error {
	var digits decimalDigits
	negative, whole, ok := digits.read(v, c.precision, c.scale)
	if !ok {
		return errDecimal
	}
	e.DecimalDigits(c.target, negative, digits.of(c.precision), whole)
	return nil
}

// maxPrecision is more digits than a decimal may have: 65, or 67 in what MariaDB computes.
const maxPrecision = 81

// decimalDigits are the digits of a decimal, those of the fraction after those before the point.
//
// In a row image they are in groups of nine, from the point to both sides, each a number in 4 bytes BE; the outermost
// groups have fewer digits and bytes. Of the first byte the highest bit is flipped; of a negative number, all bits of all
// bytes are (decimal2bin in strings/decimal.c of the servers' source).
type decimalDigits [maxPrecision]byte

// groupBytes is how many bytes a group of so many digits takes.
var groupBytes = [10]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

// decimalSize is how many bytes a decimal takes.
func decimalSize(precision, scale int) int {
	whole := precision - scale
	return whole/9*4 + groupBytes[whole%9] + scale/9*4 + groupBytes[scale%9]
}

// of returns the digits of a decimal that was read.
func (d *decimalDigits) of(precision int) []byte { return d[:precision] }

func (d *decimalDigits) read(v []byte, precision, scale int) (negative bool, whole int, ok bool) {
	whole = precision - scale
	if precision < 1 || precision > maxPrecision || whole < 0 || scale < 0 || len(v) != decimalSize(precision, scale) {
		return false, 0, false
	}
	flip := byte(0)
	if v[0]&0x80 == 0 {
		flip = 0xff
	}
	first, at, ok := byte(0x80), 0, true
	group := func(n int) {
		size, value := groupBytes[n], uint32(0)
		for _, c := range v[:size] {
			value, first = value<<8|uint32(c^first^flip), 0
		}
		v = v[size:]
		for i := at + n - 1; i >= at; i-- {
			d[i], value = byte('0'+value%10), value/10
		}
		ok = ok && value == 0
		at += n
	}
	if whole%9 > 0 {
		group(whole % 9)
	}
	for range whole/9 + scale/9 {
		group(9)
	}
	if scale%9 > 0 {
		group(scale % 9)
	}
	return flip != 0, whole, ok
}

func readText(c *planColumn, e *digest.Encoder, v []byte) error {
	e.Text(c.target, v)
	return nil
}

func readLatin1(c *planColumn, e *digest.Encoder, v []byte) error {
	e.TextFrom(c.target, func(dst []byte) []byte { return appendLatin1(dst, v) })
	return nil
}

// readChar reads text without the blanks that its type pads it with.
func readChar(c *planColumn, e *digest.Encoder, v []byte) error { return readText(c, e, trimBlanks(v)) }

func readLatin1Char(c *planColumn, e *digest.Encoder, v []byte) error {
	return readLatin1(c, e, trimBlanks(v))
}

func trimBlanks(v []byte) []byte {
	n := len(v)
	for n > 0 && v[n-1] == ' ' {
		n--
	}
	return v[:n]
}

func readBytes(c *planColumn, e *digest.Encoder, v []byte) error {
	e.Bytes(c.target, v)
	return nil
}

// readBinary reads bytes of a fixed width, of which the image has not the zeros at the end.
func readBinary(c *planColumn, e *digest.Encoder, v []byte) error {
	if len(v) > c.width {
		return errTooLong
	}
	e.PaddedBytes(c.target, v, c.width)
	return nil
}

// readUUID reads the same of a UUID.
func readUUID(c *planColumn, e *digest.Encoder, v []byte) error {
	var uuid [16]byte
	if len(v) > len(uuid) {
		return errTooLong
	}
	copy(uuid[:], v)
	e.UUID(c.target, uuid)
	return nil
}

// readEnum reads the number of a label.
func readEnum(c *planColumn, e *digest.Encoder, v []byte) error {
	text, err := c.labels.enum(littleEndian(v))
	if err == nil {
		e.Text(c.target, text)
	}
	return err
}

// readSet reads a bit for each label, the lowest for the first.
func readSet(c *planColumn, e *digest.Encoder, v []byte) error {
	bits := littleEndian(v)
	if !c.labels.has(bits) {
		return errNoLabel
	}
	e.TextFrom(c.target, func(dst []byte) []byte { return c.labels.appendSet(dst, bits) })
	return nil
}

func readJSON(c *planColumn, e *digest.Encoder, v []byte) error {
	err := e.JSONTree(c.target, func(w *digest.JSONWriter) error { return writeJSONB(w, v) })
	if err != nil {
		return &namedError{err}
	}
	return nil
}

// readCompressed reads a value of a COMPRESSED column of MariaDB.
func readCompressed(c *planColumn, e *digest.Encoder, v []byte) error {
	return inflateValue(v, func(v []byte) error { return c.inflated(c, e, v) })
}
