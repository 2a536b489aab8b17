// Package demo shows lockstep at work on real servers that it starts itself: replication under load, differences made on
// purpose, each one found with its exact keys, and healed.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/web"
)

// Options of a demo. Engine must be set; with nothing else it prints text for people.
type Options struct {
	Engine    Engine
	LagBudget time.Duration // 0: 2 s
	Warmup    time.Duration // of load before the first injection; 0: 5 s
	// Pauses makes the replicating members stop replaying now and then during the warmup, for less than the lag budget.
	Pauses    bool
	LargeRows int           // of the largest transactions of the load; 0: 2,000
	Breath    time.Duration // that each client of the load takes after a transaction; 0: 5 ms
	JSON      bool          // one JSON object a line
	Color     bool
	Out       io.Writer
	Logger    *slog.Logger // of lockstep itself; nil: discard
	// Linger keeps everything running after the last step until ctx ends, so that one can look around.
	Linger bool
}

// Summary is the last line of a demo.
type Summary struct {
	Event        string  `json:"event"` // summary
	Engine       string  `json:"engine"`
	Injected     int     `json:"injected"`
	Found        int     `json:"found"`
	Exact        int     `json:"exact"`
	Healed       int     `json:"healed"`
	FalseAlarms  int     `json:"false_alarms"`
	Keys         int64   `json:"keys"`
	SlowestFound float64 `json:"slowest_found_seconds"` // after the write, the lag budget included
	LagBudget    float64 `json:"lag_budget_seconds"`
	Transactions int64   `json:"transactions"` // of the load
	Rows         int64   `json:"rows"`         // written by the load
	Seconds      float64 `json:"seconds"`
}

// OK reports whether every difference was found with exactly its keys, nothing else was reported, and all healed.
func (s Summary) OK() bool {
	return s.Injected > 0 && s.Found == s.Injected && s.Exact == s.Injected && s.Healed == s.Injected && s.FalseAlarms == 0
}

// demo is one run.
type demo struct {
	opt     Options
	out     *printer
	dir     string
	stage   stage
	tables  map[string]table // of the load, by name
	load    *load.Load
	daemon  *daemon.Daemon
	front   *web.Front
	summary Summary
	claimed map[string]bool // ids of divergences that an injection explains

	mu     sync.Mutex
	opened map[string]finding.Divergence // every divergence that was ever opened, guarded by mu
}

// Run carries out the demo. The error is for what kept it from being carried out; whether lockstep did well is in the
// Summary.
func Run(ctx context.Context, o Options) (Summary, error) {
	if o.Engine.start == nil {
		return Summary{}, errors.New("the demo has no engine to be played on")
	}
	if o.LagBudget == 0 {
		o.LagBudget = 2 * time.Second
	}
	if o.Warmup == 0 {
		o.Warmup = 5 * time.Second
	}
	if o.Breath == 0 {
		o.Breath = 5 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &demo{opt: o, out: newPrinter(o), claimed: make(map[string]bool), opened: make(map[string]finding.Divergence)}
	d.summary = Summary{Event: "summary", Engine: o.Engine.Name, LagBudget: o.LagBudget.Seconds()}
	began := time.Now()
	err := d.run(ctx)
	d.summary.Seconds = time.Since(began).Seconds()
	if err == nil {
		d.out.summary(d.summary)
	}
	return d.summary, err
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "lockstep-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	d.out.step("starting three servers of %s", d.opt.Engine.Title)
	if d.stage, err = d.opt.Engine.start(ctx, cluster.Options{DataDir: filepath.Join(d.dir, "data"), LagBudget: d.opt.LagBudget}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stage.Close()) }()
	d.out.step("%s", d.stage.dialect().cast)
	if err := d.readTables(ctx); err != nil {
		return err
	}
	writer := d.stage.DSN("eu-1")
	if err := load.Fill(ctx, writer); err != nil {
		return err
	}
	d.load = load.Start(ctx, writer, load.Options{Pause: d.opt.Breath, Large: d.opt.LargeRows})
	defer func() { err = errors.Join(err, d.load.Stop()) }()
	return d.watch(ctx)
}

// watch starts lockstep and plays the story.
func (d *demo) watch(ctx context.Context) (err error) {
	options := daemon.Options{Version: "demo", Logger: d.opt.Logger, OnNotice: d.notice}
	c := d.stage.Configuration()
	if d.front, err = web.Listen(ctx, c.Listen, "", d.opt.Logger); err != nil {
		return err
	}
	if d.daemon, err = daemon.Start(ctx, c, options); err != nil {
		return errors.Join(err, d.front.Close())
	}
	d.front.Use(d.daemon.API())
	d.out.step("lockstep watches all three under load: http://%s/api/v1/divergences", d.front.Addr())
	running, stop := context.WithCancel(ctx)
	work, running := errgroup.WithContext(running)
	work.Go(func() error { return d.daemon.Run(running) })
	work.Go(func() error { return d.front.Serve(running) })
	defer func() {
		stop()
		err = errors.Join(err, work.Wait())
	}()
	return d.play(ctx)
}

