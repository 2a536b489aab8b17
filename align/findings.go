package align

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// Notice is news for people: a divergence was opened or resolved.
type Notice struct {
	Divergence finding.Divergence
}

// join counts a key that has differed since a time, untold, to the finding that it belongs to.
func (l *Ledger) join(m *member, t *table, kind finding.Kind, why blame, since time.Time) *finding.Finding {
	f := l.finding(m, t, kind, why)
	f.Live++
	f.Changed = true
	if !f.Confirmed && since.Before(f.Divergence.FirstSeen) {
		f.Divergence.FirstSeen = since
	}
	return f
}

func (l *Ledger) finding(m *member, t *table, kind finding.Kind, why blame) *finding.Finding {
	wanted := finding.Key{Member: m.id, Table: t.record.Epoch.Table, Kind: kind, Cause: why.cause, Tx: why.tx}
	f, k := l.findings.Place(wanted)
	if f != nil {
		return f
	}
	if k != wanted {
		why.detail = finding.AndLater
	}
	d := finding.Divergence{
		ID:        l.opt.NewID(l.now),
		Group:     l.opt.Group,
		Table:     t.name(),
		Member:    m.name,
		Reference: l.ref.name,
		State:     finding.Open,
		Kind:      kind,
		Cause:     why.cause,
		Detail:    why.detail,
		FirstSeen: l.now,
		Positions: map[string]string{m.name: m.record.Position.String(), l.ref.name: l.ref.record.Position.String()},
		LagBudget: l.opt.Budget(t.name()).String(),
	}
	if why.tx != "" {
		d.IntroducedBy = &finding.Introduced{Transaction: why.tx, CommittedAt: why.at.UTC()}
	}
	f = l.findings.Begin(k, d)
	f.Began = l.now
	return f
}

// leave takes a key off its finding.
func (l *Ledger) leave(number uint64) {
	if f := l.findings.Number(number); f != nil {
		f.Live--
		f.Changed, f.Left = true, true
	}
}

// Tick lets time pass: findings older than their budget become divergences, ones with no key left are resolved.
func (l *Ledger) Tick() error {
	if err := l.compare(); err != nil {
		return err
	}
	if l.now.Sub(l.staleAt) >= staleEvery {
		l.staleAt = l.now
		l.findStale()
	}
	for _, f := range l.findings.All() {
		if err := l.step(f); err != nil {
			return err
		}
	}
	return nil
}

// step moves one finding along its life: suspected, confirmed, resolved.
func (l *Ledger) step(f *finding.Finding) error {
	switch {
	case f.Live == 0:
		if f.Divergence.Outcome == "" { // what is forgotten waits for nobody, and has no heirs
			if l.goesOn(f) {
				return nil
			}
			l.nameHeirs(f)
		}
		return l.close(f)
	case !f.Confirmed:
		return l.suspect(f)
	case l.outdated(f):
		if err := l.describe(f); err != nil {
			return err
		}
		return l.state.SetFinding(f)
	}
	return nil
}

// suspect makes a suspicion a divergence once it is older than its budget and certain.
func (l *Ledger) suspect(f *finding.Finding) error {
	l.restart(f)
	if l.now.Sub(f.Divergence.FirstSeen) < l.opt.Budget(f.Divergence.Table) {
		return nil
	}
	if younger, err := l.rejuvenate(f); younger || err != nil {
		return err
	}
	if l.byReading(f) && !f.Suspected.After(f.Divergence.FirstSeen) {
		f.Suspected = l.now
		if err := l.suspectFound(f); err != nil {
			return err
		}
	}
	if certain, err := l.certain(f); !certain || err != nil {
		return err
	}
	f.Confirmed, f.Divergence.ConfirmedAt = true, l.now
	if err := l.describe(f); err != nil {
		return err
	}
	return l.announce(f)
}

// restart has the budget of a suspicion begin with the comparison: of a table that was read anew since it came up, what was
// known then need not have been so.
func (l *Ledger) restart(f *finding.Finding) {
	d := &f.Divergence
	if at := l.tables[f.Table].coverage[f.Member].ComparedAt; d.Kind != finding.Stale && at.After(d.FirstSeen) {
		d.FirstSeen = at
	}
}

