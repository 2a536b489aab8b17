package align

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Ready reports whether tx, which came at the time came, can be applied now. What a member replayed cannot be judged before
// the reference's stream has shown it, so a replayed transaction waits until the reference is read up to it; the member's
// position waits with it. An id that the reference has not shown after it has shown all that it had when the transaction came
// is not the reference's: nobody can replay what was not written yet. It need not wait any longer. Where the reference replicates
// itself, what it has yet to replay is waited for, however long that takes.
func (l *Ledger) Ready(id cdc.MemberID, tx *cdc.Transaction, came time.Time) bool {
	m := l.members[id]
	m.awaits = cdc.TxID{}
	unknown := tx.Lane != cdc.GTIDLane && m.lanes[tx.Lane] == nil // its ids may be of another log than the reference's
	if m == l.ref || unknown || tx.ID.Seq == 0 || l.ref.shown().Contains(tx.ID) {
		return true
	}
	if tx.Lane == cdc.GTIDLane && !l.coming(one(tx.ID)).IsZero() {
		m.awaits = tx.ID
		return false
	}
	return l.ref.provenAt.After(came)
}

// one is the set of one transaction.
func one(id cdc.TxID) (set cdc.TxSet) {
	set.AddRange(id.Source, id.Seq, id.Seq)
	return set
}

func (m *member) shown() cdc.TxSet { return m.record.Position.Shown }

// has are the transactions with a GTID whose rows may be on a member: what its log has shown, and what it says to have, which may be from
// before its log begins.
func (m *member) has() cdc.TxSet {
	all := m.shown().Clone()
	all.AddSet(m.said)
	return all
}

// Advance moves a member's position over an event that was applied, or that holds nothing of ours.
func (l *Ledger) Advance(id cdc.MemberID, e cdc.Event) {
	m := l.members[id]
	if e.Position > m.record.Position.LSN || e.Through.Seq != 0 && !m.shown().Contains(e.Through) {
		m.dirty = true
	}
	if m == l.ref {
		l.lead(e.Through)
		if e.Transaction == nil {
			l.accounted(e.Through)
		}
	}
	if e.Started {
		m.record.Started, m.dirty = &cdc.TxSet{}, true
		l.restarted(m, e.Position)
	}
	if first := m.record.Started; first != nil && first.LastOf(e.Through.Domain()) == 0 {
		first.Add(e.Through)
	}
	m.record.Position.Pass(e)
}

// restarted notes that a member was started, which its log shows at a position, since its rows were read.
func (l *Ledger) restarted(m *member, at cdc.LSN) {
	for _, t := range l.tables {
		c := t.coverage[m.id]
		if c.Phase == Waiting || c.Scan != nil && c.Scan.Cut >= at {
			continue
		}
		c.Restarted, t.dirty = true, true
	}
}

// mayHaveHad reports whether a transaction that a member has passed over may have been replayed while the member did not log
// what it replayed. Of one that is only scanned no log is read.
func (m *member) mayHaveHad(id cdc.TxID) bool {
	if m.record.Started == nil || m.scanOnly {
		return false
	}
	first := m.record.Started.LastOf(id.Domain())
	return first == 0 || id.Seq <= first
}

// lead puts a transaction of the reference, where lanes are waited for, in the place of what other servers wrote before it
// to its domain. On MariaDB a lane may never say that it has that: a server passes over what has its own number, and the
// position of one that was seeded later names only the last. What a member has shown before may be that member's own,
// which says nothing of what it has replayed.
func (l *Ledger) lead(id cdc.TxID) {
	domain := id.Domain()
	if l.ref.progress.Self == "" || l.IsReplica() { // what it wrote itself comes to nobody who does not replicate from it
		return
	}
	if domain == "" || l.leader[domain] == id.Source {
		return
	}
	delete(l.leader, domain)
	for _, m := range l.members {
		if m != l.ref && m.shown().Contains(id) {
			l.refused[domain] = id // until the member shows another log
			return
		}
	}
	l.leader[domain] = id.Source
	delete(l.refused, domain)
	for _, t := range l.tables {
		if t.record.Unjournaled.Supersede(id) {
			t.dirty = true
		}
	}
	for _, m := range l.members {
		for _, ln := range m.lanes {
			if ln.record.Lost.Supersede(id) {
				m.dirty = true
			}
		}
	}
}

