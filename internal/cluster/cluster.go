// Package cluster starts replicated databases that are ready to be watched: for the demo and for tests.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lockstep/config"
	"lockstep/internal/dbtest"
	"lockstep/monitor"
	"lockstep/preflight"
)

// Database is the one that is replicated.
const Database = "app"

// Options of a cluster. The zero value is a publisher and two subscribers of an empty schema.
type Options struct {
	Install     dbtest.Install
	Subscribers int // 0: 2
	Schema      string
	Server      dbtest.Options // of each server
	DataDir     string         // of lockstep
	LagBudget   time.Duration  // 0: 2 s
	Listen      string         // of lockstep; empty: a free port
	Extra       string         // more of the configuration, YAML
}

// Cluster is a publisher, its subscribers, and the configuration by which lockstep watches them.
type Cluster struct {
	*dbtest.Group
	Config *config.Config
	YAML   string
	Names  []string // of the members, the publisher first
}

// Start starts the servers and makes them ready.
func Start(ctx context.Context, o Options) (*Cluster, error) {
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
	if o.Server.Conf == nil {
		o.Server.Conf = map[string]string{"max_slot_wal_keep_size": "2GB"}
	}
	group, err := dbtest.NewGroup(ctx, o.Install, o.Subscribers, o.Schema, o.Server)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Group: group, Names: []string{"eu-1"}}
	for i := range group.Subscribers {
		c.Names = append(c.Names, fmt.Sprintf("us-%d", i+1))
	}
	c.YAML = c.yaml(o)
	if c.Config, err = config.Parse("lockstep.yaml", []byte(c.YAML)); err == nil {
		err = c.createRole(ctx)
	}
	if err == nil {
		err = c.Mend(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) yaml(o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %s\nlisten: %s\nlag_budget: %v\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n", o.DataDir, o.Listen, o.LagBudget)
	for i, s := range c.Members() {
		fmt.Fprintf(&b, "      - {name: %s, dsn: %q}\n", c.Names[i], s.DSNFor("lockstep", Database))
	}
	b.WriteString("    tables: {include: [\"public.*\"]}\n")
	b.WriteString(o.Extra)
	return b.String()
}

// createRole makes a role with no rights but to log in and to replicate.
func (c *Cluster) createRole(ctx context.Context) error {
	for _, s := range c.Members() {
		if err := s.Exec(ctx, "CREATE ROLE lockstep LOGIN REPLICATION"); err != nil {
			return err
		}
	}
	return nil
}

// Mend runs on each member the SQL by which `lockstep check` would have it mended.
func (c *Cluster) Mend(ctx context.Context) error {
	g := &c.Config.Groups[0]
	for i, s := range c.Members() {
		report, err := monitor.Check(ctx, g, &g.Members[i])
		if err != nil {
			return err
		}
		for _, check := range report.Checks {
			if check.State == preflight.OK || check.SQL == "" {
				continue
			}
			if err := s.Exec(ctx, check.SQL); err != nil {
				return err
			}
		}
	}
	return nil
}

// Member returns the server of that name, or nil.
func (c *Cluster) Member(name string) *dbtest.Server {
	for i, n := range c.Names {
		if n == name {
			return c.Members()[i]
		}
	}
	return nil
}

// Subscription returns the name of a subscriber's subscription.
func (c *Cluster) Subscription(name string) string {
	for i, n := range c.Names {
		if n == name {
			return fmt.Sprintf("app_%d", i-1)
		}
	}
	return ""
}
