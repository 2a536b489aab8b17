package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

var _ cdc.Member = (*Source)(nil)

// commitTime is within what a commit that is in the log can be seen by all, unless it waits for a synchronous standby.
const commitTime = 200 * time.Millisecond

// Written implements [cdc.Member].
func (s *Source) Written(ctx context.Context) (set cdc.TxSet, err error) {
	err = s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		set, _, err = writtenOrReplayed(ctx, conn)
		return err
	})
	return set, err
}

// Visible implements [cdc.Member]. A transaction that commits is written to the log and then taken off the list of those in
// progress; so once all have ended that were in progress after the end of the log was read, everything before that end can
// be seen. Those that do not end soon have not begun to commit, or wait for a synchronous standby.
func (s *Source) Visible(ctx context.Context) (cdc.TxSet, error) {
	var set cdc.TxSet
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		written, standby, err := writtenOrReplayed(ctx, conn)
		if err != nil || standby {
			set = written // a standby counts a commit as replayed after it can be seen
			return err
		}
		shown, err := s.committed(ctx, conn)
		if err == nil && shown {
			set = written
		}
		return err
	})
	return set, err
}

// writtenOrReplayed is all that the log has, or on a standby what of its primary's was replayed.
func writtenOrReplayed(ctx context.Context, conn *pgx.Conn) (set cdc.TxSet, standby bool, err error) {
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_is_in_recovery()").Scan(&standby); err != nil {
		return set, false, fmt.Errorf("ask whether the server is a standby: %w", err)
	}
	if standby {
		progress, err := replayProgress(ctx, conn)
		return progress.Applied[cdc.WALLane], true, err
	}
	l, err := readLogEnd(ctx, conn)
	return cdc.Everything(l.written), false, err
}

// The xids that are in progress in the database. A snapshot does not list them all: from the first one on that is above all
// that have ended, they are in progress without being named. Everyone may see the xid of others.
const inProgressQuery = `
SELECT backend_xid::text FROM pg_catalog.pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() AND datname = current_database()
UNION ALL SELECT transaction::text FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()`

// committed reports whether no transaction that is in progress is in the log as committed.
func (s *Source) committed(ctx context.Context, conn *pgx.Conn) (bool, error) {
	running, err := collectValues(ctx, conn, inProgressQuery)
	if err != nil || len(running) == 0 {
		return err == nil, err
	}
	deadline := time.NewTimer(commitTime)
	defer deadline.Stop()
	again := time.NewTicker(commitTime / 20)
	defer again.Stop()
	for {
		now, err := collectValues(ctx, conn, inProgressQuery)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(now, func(xid string) bool { return slices.Contains(running, xid) }) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-again.C:
		case <-deadline.C:
			return s.noneWaits(ctx, conn)
		}
	}
}

func collectValues(ctx context.Context, conn *pgx.Conn, query string) ([]string, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read which transactions are in progress: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const waitersQuery = `
SELECT current_setting('synchronous_standby_names') <> '',
  pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database())`

// noneWaits reports whether no commit waits for a synchronous standby.
func (s *Source) noneWaits(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var synchronous, allowed, waits bool
	if err := conn.QueryRow(ctx, waitersQuery).Scan(&synchronous, &allowed, &waits); err != nil {
		return false, fmt.Errorf("read what commits wait for: %w", err)
	}
	if synchronous && !allowed {
		return false, &cdc.SetupError{
			Problem: "the server has synchronous standbys, and we may not see whether commits wait for one",
			Hint:    fmt.Sprintf("GRANT pg_read_all_stats TO %s;", quoteName(s.role())),
		}
	}
	return !synchronous || !waits, nil
}
