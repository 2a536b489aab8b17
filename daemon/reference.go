package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// findWithin is how long members may take to say how they replicate.
const findWithin = 5 * time.Second

// nameAnother is what to do about a reference that is not the right one, or that is none.
const nameAnother = "name it in the group's setting `reference`"

// choice is the member that the others are held against, and how it came to be that one.
type choice struct {
	name, why string
	found     bool  // by how the members replicate; otherwise it was named, or stays
	missed    error // why it was not found, and stays
}

// tell logs a choice that nobody has made in the configuration.
func (c choice) tell(log *slog.Logger, before string) {
	switch {
	case c.missed != nil:
		log.Warn("the reference could not be found anew; lockstep goes on by the one that it was", "reference", c.name, "err", c.missed.Error())
	case c.found && before != "" && before != c.name:
		log.Warn("the reference is another one than before", "reference", c.name, "before", before, "reason", c.why,
			"hint", "if it is to be another one, "+nameAnother)
	case c.found:
		log.Info("the reference was found", "reference", c.name, "reason", c.why, "hint", "if it is to be another one, "+nameAnother)
	}
}

// choose says which member is the reference: the one that is named; if none is, the one that is found by how the members replicate
// now; and if that cannot be said, the one that it was before, if it still may be. While a member is another one's server by mistake
// nothing can be said: it may be the reference that has the wrong dsn.
func (g *Group) choose(ctx context.Context, c *config.Group, members []member, fresh []*member, before string) (choice, error) {
	if c.Reference != "" {
		return choice{name: c.Reference}, nil
	}
	stays := slices.ContainsFunc(members, func(m member) bool { return m.Name == before && !m.ScanOnly })
	among, err := g.contenders(ctx, c, members, fresh)
	if err == nil || !stays {
		var found choice
		if found, err = findReference(ctx, among, before); err == nil {
			return found, nil
		}
	}
	if stays {
		return choice{name: before, missed: err}, nil
	}
	return choice{}, err
}

// findReference asks all members at once how they replicate, see [preflight.Reference]. It is the one rule for a start, a reload, and
// the commands. Where not all of them answer it is that from before, unless those that do have come to replicate from another one.
func findReference(ctx context.Context, members []member, before string) (choice, error) {
	var asking errgroup.Group
	ties, silent := make([]preflight.Ties, len(members)), make([]bool, len(members))
	for i := range members {
		asking.Go(func() (err error) {
			ties[i], err = members[i].ties(ctx)
			silent[i] = err != nil
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		i := -1
		some := slices.DeleteFunc(ties, func(preflight.Ties) bool { i++; return silent[i] })
		if name, why := preflight.Successor(some); before != "" && name != "" {
			return choice{name: name, why: why, found: true}, nil
		}
		return choice{}, &StartError{Err: unknownReference(err), Unreachable: !cdc.IsSetup(err)}
	}
	met := make([]*member, len(members))
	for i := range members {
		met[i] = &members[i]
	}
	name, why, err := preflight.Reference(ties, preflight.ProveAll(ctx, claims(met)))
	if err != nil {
		return choice{}, &StartError{Err: unknownReference(err)}
	}
	return choice{name: name, why: why, found: true}, nil
}

const (
	// lookEvery is how often members are asked whether one of them has become the reference.
	lookEvery = 5 * time.Second
	// lookTwice is how often that must be the answer, one after another: while roles change it may be another one each time.
	lookTwice = 2
)

// lookout looks for a member that has become the reference while the group is watched, where nobody has named one, and tells of it once it
// was found as often as it must be.
func (g *Group) lookout(current string, moved chan<- choice) *duty.Duty {
	var last string
	times := 0
	return &duty.Duty{Name: "lookout", First: lookEvery, Every: lookEvery, Do: func(ctx context.Context) (time.Duration, error) {
		c := g.config()
		if c.Reference != "" {
			return 0, nil
		}
		g.mu.Lock()
		members := slices.Clone(g.members)
		g.mu.Unlock()
		among, err := g.contenders(ctx, c, members, nil)
		if err != nil {
			return 0, err
		}
		found, err := findReference(ctx, among, current)
		if err != nil || found.name != last {
			last, times = found.name, 0
		}
		if times++; err != nil || found.name == current || times < lookTwice {
			return 0, err
		}
		select {
		case moved <- found:
		case <-ctx.Done():
		}
		return 0, ctx.Err()
	}}
}

func unknownReference(err error) error {
	return fmt.Errorf("which member is the reference is not known: %w; %s", err, nameAnother)
}

// ties asks a member how it replicates, and who it is, unless that is known.
func (m *member) ties(ctx context.Context) (t preflight.Ties, err error) {
	if m.said == nil && m.silent == nil {
		m.meet(ctx)
	}
	if m.said == nil {
		return t, m.silent
	}
	t = preflight.Ties{Member: m.Name, Server: *m.said, ScanOnly: m.ScanOnly}
	ctx, cancel := context.WithTimeout(ctx, findWithin)
	defer cancel()
	progress, err := m.Source.Progress(ctx)
	if err != nil {
		return t, err
	}
	t.Lanes = progress.Lanes
	t.Slots, err = m.Source.Confirmed(ctx)
	return t, err
}
