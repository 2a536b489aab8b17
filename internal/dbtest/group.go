package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Group is a publisher and its logical subscribers. The users' publication on the publisher is "app"; the subscription of
// Subscribers[i] is "app_<i>".
type Group struct {
	Publisher   *Server
	Subscribers []*Server
}

// NewGroup starts the servers with the same options, runs schema on each, and subscribes. The tables must be empty: nothing
// is copied. The database is "app" unless o names another; o.Dir gets a folder for each member.
func NewGroup(ctx context.Context, install Install, subscribers int, schema string, o Options) (*Group, error) {
	if o.Database == "" {
		o.Database = "app"
	}
	g := &Group{}
	err := g.build(ctx, install, subscribers, schema, o)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Group) build(ctx context.Context, install Install, subscribers int, schema string, o Options) (err error) {
	if g.Publisher, err = Start(ctx, install, o.within("publisher")); err != nil {
		return err
	}
	if err := g.Publisher.Exec(ctx, schema); err != nil {
		return err
	}
	if err := Publish(ctx, g.Publisher, "app"); err != nil {
		return err
	}
	for i := range subscribers {
		s, err := Start(ctx, install, o.within(fmt.Sprintf("subscriber-%d", i)))
		if err != nil {
			return err
		}
		g.Subscribers = append(g.Subscribers, s)
		if err := s.Exec(ctx, schema); err != nil {
			return err
		}
		if err := Subscribe(ctx, s, fmt.Sprintf("app_%d", i), g.Publisher, "app"); err != nil {
			return err
		}
	}
	return g.WaitCaughtUp(ctx)
}

// within gives one of several servers its own part of Dir.
func (o Options) within(name string) Options {
	if o.Dir != "" {
		o.Dir = filepath.Join(o.Dir, name)
	}
	return o
}

// Members lists the publisher and then the subscribers.
func (g *Group) Members() []*Server {
	return slices.Concat([]*Server{g.Publisher}, g.Subscribers)
}

// Close closes all members.
func (g *Group) Close() error {
	var errs []error
	for _, s := range slices.Backward(g.Members()) {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// WaitCaughtUp waits until every subscriber has applied all that the publisher had written when it was called.
func (g *Group) WaitCaughtUp(ctx context.Context) error {
	for i := range g.Subscribers {
		if err := WaitReplayed(ctx, g.Publisher, fmt.Sprintf("app_%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// Publish makes a publication of all tables.
func Publish(ctx context.Context, s *Server, publication string) error {
	return s.Exec(ctx, fmt.Sprintf("CREATE PUBLICATION %s FOR ALL TABLES", pgx.Identifier{publication}.Sanitize()))
}

// Subscribe makes a subscription to a publication of the same database of from, without copying what is there already.
func Subscribe(ctx context.Context, s *Server, subscription string, from *Server, publication string) error {
	conninfo := strings.ReplaceAll(from.url(superuser, s.Database, true), "'", "''")
	return s.Exec(ctx, fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION %s WITH (copy_data = false)",
		pgx.Identifier{subscription}.Sanitize(), conninfo, pgx.Identifier{publication}.Sanitize()))
}

// WaitReplayed waits until the one who replicates from s under this name (a subscription's, or a standby's
// application_name) has replayed all that s had written when it was called.
func WaitReplayed(ctx context.Context, s *Server, name string) error {
	position, err := Value[string](ctx, s, "SELECT pg_current_wal_lsn()::text")
	if err != nil {
		return err
	}
	return WaitFor(ctx, fmt.Sprintf("%s to replay %s", name, position), func(ctx context.Context) (bool, error) {
		return Value[bool](ctx, s, `SELECT coalesce(bool_and(state = 'streaming' AND replay_lsn >= $1::text::pg_lsn), false)
			FROM pg_stat_replication WHERE application_name = $2`, position, name)
	})
}

// StandbyName is the application_name and the replication slot of the standby on port.
func (s *Server) StandbyName() string { return fmt.Sprintf("standby_%d", s.Port) }

// Standby makes a physical standby of primary that streams from it through a slot, and returns when it has replayed what
// the primary held. The base backup is taken through the low-level API ("Making a Base Backup Using the Low Level API"),
// since not every build brings pg_basebackup.
func Standby(ctx context.Context, primary *Server, o Options) (*Server, error) {
	if o.Database == "" {
		o.Database = primary.Database
	}
	o.Password = primary.password
	s, err := prepare(primary.Install, o)
	if err != nil {
		return nil, err
	}
	if err := s.follow(ctx, primary, o.Conf); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) follow(ctx context.Context, primary *Server, conf map[string]string) (err error) {
	if s.Port, err = freePort(); err != nil {
		return err
	}
	if err := s.backup(ctx, primary); err != nil {
		return fmt.Errorf("base backup of port %d: %w", primary.Port, err)
	}
	if err := s.write("standby.signal", ""); err != nil {
		return err
	}
	settings := map[string]string{
		"primary_conninfo":  primary.url(superuser, superuser, true) + "&application_name=" + s.StandbyName(),
		"primary_slot_name": s.StandbyName(),
	}
	for name, value := range conf {
		settings[name] = value
	}
	if err := s.configure(settings); err != nil {
		return err
	}
	if err := s.launch(ctx); err != nil {
		return err
	}
	return WaitReplayed(ctx, primary, s.StandbyName())
}

// backup copies the primary's files while it runs. The slot keeps the WAL from before the backup on, so that none is copied.
func (s *Server) backup(ctx context.Context, primary *Server) error {
	return primary.session(ctx, superuser, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", s.StandbyName()); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SELECT pg_backup_start('standby', true)"); err != nil {
			return err
		}
		if err := copyTree(primary.data(), s.data(), s.who, leftOut, copyFile); err != nil {
			return err
		}
		var label string
		if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
			return err
		}
		return s.write("backup_label", label)
	})
}

// leftOut is what belongs to the primary's process, not to its data.
func leftOut(path string) bool {
	if path == "postmaster.pid" || path == "postmaster.opts" {
		return true
	}
	dir := strings.SplitN(path, string(filepath.Separator), 2)[0]
	own := []string{"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}
	return path != dir && slices.Contains(own, dir)
}

func (s *Server) write(name, text string) error {
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return s.who.own(path)
}
