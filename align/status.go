package align

import (
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Verdict is the state of a member's table or range, in order of badness.
type Verdict string

// The verdicts.
const (
	InStep     Verdict = "in_step"
	Lagging    Verdict = "lagging"
	Unverified Verdict = "unverified"
	StaleState Verdict = "stale"
	Diverged   Verdict = "diverged"
)

// GroupStatus is what can be said of a group at one moment.
type GroupStatus struct {
	Group     string
	Reference string
	At        time.Time
	Members   []MemberStatus
	Scans     []ScanProgress // tables that are being read now
	Duties    []duty.Runs    // of the group as a whole
}

// ScanProgress is how far the reading of one table is.
type ScanProgress struct {
	Member  string    `json:"member"`
	Table   string    `json:"table"`
	Rows    int64     `json:"rows"`
	OfRows  int64     `json:"of_rows"` // the server's estimate; -1 unknown
	Started time.Time `json:"started"`
}

// MemberStatus is what can be said of one member now.
type MemberStatus struct {
	ID       cdc.MemberID
	Name     string
	Role     string // reference or replica
	Server   cdc.Server
	Position cdc.Position
	Errant   cdc.TxSet // transactions with a GTID that it has and the reference has not
	// ProvenAt is when the member was last known to have shown everything that it has. Zero: not since the start.
	ProvenAt time.Time
	// Behind is how long ago the oldest transaction that it has not replayed was seen; zero if there is none.
	Behind   time.Duration
	InFlight int64  // row changes that it has not replayed
	Trouble  string // why it cannot be read now; empty while it can
	Applied  int64  // row changes of its stream that were applied since the start
	Scanned  int64  // rows that scrubs have read since the start
	ScanOnly bool
	// ScrubWaited is how long scrubs of the member have waited since the start, by reason, and ScrubWaits says what they wait
	// for now, empty if for nothing.
	ScrubWaited map[string]time.Duration
	ScrubWaits  string
	// Replicating says that nothing is known to keep the member from replaying.
	Replicating bool
	Open        map[finding.Kind]int // open divergences, but for expected ones
	Expected    int                  // open divergences that were expected
	Canary      *CanaryStatus        // nil: no canary is written into the member
	Duties      []duty.Runs
	Tables      []TableStatus
}

// TableStatus is what can be said of one table on one member now.
type TableStatus struct {
	Table         string
	Verdict       Verdict
	Reason        string // of Unverified
	Phase         Phase
	Rows          int64
	Ranges        map[Verdict]int64
	DivergentKeys int64
	Root          string // hash over all range digests; empty while there is none
	ComparedAt    time.Time
	// VerifiedAt is when the rows that were read from the server longest ago were; zero: not all were.
	VerifiedAt time.Time
	Fresh      float64 // share of the ranges whose rows were read within the time that a scrub has for all
	Silent     int64   // rows that were found to have been changed without a trace in the log
}

// Status returns the state of all members and tables. Without word from a member, or from the reference, for longer
// than the lag budget nothing is in step: what was true then need not be true now.
func (l *Ledger) Status(roots bool) []MemberStatus {
	findings := l.findings.All()
	standing := l.standing(findings)
	var list []MemberStatus
	for _, m := range l.sortedMembers() {
		s := MemberStatus{
			ID: m.id, Name: m.name, Role: "replica", Server: m.record.Server, Position: m.record.Position.Clone(), Errant: m.record.Ahead.Without(l.ref.shown()), ProvenAt: m.provenAt,
			Open: make(map[finding.Kind]int), ScanOnly: m.scanOnly,
		}
		for _, f := range findings {
			if f.Confirmed && f.Member == m.id {
				s.count(&f.Divergence)
			}
		}
		if m == l.ref {
			s.Role = "reference"
		}
		s.Replicating = m != l.ref
		for _, ln := range m.lanes {
			s.Replicating = s.Replicating && ln.Enabled && ln.Problem == ""
			if len(ln.queue) > 0 {
				s.Behind = max(s.Behind, l.now.Sub(ln.queue[0].Seen))
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
	rowsDiffer, stale bool // divergences are open: of rows, of what has not arrived
	// unasked says that rows are held to differ, for longer than their budget, and that it could not be asked since whether
	// the definitions are what they were: until then they do not become a divergence.
	unasked bool
}

func (l *Ledger) standing(findings []*finding.Finding) map[place]standing {
	all := make(map[place]standing)
	for _, f := range findings {
		at, d := place{f.Member, f.Table}, &f.Divergence
		s := all[at]
		switch {
		case d.Kind == finding.Stale:
			s.stale = s.stale || f.Confirmed
		case f.Confirmed:
			s.rowsDiffer = true
		case l.members[f.Member] != nil && l.unchecked(f) && l.now.Sub(d.FirstSeen) > l.opt.Budget(d.Table)+leastPatience:
			s.unasked = true
		}
		all[at] = s
	}
	return all
}

func (l *Ledger) tableStatus(t *table, m *member, stands standing, roots bool) TableStatus {
	c := t.coverage[m.id]
	s := TableStatus{Table: t.name(), Phase: c.Phase, DivergentKeys: c.keys, ComparedAt: c.ComparedAt, Ranges: make(map[Verdict]int64)}
	if c.tree != nil {
		s.Rows = c.tree.Total().Rows
		if roots {
			s.Root = c.tree.Root().String()
		}
	}
	s.VerifiedAt, s.Silent = c.verified.oldest().At, c.Silent
	if every := l.scrubEvery(t); every > 0 {
		s.Fresh = t.freshShare(c.verified, nil, l.now.Add(-every))
	}
	doubt := l.doubt(t, m, c, stands.unasked)
	s.Verdict = InStep
	switch {
	case stands.rowsDiffer:
		s.Verdict = Diverged
	case stands.stale:
		s.Verdict = StaleState
	case doubt != "":
		s.Verdict, s.Reason = Unverified, doubt
	case len(c.inFlight) > 0 || c.keys > 0:
		s.Verdict = Lagging
	}
	l.countRanges(t, c, &s, doubt != "", stands.rowsDiffer, stands.stale)
	return s
}

// leastPatience is how long a member may be silent whatever the lag budget: asking takes its time under load.
const leastPatience = 2 * time.Second

// doubt says why nothing can be said of a table on a member, or nothing if something can.
func (l *Ledger) doubt(t *table, m *member, c *coverage, unasked bool) string {
	patience := max(l.opt.Budget(t.name()), leastPatience)
	switch hold := l.hold(t, m); {
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
		return orElse(c.Reason, "not compared yet")
	case l.now.Sub(l.ref.provenAt) > patience:
		return unheard(l.ref, l.now)
	case l.now.Sub(m.provenAt) > patience:
		return unheard(m, l.now)
	case l.undefined(m) != "":
		return l.undefined(m)
	case unasked:
		return "rows differ, and it cannot be asked whether its definition is what it was"
	}
	return l.unread(t, c)
}

// undefinedPatience is how long the definitions of a member may not have been read while nothing hangs on them.
const undefinedPatience = time.Minute

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
	if n := len(c.Suspects) + len(t.coverage[l.ref.id].Suspects); n > 0 {
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

// countRanges sorts the table's ranges by what can be said of each.
func (l *Ledger) countRanges(t *table, c *coverage, s *TableStatus, doubt, rowsDiffer, isStale bool) {
	if t.ranges == nil {
		return
	}
	total := int64(t.ranges.Len())
	var lagging Verdict
	switch {
	case isStale:
		lagging = StaleState
	case doubt:
		lagging = Unverified
	default:
		lagging = Lagging
	}
	rest := InStep
	if doubt {
		rest = Unverified
	}
	for range c.divergent {
		if rowsDiffer {
			s.Ranges[Diverged]++
		} else {
			s.Ranges[lagging]++
		}
		total--
	}
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

// CanaryStatus is how it goes with rows that lockstep writes into a member to see how fast they are found.
type CanaryStatus struct {
	Every                 time.Duration
	Found, Missed, Failed int64 // since the start; failed: could not be written
	Last                  time.Duration
	LastFound             time.Time // zero: none was yet
}

func (s *MemberStatus) count(d *finding.Divergence) {
	if d.Expected {
		s.Expected++
	} else {
		s.Open[d.Kind]++
	}
}
