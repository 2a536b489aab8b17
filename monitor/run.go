package monitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/finding"
)

// Run watches the group until ctx ends. Nothing that it started is alive when it returns: a goroutine for each duty
// (duties.go). It owns ledger, feeds and state, and ends before ctx only if the state fails. After a panic of the ledger
// nothing is watched any more, which it says until ctx ends.
func (g *Group) Run(ctx context.Context) error {
	err := g.run(ctx)
	if fault.Of(err) == nil {
		return err
	}
	<-ctx.Done() // other groups go on
	return nil
}

func (g *Group) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.start = func(duties []*duty.Duty) (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		var work sync.WaitGroup
		for _, d := range duties {
			work.Go(func() { _ = d.Run(ctx) }) // which ends with the context
		}
		return func() { cancel(); work.Wait() }
	}
	for _, f := range g.feeds {
		g.begin(f)
	}
	err := g.guard(ctx)
	cancel()
	for _, f := range g.feeds {
		f.stop()
		f.canary.end()
	}
	return err
}

// begin has all be done that a feed has to do, and that was not begun.
func (g *Group) begin(f *feed) {
	if f.stop == nil {
		f.stop = g.start(f.duties)
	}
	f.canary.begin(g.start)
}

// loop applies what comes in, in order for each member, and commits it.
func (g *Group) loop(ctx context.Context) error {
	g.publish() // what was said at the opening may have been long ago
	g.looping.Store(true)
	defer g.looping.Store(false)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	commit := time.NewTimer(commitEvery)
	defer commit.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return g.commit()
		case a := <-g.events:
			err = g.arrive(a)
		case c := <-g.commands:
			g.ledger.At(time.Now())
			err = c.carryOut()
		case err = <-g.broken:
		case <-tick.C:
			err = g.tick()
		case <-commit.C:
			err = g.commit()
			commit.Reset(commitEvery)
		}
		if err == nil && g.state.Uncommitted() > commitBytes {
			err = g.commit()
		}
		if err != nil {
			return fmt.Errorf("group %s: %w", g.opt().Name, err)
		}
	}
}

// arrive queues an event and applies all that can be applied now.
func (g *Group) arrive(a arrival) error {
	f := g.feeds[a.from]
	f.held = append(f.held, a)
	return g.applyHeld()
}

// applyHeld applies queued events. Progress of the reference can set free what another member has waiting, so it goes
// on until nothing moves.
func (g *Group) applyHeld() error {
	g.ledger.At(time.Now())
	for moved := true; moved; {
		moved = false
		for _, id := range g.order {
			f := g.feeds[id]
			n, err := g.applyReady(f)
			if err != nil {
				return err
			}
			moved = moved || n > 0 && id == g.ref
		}
	}
	return nil
}

func (g *Group) applyReady(f *feed) (int, error) {
	n := 0
	for ; n < len(f.held); n++ {
		e := f.held[n].event
		if tx := e.Transaction; tx != nil {
			if !g.ledger.Ready(f.id, tx, f.held[n].at) {
				break
			}
			if err := g.ledger.Apply(f.id, e); err != nil {
				return n, err
			}
			f.applied.Add(int64(len(tx.Changes)))
			g.heed(f, tx)
		}
		g.ledger.Advance(f.id, e)
		f.held[n] = arrival{}
		<-f.credit
	}
	f.held = f.held[n:]
	if len(f.held) == 0 {
		f.held = nil
	}
	return n, g.takeClaim(f)
}

// heed asks for the catalogs to be read when a stream shows a table otherwise than it was defined.
func (g *Group) heed(f *feed, tx *cdc.Transaction) {
	for _, t := range tx.Touched {
		if t.Fault != nil {
			g.heedFault(f, t)
		}
		switch {
		case t.Table == 0:
			g.askCatalogs()
		case t.Reason != "":
			g.log.Info("table changed in a way that its rows do not show", "member", f.Name, "position", tx.End.String(), "reason", t.Reason)
			g.askCatalogs()
		}
	}
}

