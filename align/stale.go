package align

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// staleEvery is how often lateness is looked at.
const staleEvery = 200 * time.Millisecond

// findStale opens a finding for each table of which a member has been shown, after the lag budget, still not to have
// replayed a transaction; and ends those that have caught up.
func (l *Ledger) findStale() {
	for _, m := range l.sortedMembers() {
		if m.provenAt.IsZero() {
			continue // it has not been heard from since the start: what was known of it stays
		}
		overdue := l.overdue(m)
		for _, t := range l.sortedTables() {
			if !t.coverage[m.id].Compared {
				continue
			}
			k := finding.Key{Member: m.id, Table: t.record.Epoch.Table, Kind: finding.Stale, Cause: finding.CauseUnknown}
			f, late := l.findings.Get(k), overdue[k.Table]
			switch {
			case late.keys == 0 && f != nil:
				f.Live = 0
			case late.keys > 0:
				l.setStale(m, t, f, late)
			}
		}
	}
}

// lateness is what a table on a member should have received and has not.
type lateness struct {
	keys  int64
	first *inFlight
	lane  *lane
}

// overdue counts, per table, the row changes that a member has been shown not to have after the lag budget. What the
// member did while it could not be heard is not held against it.
func (l *Ledger) overdue(m *member) map[cdc.TableID]lateness {
	late := make(map[cdc.TableID]lateness)
	for _, name := range slices.Sorted(maps.Keys(m.lanes)) {
		ln := m.lanes[name]
		for f := range ln.awaited {
			if !l.anyOverdue(m, f.Seen) {
				break
			}
			for _, ch := range f.changes {
				t := l.tables[ch.Table]
				c := t.coverage[m.id]
				if c.Lane != name || !c.Compared || m.provenAt.Sub(f.Seen) < l.opt.Budget(t.name()) {
					continue
				}
				e := late[ch.Table]
				if e.first == nil {
					e.first, e.lane = f, ln
				}
				e.keys++
				late[ch.Table] = e
			}
		}
	}
	return late
}

// anyOverdue reports whether a transaction seen at that time is late for the smallest budget.
func (l *Ledger) anyOverdue(m *member, seen time.Time) bool {
	return len(l.tables) > 0 && m.provenAt.Sub(seen) >= l.minBudget()
}

func (l *Ledger) minBudget() time.Duration {
	least := time.Duration(-1)
	for _, t := range l.tables {
		if b := l.opt.Budget(t.name()); least < 0 || b < least {
			least = b
		}
	}
	return least
}

func (l *Ledger) setStale(m *member, t *table, f *finding.Finding, late lateness) {
	if f == nil {
		f = l.finding(m, t, finding.Stale, blame{cause: finding.CauseUnknown})
		f.Divergence.FirstSeen = late.first.Seen
		f.Divergence.IntroducedBy = &finding.Introduced{Transaction: late.first.ID.String(), CommittedAt: late.first.CommitTime.UTC()}
		f.Divergence.Detail = late.lane.why(m)
	}
	f.Changed = f.Changed || f.Late != late.keys
	f.Live, f.Late = max(f.Live, 1), late.keys
}

// title is what people call a lane; before its member was asked for its lanes that is not known.
func (ln *lane) title() string { return orElse(ln.Title, "replication") }

// why says what is known of a lane that does not move.
func (ln *lane) why(m *member) string {
	switch {
	case ln.Title == "": // it is known from before the start, and the member has not been asked since
		return fmt.Sprintf("%s of %s was not asked yet whether it goes on", ln.title(), m.name)
	case ln.Problem != "":
		return fmt.Sprintf("%s of %s: %s", ln.Title, m.name, ln.Problem)
	case !ln.Enabled:
		return fmt.Sprintf("%s of %s is stopped", ln.Title, m.name)
	}
	return fmt.Sprintf("%s of %s has replayed up to %v only", ln.Title, m.name, ln.record.Applied)
}

// staleKeys yields the rows that overdue transactions changed and that are not on the member as they must be.
func (l *Ledger) staleKeys(f *finding.Finding, t *table, r *finding.Ranges) error {
	m, c := l.members[f.Member], t.coverage[f.Member]
	ln := m.lanes[c.Lane]
	if ln == nil {
		return nil
	}
	last := make(map[string]*inFlightChange)
	for tx := range ln.awaited {
		if m.provenAt.Sub(tx.Seen) < l.opt.Budget(t.name()) {
			break
		}
		for _, ch := range tx.changes {
			if ch.Table == f.Table {
				last[string(ch.Key)] = ch
			}
		}
	}
	f.Live = 0
	for _, key := range slices.Sorted(maps.Keys(last)) {
		before, err := l.expected(m, t, c, digest.Key(key))
		if err != nil {
			return err
		}
		after := last[key].After
		if before == after {
			continue
		}
		f.Live++
		if r.Full {
			continue // counted only
		}
		if _, err := r.Add(digest.Key(key), kindOf(after, before)); err != nil {
			return err
		}
	}
	f.Live = max(f.Live, 1) // late it is, also if what has not arrived leaves each row as it was
	return nil
}
