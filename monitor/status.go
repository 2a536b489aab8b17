package monitor

import (
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/scan"
	"github.com/lockstep-cdc/lockstep/status"
)

// publish makes the state of now visible to other goroutines, not more often than they need it.
func (g *Group) publish() {
	now := time.Now()
	if last := g.status.Load(); last != nil && now.Sub(last.At) < statusEvery {
		return
	}
	s := &status.Group{
		Name:      g.opt.Name,
		Reference: g.opt.Reference,
		At:        now.UTC(),
		Members:   g.ledger.Status(true),
		Scans:     g.Scans(),
		Duties:    runsOf(g.duties),
	}
	for i := range s.Members {
		m := &s.Members[i]
		for _, name := range slices.Sorted(maps.Keys(g.unwatched)) {
			m.Tables = append(m.Tables, status.Table{Table: name, Verdict: status.Unverified, Reason: g.unwatched[name]})
		}
		m.ScrubWaited, m.ScrubWaits = g.feeds[m.ID].scrubWaits()
		m.Canary = g.feeds[m.ID].canary.Status()
		m.Duties = runsOf(g.feeds[m.ID].duties)
		m.Applied, m.Scanned = g.rows[m.ID].Load(), g.scanned[m.ID].Load()
		if text := g.feeds[m.ID].trouble.Load(); text != nil {
			m.Trouble = *text
		}
	}
	s.Complete()
	g.followRequests(s)
	g.status.Store(s)
	g.observe(s)
}

// scrubWaits tells how long scrubs of a member have waited, by reason, and what they wait for now.
func (f *feed) scrubWaits() (waited map[string]time.Duration, now string) {
	s := f.pacer.Status()
	waited = make(map[string]time.Duration)
	for _, r := range scan.Reasons() {
		waited[r.String()] = s.Waited[r]
	}
	if failed := f.scrubFailed.Load(); failed != nil {
		now = *failed
	}
	if s.Pause.Reason > scan.Rate {
		now = s.Pause.Detail
	}
	return waited, now
}

// Status returns the state as of at most half a second ago. It may be called from any goroutine.
func (g *Group) Status() *status.Group { return g.status.Load() }

// Divergences yields the group's divergences, newest first. It may be called from any goroutine.
func (g *Group) Divergences(yield func(*finding.Divergence) bool) error {
	return g.state.Divergences(yield)
}