// become moves a key that differs in another way than it did from its finding to the one that it belongs to now. Its budget
// goes on from when it first differed or, where people were told of that, begins anew: the divergence waits. What only a read
// was held to show, which was not made again, need not have been so.
func (l *Ledger) become(m *member, t *table, before, d *DivergentKey, why blame) error {
	l.leave(before.Finding)
	f := l.findings.Number(before.Finding)
	if f != nil && !f.Confirmed && !before.Seen.IsZero() && !l.byReading(f) {
		d.Seen = before.Seen
	}
	now := l.join(m, t, d.Kind, why, d.Seen)
	d.Finding = now.Number
	if f == nil {
		return nil
	}
	if !f.Confirmed {
		for _, f := range l.findings.Bequeath(f, now) {
			if err := l.state.SetFinding(f); err != nil {
				return err
			}
		}
		return nil
	}
	if !l.findings.Inherit(f, now) {
		return nil
	}
	return l.state.SetFinding(f)
}

// goesOn reports whether rows of a divergence that has no key left differ in another way, which people are yet to be told of:
// that the old one is over would be taken for all being well.
func (l *Ledger) goesOn(f *finding.Finding) bool {
	return f.Confirmed && slices.ContainsFunc(f.Into, func(n uint64) bool { return !l.decided(n) })
}

// nameHeirs has a divergence say in which ones its rows are that differ in another way now.
func (l *Ledger) nameHeirs(f *finding.Finding) {
	var ids []string
	for _, n := range f.Into {
		if heir := l.findings.Number(n); f.Confirmed && heir != nil && heir.Confirmed {
			ids = append(ids, heir.Divergence.ID)
		}
	}
	if len(ids) > 0 {
		f.Divergence.Outcome = finding.Superseded
		f.Divergence.Detail = "rows of it differ in another way now: " + strings.Join(ids, ", ")
	}
}

func (l *Ledger) decided(number uint64) bool {
	f := l.findings.Number(number)
	return f == nil || f.Confirmed
}

// rejuvenate reports whether all keys of a suspicion came after it began and not one is older than the budget, which goes from
// the oldest of them then. Keys that come and go, each in time, make no divergence, however many share a finding.
func (l *Ledger) rejuvenate(f *finding.Finding) (bool, error) {
	d := &f.Divergence
	if !f.Left || d.Kind == finding.Stale {
		return false, nil
	}
	oldest := l.now
	err := l.state.DivergentKeys(f.Member, f.Table, nil, nil, func(_ digest.Key, dk *DivergentKey) (bool, error) {
		if dk.Finding == f.Number && dk.Seen.Before(oldest) {
			oldest = dk.Seen
		}
		return oldest.After(d.FirstSeen), nil
	})
	f.Left = false
	if err != nil || !oldest.After(d.FirstSeen) {
		return false, err
	}
	d.FirstSeen = oldest
	return l.now.Sub(oldest) < l.opt.Budget(d.Table), nil
}

// outdated reports whether the ranges of a divergence are to be found anew: its keys have changed or, which is looked at less
// often, rows were inserted that may lie between them.
func (l *Ledger) outdated(f *finding.Finding) bool {
	d := &f.Divergence
	age, often := l.now.Sub(f.Found), f.DescribedOften()
	if f.Changed {
		return age >= often
	}
	t := l.tables[f.Table]
	return t != nil && age >= 10*often && t.insertedAt.After(f.Found) && d.Keys > int64(len(d.Ranges))
}

// certain reports whether a suspicion may become a divergence: its table is compared, and since it began both sides'
// definitions were found unchanged, so that it is not the trace of a table that left a publication or was rewritten, and the
// member has said by which lane the table comes. Both sides must have shown all that they had when the budget was over: what
// ended the difference may be in a log that is read late. Rows that no stream shows, or that are not kept, must have been read
// again since then, and none may be under suspicion.
func (l *Ledger) certain(f *finding.Finding) (bool, error) {
	c := l.tables[f.Table].coverage[f.Member]
	switch {
	case !c.Compared:
		return false, nil
	case f.Divergence.Kind == finding.Stale:
		return true, nil
	case l.unchecked(f), l.unconfirmed(f), l.unshown(f), l.comesBack(f):
		return false, nil
	}
	return l.unsuspected(f, c)
}

