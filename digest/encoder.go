package digest

import (
	"encoding/binary"
	"fmt"
)

// The canonical encoding of a row. len is an unsigned varint; columns are in order of their names; a NULL column is left
// out, so that adding a column without a default leaves the digests of all rows as they were.
//
//	+--------+-----+-------+----------+----------+---
//	| "lsr1" | len | table | column   | column   | ...
//	+--------+-----+-------+----------+----------+---
//
//	column:  +-----+------+-------+------------------------+-----+-------+
//	         | len | name | class | len, type (verbatim)   | len | value |
//	         +-----+------+-------+------------------------+-----+-------+
//	         |<------ header, precomputed per column ----->|
//
// value is the canonical form that value.go, decimal.go and json.go describe. In place of a wide column's value stands
// its digest, with the top bit of class set. That makes a hole of fixed size for a value which an update leaves out:
//
//	+-----+------+--------------+-------------------+----+----------------------+
//	| len | name | class | 0x80 | len, type         | 16 | digest of the value  |
//	+-----+------+--------------+-------------------+----+----------------------+
//
// The digest of a value is bound to its place:
//
//	+--------+-----+-------+-----+------+-------+-----------+-------+
//	| "lsc1" | len | table | len | name | class | len, type | value |
//	+--------+-----+-------+-----+------+-------+-----------+-------+
//
// Each part is fixed, prefixed by its length, or last, so no two rows have the same encoding.
//
// A change of any of this is a change of the stored format; see the golden vectors in golden_test.go.
const (
	rowDomain    = "lsr1"
	columnDomain = "lsc1"
	hashedClass  = 0x80
)

// inlineLimit is the length up to which a value of a wide column stands in the row's encoding itself, so that the row
// index need not keep a digest of it.
//
// It must be so small that such a value is never left out of an update. PostgreSQL leaves out what is stored out of
// line, and stores out of line only attributes larger than MAXALIGN(TOAST_POINTER_SIZE), with their header
// (toast_tuple_find_biggest_attribute in src/backend/access/table/toast_helper.c): 24 bytes, or 20 where pointers have 4
// bytes. 15 bytes of canonical form are stored as at most
//
//   - text and bytea: 15 bytes and a header of up to 4. (In a server encoding that needs more bytes than UTF-8, EUC_JP,
//     22 and a header of 1.)
//   - numeric: 18 significant digits, which are at most 6 base-10000 digits of 2 bytes, and headers of up to 8.
//
// Blank-padded text is longer on the server than its canonical form; JSON and verbatim values have no such bound.
const inlineLimit = 15

// keptBuffer is the size above which a buffer that one large value has grown is given back.
const keptBuffer = 1 << 20

// Encoder builds the key and the row of one row at a time: Reset, then a value for each column in any order, then
// [Encoder.AppendKey] and [Encoder.Row]. For a key alone, the key columns suffice.
//
// A setter that does not fit its column makes the later AppendKey and Row fail. An Encoder belongs to one goroutine and
// allocates nothing once its buffers have grown.
type Encoder struct {
	hasher  *Hasher
	shape   Shape
	prefix  []byte // of every row's encoding
	columns []encodedColumn
	json    jsonParser

	// Of the row at hand.
	values []value
	arena  []byte // where the values are
	err    error  // of the first setter that failed

	row []byte // where Row puts the encoding together
}

// encodedColumn is what does not change from row to row.
type encodedColumn struct {
	Column
	wide    bool // may be left out of an update
	inlines bool // wide, but stands in the encoding if it is short
	header  []byte
	hashed  []byte // wide: the header before a digest
	bound   []byte // wide: what is digested before the value
}

type valueState uint8

const (
	unset valueState = iota
	null
	inline    // arena[start:end] is the canonical value
	apart     // arena[start:end] is the digest of the value
	unchanged // left out
)

type value struct {
	start, end int
	state      valueState
}

