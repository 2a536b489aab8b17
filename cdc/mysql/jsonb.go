package mysql

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/digest"
)

// MySQL's binary JSON (sql-common/json_binary.h in the server's source): a byte for the type, and the value.
//
//	object   count | size | count times (offset of name | length of name 2) | count times (type 1 | value or offset) | ...
//	array    count | size | count times (type 1 | value or offset) | ...
//	string   length in groups of 7 bits, the lowest first | UTF-8
//	opaque   type of a column 1 | length as above | the value as the server keeps it
//
// Counts, sizes and offsets have 2 bytes in small objects and arrays, 4 in large ones; offsets are from the count on. What
// is no longer than an offset stands in its place. After an update in place there may be holes, but nothing is used
// twice: what is read of a document is never more than the document, or else it is damaged.
const (
	jsonbSmallObject = iota
	jsonbLargeObject
	jsonbSmallArray
	jsonbLargeArray
	jsonbLiteral
	jsonbInt16
	jsonbUint16
	jsonbInt32
	jsonbUint32
	jsonbInt64
	jsonbUint64
	jsonbDouble
	jsonbString
	jsonbOpaque = 0x0f
)

// maxJSONBDepth is more than the server allows, which is 100.
const maxJSONBDepth = 128

// base64Line is after how many characters the server breaks a line in the text of an opaque value.
const base64Line = 76

var (
	errJSONB      = errors.New("holds damaged binary JSON")
	errJSONBDepth = errors.New("holds JSON that is nested more than " + strconv.Itoa(maxJSONBDepth) + " levels deep")
)

// writeJSONB writes a document of binary JSON, which is what SELECT prints it as. A document without a byte is null: the
// server puts it where a column that may not be NULL was given none.
func writeJSONB(w *digest.JSONWriter, doc []byte) error {
	if len(doc) == 0 {
		w.Null()
		return nil
	}
	r := jsonbReader{w: w, left: len(doc)}
	return r.value(doc[0], doc[1:], 0)
}

type jsonbReader struct {
	w    *digest.JSONWriter
	left int // bytes of the document that may still be used
}

// use takes n bytes off what is left.
func (r *jsonbReader) use(n int) bool {
	r.left -= n
	return r.left >= 0
}

func (r *jsonbReader) value(kind byte, b []byte, depth int) error {
	switch kind {
	case jsonbSmallObject, jsonbLargeObject, jsonbSmallArray, jsonbLargeArray:
		if depth++; depth > maxJSONBDepth {
			return errJSONBDepth
		}
		return r.container(kind, b, depth)
	case jsonbString:
		text, ok := r.text(b)
		if !ok {
			return errJSONB
		}
		r.w.String(text)
		return nil
	case jsonbOpaque:
		if len(b) == 0 {
			return errJSONB
		}
		text, ok := r.text(b[1:])
		if !ok {
			return errJSONB
		}
		return r.opaque(b[0], text)
	}
	return r.scalar(kind, b)
}

