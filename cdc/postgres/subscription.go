package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// laneFacts is one subscription of the member's database and what is known of its worker.
type laneFacts struct {
	OID        uint32
	Name, Slot string
	Enabled    bool
	Worker     bool
	Errors     int64

	Publications []string
}

// subconninfo holds a password and is closed to us, so the columns are named one by one.
const lanesQuery = `
SELECT s.oid, s.subname::text, coalesce(s.subslotname::text, ''), s.subenabled,
  EXISTS (SELECT FROM pg_catalog.pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL),
  coalesce((SELECT e.apply_error_count FROM pg_catalog.pg_stat_subscription_stats e WHERE e.subid = s.oid), 0),
  s.subpublications
FROM pg_catalog.pg_subscription s
WHERE s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY s.subname`

type appliedFacts struct{ Lane, Position, Written string }

const appliedQuery = `
SELECT o.external_id, o.remote_lsn::text, coalesce(o.local_lsn, '0/0')::text FROM pg_catalog.pg_replication_origin_status o
WHERE o.external_id IS NOT NULL AND o.remote_lsn IS NOT NULL`

// Progress implements [cdc.Source].
func (s *Source) Progress(ctx context.Context) (cdc.Progress, error) {
	p := cdc.Progress{Applied: map[string]cdc.TxSet{}}
	life, seen := s.history.now()
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		if s.standby.Load() {
			p, err = replayProgress(ctx, conn)
			return err
		}
		lanes, err := s.lanes(ctx, conn)
		if err != nil {
			return err
		}
		p.Lanes = lanes
		applied, err := collect[appliedFacts](ctx, conn, appliedQuery)
		if err != nil {
			return missingRight(err, s.originGrants())
		}
		var lanesAt []replayed
		for _, a := range applied {
			remote, err1 := cdc.ParseLSN(a.Position)
			local, err2 := cdc.ParseLSN(a.Written)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			p.Applied[a.Lane] = cdc.Everything(remote)
			if slices.ContainsFunc(lanes, func(l cdc.Lane) bool { return l.Name == a.Lane }) {
				lanesAt = append(lanesAt, replayed{a.Lane, remote, local})
			}
		}
		if err := s.unlessPutBack(ctx, conn, life, seen, lanesAt); err != nil || s.options.ScanOnly {
			return err
		}
		if p.Retained, err = s.retained(ctx, conn); err != nil {
			return err
		}
		// After the origins, in a statement of its own: what they count was written before it.
		p.Barrier, p.End, err = s.endOfCommits(ctx, conn)
		s.barrier.Store(uint64(p.Barrier))
		if err == nil && s.shown.count() > mostShown {
			var now *mvcc
			if now, err = readMVCC(ctx, conn); err == nil {
				s.shown.settle(now)
			}
		}
		return err
	})
	return p, err
}

// retained is how much of its log the server keeps for our slot. More than it may is a gap: the slot is given up.
func (s *Source) retained(ctx context.Context, conn *pgx.Conn) (cdc.Retained, error) {
	slot, err := readSlot(ctx, conn, s.options.Slot)
	if err != nil || slot == nil {
		return cdc.Retained{}, err
	}
	return cdc.Retained{Bytes: slot.Retained, Most: s.options.MaxRetained}, s.tooMuch(slot.Retained)
}

// unlessPutBack holds what lanes have replayed, and the end of the log, against what was known of them.
func (s *Source) unlessPutBack(ctx context.Context, conn *pgx.Conn, life int, seen cdc.LSN, lanes []replayed) error {
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		return fmt.Errorf("read the end of the log on disk: %w", err)
	}
	flushed, err := cdc.ParseLSN(text)
	if err == nil {
		err = s.history.answered(life, seen, flushed, lanes)
	}
	if cdc.IsGap(err) && s.options.ScanOnly {
		s.history.forget() // it has no stream that would begin anew
	}
	return err
}

// mostShown is how many transactions the stream may have shown before it is looked which of them are visible, if nobody
// reads rows.
const mostShown = 1000

func (s *Source) originGrants() string {
	role := quoteName(s.role())
	return fmt.Sprintf("GRANT SELECT ON pg_catalog.pg_replication_origin_status TO %s; "+
		"GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status() TO %s;", role, role)
}

// The sizes of SizeOfXLogShortPHD, and of SizeOfXLogLongPHD at the start of a segment (access/xlog_internal.h).
const shortPageHeader, longPageHeader = 24, 40

func beforePageHeader(p cdc.LSN, page, segment uint64) cdc.LSN {
	if page == 0 || segment == 0 {
		return p
	}
	header := uint64(shortPageHeader)
	if uint64(p)%segment < page {
		header = longPageHeader
	}
	if uint64(p)%page == header {
		return p - cdc.LSN(header)
	}
	return p
}

func (s *Source) lanes(ctx context.Context, conn *pgx.Conn) ([]cdc.Lane, error) {
	facts, err := collect[laneFacts](ctx, conn, lanesQuery)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	carried, err := collect[subscribedFacts](ctx, conn, subscribedQuery)
	if err != nil {
		return nil, fmt.Errorf("read tables of subscriptions: %w", err)
	}
	lanes := make([]cdc.Lane, len(facts))
	for i, f := range facts {
		lanes[i] = cdc.Lane{
			Name: fmt.Sprintf("pg_%d", f.OID), Title: fmt.Sprintf("subscription %q", f.Name), Slot: f.Slot, Enabled: f.Enabled,
			Tables: copying(f.Name, carried), Problem: s.problem(f), Publications: f.Publications,
		}
	}
	return lanes, nil
}

// copying folds partitions into their tables: one that is still copied makes the whole not ready.
func copying(subscription string, carried []subscribedFacts) map[string]string {
	tables := map[string]string{}
	for _, t := range carried {
		if t.Subscription != subscription {
			continue
		}
		reason := tables[t.Root]
		if t.State != "r" {
			reason = "initial copy"
		}
		tables[t.Root] = reason
	}
	return tables
}

// problem says what keeps a subscription from applying. A worker that fails is started again and again, so that it may be
// there when one looks: errors since the last look tell.
func (s *Source) problem(f laneFacts) string {
	last, seen := s.errors[f.OID]
	s.errors[f.OID] = f.Errors
	var problems []string
	if f.Slot == "" {
		problems = append(problems, "it has no slot on its publisher")
	}
	if f.Enabled && !f.Worker {
		problems = append(problems, "its apply worker does not run")
	}
	if seen && f.Errors > last || f.Errors > 0 && f.Enabled && !f.Worker {
		problems = append(problems, fmt.Sprintf("%d errors while applying so far, the server's log has them", f.Errors))
	}
	return strings.Join(problems, "; ")
}