// NewEncoder returns an encoder for rows of the given shape.
//
// A key column is never treated as wide: PostgreSQL sends its value with every update, in the new row or, if it is
// stored out of line, in the old key.
func NewEncoder(h *Hasher, s Shape) (*Encoder, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	e := &Encoder{
		hasher:  h,
		shape:   s,
		prefix:  appendPrefixed([]byte(rowDomain), s.Table),
		columns: make([]encodedColumn, len(s.Columns)),
		values:  make([]value, len(s.Columns)),
	}
	for i, c := range s.Columns {
		e.columns[i] = newEncodedColumn(s.Table, c)
	}
	for _, col := range s.Key {
		e.columns[col].wide, e.columns[col].bound = false, nil
	}
	return e, nil
}

func newEncodedColumn(table string, c Column) encodedColumn {
	column := encodedColumn{Column: c, wide: c.Wide, header: appendHeader(nil, c, 0)}
	if !c.Wide {
		return column
	}
	column.inlines = c.Class == Decimal || c.Class == Bytes || c.Class == Text && c.Type != TypeBPChar
	column.hashed = append(appendHeader(nil, c, hashedClass), byte(len(Digest{})))
	column.bound = appendHeader(appendPrefixed([]byte(columnDomain), table), c, 0)
	return column
}

func appendHeader(dst []byte, c Column, flag byte) []byte {
	dst = append(appendPrefixed(dst, c.Name), byte(c.Class)|flag)
	if c.Class == Verbatim {
		dst = appendPrefixed(dst, c.Type)
	}
	return dst
}

func appendPrefixed(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Reset forgets the row at hand.
func (e *Encoder) Reset() {
	clear(e.values)
	if e.arena = e.arena[:0]; cap(e.arena) > keptBuffer {
		e.arena = nil
	}
	if cap(e.row) > keptBuffer {
		e.row = nil
	}
	if cap(e.json.sorted) > keptBuffer {
		e.json.sorted = nil
	}
	e.err = nil
}

// Row sets r to the row made of the values set since Reset; it reuses the slices of r. All columns must have been set.
func (e *Encoder) Row(r *Row) error {
	if e.err != nil {
		return e.err
	}
	columns, partial := r.Columns[:0], r.Partial
	*r = Row{}
	var holes []Hole
	if partial != nil {
		holes = partial.Holes[:0]
	}
	b := append(e.row[:0], e.prefix...)
	for i := range e.values {
		v, c := &e.values[i], &e.columns[i]
		switch v.state {
		case unset:
			return fmt.Errorf("table %s: column %q was not set", e.shape.Table, c.Name)
		case inline:
			b = append(b, c.header...)
			b = binary.AppendUvarint(b, uint64(v.end-v.start))
			b = append(b, e.arena[v.start:v.end]...)
		case apart:
			d := Digest(e.arena[v.start:v.end])
			b = append(append(b, c.hashed...), d[:]...)
			columns = append(columns, ColumnDigest{Column: uint16(i), Digest: d})
		case unchanged:
			b = append(b, c.hashed...)
			holes = append(holes, Hole{Column: uint16(i), Name: c.Name, Offset: len(b)})
			b = append(b, make([]byte, len(Digest{}))...)
		}
	}
	e.row, r.Columns = b, columns
	if len(holes) == 0 {
		r.Digest = e.hasher.sum(b)
		return nil
	}
	if partial == nil {
		partial = new(Partial)
	}
	r.Partial = partial
	*partial = Partial{Encoding: append(partial.Encoding[:0], b...), Holes: holes, Columns: columns}
	return nil
}

// AppendKey appends the key made of the values set since Reset to dst. All key columns must have been set, none to NULL.
func (e *Encoder) AppendKey(dst []byte) ([]byte, error) {
	if e.err != nil {
		return dst, e.err
	}
	for _, col := range e.shape.Key {
		v, c := &e.values[col], &e.columns[col]
		switch v.state {
		case inline:
			dst = appendKeyPart(dst, c.Class, e.arena[v.start:v.end])
		case null:
			return dst, fmt.Errorf("table %s: key column %q is NULL", e.shape.Table, c.Name)
		default:
			return dst, fmt.Errorf("table %s: key column %q was not set", e.shape.Table, c.Name)
		}
	}
	return dst, nil
}
