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
	through cdc.LSN      // everything that ends at or before it was shown
	pending []pendingXID // not known to be visible
}

// pendingXID is a transaction's number: as the stream has it, of 32 bits, or with its epoch.
type pendingXID struct {
	xid   uint64
	short bool
}

// begin says that a stream begins behind from. running are the transactions that were in progress after all before from
// had been written: one of an earlier stream may be among them, so they count as shown.
func (s *shown) begin(from cdc.LSN, running []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.through = true, max(s.through, from)
	for _, xid := range running {
		s.pending = append(s.pending, pendingXID{xid: xid})
	}
}

func (s *shown) add(xid uint32, end cdc.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.through = max(s.through, end)
	s.pending = append(s.pending, pendingXID{uint64(xid), true})
}

// now returns how far the stream has shown the log, and what of that may not be visible.
func (s *shown) now() (began bool, through cdc.LSN, pending []pendingXID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began, s.through, slices.Clone(s.pending)
}

// settle forgets what v shows. What is visible once is visible for good.
func (s *shown) settle(v *mvcc) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
func (v *mvcc) shows(p pendingXID) bool {
	xid := p.xid
	if p.short {
		xid = v.widen(uint32(p.xid))
	}
	if xid < v.xmin {
		return true
	}
	_, running := slices.BinarySearch(v.running, xid)
	return xid < v.xmax && !running
}

// widen gives a number its epoch: it was given to a transaction before the snapshot was taken, less than 2^31 ago.
func (v *mvcc) widen(xid uint32) uint64 {
	const epoch = 1 << 32
	wide := v.xmax&^(epoch-1) | uint64(xid)
	if wide >= v.xmax && wide >= epoch {
		wide -= epoch
	}
	return wide
}
