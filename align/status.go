package align

import (
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/status"
)

// Status returns the state of all members and tables. Without word from a member, or from the reference, for longer
// than the lag budget nothing is in step: what was true then need not be true now.
func (l *Ledger) Status(roots bool) []status.Member {
	findings := l.findings.All()
	standing := l.standing(findings)
	var list []status.Member
	for _, m := range l.sortedMembers() {
		s := status.Member{
			ID: m.id, Name: m.name, Role: "replica", Version: m.record.Server.Version, Position: m.record.Position.String(), Exact: m.record.Position.Clone(),
			ProvenAt: status.Time{Time: m.provenAt},
			Open:     make(map[finding.Kind]int), ScanOnly: m.scanOnly,
		}
		if errant := l.errantOf(m); m.compared || !errant.IsZero() {
			n := errant.Count()
			s.Errant, s.ErrantCount = errant.Ranges(), &n
		}
		for _, f := range findings {
			if f.Confirmed && f.Member == m.id {
				count(&s, &f.Divergence)
			}
		}
		if m == l.ref {
			s.Role = "reference"
		}
		s.Replicating = m != l.ref
		for _, ln := range m.lanes {
			s.Replicating = s.Replicating && ln.Enabled && ln.Problem == ""
			if len(ln.queue) > 0 {
				s.Behind = max(s.Behind, status.Seconds(l.now.Sub(ln.queue[0].Seen)))
			}
			for f := range ln.awaited {
				s.InFlight += int64(len(f.changes))
			}
		}
		for _, t := range l.sortedTables() {
			s.Tables = append(s.Tables, l.tableStatus(t, m, standing[place{m.id, t.record.Epoch.Table}], roots))
		}
		list = append(list, s)
	}
	return list
}

// place is a table on a member.
type place struct {
	member cdc.MemberID
	table  cdc.TableID
}

// standing is what the findings of a table on a member come to.
type standing struct {
	rowsDiffer, stale bool   // divergences are open: of rows, of what has not arrived
	expected          bool   // or of rows, as was expected; what has not arrived is not known, whoever expects it
	doubt             string // why rows that are held to differ, for longer than their budget, do not become a divergence
}

func (l *Ledger) standing(findings []*finding.Finding) map[place]standing {
	all := make(map[place]standing)
	for _, f := range findings {
		at, d := place{f.Member, f.Table}, &f.Divergence
		s := all[at]
		switch {
		case d.Kind == finding.Stale:
			s.stale = s.stale || f.Confirmed
		case f.Confirmed && d.Expected:
			s.expected = true
		case f.Confirmed:
			s.rowsDiffer = true
		case l.members[f.Member] != nil:
			s.doubt = orElse(s.doubt, l.undecided(f))
		}
		all[at] = s
	}
	return all
}

// recheckPatience is how long after the lag budget rows that differ on a member that is only scanned may not have been read again.
const recheckPatience = 10 * time.Second

// undecided says why a suspicion that is older than its budget is still one, or nothing.
func (l *Ledger) undecided(f *finding.Finding) string {
	d := &f.Divergence
	switch over := l.now.Sub(d.FirstSeen) - l.opt.Budget(d.Table); {
	case over > leastPatience && l.unassigned(f):
		return "rows differ, and it cannot be asked what replicates it"
	case over > leastPatience && l.unchecked(f):
		return "rows differ, and it cannot be asked whether its definition is what it was"
	case over > leastPatience && l.unconfirmed(f) && (over > recheckPatience || !l.members[f.Member].scanOnly):
		return "rows differ, and they could not be read again to confirm it"
	}
	return ""
}

func (l *Ledger) tableStatus(t *table, m *member, stands standing, roots bool) status.Table {
	c := t.coverage[m.id]
	s := status.Table{Table: t.name(), Live: c.Phase == Live, DivergentKeys: c.keys, ComparedAt: status.Time{Time: c.ComparedAt}, Ranges: make(map[status.Verdict]int64)}
	if c.tree != nil {
		s.Rows = c.tree.Total().Rows
		if roots {
			s.Root = c.tree.Root().String()
		}
	}
	s.Suspects = l.suspected(t, c)
	s.VerifiedAt, s.Silent = status.Time{Time: c.verified.oldest().At}, c.Silent
	if every := l.scrubEvery(t); every > 0 {
		s.Scrubbed = true
		s.Fresh = t.freshShare(c.verified, nil, l.now.Add(-every))
	}
	doubt := l.doubt(t, m, c, stands.doubt)
	s.Verdict, s.Reason = status.InStep, doubt
	switch {
	case stands.rowsDiffer:
		s.Verdict = status.Diverged
	case stands.stale:
		s.Verdict = status.Stale
	case doubt != "":
		s.Verdict = status.Unverified
	case stands.expected:
		s.Verdict = status.Expected
	case len(c.inFlight) > 0 || c.keys > 0:
		s.Verdict = status.Lagging
	}
	l.countRanges(t, c, &s, doubt != "", stands)
	return s
}

// leastPatience is how long a member may be silent whatever the lag budget: asking takes its time under load.
const leastPatience = 2 * time.Second

