package monitor

import (
	"context"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Change has the group watch what other options say, while what is the same in both goes on: a member whose source is the one that it
// was keeps its stream, a table that is watched still keeps what is known of its rows. Members that are new begin as after a start.
// Sources that opt does not have any more are not used when Change returns, which is no later than Run.
//
// It is to be called while Run runs, by one goroutine at a time. The reference must be the one before.
func (g *Group) Change(ctx context.Context, opt Options) error {
	stops, err := g.leaving(ctx, opt)
	if err != nil {
		return err
	}
	for _, stop := range stops { // the goroutine of Run must not wait for others, who wait for it
		stop()
	}
	return g.do(context.WithoutCancel(ctx), func() error {
		if err := g.change(opt); err != nil {
			return g.fail(err)
		}
		return nil
	})
}

// leaving lists what ends the duties of members that do not go on as they are, and of canaries.
func (g *Group) leaving(ctx context.Context, opt Options) (stops []func(), err error) {
	err = g.do(ctx, func() error {
		for _, f := range g.feeds {
			switch {
			case !slices.Contains(opt.Members, f.Member):
				stops = append(stops, f.stop, f.canary.end)
			case !f.canary.does(opt.canary(f.Name)):
				stops = append(stops, f.canary.end)
			}
		}
		return nil
	})
	return stops, err
}

// change goes by other options. What they have no more was stopped. It runs on the ledger's goroutine.
func (g *Group) change(opt Options) error {
	g.setOptions(opt)
	g.changed = time.Now()
	if err := g.changeMembers(); err != nil {
		return err
	}
	if err := g.ledger.Resparse(); err != nil {
		return err
	}
	if err := g.ledger.Reexpect(); err != nil {
		return err
	}
	if err := g.dropUnwatched(); err != nil {
		return err
	}
	for _, f := range g.feeds {
		if f.defined != nil {
			g.judge(f)
		}
		f.pacer.Set(opt.Scrub.Settings)
		if !f.canary.does(opt.canary(f.Name)) {
			f.canary = g.newCanary(f)
		}
	}
	if err := g.define(); err != nil {
		return err
	}
	g.askCatalogs()
	if err := g.commit(); err != nil { // a scan must not write before what it writes to is empty
		return err
	}
	g.say(g.clocks())
	for _, f := range g.feeds {
		g.begin(f)
	}
	return nil
}

// changeMembers has the members be those of the options. It runs on the ledger's goroutine.
func (g *Group) changeMembers() error {
	before := g.feeds
	g.feeds, g.order = make(map[cdc.MemberID]*feed), nil
	for _, m := range g.opt().Members {
		id, err := g.state.MemberID(m.Name)
		if err != nil {
			return err
		}
		f := before[id]
		if f == nil || f.Member != m {
			if f, err = g.replace(id, f, m); err != nil {
				return err
			}
		}
		g.feeds[id], g.order = f, append(g.order, id)
	}
	for id, f := range before {
		if g.feeds[id] != nil {
			continue
		}
		f.Leave(g.log)
		if err := g.ledger.Leave(id); err != nil {
			return err
		}
	}
	return nil
}

// replace returns the feed of a member that is new, or that is watched in another way than before.
func (g *Group) replace(id cdc.MemberID, before *feed, m Member) (*feed, error) {
	f := g.newFeed(id, m)
	if before == nil {
		g.log.Info("member is watched from now on", "member", m.Name)
		g.ledger.Enter(id, m.Name, m.ScanOnly)
		return f, nil
	}
	g.log.Info("member is connected to anew, as its settings changed", "member", m.Name)
	f.applied.Store(before.applied.Load())
	f.scanned.Store(before.scanned.Load())
	if before.ScanOnly == m.ScanOnly {
		return f, nil
	}
	return f, g.ledger.Switch(id, m.ScanOnly)
}
