package align

import (
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// The reference may be a replica itself, on MySQL and MariaDB. Then others may have what it has yet to replay: that is waited for. And
// what it wrote itself comes to nobody who does not replicate from it: that is not waited for.

// IsReplica reports whether the reference replicates from servers with GTIDs itself.
func (l *Ledger) IsReplica() bool { return len(l.follower.Follows) > 0 }

// findUpstream works out from whom each member replicates. What is in flight to one that does not get it any more is judged; one that
// gets from now on what it did not get before is behind by that.
func (l *Ledger) findUpstream() error {
	members := l.sortedMembers()
	var all []cdc.Progress
	for _, m := range members {
		all = append(all, m.progress)
	}
	all = cdc.Promoted(all, l.ref.progress.Self)
	for i, m := range members {
		m.upstream = cdc.UpstreamOf(all[i], all)
		if m == l.ref {
			l.follower = all[i]
		}
	}
	l.journal.partial = l.IsReplica()
	for id := range l.ref.record.Position.Last.Ends { // that were shown before it was known
		l.lead(id)
	}
	for _, m := range members {
		ln := m.lanes[cdc.GTIDLane]
		if ln == nil || m.progress.Self == "" {
			continue
		}
		if err := l.findUnbrought(m, ln); err != nil {
			return err
		}
		if err := l.findOvertaken(m, ln); err != nil {
			return err
		}
	}
	return nil
}

// findOvertaken has a member read anew from which the reference has come to replicate, and which has what the reference has yet to replay:
// until then that was the member's own, and its rows were held against the reference's as they are. Since then it waits to be applied.
func (l *Ledger) findOvertaken(m *member, ln *lane) error {
	reason := l.awaits(m, m.has())
	if m == l.ref || m.scanOnly || reason == "" {
		return nil
	}
	for _, t := range l.sortedTables() {
		if c := t.coverage[m.id]; c.Lane == ln.Name && c.Compared {
			l.unjournaled(t)
			if err := l.unverify(t, m, reason); err != nil {
				return err
			}
		}
	}
	return nil
}

// findUnbrought notes what of the reference's transactions does not come to a member.
func (l *Ledger) findUnbrought(m *member, ln *lane) error {
	brought := func(author string) bool { return l.brings(m, author) }
	comes := ln.record.Unbrought.Without(ln.record.Applied).OfAuthors(brought)
	var never cdc.TxSet
	if l.IsReplica() {
		never = l.ref.shown().Without(ln.record.Applied).OfAuthors(func(author string) bool { return !brought(author) })
		var passed []*inFlight
		for f := range ln.awaited {
			if never.Contains(f.ID) {
				passed = append(passed, f)
			}
		}
		if err := l.passOver(m, ln, passed); err != nil {
			return err
		}
	}
	if !never.Equal(ln.record.Unbrought) {
		ln.record.Unbrought, m.dirty = never, true
	}
	if comes.IsZero() {
		return nil
	}
	return l.lose(m, ln, fmt.Sprintf("it replicates from other servers than before, which have %v", comes))
}

// passedBy returns what of the reference's transactions a server of MariaDB's has gone through, by the position of its replication,
// beyond those that the position names: who replicates from the reference and has the last one of a domain there has all others
// before it, or has passed them over.
func (l *Ledger) passedBy(m *member, position cdc.TxSet) cdc.TxSet {
	last := l.ref.record.Position.Last
	if position.IsZero() || last.IsZero() || !m.upstream.Follows(l.ref.progress.Self) {
		return cdc.TxSet{}
	}
	return l.ref.shown().OfDomains(func(domain string) bool {
		of := func(d string) bool { return d == domain }
		there := last.OfDomains(of)
		return !there.IsZero() && position.OfDomains(of).Equal(there)
	})
}

// brings reports whether replication may bring to a member what a server wrote and the reference has.
func (l *Ledger) brings(m *member, author string) bool {
	return m.upstream.Reaches(m.progress, l.follower, author, m.said)
}

// owes is brings for what a member must have to have all of the reference's: a replica of MariaDB's that was made from a backup never names
// servers that wrote long before.
func (l *Ledger) owes(m *member, author string) bool {
	named := author == l.follower.Self || m.upstream.Follows(author) || !m.said.WrittenBy(author).IsZero()
	return named && l.brings(m, author)
}

// Coming reports whether the reference may have yet to replay some of what a member has.
func (l *Ledger) Coming(has cdc.TxSet) bool { return !l.coming(has).IsZero() }

// coming returns which of a member's transactions with a GTID the reference may replay yet. What it passes over it has said to have.
func (l *Ledger) coming(has cdc.TxSet) cdc.TxSet {
	if !l.IsReplica() {
		return cdc.TxSet{}
	}
	return l.ref.upstream.Coming(has, l.ref.shown()).Without(l.ref.said)
}

// foreign returns which of a member's transactions with a GTID are not the reference's and will not be.
func (l *Ledger) foreign(set cdc.TxSet) cdc.TxSet {
	return set.Without(l.ref.shown()).Without(l.coming(set))
}

// Mark returns what a member must have replayed to have all that the reference has shown so far.
func (l *Ledger) Mark() cdc.TxSet {
	at := l.ref.record.Position
	if l.IsReplica() {
		return at.Shown.Clone() // its last transaction may be one that does not come to all members
	}
	return at.Tip().Clone()
}

// covers reports whether a lane has replayed all of a mark that comes to the member.
func (l *Ledger) covers(m *member, ln *lane, mark cdc.TxSet) bool {
	if ln.Name == cdc.GTIDLane && l.IsReplica() {
		mark = mark.OfAuthors(func(author string) bool { return l.owes(m, author) })
	}
	return ln.record.Applied.Covers(mark)
}

// awaits says that the reference may have yet to replay some of what a member has; nothing if it has not.
func (l *Ledger) awaits(m *member, has cdc.TxSet) string {
	coming := l.coming(has)
	if coming.IsZero() {
		return ""
	}
	text := fmt.Sprintf("%s, the reference, is a replica itself, and has yet to replay %v, which %s has", l.ref.name, coming, m.name)
	for _, ln := range l.ref.progress.Lanes {
		if ln.Name == cdc.GTIDLane {
			text += standstill(l.ref, &lane{Lane: ln})
		}
	}
	return text
}
