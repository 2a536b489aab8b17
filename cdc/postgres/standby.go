package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// scanOnly reports whether the member's rows are all that is read of it: so its operator wants it, or it is a physical
// standby, which has no log of its own.
func (s *Source) scanOnly() bool { return s.options.ScanOnly || s.standby.Load() }

// replayedQuery asks a standby how far it is. The position comes first: who sees the receiver gone or the replay paused
// sees a position of before.
const replayedQuery = `
SELECT pg_catalog.pg_last_wal_replay_lsn()::text, current_setting('wal_block_size')::bigint,
  (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'),
  pg_catalog.pg_is_wal_replay_paused(), EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver)`

// replayProgress is the progress of a physical standby. A transaction is counted as replayed after it is visible there
// (https://www.postgresql.org/docs/current/functions-admin.html, "Recovery Information Functions").
func replayProgress(ctx context.Context, conn *pgx.Conn) (cdc.Progress, error) {
	var text string
	var page, segment uint64
	var paused, receives bool
	if err := conn.QueryRow(ctx, replayedQuery).Scan(&text, &page, &segment, &paused, &receives); err != nil {
		return cdc.Progress{}, fmt.Errorf("read how far the standby has replayed: %w", err)
	}
	p, err := cdc.ParseLSN(text)
	if err != nil {
		return cdc.Progress{}, err
	}
	lane := cdc.Lane{Name: cdc.WALLane, Title: "streaming replication", Enabled: !paused}
	if !receives {
		lane.Problem = "no WAL receiver runs"
	}
	return cdc.Progress{
		Applied: map[string]cdc.TxSet{cdc.WALLane: cdc.Everything(afterPageHeader(p, page, segment))},
		Lanes:   []cdc.Lane{lane},
	}, nil
}

// afterPageHeader is the inverse of [beforePageHeader]: who has replayed up to the start of a page has replayed up to
// behind its header, which is no record.
func afterPageHeader(p cdc.LSN, page, segment uint64) cdc.LSN {
	if page == 0 || segment == 0 || uint64(p)%page != 0 {
		return p
	}
	if uint64(p)%segment == 0 {
		return p + longPageHeader
	}
	return p + shortPageHeader
}
