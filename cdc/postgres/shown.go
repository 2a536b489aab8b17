package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// shown remembers which transactions the stream has shown that readers may not see yet: one that waits for a synchronous
// standby is in the log, and can be decoded, before it is visible. The zero value has shown nothing.
type shown struct {
	mu      sync.Mutex // guards what follows
	began   bool
	through cdc.LSN  // everything that ends at or before it was shown
	pending []uint64 // numbers, with their epochs, of transactions that are not known to be visible
	newest  uint64   // the highest number that was seen, of whatever transaction
}

// reset forgets what another history has shown.
func (s *shown) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.through, s.pending, s.newest = false, 0, nil, 0
}

// begin says that a stream begins behind from. What was in progress after all before from had been written counts as
// shown: a transaction of an earlier stream may be among it.
func (s *shown) begin(from cdc.LSN, now *mvcc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.through = true, max(s.through, from)
	s.newest = max(s.newest, now.xmax)
	s.pending = append(s.pending, now.running...)
}

func (s *shown) add(xid uint32, end cdc.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.through = max(s.through, end)
	wide := widen(xid, s.newest)
	s.newest = max(s.newest, wide)
	s.pending = append(s.pending, wide)
}

// widen gives a number of the stream, which has 32 bits, its epoch: it is less than 2^31 away from one that is known, before
// or behind it. One that waits for a standby may be above all that a snapshot tells of: xmax there is behind the last one
// that has ended.
func widen(xid uint32, near uint64) uint64 {
	return uint64(int64(near) + int64(int32(xid-uint32(near))))
}

// now returns how far the stream has shown the log, and what of that may not be visible.
func (s *shown) now() (began bool, through cdc.LSN, pending []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began, s.through, slices.Clone(s.pending)
}

// settle forgets what v shows. What is visible once is visible for good.
func (s *shown) settle(v *mvcc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = max(s.newest, v.xmax)
	s.pending = slices.DeleteFunc(s.pending, v.shows)
}

// count returns how many transactions may not be visible.
func (s *shown) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// mvcc is a snapshot as pg_current_snapshot prints it: xmin:xmax:xip,xip
// (https://www.postgresql.org/docs/current/functions-info.html, "Snapshot Components").
type mvcc struct {
	xmin, xmax uint64
	running    []uint64 // ascending
}

func parseMVCC(text string) (*mvcc, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return nil, fmt.Errorf("snapshot %q is not of the form xmin:xmax:list", text)
	}
	v := &mvcc{}
	var err error
	if v.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", text, err)
	}
	if v.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", text, err)
	}
	for _, x := range strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' }) {
		xid, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("snapshot %q: %w", text, err)
		}
		v.running = append(v.running, xid)
	}
	slices.Sort(v.running)
	return v, nil
}

// shows reports whether a transaction that was in the log when the snapshot was taken is visible in it.
func (v *mvcc) shows(xid uint64) bool {
	if xid < v.xmin {
		return true
	}
	_, running := slices.BinarySearch(v.running, xid)
	return xid < v.xmax && !running
}
