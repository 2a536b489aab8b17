package align

import (
	"bytes"
	"fmt"
	"time"

	"lockstep/cdc"
	"lockstep/digest"
)

// author journals a transaction of the reference for the lanes that have yet to replay it.
func (l *Ledger) author(tx *cdc.Transaction, fx []RowChange) error {
	if len(fx) == 0 {
		return nil
	}
	f := &InFlight{ID: tx.ID, End: tx.End, CommitTime: tx.CommitTime, Seen: l.now, Changes: fx}
	entry := l.journal.add(f)
	for _, m := range l.sortedMembers() {
		for _, ln := range m.lanes {
			if l.carries(m, ln, entry) {
				l.enqueue(m, ln, entry)
			}
		}
	}
	if entry.waiting == 0 {
		return l.release(entry, 0)
	}
	for _, m := range l.sortedMembers() {
		for _, ln := range m.lanes {
			if err := l.drain(m, ln); err != nil {
				return err
			}
		}
	}
	return l.shed()
}

// carries reports whether a lane brings any of a transaction's tables to the member.
func (l *Ledger) carries(m *member, ln *lane, tx *inFlight) bool {
	if m == l.ref || ln.lost != 0 {
		return false
	}
	last := cdc.TableID(0)
	for i, c := range tx.changes {
		if i > 0 && c.Table == last {
			continue
		}
		last = c.Table
		if l.tables[c.Table].coverage[m.id].Lane == ln.Name {
			return true
		}
	}
	return false
}

func (l *Ledger) enqueue(m *member, ln *lane, tx *inFlight) {
	ln.queue = append(ln.queue, tx)
	tx.waiting++
	l.eachCompared(m, ln, tx, func(t *table, c *coverage, ch *inFlightChange) {
		c.addInFlight(t.startOf(ch.Key), share{ch.delta(), 1})
	})
}

// eachCompared yields the changes of tx in tables that the lane brings to the member and that are being compared.
func (l *Ledger) eachCompared(m *member, ln *lane, tx *inFlight, yield func(*table, *coverage, *inFlightChange)) {
	for _, ch := range tx.changes {
		t := l.tables[ch.Table]
		if c := t.coverage[m.id]; c.Lane == ln.Name && c.Compared {
			yield(t, c, ch)
		}
	}
}

// replay judges a transaction that a member's stream shows.
func (l *Ledger) replay(m *member, tx *cdc.Transaction, fx []RowChange) error {
	ln := m.lanes[tx.Lane]
	if ln == nil {
		return l.judgeEffects(m, fx, errant(tx))
	}
	id := cdc.LSN(tx.ID.Seq)
	ln.reach(id - 1)
	if err := l.drain(m, ln); err != nil { // what came before it and never arrived was passed over
		return err
	}
	ln.reach(id)
	m.dirty = true
	if len(ln.queue) == 0 || ln.queue[0].End != id {
		// The reference's transaction touched no row that is journaled: what the member did is its own doing.
		return l.judgeEffects(m, fx, blame{cause: CauseApply, tx: tx.ID.String(), at: tx.CommitTime})
	}
	f := ln.pop()
	if !f.CommitTime.Equal(tx.CommitTime) {
		return l.otherHistory(m, ln, f, tx)
	}
	return l.pass(m, ln, f, fx, blame{cause: CauseApply, tx: f.ID.String(), at: f.CommitTime})
}

func errant(tx *cdc.Transaction) blame {
	b := blame{cause: CauseErrant, tx: tx.End.String(), at: tx.CommitTime}
	if tx.Lane != "" {
		b.detail = fmt.Sprintf("replayed from replication origin %q, which does not follow the reference", tx.Lane)
	}
	return b
}

// reach notes that a lane has replayed everything up to p.
func (ln *lane) reach(p cdc.LSN) { ln.record.Applied = max(ln.record.Applied, p) }

func (ln *lane) pop() *inFlight {
	f := ln.queue[0]
	ln.queue[0] = nil
	ln.queue = ln.queue[1:]
	return f
}

// drain judges the transactions that a lane has got past without their arriving.
func (l *Ledger) drain(m *member, ln *lane) error {
	for len(ln.queue) > 0 && ln.queue[0].End <= ln.record.Applied {
		f := ln.pop()
		if err := l.pass(m, ln, f, nil, blame{cause: CauseSkipped, tx: f.ID.String(), at: f.CommitTime}); err != nil {
			return err
		}
	}
	return nil
}

// pass takes a transaction off a lane's queue and judges every row that it or, as fx says, its replay touched.
func (l *Ledger) pass(m *member, ln *lane, f *inFlight, fx []RowChange, why blame) error {
	next := matcher{fx: fx}
	for _, ch := range f.changes {
		t := l.tables[ch.Table]
		c := t.coverage[m.id]
		if c.Lane != ln.Name || !c.Compared {
			continue
		}
		c.addInFlight(t.startOf(ch.Key), share{ch.delta(), 1}.negative())
		actual, found := next.take(ch.RowChange)
		if !found {
			var err error
			if actual, err = l.rowDigest(c.space, ch.Key); err != nil {
				return err
			}
		}
		expected, _ := l.journal.expected(ch.Table, ch.Key, ln.record.Applied)
		if err := l.judge(m, t, c, ch.Key, expected, actual, why); err != nil {
			return err
		}
	}
	if err := l.judgeEffects(m, next.rest(), why); err != nil {
		return err
	}
	return l.release(f, 1)
}

