// Package digest turns rows into keys and keyed digests that are the same on every engine.
//
// A row is described by a [Shape]: the compared columns, each with an engine-neutral [Class]. A decoder feeds column
// values to an [Encoder], which builds one canonical encoding whatever the source (WAL, binlog, COPY, SELECT) and
// whatever the column order there, and reads off
//
//   - the [Key]: an order-preserving, decodable encoding of the primary key, so that a range of keys is a range of bytes;
//   - the [Row]: a 128-bit keyed digest of all compared columns (HighwayHash-128), and the digests of its wide columns.
//
// The package is pure: no I/O, no clock, no goroutines.
package digest

import (
	"encoding/hex"
	"fmt"
)

// Digest is a keyed 128-bit digest of one row or one column. The zero Digest stands for "no row".
type Digest [16]byte

// IsZero reports whether d stands for an absent row.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d in hexadecimal, 32 digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Key is the order-preserving encoding of one primary key. See key.go for the layout.
type Key []byte

// Class is the engine-neutral kind of a column's values. See [Column.Comparable] for when two columns can be compared.
type Class uint8

// The classes. The zero Class is invalid, so that a forgotten one is an error and never a match.
const (
	Int       Class = iota + 1 // integers and booleans, signed
	Decimal                    // numeric: sign, digits, exponent; trailing zeros trimmed; NaN and infinities
	Float                      // IEEE 754 bits of the value widened to 64 bits
	Text                       // UTF-8 bytes, no normalisation
	Bytes                      // raw bytes
	UUID                       // 16 bytes
	Date                       // days since 1970-01-01, or an infinity, or a date of MySQL that no calendar has
	Time                       // microseconds since midnight
	Timestamp                  // a date and microseconds of the day, no zone, or an infinity
	Instant                    // the same in UTC
	JSON                       // parsed tree, keys sorted, last duplicate wins, numbers as decimals
	Verbatim                   // the server's text form, tagged with the type's name
)

var classNames = [...]string{"invalid", "int", "decimal", "float", "text", "bytes", "uuid", "date", "time", "timestamp", "instant", "json", "verbatim"}

// String returns the lower-case name of c.
func (c Class) String() string {
	if int(c) >= len(classNames) {
		return fmt.Sprintf("class(%d)", uint8(c))
	}
	return classNames[c]
}

// Column is one compared column of a table.
type Column struct {
	Name  string `json:"name"` // as the engine folds it
	Class Class  `json:"class"`
	// Type is empty where the class says all. Else it is part of the column's identity: the type's name (without a
	// server's OIDs) for Verbatim, [TypeFloat4], [TypeBPChar]; for Bytes [TypeINET4] and the like, or a character set.
	Type string `json:"type,omitempty"`
	// Wide says that a value of this column may be left out of an update because it did not change (PostgreSQL's
	// TOAST). Its digest is kept beside the row's, see [Row.Columns].
	Wide bool `json:"wide,omitempty"`
}

// The types that make a difference within a class.
const (
	// TypeFloat4 marks single precision: its text is the shortest that names the value among singles, so 0.1 is another
	// number than the 0.1 of a double.
	TypeFloat4 = "float4"
	// TypeBPChar marks text that the server pads with blanks, which are no part of the value.
	TypeBPChar = "bpchar"
)

// Comparable reports whether equal values in columns c and o have equal digests. Whether they are wide is to be settled
// between the members of a group: a column is wide for all of them if it is wide for one.
func (c Column) Comparable(o Column) bool {
	return c.Name == o.Name && c.Class == o.Class && c.Type == o.Type
}

// Shape says which columns of a table make up its rows and which of those its key, in one epoch of the table's schema.
// All members of a group share the shape of a table.
type Shape struct {
	Table   string   `json:"table"`   // qualified name, as users write it: public.orders
	Columns []Column `json:"columns"` // sorted by name
	Key     []int    `json:"key"`     // indexes into Columns, in the order of the primary key
}

// ColumnDigest is the digest of one wide column's value.
type ColumnDigest struct {
	Column uint16 // index into Shape.Columns
	Digest Digest
}

// Row is what lockstep keeps of one row.
//
// A Row made from an update that leaves out unchanged wide columns is incomplete: Digest is zero, Partial holds the
// canonical encoding with holes, and [Hasher.Complete] fills them from the columns that were stored for the row before.
type Row struct {
	Digest  Digest
	Columns []ColumnDigest // of the wide columns whose values are digested apart, ascending
	Partial *Partial       // nil for a whole row
}

// Partial is the canonical encoding of a row of which some wide columns are not known yet.
type Partial struct {
	Encoding []byte         // canonical encoding, 16 zero bytes in each hole
	Holes    []Hole         // ascending
	Columns  []ColumnDigest // of the wide columns that are known; the same slice as the row's
}

// Hole is the place of one unchanged column's digest in [Partial.Encoding].
type Hole struct {
	Column uint16 // index into Shape.Columns
	Name   string // of the column, for errors
	Offset int    // of the 16 bytes
}