// byReading reports whether rows of a suspicion were held against those of the reference as they were read, and not as both logs
// say. Of a member that is only scanned they are read again anyway, and of a table of which no rows are kept.
func (l *Ledger) byReading(f *finding.Finding) bool {
	cause := f.Divergence.Cause
	return f.Divergence.Kind != finding.Stale && (cause == finding.CausePreexisting || cause == finding.CauseUnknown) &&
		!l.members[f.Member].scanOnly && !l.tables[f.Table].record.Sparse
}

// unsuspected reports whether no key of a finding is of a row that is yet to be read again, there or on the reference: what it is
// is not known.
func (l *Ledger) unsuspected(f *finding.Finding, c *coverage) (bool, error) {
	for _, k := range slices.Concat(c.Suspects, l.tables[f.Table].coverage[l.ref.id].Suspects) {
		d, err := l.state.DivergentKey(f.Member, f.Table, k)
		if err != nil || d != nil && d.Finding == f.Number {
			return false, err
		}
	}
	return true, nil
}

// comesBack reports whether what a member is held to have written itself has come to the reference since, by which it is not errant: its rows are
// what they must be once the member has all that came there before.
func (l *Ledger) comesBack(f *finding.Finding) bool {
	by := f.Divergence.IntroducedBy
	if f.Divergence.Cause != finding.CauseErrant || by == nil {
		return false
	}
	m, id := l.members[f.Member], cdc.ParseTxID(by.Transaction)
	ln, tx := m.lanes[cdc.GTIDLane], l.journal.txs[id]
	return ln != nil && tx != nil && tx.awaitedBy(ln) && m.record.Ahead.Contains(id)
}

func (l *Ledger) unshown(f *finding.Finding) bool {
	over := f.Divergence.FirstSeen.Add(l.opt.Budget(f.Divergence.Table))
	return l.ref.provenAt.Before(over) || l.members[f.Member].provenAt.Before(over)
}

func (l *Ledger) unconfirmed(f *finding.Finding) bool {
	d, t := &f.Divergence, l.tables[f.Table]
	switch {
	case t == nil:
		return false
	case l.members[f.Member].scanOnly:
		again := t.coverage[f.Member].recheckedAt
		return again.Sub(d.FirstSeen) < l.opt.Budget(d.Table) || again.Before(t.settledAt)
	}
	return l.unjudged(t, t.coverage[f.Member])
}

// unjudged reports whether keys of a sparse table are held to differ whose rows are not kept now, as after a start: what became of
// them since is not known until their ranges have been read.
func (l *Ledger) unjudged(t *table, c *coverage) bool {
	if !t.record.Sparse {
		return false
	}
	for start := range c.divergent {
		if !l.know(t, c, start) {
			return true
		}
	}
	return false
}

func (l *Ledger) unchecked(f *finding.Finding) bool { return l.undefinedSince(f) || l.unassigned(f) }

func (l *Ledger) undefinedSince(f *finding.Finding) bool {
	began := l.began(f)
	return l.ref.definedAt.Before(began) || l.members[f.Member].definedAt.Before(began)
}

// began is when a suspicion came up for which there must be answers that are newer. Rows that keep changing the way in which
// they differ begin new ones all the time: an answer from after the budget is new enough for all of them.
func (l *Ledger) began(f *finding.Finding) time.Time {
	began, over := f.Divergence.FirstSeen, f.Divergence.FirstSeen.Add(l.opt.Budget(f.Divergence.Table))
	if f.Began.After(began) {
		began = f.Began
	}
	if began.After(over) {
		return over
	}
	return began
}

// unassigned reports whether it was not asked since a suspicion began which lane brings its table to the member, all of it by
// the reference's definitions since then. Until then what another lane brings may look errant, and what the old one does not
// bring any more, passed over. Where all replication is one lane there is no other.
func (l *Ledger) unassigned(f *finding.Finding) bool {
	m, t := l.members[f.Member], l.tables[f.Table]
	if t == nil {
		return false
	}
	name, began := t.coverage[f.Member].Lane, l.began(f)
	return name != cdc.GTIDLane && name != cdc.WALLane && (m.assignedAt.Before(began) || m.assignedBy.Before(began))
}

// Suspicious reports whether there are suspicions that wait for the definitions to be read.
func (l *Ledger) Suspicious() bool {
	for _, f := range l.findings.All() {
		if !f.Confirmed && f.Divergence.Kind != finding.Stale && l.undefinedSince(f) {
			return true
		}
	}
	return false
}

