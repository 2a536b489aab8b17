package scan

import (
	"bytes"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Walk goes over a table of one member chunk by chunk, in the server's order of its key. What it has passed is all that
// has to be kept to go on later: [Walk.Passed].
type Walk struct {
	whole   bool
	over    cdc.Part // what is left
	size    size
	pending int // the limit of the chunk that is being read
	ended   bool
}

// NewWalk returns a walk over those of the table's rows that lie in over, whose limit does not count, with chunks that
// take about chunkTime each ([DefaultChunkTime], if zero). A table that is [cdc.Unordered] is one chunk, whatever over says.
func NewWalk(order cdc.Order, over cdc.Part, chunkTime time.Duration) *Walk {
	if chunkTime <= 0 {
		chunkTime = DefaultChunkTime
	}
	w := &Walk{whole: order == cdc.Unordered, size: size{aim: chunkTime, limit: firstChunk}}
	if !w.whole {
		w.over = cdc.Part{After: slices.Clone(over.After), Through: slices.Clone(over.Through)}
	}
	return w
}

// Done reports whether all chunks have been read.
func (w *Walk) Done() bool { return w.ended }

// Passed is the last key that the walk has passed, nil if there is none. A walk that begins after it goes on where this
// one, if it is not done, would.
func (w *Walk) Passed() digest.Key { return w.over.After }

// GoesOn reports whether over is what is left of the walk.
func (w *Walk) GoesOn(over cdc.Part) bool {
	return bytes.Equal(w.over.After, over.After) && bytes.Equal(w.over.Through, over.Through)
}

// Next is the chunk to read now, of not more than most rows, if that is positive. Asked again before [Walk.Read], it is
// the same chunk: one that could not be read is read again.
func (w *Walk) Next(most int) cdc.Part {
	if w.whole {
		return cdc.Part{}
	}
	w.pending = w.size.limit
	if most > 0 {
		w.pending = min(w.pending, most)
	}
	part := w.over
	part.Limit = w.pending
	return part
}

// Read says that the chunk of the last Next was read: how many rows it had, the key of the last, and how long it took. It
// returns the part of the table whose rows, all of them, those were: a chunk that came short of its limit has shown that
// there are no more up to the end of the walk.
func (w *Walk) Read(rows int, last digest.Key, took time.Duration) cdc.Part {
	covered := w.over
	if w.whole || rows < w.pending {
		w.ended = true
		return covered
	}
	w.size.read(w.pending, took)
	w.over.After = slices.Clone(last)
	covered.Through = w.over.After
	return covered
}
