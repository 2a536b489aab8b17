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
	now := g.clocks()
	if last := g.status.Load(); last != nil && now.Running-last.Said.Running < statusEvery {
		return
	}
	g.say(now)
}

// say makes the state of now visible.
func (g *Group) say(now status.Clocks) {
	s := &status.Group{
		Name:      g.opt().Name,
		Reference: g.opt().Reference,
		At:        now.Wall.UTC(),
		Said:      now,
		Members:   g.ledger.Status(true),
		Scans:     g.Scans(),
	}
	for i := range s.Members {
		m := &s.Members[i]
		for _, name := range slices.Sorted(maps.Keys(g.unwatched)) {
			m.Tables = append(m.Tables, status.Table{Table: name, Verdict: status.Unverified, Reason: g.unwatched[name]})
		}
		f := g.feeds[m.ID]
		m.ScrubWaited, m.ScrubWaits = f.scrubWaits()
		m.Canary = f.canary.Status()
		m.Duties, m.Panics = runsOf(append(f.canary.duties(), f.duties...)), f.faults.Load()
		m.Applied, m.Scanned = f.applied.Load(), f.scanned.Load()
		if r := f.retained.Load(); r != nil {
			m.Retained, m.MostRetained = r.Bytes, r.Most
		}
		if text := f.trouble.Load(); text != nil {
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

// Status returns what can be said of the group now: what its loop said, at most half a second ago, or if the loop stands still,
// that nothing is known. It may be called from any goroutine.
func (g *Group) Status() *status.Group {
	looping := g.looping.Load() // before: what was said when it began is there then
	return g.status.Load().AsOf(g.clocks(), looping)
}

// machineClocks reads the clocks of the machine.
func machineClocks() func() status.Clocks {
	began := time.Now()
	return func() status.Clocks {
		now := time.Now()
		return status.Clocks{Wall: now.Round(0), Running: now.Sub(began)}
	}
}

// checkClock has what was heard before the clock jumped count for nothing: nobody knows how long ago it was.
func (g *Group) checkClock() {
	now := g.clocks()
	if now.Jumped(g.looked) {
		g.log.Warn("the clock was set, or the machine slept; members are unverified until they are heard from again", "by", (now.Wall.Sub(g.looked.Wall) - (now.Running - g.looked.Running)).String())
		g.ledger.Mistrust()
	}
	g.looked = now
}

// Divergences yields the group's divergences, newest first. It may be called from any goroutine.
func (g *Group) Divergences(yield func(*finding.Divergence) bool) error {
	return g.state.Divergences(yield)
}
