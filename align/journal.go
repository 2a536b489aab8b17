package align

import (
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// journal holds the row changes of the reference that some lane has not replayed: in order by transaction, and by key,
// so that "what must this row be on a member that has replayed so much" is the before-image of the first change that it
// has not, or if there is none the reference's row of now. Replicas that commit in another order than the reference still
// replay the changes of one row in their order.
type journal struct {
	byKey map[rowKey]*chain
	txs   map[cdc.TxID]*inFlight
	rows  int
	fresh []*inFlight // not kept in the state yet
	// partial says that lanes may not get all transactions: the reference, a replica itself, writes some that do not come to them.
	partial bool
}

// chain holds the changes of one row, oldest first.
type chain struct {
	first, last *inFlightChange
	// outdated says that the row may have changed since the last one, without a trace or by a transaction that no lane waits for: it came to
	// none where the reference, a replica itself, wrote it.
	outdated bool
}

// rowKey names a row of the group.
type rowKey struct {
	table cdc.TableID
	key   string
}

// inFlight is a journaled transaction. It is in the queue of each lane that has yet to replay it.
type inFlight struct {
	*InFlight
	changes []*inFlightChange
	lanes   []*lane // that have yet to replay it
}

func (tx *inFlight) awaitedBy(ln *lane) bool { return slices.Contains(tx.lanes, ln) }

// arrived takes a lane off the transaction's.
func (tx *inFlight) arrived(ln *lane) {
	if i := slices.Index(tx.lanes, ln); i >= 0 {
		tx.lanes = slices.Delete(tx.lanes, i, i+1)
	}
}

// inFlightChange is one journaled change of a row, chained to its neighbours of the same row.
type inFlightChange struct {
	*RowChange
	tx         *inFlight
	prev, next *inFlightChange
}

// brokenFor reports whether the next change of the row, which a lane has yet to replay, found another one than this change had left: it was changed
// on the reference without a trace in between, perhaps on others too.
func (c *inFlightChange) brokenFor(ln *lane) bool {
	return c.next != nil && c.next.tx.awaitedBy(ln) && c.next.Before != c.After
}

func (c *inFlightChange) delta() merkle.Sum { return merkle.Delta(c.Before, c.After) }

func newJournal() journal {
	return journal{byKey: make(map[rowKey]*chain), txs: make(map[cdc.TxID]*inFlight)}
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
	j.txs[f.ID] = tx
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
	ch.last, ch.outdated = c, false
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
		ch.last, ch.outdated = c.prev, true
	} else {
		c.next.prev = c.prev
	}
}

// release forgets a transaction that no lane waits for any more; it reports whether it did.
func (j *journal) release(tx *inFlight) bool {
	if len(tx.lanes) > 0 || j.txs[tx.ID] != tx {
		return false
	}
	for _, c := range tx.changes {
		j.unlink(c)
	}
	j.rows -= len(tx.changes)
	tx.changes = nil
	delete(j.txs, tx.ID)
	return true
}

// awaited returns the first change of a row that a lane has yet to replay, or nil. A lane is near one end of the chain:
// the newest if it keeps up, the oldest if it is the one that lags. Where it does not get all of the reference's transactions, it may have gone past
// some behind others that it has yet to replay.
func (j *journal) awaited(ch *chain, ln *lane) *inFlightChange {
	switch {
	case ln == nil || len(ln.queue) == 0:
		return nil
	case ch.first.tx.awaitedBy(ln):
		return ch.first
	case j.partial:
		c := ch.first
		for c != nil && !c.tx.awaitedBy(ln) {
			c = c.next
		}
		return c
	case !ch.last.tx.awaitedBy(ln):
		return nil
	}
	c := ch.last
	for c.prev != nil && c.prev.tx.awaitedBy(ln) {
		c = c.prev
	}
	return c
}

// loaded notes that what was in flight is all that the journal has: what came after it and was not is not known.
func (j *journal) loaded() {
	for _, ch := range j.byKey {
		ch.outdated = true
	}
}

// outdate notes that a row was changed without a trace.
func (j *journal) outdate(t cdc.TableID, k digest.Key) {
	if ch := j.byKey[rowKey{t, string(k)}]; ch != nil {
		ch.outdated = true
	}
}

// expected returns what a row is for a lane that has replayed what it has, if the journal knows.
func (j *journal) expected(t cdc.TableID, k digest.Key, ln *lane) (digest.Digest, bool) {
	ch := j.byKey[rowKey{t, string(k)}]
	if ch == nil {
		return digest.Digest{}, false
	}
	if c := j.awaited(ch, ln); c != nil {
		return c.Before, true
	}
	return ch.last.After, !ch.outdated
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
