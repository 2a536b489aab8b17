// Package scan paces the reading of rows: how many a chunk has, when the next one may begin, and when a scan has to wait
// because a server, a replica or our own store has enough to do.
//
// What to scan is for others to decide. A [Walk] goes over one table; a [Pacer] belongs to one member, as a server is read
// by one scan at a time.
package scan

import (
	"cmp"
	"time"
)

// What zero [Settings] stand for, and a configuration that leaves the keys out.
const (
	DefaultMaxRowsPerSecond = 50_000
	// DefaultChunkTime is that of pt-table-checksum (--chunk-time).
	DefaultChunkTime = 500 * time.Millisecond
	// DefaultMaxReplicaLag leaves room below a lag budget of 30 s: a scan must not be what uses it up.
	DefaultMaxReplicaLag = 10 * time.Second
)

// Settings bound what a scan may do to a member.
type Settings struct {
	Windows          Windows       // none: always
	MaxRowsPerSecond int64         // zero: DefaultMaxRowsPerSecond
	MaxReplicaLag    time.Duration // zero: DefaultMaxReplicaLag
}

func (s Settings) maxRate() float64 {
	return float64(cmp.Or(max(s.MaxRowsPerSecond, 0), DefaultMaxRowsPerSecond))
}

func (s Settings) maxLag() time.Duration {
	return cmp.Or(max(s.MaxReplicaLag, 0), DefaultMaxReplicaLag)
}

// Goal is a number of rows that are to be read again by a certain time.
type Goal struct {
	Rows  int64     // left to read; negative: not known, which calls for all the speed that is allowed
	Began time.Time // when the first of all was read
	Every time.Duration
}

// slack is the part of its time that a goal may take; the rest is for what comes between.
const slack = 0.9

// floor is a rate, in rows a second, that no server feels, so that it is not worth while to be slower: a small table is
// through in a minute.
const floor = 100

// rate is how many rows a second it takes from now on to reach all goals, within bounds.
func (s Settings) rate(now time.Time, goals []Goal) float64 {
	if len(goals) == 0 {
		return s.maxRate()
	}
	sum := 0.0
	for _, g := range goals {
		end := g.Began.Add(time.Duration(slack * float64(g.Every)))
		left := s.Windows.Within(now, end).Seconds()
		switch {
		case g.Rows == 0:
		case g.Rows < 0 || left <= 0:
			return s.maxRate()
		default:
			sum += float64(g.Rows) / left
		}
	}
	return min(max(sum, floor), s.maxRate())
}
