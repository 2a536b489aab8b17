package scan

import "time"

// The number of rows of a chunk: at first, and the bounds within which the time that chunks take moves it.
const (
	firstChunk = 1000
	minChunk   = 100
	maxChunk   = 100_000
)

// size is the number of rows of the next chunk of one table on one member. It goes by the time that the last one took, as
// rows differ in what it takes to read them, and servers in how busy they are.
type size struct {
	aim   time.Duration // what a chunk should take
	limit int
}

// read says how long a full chunk of so many rows took.
func (s *size) read(rows int, took time.Duration) {
	factor := float64(s.aim) / float64(max(took, time.Microsecond))
	s.limit = min(max(int(float64(rows)*min(max(factor, 0.5), 2)), minChunk), maxChunk)
}
