package align

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// What is kept of a member's rows says nothing of any other member, so it stays when another member becomes the reference. What is kept
// between members is turned around: the tables are compared anew once each member has what the new reference had by then.

// lost is a row of a member's that the new reference lacks a transaction of.
type lost struct {
	member cdc.MemberID
	table  cdc.TableID
	key    digest.Key
	why    blame
}

// turn has what was kept be held against another reference than it was, and returns the rows that were changed by transactions which the new
// one has not.
func (l *Ledger) turn(saved *Saved) (rows []lost, err error) {
	before, now := saved.Reference, l.opt.Reference
	if before == 0 || before == now {
		return nil, nil
	}
	tables := make(map[cdc.TableID]*TableRecord)
	for _, r := range saved.Tables {
		tables[r.Epoch.Table] = r
	}
	for _, f := range saved.InFlight {
		rows = append(rows, l.lostWith(f, saved, tables)...)
		if err := l.state.DeleteInFlight(f); err != nil {
			return nil, err
		}
	}
	saved.InFlight = nil
	findings := make(map[uint64]*finding.Finding)
	for _, f := range saved.Findings {
		findings[f.Number] = f
	}
	for _, r := range saved.Tables {
		differed, err := l.turnKeys(r, before, findings)
		if err != nil {
			return nil, err
		}
		rows = append(rows, differed...)
	}
	for _, f := range saved.Findings {
		if err := l.turnFinding(f, before); err != nil {
			return nil, err
		}
	}
	for i := range rows {
		if rows[i].member != before {
			rows[i].why.tell(l.opt.Members[before])
		}
	}
	position := cdc.Position{}
	if r := saved.Members[now]; r != nil {
		position = r.Position
	}
	gtids := !named(position.Shown).IsZero()
	for id, r := range saved.Members {
		r.turn(position.Shown)
		if err := l.state.SetMember(id, r); err != nil {
			return nil, err
		}
	}
	for _, r := range saved.Tables {
		r.Unjournaled, r.Forgotten = position.Shown.Clone(), position.LSN
		for _, c := range r.Members {
			if c.Compared {
				c.Compared, c.Reason = false, "compared once the member has caught up"
			}
			if gtids {
				c.Lane = cdc.GTIDLane
			}
		}
		if was, is := r.Members[before], r.Members[now]; was != nil && is != nil && was.ComparedAt.IsZero() {
			was.ComparedAt = is.ComparedAt // with one another
		}
		if err := l.state.SetTable(r); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// tell has a transaction that others than its author have, and that is named by its end in the author's log, be told of as that: it has no such name in
// their logs.
func (b *blame) tell(author string) {
	if _, err := cdc.ParseLSN(b.tx); err != nil || b.cause != finding.CauseErrant {
		return
	}
	b.detail = fmt.Sprintf("replayed from %s, in whose log it ends at %s", orElse(author, "the reference before"), b.tx)
	b.tx = ""
}

// turn forgets what of a member is in terms of the log of a reference that is none any more. It has what it has shown and the reference has
// not, if transactions have names of their own.
func (r *MemberRecord) turn(shown cdc.TxSet) {
	for name, ln := range r.Lanes {
		if name != cdc.GTIDLane {
			delete(r.Lanes, name)
			continue
		}
		*ln = LaneRecord{Said: ln.Said}
	}
	r.Ahead = named(r.Position.Shown.Without(shown))
}

// named are the transactions whose names are the same in every log.
func named(set cdc.TxSet) cdc.TxSet {
	return set.OfAuthors(func(author string) bool { return author != "" })
}

// has reports whether a member of that record has replayed, or written, a transaction of the reference before.
func (r *MemberRecord) has(f *InFlight, c *CoverageRecord, wrote bool) bool {
	switch {
	case wrote:
		return true
	case r == nil || c == nil:
		return false
	case r.Position.Shown.Contains(f.ID) && f.ID.Source != "":
		return true
	}
	ln := r.Lanes[c.Lane]
	return ln != nil && (ln.Applied.Contains(f.ID) || r.Ahead.Contains(f.ID))
}

// lostWith lists the rows that a transaction in flight has changed on members, if the new reference has not replayed it.
func (l *Ledger) lostWith(f *InFlight, saved *Saved, tables map[cdc.TableID]*TableRecord) (rows []lost) {
	for _, ch := range f.Changes {
		t := tables[ch.Table]
		if t == nil {
			continue
		}
		covered := t.Members
		if saved.Members[l.opt.Reference].has(f, covered[l.opt.Reference], false) {
			continue
		}
		for id, r := range saved.Members {
			if id != l.opt.Reference && r.has(f, covered[id], id == saved.Reference) {
				rows = append(rows, lost{id, ch.Table, ch.Key, blame{cause: finding.CauseErrant, tx: f.ID.String(), at: f.CommitTime}})
			}
		}
	}
	return rows
}

// turnKeys has the keys by which the new reference differed from the one before be those by which that one differs from it. It returns them,
// for the others differ by them too.
func (l *Ledger) turnKeys(r *TableRecord, before cdc.MemberID, findings map[uint64]*finding.Finding) (rows []lost, err error) {
	t := r.Epoch.Table
	_, stays := l.opt.Members[before]
	turned := make(map[string]DivergentKey)
	err = l.state.DivergentKeys(l.opt.Reference, t, nil, nil, func(k digest.Key, d *DivergentKey) (bool, error) {
		turned[string(k)] = *d
		return true, nil
	})
	for _, k := range slices.Sorted(maps.Keys(turned)) {
		if err != nil {
			return nil, err
		}
		err = l.state.DeleteDivergentKey(l.opt.Reference, t, digest.Key(k))
		d := turned[k]
		if err == nil && stays {
			d.Kind, d.Expected, d.Actual = d.Kind.Turned(), d.Actual, d.Expected
			err = l.state.SetDivergentKey(before, t, digest.Key(k), &d)
		}
		f := findings[d.Finding]
		if f == nil {
			continue
		}
		of := &f.Divergence
		why := blame{cause: of.Cause.Turned(), detail: of.Detail}
		if of.IntroducedBy != nil {
			why.tx, why.at = of.IntroducedBy.Transaction, of.IntroducedBy.CommittedAt
		}
		for id := range l.opt.Members {
			if id != before && id != l.opt.Reference {
				rows = append(rows, lost{id, t, digest.Key(k), why})
			}
		}
	}
	return rows, err
}

// turnFinding has a finding be about the pair of members that it is about now. Of one that is not there any more nothing is known.
func (l *Ledger) turnFinding(f *finding.Finding, before cdc.MemberID) error {
	name, stays := l.opt.Members[before]
	d := &f.Divergence
	d.Reference = l.opt.Members[l.opt.Reference]
	switch {
	case d.Kind == finding.Stale, f.Member == l.opt.Reference && !stays:
		f.Forget(fmt.Sprintf("%s is the reference now", d.Reference))
	case f.Member == l.opt.Reference:
		f.Turn(before, name)
	}
	return l.state.SetFinding(f)
}

// judgeLost holds rows that the new reference lacks a transaction of against its own, before they are compared as a whole: of these it is known
// which transaction it is.
func (l *Ledger) judgeLost(rows []lost) error {
	for _, row := range rows {
		m, t := l.members[row.member], l.tables[row.table]
		if m == nil || t == nil || t.ranges == nil {
			continue
		}
		c, reference := t.coverage[m.id], t.coverage[l.ref.id]
		if c.Phase != Live || reference.Phase != Live {
			continue
		}
		if start := string(t.startOf(row.key)); t.record.Sparse {
			c.suspicion(start, row.key, row.why)
			continue
		}
		expected, err := l.rowDigest(reference.space, row.key)
		if err != nil {
			return err
		}
		actual, err := l.rowDigest(c.space, row.key)
		if err != nil {
			return err
		}
		if err := l.judge(m, t, c, row.key, expected, actual, row.why); err != nil {
			return err
		}
	}
	return nil
}