// scalar reads values of fixed sizes.
func (r *jsonbReader) scalar(kind byte, b []byte) error {
	switch {
	case kind == jsonbLiteral && len(b) >= 1 && b[0] == 0:
		r.w.Null()
	case kind == jsonbLiteral && len(b) >= 1 && b[0] <= 2:
		r.w.Bool(b[0] == 1)
	case kind == jsonbInt16 && len(b) >= 2:
		r.w.Int(int64(int16(binary.LittleEndian.Uint16(b))))
	case kind == jsonbUint16 && len(b) >= 2:
		r.w.Uint(uint64(binary.LittleEndian.Uint16(b)))
	case kind == jsonbInt32 && len(b) >= 4:
		r.w.Int(int64(int32(binary.LittleEndian.Uint32(b))))
	case kind == jsonbUint32 && len(b) >= 4:
		r.w.Uint(uint64(binary.LittleEndian.Uint32(b)))
	case kind == jsonbInt64 && len(b) >= 8:
		r.w.Int(int64(binary.LittleEndian.Uint64(b)))
	case kind == jsonbUint64 && len(b) >= 8:
		r.w.Uint(binary.LittleEndian.Uint64(b))
	case kind == jsonbDouble && len(b) >= 8:
		return r.w.Float(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	default:
		return errJSONB
	}
	return nil
}

// text reads a length and as many bytes.
func (r *jsonbReader) text(b []byte) ([]byte, bool) {
	length := uint64(0)
	for i := 0; i < 5 && i < len(b); i++ {
		length |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 != 0 {
			continue
		}
		b = b[i+1:]
		if length > uint64(len(b)) || !r.use(int(length)) {
			return nil, false
		}
		return b[:length], true
	}
	return nil, false
}

// container is an object or array that was opened.
type container struct {
	data   []byte // from the count on
	count  int
	size   int // of offsets
	values int // where the entries of the values begin
}

func (r *jsonbReader) container(kind byte, b []byte, depth int) error {
	c := container{size: 2}
	if kind == jsonbLargeObject || kind == jsonbLargeArray {
		c.size = 4
	}
	object := kind == jsonbSmallObject || kind == jsonbLargeObject
	if len(b) < 2*c.size {
		return errJSONB
	}
	c.count = c.offset(b)
	size := c.offset(b[c.size:])
	if size > len(b) {
		return errJSONB
	}
	c.data, c.values = b[:size], 2*c.size
	entries := c.count * (1 + c.size)
	if object {
		c.values += c.count * (c.size + 2)
		entries += c.count * (c.size + 2)
	}
	if 2*c.size+entries > size || !r.use(entries) {
		return errJSONB
	}
	if object {
		return r.object(c, depth)
	}
	return r.array(c, depth)
}

// offset reads an offset, a count or a size.
func (c *container) offset(b []byte) int {
	if c.size == 2 {
		return int(binary.LittleEndian.Uint16(b))
	}
	return int(binary.LittleEndian.Uint32(b))
}

func (r *jsonbReader) array(c container, depth int) error {
	r.w.BeginArray()
	for i := range c.count {
		if err := r.element(&c, i, depth); err != nil {
			return err
		}
	}
	r.w.EndArray()
	return nil
}

func (r *jsonbReader) object(c container, depth int) error {
	o := r.w.BeginObject()
	for i := range c.count {
		entry := c.data[2*c.size+i*(c.size+2):]
		start, length := c.offset(entry), int(binary.LittleEndian.Uint16(entry[c.size:]))
		if start > len(c.data) || length > len(c.data)-start || !r.use(length) {
			return errJSONB
		}
		r.w.Name(o, c.data[start:start+length])
		if err := r.element(&c, i, depth); err != nil {
			return err
		}
	}
	r.w.EndObject(o)
	return nil
}

// element reads a value of a container.
func (r *jsonbReader) element(c *container, i, depth int) error {
	entry := c.data[c.values+i*(1+c.size):]
	kind, entry := entry[0], entry[1:1+c.size]
	switch kind {
	case jsonbLiteral, jsonbInt16, jsonbUint16:
		return r.value(kind, entry, depth)
	case jsonbInt32, jsonbUint32:
		if c.size == 4 {
			return r.value(kind, entry, depth)
		}
	}
	start := c.offset(entry)
	if start > len(c.data) {
		return errJSONB
	}
	return r.value(kind, c.data[start:], depth)
}

// opaque reads a value that JSON has no type for: a decimal, which is printed as a number; what is printed as a time, with
// six digits of fraction whatever it has; or anything else, in base64.
func (r *jsonbReader) opaque(kind columnType, v []byte) error {
	switch kind {
	case wire.MYSQL_TYPE_NEWDECIMAL:
		if len(v) < 2 {
			return errJSONB
		}
		var digits decimalDigits
		negative, whole, ok := digits.read(v[2:], int(v[0]), int(v[1]))
		if !ok {
			return errJSONB
		}
		r.w.Digits(negative, digits.of(int(v[0])), whole)
		return nil
	case wire.MYSQL_TYPE_DATE, wire.MYSQL_TYPE_TIME, wire.MYSQL_TYPE_DATETIME, wire.MYSQL_TYPE_TIMESTAMP:
		if len(v) != 8 {
			return errJSONB
		}
		var buffer [40]byte
		r.w.String(appendPackedTime(buffer[:0], kind, int64(binary.LittleEndian.Uint64(v))))
		return nil
	}
	r.w.Base64("base64:type"+strconv.Itoa(int(kind))+":", v, base64Line)
	return nil
}

// appendPackedTime appends the text of a time as it is kept in memory:
//
//	date and time   (year*13 + month) << 46 | day << 41 | hour << 36 | minute << 30 | second << 24 | microseconds
//	time            hours                                      << 36 | minute << 30 | second << 24 | microseconds
func appendPackedTime(dst []byte, kind columnType, packed int64) []byte {
	if packed < 0 {
		dst, packed = append(dst, '-'), -packed
	}
	if kind != wire.MYSQL_TYPE_TIME {
		months := int(packed >> 46)
		dst = append(appendPadded(dst, months/13, 4), '-')
		dst = append(appendPadded(dst, months%13, 2), '-')
		dst = appendPadded(dst, int(packed>>41&0x1f), 2)
		if kind == wire.MYSQL_TYPE_DATE {
			return dst
		}
		dst = append(dst, ' ')
		packed &= 1<<41 - 1
	}
	dst = append(appendPadded(dst, int(packed>>36), 2), ':')
	dst = append(appendPadded(dst, int(packed>>30&0x3f), 2), ':')
	dst = append(appendPadded(dst, int(packed>>24&0x3f), 2), '.')
	return appendPadded(dst, int(packed&0xffffff), 6)
}

// appendPadded appends a number with zeros in front, to a width.
func appendPadded(dst []byte, v, width int) []byte {
	limit := 1
	for range width - 1 {
		limit *= 10
	}
	for ; v < limit && limit > 1; limit /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(v), 10)
}
