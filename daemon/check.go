package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
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
	if err == nil && r.Copies() && g.Canary.Into(*m) {
		r.Add(checkCanary(ctx, g, m))
	}
	return r, err
}

// TellApart tells members that go by one name in their reports from one another. It asks nothing of others.
func TellApart(ctx context.Context, g *config.Group, reports []*preflight.Report) preflight.Proofs {
	var list []preflight.Claim
	for i, r := range reports {
		alike := func(o *preflight.Report) bool { return r.Server != "" && o.Server == r.Server }
		if !slices.ContainsFunc(reports[:i], alike) && !slices.ContainsFunc(reports[i+1:], alike) {
			continue
		}
		if s, err := newSource(g, g.Member(r.Member), digest.NewHasher([32]byte{}), slog.New(slog.DiscardHandler), nil); err == nil {
			defer s.Close()
			list = append(list, preflight.Claim{Member: r.Member, Server: cdc.Server{SystemID: r.Server}, Beacons: s})
		}
	}
	return preflight.ProveAll(ctx, list)
}

// checkCanary has the member say whether a canary can be written: to explain a statement takes the rights to run it.
func checkCanary(ctx context.Context, g *config.Group, m *config.Member) preflight.Check {
	table := g.Canary.Table
	check := preflight.Check{Subject: "canary " + table, State: preflight.OK, Detail: "can be written and taken away"}
	s, err := newSource(g, m, digest.NewHasher([32]byte{}), slog.New(slog.DiscardHandler), nil)
	if err == nil {
		defer s.Close()
	}
	for _, statement := range monitor.CanaryStatements(table, 1) {
		if err == nil {
			err = s.Execute(ctx, table, "EXPLAIN "+statement)
		}
	}
	var lacks *cdc.SetupError
	switch {
	case errors.As(err, &lacks) && strings.HasPrefix(lacks.Hint, "GRANT "):
		check.State, check.Detail, check.SQL, check.Hint = preflight.Warn, preflight.OneLine(lacks.Problem), lacks.Hint, monitor.CanaryHint
	case err != nil:
		detail := strings.TrimPrefix(preflight.OneLine(err.Error()), "member "+m.Name+": ") // which the check's line has
		check.State, check.Detail, check.Hint = preflight.Warn, detail, monitor.CanaryHint
	}
	return check
}

// CheckErrant names the transactions with a GTID that a member has and the reference has not, which is asked last: what a member
// had before is no longer on its way from there. Members that do not answer are left out; PostgreSQL has no GTIDs.
func CheckErrant(ctx context.Context, g *config.Group, reference string) (checks []preflight.Check) {
	said := make(map[string]cdc.Progress)
	for _, m := range g.Members {
		if m.Name == reference || g.Engine == config.Postgres {
			continue
		}
		if p, err := askProgress(ctx, g, &m); err == nil {
			said[m.Name] = p
		}
	}
	if len(said) == 0 {
		return nil
	}
	has, err := askProgress(ctx, g, g.Member(reference))
	if err != nil {
		return nil
	}
	all := cdc.Promoted(append(slices.Collect(maps.Values(said)), has), has.Self)
	upstream := cdc.UpstreamOf(all[len(all)-1], all) // the reference may be a replica itself, which lags
	for _, name := range slices.Sorted(maps.Keys(said)) {
		errant := has.Lacks(said[name].Applied[cdc.GTIDLane])
		errant = errant.Without(upstream.Coming(errant, has.Applied[cdc.GTIDLane]))
		if !errant.IsZero() {
			checks = append(checks, preflight.Check{
				Subject: "errant transactions", State: preflight.Warn, About: name,
				Detail: fmt.Sprintf("%s has %s, which %s has not", name, errant.Ranges(), reference),
				Hint:   "somebody wrote there, or it was the primary once: lockstep finds the rows that differ; before a failover to it, see what they did",
			})
		}
	}
	return checks
}

func askProgress(ctx context.Context, g *config.Group, m *config.Member) (cdc.Progress, error) {
	s, err := newSource(g, m, digest.NewHasher([32]byte{}), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return cdc.Progress{}, err
	}
	defer s.Close()
	return s.Progress(ctx)
}
