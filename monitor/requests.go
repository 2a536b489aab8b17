package monitor

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"lockstep/align"
)

// requests are scrubs that somebody has asked for. They may be reached from any goroutine.
type requests struct {
	mu   sync.Mutex
	list []*align.ScrubRequest // guarded by mu; the oldest first
}

// keptRequests bounds the requests that are remembered.
const keptRequests = 100

// RequestScrub has rows read again, now and as fast as max_rows_per_second allows: those of the tables that are named, or
// of all, on the members that are named, or on all. It may be called from any goroutine.
func (g *Group) RequestScrub(tables, members []string) (align.ScrubRequest, error) {
	status := g.status.Load()
	for _, name := range members {
		if !slices.ContainsFunc(status.Members, func(m align.MemberStatus) bool { return m.Name == name }) {
			return align.ScrubRequest{}, fmt.Errorf("group %s has no member %q", g.opt.Name, name)
		}
	}
	for _, name := range tables {
		if !slices.ContainsFunc(status.Members[0].Tables, func(t align.TableStatus) bool { return t.Table == name }) {
			return align.ScrubRequest{}, fmt.Errorf("group %s watches no table %q", g.opt.Name, name)
		}
	}
	now := time.Now()
	r := &align.ScrubRequest{ID: NewID(now), Group: g.opt.Name, Tables: tables, Members: members, Requested: now}
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	g.requests.list = append(g.requests.list, r)
	if n := len(g.requests.list) - keptRequests; n > 0 {
		g.requests.list = slices.Clone(g.requests.list[n:])
	}
	return *r, nil
}

// requested reports whether rows of a table on a member that were last read at that time are asked for.
func (g *Group) requested(table, member string, at time.Time) bool {
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	return slices.ContainsFunc(g.requests.list, func(r *align.ScrubRequest) bool {
		return r.Finished == nil && at.Before(r.Requested) && r.Covers(table, member)
	})
}

// ScrubRequests returns the scrubs that were asked for, with how far they are. It may be called from any goroutine.
func (g *Group) ScrubRequests() []align.ScrubRequest {
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	list := make([]align.ScrubRequest, len(g.requests.list))
	for i, r := range g.requests.list {
		list[i] = *r
		if r.Finished == nil {
			list[i].Waits = g.waits(r)
		}
	}
	return list
}

// waits says what keeps a scrub from going on, by member.
func (g *Group) waits(r *align.ScrubRequest) map[string]string {
	waits := make(map[string]string)
	for _, f := range g.feeds {
		if len(r.Members) > 0 && !slices.Contains(r.Members, f.Name) {
			continue
		}
		if trouble := f.trouble.Load(); trouble != nil {
			waits[f.Name] = *trouble
		} else if _, why := f.scrubWaits(); why != "" {
			waits[f.Name] = why
		}
	}
	return waits
}

// followRequests brings the progress of the scrubs that were asked for up to date. It runs on the ledger's goroutine.
func (g *Group) followRequests() {
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	for _, r := range g.requests.list {
		if r.Finished != nil {
			continue
		}
		r.Done = g.ledger.ScrubDone(r)
		if r.Done == 1 {
			now := time.Now()
			r.Finished = &now
		}
	}
}