// judgeEffects judges rows that a member's transaction touched and the reference's, if there is one, did not.
func (l *Ledger) judgeEffects(m *member, fx []RowChange, why blame) error {
	for i := range fx {
		t := l.tables[fx[i].Table]
		c := t.coverage[m.id]
		if !c.Compared {
			continue
		}
		expected, err := l.expected(m, t, c, fx[i].Key)
		if err != nil {
			return err
		}
		if err := l.judge(m, t, c, fx[i].Key, expected, fx[i].After, why); err != nil {
			return err
		}
	}
	return nil
}

// expected returns what a row must be on a member that has replayed what its lane has.
func (l *Ledger) expected(m *member, t *table, c *coverage, key digest.Key) (digest.Digest, error) {
	if d, ok := l.journal.expected(c.space.Table, key, m.lanes[c.Lane].record.Applied); ok {
		return d, nil
	}
	return l.rowDigest(t.coverage[l.ref.id].space, key)
}

// release takes lanes off a journaled transaction and forgets it when none is left.
func (l *Ledger) release(f *inFlight, lanes int) error {
	if !l.journal.release(f, lanes) || f.Parts == 0 {
		return nil
	}
	return l.state.DeleteInFlight(f.InFlight)
}

// otherHistory handles a replayed transaction whose commit time is not the author's: positions of the two servers do
// not mean the same, so nothing that was matched by them holds.
func (l *Ledger) otherHistory(m *member, ln *lane, f *inFlight, tx *cdc.Transaction) error {
	reason := fmt.Sprintf("transaction %v was committed at %s on the reference, but at %s as %s replayed it: they do not share one history",
		f.ID, f.CommitTime.Format(time.RFC3339Nano), tx.CommitTime.Format(time.RFC3339Nano), m.name)
	for _, t := range l.sortedTables() {
		if c := t.coverage[m.id]; c.Lane == ln.Name && c.Phase != Waiting {
			if err := l.unverify(t, m, reason); err != nil {
				return err
			}
		}
	}
	return l.release(f, 1)
}

// shed gives up the lane that is furthest behind when the journal is full.
func (l *Ledger) shed() error {
	for l.journal.rows > l.opt.MaxInFlight {
		var worst *lane
		var on *member
		for _, m := range l.sortedMembers() {
			for _, ln := range m.lanes {
				if len(ln.queue) > 0 && (worst == nil || ln.queue[0].End < worst.queue[0].End) {
					worst, on = ln, m
				}
			}
		}
		if worst == nil {
			return nil
		}
		if err := l.lose(on, worst); err != nil {
			return err
		}
	}
	return nil
}

// lose drops a lane's queue; its tables are read anew once it has caught up.
func (l *Ledger) lose(m *member, ln *lane) error {
	ln.lost = l.ref.record.Position
	reason := fmt.Sprintf("fell more than %d row changes behind", l.opt.MaxInFlight)
	for _, t := range l.sortedTables() {
		if c := t.coverage[m.id]; c.Lane == ln.Name {
			l.unjournaled(t, l.ref.record.Position)
			if err := l.unverify(t, m, reason); err != nil {
				return err
			}
		}
	}
	return l.empty(ln)
}

// empty takes all transactions off a lane's queue without judging them.
func (l *Ledger) empty(ln *lane) error {
	queue := ln.queue
	ln.queue = nil
	for _, f := range queue {
		if err := l.release(f, 1); err != nil {
			return err
		}
	}
	return nil
}

// matcher pairs the rows of a transaction on the reference with the rows of its replay. Both sides list them in the
// same order unless something else than plain replay was at work, so it looks at the next one first.
type matcher struct {
	fx    []RowChange
	at    int
	index map[rowKey]int // made at the first row that is out of order
	taken []bool
}

// take returns what the replay made of ch's row.
func (x *matcher) take(ch *RowChange) (digest.Digest, bool) {
	if x.index == nil {
		if x.at < len(x.fx) && x.fx[x.at].Table == ch.Table && bytes.Equal(x.fx[x.at].Key, ch.Key) {
			x.at++
			return x.fx[x.at-1].After, true
		}
		if x.at == len(x.fx) {
			return digest.Digest{}, false
		}
		x.reorder()
	}
	i, ok := x.index[rowKey{ch.Table, string(ch.Key)}]
	if !ok {
		return digest.Digest{}, false
	}
	x.taken[i] = true
	return x.fx[i].After, true
}

func (x *matcher) reorder() {
	x.index = make(map[rowKey]int, len(x.fx)-x.at)
	x.taken = make([]bool, len(x.fx))
	for i := range x.fx {
		x.taken[i] = i < x.at
		x.index[rowKey{x.fx[i].Table, string(x.fx[i].Key)}] = i
	}
}

// rest returns the rows that only the replay touched.
func (x *matcher) rest() []RowChange {
	if x.index == nil {
		return x.fx[x.at:]
	}
	var rest []RowChange
	for i, taken := range x.taken {
		if !taken {
			rest = append(rest, x.fx[i])
		}
	}
	return rest
}
