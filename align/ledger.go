// Package align holds the change streams of a group's members against each other and decides what differs.
//
// Members are compared at the same transaction, which every stream names. For each range of keys of a table, at every
// moment and whatever a member's lag,
//
//	residual = digest(reference) - in flight - digest(member) = 0
//
// where in flight is the sum of after - before over the row changes that the reference has written and the member has not
// replayed. For each single row, what a member must have is the before-image of the first change of it in flight, or if
// there is none the reference's row. A [Ledger] judges rows as transactions arrive and keeps the residual explained by the
// keys that it knows to differ; a residual that they do not explain is walked down to its rows.
//
// The package is pure: it takes events and the time, writes to a [State], and has no clock and no goroutine of its own.
// TestAnyHistoryEndsWithTheDigestsOfItsRowsAndExactKeys holds it against a plain oracle under any order of events.
package align

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Options say what a Ledger is about.
type Options struct {
	Group     string
	Members   map[cdc.MemberID]string // names
	Reference cdc.MemberID
	Budget    func(table string) time.Duration
	Hasher    *digest.Hasher
	// NewID makes the id of a new divergence; ids sort by time.
	NewID func(time.Time) string
	// ScanOnly are the members that show no stream.
	ScanOnly map[cdc.MemberID]bool
	// ScrubEvery is how often all rows of a table are to be read again; 0: never. Rows that were not for twice as long
	// are not vouched for. nil: never.
	ScrubEvery func(table string) time.Duration
	// Sparse reports whether a table's rows are not to be kept. nil: all are.
	Sparse func(table string) bool
	// Expected reports whether a divergence of a table of that shape is one that nobody is to be alerted of. nil: none is.
	Expected func(d *finding.Divergence, s digest.Shape) bool
	// RangeRows is the number of rows a range aims at; 0 means 1,000.
	RangeRows int64
	// MaxInFlight bounds the row changes that are kept because a lane has not replayed them; 0 means 1,000,000.
	MaxInFlight int
	// Now is when the ledger is loaded. What is kept with a later time was kept by a clock that was ahead.
	Now time.Time
}

// Phase says how far lockstep has got with reading a table on a member. The zero Phase is the cautious one.
type Phase uint8

// The phases.
const (
	Waiting   Phase = iota // for a scan, or for what Reason says
	Scanning               // rows are being read; changes pile up
	Replaying              // changes that piled up are being applied
	Live                   // rows follow the stream
)

// Ledger holds one group's members against each other. It is a state machine: it has no clock, does no I/O but through
// its State, and is owned by one goroutine.
type Ledger struct {
	opt   Options
	state State
	now   time.Time // of the event that is being applied
	// What members said of themselves before mistrusted counts for nothing.
	mistrusted time.Time

	members map[cdc.MemberID]*member
	tables  map[cdc.TableID]*table
	ref     *member
	// follower is what the reference last said of itself, without what it followed before it was promoted.
	follower cdc.Progress
	leader   map[string]string   // of MariaDB's domains: whose transactions on the reference are waited for, once others' are not
	refused  map[string]cdc.TxID // by domain: the last transaction on the reference that did not make its author the leader
	journal  journal

	// generations are the last ones of tables that were dropped: a scan of before may still run.
	generations map[cdc.TableID]uint32

	findings *finding.Book
	staleAt  time.Time // when lateness was last looked at
	asked    time.Time // when a scrub was last asked for

	touched map[touchedRange]struct{} // ranges whose digests changed since the last Flush
	drills  map[touchedRange]struct{} // ranges of sparse tables whose rows are wanted
	scratch []byte
	notices []Notice
}

