package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// Cluster is a PostgreSQL publisher, its logical subscribers, and the configuration by which lockstep watches them.
type Cluster struct {
	*dbtest.Group
	Watched
}

// Start starts the servers and makes them ready.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o = o.withDefaults()
	if o.Server.Conf == nil {
		o.Server.Conf = map[string]string{"max_slot_wal_keep_size": "2GB"}
	}
	group, err := dbtest.NewGroup(ctx, o.Install, o.Subscribers, o.Schema, o.Server)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Group: group}
	if err := c.ready(ctx, o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) ready(ctx context.Context, o Options) (err error) {
	var dsns []string
	for _, s := range c.Members() {
		dsns = append(dsns, s.DSNFor(dbtest.LockstepUser, Database))
		// A role with no rights but to log in and to replicate.
		if err := s.Exec(ctx, "CREATE ROLE "+dbtest.LockstepUser+" LOGIN REPLICATION"); err != nil {
			return err
		}
	}
	if c.Watched, err = watched(o, config.Postgres, "public.*", dsns); err != nil {
		return err
	}
	return c.Mend(ctx)
}

// Mend runs on each member the SQL by which `lockstep check` would have it mended.
func (c *Cluster) Mend(ctx context.Context) error { return c.mend(ctx, c.Exec) }

// Member returns the server of that name, or nil.
func (c *Cluster) Member(name string) *dbtest.Server {
	i, err := c.index(name)
	if err != nil {
		return nil
	}
	return c.Members()[i]
}

// Subscription returns the name of a subscriber's subscription.
func (c *Cluster) Subscription(name string) string {
	i, err := c.index(name)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("app_%d", i-1)
}

// DSN names the database of a member as a URL, for the superuser.
func (c *Cluster) DSN(member string) string { return c.Member(member).DSN(Database) }

// Exec runs statements one after the other in one session on a member.
func (c *Cluster) Exec(ctx context.Context, member string, statements ...string) error {
	return c.Member(member).Exec(ctx, statements...)
}

// Query returns the rows of a query as text. A NULL is an error.
func (c *Cluster) Query(ctx context.Context, member, query string) ([][]string, error) {
	conn, err := c.Member(member).Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// The simple protocol gives each value in its text form, whatever the type.
	results, err := conn.PgConn().Exec(ctx, query).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	var rows [][]string
	for _, result := range results {
		for _, values := range result.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				if v == nil {
					return nil, fmt.Errorf("%s: NULL in column %d", query, i+1)
				}
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// Pause makes a subscriber stop replaying until Resume.
func (c *Cluster) Pause(ctx context.Context, member string) error {
	if err := c.alter(ctx, member, "DISABLE"); err != nil {
		return err
	}
	// Its worker ends a moment later; until then it replays.
	return dbtest.WaitFor(ctx, "the apply worker to end", func(ctx context.Context) (bool, error) {
		return dbtest.Value[bool](ctx, c.Member(member), "SELECT bool_and(pid IS NULL) FROM pg_stat_subscription WHERE subname = $1", c.Subscription(member))
	})
}

// Resume ends a Pause.
func (c *Cluster) Resume(ctx context.Context, member string) error {
	return c.alter(ctx, member, "ENABLE")
}

func (c *Cluster) alter(ctx context.Context, member, what string) error {
	return c.Exec(ctx, member, fmt.Sprintf("ALTER SUBSCRIPTION %s %s", pgx.Identifier{c.Subscription(member)}.Sanitize(), what))
}

// Skip runs a statement on the publisher and makes a subscriber skip its transaction. Nothing else may be written
// meanwhile: SKIP is for the next transaction to be replayed only.
func (c *Cluster) Skip(ctx context.Context, member, statement string) error {
	if err := c.WaitCaughtUp(ctx); err != nil {
		return err
	}
	if err := c.Pause(ctx, member); err != nil {
		return err
	}
	finish, err := finishOf(ctx, c.Publisher, statement)
	if err != nil {
		return err
	}
	if err := c.alter(ctx, member, fmt.Sprintf("SKIP (lsn = '%s')", finish)); err != nil {
		return err
	}
	return c.Resume(ctx, member)
}

// finishOf runs a statement and returns the finish LSN of its transaction, which an operator would read from the
// subscriber's log: it is in the Begin message that logical decoding makes of it.
func finishOf(ctx context.Context, s *dbtest.Server, sql string) (string, error) {
	conn, err := s.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SELECT pg_create_logical_replication_slot('finish', 'pgoutput', true)"); err != nil {
		return "", err
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return "", err
	}
	var begin []byte
	err = conn.QueryRow(ctx, `SELECT data FROM pg_logical_slot_get_binary_changes('finish', NULL, NULL, 'proto_version', '1', 'publication_names', 'app')
		WHERE get_byte(data, 0) = ascii('B') ORDER BY lsn DESC LIMIT 1`).Scan(&begin)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%X/%X", begin[1:5], begin[5:9]), nil
}
