package daemon

import (
	"log/slog"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/mysql"
	"github.com/lockstep-cdc/lockstep/cdc/postgres"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
)

// source is what is known of each engine.
type source interface {
	cdc.Source
	cdc.Member
}

// newSource makes the source of a member. It connects to nothing. logins may be nil.
func newSource(g *config.Group, m *config.Member, h *digest.Hasher, log *slog.Logger, logins *cdc.Logins) (source, error) {
	if g.Engine == config.Postgres {
		o := postgresOptions(g, m, log)
		o.Logins = logins
		return postgres.New(o, h)
	}
	o := mysqlOptions(g, m, log)
	o.Logins = logins
	return mysql.New(o, h)
}

// leaves says what stays on a member's server that is not watched any more, and how it is taken away; empty: nothing.
func leaves(g *config.Group, m *config.Member) string {
	if g.Engine == config.Postgres {
		return postgresOptions(g, m, nil).Leaves()
	}
	return ""
}

// unverified says what is not verified of a member's server; empty: nothing is left out.
func unverified(g *config.Group, m *config.Member) string {
	if g.Engine == config.Postgres {
		return postgresOptions(g, m, nil).Unverified()
	}
	return mysqlOptions(g, m, nil).Unverified()
}

func postgresOptions(g *config.Group, m *config.Member, log *slog.Logger) postgres.Options {
	return postgres.Options{
		Group:       g.Name,
		Member:      m.Name,
		DSN:         m.DSN,
		Password:    m.PasswordFunc(),
		Slot:        postgres.Name(g.Name),
		Publication: postgres.Name(g.Name),
		Logger:      log,
		ScanOnly:    m.ScanOnly,
		MaxRetained: m.MaxRetainedWAL,
	}
}

func mysqlOptions(g *config.Group, m *config.Member, log *slog.Logger) mysql.Options {
	return mysql.Options{Group: g.Name, Member: m.Name, DSN: m.DSN, Password: m.PasswordFunc(), Logger: log, ScanOnly: m.ScanOnly}
}
