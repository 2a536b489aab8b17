package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// rest is how far a log went at a moment after which no transaction has ended. A server also writes of its own what no
// commit follows: whoever reads a page may tidy it up. That stays in memory for up to 15 seconds (LOG_SNAPSHOT_INTERVAL_MS
// of bgwriter.c), and a stream shows only what is on disk: who waited for it would be told of a difference that much later.
type rest struct {
	mu     sync.Mutex
	moment string // the server's start, and which transactions had ended
	end    cdc.LSN
}

// logEnd is the end of a log, and the moment at which it was asked for.
type logEnd struct {
	written, flushed cdc.LSN
	moment           string
}

// reachable keeps an end that is on disk, and returns the lowest that is known to be behind every transaction that had ended.
// One that is not on disk a crash may take, and another transaction its number.
func (r *rest) reachable(l logEnd) cdc.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case l.written <= l.flushed:
		r.moment, r.end = l.moment, l.written
	case r.moment == l.moment:
		return r.end
	}
	return l.written
}

// endOfCommits is a position that the stream reaches soon, with all behind it that has ended when it is called. In the
// transaction of a view it has all behind it that the view shows.
func (s *Source) endOfCommits(ctx context.Context, conn *pgx.Conn) (at, written cdc.LSN, err error) {
	l, err := readLogEnd(ctx, conn)
	if err != nil {
		return 0, 0, err
	}
	if s.rest.reachable(l) == l.written {
		return l.written, l.written, nil
	}
	// What is in the log as committed, and has not ended for others yet, is in no snapshot: it may wait for a standby.
	running, err := collectValues(ctx, conn, inProgressQuery)
	if err != nil || len(running) > 0 {
		return l.written, l.written, err
	}
	if l, err = readLogEnd(ctx, conn); err != nil { // something may have ended while it was looked for what runs
		return 0, 0, err
	}
	return s.rest.reachable(l), l.written, nil
}

const logEndQuery = `
SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.pg_current_wal_flush_lsn()::text,
  current_setting('wal_block_size')::bigint, (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'),
  extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text || ' ' || pg_catalog.pg_current_snapshot()::text`

// readLogEnd asks for the end of the last record that the server has begun to write. At the start of a page the server
// counts the page's header in, which no record ends in: the stream would reach that position with the next record only.
func readLogEnd(ctx context.Context, conn *pgx.Conn) (l logEnd, err error) {
	var written, flushed string
	var page, segment uint64
	if err := conn.QueryRow(ctx, logEndQuery).Scan(&written, &flushed, &page, &segment, &l.moment); err != nil {
		return l, fmt.Errorf("read the end of the log: %w", err)
	}
	if l.written, err = cdc.ParseLSN(written); err != nil {
		return l, err
	}
	l.written = beforePageHeader(l.written, page, segment)
	l.flushed, err = cdc.ParseLSN(flushed)
	return l, err
}