// member is one server's stream as far as it was applied.
type member struct {
	id     cdc.MemberID
	name   string
	record *MemberRecord
	dirty  bool
	// scanOnly says that the member shows no stream.
	scanOnly bool
	lanes    map[string]*lane
	// provenAt is when the member was last known to have shown everything that it has: the time of the last Progress
	// whose barrier its stream has passed.
	provenAt time.Time
	// said are the transactions with a GTID that it last said to have, at saidAt, and errant those that the reference has not, once compared.
	said, errant cdc.TxSet
	saidAt       time.Time
	compared     bool
	// progress is what it last said of itself, and upstream from whom it replicates by what all have said. awaits is, of the
	// transactions with a GTID that it has shown, the first that cannot be applied before the reference, a replica itself, has
	// replayed it; zero: there is none.
	progress cdc.Progress
	upstream cdc.Upstream
	awaits   cdc.TxID
	// definedAt is when its table definitions were last found to be the ones that the ledger knows.
	definedAt time.Time
	// assignedAt is when it last said which lanes it has and which tables they bring, and assignedBy when the reference's
	// definitions had been read by which it was judged whether they bring all of a table.
	assignedAt, assignedBy time.Time
}

// lane is one ordered way by which the reference's transactions reach a member.
type lane struct {
	cdc.Lane
	record *LaneRecord
	// known is set once Progress has told how far the lane is; before, a transaction that the stream does not show
	// may have been replayed earlier.
	known bool
	// early is what the lane was last said to have replayed and the reference had not shown. Some of it may have been
	// applied when nothing was known of the lane yet.
	early cdc.TxSet
	// queue holds the transactions that touch the lane's tables and were not replayed, ascending. One that was replayed
	// before others that are ahead of it stays until it is at the head.
	queue []*inFlight
}

// table is one table of the group.
type table struct {
	record   *TableRecord
	dirty    bool
	ranges   *merkle.Partition // nil until the reference was scanned in this epoch
	coverage map[cdc.MemberID]*coverage
	// insertedAt is when a row was last inserted on any member: it may lie between keys that were neighbours.
	insertedAt time.Time
	// settledAt is when rows under suspicion were last read again.
	settledAt time.Time
}

// coverage is one table on one member.
type coverage struct {
	*CoverageRecord
	space Space
	tree  *merkle.Tree
	// problem is what keeps the member's table from being watched, found in its definition; empty if nothing does.
	problem string
	// frozen is set while the running scan sums up by the ranges as they are.
	frozen bool
	// Of the difference between the reference's ranges and this member's, by start of the range: what is in flight,
	// what is known to differ, and what is so of rows that were changed on the reference by what does not come to the member, after
	// what has yet to: they are judged once it has. What is left must be zero.
	inFlight  map[string]share
	divergent map[string]share
	apart     map[string]share
	keys      int64 // that differ
	watches   []*Watch
	// Of a sparse table: the ranges, by start, whose rows are kept, and who is to blame for rows of ranges that cannot be
	// judged yet, by start and key.
	drilled  map[string]struct{}
	blames   map[string]map[string]blame
	verified verifiedSpans
	// recheckedAt is when the rows were last read that are held to differ, on a member that is only scanned.
	recheckedAt time.Time
	liveAt      time.Time // when its rows began to follow the stream; zero: before the ledger was loaded
	redefinedAt time.Time // when its definition was last found to be another one, which may be of another table of the same name
	// paused is set while nobody goes on with the scan that Scan tells of, and whole if the next scan must be of one view.
	paused, whole bool
}

// share is a part of a range's residual, and the number of row changes or keys that make it up.
type share struct {
	sum  merkle.Sum
	keys int64
}

type touchedRange struct {
	table cdc.TableID
	start string
}

