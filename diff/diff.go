// Package diff compares the tables of a replication group once, row by row, while the group is written to.
//
// Replicas lag, and no row is locked, so a difference between two reads says little. Each part of a table is read on the
// reference and then on the member; rows that are equal are done with. What differs is only suspected, and judged by
// reading it again, in an order that leaves lag no way to look like a difference:
//
//	the reference's row          r
//	a mark: all that the reference had committed by then
//	wait until the member has replayed all up to the mark
//	the member's row             m
//	wait until the reference shows all that the member had by then
//	the reference's row          r'
//
// If m is r or r' the row is in step. If r is r' and m another, either the row differs or the reference wrote it twice in
// between, there and back; so it must come out like that again and again, or once while the reference wrote nothing at all.
// A row that never stands still, and a member that cannot be waited for, are said to be unverified, never to be the same.
package diff

import (
	"context"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

// Options say what is compared. Match, Exclude, Budget and NewID are required; the other zero values work.
type Options struct {
	Group     string
	Reference Member
	Members   []Member // the others
	// Match reports whether a table is compared.
	Match func(table string) bool
	// Exclude lists the columns of a table that are left out.
	Exclude func(table string) []string
	// Budget is how long a difference of a table may last.
	Budget func(table string) time.Duration
	// Wait is how long a member may take to replay what the reference had; nil: the budget.
	Wait *time.Duration
	// MaxRowsPerSecond bounds what is read of each server; 0: nothing does.
	MaxRowsPerSecond int
	NewID            func(time.Time) string

	// AllowMissingColumns has a table be in step although one side has columns that the other lacks, which cannot be compared.
	AllowMissingColumns bool

	PartRows    int // rows of the reference that are read at once; 0: 20,000
	MaxWhole    int // rows of a table that can only be read whole; 0: 1,000,000
	MaxSuspects int // keys of one table that may wait to be judged; 0: 1,000,000
	MaxRanges   int // ranges that one divergence lists; 0: 1,000
}

// Member is one server of the group.
type Member struct {
	Name   string
	Reader cdc.Member
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		value *int
		or    int
	}{{&o.PartRows, 20_000}, {&o.MaxWhole, 1_000_000}, {&o.MaxSuspects, 1_000_000}, {&o.MaxRanges, finding.MaxRanges}} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	if o.MaxRowsPerSecond > 0 {
		o.PartRows = min(o.PartRows, max(o.MaxRowsPerSecond/2, 1))
	}
	return o
}

func (o Options) wait(table string) time.Duration {
	if o.Wait != nil {
		return *o.Wait
	}
	return o.Budget(table)
}

// Comparison compares one group once.
type Comparison struct {
	opt     Options
	ref     *side
	members []*side

	mu    sync.Mutex
	steps []*step // guarded by mu: what is going on now
}

// New returns a comparison that has not begun. It reads nothing.
func New(o Options) *Comparison {
	o = o.withDefaults()
	c := &Comparison{opt: o, ref: newSide(o.Reference, o.MaxRowsPerSecond)}
	for _, m := range o.Members {
		c.members = append(c.members, newSide(m, o.MaxRowsPerSecond))
	}
	return c
}

// Run compares all tables. An error says why nothing can be said at all; what keeps a single table from being compared
// is in the report.
func (c *Comparison) Run(ctx context.Context) (*Report, error) {
	r := &Report{Group: c.opt.Group, Reference: c.ref.name, Began: time.Now()}
	if err := c.meet(ctx); err != nil {
		return nil, err
	}
	for _, name := range c.tableNames() {
		results := c.compareTable(ctx, name)
		if err := ctx.Err(); err != nil {
			return nil, &Error{Err: context.Cause(ctx)}
		}
		r.Results = append(r.Results, results...)
	}
	r.Ended = time.Now()
	return r, nil
}

// compareTable compares one table on all members.
func (c *Comparison) compareTable(ctx context.Context, name string) []Result {
	pairs := c.define(name)
	var ordered, whole []*pair
	for _, p := range pairs {
		switch {
		case p.reason != "":
		case p.refTable.Order == cdc.Unordered || p.table.Order == cdc.Unordered:
			whole = append(whole, p)
		default:
			ordered = append(ordered, p)
		}
	}
	fit := append(ordered[:len(ordered):len(ordered)], whole...)
	each(fit, func(p *pair) { p.locate(ctx, p.from) })
	for _, alike := range byClass(ordered) {
		c.walk(ctx, alike)
	}
	for _, p := range whole {
		p.compareWhole(ctx)
	}
	each(fit, func(p *pair) {
		if p.failed == nil {
			p.fail(ctx, p.resolve(ctx))
		}
		p.locate(ctx, p.to)
	})
	results := make([]Result, len(pairs))
	for i, p := range pairs {
		results[i] = p.result()
	}
	return results
}

// each does something with all pairs at once.
func each(pairs []*pair, do func(*pair)) {
	var work sync.WaitGroup
	for _, p := range pairs {
		work.Go(func() { do(p) })
	}
	work.Wait()
}

// Step is something that takes a while.
type Step struct {
	status.ScanProgress
	Waits string // for what; empty: rows are read
}

type step struct {
	Step       // guarded by Comparison.mu
	side *side // whose rows count
	base int64 // that it had read before
}

// Steps returns what is going on now. It may be called from any goroutine.
func (c *Comparison) Steps() []Step {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Step, len(c.steps))
	for i, s := range c.steps {
		list[i] = s.Step
		list[i].Rows = s.side.rows.Load() - s.base
	}
	return list
}

// begin enters a step that lasts until the function that it returns is called.
func (c *Comparison) begin(s *side, t cdc.Table, waits string) (end func()) {
	x := &step{side: s, base: s.rows.Load()}
	x.Step = Step{status.ScanProgress{Member: s.name, Table: t.Name, OfRows: t.Rows, Started: time.Now()}, waits}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, x)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, other := range c.steps {
			if other == x {
				c.steps = append(c.steps[:i:i], c.steps[i+1:]...)
				return
			}
		}
	}
}
