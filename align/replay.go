package align

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// author journals a transaction of the reference for the lanes that have yet to replay it.
func (l *Ledger) author(tx *cdc.Transaction, fx []RowChange) error {
	if len(fx) == 0 || !l.anyLane() {
		l.accounted(tx.ID)
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
	for _, m := range l.sortedMembers() {
		if !m.record.Ahead.Contains(tx.ID) {
			continue
		}
		if err := l.foreseen(m, entry); err != nil {
			return err
		}
	}
	if l.IsReplica() {
		for _, m := range l.sortedMembers() {
			if ln := m.lanes[cdc.GTIDLane]; ln != nil && !l.brings(m, tx.ID.Author()) {
				ln.record.Unbrought.AddSet(one(tx.ID))
				m.dirty = true
				if err := l.passOver(m, ln, []*inFlight{entry}); err != nil {
					return err
				}
			}
		}
	}
	if err := l.release(entry); err != nil {
		return err
	}
	return l.shed()
}

// anyLane reports whether a lane could bring transactions to a member.
func (l *Ledger) anyLane() bool {
	for _, m := range l.members {
		if m != l.ref && len(m.lanes) > 0 {
			return true
		}
	}
	return false
}

// foreseen handles a transaction of the reference that came to it from a member which has shown it before. For the member
// it follows what is in flight to it, so it waits in the queue until it is at the head.
func (l *Ledger) foreseen(m *member, entry *inFlight) error {
	if ln := m.lanes[cdc.GTIDLane]; ln != nil && entry.awaitedBy(ln) {
		return l.drainHead(m, ln)
	}
	m.cameBack(entry.ID)
	return nil
}

// accounted notes that the reference has a transaction too that members have shown before, and that it touches nothing there.
func (l *Ledger) accounted(id cdc.TxID) {
	for _, m := range l.members {
		if m.record.Ahead.Contains(id) {
			m.cameBack(id)
		}
	}
}

// cameBack notes that a transaction of the member's own has become one of the reference's.
func (m *member) cameBack(id cdc.TxID) {
	m.record.Ahead, m.dirty = m.record.Ahead.Without(one(id)), true
	if ln := m.lanes[cdc.GTIDLane]; ln != nil { // or else it will be said to have it
		ln.record.Applied.Add(id)
	}
}

// carries reports whether a lane brings any of a transaction's tables to the member.
func (l *Ledger) carries(m *member, ln *lane, tx *inFlight) bool {
	if m == l.ref || !ln.record.Lost.IsZero() {
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
	tx.lanes = append(tx.lanes, ln)
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
	if ln == nil || tx.ID.Seq != 0 && !l.ref.shown().Contains(tx.ID) {
		return l.errant(m, tx, fx)
	}
	m.dirty = true
	// What came before it and never arrived was passed over.
	ln.record.Applied.AddSet(tx.ID.Before())
	if err := l.drainHead(m, ln); err != nil {
		return err
	}
	ln.record.Applied.Add(tx.ID)
	f := l.journal.txs[tx.ID]
	if f == nil || !f.awaitedBy(ln) {
		// The reference's transaction touched no row that is journaled: what the member did is its own doing.
		return l.judgeEffects(m, fx, blame{cause: finding.CauseApply, tx: tx.ID.String(), at: tx.CommitTime})
	}
	if ln.overtakes(f, &l.journal) {
		m.record.Ahead.AddSet(one(tx.ID))
		return l.judgeEffects(m, fx, blame{cause: finding.CauseApply, tx: f.ID.String(), at: f.CommitTime})
	}
	f.arrived(ln)
	if tx.Lane != cdc.GTIDLane && !f.CommitTime.Equal(tx.CommitTime) {
		return l.otherHistory(m, ln, f, tx)
	}
	if err := l.pass(m, ln, f, fx, blame{cause: finding.CauseApply, tx: f.ID.String(), at: f.CommitTime}); err != nil {
		return err
	}
	return l.drainHead(m, ln)
}

// overtakes reports whether a lane has yet to replay a change of a row from before f's. That does not happen between
// transactions of one author; but where several servers write, the author of one has it before all others'.
func (ln *lane) overtakes(f *inFlight, j *journal) bool {
	if ln.trim(); ln.queue[0] == f {
		return false
	}
	return slices.ContainsFunc(f.changes, func(c *inFlightChange) bool {
		return c.prev != nil && j.awaited(j.byKey[rowKey{c.Table, string(c.Key)}], ln) != c
	})
}

// errant judges a transaction that is not the reference's.
func (l *Ledger) errant(m *member, tx *cdc.Transaction, fx []RowChange) error {
	why := blame{cause: finding.CauseErrant, tx: tx.ID.String(), at: tx.CommitTime}
	switch tx.Lane {
	case "":
	case cdc.GTIDLane:
		if !l.ref.shown().Contains(tx.ID) {
			m.record.Ahead.AddSet(one(tx.ID))
			m.dirty = true
		}
	default:
		why.tx = tx.End.String()
		why.detail = fmt.Sprintf("replayed from replication origin %q, which does not follow the reference", tx.Lane)
	}
	return l.judgeEffects(m, fx, why)
}

// trim takes what was replayed off the head of a lane's queue.
func (ln *lane) trim() {
	for len(ln.queue) > 0 && !ln.queue[0].awaitedBy(ln) {
		ln.queue[0] = nil
		ln.queue = ln.queue[1:]
	}
}

// awaited yields the transactions that a lane has yet to replay, in the reference's order.
func (ln *lane) awaited(yield func(*inFlight) bool) {
	for _, f := range ln.queue {
		if f.awaitedBy(ln) && !yield(f) {
			return
		}
	}
}

// drainHead judges the transactions at the head of a lane's queue that it has got past without their arriving, or that
// came from the member.
func (l *Ledger) drainHead(m *member, ln *lane) error {
	ln.trim()
	n := 0
	for n < len(ln.queue) && (!ln.queue[n].awaitedBy(ln) || ln.record.Applied.Contains(ln.queue[n].ID) || m.record.Ahead.Contains(ln.queue[n].ID)) {
		n++
	}
	return l.skip(m, ln, slices.Clone(ln.queue[:n]))
}

// drain judges all transactions of a lane's queue that it has got past without their arriving.
func (l *Ledger) drain(m *member, ln *lane) error {
	var skipped []*inFlight
	for f := range ln.awaited {
		if ln.record.Applied.Contains(f.ID) && !m.record.Ahead.Contains(f.ID) {
			skipped = append(skipped, f)
		}
	}
	return l.passOver(m, ln, skipped)
}

// passOver judges transactions of a lane's queue that will not arrive, and those that are at its head then.
func (l *Ledger) passOver(m *member, ln *lane, list []*inFlight) error {
	if err := l.skip(m, ln, list); err != nil {
		return err
	}
	return l.drainHead(m, ln)
}

// skip takes transactions that did not arrive off a lane's queue. All are taken off before the first is judged: a row is
// judged by what it must be after all of them.
func (l *Ledger) skip(m *member, ln *lane, list []*inFlight) error {
	list = slices.DeleteFunc(list, func(f *inFlight) bool { return !f.awaitedBy(ln) })
	for _, f := range list {
		f.arrived(ln)
	}
	for _, f := range list {
		why := blame{cause: finding.CauseSkipped, tx: f.ID.String(), at: f.CommitTime}
		if m.record.Ahead.Contains(f.ID) {
			m.cameBack(f.ID)
			why.cause = finding.CauseApply
		} else if m.mayHaveHad(f.ID) {
			reason := fmt.Sprintf("%s was started and its log does not have transaction %v: it may have replayed it without logging it", m.name, f.ID)
			if err := l.doubtAll(m, ln, f, reason); err != nil {
				return err
			}
			continue
		}
		if err := l.pass(m, ln, f, nil, why); err != nil {
			return err
		}
	}
	ln.trim()
	return nil
}

// doubtAll has the tables that a transaction touched read anew.
func (l *Ledger) doubtAll(m *member, ln *lane, f *inFlight, reason string) error {
	for _, ch := range f.changes {
		t := l.tables[ch.Table]
		if c := t.coverage[m.id]; c.Lane == ln.Name && c.Phase != Waiting {
			if err := l.unverify(t, m, reason); err != nil {
				return err
			}
		}
	}
	return l.release(f)
}

// pass judges every row that a transaction which was taken off a lane's queue or, as fx says, its replay touched.
func (l *Ledger) pass(m *member, ln *lane, f *inFlight, fx []RowChange, why blame) error {
	next := matcher{fx: fx}
	for _, ch := range f.changes {
		t := l.tables[ch.Table]
		c := t.coverage[m.id]
		if c.Lane != ln.Name || !c.Compared {
			continue
		}
		c.addInFlight(t.startOf(ch.Key), share{ch.delta(), 1}.negative())
		if m.scanOnly {
			continue // what became of the row is seen when it is read
		}
		actual, found := next.take(ch.RowChange)
		if start := string(t.startOf(ch.Key)); t.record.Sparse && !l.know(t, c, start) {
			l.passSparse(ln, c, start, ch, actual, found, why)
			continue
		}
		if !found {
			var err error
			if actual, err = l.rowDigest(c.space, ch.Key); err != nil {
				return err
			}
			// If the reference's before-image was of a row that came about without a trace, its sum is off.
			l.touched[touchedRange{ch.Table, string(t.startOf(ch.Key))}] = struct{}{}
		}
		var err error
		if found && actual == ch.After && ch.brokenFor(ln) { // it is what the log makes of it, and what it was changed to since is not known of the member
			err = l.judge(m, t, c, ch.Key, actual, actual, why)
		} else {
			err = l.judgeRow(m, t, c, ch.Key, actual, why)
		}
		if err != nil {
			return err
		}
	}
	if err := l.judgeEffects(m, next.rest(), why); err != nil {
		return err
	}
	return l.release(f)
}

// judgeEffects judges rows that a member's transaction touched and the reference's, if there is one, did not.
func (l *Ledger) judgeEffects(m *member, fx []RowChange, why blame) error {
	for i := range fx {
		t := l.tables[fx[i].Table]
		c := t.coverage[m.id]
		if !c.Compared {
			continue
		}
		if start := string(t.startOf(fx[i].Key)); t.record.Sparse && !l.know(t, c, start) {
			if fx[i].Before != fx[i].After {
				c.suspicion(start, fx[i].Key, why)
			}
			continue
		}
		if err := l.judgeRow(m, t, c, fx[i].Key, fx[i].After, why); err != nil {
			return err
		}
	}
	return nil
}

// judgeRow holds a row of a member against what it must be.
func (l *Ledger) judgeRow(m *member, t *table, c *coverage, key digest.Key, actual digest.Digest, why blame) error {
	expected, err := l.expected(m, t, c, key)
	if err != nil {
		return err
	}
	return l.judge(m, t, c, key, expected, actual, why)
}

// expected returns what a row must be on a member that has replayed what its lane has.
func (l *Ledger) expected(m *member, t *table, c *coverage, key digest.Key) (digest.Digest, error) {
	if d, ok := l.journal.expected(c.space.Table, key, m.lanes[c.Lane]); ok {
		return d, nil
	}
	return l.rowDigest(t.coverage[l.ref.id].space, key)
}

// release forgets a journaled transaction that no lane waits for any more.
func (l *Ledger) release(f *inFlight) error {
	if !l.journal.release(f) || f.Parts == 0 {
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
	return l.release(f)
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
		if err := l.lose(on, worst, fmt.Sprintf("fell more than %d row changes behind", l.opt.MaxInFlight)); err != nil {
			return err
		}
	}
	return nil
}

// lose drops a lane's queue; its tables are read anew once it has caught up.
func (l *Ledger) lose(m *member, ln *lane, reason string) error {
	ln.record.Lost, m.dirty = l.Mark(), true
	for _, t := range l.sortedTables() {
		if c := t.coverage[m.id]; c.Lane == ln.Name {
			l.unjournaled(t)
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
		f.arrived(ln)
		if err := l.release(f); err != nil {
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
