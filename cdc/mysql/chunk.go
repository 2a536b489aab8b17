package mysql

import (
	"context"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// The number of rows of a chunk: at first, and the bounds within which the time that chunks take moves it.
const (
	firstChunk = 1000
	minChunk   = 100
	maxChunk   = 100_000
)

// chunks reads a table part by part, in the order of its primary key, or if that cannot be, by one statement. A chunk
// begins after the last key of the one before, so a key comes once; of a row whose key moved meanwhile both keys may come,
// and the stream tells which one is right.
func (v *snapshot) chunks(ctx context.Context, r *rowReader) error {
	if len(r.pager.columns) == 0 {
		return r.read(ctx, v.conn, cdc.Part{})
	}
	part := cdc.Part{Limit: v.source.firstChunk}
	for {
		r.rows = 0
		began := time.Now()
		if err := r.read(ctx, v.conn, part); err != nil || r.rows < part.Limit {
			return err
		}
		part.After = slices.Clone(r.key)
		part.Limit = nextChunk(part.Limit, v.source.chunk, time.Since(began))
	}
}

// nextChunk changes the number of rows so that a chunk takes about the time it should.
func nextChunk(rows int, aim, took time.Duration) int {
	factor := min(max(float64(aim)/float64(max(took, time.Microsecond)), 0.5), 2)
	return min(max(int(float64(rows)*factor), min(minChunk, rows)), max(maxChunk, rows))
}
