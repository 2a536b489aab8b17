package monitor_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"lockstep/align"
	"lockstep/config"
	"lockstep/internal/cluster"
	"lockstep/internal/dbtest"
	"lockstep/monitor"
)

const (
	impactTable = `CREATE TABLE items (id bigint PRIMARY KEY, customer bigint, state text, amount numeric(12,2));
CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);`
	impactClients = 4
	impactPause   = 8 * time.Millisecond // of each client between two transactions
	impactPhase   = 5 * time.Second
)

// BenchmarkLoadBesideAScrub measures, in turns, how long small transactions of a paced load take on the publisher while
// nothing is scrubbed and while a table of a million rows is, at 50,000 rows a second of each member. Server, load and
// lockstep share the machine. It reports medians over the phases, and what the scrub makes of them.
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
	d, err := monitor.Start(b.Context(), servers.Configuration(), monitor.DaemonOptions{Version: "bench"})
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
	p50 := map[bool][]float64{}
	p99 := map[bool][]float64{}
	for b.Loop() {
		for _, scrubbing := range []bool{false, true} {
			if scrubbing {
				_, err := g.RequestScrub(ctx, align.ScrubRequest{Tables: []string{"public.items"}})
				must(err)
			}
			took, err := pacedLoad(ctx, c.Member("eu-1"))
			must(err)
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

// pacedLoad runs small transactions for a phase and returns how many milliseconds each took.
func pacedLoad(ctx context.Context, s *dbtest.Server) ([]float64, error) {
	var mu sync.Mutex
	var took []float64
	var failed error
	var clients sync.WaitGroup
	end := time.Now().Add(impactPhase)
	for range impactClients {
		clients.Go(func() {
			conn, err := s.Conn(ctx)
			if err == nil {
				defer conn.Close(ctx)
			}
			for err == nil && time.Now().Before(end) {
				began := time.Now()
				_, err = conn.Exec(ctx, "UPDATE accounts SET balance = balance + 1 WHERE id = $1", 1+rand.IntN(10_000))
				mu.Lock()
				took = append(took, float64(time.Since(began).Microseconds())/1000)
				mu.Unlock()
				<-time.After(impactPause)
			}
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return took, failed
}
