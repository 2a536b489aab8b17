package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// slotState is a row of pg_replication_slots.
type slotState struct {
	Plugin, Database string
	Here             bool // of the database that we are connected to
	ActivePID        int32
	WALStatus        string
	Invalidation     string // invalidation_reason, from PostgreSQL 17 on
	TwoPhase         bool
	Confirmed        string // confirmed_flush_lsn
	End              string // of the server's log, on its disk
	Retained         int64  // bytes of its log that the server keeps for the slot
}

// A column that only newer servers have is read by way of JSON.
const slotStateQuery = `
SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(database = current_database(), false),
  coalesce(active_pid, 0), coalesce(wal_status, ''), coalesce(to_jsonb(s) ->> 'invalidation_reason', ''),
  two_phase, coalesce(confirmed_flush_lsn::text, ''),
  pos.at::text, greatest(coalesce(pos.at - restart_lsn, 0), 0)::bigint
FROM pg_catalog.pg_replication_slots s,
  LATERAL (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END AS at) pos
WHERE slot_name = $1`

// readSlot returns nil if there is no slot of the name.
func readSlot(ctx context.Context, conn *pgx.Conn, name string) (*slotState, error) {
	slots, err := collect[slotState](ctx, conn, slotStateQuery, name)
	if err != nil {
		return nil, fmt.Errorf("read slot %q: %w", name, err)
	}
	if len(slots) == 0 {
		return nil, nil
	}
	return &slots[0], nil
}

// Prepare implements [cdc.Source].
func (s *Source) Prepare(ctx context.Context, from cdc.Position) (cdc.Position, error) {
	if from.LSN != 0 {
		if err := s.keepSlot(ctx, from.LSN); err != nil {
			return cdc.Position{}, s.wrap(err)
		}
		s.history.goOn(from.LSN)
		return cdc.Position{LSN: from.LSN, Shown: cdc.Everything(from.LSN), Mark: from.Mark}, nil
	}
	start, err := s.createSlot(ctx)
	if err != nil {
		return cdc.Position{}, s.wrap(err)
	}
	s.history.begin(start)
	s.shown.reset()
	s.barrier.Store(0)
	return cdc.Position{LSN: start, Shown: cdc.Everything(start), Mark: mark{commit: start, end: start}.String()}, nil
}

// Leaves says what of lockstep's stays on a server that is not watched any more, and how it is taken away.
func (o Options) Leaves() string {
	return fmt.Sprintf("its slot keeps WAL on the server until it is dropped there: SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s; DROP PUBLICATION IF EXISTS %s;",
		quoteText(o.Slot), quoteName(o.Publication))
}

// fit checks what no slot of ours lacks.
func (s *Source) fit(slot *slotState) error {
	name := s.options.Slot
	drop := fmt.Sprintf("it is not ours; give the group another name, or SELECT pg_drop_replication_slot(%s);", quoteText(name))
	switch {
	case slot.Plugin == "":
		return &cdc.SetupError{Problem: fmt.Sprintf("slot %q is a physical one", name), Hint: drop}
	case slot.Plugin != "pgoutput":
		return &cdc.SetupError{Problem: fmt.Sprintf("slot %q uses the output plugin %s, not pgoutput", name, slot.Plugin), Hint: drop}
	case !slot.Here:
		return &cdc.SetupError{Problem: fmt.Sprintf("slot %q belongs to database %q", name, slot.Database), Hint: drop}
	case slot.TwoPhase:
		return &cdc.SetupError{Problem: fmt.Sprintf("slot %q decodes two-phase commits", name),
			Hint: fmt.Sprintf("SELECT pg_drop_replication_slot(%s); lockstep makes its own", quoteText(name))}
	}
	return nil
}