// Apply applies the transaction of an event of a member's stream, in the stream's order. One that ends at or before the
// member's position was applied already and is passed over.
func (l *Ledger) Apply(id cdc.MemberID, e cdc.Event) error {
	m, tx := l.members[id], e.Transaction
	if tx.End <= m.record.Position.LSN {
		return nil
	}
	if m == l.ref {
		tx = authored(tx)
	}
	l.Advance(id, e) // first: a table that the transaction puts in doubt is not compared before the transaction was replayed
	effects, err := l.applyRows(m, tx)
	if err != nil {
		return fmt.Errorf("apply transaction %v of %s: %w", tx.ID, m.name, err)
	}
	if m == l.ref {
		err = l.author(tx, effects)
	} else {
		err = l.replay(m, tx, effects)
	}
	if err != nil {
		return fmt.Errorf("apply transaction %v of %s: %w", tx.ID, m.name, err)
	}
	return nil
}

// authored names a transaction of the reference as its subscribers do: by the end that it has in the reference's log, also
// where the reference is a subscriber itself and has replayed it. A GTID is the same in every log.
func authored(tx *cdc.Transaction) *cdc.Transaction {
	if tx.Lane == "" || tx.Lane == cdc.GTIDLane {
		return tx
	}
	own := *tx
	own.Lane, own.ID = "", cdc.TxID{Seq: uint64(tx.End)}
	return &own
}

// applyRows brings the member's rows and range digests up to the transaction and returns what it did to each row in
// total, in the order of first touch. Tables that are not live, or not any more, pile it up or leave it to a scan.
func (l *Ledger) applyRows(m *member, tx *cdc.Transaction) ([]RowChange, error) {
	var fx effects
	for i := range tx.Changes {
		ch := &tx.Changes[i]
		t := l.tables[ch.Table]
		if t == nil {
			continue
		}
		c := t.coverage[m.id]
		if reason := l.undecodable(t, tx, ch); reason != "" {
			if err := l.touch(t, c, m, tx, reason); err != nil {
				return nil, err
			}
			continue
		}
		if c.Phase != Live {
			if err := l.pile(t, c, m, tx, ch); err != nil {
				return nil, err
			}
			continue
		}
		if err := l.changeOrDoubt(t, c, m, ch, &fx); err != nil {
			return nil, err
		}
	}
	for _, touched := range tx.Touched {
		if t := l.tables[touched.Table]; t != nil {
			if err := l.touch(t, t.coverage[m.id], m, tx, touched.Reason); err != nil {
				return nil, err
			}
		}
	}
	l.note(m, tx, fx.list)
	return slices.DeleteFunc(fx.list, func(ch RowChange) bool { return l.tables[ch.Table].coverage[m.id].Phase != Live }), nil
}

// undecodable says why a change cannot be taken at its word, or nothing.
func (l *Ledger) undecodable(t *table, tx *cdc.Transaction, ch *cdc.Change) string {
	switch {
	case ch.Epoch != t.record.Epoch.Number:
		return "changed while its definition did"
	case tx.Lane != "" && tx.ID.Seq == 0:
		return "copied anew by its subscription" // the origin of an initial copy has no position
	}
	return ""
}

// changeOrDoubt applies a change; one that leaves out a value that is not known puts the table in doubt.
func (l *Ledger) changeOrDoubt(t *table, c *coverage, m *member, ch *cdc.Change, fx *effects) error {
	err := l.change(t, c, ch, fx)
	var incomplete errIncomplete
	if errors.As(err, &incomplete) {
		return l.unverify(t, m, incomplete.Error())
	}
	return err
}

