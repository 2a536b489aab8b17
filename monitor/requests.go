package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
)

// requests are scrubs that somebody has asked for. They may be reached from any goroutine.
type requests struct {
	mu   sync.Mutex
	list []*align.ScrubRequest // guarded by mu; the oldest first
}

// keptRequests bounds the requests that are remembered.
const keptRequests = 100

// RequestScrub has rows read again, now and as fast as max_rows_per_second allows: those of the tables that are named, or
// of all, on the members that are named, or on all; of a single table perhaps only those from one key to another. It may be
// called from any goroutine.
func (g *Group) RequestScrub(ctx context.Context, want align.ScrubRequest) (align.ScrubRequest, error) {
	known := g.status.Load().Names()
	if known.Tables == nil && len(want.Tables) > 0 {
		return align.ScrubRequest{}, fmt.Errorf("group %s does not know its tables yet: ask again once its members have been heard from", g.opt().Name)
	}
	if err := (names.Groups{known}).Check(names.Wanted{Group: g.opt().Name, Members: want.Members, Tables: want.Tables}); err != nil {
		return align.ScrubRequest{}, err
	}
	now := time.Now()
	r := &align.ScrubRequest{
		ID: NewID(now), Group: g.opt().Name, Tables: want.Tables, Members: want.Members,
		FirstKey: want.FirstKey, LastKey: want.LastKey, Requested: now,
	}
	err := g.do(ctx, func() error {
		for _, name := range r.Tables {
			if why := g.unwatched[name]; why != "" {
				return fmt.Errorf("table %s cannot be watched: %s", name, why)
			}
		}
		g.ledger.Asked(now)
		return g.bound(r)
	})
	if err != nil {
		return align.ScrubRequest{}, err
	}
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	g.requests.list = append(g.requests.list, r)
	if n := len(g.requests.list) - keptRequests; n > 0 {
		g.requests.list = slices.Clone(g.requests.list[n:])
	}
	return *r, nil
}

// bound sets what a request is to read, from the keys that it names. It runs on the ledger's goroutine.
func (g *Group) bound(r *align.ScrubRequest) error {
	if r.FirstKey == nil && r.LastKey == nil {
		return nil
	}
	if len(r.Tables) != 1 {
		return errors.New("keys bound the rows of one table: name that, and no other")
	}
	for id, epoch := range g.ledger.Epochs() {
		if epoch.Shape.Table != r.Tables[0] {
			continue
		}
		var first, last digest.Key
		err := fault.Catch(func() (err error) { // what people write must not end the group
			if first, err = epoch.Shape.ParseBound(r.FirstKey); err == nil {
				last, err = epoch.Shape.ParseBound(r.LastKey)
			}
			return err
		})
		if err != nil {
			return err
		}
		if first != nil && last != nil && last.Compare(first) < 0 {
			return fmt.Errorf("table %s: the last key comes before the first", epoch.Shape.Table)
		}
		r.After, r.Through = g.ledger.Bounds(id, first, last)
		return nil
	}
	return fmt.Errorf("table %s was not read yet: ask again once it is verified", r.Tables[0])
}

// asked returns the part of a table on a member that was read longest ago among what is asked for and was not read since,
// and when that was. It runs on the ledger's goroutine.
func (g *Group) asked(id cdc.TableID, table string, f *feed) (part cdc.Part, at time.Time, found bool) {
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	for _, r := range g.requests.list {
		if r.Finished != nil || !r.Covers(table, f.Name) {
			continue
		}
		if v := g.ledger.StalestOf(r, id, f.id); v.At.Before(r.Requested) && (!found || v.At.Before(at)) {
			part, at, found = cdc.Part{After: v.After, Through: r.Through}, v.At, true
		}
	}
	return part, at, found
}

// ScrubRequests returns the scrubs that were asked for, with how far they are. It may be called from any goroutine.
func (g *Group) ScrubRequests() []align.ScrubRequest {
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	list := make([]align.ScrubRequest, len(g.requests.list))
	for i, r := range g.requests.list {
		list[i] = *r
	}
	return list
}

// followRequests brings the progress of the scrubs that were asked for up to date, and what they wait for. It runs on the ledger's
// goroutine.
func (g *Group) followRequests(s *status.Group) {
	g.requests.mu.Lock()
	defer g.requests.mu.Unlock()
	unfinished := false
	for _, r := range g.requests.list {
		if r.Finished != nil {
			continue
		}
		unfinished = true
		r.Done, r.Waits = g.ledger.ScrubDone(r), waits(r, s)
		if r.Done == 1 {
			now := time.Now()
			r.Finished, r.Waits = &now, nil
		}
	}
	for _, f := range g.feeds {
		if !unfinished {
			f.scrubFailed.Store(nil)
		}
	}
}

// waits says what keeps a scrub from going on, by member.
func waits(r *align.ScrubRequest, s *status.Group) map[string]string {
	all := make(map[string]string)
	for _, name := range r.Members {
		if !slices.ContainsFunc(s.Members, func(m status.Member) bool { return m.Name == name }) {
			all[name] = "it is not watched any more"
		}
	}
	for _, m := range s.Members {
		if len(r.Members) > 0 && !slices.Contains(r.Members, m.Name) {
			continue
		}
		if why := waitsOn(r, s, m); why != "" {
			all[m.Name] = why
		}
	}
	return all
}

// waitsOn says what keeps a scrub from going on on one member, or nothing.
func waitsOn(r *align.ScrubRequest, s *status.Group, m status.Member) string {
	if m.Trouble != "" {
		return m.Trouble
	}
	covered, unkept := false, ""
	for _, t := range m.Tables {
		if !r.Covers(t.Table, m.Name) {
			continue
		}
		covered = true
		switch kept := against(s, m, t); {
		case t.Suspects > 0:
			return settling(s, t)
		case !kept.Live && unkept == "":
			unkept = fmt.Sprintf("table %s: %s", t.Table, cmp.Or(kept.Reason, t.Reason, "its rows are not known yet"))
		}
	}
	if !covered {
		return "none of the tables is watched on it now"
	}
	return cmp.Or(m.ScrubWaits, unkept)
}

// against is what the rows of a member's table are held against when they are read: what is kept of them, or of the reference's.
func against(s *status.Group, m status.Member, t status.Table) status.Table {
	if !m.ScanOnly {
		return t
	}
	for _, other := range s.Members {
		for _, kept := range other.Tables {
			if other.Name == s.Reference && kept.Table == t.Table {
				return kept
			}
		}
	}
	return status.Table{}
}

// settling says that rows of a table are read again on all members, and which of these that waits for.
func settling(s *status.Group, t status.Table) string {
	text := fmt.Sprintf("table %s: %d rows are not what the log says; they are read again on all members", t.Table, t.Suspects)
	for _, m := range s.Members {
		if m.Trouble != "" {
			text += fmt.Sprintf("; %s: %s", m.Name, m.Trouble)
		}
	}
	return text
}
