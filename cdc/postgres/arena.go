package postgres

import (
	"slices"

	"github.com/lockstep-cdc/lockstep/digest"
)

// arena holds the keys and column digests of one transaction in few pieces of memory, which the transaction's receiver
// then owns.
type arena struct {
	keys    []byte
	columns []digest.ColumnDigest
}

// The pieces double from first to most, so that small transactions stay small.
const (
	firstKeys, mostKeys       = 128, 64 << 10
	firstColumns, mostColumns = 8, 4 << 10
	roomForKey                = 32 // a longer key may cost a copy
)

// key appends the key of the row that the encoder holds.
func (a *arena) key(e *digest.Encoder) (digest.Key, error) {
	if cap(a.keys)-len(a.keys) < roomForKey {
		a.keys = make([]byte, 0, min(max(2*cap(a.keys), firstKeys), mostKeys))
	}
	start := len(a.keys)
	keys, err := e.AppendKey(a.keys)
	if err != nil {
		return nil, err
	}
	a.keys = keys
	return digest.Key(slices.Clip(keys[start:])), nil
}

// row makes the row that the encoder holds.
func (a *arena) row(e *digest.Encoder, r *digest.Row) error {
	r.Columns = a.columns[len(a.columns):]
	if err := e.Row(r); err != nil {
		return err
	}
	switch n := len(r.Columns); {
	case n == 0:
		r.Columns = nil
	case n <= cap(a.columns)-len(a.columns): // they were put behind the others
		a.columns = a.columns[:len(a.columns)+n]
		r.Columns = slices.Clip(r.Columns)
	default: // they did not fit and have memory of their own; the next rows get a new piece
		a.columns = make([]digest.ColumnDigest, 0, min(max(2*cap(a.columns), firstColumns), mostColumns))
	}
	if r.Partial != nil {
		r.Partial.Columns = r.Columns
	}
	return nil
}