// pile keeps a change for the time when the running scan has ended.
func (l *Ledger) pile(t *table, c *coverage, m *member, tx *cdc.Transaction, ch *cdc.Change) error {
	if m == l.ref {
		t.record.Unjournaled.Add(tx.ID)
		t.dirty = true
	}
	if c.Phase == Waiting || tx.Commit < c.Scan.Cut {
		return nil
	}
	return l.state.AppendPending(c.space, &Pending{Commit: tx.Commit, Change: *ch})
}

// touch takes note of changes whose rows are not known. Before the cut of a running scan, or while one is waited for,
// they do not matter; else what is kept of the table is not true any more.
func (l *Ledger) touch(t *table, c *coverage, m *member, tx *cdc.Transaction, reason string) error {
	if m == l.ref {
		t.record.Unjournaled.Add(tx.ID)
		t.dirty = true
	}
	if c.Phase == Waiting || c.Phase == Scanning && (c.Scan.Cut == 0 || tx.Commit < c.Scan.Cut) {
		return nil
	}
	if reason == "" {
		reason = "changed before it could be decoded"
	}
	return l.unverify(t, m, reason)
}

// unjournaled notes that of what the reference has shown so far a table's changes are not all in the journal.
func (l *Ledger) unjournaled(t *table) {
	t.record.Unjournaled.AddSet(l.Mark())
	t.dirty = true
}

// change applies one change to the rows of a live table.
func (l *Ledger) change(t *table, c *coverage, ch *cdc.Change, fx *effects) error {
	switch {
	case t.record.Sparse && c.Phase == Live && ch.Op == cdc.Truncate:
		return errTruncated
	case t.record.Sparse && c.Phase == Live && !ch.HasBefore:
		return errNoBefore
	case ch.Op == cdc.Truncate:
		return l.truncate(t, c, fx)
	case ch.Op == cdc.Delete:
		before, err := l.before(c, ch, ch.Key)
		if err != nil {
			return err
		}
		return l.replaceRow(t, c, ch.Key, before, nil, fx)
	case ch.OldKey == nil:
		return l.writeRow(t, c, ch, ch.Key, fx)
	}
	// The key moved: what the update left out is to be found at the old key, so the new row is made first.
	before, err := l.before(c, ch, ch.OldKey)
	if err != nil {
		return err
	}
	if err := l.writeRow(t, c, ch, ch.OldKey, fx); err != nil {
		return err
	}
	return l.replaceRow(t, c, ch.OldKey, before, nil, fx)
}

// before returns what the row at key, which is ch's new or old key, was before the change. Of a live table a log with
// whole before-images is taken at its word. If the row was another one, because somebody changed it without a trace in
// the log, the range's sum is off by the difference; see resolve.
func (l *Ledger) before(c *coverage, ch *cdc.Change, key digest.Key) (digest.Digest, error) {
	if !ch.HasBefore || c.Phase != Live {
		return l.rowDigest(c.space, key)
	}
	if ch.OldKey != nil && !bytes.Equal(key, ch.OldKey) {
		return digest.Digest{}, nil // nothing can have been where the row moved to
	}
	return ch.Before, nil
}

// errIncomplete is the reason for which a table is read anew when an update leaves out a value that is not known.
type errIncomplete struct{ error }

// writeRow stores the after-image of ch; values that it leaves out are taken from the row at from.
func (l *Ledger) writeRow(t *table, c *coverage, ch *cdc.Change, from digest.Key, fx *effects) error {
	row := &ch.Row
	if row.Partial != nil {
		whole, err := l.complete(c, row, from)
		if err != nil {
			return err
		}
		row = whole
		if c.underSuspicion(from) { // what was left out is that of a row which may be another one
			t.suspectKey(c, ch.Key)
		}
	}
	before, err := l.before(c, ch, ch.Key)
	if err != nil {
		return err
	}
	l.scratch = digest.AppendRow(l.scratch[:0], row)
	return l.replaceRow(t, c, ch.Key, before, l.scratch, fx)
}

