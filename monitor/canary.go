package monitor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

// CanaryPlan says where lockstep writes rows that differ, to measure how long it takes until they are found.
type CanaryPlan struct {
	Table string // (id bigint primary key, note text), of a plain name; empty: there is none
	Every time.Duration
	Into  func(member string) bool
	// Patience is how long after the lag budget a canary may be found; 0: a minute.
	Patience time.Duration
}

const (
	// CanaryHint says what it takes to write a canary.
	CanaryHint     = "the table is to have columns (id bigint PRIMARY KEY, note text), and lockstep's role the rights to SELECT, INSERT and DELETE"
	canaryNote     = "written by lockstep to see how fast it is found"
	canaryPatience = time.Minute     // after the lag budget
	canaryLook     = 5 * time.Second // between two looks at whether a canary can be written
)

// canary is the one of a member.
type canary struct {
	plan    CanaryPlan
	probe   *duty.Duty
	stop    func() // ends it, and waits; set by the goroutine of Run
	notices chan finding.Divergence
	left    bool // there may be one in the table; owned by probe

	mu     sync.Mutex
	status status.Canary
}

// newCanary makes the canary of a member; nil: it has none.
func (g *Group) newCanary(f *feed) *canary {
	plan := g.opt().canary(f.Name)
	if plan.Table == "" {
		return nil
	}
	c := &canary{plan: plan, notices: make(chan finding.Divergence, 16), left: true, status: status.Canary{Every: plan.Every}}
	c.probe = g.probe(f, c)
	return c
}

// canary is what the one of a member has to do; zero: it has none.
func (o *Options) canary(member string) (plan CanaryPlan) {
	if c := o.Canary; c.Table != "" && member != o.Reference && c.Into(member) {
		plan = CanaryPlan{Table: c.Table, Every: c.Every, Patience: cmp.Or(c.Patience, canaryPatience)}
	}
	return plan
}

// does reports whether a canary is what a plan for its member says.
func (c *canary) does(plan CanaryPlan) bool {
	if c == nil {
		return plan.Table == ""
	}
	return c.plan.Table == plan.Table && c.plan.Every == plan.Every && c.plan.Patience == plan.Patience
}

func (c *canary) duties() []*duty.Duty {
	if c == nil {
		return nil
	}
	return []*duty.Duty{c.probe}
}

func (c *canary) begin(start func([]*duty.Duty) (stop func())) {
	if c != nil && c.stop == nil {
		c.stop = start(c.duties())
	}
}

// end waits until the canary has taken its row away.
func (c *canary) end() {
	if c != nil {
		c.stop()
	}
}

// Status may be called from any goroutine.
func (c *canary) Status() *status.Canary {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	return &s
}

// noticed is told of each divergence of the table on the member. It never blocks: a canary that looks at nothing needs none.
func (c *canary) noticed(d finding.Divergence) {
	select {
	case c.notices <- d:
	default:
	}
}

// hear tells a canary of a divergence of its table.
func (g *Group) hear(d finding.Divergence) {
	for _, f := range g.feeds {
		if c := f.canary; c != nil && f.Name == d.Member && c.plan.Table == d.Table {
			c.noticed(d)
		}
	}
}

// errMissed is for a canary that nobody has found.
var errMissed = errors.New("it was not found in time")

// probe writes a row into the member from time to time, and measures how long it takes until it is found.
func (g *Group) probe(f *feed, c *canary) *duty.Duty {
	plan := c.plan
	look := min(canaryLook, plan.Every)
	d := &duty.Duty{
		Name: "probe", First: look, Every: plan.Every,
		Do: func(ctx context.Context) (next time.Duration, err error) {
			if c.left { // by a lockstep that was killed, or while the member was away: with it the table is never in step
				err := c.clear(ctx, f)
				switch {
				case err == nil:
					return duty.AtOnce, nil
				case ctx.Err() != nil || errors.Is(err, errStranger):
					return look, ctx.Err()
				}
				c.record(0, err)
				return troubleWait, err
			}
			if !g.inStep(f, plan.Table) {
				return look, nil // what is open on the member already, or cannot be known, says it all
			}
			return 0, g.probeOnce(ctx, f, c)
		},
		Failed: func(err error, _ time.Duration) {
			if errors.Is(err, errMissed) {
				g.log.Error("a canary was not found", "member", f.Name, "table", plan.Table, "within", g.canaryTime(plan).String())
				return
			}
			g.log.Error("no canary could be written", "member", f.Name, "table", plan.Table, "err", err.Error(), "hint", CanaryHint)
		},
	}
	return g.hearPanics(f, []*duty.Duty{d})[0]
}

