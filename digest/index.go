package digest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A row in the row index:
//
//	+--------------+-----------+-------------------+-----------+-------------------+---
//	| digest, 16 B | column,   | column digest,    | column,   | column digest,    | ...
//	| of the row   | 2 B, BE   | 16 B              | 2 B, BE   | 16 B              |
//	+--------------+-----------+-------------------+-----------+-------------------+---
//
// The columns are the wide ones whose values are digested apart, ascending. Their number follows from the length. A row
// of a table without wide columns takes 16 bytes.
const indexedColumnSize = 2 + len(Digest{})

// AppendRow appends the whole row r to dst as the row index keeps it. An incomplete row is not fit to be kept: what
// AppendRow makes of it, [ParseRow] and [RowDigest] refuse.
func AppendRow(dst []byte, r *Row) []byte {
	dst = append(dst, r.Digest[:]...)
	for i := range r.Columns {
		dst = binary.BigEndian.AppendUint16(dst, r.Columns[i].Column)
		dst = append(dst, r.Columns[i].Digest[:]...)
	}
	return dst
}

// ParseRow sets r to the row that b holds; it reuses the slice of r.
func ParseRow(b []byte, r *Row) error {
	d, err := RowDigest(b)
	if err != nil {
		return err
	}
	columns := r.Columns[:0]
	for b = b[len(d):]; len(b) > 0; b = b[indexedColumnSize:] {
		c := ColumnDigest{Column: binary.BigEndian.Uint16(b), Digest: Digest(b[2:indexedColumnSize])}
		if n := len(columns); n > 0 && columns[n-1].Column >= c.Column {
			return fmt.Errorf("indexed row is damaged: column %d follows column %d; re-baseline the table", c.Column, columns[n-1].Column)
		}
		columns = append(columns, c)
	}
	*r = Row{Digest: d, Columns: columns}
	return nil
}

// RowDigest returns the digest of the row that b holds.
func RowDigest(b []byte) (Digest, error) {
	if len(b) < len(Digest{}) || (len(b)-len(Digest{}))%indexedColumnSize != 0 {
		return Digest{}, fmt.Errorf("indexed row is damaged: %d bytes is no row's length; re-baseline the table", len(b))
	}
	d := Digest(b)
	if d.IsZero() {
		return Digest{}, errors.New("indexed row is damaged: its digest is zero; re-baseline the table")
	}
	return d, nil
}