// Load returns the ledger as it was when saved was written. A scan that was running goes on if it reads parts, or else
// begins anew.
func Load(opt Options, state State, saved Saved) (*Ledger, error) {
	if opt.RangeRows == 0 {
		opt.RangeRows = 1000
	}
	if opt.MaxInFlight == 0 {
		opt.MaxInFlight = 1_000_000
	}
	l := &Ledger{
		opt: opt, state: state, now: opt.Now,
		members:  make(map[cdc.MemberID]*member),
		tables:   make(map[cdc.TableID]*table),
		journal:  newJournal(),
		findings: finding.NewBook(),
		leader:   make(map[string]string),
		refused:  make(map[string]cdc.TxID),
		touched:  make(map[touchedRange]struct{}),
		drills:   make(map[touchedRange]struct{}),

		generations: make(map[cdc.TableID]uint32),
	}
	rows, err := l.turn(&saved)
	if err == nil {
		err = l.forgetOthers(saved)
	}
	if err != nil {
		return nil, fmt.Errorf("load ledger: %w", err)
	}
	for id, name := range opt.Members {
		l.members[id] = newMember(id, name, saved.Members[id])
		l.members[id].scanOnly = opt.ScanOnly[id]
	}
	if l.ref = l.members[opt.Reference]; l.ref == nil {
		return nil, fmt.Errorf("load ledger: the reference, member %d, is not among the members", opt.Reference)
	}
	for _, r := range saved.Tables {
		if err := l.loadTable(r, saved); err != nil {
			return nil, fmt.Errorf("load ledger: table %s: %w", r.Epoch.Shape.Table, err)
		}
	}
	var switched []*member
	for _, m := range l.sortedMembers() {
		if l.switched(m) {
			m.record.ScanOnly, m.dirty = m.scanOnly, true
			switched = append(switched, m)
		}
	}
	for _, f := range saved.InFlight {
		f.Seen = l.notAhead(f.Seen)
		if err := l.loadInFlight(f); err != nil {
			return nil, fmt.Errorf("load ledger: %w", err)
		}
	}
	l.journal.loaded()
	for _, f := range saved.Findings {
		if err := l.loadFinding(f); err != nil {
			return nil, fmt.Errorf("load ledger: %w", err)
		}
	}
	if err := l.loadDivergentKeys(); err != nil {
		return nil, fmt.Errorf("load ledger: %w", err)
	}
	for _, m := range switched {
		for _, t := range l.sortedTables() {
			if err := l.forgetSuspicions(t, m); err != nil {
				return nil, fmt.Errorf("load ledger: %w", err)
			}
		}
	}
	for _, t := range l.sortedTables() {
		l.loadDrills(t)
	}
	if err := l.judgeLost(rows); err != nil {
		return nil, fmt.Errorf("load ledger: %w", err)
	}
	return l, nil
}

func (l *Ledger) loadFinding(f *finding.Finding) error {
	l.findings.Keep(f)
	f.Began, f.Divergence.FirstSeen = l.notAhead(f.Began), l.notAhead(f.Divergence.FirstSeen)
	f.Changed = true // rows may have come between its keys
	if f.Divergence.Kind == finding.Stale && f.Divergence.Outcome == "" {
		f.Live = 1 // until the member is heard from
	}
	switch {
	case l.members[f.Member] == nil:
		return l.forget(f, unwatchedMember)
	case l.tables[f.Table] == nil: // the last end came between what was kept of the table and what was told
		return l.forget(f, "the table is not watched any more")
	case l.expect(f):
		return l.state.SetFinding(f)
	}
	return nil
}

// notAhead is a time that was kept, or now if that was by a clock that was ahead: waiting until it is over would take as long.
func (l *Ledger) notAhead(kept time.Time) time.Time {
	if now := l.opt.Now; !now.IsZero() && kept.After(now) {
		return now
	}
	return kept
}

// forgetOthers forgets what is kept of members that are not watched any more: what they do meanwhile is not known, so nothing
// of it holds when they come back.
func (l *Ledger) forgetOthers(saved Saved) error {
	for _, id := range slices.Sorted(maps.Keys(saved.Members)) {
		if _, watched := l.opt.Members[id]; watched {
			continue
		}
		if err := l.state.DropMember(id); err != nil {
			return err
		}
		delete(saved.Members, id)
	}
	return nil
}