func (l *Ledger) complete(c *coverage, row *digest.Row, from digest.Key) (*digest.Row, error) {
	kept, err := l.state.Row(c.space, from)
	if err != nil {
		return nil, err
	}
	var before digest.Row
	if kept != nil {
		if err := digest.ParseRow(kept, &before); err != nil {
			return nil, err
		}
	}
	whole, err := l.opt.Hasher.Complete(row.Partial, before.Columns)
	if err != nil {
		return nil, errIncomplete{err}
	}
	return &whole, nil
}

// replaceRow stores row at key, or removes what is there if row is nil, and takes note of the effect.
func (l *Ledger) replaceRow(t *table, c *coverage, key digest.Key, before digest.Digest, row []byte, fx *effects) error {
	var after digest.Digest
	var err error
	if row != nil {
		if after, err = digest.RowDigest(row); err != nil {
			return err
		}
	}
	switch {
	case !t.knows(c, string(t.startOf(key))):
	case row == nil:
		err = l.state.DeleteRow(c.space, key)
	default:
		err = l.state.SetRow(c.space, key, row)
	}
	if err != nil {
		return err
	}
	if before.IsZero() {
		t.insertedAt = l.now
	}
	l.addToRange(t, c, key, merkle.Delta(before, after))
	fx.add(RowChange{Table: c.space.Table, Key: key, Before: before, After: after})
	return nil
}

func (l *Ledger) rowDigest(at Space, key digest.Key) (digest.Digest, error) {
	row, err := l.state.Row(at, key)
	if err != nil || row == nil {
		return digest.Digest{}, err
	}
	return digest.RowDigest(row)
}

func (l *Ledger) addToRange(t *table, c *coverage, key digest.Key, d merkle.Sum) {
	i := t.ranges.Find(key)
	c.tree.Add(i, d)
	l.touched[touchedRange{c.space.Table, string(t.ranges.Start(i))}] = struct{}{}
}

// truncate removes all rows of a table.
func (l *Ledger) truncate(t *table, c *coverage, fx *effects) error {
	var keys []digest.Key
	err := l.state.Rows(c.space, nil, nil, func(k digest.Key, _ []byte) (bool, error) {
		keys = append(keys, slices.Clone(k))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		before, err := l.rowDigest(c.space, k)
		if err != nil {
			return err
		}
		if err := l.replaceRow(t, c, k, before, nil, fx); err != nil {
			return err
		}
	}
	return nil
}

// effects gathers what a transaction does to each row in total.
type effects struct {
	list []RowChange
	// at finds the last row of a hash in list, and next, for each row, the one before it with the same hash; -1 is none.
	// Both are empty while list holds at most one row.
	at   map[uint64]int32
	next []int32
}

// hashSeed makes hashes of keys that nobody can foresee. They live as long as a transaction is being applied.
var hashSeed = maphash.MakeSeed()

func (fx *effects) add(c RowChange) {
	switch {
	case len(fx.list) == 0:
		fx.list = append(fx.list, c)
		return
	case fx.at == nil:
		fx.at = map[uint64]int32{fx.list[0].hash(): 0}
		fx.next = append(fx.next, -1)
	}
	h := c.hash()
	last, found := fx.at[h]
	if !found {
		last = -1
	}
	for i := last; i >= 0; i = fx.next[i] {
		if e := &fx.list[i]; e.Table == c.Table && bytes.Equal(e.Key, c.Key) {
			e.After = c.After
			return
		}
	}
	fx.at[h] = int32(len(fx.list))
	fx.next = append(fx.next, last)
	fx.list = append(fx.list, c)
}

func (c *RowChange) hash() uint64 { return maphash.Bytes(hashSeed, c.Key) + uint64(c.Table) }