// forget says that nothing is known of a finding's rows any more. That is kept with what it is forgotten with: after a start its
// rows, which are gone, would be taken for healed.
func (l *Ledger) forget(f *finding.Finding, why string) error {
	f.Forget(why)
	return l.state.SetFinding(f)
}

// close ends a finding: a divergence is resolved, a mere suspicion forgotten.
func (l *Ledger) close(f *finding.Finding) error {
	l.findings.Remove(f)
	if !f.Confirmed {
		return l.state.DeleteFinding(f.Number)
	}
	f.Resolve(l.now)
	return l.announce(f)
}

func (l *Ledger) announce(f *finding.Finding) error {
	f.Saved = true
	if err := l.state.SetFinding(f); err != nil {
		return err
	}
	l.notices = append(l.notices, Notice{f.Divergence})
	l.state.Notify()
	return nil
}

// Open yields the divergences that are open, the oldest first.
func (l *Ledger) Open() iter.Seq[*finding.Divergence] {
	return func(yield func(*finding.Divergence) bool) {
		for _, f := range l.findings.All() {
			if f.Confirmed && !yield(&f.Divergence) {
				return
			}
		}
	}
}

// Acknowledge notes with a divergence who has taken it on. One that is not open any more is left as it is.
func (l *Ledger) Acknowledge(id string, a finding.Acknowledgement) error {
	for _, f := range l.findings.All() {
		if f.Confirmed && f.Divergence.ID == id {
			f.Divergence.Acknowledged = &a
			return l.state.SetFinding(f)
		}
	}
	return nil
}

// Notices returns the news since it was last called. It is durable once the state is committed.
func (l *Ledger) Notices() []Notice {
	n := l.notices
	l.notices = nil
	return n
}

// describe finds the exact ranges of a divergence.
func (l *Ledger) describe(f *finding.Finding) error {
	d := &f.Divergence
	t := l.tables[f.Table]
	r := &finding.Ranges{
		Shape: t.record.Epoch.Shape, Limit: finding.MaxRanges,
		Neighbours: func(last, next digest.Key) (bool, error) { return l.neighbours(t, f.Member, last, next) },
	}
	var err error
	if d.Kind == finding.Stale {
		err = l.staleKeys(f, t, r)
	} else {
		err = l.state.DivergentKeys(f.Member, f.Table, nil, nil, func(k digest.Key, dk *DivergentKey) (bool, error) {
			if dk.Finding != f.Number {
				return true, nil
			}
			return r.Add(k, dk.Kind)
		})
	}
	if err != nil {
		return err
	}
	f.Describe(r, l.now)
	if l.expect(f) && f.Confirmed {
		l.state.Notify()
	}
	return nil
}

// expect finds out whether a finding's ranges are all expected ones, and reports whether that is news.
func (l *Ledger) expect(f *finding.Finding) bool {
	d, t := &f.Divergence, l.tables[f.Table]
	was := d.Expected
	d.Expected = l.opt.Expected != nil && t != nil && l.opt.Expected(d, t.record.Epoch.Shape)
	return was != d.Expected
}

// Reexpect finds out anew which findings are expected.
func (l *Ledger) Reexpect() error {
	for _, f := range l.findings.All() {
		if !l.expect(f) {
			continue
		}
		if f.Confirmed {
			l.state.Notify()
		}
		if err := l.state.SetFinding(f); err != nil {
			return err
		}
	}
	return nil
}

// neighbours reports whether neither the reference nor the member has a row between a and b.
func (l *Ledger) neighbours(t *table, on cdc.MemberID, a, b digest.Key) (bool, error) {
	if t.record.Sparse {
		if t.ranges == nil {
			return false, nil // the reference is yet to be read in this epoch
		}
		start := string(t.startOf(a))
		if start != string(t.startOf(b)) || !l.know(t, t.coverage[on], start) {
			return false, nil // it is not known
		}
	}
	after := append(slices.Clone(a), 0)
	for _, id := range []cdc.MemberID{l.ref.id, on} {
		if l.members[id].scanOnly {
			continue // a row that only it had would be one that differs
		}
		c := t.coverage[id]
		between := false
		err := l.state.Rows(c.space, after, b, func(digest.Key, []byte) (bool, error) {
			between = true
			return false, nil
		})
		if err != nil || between {
			return false, err
		}
	}
	return true, nil
}