// switched reports whether a member that shows its stream was only scanned before, or the other way round: then what is kept
// of its rows is not what is to be kept.
func (l *Ledger) switched(m *member) bool { return m.record.ScanOnly != l.opt.ScanOnly[m.id] }

func newMember(id cdc.MemberID, name string, r *MemberRecord) *member {
	if r == nil {
		r = &MemberRecord{}
	}
	if r.Lanes == nil {
		r.Lanes = make(map[string]*LaneRecord)
	}
	m := &member{id: id, name: name, record: r, lanes: make(map[string]*lane)}
	for name, lr := range r.Lanes {
		m.lanes[name] = &lane{Lane: cdc.Lane{Name: name}, record: lr}
	}
	return m
}

func (l *Ledger) loadTable(r *TableRecord, saved Saved) error {
	t := &table{record: r, coverage: make(map[cdc.MemberID]*coverage)}
	l.tables[r.Epoch.Table] = t
	boundaries, err := saved.Boundaries(r.Epoch.Table)
	if err != nil {
		return err
	}
	for id := range r.Members {
		if l.members[id] == nil { // see forgetOthers
			delete(r.Members, id)
			delete(r.Versions, id)
			t.dirty = true
		}
	}
	for id := range l.members {
		l.cover(t, id)
	}
	if err := l.setSparse(t); err != nil {
		return err
	}
	// One range has no boundary, so a live table tells as well that there are ranges.
	for _, c := range t.coverage {
		if c.tells() || len(boundaries) > 0 {
			t.ranges = merkle.NewPartition(boundaries)
			break
		}
	}
	for id, c := range t.coverage {
		if c.verified, err = l.loadVerified(saved, id, c.space.Table); err != nil {
			return err
		}
		c.ComparedAt = l.notAhead(c.ComparedAt)
		switch {
		case l.switched(l.members[id]):
			c.Compared, c.Reason = false, watchedOtherwise
			err = l.wait(t, c, c.Reason)
		case c.tells():
			err = l.loadTree(t, c, saved)
		case c.Phase == Scanning && c.Scan.Through != nil:
			c.paused, c.Scan.Began = true, l.notAhead(c.Scan.Began)
		default:
			c.Phase, c.Compared, c.Scan, c.Suspects = Waiting, false, nil, nil
			c.redefinedAt = l.now // it may have been, before the end
			err = l.state.DropSpace(c.space)
		}
		if err == nil && c.Phase == Live && r.Sparse {
			err = l.sparsen(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setSparse takes up whether a table's rows are kept. It has the table read anew if they are to be from now on, or are not any
// more while some are under suspicion: without them it cannot be said what is wrong.
func (l *Ledger) setSparse(t *table) error {
	sparse := l.opt.Sparse != nil && l.opt.Sparse(t.name())
	if sparse == t.record.Sparse {
		return nil
	}
	t.record.Sparse, t.dirty = sparse, true
	reason := "row_index was switched on: its rows are read anew"
	if sparse {
		if !t.suspected() {
			return nil
		}
		reason = "row_index was switched off while rows were under suspicion: its rows are read anew"
	}
	for _, c := range t.coverage {
		if c.Phase != Live {
			continue
		}
		c.Compared, c.Reason = false, reason
		c.clearInFlight()
		if err := l.wait(t, c, c.Reason); err != nil {
			return err
		}
	}
	l.forgetInFlight(t)
	return nil
}

// suspected reports whether rows of a table are under suspicion on any member.
func (t *table) suspected() bool {
	for _, c := range t.coverage {
		if len(c.Suspects) > 0 {
			return true
		}
	}
	return false
}

// tells reports whether the table's ranges are known on the member.
func (c *coverage) tells() bool { return c.Phase == Live || c.Phase == Replaying && c.Scan != nil }

func (l *Ledger) loadTree(t *table, c *coverage, saved Saved) error {
	sums := make([]merkle.Sum, t.ranges.Len())
	for i := range sums {
		var err error
		if sums[i], err = saved.Sum(c.space, t.ranges.Start(i)); err != nil {
			return err
		}
	}
	c.tree = merkle.NewTree(t.ranges, sums)
	return nil
}

// cover makes sure that the table has a record for the member.
func (l *Ledger) cover(t *table, id cdc.MemberID) *coverage {
	if c := t.coverage[id]; c != nil {
		return c
	}
	r := t.record.Members[id]
	if r == nil {
		r = &CoverageRecord{Reason: "not read yet", Generation: l.generations[t.record.Epoch.Table]}
		t.record.Members[id] = r
	}
	c := &coverage{
		CoverageRecord: r,
		space:          Space{Member: id, Table: t.record.Epoch.Table, Generation: r.Generation},
		inFlight:       make(map[string]share),
		divergent:      make(map[string]share),
		apart:          make(map[string]share),
		verified:       neverVerified(),
	}
	t.coverage[id] = c
	return c
}

func (l *Ledger) loadInFlight(f *InFlight) error {
	f.Changes = slices.DeleteFunc(f.Changes, func(c RowChange) bool {
		t := l.tables[c.Table]
		return t == nil || t.coverage[l.ref.id].Phase != Live || f.End <= t.record.Forgotten
	})
	tx := l.journal.add(f)
	for _, m := range l.members {
		if m == l.ref {
			continue
		}
		for _, ln := range m.lanes {
			if (!ln.record.Applied.Contains(f.ID) || m.record.Ahead.Contains(f.ID)) && l.carries(m, ln, tx) {
				l.enqueue(m, ln, tx)
			}
		}
	}
	return l.release(tx)
}

func (l *Ledger) loadDivergentKeys() error {
	for _, t := range l.tables {
		for id, c := range t.coverage {
			if id == l.ref.id {
				continue
			}
			err := l.state.DivergentKeys(id, c.space.Table, nil, nil, func(k digest.Key, d *DivergentKey) (bool, error) {
				c.keys++
				if t.ranges != nil {
					c.addDivergent(t.startOf(k), d.share())
				}
				if f := l.findings.Number(d.Finding); f != nil {
					f.Live++
				}
				return true, nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// At tells the ledger the time; what follows happens then.
func (l *Ledger) At(now time.Time) { l.now = now }

// Mistrust has what members said of themselves up to now count for nothing, until they say it anew: nobody knows how long ago
// it was.
func (l *Ledger) Mistrust() { l.mistrusted = l.now }

// Position returns how far a member's stream was applied.
func (l *Ledger) Position(id cdc.MemberID) cdc.LSN { return l.members[id].record.Position.LSN }

// Start returns where a member's stream is to go on. The result shares nothing with the ledger.
func (l *Ledger) Start(id cdc.MemberID) cdc.Position { return l.members[id].record.Position.Clone() }

// Server returns who the member was when its stream was last opened.
func (l *Ledger) Server(id cdc.MemberID) cdc.Server { return l.members[id].record.Server }

// Reference returns the member that the others are held against.
func (l *Ledger) Reference() cdc.MemberID { return l.ref.id }

// sortedTables returns the tables in the order of their numbers, for effects that must not depend on chance.
func (l *Ledger) sortedTables() []*table {
	ids := slices.Sorted(maps.Keys(l.tables))
	tables := make([]*table, len(ids))
	for i, id := range ids {
		tables[i] = l.tables[id]
	}
	return tables
}

func (l *Ledger) sortedMembers() []*member {
	ids := slices.Sorted(maps.Keys(l.members))
	members := make([]*member, len(ids))
	for i, id := range ids {
		members[i] = l.members[id]
	}
	return members
}

func (t *table) startOf(k digest.Key) digest.Key { return t.ranges.Start(t.ranges.Find(k)) }

func (t *table) name() string { return t.record.Epoch.Shape.Table }
