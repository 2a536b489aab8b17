package monitor

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/status"
)

// scans are the tables that are being read now, for progress bars.
type scans struct {
	mu   sync.Mutex
	list []*scanning // guarded by mu
}

type scanning struct {
	member, table string
	of            int64
	done          atomic.Int64
	began, said   time.Time
}

// row counts a row, and tells the log now and then. Only the goroutine that reads calls it.
func (s *scanning) row(log *slog.Logger) {
	if n := s.done.Add(1); n%8192 == 0 && time.Since(s.said) > sayEvery {
		s.said = time.Now()
		log.Info("still reading table", "member", s.member, "table", s.table, "rows", n, "of_about", s.of)
	}
}

func (s *scans) begin(member, table string, of int64) *scanning {
	now := time.Now()
	p := &scanning{member: member, table: table, of: of, began: now, said: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, p)
	return p
}

func (s *scans) end(p *scanning) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.list {
		if other == p {
			s.list = append(s.list[:i:i], s.list[i+1:]...)
			return
		}
	}
}

// Scans returns the tables that are being read now. It may be called from any goroutine.
func (g *Group) Scans() []status.ScanProgress {
	g.scans.mu.Lock()
	defer g.scans.mu.Unlock()
	list := make([]status.ScanProgress, len(g.scans.list))
	for i, p := range g.scans.list {
		list[i] = status.ScanProgress{Member: p.member, Table: p.table, Rows: p.done.Load(), OfRows: p.of, Started: p.began}
	}
	return list
}
