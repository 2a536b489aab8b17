package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(programOf); file != "" {
		fmt.Fprintln(os.Stderr, beProgram(file))
		os.Exit(1)
	}
	os.Exit(dbtest.Main(m))
}

// watch is lockstep at work on real servers.
type watch struct {
	t      *testing.T
	c      servers
	daemon *daemon.Daemon
	stop   func()
	// inParts has all tables read in parts, and resumed counts the scans that went on after an interruption.
	inParts bool
	resumed atomic.Int64
	opened  atomic.Int64           // streams
	opens   tally                  // the same by member
	drops   tally                  // members of which it was said that they are not watched any more, and how their slots are dropped
	reads   tally                  // tables that were begun to be read for the first time, by member and table
	jumped  atomic.Int64           // how often the clock did
	tune    func(*monitor.Options) // if set, changes how the group is run
	found   map[string]bool        // ids of the divergences that finds has found
}

// servers is a cluster of any engine.
type servers interface {
	Configuration() *config.Config
	Exec(ctx context.Context, member string, statements ...string) error
	WaitCaughtUp(ctx context.Context) error
}

const oneTable = `CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric);`

// startCluster starts servers that end with the test.
func startCluster(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	t.Parallel()
	o.Install = dbtest.Need(t, dbtest.PG15)
	o.Server.Below, o.Server.Reuse = dbtest.MemoryDir(), o.Server.Conf == nil
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	if o.LagBudget == 0 {
		o.LagBudget = time.Second
	}
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close cluster: %v", err)
		}
	})
	return c
}

// startWatch starts lockstep on a cluster.
func startWatch(t *testing.T, c servers) *watch {
	t.Helper()
	w := &watch{t: t, c: c}
	w.start()
	return w
}

func (w *watch) start() {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(testLog{w}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	options := daemon.Options{Version: "test", Logger: log}.Tuned(func(o *monitor.Options) {
		if w.tune != nil {
			w.tune(o)
		}
		if w.inParts {
			o.PartsFrom = -1 // also of tables of which the server does not know how many rows they have
		}
	})
	d, err := daemon.Start(w.t.Context(), w.c.Configuration(), options)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.daemon = d
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("lockstep ended with: %v", err)
		}
	}
	w.t.Cleanup(w.stop)
}

// testLog shows lockstep's log if the test fails.
type testLog struct{ *watch }

func (l testLog) Write(b []byte) (int, error) {
	switch line := string(b); {
	case strings.Contains(line, "in parts") && !strings.Contains(line, "after_rows=0"):
		l.resumed.Add(1)
	case strings.Contains(line, "change stream opened"):
		l.opened.Add(1)
		l.opens.add(attribute(line, "member"))
	case strings.Contains(line, `"reading table`):
		l.reads.add(attribute(line, "member") + " " + attribute(line, "table"))
	case strings.Contains(line, "pg_drop_replication_slot"):
		l.drops.add(attribute(line, "member"))
	case strings.Contains(line, "the clock was set"):
		l.jumped.Add(1)
	}
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// tally counts by name. It may be used from any goroutine.
type tally struct {
	mu sync.Mutex
	n  map[string]int // guarded by mu
}

func (c *tally) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[name]++
}

func (c *tally) now() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

// attribute is one of a line of the log.
func attribute(line, name string) string {
	_, rest, _ := strings.Cut(line, " "+name+"=")
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(value)
}

func (w *watch) until(what string, met func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	err := dbtest.WaitFor(ctx, what, func(context.Context) (bool, error) { return met(), nil })
	if err != nil {
		b, _ := json.MarshalIndent(w.daemon.Groups()[0].Status().Members, "", " ")
		open, _ := json.MarshalIndent(w.open(), "", " ")
		w.t.Fatalf("%v\n%s\n%s", err, b, open)
	}
}

func (w *watch) table(member, table string) status.Table {
	for _, m := range w.daemon.Groups()[0].Status().Members {
		if m.Name == member {
			for _, t := range m.Tables {
				if t.Table == table {
					return t
				}
			}
		}
	}
	return status.Table{}
}

// inStep waits until all tables of all members are in step.
func (w *watch) inStep() {
	w.t.Helper()
	w.until("everything to be in step", func() bool {
		tables := 0
		for _, m := range w.daemon.Groups()[0].Status().Members {
			for _, t := range m.Tables {
				tables++
				if t.Verdict != status.InStep {
					return false
				}
			}
		}
		return tables > 0
	})
}

// forgets waits until nothing is said any more of a table that was dropped on all members, or open of it.
func (w *watch) forgets(table string) {
	w.t.Helper()
	w.until(table+" to be forgotten", func() bool { return w.table("us-1", table).Table == "" && w.table("eu-1", table).Table == "" })
	w.finds()
	w.inStep()
}

func (w *watch) exec(member string, sql ...string) {
	w.t.Helper()
	if err := w.c.Exec(w.t.Context(), member, sql...); err != nil {
		w.t.Fatalf("%s: %v", member, err)
	}
}

func (w *watch) replayed() {
	w.t.Helper()
	if err := w.c.WaitCaughtUp(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watch) divergences() []finding.Divergence {
	var list []finding.Divergence
	err := w.daemon.Groups()[0].Divergences(func(d *finding.Divergence) bool {
		list = append(list, *d)
		return true
	})
	if err != nil {
		w.t.Error(err)
	}
	return list
}

func (w *watch) open() []finding.Divergence {
	return slices.DeleteFunc(w.divergences(), func(d finding.Divergence) bool { return d.State != finding.Open })
}

// summary spells a divergence: us-1 public.items changed errant_transaction {"id":1}..{"id":3}.
func summary(d finding.Divergence) string {
	var ranges []string
	for _, r := range d.Ranges {
		ranges = append(ranges, fmt.Sprintf("%s..%s", r.First, r.Last))
	}
	return fmt.Sprintf("%s %s %s %s %s", d.Member, d.Table, d.Kind, d.Cause, strings.Join(ranges, " "))
}

// finds waits until exactly these divergences are open. They are no false alarms.
func (w *watch) finds(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	var got []string
	w.until(fmt.Sprintf("divergences %q to be open", want), func() bool {
		open := w.open()
		got = nil
		for _, d := range open {
			got = append(got, summary(d))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return false
		}
		w.expect(open)
		return true
	})
}

func (w *watch) expect(list []finding.Divergence) {
	if w.found == nil {
		w.found = make(map[string]bool)
	}
	for _, d := range list {
		w.found[d.ID] = true
	}
}

// neverDiverged fails the test if a divergence was ever opened that finds has not found. That a replica was late is no false alarm: on a
// busy machine any is, for longer than any budget.
func (w *watch) neverDiverged() {
	w.t.Helper()
	for _, d := range w.divergences() {
		if !w.found[d.ID] && d.Kind != finding.Stale {
			w.t.Errorf("false alarm: %s (%s, %s)", summary(d), d.State, d.Detail)
		}
	}
}