func (g *Group) askCatalogs() {
	for _, f := range g.feeds {
		select {
		case f.redefine <- struct{}{}:
		default: // asked already
		}
	}
}

// takeClaim hands a member's progress to the ledger once the stream has reached its barrier.
func (g *Group) takeClaim(f *feed) error {
	c := f.claim
	if c == nil || g.ledger.Position(f.id) < c.progress.Barrier {
		return nil
	}
	f.claim = nil
	g.markPartial(&c.progress)
	err := g.ledger.Progress(f.id, c.at, c.progress, c.confirmed)
	switch {
	case !cdc.IsGap(err):
		return err
	case f.ScanOnly:
		g.log.Warn("the member is read anew", "member", f.Name, "reason", err.Error())
		return g.ledger.Unverify(f.id, cdc.Position{}, cdc.Server{}, err.Error())
	}
	f.end(err)
	return nil
}

func (g *Group) tick() error {
	g.ledger.At(time.Now())
	g.checkClock()
	if err := g.takeCatalogs(); err != nil {
		return err
	}
	if err := g.applyHeld(); err != nil {
		return err
	}
	if _, err := g.ledger.Replay(); err != nil {
		return err
	}
	if err := g.ledger.Tick(); err != nil {
		return err
	}
	if g.ledger.Suspicious() {
		g.askCatalogs()
	}
	g.publish()
	if time.Since(g.pruned) < pruneEvery {
		return nil
	}
	g.pruned = time.Now()
	return g.state.Prune()
}

// commit makes what was applied durable, and only then tells the servers and people of it.
func (g *Group) commit() error {
	if err := g.ledger.Flush(); err != nil {
		return err
	}
	notices := g.ledger.Notices()
	for _, n := range notices {
		g.recorder.record(g.state, &n.Divergence)
	}
	if err := g.state.Commit(); err != nil {
		return err
	}
	for _, id := range g.order {
		g.feeds[id].Source.Durable(g.ledger.Position(id))
	}
	for _, n := range notices {
		g.tell(n.Divergence)
		g.hear(n.Divergence)
	}
	return nil
}

// tell logs a divergence.
func (g *Group) tell(d finding.Divergence) {
	attrs := []any{
		"member", d.Member, "table", d.Table, "id", d.ID, "kind", string(d.Kind), "cause", string(d.Cause), "keys", d.Keys,
	}
	if d.IntroducedBy != nil {
		attrs = append(attrs, "transaction", d.IntroducedBy.Transaction)
	}
	if d.Outcome != "" {
		attrs = append(attrs, "outcome", string(d.Outcome))
	}
	if d.Detail != "" {
		attrs = append(attrs, "detail", d.Detail)
	}
	switch {
	case d.State != finding.Open:
		g.log.Info("divergence resolved", attrs...)
	case d.Expected:
		g.log.Info("expected divergence opened", attrs...)
	default:
		g.log.Warn("divergence opened", attrs...)
	}
	if hear := g.opt().OnNotice; hear != nil {
		hear(d)
	}
}

// do runs f on the goroutine that owns the ledger and returns its error.
func (g *Group) do(ctx context.Context, f func() error) error {
	c := command{run: f, done: make(chan error, 1)}
	select {
	case g.commands <- c:
		return <-c.done
	case <-g.faults.over:
		return g.faults.overFor
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ended:
		return errEnded
	}
}

// reference is the source of the member that is the reference.
func (g *Group) reference(ctx context.Context) (source cdc.Source, err error) {
	err = g.do(ctx, func() (err error) { source, err = g.feeds[g.ref].source(); return err })
	return source, err
}

// errEnded is for what cannot be asked any more.
var errEnded = errors.New("the group is not watched any more")

// Inspect runs f on the goroutine that owns the ledger, which must not be kept. It may be called from any goroutine while
// Run runs.
func (g *Group) Inspect(ctx context.Context, f func(*align.Ledger) error) error {
	return g.do(ctx, func() error { return f(g.ledger) })
}
