package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// subscriptionFacts is one subscription of the member's database that carries tables which match.
type subscriptionFacts struct {
	Name, Slot      string
	Enabled, Worker bool
	Publications    []string
	tables          []subscribedFacts // that match
}

// subscribedFacts is a table that a subscription carries.
type subscribedFacts struct {
	Subscription, Table, Root string
	State                     string // pg_subscription_rel.srsubstate; r: ready
}

// subconninfo holds a password and is closed to us, so the columns are named one by one.
const subscriptionQuery = `
SELECT s.subname::text, coalesce(s.subslotname::text, ''), s.subenabled,
  EXISTS (SELECT FROM pg_catalog.pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL),
  s.subpublications
FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() ORDER BY 1`

var subscribedQuery = `
SELECT s.subname::text, ` + qualifiedSQL("n", "c") + `, ` + qualifiedSQL("rn", "r") + `, t.srsubstate::text
FROM pg_catalog.pg_subscription_rel t
JOIN pg_catalog.pg_subscription s ON s.oid = t.srsubid
JOIN pg_catalog.pg_class c ON c.oid = t.srrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid) ELSE c.oid END
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
ORDER BY 1, 2`

func readSubscriptions(ctx context.Context, conn *pgx.Conn, match func(string) bool) ([]subscriptionFacts, error) {
	rows, err := conn.Query(ctx, subscriptionQuery)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s subscriptionFacts, err error) {
		return s, row.Scan(&s.Name, &s.Slot, &s.Enabled, &s.Worker, &s.Publications)
	})
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	tables, err := collect[subscribedFacts](ctx, conn, subscribedQuery)
	if err != nil {
		return nil, fmt.Errorf("read tables of subscriptions: %w", err)
	}
	for _, t := range tables {
		i := slices.IndexFunc(all, func(s subscriptionFacts) bool { return s.Name == t.Subscription })
		if i >= 0 && match(t.Root) {
			all[i].tables = append(all[i].tables, t)
		}
	}
	return slices.DeleteFunc(all, func(s subscriptionFacts) bool { return len(s.tables) == 0 }), nil
}

// upstreams are the publishers, each known by the slot that it has for a subscription.
func upstreams(subscriptions []subscriptionFacts) (list []preflight.Upstream) {
	for _, s := range subscriptions {
		list = append(list, preflight.Upstream{ID: s.Slot, Named: fmt.Sprintf("the server with slot %q", s.Slot)})
	}
	return list
}

// lanesOf are the ways by which subscriptions bring tables.
func lanesOf(subscriptions []subscriptionFacts) (lanes []cdc.Lane) {
	for _, s := range subscriptions {
		lanes = append(lanes, cdc.Lane{
			Name: s.Name, Title: fmt.Sprintf("subscription %q", s.Name), Slot: s.Slot, Enabled: s.Enabled,
			Tables: copying(s.Name, s.tables), Publications: s.Publications,
		})
	}
	return lanes
}

func judgeSubscriptions(subscriptions []subscriptionFacts) []preflight.Check {
	var checks []preflight.Check
	carriers := map[string][]string{} // table to the subscriptions that write it
	var order []string
	for _, s := range subscriptions {
		checks = append(checks, s.judge())
		for _, t := range s.tables {
			if carriers[t.Root] == nil {
				order = append(order, t.Root)
			}
			if !slices.Contains(carriers[t.Root], s.Name) {
				carriers[t.Root] = append(carriers[t.Root], s.Name)
			}
		}
	}
	for _, table := range order {
		if len(carriers[table]) > 1 {
			checks = append(checks, preflight.Check{Subject: "table " + table,
				Detail: fmt.Sprintf("is carried by %d subscriptions (%s), whose order nobody can tell", len(carriers[table]), strings.Join(carriers[table], ", ")),
				Hint:   "let one subscription carry it, or exclude the table"})
		}
	}
	return checks
}

func (s subscriptionFacts) judge() preflight.Check {
	c := preflight.Check{Subject: "subscription " + s.Name, State: preflight.OK, Detail: fmt.Sprintf("carries %d of the tables", len(s.tables))}
	var copying []string
	for _, t := range s.tables {
		if t.State != "r" {
			copying = append(copying, t.Table)
		}
	}
	switch {
	case s.Slot == "":
		c.State, c.Detail = preflight.Fail, "has no slot on its publisher"
		c.Hint = fmt.Sprintf("ALTER SUBSCRIPTION %s SET (slot_name = …)", quoteName(s.Name))
	case !s.Enabled:
		c.State, c.Detail = preflight.Fail, "is disabled"
		c.Hint = fmt.Sprintf("ALTER SUBSCRIPTION %s ENABLE, once the reason it was disabled for is gone", quoteName(s.Name))
	case !s.Worker:
		c.State, c.Detail = preflight.Fail, "has no worker at this moment, so it applies nothing"
		c.Hint = "the server's log says why it does not stay up"
	case len(copying) > 0:
		c.State, c.Detail = preflight.Warn, "initial copy is not through for "+preflight.SomeOf("tables", copying)
		c.Hint = "lockstep compares these tables once it is"
	}
	return c
}
