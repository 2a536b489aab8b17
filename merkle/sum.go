// Package merkle sums row digests over ranges of keys and hashes the sums into a tree.
//
// Leaves are additive: the digest of a range is the sum of its row digests modulo 2^128, so that a change of a row is one
// subtraction and one addition, in any order, and the history of a range can be taken away again (Bellare and Micciancio,
// "A New Paradigm for Collision-Free Hashing", 1997: the row digests are keyed, so sums cannot be forged). Inner nodes
// are SHA-256 over their children, so that a root commits to every range and one range can be proven under it.
//
// The package is pure: no I/O, no clock, no goroutines.
package merkle

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Sum is the number of rows in a range and the sum of their digests modulo 2^128. The zero Sum is the empty range.
// Differences are Sums too, so Rows may be negative.
type Sum struct {
	Hi, Lo uint64
	Rows   int64
}

// Of returns the Sum of a single row, or of none if d is zero.
func Of(d digest.Digest) Sum {
	if d.IsZero() {
		return Sum{}
	}
	return Sum{Hi: binary.BigEndian.Uint64(d[:8]), Lo: binary.BigEndian.Uint64(d[8:]), Rows: 1}
}

// Delta returns what replacing one row state by another adds to a range: Of(after) - Of(before).
func Delta(before, after digest.Digest) Sum { return Of(after).Sub(Of(before)) }

// Add returns s + t.
func (s Sum) Add(t Sum) Sum {
	lo, carry := bits.Add64(s.Lo, t.Lo, 0)
	hi, _ := bits.Add64(s.Hi, t.Hi, carry)
	return Sum{Hi: hi, Lo: lo, Rows: s.Rows + t.Rows}
}

// Sub returns s - t.
func (s Sum) Sub(t Sum) Sum {
	lo, borrow := bits.Sub64(s.Lo, t.Lo, 0)
	hi, _ := bits.Sub64(s.Hi, t.Hi, borrow)
	return Sum{Hi: hi, Lo: lo, Rows: s.Rows - t.Rows}
}

// IsZero reports whether s is the Sum of an empty range, or of two equal ones subtracted.
func (s Sum) IsZero() bool { return s == Sum{} }

// sumSize is the length of a Sum's encoding: digest (16 bytes, big endian), rows (8 bytes, big endian).
const sumSize = 24

// AppendBinary appends the 24-byte encoding of s.
func (s Sum) AppendBinary(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, s.Hi)
	dst = binary.BigEndian.AppendUint64(dst, s.Lo)
	return binary.BigEndian.AppendUint64(dst, uint64(s.Rows))
}

// ParseSum reads what AppendBinary wrote.
func ParseSum(b []byte) (Sum, error) {
	if len(b) != sumSize {
		return Sum{}, fmt.Errorf("parse range digest: %d bytes, want %d", len(b), sumSize)
	}
	return Sum{
		Hi:   binary.BigEndian.Uint64(b),
		Lo:   binary.BigEndian.Uint64(b[8:]),
		Rows: int64(binary.BigEndian.Uint64(b[16:])),
	}, nil
}

// Digest prints the sum of the digests.
func (s Sum) Digest() string { return fmt.Sprintf("%016x%016x", s.Hi, s.Lo) }

// String prints the digest and the number of rows.
func (s Sum) String() string { return fmt.Sprintf("%s/%d", s.Digest(), s.Rows) }

// MarshalText implements [encoding.TextMarshaler].
func (s Sum) MarshalText() ([]byte, error) {
	return []byte(hex.EncodeToString(s.AppendBinary(nil))), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Sum) UnmarshalText(text []byte) (err error) {
	b, err := hex.DecodeString(string(text))
	if err == nil {
		*s, err = ParseSum(b)
	}
	return err
}
