package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// manyHeld is from what age on, in transactions, the oldest snapshot of our database is very old: with so many versions
// that VACUUM cannot remove, tables bloat, and scans with them. A server that writes 1,000 transactions a second gets
// there in under three hours.
const manyHeld = 10_000_000

type pressureFacts struct {
	Running, Hidden int
	Oldest          float64 // seconds
	Held            int64
}

// pressureQuery reads what the server keeps in memory. Of sessions of other roles we see neither state nor times without
// pg_read_all_stats, but the snapshot: most sessions have one while, and only while, they run a statement.
//
// What keeps VACUUM from our tables: snapshots of our database and of those without one (a standby that gives feedback),
// prepared transactions, and slots. Our own sessions are left out, for no scan may wait for itself.
const pressureQuery = `
WITH s AS (
  SELECT a.*, backend_type IS NULL AS hidden, datid IS NULL OR datname = current_database() AS here FROM pg_catalog.pg_stat_activity a
  WHERE usesysid IS NOT NULL AND NOT (usename = current_user AND application_name = current_setting('application_name'))
), held (by) AS (
  SELECT age(backend_xmin) FROM s WHERE here
  UNION ALL SELECT age(transaction) FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
  UNION ALL SELECT age(xmin) FROM pg_catalog.pg_replication_slots
)
SELECT count(*) FILTER (WHERE (state IN ('active', 'fastpath function call') AND backend_type = 'client backend' OR hidden AND backend_xmin IS NOT NULL)
    AND pid NOT IN (SELECT r.pid FROM pg_catalog.pg_stat_replication r))::int,
  count(*) FILTER (WHERE hidden)::int,
  coalesce(greatest(extract(epoch FROM clock_timestamp() - min(xact_start)), 0), 0)::float8,
  coalesce((SELECT max(by) FROM held), 0)::bigint
FROM s`

// Pressure implements [cdc.Gauger].
func (s *Source) Pressure(ctx context.Context) (cdc.Pressure, error) {
	var p cdc.Pressure
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		facts, err := collect[pressureFacts](ctx, conn, pressureQuery)
		if err != nil {
			return fmt.Errorf("read how busy the server is: %w", err)
		}
		f := facts[0]
		p = cdc.Pressure{
			Running: f.Running, Oldest: time.Duration(f.Oldest * float64(time.Second)),
			Held: f.Held, ManyHeld: manyHeld,
		}
		if f.Hidden > 0 {
			p.Notes = append(p.Notes, fmt.Sprintf("sessions of other roles hide what they do and since when: GRANT pg_read_all_stats TO %s;", quoteName(s.role())))
		}
		return nil
	})
	return p, err
}
