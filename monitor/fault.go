package monitor

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/status"
)

// How a mistake of lockstep's own is kept from spreading:
//
//   - what panics while a table's change is decoded puts that table in doubt (in the sources, [cdc.Touched]);
//   - what panics while a table's rows are read or judged is an error of that table;
//   - what panics while a stream is read ends that stream, and is a hole in it: read on from the same place, it would panic again;
//   - what panics in another duty is a failure of that duty (package duty);
//   - what panics on the goroutine that owns the ledger ends the group: nothing that is kept of it can be trusted.

// faults are the panics of a group. They may be reached from any goroutine.
type faults struct {
	mu   sync.Mutex
	said map[string]bool // guarded by mu; where there were some that the log has the stack of

	over    chan struct{} // closed when the group has ended by one
	overFor error         // that one; set before over is closed
}

func newFaults() faults { return faults{said: make(map[string]bool), over: make(chan struct{})} }

// saw logs a panic, with its stack if it is the first one of its place.
func (g *Group) saw(e *fault.Error, attrs ...any) {
	g.faults.mu.Lock()
	known := g.faults.said[e.Where]
	g.faults.said[e.Where] = true
	g.faults.mu.Unlock()
	if known {
		g.log.Error(e.Error(), attrs...)
		return
	}
	g.log.Error(e.Error(), append(attrs, "stack", string(e.Stack))...)
}

// alone does something for one table of a member. A panic is an error of that table.
func (g *Group) alone(f *feed, table string, work func() error) error {
	err := fault.Catch(work)
	if e := fault.Of(err); e != nil {
		f.faults.Add(1)
		g.saw(e, "member", f.Name, "table", table)
	}
	return err
}

// pause is how long something that fails is left alone: twice as long each time in a row.
type pause struct {
	until time.Time
	wait  time.Duration
}

const (
	// tableRetry and lastTableRetry bound how long a table is left alone that could not be read, lastFaultRetry one by which
	// lockstep has panicked.
	tableRetry     = scanRetry
	lastTableRetry = lastRetry
	firstFault     = time.Second
	lastFaultRetry = 10 * time.Minute
)

// next is the pause after a failure, with err its reason.
func (p pause) next(now time.Time, err error) pause {
	first, last := tableRetry, lastTableRetry
	if fault.Of(err) != nil {
		first, last = firstFault, lastFaultRetry
	}
	if p.over(now.Add(-2 * last)) { // it went well for long
		p.wait = 0
	}
	wait := min(max(2*p.wait, first), last)
	return pause{now.Add(wait), wait}
}

func (p pause) over(now time.Time) bool { return !now.Before(p.until) }

// guard runs the group's loop. What panics there is the end of the group.
func (g *Group) guard(ctx context.Context) error {
	err := fault.Catch(func() error { return g.loop(ctx) })
	if e := fault.Of(err); e != nil {
		g.saw(e)
		g.log.Error("the group is not watched any more; restart lockstep to have it watched again")
		g.faults.overFor = errors.New(err.Error()) // for who asks it is no panic of his
		g.giveUp(err)
		close(g.faults.over)
		return err
	}
	close(g.ended)
	return err
}

// giveUp says of everything in the group that it is not known. It is the last that is said.
func (g *Group) giveUp(err error) {
	last := *cmp.Or(g.status.Load(), &status.Group{Name: g.opt().Name, Reference: g.opt().Reference})
	last.At, last.Panics = time.Now().UTC(), last.Panics+1
	last.Members = append([]status.Member(nil), last.Members...)
	for i := range last.Members {
		m := &last.Members[i]
		m.Trouble = err.Error()
		m.Tables = append([]status.Table(nil), m.Tables...)
		for j := range m.Tables {
			m.Tables[j].Verdict, m.Tables[j].Reason = status.Unverified, err.Error()
		}
	}
	last.Scans = nil
	last.Complete()
	g.status.Store(&last)
}

// carryOut runs a command and answers it. It returns the panic in it, if there was one.
func (c command) carryOut() error {
	err := fault.Catch(c.run)
	c.done <- err
	if fault.Of(err) == nil {
		return nil
	}
	return err
}

// heedFault takes note of a table by whose change lockstep has panicked: it is read anew, but not at once for each such change. It
// runs on the ledger's goroutine.
func (g *Group) heedFault(f *feed, t cdc.Touched) {
	f.faults.Add(1)
	f.later[t.Table] = f.later[t.Table].next(time.Now(), t.Fault)
	g.saw(t.Fault, "member", f.Name, "table", g.ledger.Epochs()[t.Table].Shape.Table)
}
