package align

import (
	"cmp"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Finding gathers the keys of one table on one member that came to differ in the same way by the same transaction. It
// is only suspected until it is older than the lag budget; then it is a Divergence that people are told of.
type Finding struct {
	Number     uint64      `json:"number"`
	Member     MemberID    `json:"member_id"`
	Table      cdc.TableID `json:"table_id"`
	Confirmed  bool        `json:"confirmed"`
	Divergence Divergence  `json:"divergence"`
	// Peak is what the divergence held when it was largest; it is what remains of a resolved one.
	PeakRanges []Range `json:"peak_ranges,omitempty"`
	PeakKeys   int64   `json:"peak_keys,omitempty"`

	live    int64     // keys that differ now
	late    int64     // of a stale one: row changes that are overdue
	saved   bool      // there is a record of it
	changed bool      // since the record was last written
	written time.Time // when the ranges were last found
}

// Notice is news for people: a divergence was opened or resolved.
type Notice struct {
	Divergence Divergence
}

// findingKey is what the keys of one finding have in common.
type findingKey struct {
	member MemberID
	table  cdc.TableID
	kind   Kind
	cause  Cause
	tx     string
}

// maxFindings bounds the findings of one cause on one table of a member. An application that keeps writing to a replica
// would otherwise open a divergence for each of its transactions; from here on they share one.
const maxFindings = 100

func (f *Finding) key() findingKey {
	k := findingKey{member: f.Member, table: f.Table, kind: f.Divergence.Kind, cause: f.Divergence.Cause}
	if f.Divergence.IntroducedBy != nil && f.Divergence.Kind != Stale {
		k.tx = f.Divergence.IntroducedBy.Transaction
	}
	if f.Divergence.Detail == andLater {
		k.tx = andLater
	}
	return k
}

const andLater = "and by later transactions"

// join counts a key to the finding that it belongs to and returns its number.
func (l *Ledger) join(m *member, t *table, kind Kind, why blame) uint64 {
	f := l.finding(m, t, kind, why)
	f.live++
	f.changed = true
	return f.Number
}

func (l *Ledger) finding(m *member, t *table, kind Kind, why blame) *Finding {
	k := findingKey{m.id, t.record.Epoch.Table, kind, why.cause, why.tx}
	if f := l.findings[k]; f != nil {
		return f
	}
	if why.tx != "" && l.alike[k.alike()] >= maxFindings {
		k.tx, why.detail = andLater, andLater
		if f := l.findings[k]; f != nil {
			return f
		}
	}
	l.lastNum++
	f := &Finding{Number: l.lastNum, Member: m.id, Table: k.table, Divergence: Divergence{
		ID:        l.opt.NewID(l.now),
		Group:     l.opt.Group,
		Table:     t.name(),
		Member:    m.name,
		Reference: l.ref.name,
		State:     Open,
		Kind:      kind,
		Cause:     why.cause,
		Detail:    why.detail,
		FirstSeen: l.now,
		Positions: map[string]string{m.name: m.record.Position.String(), l.ref.name: l.ref.record.Position.String()},
		LagBudget: l.opt.Budget(t.name()).String(),
	}}
	if why.tx != "" {
		f.Divergence.IntroducedBy = &Introduced{Transaction: why.tx, CommittedAt: why.at.UTC()}
	}
	f.changed = true
	l.list(k, f)
	return f
}

func (l *Ledger) list(k findingKey, f *Finding) {
	l.findings[k], l.byNumber[f.Number] = f, f
	l.alike[k.alike()]++
}

// alike is the key with what findings of one cause on one table of a member have in common.
func (k findingKey) alike() findingKey {
	return findingKey{member: k.member, table: k.table, cause: k.cause}
}

func (l *Ledger) keepFinding(f *Finding) {
	f.saved = true
	if f.Divergence.Kind == Stale {
		f.live = 1 // until the member is heard from
	}
	l.lastNum = max(l.lastNum, f.Number)
	l.list(f.key(), f)
}

// leave takes a key off its finding.
func (l *Ledger) leave(number uint64) {
	if f := l.byNumber[number]; f != nil {
		f.live--
		f.changed = true
	}
}

// rangesEvery is how often the ranges of a divergence that keeps changing are found anew: each second, and less often
// the more there are, since every range costs two looks into the store.
func rangesEvery(d *Divergence) time.Duration {
	return time.Second + time.Duration(len(d.Ranges))*10*time.Millisecond
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
	for _, f := range l.sortedFindings() {
		if err := l.step(f); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) sortedFindings() []*Finding {
	list := make([]*Finding, 0, len(l.byNumber))
	for _, f := range l.byNumber {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *Finding) int { return cmp.Compare(a.Number, b.Number) })
	return list
}

// step moves one finding along its life: suspected, confirmed, resolved.
func (l *Ledger) step(f *Finding) error {
	switch {
	case f.live == 0:
		return l.close(f)
	case !f.Confirmed && l.now.Sub(f.Divergence.FirstSeen) >= l.opt.Budget(f.Divergence.Table) && l.certain(f):
		f.Confirmed, f.Divergence.ConfirmedAt = true, l.now
		if err := l.describe(f); err != nil {
			return err
		}
		return l.announce(f)
	case f.Confirmed && f.changed && l.now.Sub(f.written) >= rangesEvery(&f.Divergence):
		if err := l.describe(f); err != nil {
			return err
		}
		return l.state.SetFinding(f)
	}
	return nil
}

// certain reports whether a suspicion may become a divergence: its table is compared, and since it was seen both sides'
// definitions were found unchanged, so that it is not the trace of a table that left a publication or was rewritten.
func (l *Ledger) certain(f *Finding) bool {
	return l.tables[f.Table].coverage[f.Member].Compared && (f.Divergence.Kind == Stale || !l.unchecked(f))
}

func (l *Ledger) unchecked(f *Finding) bool {
	seen := f.Divergence.FirstSeen
	return l.ref.definedAt.Before(seen) || l.members[f.Member].definedAt.Before(seen)
}

// Suspicious reports whether there are suspicions that wait for the definitions to be read.
func (l *Ledger) Suspicious() bool {
	for _, f := range l.byNumber {
		if !f.Confirmed && f.Divergence.Kind != Stale && l.unchecked(f) {
			return true
		}
	}
	return false
}

// close ends a finding: a divergence is resolved, a mere suspicion forgotten.
func (l *Ledger) close(f *Finding) error {
	k := f.key()
	delete(l.findings, k)
	delete(l.byNumber, f.Number)
	if l.alike[k.alike()]--; l.alike[k.alike()] == 0 {
		delete(l.alike, k.alike())
	}
	if !f.Confirmed {
		return l.state.DeleteFinding(f.Number)
	}
	d := &f.Divergence
	at := l.now
	d.State, d.ResolvedAt, d.Ranges, d.Keys = Resolved, &at, f.PeakRanges, f.PeakKeys
	return l.announce(f)
}

func (l *Ledger) announce(f *Finding) error {
	f.saved = true
	if err := l.state.SetFinding(f); err != nil {
		return err
	}
	l.notices = append(l.notices, Notice{f.Divergence})
	l.state.Notify()
	return nil
}

// Open yields the divergences that are open, the oldest first.
func (l *Ledger) Open() iter.Seq[*Divergence] {
	return func(yield func(*Divergence) bool) {
		for _, f := range l.sortedFindings() {
			if f.Confirmed && !yield(&f.Divergence) {
				return
			}
		}
	}
}

// Acknowledge notes with a divergence who has taken it on. One that is not open any more is left as it is.
func (l *Ledger) Acknowledge(id string, a Acknowledgement) error {
	for _, f := range l.byNumber {
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

// maxRanges bounds the ranges that a divergence lists; the rest is counted only.
const maxRanges = 1000

// describe finds the exact ranges of a divergence.
func (l *Ledger) describe(f *Finding) error {
	d := &f.Divergence
	t := l.tables[f.Table]
	r := ranger{ledger: l, table: t, member: f.Member, limit: maxRanges}
	var err error
	if d.Kind == Stale {
		err = l.staleKeys(f, &r)
	} else {
		err = l.state.DivergentKeys(f.Member, f.Table, nil, nil, func(k digest.Key, dk *DivergentKey) (bool, error) {
			if dk.Finding != f.Number {
				return true, nil
			}
			return r.add(k, dk.Kind)
		})
	}
	if err != nil {
		return err
	}
	d.Ranges, d.Keys, d.Truncated = r.ranges, f.live, r.full
	if d.Keys >= f.PeakKeys {
		f.PeakRanges, f.PeakKeys = d.Ranges, d.Keys
	}
	f.changed, f.written = false, l.now
	if l.expect(f) && f.Confirmed {
		l.state.Notify()
	}
	return nil
}

// expect finds out whether a finding's ranges are all expected ones, and reports whether that is news.
func (l *Ledger) expect(f *Finding) bool {
	d, t := &f.Divergence, l.tables[f.Table]
	was := d.Expected
	d.Expected = l.opt.Expected != nil && t != nil && l.opt.Expected(d, t.record.Epoch.Shape)
	return was != d.Expected
}

// ranger joins neighbouring keys to ranges.
type ranger struct {
	ledger *Ledger
	table  *table
	member MemberID
	limit  int
	ranges []Range
	last   digest.Key
	full   bool
}

// add takes the next key, in ascending order; it reports whether it wants more.
func (r *ranger) add(k digest.Key, kind Kind) (bool, error) {
	text, err := r.table.record.Epoch.Shape.KeyJSON(k)
	if err != nil {
		return false, err
	}
	neighbours := false
	if r.last != nil {
		if neighbours, err = r.neighbours(r.last, k); err != nil {
			return false, err
		}
	}
	if !neighbours {
		if len(r.ranges) == r.limit {
			r.full = true
			return false, nil
		}
		r.ranges = append(r.ranges, Range{First: text})
	}
	r.ranges[len(r.ranges)-1].extend(text, kind)
	r.last = append(r.last[:0], k...)
	return true, nil
}

func (r *Range) extend(last json.RawMessage, kind Kind) {
	r.Last = last
	switch kind {
	case Changed:
		r.Changed++
	case Missing:
		r.Missing++
	case Extra:
		r.Extra++
	}
}

// neighbours reports whether neither the reference nor the member has a row between a and b.
func (r *ranger) neighbours(a, b digest.Key) (bool, error) {
	if t := r.table; t.record.Sparse {
		start := string(t.startOf(a))
		if start != string(t.startOf(b)) || !r.ledger.know(t, t.coverage[r.member], start) {
			return false, nil // it is not known
		}
	}
	after := append(slices.Clone(a), 0)
	for _, id := range []MemberID{r.ledger.ref.id, r.member} {
		if r.ledger.members[id].scanOnly {
			continue // a row that only it had would be one that differs
		}
		c := r.table.coverage[id]
		between := false
		err := r.ledger.state.Rows(c.space, after, b, func(digest.Key, []byte) (bool, error) {
			between = true
			return false, nil
		})
		if err != nil || between {
			return false, err
		}
	}
	return true, nil
}
