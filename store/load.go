package store

import (
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Load reads what the group's ledger is to go on from.
func (g *Group) Load() (align.Saved, error) {
	saved := align.Saved{Members: make(map[cdc.MemberID]*align.MemberRecord), Boundaries: g.boundaries, Sum: g.sum, Verified: g.verified}
	err := errors.Join(
		g.loadReference(&saved),
		g.loadMembers(&saved),
		g.loadTables(&saved),
		g.loadInFlight(&saved),
		g.loadFindings(&saved),
	)
	if err != nil {
		return saved, damaged(g.store.dir, err)
	}
	return saved, nil
}

func (g *Group) loadMembers(saved *align.Saved) error {
	return each(g.batch, groupKey(nil, kindMember, g.id), func(rest, v []byte) error {
		r := &align.MemberRecord{}
		saved.Members[cdc.MemberID(uint16(rest[0])<<8|uint16(rest[1]))] = r
		return parseJSON("member record", v, r)
	})
}

func (g *Group) loadTables(saved *align.Saved) error {
	return each(g.batch, groupKey(nil, kindTable, g.id), func(_, v []byte) error {
		r := &align.TableRecord{}
		saved.Tables = append(saved.Tables, r)
		return parseJSON("table record", v, r)
	})
}

func (g *Group) loadInFlight(saved *align.Saved) error {
	return each(g.batch, groupKey(nil, kindInFlight, g.id), func(_, v []byte) error {
		f, err := parseInFlight(v)
		if err != nil {
			return err
		}
		if n := len(saved.InFlight); n > 0 && saved.InFlight[n-1].End == f.End {
			last := saved.InFlight[n-1]
			last.Changes, last.Parts = append(last.Changes, f.Changes...), last.Parts+1
			return nil
		}
		f.Parts = 1
		saved.InFlight = append(saved.InFlight, f)
		return nil
	})
}

func (g *Group) loadFindings(saved *align.Saved) error {
	return each(g.batch, groupKey(nil, kindFinding, g.id), func(_, v []byte) error {
		f := &finding.Finding{}
		if err := parseJSON("finding", v, f); err != nil {
			return err
		}
		if f.Divergence.State == finding.Open {
			saved.Findings = append(saved.Findings, f)
			g.findings[f.Number] = f.Divergence.ID
		}
		return nil
	})
}

func (g *Group) boundaries(t cdc.TableID) ([]digest.Key, error) {
	var list []digest.Key
	err := each(g.batch, tableKey(nil, kindBoundary, g.id, t), func(rest, _ []byte) error {
		list = append(list, slices.Clone(rest))
		return nil
	})
	return list, readError(g.store.dir, err)
}

func (g *Group) sum(at align.Space, start digest.Key) (merkle.Sum, error) {
	v, err := g.get(g.sumKey(at, start))
	if err != nil || v == nil {
		return merkle.Sum{}, err
	}
	s, err := merkle.ParseSum(v)
	if err != nil {
		return s, damaged(g.store.dir, err)
	}
	return s, nil
}

// Divergences yields the confirmed divergences, newest first, until yield returns false. It reads what was committed
// last and may be called from any goroutine.
func (g *Group) Divergences(yield func(*finding.Divergence) bool) error {
	prefix := groupKey(nil, kindFinding, g.id)
	it, err := g.store.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	for it.Last(); it.Valid(); it.Prev() {
		var f finding.Finding
		if err := parseJSON("finding", it.Value(), &f); err != nil {
			return errors.Join(damaged(g.store.dir, err), it.Close())
		}
		if f.Confirmed && !yield(&f.Divergence) {
			break
		}
	}
	return readError(g.store.dir, errors.Join(it.Error(), it.Close()))
}

// keepResolved is how many resolved divergences are kept for the API.
const keepResolved = 10_000

// Prune forgets the oldest resolved divergences when there are too many. The evidence of them is elsewhere.
func (g *Group) Prune() error {
	var resolved []string
	err := each(g.batch, groupKey(nil, kindFinding, g.id), func(_, v []byte) error {
		var f finding.Finding
		if err := parseJSON("finding", v, &f); err != nil {
			return err
		}
		if f.Divergence.State == finding.Resolved {
			resolved = append(resolved, f.Divergence.ID)
		}
		return nil
	})
	for i := 0; err == nil && i < len(resolved)-keepResolved; i++ {
		err = g.delete(g.findingKey(resolved[i]))
	}
	return readError(g.store.dir, err)
}