// continues checks that the slot still holds all that was written after from, of the same history.
func (s *Source) continues(slot *slotState, from cdc.LSN) error {
	name := s.options.Slot
	if slot == nil {
		return &cdc.GapError{Reason: fmt.Sprintf("slot %q is gone", name), Hint: "leave lockstep's slots alone while it is in use"}
	}
	if err := s.fit(slot); err != nil {
		return err
	}
	if slot.WALStatus == "lost" || slot.Invalidation != "" {
		why := slot.Invalidation
		if why == "" {
			why = "wal_removed"
		}
		return &cdc.GapError{Reason: fmt.Sprintf("slot %q was invalidated (%s)", name, why), Hint: avoidInvalidation(why)}
	}
	confirmed, err := cdc.ParseLSN(slot.Confirmed)
	if err != nil {
		return fmt.Errorf("slot %q: %w", name, err)
	}
	end, err := cdc.ParseLSN(slot.End)
	if err != nil {
		return fmt.Errorf("end of the log: %w", err)
	}
	if end < from {
		return putBack(end, from)
	}
	if confirmed > from {
		return &cdc.GapError{Reason: fmt.Sprintf(
			"slot %q was moved on to %v beyond our checkpoint %v: somebody re-created or advanced it", name, confirmed, from),
			Hint: "let only one lockstep use it, and do not restore an old data_dir beside a newer one"}
	}
	return nil
}

func avoidInvalidation(reason string) string {
	switch reason {
	case "idle_timeout":
		return "raise idle_replication_slot_timeout"
	case "wal_level_insufficient":
		return "keep wal_level at logical"
	case "rows_removed":
		return "set hot_standby_feedback = on"
	}
	return "raise max_slot_wal_keep_size"
}

// keepSlot checks the slot for a stream that goes on after from. Our own last connection may still hold it.
func (s *Source) keepSlot(ctx context.Context, from cdc.LSN) error {
	return s.awaitFree(ctx, func(ctx context.Context, conn *pgx.Conn) (*slotState, error) {
		slot, err := readSlot(ctx, conn, s.options.Slot)
		if err == nil {
			err = s.bound(ctx, conn, slot)
		}
		if err == nil {
			err = s.hasPublication(ctx, conn)
		}
		if err == nil {
			err = s.continues(slot, from)
		}
		return slot, err
	})
}

// bound gives a slot up for which the server keeps more of its log than it may, whatever keeps us from reading by it. That
// is a gap.
func (s *Source) bound(ctx context.Context, conn *pgx.Conn, slot *slotState) error {
	if slot == nil || slot.ActivePID != 0 || s.fit(slot) != nil {
		return nil
	}
	gap := s.tooMuch(slot.Retained)
	if gap == nil {
		return nil
	}
	if err := s.dropSlot(ctx, conn); err != nil {
		return err
	}
	return gap
}

func (s *Source) dropSlot(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", s.options.Slot)
	return err
}

// tooMuch is a gap where a server keeps more of its log for us than it may.
func (s *Source) tooMuch(retained int64) error {
	most := s.options.MaxRetained
	if most == 0 || retained <= most {
		return nil
	}
	return &cdc.GapError{
		Reason: fmt.Sprintf("the server keeps %d MB of WAL for lockstep's slot, more than max_retained_wal (%d MB)", retained>>20, most>>20),
		Hint:   "lockstep's slot is given up before it fills the server's disk; see to what keeps lockstep back, or raise max_retained_wal",
	}
}

// awaitFree looks at the slot until nobody reads by it, an error, or patience ends.
func (s *Source) awaitFree(ctx context.Context, look func(context.Context, *pgx.Conn) (*slotState, error)) error {
	deadline := time.NewTimer(s.active)
	defer deadline.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		var slot *slotState
		err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
			slot, err = look(ctx, conn)
			return err
		})
		if err != nil || slot == nil || slot.ActivePID == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		case <-deadline.C:
			return &cdc.SetupError{
				Problem: fmt.Sprintf("slot %q is in use by the server's process %d", s.options.Slot, slot.ActivePID),
				Hint:    "another lockstep reads it; stop that one, or give one of them another group name",
			}
		}
	}
}

func (s *Source) hasPublication(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)", s.options.Publication).Scan(&exists)
	if err != nil {
		return fmt.Errorf("read pg_publication: %w", err)
	}
	if !exists {
		return s.noPublication()
	}
	return nil
}

func (s *Source) noPublication() error {
	return &cdc.SetupError{
		Problem: fmt.Sprintf("publication %q does not exist", s.options.Publication),
		Hint:    fmt.Sprintf("run the SQL that `lockstep check -o sql --member %s` prints", s.options.Member),
	}
}

