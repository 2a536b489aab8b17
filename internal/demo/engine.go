package demo

import (
	"context"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// Engine is a database that the demo can be played on. The zero value is none.
type Engine struct {
	Name  string // as the configuration names it
	Title string // with the version

	start func(context.Context, cluster.Options) (stage, error)
}

// stage is a replicated database on which the story plays: eu-1 is written to, us-1 and us-2 replicate it. Whatever an
// engine does in a way of its own is here; the story itself is the same on all.
type stage interface {
	Configuration() *config.Config
	// DSN names the database of a member for one who may do anything.
	DSN(member string) string
	// Exec runs statements one after the other in one session.
	Exec(ctx context.Context, member string, statements ...string) error
	// Query returns rows as text.
	Query(ctx context.Context, member, query string) ([][]string, error)
	// WaitCaughtUp waits until both have replayed all that was written before.
	WaitCaughtUp(ctx context.Context) error
	// Pause makes a member stop replaying, Resume go on.
	Pause(ctx context.Context, member string) error
	Resume(ctx context.Context, member string) error
	// Skip commits a statement on eu-1 that the member passes over. Nobody else may write meanwhile.
	Skip(ctx context.Context, member, statement string) error
	Close() error

	dialect() *dialect
	// tamper commits an UPDATE of an account on eu-1 of which the member makes another one while it replays it. Nobody
	// else may write meanwhile.
	tamper(ctx context.Context, member string, account int) error
	// untamper makes the member replay as it should.
	untamper(ctx context.Context, member string) error
}

// dialect is what engines call by different names.
type dialect struct {
	schema  string // of the tables, in lockstep's names for them
	literal string // the function that spells any value, NULL too, as a literal of SQL
	hash    string // the call that hashes the text %s

	// What the story says.
	cast      string // who does what
	tampering string // of account %d
	skipping  string // of accounts %d to %d
	pausing   string // of us-2
	paused    string // the name of that injection
}

// Postgres is the demo's engine on a version of PostgreSQL.
func Postgres(install dbtest.Install) Engine {
	return Engine{
		Name: config.Postgres, Title: install.Version.String(),
		start: func(ctx context.Context, o cluster.Options) (stage, error) {
			o.Install, o.Schema = install, load.Schema
			c, err := cluster.Start(ctx, o)
			return postgres{c}, err
		},
	}
}

// MySQL is the demo's engine on a flavour of MySQL.
func MySQL(install dbtest.MySQLInstall) Engine {
	e := Engine{Name: config.MySQL, Title: install.Flavour.String()}
	if install.Flavour.MariaDB() {
		e.Name = config.MariaDB
	}
	e.start = func(ctx context.Context, o cluster.Options) (stage, error) {
		o.Schema = load.MySQLSchema
		c, err := cluster.StartMySQL(ctx, install, o)
		if install.Flavour.MariaDB() {
			return mariadb{c}, err
		}
		return mysql{c}, err
	}
	return e
}
