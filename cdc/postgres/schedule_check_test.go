package postgres

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// contents are the rows of a table: digests by key.
type contents map[string]digest.Digest

func (c contents) apply(t *cdc.Transaction) {
	for _, change := range t.Changes {
		if change.OldKey != nil {
			delete(c, string(change.OldKey))
		}
		if change.Op == cdc.Delete {
			delete(c, string(change.Key))
		} else {
			c[string(change.Key)] = change.Row.Digest
		}
	}
}

// partRead is what was read of a part, and in which view.
type partRead struct {
	cdc.Part
	cdc.View
	rows  contents
	last  digest.Key // that came
	shown cdc.LSN    // what the stream had shown before
	err   error
}

// read reads a part and calls during before each row is taken.
func (s *schedule) read(p cdc.Part, during func(row int)) *partRead {
	r := &partRead{Part: p, rows: contents{}}
	_, r.shown, _ = s.shown.now()
	n := 0
	r.View, r.err = s.Read(s.t.Context(), s.table, s.epoch, p, func(k digest.Key, row *digest.Row) error {
		r.rows[string(k)], r.last = row.Digest, slices.Clone(k)
		during(n) // which may take long, or ask others
		n++
		return nil
	})
	return r
}

// within leaves of a table's rows those of the part. One with fewer rows than its limit was read to its end.
func (r *partRead) within(all contents) contents {
	through := r.Through
	if r.Limit > 0 && len(r.rows) == r.Limit {
		through = r.last
	}
	got := contents{}
	for k, d := range all {
		key := digest.Key(k)
		switch {
		case r.Keys != nil && !slices.ContainsFunc(r.Keys, func(o digest.Key) bool { return o.Compare(key) == 0 }):
		case r.Keys == nil && (r.After != nil && key.Compare(r.After) <= 0 || through != nil && key.Compare(through) > 0):
		default:
			got[k] = d
		}
	}
	return got
}

func keyAt(t *testing.T, e cdc.Epoch, p place) digest.Key {
	t.Helper()
	key, _ := rowAt(t, e, p, 0)
	return key
}

// rowAt is what a row must look like, whoever reads it.
func rowAt(t *testing.T, e cdc.Epoch, p place, n int64) (digest.Key, digest.Digest) {
	t.Helper()
	encoder, err := digest.NewEncoder(testHasher, e.Shape)
	if err != nil {
		t.Fatal(err)
	}
	encoder.Reset()
	encoder.Int(0, int64(p.a))
	encoder.Text(1, []byte(p.b))
	encoder.Int(2, n)
	var row digest.Row
	key, err := encoder.AppendKey(nil)
	if err == nil {
		err = encoder.Row(&row)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, row.Digest
}

// content is what an ordinary SELECT says that the table has.
func (s *schedule) content() contents {
	s.t.Helper()
	rows, err := s.admin.Query(s.t.Context(), "SELECT a, b, n FROM s")
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	all := contents{}
	for rows.Next() {
		var p place
		var n int64
		if err := rows.Scan(&p.a, &p.b, &n); err != nil {
			s.t.Fatal(err)
		}
		key, d := rowAt(s.t, s.epoch, p, n)
		all[string(key)] = d
	}
	if rows.Err() != nil {
		s.t.Fatal(rows.Err())
	}
	return all
}

// check holds the stream against the table, and the reads against the stream.
func (s *schedule) check(before contents) {
	s.t.Helper()
	s.do(s.admin, "SELECT pg_logical_emit_message(true, 'end', '')") // and with it what was committed asynchronously is on disk
	log := s.caughtUp()
	s.forget()
	s.counts["transactions"] += len(log)
	replayed, after := maps.Clone(before), s.content()
	for _, t := range log {
		replayed.apply(t)
	}
	if diff := cmp.Diff(after, replayed); diff != "" {
		s.t.Errorf("seed %d: what the stream has made of the table: %s", s.seed, diff)
	}
	for _, r := range s.reads {
		if r.err != nil || r.Cut < r.shown || r.Settled < r.Cut {
			s.t.Errorf("seed %d: a view from %v to %v of what was shown up to %v, %v", s.seed, r.Cut, r.Settled, r.shown, r.err)
			continue
		}
		s.checkUpToDate(r, log, after)
		s.checkMoment(r, log, before)
	}
}

// forget drops the events that were checked.
func (s *schedule) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.events); n > 0 {
		s.from, s.events = s.events[n-1].Position, nil
	}
}

// checkUpToDate: a part, with all changes from its cut on, is that part of the table in the end.
func (s *schedule) checkUpToDate(r *partRead, log []*cdc.Transaction, after contents) {
	s.t.Helper()
	got := maps.Clone(r.rows)
	for _, t := range log {
		if t.Commit >= r.Cut {
			got.apply(t)
		}
	}
	if diff := cmp.Diff(r.within(after), r.within(got)); diff != "" {
		s.t.Errorf("seed %d: %+v from %v to %v, brought up to date: %s", s.seed, r.Part, r.Cut, r.Settled, diff)
	}
}

// checkMoment: a part shows all of each transaction before its cut, nothing of one after it has settled, and of each in
// between all or nothing.
func (s *schedule) checkMoment(r *partRead, log []*cdc.Transaction, before contents) {
	s.t.Helper()
	base, window := maps.Clone(before), []*cdc.Transaction(nil)
	for _, t := range log {
		switch {
		case t.Commit < r.Cut:
			base.apply(t)
		case t.Commit < r.Settled:
			window = append(window, t)
		}
	}
	left, shown := r.some(base, window)
	switch {
	case !shown:
		s.t.Errorf("seed %d: %+v from %v to %v has what no set of the %d transactions in between makes of the rows before: %s",
			s.seed, r.Part, r.Cut, r.Settled, len(window), cmp.Diff(r.within(base), r.rows))
	case len(window) == 0:
		s.counts["no window"]++
	case left == 0:
		s.counts["wholly after"]++
	case left == len(window):
		s.counts["wholly before"]++
	default:
		s.counts["part of a window"]++
	}
}

// some looks for a set of transactions with which the rows become those that were read, and says how many it leaves out.
// What a transaction did to rows outside the part does not show; those that do not matter are not tried both ways.
func (r *partRead) some(rows contents, window []*cdc.Transaction) (left int, found bool) {
	if len(window) == 0 {
		return 0, maps.Equal(r.within(rows), r.rows)
	}
	with := maps.Clone(rows)
	with.apply(window[0])
	if left, found = r.some(with, window[1:]); found || maps.Equal(r.within(rows), r.within(with)) {
		return left, found
	}
	left, found = r.some(rows, window[1:])
	return left + 1, found
}