// doubt says why nothing can be said of a table on a member, or nothing if something can.
func (l *Ledger) doubt(t *table, m *member, c *coverage, suspicions string) string {
	patience := max(l.opt.Budget(t.name()), leastPatience)
	switch hold, unfit := l.hold(t, m), t.coverage[l.ref.id].problem; {
	case unfit != "" && c.problem == "": // whatever else is true of it
		return unfit
	case c.Phase == Waiting && hold != "":
		return hold
	case m.scanOnly && t.record.Sparse:
		return "its rows are only scanned, and with row_index off there are none of the reference to hold them against"
	case m.scanOnly && t.coverage[l.ref.id].Phase != Live:
		return "the reference is being read"
	case m.scanOnly && c.verified.oldest().At.IsZero():
		return "its rows have not all been read yet"
	case !m.scanOnly && c.Phase != Live:
		return orElse(c.Reason, "being read")
	case m != l.ref && !c.Compared:
		return orElse(c.Reason, orElse(l.awaits(m, m.has()), "not compared yet")) + standstill(m, m.lanes[c.Lane])
	case l.now.Sub(l.ref.provenAt) > patience:
		return unheard(l.ref, l.now)
	case l.now.Sub(m.provenAt) > patience:
		return orElse(l.awaits(m, one(m.awaits)), unheard(m, l.now))
	case l.ref.provenAt.Before(l.mistrusted):
		return unheardSince(l.ref)
	case m.provenAt.Before(l.mistrusted):
		return unheardSince(m)
	case l.undefined(m) != "":
		return l.undefined(m)
	case suspicions != "":
		return suspicions
	}
	return l.unread(t, c)
}

// undefinedPatience is how long the definitions of a member may not have been read while nothing hangs on them: two rounds and a half.
const undefinedPatience = 25 * time.Second

// undefined says why the definitions on a member or the reference are not known to be what they were, or nothing.
func (l *Ledger) undefined(m *member) string {
	for _, on := range []*member{l.ref, m} {
		if age := l.now.Sub(on.definedAt); !on.definedAt.IsZero() && age > undefinedPatience {
			return fmt.Sprintf("its definition on %s was last read %s ago", on.name, age.Round(time.Second))
		}
	}
	return ""
}

// unread says why the rows of a table on a member are not vouched for although its stream is, or nothing.
func (l *Ledger) unread(t *table, c *coverage) string {
	if l.drilling(t, c) {
		return "some of its rows differ; which ones is being read from the servers"
	}
	if l.suspected(t, c) > 0 {
		return "rows were read that are not what the log says; they are being read again"
	}
	every := l.scrubEvery(t)
	at := c.verified.oldest().At
	switch {
	case every == 0 || l.now.Sub(at) <= 2*every:
		return ""
	case at.IsZero():
		return "not all of its rows have been read again yet"
	}
	return fmt.Sprintf("some of its rows were last read %s ago; scrub.every is %s", l.now.Sub(at).Round(time.Second), every)
}

func (l *Ledger) scrubEvery(t *table) time.Duration {
	if l.opt.ScrubEvery == nil {
		return 0
	}
	return l.opt.ScrubEvery(t.name())
}

// standstill says, behind a reason that waits for a lane, why that does not move; nothing if nothing is known to keep it.
func standstill(m *member, ln *lane) string {
	if ln == nil || ln.Enabled && ln.Problem == "" {
		return ""
	}
	return "; " + ln.why(m)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func unheard(m *member, now time.Time) string {
	if m.provenAt.IsZero() {
		return fmt.Sprintf("%s has not been heard from yet", m.name)
	}
	return fmt.Sprintf("%s was last heard from %s ago", m.name, now.Sub(m.provenAt).Round(time.Second))
}

// suspected is how many rows are under suspicion, on a member or on the reference that it is held against.
func (l *Ledger) suspected(t *table, c *coverage) int {
	return len(c.Suspects) + len(t.coverage[l.ref.id].Suspects)
}

func unheardSince(m *member) string {
	return m.name + " has not been heard from since the clock of lockstep's machine was set, or the machine slept"
}

// countRanges sorts the table's ranges by what can be said of each.
func (l *Ledger) countRanges(t *table, c *coverage, s *status.Table, doubt bool, stands standing) {
	if t.ranges == nil {
		return
	}
	total := int64(t.ranges.Len())
	lagging, rest := status.Lagging, status.InStep
	if doubt {
		lagging, rest = status.Unverified, status.Unverified
	}
	if stands.stale {
		lagging = status.Stale
	}
	differing := lagging
	switch {
	case stands.rowsDiffer:
		differing = status.Diverged
	case stands.expected:
		differing = status.Worse(status.Expected, lagging)
	}
	s.Ranges[differing] += int64(len(c.divergent))
	total -= int64(len(c.divergent))
	for start := range c.inFlight {
		if _, counted := c.divergent[start]; !counted {
			s.Ranges[lagging]++
			total--
		}
	}
	s.Ranges[rest] += total
}

// RangeDigests returns the ranges of a table and their digests on a member; nil if its rows are not kept.
func (l *Ledger) RangeDigests(id cdc.TableID, on cdc.MemberID) (*merkle.Partition, []merkle.Sum) {
	t := l.tables[id]
	c := t.coverage[on]
	if c.tree == nil {
		return nil, nil
	}
	sums := make([]merkle.Sum, t.ranges.Len())
	for i := range sums {
		sums[i] = c.tree.Sum(i)
	}
	return t.ranges, sums
}

// count counts an open divergence.
func count(s *status.Member, d *finding.Divergence) {
	if d.Expected {
		s.Expected++
	} else {
		s.Open[d.Kind]++
		if s.OldestOpen.IsZero() || d.FirstSeen.Before(s.OldestOpen) {
			s.OldestOpen = d.FirstSeen
		}
	}
}
