package cdctest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Faults say how the way to a server, and the server, misbehave. The zero value is a healthy one.
type Faults struct {
	Refuse   bool          // nothing can be asked
	Hang     bool          // nothing answers
	Stream   bool          // the stream shows nothing, while questions are answered
	Catalog  bool          // the catalog cannot be read
	Withhold bool          // its tables are hidden from us, as by MySQL and MariaDB without a right on them
	Progress bool          // how far the server is cannot be asked
	Rows     bool          // rows cannot be read
	Slow     time.Duration // for each answer, and each event of the stream
}

// Break says how the server misbehaves from now on.
func (s *Server) Break(f Faults) {
	s.do(func() { s.faults = f })
}

// Broken reports whether anything is wrong with the server or the way to it.
func (s *Server) Broken() bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.faults != Faults{}
}

// Mute reports whether the server cannot be asked how far it is.
func (s *Server) Mute() bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.faults.Refuse || s.faults.Hang || s.faults.Progress
}

// Cut ends all connections.
func (s *Server) Cut() { s.do(func() { s.connection++ }) }

// Unlogged says whether the server writes no log: its own changes leave no trace, and replays neither.
func (s *Server) Unlogged(off bool) {
	s.do(func() {
		switch mariadb := s.cluster.Engine == MariaDB; {
		case !s.unlogged || off:
		case mariadb: // its log tells that it was started
			s.end += 8
			s.starts = append(slices.Clone(s.starts), s.end)
		case s.unshown: // its log lacks what it says to have replayed
			s.gap = s.end
			s.end += 8
			s.wentBack()
		}
		if off && !s.unlogged {
			s.unshown, s.seenOff, s.untold = false, false, nil
		}
		s.unlogged = off
		s.connection++ // it takes a restart
		s.hidden = nil
	})
}

// Disk is a copy of all that a server keeps.
type Disk struct{ disk disk }

// Copy takes a copy of the server's disk.
func (s *Server) Copy() Disk {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return Disk{s.disk.clone()}
}

// Restore sets the server back to what it was when a copy was taken, which a server is stopped for. lockstep's own slot
// is as it was then, too.
func (s *Server) Restore(d Disk) {
	s.do(func() {
		before := s.disk
		s.disk = d.disk.clone()
		for at, steps := range before.history { // what it had since is not what it has
			if len(steps) > len(s.history[at]) && s.history[at] == nil {
				s.history[at] = nil
			}
		}
		s.wentBack()
		s.connection++
	})
}

// Promote gives a PostgreSQL server another timeline.
func (s *Server) Promote() {
	s.do(func() {
		s.timeline++
		s.wentBack()
		s.connection++
	})
}

// Reset throws the log away, as RESET MASTER does; connections that read it stay, and show nothing any more.
func (s *Server) Reset() {
	s.do(func() {
		s.log, s.end, s.purged, s.purgedSeq, s.seq = nil, firstLSN, 0, 0, 0
		s.executed, s.logged, s.newest, s.slavePosition = cdc.TxSet{}, cdc.Position{}, cdc.TxID{}, cdc.TxID{}
		for at, steps := range s.history {
			for i := range steps {
				steps[i].id = cdc.TxID{}
			}
			s.history[at] = steps
		}
		s.resets++
		s.wentBack()
	})
}

// Seed gives a server the rows and the transactions of another one, as a dump does that is loaded after Reset.
func (s *Server) Seed(from *Server) {
	s.do(func() {
		for name, t := range from.tables {
			mine := s.tables[name]
			if mine == nil {
				continue
			}
			for key, row := range mine.rows {
				if t.rows[key] == nil {
					s.note(name, key, step{before: row})
				}
			}
			clear(mine.rows)
			for key, row := range t.rows {
				mine.rows[key] = row.clone()
				s.note(name, key, step{after: row})
			}
		}
		s.executed, s.newest = from.executed.Clone(), from.newest
		if n := len(from.log); n > 0 && s.cluster.gtids() { // a dump says where in the log it was taken
			s.newest = from.log[n-1].id
		}
		s.slavePosition = s.newest
	})
}

// Purge removes all of the log up to now; what reads it meanwhile loses it.
func (s *Server) Purge() {
	s.do(func() {
		for _, e := range s.log {
			s.purgedSeq = max(s.purgedSeq, e.id.Seq)
		}
		s.purged, s.log = s.end, nil
		for name, sl := range s.slots {
			if name == lockstepSlot {
				sl.start, sl.told = s.end+1, false // invalidated
			}
		}
		s.connection++
	})
}

// wentBack begins another history of the log, after a restart.
func (s *Server) wentBack() {
	s.history0++
	s.shown, s.hidden = s.end, nil
}

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
	errKilled  = errors.New("lockstep was killed")
	errDenied  = errors.New("permission denied")
)

var errLogOff = &cdc.SetupError{Problem: "the log is off", Hint: "switch it on", Unlogged: true}

// gate is how a question fares on its way to the server. Called and left with the lock held.
func (s *Server) gate(ctx context.Context) error {
	for {
		if s.faults.Refuse {
			return errRefused
		}
		if !s.faults.Hang {
			return s.linger(ctx, s.faults.Slow)
		}
		if err := s.await(ctx, 0); err != nil {
			return err
		}
	}
}

// linger lets time pass without the lock.
func (s *Server) linger(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	s.cluster.mu.Unlock()
	defer s.cluster.mu.Lock()
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await waits for a change of the server, without the lock, or for a time if that is not 0.
func (s *Server) await(ctx context.Context, d time.Duration) error {
	changed := s.changed
	s.cluster.mu.Unlock()
	defer s.cluster.mu.Lock()
	var late <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-changed:
		return nil
	case <-late:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Untold lists the rows that were written on the server since it stopped to write a log, if nothing will tell of that:
// lockstep was not told, and the server, if it is MySQL, has replayed nothing that its log lacks.
func (s *Server) Untold() []RowName {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.seenOff || s.unshown && s.cluster.Engine != MariaDB {
		return nil
	}
	return s.untold
}

// Untell has it that lockstep was not told yet that the server writes no log: it was killed.
func (s *Server) Untell() { s.do(func() { s.seenOff = false }) }

// RowName names a row of a server.
type RowName struct {
	Table string
	Key   int
}

// Logless reports whether the server writes no log now.
func (s *Server) Logless() bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.unlogged
}
