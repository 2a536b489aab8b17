package align

import (
	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/merkle"
)

// journal holds the row changes of the reference that some lane has not replayed: in order by transaction, and by key,
// so that "what must this row be on a member that has replayed up to X" is the before-image of the first change after X,
// or if there is none the reference's row of now.
type journal struct {
	byKey map[rowKey]*chain
	txs   map[cdc.LSN]*inFlight
	rows  int
	fresh []*inFlight // not kept in the state yet
}

// chain holds the changes of one row, oldest first.
type chain struct{ first, last *inFlightChange }

// rowKey names a row of the group.
type rowKey struct {
	table cdc.TableID
	key   string
}

// inFlight is a journaled transaction. It is in the queue of each lane that has yet to replay it.
type inFlight struct {
	*InFlight
	changes []*inFlightChange
	waiting int // lanes whose queue it is in
}

// inFlightChange is one journaled change of a row, chained to its neighbours of the same row.
type inFlightChange struct {
	*RowChange
	tx         *inFlight
	prev, next *inFlightChange
}

func (c *inFlightChange) delta() merkle.Sum { return merkle.Delta(c.Before, c.After) }

func newJournal() journal {
	return journal{byKey: make(map[rowKey]*chain), txs: make(map[cdc.LSN]*inFlight)}
}

// add journals a transaction whose changes name each row once.
func (j *journal) add(f *InFlight) *inFlight {
	tx := &inFlight{InFlight: f, changes: make([]*inFlightChange, len(f.Changes))}
	nodes := make([]inFlightChange, len(f.Changes))
	for i := range f.Changes {
		c := &nodes[i]
		c.RowChange, c.tx = &f.Changes[i], tx
		tx.changes[i] = c
		j.link(c)
	}
	j.txs[f.End] = tx
	if f.Parts == 0 {
		j.fresh = append(j.fresh, tx)
	}
	j.rows += len(f.Changes)
	return tx
}

func (j *journal) link(c *inFlightChange) {
	at := rowKey{c.Table, string(c.Key)}
	ch := j.byKey[at]
	if ch == nil {
		j.byKey[at] = &chain{first: c, last: c}
		return
	}
	c.prev, ch.last.next = ch.last, c
	ch.last = c
}

func (j *journal) unlink(c *inFlightChange) {
	at := rowKey{c.Table, string(c.Key)}
	ch := j.byKey[at]
	if ch.first == c && ch.last == c {
		delete(j.byKey, at)
		return
	}
	if c.prev == nil {
		ch.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		ch.last = c.prev
	} else {
		c.next.prev = c.prev
	}
}

// release takes n lanes off a transaction and forgets it when none is left; it reports whether it did.
func (j *journal) release(tx *inFlight, n int) bool {
	tx.waiting -= n
	if tx.waiting > 0 {
		return false
	}
	for _, c := range tx.changes {
		j.unlink(c)
	}
	j.rows -= len(tx.changes)
	delete(j.txs, tx.End)
	return true
}

// after returns the first change of a row in a transaction that ends after p, or nil. A lane is near one end of the
// chain: the newest if it keeps up, the oldest if it is the one that lags.
func (j *journal) after(t cdc.TableID, k digest.Key, p cdc.LSN) *inFlightChange {
	ch := j.byKey[rowKey{t, string(k)}]
	switch {
	case ch == nil || ch.last.tx.End <= p:
		return nil
	case ch.first.tx.End > p:
		return ch.first
	}
	c := ch.last
	for c.prev != nil && c.prev.tx.End > p {
		c = c.prev
	}
	return c
}

// expected returns what a row is for a lane that has replayed everything up to p, if the journal knows.
func (j *journal) expected(t cdc.TableID, k digest.Key, p cdc.LSN) (digest.Digest, bool) {
	if c := j.after(t, k, p); c != nil {
		return c.Before, true
	}
	if ch := j.byKey[rowKey{t, string(k)}]; ch != nil {
		return ch.last.After, true
	}
	return digest.Digest{}, false
}

// forget drops all changes of a table: from now on its transactions are in flight without their rows being known.
func (j *journal) forget(t cdc.TableID) {
	for _, tx := range j.txs {
		kept := tx.changes[:0]
		for _, c := range tx.changes {
			if c.Table == t {
				j.unlink(c)
				j.rows--
				continue
			}
			kept = append(kept, c)
		}
		tx.changes = kept
	}
}
