package store

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// overlay holds the rows that were written since the last commit. Most of what a stream writes are rows, one by one and
// looked up by key only; a batch that can be iterated keeps them in order at every write, which costs as much as all else
// together. Here they are put in order once, when they are committed or, rarely, before an iteration.
type overlay struct {
	bytes   []byte // keys and values
	entries []overlayEntry
	at      map[uint64]int32 // the last entry of a hash
}

// overlayEntry is the last write of one key.
type overlayEntry struct {
	key, keyEnd     int32
	value, valueEnd int32
	next            int32 // with the same hash; -1: none
	deleted         bool
}

// overlaySeed makes hashes of keys that nobody can foresee. They live as long as the process.
var overlaySeed = maphash.MakeSeed()

func newOverlay() *overlay { return &overlay{at: make(map[uint64]int32)} }

// keptOverlay bounds the bytes that an empty overlay holds on to.
const keptOverlay = 32 << 20

func (o *overlay) reset() {
	if cap(o.bytes) > keptOverlay {
		*o = *newOverlay()
		return
	}
	o.bytes, o.entries = o.bytes[:0], o.entries[:0]
	clear(o.at)
}

// maxOverlay is the size at which rows of a huge transaction are moved on: places are numbers of 32 bits.
const maxOverlay = 256 << 20

// size returns about how many bytes a commit of it writes.
func (o *overlay) size() int { return len(o.bytes) + 4*len(o.entries) }

func (o *overlay) keyOf(e *overlayEntry) []byte   { return o.bytes[e.key:e.keyEnd] }
func (o *overlay) valueOf(e *overlayEntry) []byte { return o.bytes[e.value:e.valueEnd] }

func (o *overlay) find(hash uint64, key []byte) *overlayEntry {
	i, found := o.at[hash]
	for ; found && i >= 0; i = o.entries[i].next {
		if e := &o.entries[i]; bytes.Equal(o.keyOf(e), key) {
			return e
		}
	}
	return nil
}

// get returns what was last written to key, nil if it was deleted; known is false if it was not written. The value is
// valid until the next write.
func (o *overlay) get(key []byte) (value []byte, known bool) {
	if len(o.entries) == 0 {
		return nil, false
	}
	e := o.find(maphash.Bytes(overlaySeed, key), key)
	if e == nil || e.deleted {
		return nil, e != nil
	}
	return o.valueOf(e), true
}

// put writes value to key, or deletes it.
func (o *overlay) put(key, value []byte, deleted bool) {
	hash := maphash.Bytes(overlaySeed, key)
	e := o.find(hash, key)
	if e == nil {
		next, found := o.at[hash]
		if !found {
			next = -1
		}
		start := int32(len(o.bytes))
		o.bytes = append(o.bytes, key...)
		o.at[hash] = int32(len(o.entries))
		o.entries = append(o.entries, overlayEntry{key: start, keyEnd: int32(len(o.bytes)), next: next})
		e = &o.entries[len(o.entries)-1]
	}
	if e.deleted = deleted; len(value) > int(e.valueEnd-e.value) {
		e.value = int32(len(o.bytes))
		o.bytes = append(o.bytes, value...)
	} else {
		copy(o.bytes[e.value:], value)
	}
	e.valueEnd = e.value + int32(len(value))
}

// writeTo writes all to a batch, in order: it is put into Pebble's own order faster then.
func (o *overlay) writeTo(b *pebble.Batch) error {
	slices.SortFunc(o.entries, func(x, y overlayEntry) int { return bytes.Compare(o.keyOf(&x), o.keyOf(&y)) })
	for i := range o.entries {
		e := &o.entries[i]
		var err error
		if e.deleted {
			err = b.Delete(o.keyOf(e), nil)
		} else {
			err = b.Set(o.keyOf(e), o.valueOf(e), nil)
		}
		if err != nil {
			return err
		}
	}
	o.reset()
	return nil
}
