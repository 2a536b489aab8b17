package align

import (
	"slices"
	"time"
)

// ScrubRequest is a scrub that somebody has asked for.
type ScrubRequest struct {
	ID        string     `json:"id"`
	Group     string     `json:"group"`
	Tables    []string   `json:"tables"`  // empty: all
	Members   []string   `json:"members"` // empty: all
	Requested time.Time  `json:"requested_at"`
	Done      float64    `json:"done"` // share of the rows, about, that were read since
	Finished  *time.Time `json:"finished_at"`
	// Waits says what keeps it from going on now, by member; empty if nothing does.
	Waits map[string]string `json:"waits_for,omitempty"`
}

// Covers reports whether the request is about a table of a member.
func (r *ScrubRequest) Covers(table, member string) bool {
	return (len(r.Tables) == 0 || slices.Contains(r.Tables, table)) && (len(r.Members) == 0 || slices.Contains(r.Members, member))
}

// ScrubDone returns the share of what a request asks for, about, that was read since: 1 only if all of it was.
func (l *Ledger) ScrubDone(r *ScrubRequest) float64 {
	shares, sum, all := 0, 0.0, true
	for _, t := range l.sortedTables() {
		for _, m := range l.sortedMembers() {
			if !r.Covers(t.name(), m.name) {
				continue
			}
			c := t.coverage[m.id]
			shares++
			sum += t.freshShare(c, r.Requested)
			all = all && !c.verified.oldest().At.Before(r.Requested)
		}
	}
	switch {
	case all:
		return 1
	case shares == 0:
		return 0
	}
	return min(sum/float64(shares), 0.999)
}
