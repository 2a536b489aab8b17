package daemon

import (
	"context"
	"log/slog"
	"strings"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// Check looks at everything that lockstep needs of a member. It changes nothing. A server that refuses the connection is
// a failed check; an error is for a member that could not be asked.
func Check(ctx context.Context, g *config.Group, m *config.Member) (r *preflight.Report, err error) {
	if g.Engine == config.Postgres {
		r, err = postgresOptions(g, m, nil).Check(ctx, g.Tables.Match)
	} else {
		r, err = mysqlOptions(g, m, nil).Check(ctx, g.Tables.Match)
	}
	if err == nil && r.Copies && g.Canary.Into(*m) {
		r.Add(checkCanary(ctx, g, m))
	}
	return r, err
}

// checkCanary has the member say whether a canary can be written: to explain a statement takes the rights to run it.
func checkCanary(ctx context.Context, g *config.Group, m *config.Member) preflight.Check {
	table := g.Canary.Table
	check := preflight.Check{Subject: "canary " + table, State: preflight.OK, Detail: "can be written and taken away"}
	s, err := newSource(g, m, digest.NewHasher([32]byte{}), slog.New(slog.DiscardHandler))
	if err == nil {
		defer s.Close()
	}
	for _, statement := range monitor.CanaryStatements(table, 1) {
		if err == nil {
			err = s.Execute(ctx, "EXPLAIN "+statement)
		}
	}
	if err != nil {
		detail := strings.TrimPrefix(preflight.OneLine(err.Error()), "member "+m.Name+": ") // which the check's line has
		check.State, check.Detail, check.Hint = preflight.Warn, detail, monitor.CanaryHint
	}
	return check
}
