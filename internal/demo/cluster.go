package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lockstep/cdc/postgres"
	"lockstep/config"
	"lockstep/internal/dbtest"
	"lockstep/internal/load"
	"lockstep/monitor"
)

const database = "app"

// names of the members, the publisher first.
var names = []string{"eu-1", "us-1", "us-2"}

// cluster is a publisher, its subscribers, and the configuration by which lockstep watches them.
type cluster struct {
	group  *dbtest.Group
	config *config.Config
}

func (c *cluster) publisher() *dbtest.Server { return c.group.Publisher }

// member returns the server of that name.
func (c *cluster) member(name string) *dbtest.Server {
	for i, n := range names {
		if n == name {
			return c.group.Members()[i]
		}
	}
	return nil
}

// subscription returns the name of a subscriber's subscription.
func (c *cluster) subscription(name string) string {
	for i, n := range names {
		if n == name {
			return fmt.Sprintf("app_%d", i-1)
		}
	}
	return ""
}

func (c *cluster) close() error { return c.group.Close() }

// startCluster starts the servers and makes them ready for lockstep, by the SQL that `lockstep check -o sql` prints.
func startCluster(ctx context.Context, install dbtest.Install, dataDir string, budget time.Duration) (*cluster, error) {
	group, err := dbtest.NewGroup(ctx, install, len(names)-1, load.Schema, dbtest.Options{
		Database: database,
		Conf:     map[string]string{"max_slot_wal_keep_size": "2GB"},
	})
	if err != nil {
		return nil, err
	}
	c := &cluster{group: group}
	if c.config, err = c.configure(dataDir, budget); err == nil {
		err = c.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *cluster) configure(dataDir string, budget time.Duration) (*config.Config, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %s\nlisten: 127.0.0.1:0\nlag_budget: %v\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n", dataDir, budget)
	for i, s := range c.group.Members() {
		fmt.Fprintf(&b, "      - {name: %s, dsn: %q}\n", names[i], s.DSNFor("lockstep", database))
	}
	b.WriteString("    tables: {include: [\"public.*\"]}\n")
	return config.Parse("demo", []byte(b.String()))
}

// prepare makes a role with no more rights than lockstep needs, and runs on each member what check says mends it.
func (c *cluster) prepare(ctx context.Context) error {
	g := &c.config.Groups[0]
	for i, s := range c.group.Members() {
		if err := s.Exec(ctx, "CREATE ROLE lockstep LOGIN REPLICATION"); err != nil {
			return err
		}
		report, err := monitor.SourceOptions(g, &g.Members[i], nil).Check(ctx, g.Tables.Match)
		if err != nil {
			return err
		}
		for _, check := range report.Checks {
			if check.State == postgres.OK || check.SQL == "" {
				continue
			}
			if err := s.Exec(ctx, check.SQL); err != nil {
				return err
			}
		}
	}
	return nil
}
