package align

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// ScrubRequest is a scrub that somebody has asked for.
type ScrubRequest struct {
	ID      string   `json:"id"`
	Group   string   `json:"group"`
	Tables  []string `json:"tables"`  // empty: all
	Members []string `json:"members"` // empty: all
	// FirstKey and LastKey, if given, bound the rows of the one table. After and Through are the bounds to read by, a range
	// or two wider.
	FirstKey  json.RawMessage `json:"first_key,omitempty"`
	LastKey   json.RawMessage `json:"last_key,omitempty"`
	After     digest.Key      `json:"-"`
	Through   digest.Key      `json:"-"`
	Requested time.Time       `json:"requested_at"`
	Done      float64         `json:"done"` // share of the rows, about, that were read since
	Finished  *time.Time      `json:"finished_at"`
	// Waits says what keeps it from going on now, by member; empty if nothing does.
	Waits map[string]string `json:"waits_for,omitempty"`
}

// Covers reports whether the request is about a table of a member.
func (r *ScrubRequest) Covers(table, member string) bool {
	return (len(r.Tables) == 0 || slices.Contains(r.Tables, table)) && (len(r.Members) == 0 || slices.Contains(r.Members, member))
}

// Asked takes note that a scrub was asked for: rows that are verified from that time on are told apart from those before.
func (l *Ledger) Asked(at time.Time) { l.asked = at }

// ScrubDone returns the share of what a request asks for, about, that was read since: 1 only if all of it was.
func (l *Ledger) ScrubDone(r *ScrubRequest) float64 {
	shares, sum, all := 0, 0.0, true
	for _, t := range l.sortedTables() {
		for _, m := range l.sortedMembers() {
			if !r.Covers(t.name(), m.name) {
				continue
			}
			spans := t.coverage[m.id].verified.within(r.After, r.Through)
			shares++
			sum += t.freshShare(spans, r.Through, r.Requested)
			all = all && !spans.oldest().At.Before(r.Requested)
		}
	}
	switch {
	case shares == 0: // no such table is kept, of which nothing was read
		return 0
	case all:
		return 1
	}
	return min(sum/float64(shares), 0.999)
}

// Bounds returns what to read of a table, behind a key and through one, to have read all rows from first to last, either of
// which may be nil. What is read begins where a range does, and ends so.
func (l *Ledger) Bounds(id cdc.TableID, first, last digest.Key) (after, through digest.Key) {
	t := l.tables[id]
	if t == nil || t.ranges == nil {
		return nil, nil
	}
	if first != nil {
		i := t.ranges.Find(first)
		if i > 0 && t.ranges.Start(i).Compare(first) == 0 {
			i-- // the row at which a range starts is not behind its start
		}
		after = slices.Clone(t.ranges.Start(i))
	}
	if last != nil {
		through = slices.Clone(t.ranges.End(t.ranges.Find(last)))
	}
	return after, through
}

// StalestOf returns the span of a table on a member that was verified longest ago, among those that the request is about.
func (l *Ledger) StalestOf(r *ScrubRequest, id cdc.TableID, on cdc.MemberID) Verified {
	if t := l.tables[id]; t != nil {
		return t.coverage[on].verified.within(r.After, r.Through).oldest()
	}
	return Verified{}
}