// createSlot starts over: a slot that was left behind is replaced, unless somebody reads it.
func (s *Source) createSlot(ctx context.Context) (cdc.LSN, error) {
	var left *slotState
	err := s.awaitFree(ctx, func(ctx context.Context, conn *pgx.Conn) (*slotState, error) {
		var err error
		if left, err = readSlot(ctx, conn, s.options.Slot); err == nil {
			err = s.bound(ctx, conn, left)
		}
		if cdc.IsGap(err) {
			left, err = nil, nil
		}
		if err == nil {
			err = s.hasPublication(ctx, conn)
		}
		if err == nil && left != nil {
			err = s.fit(left)
		}
		return left, err
	})
	if err != nil {
		return 0, err
	}
	conn, err := s.alive(ctx)
	if err != nil {
		return 0, err
	}
	defer s.give(conn)
	if left != nil {
		if err := s.dropSlot(ctx, conn); err != nil {
			return 0, s.slotRefused(ctx, err)
		}
	}
	var at string
	// The server keeps the time, so that a slot is never made behind our back.
	err = within(ctx, conn, "statement_timeout", s.slot, func() error {
		return conn.QueryRow(ctx, "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')", s.options.Slot).Scan(&at)
	})
	if err != nil {
		return 0, s.slotRefused(ctx, err)
	}
	return cdc.ParseLSN(at)
}

// slotRefused explains why a slot could not be made.
func (s *Source) slotRefused(ctx context.Context, err error) error {
	switch sqlState(err) {
	case limitExceeded:
		return &cdc.SetupError{Problem: "all replication slots are in use", Hint: "raise max_replication_slots"}
	case notInPrerequisite:
		return &cdc.SetupError{Problem: serverMessage(err), Hint: "set wal_level = logical and restart the server; a physical standby cannot be watched"}
	case insufficientRight:
		return &cdc.SetupError{Problem: serverMessage(err), Hint: fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(s.role()))}
	case objectInUse:
		return &cdc.SetupError{Problem: serverMessage(err), Hint: "another lockstep reads it"}
	case queryCanceled:
		return s.blocked(ctx, s.slot)
	}
	return err
}

// serverMessage is what the server said, without the driver's frame around it.
func serverMessage(err error) string {
	if answer := serverAnswer(err); answer != nil {
		return answer.Message
	}
	return err.Error()
}

func (s *Source) role() string {
	config, err := s.options.config()
	if err != nil {
		return ""
	}
	return config.User
}

// The oldest come first. The xid of others is there for everyone to see, the rest only for members of pg_read_all_stats.
const blockersQuery = `
SELECT text FROM (
  SELECT 'pid ' || pid || coalesce(' (' || usename || ', open for ' || date_trunc('second', now() - xact_start) || ')', ''), age(backend_xid)
  FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
  UNION ALL
  SELECT 'prepared transaction ' || quote_literal(gid) || ' (since ' || date_trunc('second', prepared) || ')', age(transaction) FROM pg_catalog.pg_prepared_xacts
) t (text, age) ORDER BY age DESC LIMIT 5`

// blocked names the transactions that a new slot has to wait for.
func (s *Source) blocked(ctx context.Context, waited time.Duration) error {
	var blockers []string
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, blockersQuery)
		if err != nil {
			return err
		}
		blockers, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return fmt.Errorf("a replication slot was not ready in %v: %w", waited, err)
	}
	if len(blockers) == 0 {
		blockers = []string{"none at this moment"}
	}
	return fmt.Errorf("a replication slot was not ready in %v: it waits for the end of all running transactions that write: %s",
		waited, strings.Join(blockers, "; "))
}

// Confirmed implements [cdc.Source].
func (s *Source) Confirmed(ctx context.Context) (map[string]cdc.TxSet, error) {
	confirmed := map[string]cdc.TxSet{}
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT slot_name::text, confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots
			WHERE slot_type = 'logical' AND database = current_database() AND confirmed_flush_lsn IS NOT NULL`)
		if err != nil {
			return err
		}
		var name, at string
		_, err = pgx.ForEachRow(rows, []any{&name, &at}, func() error {
			p, err := cdc.ParseLSN(at)
			confirmed[name] = cdc.Everything(p)
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return confirmed, nil
}
