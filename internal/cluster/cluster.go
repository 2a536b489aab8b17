// Package cluster starts replicated databases that are ready to be watched: for the demo and for tests.
//
// There is one type for each family of engines, since their tests need the servers' own types. What a story needs of
// any of them has the same methods on all: Exec, Query, WaitCaughtUp, Pause, Resume, Skip.
package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// Database is the one that is replicated.
const Database = "app"

// Options of a cluster. The zero value is a server that is written to and two that replicate its empty schema.
type Options struct {
	Install     dbtest.Install // of PostgreSQL
	Subscribers int            // how many servers replicate, on any engine; 0: 2
	Schema      string
	Server      dbtest.Options // of each server
	DataDir     string         // of lockstep
	LagBudget   time.Duration  // 0: 2 s
	Listen      string         // of lockstep; empty: a free port
	Extra       string         // more of the configuration, YAML
}

// withDefaults fills in what o leaves open.
func (o Options) withDefaults() Options {
	if o.Subscribers == 0 {
		o.Subscribers = 2
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.LagBudget == 0 {
		o.LagBudget = 2 * time.Second
	}
	o.Server.Database = Database
	return o
}

// Watched is how lockstep watches a cluster.
type Watched struct {
	Config *config.Config
	YAML   string
	Names  []string // of the members, the one that is written to first
}

// watched names the members of an engine, and the tables of a schema, in a configuration.
func watched(o Options, engine, tables string, dsns []string) (Watched, error) {
	var w Watched
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %s\nlisten: %s\nlag_budget: %v\ngroups:\n  - name: shop\n    engine: %s\n    members:\n",
		o.DataDir, o.Listen, o.LagBudget, engine)
	for i, dsn := range dsns {
		name := "eu-1"
		if i > 0 {
			name = fmt.Sprintf("us-%d", i)
		}
		w.Names = append(w.Names, name)
		fmt.Fprintf(&b, "      - {name: %s, dsn: %q}\n", name, dsn)
	}
	fmt.Fprintf(&b, "    tables: {include: [%q]}\n%s", tables, o.Extra)
	w.YAML = b.String()
	var err error
	w.Config, err = config.Parse("lockstep.yaml", []byte(w.YAML))
	return w, err
}

// Configuration is by which lockstep watches the cluster.
func (w *Watched) Configuration() *config.Config { return w.Config }

// index is that of a member, or an error.
func (w *Watched) index(name string) (int, error) {
	for i, n := range w.Names {
		if n == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no member %q; there are %q", name, w.Names)
}

// mend is [Mend] of the cluster's group.
func (w *Watched) mend(ctx context.Context, exec func(ctx context.Context, member string, statements ...string) error) error {
	return Mend(ctx, &w.Config.Groups[0], exec)
}

// Mend runs on each member of a group the SQL by which `lockstep check` would have it mended.
func Mend(ctx context.Context, g *config.Group, exec func(ctx context.Context, member string, statements ...string) error) error {
	for i := range g.Members {
		report, err := daemon.Check(ctx, g, &g.Members[i])
		if err != nil {
			return err
		}
		for _, check := range report.Checks {
			if check.State == preflight.OK || check.SQL == "" {
				continue
			}
			if err := exec(ctx, g.Members[i].Name, check.SQL); err != nil {
				return err
			}
		}
	}
	return nil
}
