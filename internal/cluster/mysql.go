package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// MySQLCluster is a primary of MySQL or MariaDB, the replicas that follow it by GTID, and the configuration by which
// lockstep watches them.
type MySQLCluster struct {
	*dbtest.MySQLGroup
	Watched

	servers []*dbtest.MySQLServer // in the order of Names, whoever is the primary now
}

// StartMySQL starts the servers and makes them ready. The Install of o does not count.
func StartMySQL(ctx context.Context, install dbtest.MySQLInstall, o Options) (*MySQLCluster, error) {
	o = o.withDefaults()
	group, err := dbtest.NewMySQLGroup(ctx, install, o.Subscribers, o.Schema, o.Server)
	if err != nil {
		return nil, err
	}
	c := &MySQLCluster{MySQLGroup: group, servers: group.Members()}
	if err := c.ready(ctx, o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *MySQLCluster) ready(ctx context.Context, o Options) (err error) {
	if err := c.GrantLockstep(ctx, ""); err != nil {
		return err
	}
	var dsns []string
	for _, s := range c.servers {
		dsns = append(dsns, s.DSNFor(dbtest.LockstepUser, Database))
	}
	engine := config.MySQL
	if c.Primary.Install.Flavour.MariaDB() {
		engine = config.MariaDB
	}
	if c.Watched, err = watched(o, engine, Database+".*", dsns); err != nil {
		return err
	}
	return c.Mend(ctx)
}

// Mend runs on each member the SQL by which `lockstep check` would have it mended.
func (c *MySQLCluster) Mend(ctx context.Context) error { return c.mend(ctx, c.Exec) }

// Member returns the server of that name, or nil.
func (c *MySQLCluster) Member(name string) *dbtest.MySQLServer {
	i, err := c.index(name)
	if err != nil {
		return nil
	}
	return c.servers[i]
}

// DSN names the database of a member as a URL, for root.
func (c *MySQLCluster) DSN(member string) string { return c.Member(member).DSN(Database) }

// Exec runs statements one after the other in one session on a member.
func (c *MySQLCluster) Exec(ctx context.Context, member string, statements ...string) error {
	return c.Member(member).Exec(ctx, statements...)
}

// Query returns the rows of a query as text. A NULL is an error.
func (c *MySQLCluster) Query(ctx context.Context, member, query string) ([][]string, error) {
	conn, err := c.Member(member).Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	result, err := conn.Execute(query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer result.Close()
	rows := make([][]string, len(result.Values))
	for i, values := range result.Values {
		for j := range values {
			if values[j].Value() == nil {
				return nil, fmt.Errorf("%s: NULL in column %d", query, j+1)
			}
			text, err := result.GetString(i, j)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", query, err)
			}
			rows[i] = append(rows[i], strings.Clone(text)) // the driver reuses its buffers
		}
	}
	return rows, nil
}

// Pause makes a replica stop applying until Resume.
func (c *MySQLCluster) Pause(ctx context.Context, member string) error {
	return c.Member(member).StopApplier(ctx)
}

// Resume ends a Pause.
func (c *MySQLCluster) Resume(ctx context.Context, member string) error {
	return c.Member(member).StartApplier(ctx)
}

// Skip runs a statement on the primary and makes a replica pass over its transaction. Nothing else may be written
// meanwhile: it is the next one that is skipped.
func (c *MySQLCluster) Skip(ctx context.Context, member, statement string) error {
	if err := c.behindBy(ctx, member, statement); err != nil {
		return err
	}
	return c.Member(member).SkipNext(ctx, c.Primary)
}

// behindBy makes a replica that lacks nothing stop applying, and runs a statement on the primary.
func (c *MySQLCluster) behindBy(ctx context.Context, member, statement string) error {
	if err := c.WaitCaughtUp(ctx); err != nil {
		return err
	}
	if err := c.Pause(ctx, member); err != nil {
		return err
	}
	return c.Primary.Exec(ctx, statement)
}

// Forge runs a statement on the primary, and another on a replica under the GTID of the first, which the replica then
// takes for applied. Nothing else may be written meanwhile. Only MySQL lets a session choose its GTID like that.
func (c *MySQLCluster) Forge(ctx context.Context, member, statement, other string) error {
	if err := c.behindBy(ctx, member, statement); err != nil {
		return err
	}
	gtid, err := c.lacking(ctx, member)
	if err != nil {
		return err
	}
	err = c.Exec(ctx, member, "SET gtid_next = '"+gtid+"'", "BEGIN", other, "COMMIT", "SET gtid_next = 'AUTOMATIC'")
	return errors.Join(err, c.Resume(ctx, member))
}

// lacking is the GTID of the one transaction of the primary that a replica has not applied.
func (c *MySQLCluster) lacking(ctx context.Context, member string) (string, error) {
	executed, err := c.Primary.Executed(ctx)
	if err != nil {
		return "", err
	}
	set, err := dbtest.MySQLValue[string](ctx, c.Member(member), "SELECT GTID_SUBTRACT(?, @@GLOBAL.gtid_executed)", executed)
	if err != nil {
		return "", err
	}
	_, number, _ := strings.Cut(set, ":")
	if _, err := strconv.ParseUint(number, 10, 64); err != nil {
		return "", fmt.Errorf("%s lacks %q of the primary, want one transaction", member, set)
	}
	return set, nil
}
