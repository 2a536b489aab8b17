package mysql

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestExercise(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			g := dbtest.MySQLGroupT(t, dbtest.NeedMySQL(t, f), 1, "", anew)
			if err := g.GrantLockstep(t.Context(), "pw"); err != nil {
				t.Fatal(err)
			}
			cdctest.Exercise(t, func(t *testing.T) cdctest.Subject { return replicated(t, g) })
		})
	}
}

// replicated makes a database with the suite's tables on a group.
func replicated(t *testing.T, g *dbtest.MySQLGroup) cdctest.Subject {
	t.Helper()
	d := driver{server: g.Primary, schema: fmt.Sprintf("exercise_%d", schemas.Add(1))}
	run(t, g.Primary, "CREATE DATABASE "+d.schema)
	for _, table := range []string{"a", "b", "elsewhere"} {
		run(t, g.Primary, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v int, note text)", d.Name(table)))
	}
	caughtUpWith(t, g)
	replica, s := g.Replicas[0], cdctest.Subject{Engine: cdctest.MySQL, Author: d, CaughtUp: g.WaitCaughtUp}
	if g.Primary.Install.Flavour.MariaDB() {
		s.Engine = cdctest.MariaDB
	}
	s.Follower = driver{server: replica, schema: d.schema}
	s.Replicate = func(ctx context.Context, on bool) error {
		if on {
			return replica.StartApplier(ctx)
		}
		return replica.StopApplier(ctx)
	}
	return s
}

// driver drives one server, in a database.
type driver struct {
	server *dbtest.MySQLServer
	schema string
}

func (d driver) Name(table string) string { return d.schema + "." + table }

func (d driver) Open(h *digest.Hasher) (cdc.Source, error) {
	return New(Options{
		Member: "m", DSN: d.server.DSNFor(dbtest.LockstepUser, d.schema) + "?" + anyServer, Password: func() (string, error) { return "pw", nil },
	}, h)
}

func (d driver) Write(ctx context.Context, changes ...cdctest.Change) error {
	var statements []string
	for _, c := range changes {
		statements = append(statements, c.Statement(cdctest.MySQL, d.Name(c.Table)))
	}
	return d.server.Exec(ctx, "BEGIN; "+strings.Join(statements, "; ")+"; COMMIT")
}

func (d driver) AddColumn(ctx context.Context, table, column string) error {
	return d.server.Exec(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s int", d.Name(table), column))
}

func (d driver) DropColumn(ctx context.Context, table, column string) error {
	return d.server.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", d.Name(table), column))
}

// noises number the rows that nobody reads: none is on two servers, or replication would stop at it.
var noises atomic.Int64

func (d driver) Noise(ctx context.Context) error {
	return d.server.Exec(ctx, "FLUSH BINARY LOGS", fmt.Sprintf("INSERT INTO %s (id) VALUES (%d)", d.Name("elsewhere"), 1000+noises.Add(1)))
}

func (d driver) Cut(ctx context.Context) error {
	sessions, err := d.server.Show(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return err
	}
	for _, session := range sessions {
		if session["User"] == dbtest.LockstepUser {
			_ = d.server.Exec(ctx, "KILL "+session["Id"]) // it may have ended by itself
		}
	}
	return nil
}

func (d driver) GiveUp(ctx context.Context) error { return d.server.PurgeBinlogs(ctx) }
