package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/names"
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
		return align.ScrubRequest{}, fmt.Errorf("group %s does not know its tables yet: ask again once its members have been heard from", g.opt.Name)
	}
	if err := (names.Groups{known}).Check(names.Wanted{Group: g.opt.Name, Members: want.Members, Tables: want.Tables}); err != nil {
		return align.ScrubRequest{}, err
	}
	now := time.Now()
	r := &align.ScrubRequest{
		ID: NewID(now), Group: g.opt.Name, Tables: want.Tables, Members: want.Members,
		FirstKey: want.FirstKey, LastKey: want.LastKey, Requested: now,
	}
	err := g.do(ctx, func() error {
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
		first, err := epoch.Shape.ParseBound(r.FirstKey)
		if err != nil {
			return err
		}
		last, err := epoch.Shape.ParseBound(r.LastKey)
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
