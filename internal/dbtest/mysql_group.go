package dbtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// MySQLGroup is a primary and the replicas that follow it by GTID.
type MySQLGroup struct {
	Primary  *MySQLServer
	Replicas []*MySQLServer
}

// NewMySQLGroup starts the servers with the same options, makes the replicas follow, and runs schema on the primary. It
// returns when all have it. The database is "app" unless o names another; o.Dir gets a folder for each member.
func NewMySQLGroup(ctx context.Context, install MySQLInstall, replicas int, schema string, o Options) (*MySQLGroup, error) {
	if o.Database == "" {
		o.Database = "app"
	}
	g := &MySQLGroup{}
	if err := g.build(ctx, install, replicas, schema, o); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *MySQLGroup) build(ctx context.Context, install MySQLInstall, replicas int, schema string, o Options) (err error) {
	if g.Primary, err = StartMySQL(ctx, install, o.within("primary")); err != nil {
		return err
	}
	for i := range replicas {
		s, err := StartMySQL(ctx, install, o.within(fmt.Sprintf("replica-%d", i)))
		if err != nil {
			return err
		}
		g.Replicas = append(g.Replicas, s)
		if err := s.Follow(ctx, g.Primary); err != nil {
			return err
		}
	}
	if schema != "" {
		if err := g.Primary.Exec(ctx, schema); err != nil {
			return err
		}
	}
	return g.WaitCaughtUp(ctx)
}

// Members lists the primary and then the replicas.
func (g *MySQLGroup) Members() []*MySQLServer {
	return slices.Concat([]*MySQLServer{g.Primary}, g.Replicas)
}

// Close closes all members.
func (g *MySQLGroup) Close() error {
	var errs []error
	for _, s := range slices.Backward(g.Members()) {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// WaitCaughtUp waits until every replica has applied all that the primary had committed when it was called.
func (g *MySQLGroup) WaitCaughtUp(ctx context.Context) error {
	for _, s := range g.Replicas {
		if err := s.WaitReplayed(ctx, g.Primary); err != nil {
			return err
		}
	}
	return nil
}

// Promote makes Replicas[i] the primary and all others follow it; the old primary takes its place in Replicas. If that one
// runs, the new one has all that it wrote, and it becomes a replica. If it does not, what it alone had is lost: bring it
// back by Restart and Follow.
func (g *MySQLGroup) Promote(ctx context.Context, i int) error {
	old, next := g.Primary, g.Replicas[i]
	if old.Running() {
		if err := old.Exec(ctx, "SET GLOBAL read_only = ON"); err != nil {
			return err
		}
		if err := g.WaitCaughtUp(ctx); err != nil {
			return err
		}
	}
	if err := next.Unfollow(ctx); err != nil {
		return err
	}
	g.Primary, g.Replicas[i] = next, old
	for _, s := range g.Replicas {
		if !s.Running() {
			continue
		}
		if err := s.Follow(ctx, next); err != nil {
			return err
		}
	}
	return g.waitRunning(ctx)
}

func (g *MySQLGroup) waitRunning(ctx context.Context) error {
	for _, s := range g.Replicas {
		if !s.Running() {
			continue
		}
		if err := s.WaitReplayed(ctx, g.Primary); err != nil {
			return err
		}
	}
	return nil
}

// LockstepUser is the account that GrantLockstep makes.
const LockstepUser = "lockstep"

// GrantLockstep makes the account that lockstep needs, with that and nothing more, on this server alone and unseen by its
// binlog. REPLICATION CLIENT is BINLOG MONITOR on MariaDB 10.5, where SHOW SLAVE STATUS became a privilege of its own.
func (s *MySQLServer) GrantLockstep(ctx context.Context, password string) error {
	privileges := "REPLICATION SLAVE, REPLICATION CLIENT, SELECT"
	if s.Install.Flavour.MariaDB() {
		privileges = "REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR, SELECT"
	}
	return s.Quietly(ctx,
		fmt.Sprintf("CREATE USER %s@'%%' IDENTIFIED BY %s", LockstepUser, quoteText(password)),
		fmt.Sprintf("GRANT %s ON *.* TO %s@'%%'", privileges, LockstepUser))
}

// GrantLockstep makes the account on every member.
func (g *MySQLGroup) GrantLockstep(ctx context.Context, password string) error {
	for _, s := range g.Members() {
		if err := s.GrantLockstep(ctx, password); err != nil {
			return err
		}
	}
	return nil
}
