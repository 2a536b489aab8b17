package mysql

import (
	"slices"

	"github.com/lockstep-cdc/lockstep/digest"
)

// keys holds the keys of one transaction in few pieces of memory, which the transaction's receiver then owns.
type keys struct{ piece []byte }

// The pieces double from first to most, so that small transactions stay small.
const (
	firstKeys, mostKeys = 128, 64 << 10
	roomForKey          = 32 // a longer key may cost a copy
)

// add appends the key of the row that the encoder holds.
func (k *keys) add(e *digest.Encoder) (digest.Key, error) {
	if cap(k.piece)-len(k.piece) < roomForKey {
		k.piece = make([]byte, 0, min(max(2*cap(k.piece), firstKeys), mostKeys))
	}
	start := len(k.piece)
	b, err := e.AppendKey(k.piece)
	if err != nil {
		return nil, err
	}
	k.piece = b
	return digest.Key(slices.Clip(b[start:])), nil
}

// undo takes back the key that was added last.
func (k *keys) undo(last digest.Key) {
	if len(last) <= len(k.piece) { // else it has memory of its own
		k.piece = k.piece[:len(k.piece)-len(last)]
	}
}
