package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

const (
	impactTable = `CREATE TABLE items (id bigint PRIMARY KEY, customer bigint, state text, amount numeric(12,2));
CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);`
	impactRate    = "400" // transactions a second
	impactSeconds = "5"
)

// BenchmarkLoadBesideAScrub measures, in turns, how long small transactions of a paced load take on the publisher while
// nothing is scrubbed and while a table of a million rows is, at 50,000 rows a second. Servers and load share the machine;
// lockstep gets what they leave, which takes root. It reports medians over the phases, and what the scrub makes of them.
func BenchmarkLoadBesideAScrub(b *testing.B) {
	c, err := cluster.Start(b.Context(), cluster.Options{
		Install: dbtest.Need(b, dbtest.PG15), Schema: impactTable, Subscribers: 1, DataDir: b.TempDir(), LagBudget: 30 * time.Second,
		Server: dbtest.Options{Below: dbtest.MemoryDir()},
	})
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(err)
	defer c.Close()
	must(c.Exec(b.Context(), "eu-1",
		"INSERT INTO items SELECT i, i % 50000, 'state ' || i % 4, (i % 100000) / 100.0 FROM generate_series(1, 1000000) i",
		"INSERT INTO accounts SELECT i, 0 FROM generate_series(1, 10000) i"))
	must(c.WaitCaughtUp(b.Context()))
	servers := configured{c, func(g *config.Group) { g.Scrub.Every = -1 }}
	d, err := daemon.Start(b.Context(), servers.Configuration(), daemon.Options{Version: "bench"})
	must(err)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	g := d.Groups()[0]
	must(dbtest.WaitFor(ctx, "all to be read", func(context.Context) (bool, error) {
		tables := 0
		for _, m := range g.Status().Members {
			for _, t := range m.Tables {
				if t.Verdict == "in_step" {
					tables++
				}
			}
		}
		return tables == 4, nil
	}))
	must(stepBack())
	p50 := map[bool][]float64{}
	p99 := map[bool][]float64{}
	for b.Loop() {
		for _, scrubbing := range []bool{false, true} {
			if scrubbing {
				_, err := g.RequestScrub(ctx, align.ScrubRequest{
					Tables: []string{"public.items"}, Members: []string{"eu-1"}, LastKey: json.RawMessage("250000"),
				})
				must(err)
			}
			took := pacedLoad(b, c.Member("eu-1"))
			slices.Sort(took)
			p50[scrubbing] = append(p50[scrubbing], took[len(took)/2])
			p99[scrubbing] = append(p99[scrubbing], took[len(took)*99/100])
			must(dbtest.WaitFor(ctx, "the scrub to end", func(context.Context) (bool, error) {
				return !slices.ContainsFunc(g.ScrubRequests(), func(r align.ScrubRequest) bool { return r.Finished == nil }), nil
			}))
		}
	}
	for name, list := range map[string]map[bool][]float64{"p50": p50, "p99": p99} {
		slices.Sort(list[false])
		slices.Sort(list[true])
		alone, beside := list[false][len(list[false])/2], list[true][len(list[true])/2]
		b.ReportMetric(alone, "ms-"+name)
		b.ReportMetric(beside/alone, "ratio-"+name)
	}
	stop()
	must(<-ended)
}

// stepBack leaves the processors to the servers and their load, as if lockstep ran on a machine of its own.
func stepBack() error {
	threads, err := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		var id int
		if _, err := fmt.Sscan(thread.Name(), &id); err != nil {
			return err
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, 19); err != nil {
			return err
		}
	}
	return err
}

// pacedLoad runs small transactions for a phase, by pgbench, and returns how many milliseconds each took.
func pacedLoad(b *testing.B, s *dbtest.Server) (took []float64) {
	b.Helper()
	dir := b.TempDir()
	script := filepath.Join(dir, "update.sql")
	if err := os.WriteFile(script, []byte("\\set id random(1, 10000)\nUPDATE accounts SET balance = balance + 1 WHERE id = :id;\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	pgbench := exec.CommandContext(b.Context(), filepath.Join(s.Install.Bin, "pgbench"),
		"-n", "-f", script, "-c", "4", "-j", "1", "-R", impactRate, "-T", impactSeconds, "-l", "--log-prefix", filepath.Join(dir, "took"), s.DSN(cluster.Database))
	var out strings.Builder
	pgbench.Stdout, pgbench.Stderr = &out, &out
	err := pgbench.Start()
	if err == nil {
		err = errors.Join(unix.Setpriority(unix.PRIO_PROCESS, pgbench.Process.Pid, 0), pgbench.Wait())
	}
	if err != nil {
		b.Fatalf("%v: %s", err, out.String())
	}
	logs, err := filepath.Glob(filepath.Join(dir, "took.*"))
	if err != nil || len(logs) != 1 {
		b.Fatalf("logs of pgbench: %v, %v", logs, err)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		// client, number, microseconds since it was due, script, seconds, microseconds, how late it began
		var n [7]float64
		if _, err := fmt.Sscan(line, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6]); err != nil {
			b.Fatalf("%s: %v", line, err)
		}
		took = append(took, (n[2]-n[6])/1000)
	}
	return took
}