// probeOnce writes a row, and records what became of it.
func (g *Group) probeOnce(ctx context.Context, f *feed, c *canary) error {
	took, err := g.writeAndAwait(ctx, f, c)
	if ctx.Err() != nil {
		g.clearLater(ctx, f, c)
		return ctx.Err()
	}
	c.record(took, err)
	switch {
	case err != nil:
		return err
	case took == 0:
		return errMissed
	}
	g.log.Info("a canary was found", "member", f.Name, "table", c.plan.Table, "after", took.Round(time.Millisecond).String())
	return nil
}

func (c *canary) record(took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.status.Failed++
	case took == 0:
		c.status.Missed++
	default:
		c.status.Found++
		c.status.Last, c.status.LastFound = took, time.Now()
	}
}

// inStep reports whether the member is said to hold what it must in the table.
func (g *Group) inStep(f *feed, table string) bool {
	for _, m := range g.Status().Members {
		if m.ID != f.id {
			continue
		}
		i := slices.IndexFunc(m.Tables, func(t status.Table) bool { return t.Table == table })
		return m.Role == "replica" && i >= 0 && m.Tables[i].Verdict == status.InStep
	}
	return false
}

// canaryTime is how long after its commit a row may be found.
func (g *Group) canaryTime(plan CanaryPlan) time.Duration {
	return g.opt().Budget(plan.Table) + plan.Patience
}

// writeAndAwait writes a row and takes it away again, once it was found or cannot be expected to be found any more: that took 0.
func (g *Group) writeAndAwait(ctx context.Context, f *feed, c *canary) (took time.Duration, err error) {
	for len(c.notices) > 0 {
		<-c.notices
	}
	id := time.Now().UnixMilli()
	c.left = true
	err = f.execute(ctx, c.plan.Table, writeCanary(c.plan.Table, id))
	if err != nil {
		return 0, err
	}
	written := time.Now()
	if d := c.await(ctx, g.canaryTime(c.plan), func(d finding.Divergence) bool { return d.State == finding.Open && holds(d, id) }); d != nil {
		took = max(d.ConfirmedAt.Sub(written), time.Millisecond)
	}
	if err := c.clear(ctx, f); err != nil {
		return took, err
	}
	if took > 0 { // the next one is to begin with no difference
		c.await(ctx, canaryPatience, func(d finding.Divergence) bool { return d.State == finding.Resolved && holds(d, id) })
	}
	return took, nil
}

// clear takes our own rows away, and no others.
func (c *canary) clear(ctx context.Context, f *feed) error {
	err := f.execute(ctx, c.plan.Table, takeCanaries(c.plan.Table))
	c.left = err != nil
	return err
}

// execute writes to the member, if it is known to be the member.
func (f *feed) execute(ctx context.Context, table, statement string) error {
	source, err := f.source()
	if err != nil {
		return err
	}
	return source.Execute(ctx, table, statement)
}

// CanaryStatements write a canary of that id into a table, and take away those that are there.
func CanaryStatements(table string, id int64) []string {
	return []string{writeCanary(table, id), takeCanaries(table)}
}

func writeCanary(table string, id int64) string {
	return fmt.Sprintf("INSERT INTO %s (id, note) VALUES (%d, '%s')", table, id, canaryNote)
}

func takeCanaries(table string) string {
	return fmt.Sprintf("DELETE FROM %s WHERE note = '%s'", table, canaryNote)
}

// clearLater does so while lockstep ends. What it cannot is done before the next canary.
func (g *Group) clearLater(ctx context.Context, f *feed, c *canary) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := c.clear(ctx, f); err != nil {
		g.log.Debug("a canary was left", "member", f.Name, "err", err.Error())
	}
}

// await returns the first divergence that fits, or nil when time is up.
func (c *canary) await(ctx context.Context, patience time.Duration, fits func(finding.Divergence) bool) *finding.Divergence {
	late := time.After(patience)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-late:
			return nil
		case d := <-c.notices:
			if fits(d) {
				return &d
			}
		}
	}
}

// holds reports whether the one range of a divergence is the row of that id.
func holds(d finding.Divergence, id int64) bool {
	var key struct {
		ID int64 `json:"id"`
	}
	return len(d.Ranges) > 0 && json.Unmarshal(d.Ranges[0].First, &key) == nil && key.ID == id
}
