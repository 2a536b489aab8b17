package align

import (
	"bytes"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Watch notes what a member's stream does to the rows of one table from its making on, so that rows which are read from
// the server meanwhile can be held against what they were at that time, without stopping anything.
type Watch struct {
	at     Space
	states map[string][]state
	noted  int
	// broken is set when the rows that are kept were dropped, or when too many changes came: nothing can be said then.
	broken  bool
	settled bool // rows of its table that were under suspicion have been, since it began
}

// state is what a row was before and after one transaction.
type state struct {
	commit        cdc.LSN
	before, after digest.Digest
}

// maxWatched bounds the row changes that a Watch notes.
const maxWatched = 500_000

// Watch begins to watch a table on a member; nil if its rows are not known.
func (l *Ledger) Watch(id cdc.TableID, on cdc.MemberID) *Watch {
	t := l.tables[id]
	if t == nil || t.coverage[on] == nil || t.coverage[on].Phase != Live {
		return nil
	}
	c := t.coverage[on]
	w := &Watch{at: c.space, states: make(map[string][]state)}
	c.watches = append(c.watches, w)
	return w
}

// Unwatch ends a Watch.
func (l *Ledger) Unwatch(w *Watch) {
	if t := l.tables[w.at.Table]; t != nil && t.coverage[w.at.Member] != nil {
		c := t.coverage[w.at.Member]
		c.watches = slices.DeleteFunc(c.watches, func(other *Watch) bool { return other == w })
	}
	w.broken, w.states = true, nil
}

// Table returns the table that is watched.
func (w *Watch) Table() cdc.TableID { return w.at.Table }

// Broken reports whether nothing can be said by means of the Watch any more.
func (w *Watch) Broken() bool { return w.broken }

// Unsettled reports whether no rows of the table that were under suspicion have been settled since the Watch began.
func (w *Watch) Unsettled() bool { return !w.settled }

// note tells the watches of what a transaction did to each row in total.
func (l *Ledger) note(m *member, tx *cdc.Transaction, fx []RowChange) {
	for i := range fx {
		for _, w := range l.tables[fx[i].Table].coverage[m.id].watches {
			w.note(tx.Commit, &fx[i])
		}
	}
}

func (w *Watch) note(commit cdc.LSN, c *RowChange) {
	if w.noted++; w.noted > maxWatched {
		w.broken, w.states = true, nil
	}
	if !w.broken {
		w.states[string(c.Key)] = append(w.states[string(c.Key)], state{commit, c.Before, c.After})
	}
}

// breakWatches ends all watches of a coverage whose rows are dropped.
func (c *coverage) breakWatches() {
	for _, w := range c.watches {
		w.broken, w.states = true, nil
	}
	c.watches = nil
}

// ScannedRow is a row as it was read from a server.
type ScannedRow struct {
	Key digest.Key
	Row []byte // its stored form; nil: there is no row
}

// Scan is what was read of a table in one view.
type Scan struct {
	View cdc.View
	Rows []ScannedRow // ascending by key, each key once
	// Keys, if not nil, are the keys that were asked for, ascending: one that is not among Rows has no row.
	Keys []digest.Key
	// Span, if set, says that Rows are all rows behind After up to Through; a nil Through is the end.
	Span           bool
	After, Through digest.Key
}

// Split cuts a scan into ones of at most n rows, for the ledger to be let go in between.
func (s *Scan) Split(n int) []Scan {
	var parts []Scan
	rest := *s
	for s.Keys == nil && len(rest.Rows) > n {
		part := rest
		part.Rows, rest.Rows = rest.Rows[:n], rest.Rows[n:]
		part.Through = part.Rows[n-1].Key
		rest.After = part.Through
		parts = append(parts, part)
	}
	return append(parts, rest)
}

// Mismatch is a row that a server has otherwise than its stream says.
type Mismatch struct {
	ScannedRow
	// Moved says that the stream has changed the row since it was read, so that what it is now is known again.
	Moved bool
}

// anyTime is the view of rows that were read on a server which replays what the Watch is about: at which moment, is not
// known.
var anyTime = cdc.View{Cut: 0, Settled: ^cdc.LSN(0)}

// Mismatches holds rows that were read while w watched against what the stream says they were then. The member's stream
// must have been applied up to the end of the view.
func (l *Ledger) Mismatches(w *Watch, s *Scan) ([]Mismatch, error) {
	var list []Mismatch
	err := l.eachScanned(w.at, s, func(r ScannedRow, kept digest.Digest) error {
		actual, err := r.digest()
		if err != nil {
			return err
		}
		if !w.accepts(s.View, r.Key, kept, actual) {
			list = append(list, Mismatch{r, w.moved(s.View, r.Key)})
		}
		return nil
	})
	return list, err
}

func (r *ScannedRow) digest() (digest.Digest, error) {
	if r.Row == nil {
		return digest.Digest{}, nil
	}
	return digest.RowDigest(r.Row)
}

// accepts reports whether a row can have been actual in the view: it is what the row was where the view begins, or what
// a transaction made of it before the view's end.
func (w *Watch) accepts(v cdc.View, key digest.Key, kept, actual digest.Digest) bool {
	states := w.states[string(key)]
	if len(states) == 0 {
		return actual == kept
	}
	was := states[0].before
	for len(states) > 0 && states[0].commit < v.Cut {
		was, states = states[0].after, states[1:]
	}
	if actual == was {
		return true
	}
	return slices.ContainsFunc(states, func(s state) bool { return s.commit < v.Settled && s.after == actual })
}

// moved reports whether the stream has changed a row, or may have, since the view.
func (w *Watch) moved(v cdc.View, key digest.Key) bool {
	states := w.states[string(key)]
	return len(states) > 0 && states[len(states)-1].commit >= v.Cut
}

// eachScanned yields every key that a scan says something of, with the digest of the row that is kept of it. Rows that
// the scan should have had and has not come as ones without a row.
func (l *Ledger) eachScanned(at Space, s *Scan, yield func(r ScannedRow, kept digest.Digest) error) error {
	if s.Span {
		return l.eachInSpan(at, s, yield)
	}
	rows := s.Rows
	if s.Keys != nil {
		rows = s.withAbsent()
	}
	for _, r := range rows {
		kept, err := l.rowDigest(at, r.Key)
		if err == nil {
			err = yield(r, kept)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withAbsent returns the rows of a scan by keys together with the keys that have none. A server may find a row by a key
// that it holds to be the same, such as one in other letters; then both are in the result.
func (s *Scan) withAbsent() []ScannedRow {
	all := slices.Clone(s.Rows)
	for _, k := range s.Keys {
		if _, found := slices.BinarySearchFunc(s.Rows, k, compareRow); !found {
			all = append(all, ScannedRow{Key: k})
		}
	}
	slices.SortFunc(all, func(a, b ScannedRow) int { return bytes.Compare(a.Key, b.Key) })
	return all
}

func compareRow(r ScannedRow, k digest.Key) int { return bytes.Compare(r.Key, k) }

func (l *Ledger) eachInSpan(at Space, s *Scan, yield func(ScannedRow, digest.Digest) error) error {
	kept, err := l.keptRows(at, s)
	if err != nil {
		return err
	}
	rows := s.Rows
	for len(rows) > 0 || len(kept) > 0 {
		order := -1 // of the scanned row against the kept one
		switch {
		case len(rows) == 0:
			order = 1
		case len(kept) > 0:
			order = bytes.Compare(rows[0].Key, kept[0].key)
		}
		var r ScannedRow
		var d digest.Digest
		if order <= 0 {
			r, rows = rows[0], rows[1:]
		}
		if order >= 0 {
			r.Key, d, kept = kept[0].key, kept[0].digest, kept[1:]
		}
		if err := yield(r, d); err != nil {
			return err
		}
	}
	return nil
}

// keptRow is a row that is kept, as far as it takes part in comparisons.
type keptRow struct {
	key    digest.Key
	digest digest.Digest
}

func (l *Ledger) keptRows(at Space, s *Scan) ([]keptRow, error) {
	from, to := behind(s.After), behind(s.Through)
	list := make([]keptRow, 0, len(s.Rows))
	err := l.state.Rows(at, from, to, func(k digest.Key, row []byte) (bool, error) {
		d, err := digest.RowDigest(row)
		list = append(list, keptRow{slices.Clone(k), d})
		return true, err
	})
	return list, err
}

// behind returns the least key that is greater than k; nil stays nil.
func behind(k digest.Key) digest.Key {
	if k == nil {
		return nil
	}
	return append(slices.Clone(k), 0)
}