func (d *demo) play(ctx context.Context) error {
	if err := d.waitFor(ctx, "all tables to be read and compared", d.compared); err != nil {
		return err
	}
	d.out.step("all tables are read and compared; load goes on for %v with nothing to be found", d.opt.Warmup)
	if err := d.warmUp(ctx); err != nil {
		return err
	}
	injections := d.story()
	for _, in := range injections {
		if err := d.inject(ctx, in); err != nil {
			return fmt.Errorf("%s on %s: %w", in.name, in.member, err)
		}
	}
	d.out.step("healing all of it")
	for _, in := range injections {
		if err := in.heal(ctx); err != nil {
			return fmt.Errorf("heal %s on %s: %w", in.name, in.member, err)
		}
	}
	for _, in := range injections {
		if err := d.awaitHealed(ctx, in); err != nil {
			return err
		}
	}
	if err := d.verifySame(ctx); err != nil {
		return err
	}
	d.countFalseAlarms()
	d.summary.Transactions, d.summary.Rows = d.load.Counts().Transactions.Load(), d.load.Counts().Rows.Load()
	if d.opt.Linger {
		d.out.step("everything keeps running until you press Ctrl-C: curl http://%s/api/v1/groups", d.front.Addr())
		<-ctx.Done()
	}
	return nil
}

// warmUp lets the load go on with nothing to be found.
func (d *demo) warmUp(ctx context.Context) error {
	if !d.opt.Pauses {
		return sleep(ctx, d.opt.Warmup)
	}
	until := time.Now().Add(d.opt.Warmup)
	for n := 0; time.Now().Before(until); n++ {
		// Pauses must not add up to a lag that is worth an alarm.
		if err := d.waitFor(ctx, "both to catch up", func(context.Context) (bool, error) { return d.caughtUp(), nil }); err != nil {
			return err
		}
		member := []string{"us-1", "us-2"}[n%2]
		if err := d.stage.Pause(ctx, member); err != nil {
			return err
		}
		if err := sleep(ctx, rand.N(d.opt.LagBudget/3)); err != nil {
			return err
		}
		if err := d.stage.Resume(ctx, member); err != nil {
			return err
		}
		if err := sleep(ctx, rand.N(time.Second)); err != nil {
			return err
		}
	}
	return d.waitFor(ctx, "both to catch up", func(context.Context) (bool, error) { return d.caughtUp(), nil })
}

func (d *demo) caughtUp() bool {
	for _, m := range d.daemon.Groups()[0].Status().Members {
		if time.Duration(m.Behind) > d.opt.LagBudget/3 {
			return false
		}
	}
	return true
}

// notice is called by lockstep for each divergence that opens or resolves.
func (d *demo) notice(v finding.Divergence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened[v.ID] = v
}

// compared reports whether every table of every member is live and compared with the reference's.
func (d *demo) compared(context.Context) (bool, error) {
	for _, m := range d.daemon.Groups()[0].Status().Members {
		if m.Trouble != "" {
			d.opt.Logger.Debug("not yet", "member", m.Name, "err", m.Trouble)
		}
		if len(m.Tables) == 0 {
			return false, nil
		}
		for _, t := range m.Tables {
			if !t.Live || m.Role != "reference" && t.ComparedAt.IsZero() {
				return false, nil
			}
		}
	}
	return true, nil
}

// open returns the divergences that are open now, as the API shows them.
func (d *demo) open() (map[string]finding.Divergence, error) {
	open := make(map[string]finding.Divergence)
	err := d.daemon.Groups()[0].Divergences(func(v *finding.Divergence) bool {
		if v.State == finding.Open {
			open[v.ID] = *v
		}
		return true
	})
	return open, err
}

// patience bounds each wait of the demo.
const patience = 90 * time.Second

func (d *demo) waitFor(ctx context.Context, what string, met func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return dbtest.WaitFor(ctx, what, met)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// countFalseAlarms counts what lockstep reported and nobody had injected.
func (d *demo) countFalseAlarms() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, v := range d.opened {
		if !d.claimed[id] {
			d.summary.FalseAlarms++
			d.out.falseAlarm(v)
		}
	}
}
