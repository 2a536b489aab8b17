package diff

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

// Error says why nothing was compared.
type Error struct {
	Err         error
	Unreachable bool // a member does not answer, rather than being set up wrongly
	Usage       bool // the configuration is wrong
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Report is what a comparison found.
type Report struct {
	Group, Reference string
	Began, Ended     time.Time
	Results          []Result // by table, then as configured
}

// Result is about one table on one member. The zero Verdict is none: it says nothing.
type Result struct {
	Member, Table string
	Verdict       status.Verdict // in_step, unverified, stale or diverged
	// Reason says why not everything can be said, which a table that has diverged may have too.
	Reason string
	// NotCompared lists the columns that only one side has, Note says which side. Without AllowMissingColumns a table that has
	// some is unverified at best.
	NotCompared []string
	Note        string
	Unreachable bool // a member stopped answering
	Parts       int
	// ReferenceRows and MemberRows is how many rows were read to compare all of the table, Suspects how many keys were
	// read again, and Rounds how often.
	ReferenceRows, MemberRows int64
	Suspects, Rounds          int
	Keys                      int64             // that differ
	From, To                  map[string]string // positions by member, before and after
	Divergences               []finding.Divergence
}

// result sums the pair up.
func (p *pair) result() Result {
	r := Result{
		Member: p.member.name, Table: p.table.Name, Reason: p.reason, NotCompared: slices.Concat(p.lacks, p.surplus), Note: p.notCompared(), Unreachable: p.unreachable, Parts: p.parts,
		ReferenceRows: p.refRows, MemberRows: p.memRows, Suspects: p.judged, Rounds: p.rounds, From: p.from, To: p.to,
		Keys: int64(len(p.confirmed) + len(p.late)),
	}
	if p.stopped {
		r.Reason = join(r.Reason, fmt.Sprintf("so many keys differ (%d) that not all of it was compared", p.judged))
	}
	if p.failed != nil {
		r.Reason = join(r.Reason, p.failed.Error())
	}
	var err error
	if r.Divergences, err = p.divergences(); err != nil {
		r.Reason = join(r.Reason, err.Error())
	}
	switch {
	case len(p.confirmed) > 0:
		r.Verdict = status.Diverged
	case len(p.late) > 0:
		r.Verdict = status.Stale
	case r.Reason != "" || len(r.NotCompared) > 0 && !p.c.opt.AllowMissingColumns:
		r.Verdict = status.Unverified
	default:
		r.Verdict = status.InStep
	}
	return r
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// divergences gathers the keys that differ by how they differ.
func (p *pair) divergences() ([]finding.Divergence, error) {
	byKind := map[finding.Kind][]*suspect{finding.Stale: p.late}
	for _, s := range p.confirmed {
		byKind[s.kind()] = append(byKind[s.kind()], s)
	}
	var list []finding.Divergence
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		if len(byKind[kind]) == 0 {
			continue
		}
		d, err := p.divergence(kind, byKind[kind])
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// kind says how the row differs.
func (s *suspect) kind() finding.Kind {
	switch {
	case s.mem.IsZero():
		return finding.Missing
	case s.ref.IsZero():
		return finding.Extra
	}
	return finding.Changed
}

func (p *pair) divergence(kind finding.Kind, keys []*suspect) (finding.Divergence, error) {
	now := time.Now().UTC()
	d := finding.Divergence{
		ID: p.c.opt.NewID(now), Group: p.c.opt.Group, Table: p.table.Name, Member: p.member.name, Reference: p.ref.name,
		State: finding.Open, Kind: kind, Cause: finding.CauseUnknown, Keys: int64(len(keys)),
		Positions: maps.Clone(p.to), FirstSeen: p.began, ConfirmedAt: now, LagBudget: p.c.opt.Budget(p.table.Name).String(),
	}
	switch {
	case kind == finding.Stale:
		d.Detail = p.lateWhy
	case !p.errant.IsZero():
		d.Detail = fmt.Sprintf("%s has transactions that %s lacks: %v", p.member.name, p.ref.name, p.errant)
	}
	var err error
	d.Ranges, d.Truncated, err = p.ranges(keys)
	d.Truncated = d.Truncated || p.stopped
	return d, err
}

// ranges joins neighbouring keys, of one kind or of a stale member, up to the limit.
func (p *pair) ranges(keys []*suspect) ([]finding.Range, bool, error) {
	slices.SortFunc(keys, p.order)
	at := 0
	r := finding.Ranges{
		Shape: p.epoch.Shape, Limit: p.c.opt.MaxRanges,
		Neighbours: func(_, _ digest.Key) (bool, error) { return p.neighbours(keys[at-1], keys[at]), nil },
	}
	for i, s := range keys {
		at = i
		if more, err := r.Add(s.key, s.kind()); err != nil || !more {
			return r.List, r.Full, err
		}
	}
	return r.List, false, nil
}

// order is that of the keys where it is the server's, else that in which the rows were read.
func (p *pair) order(a, b *suspect) int {
	if p.refTable.Order != cdc.KeyOrder {
		if c := cmp.Compare(max(a.refAt, a.memAt), max(b.refAt, b.memAt)); c != 0 {
			return c
		}
	}
	return bytes.Compare(a.key, b.key)
}

// neighbours reports whether no row that is in step lies between two that differ: they are on one side both, and came one
// after the other there. All rows between them on the other side only are not in step. An order of the member's own says
// nothing about the reference's.
func (p *pair) neighbours(a, b *suspect) bool {
	sameOrder := p.refTable.Order == cdc.KeyOrder && p.table.Order == cdc.KeyOrder
	return a.refAt > 0 && b.refAt == a.refAt+1 || sameOrder && a.memAt > 0 && b.memAt == a.memAt+1
}

// someKeys lists the first suspects, for people.
func (p *pair) someKeys() string {
	const most = 10
	var list []string
	for _, k := range slices.Sorted(maps.Keys(p.suspects)) {
		if len(list) == most {
			list = append(list, "…")
			break
		}
		if text, err := p.epoch.Shape.KeyJSON([]byte(k)); err == nil {
			list = append(list, string(text))
		}
	}
	return strings.Join(list, " ")
}
