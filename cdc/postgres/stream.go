package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/fault"
)

// buffered is how many events may wait for a slow receiver before the server has to. Each may be a large transaction, so
// it is no more than what evens out the two sides.
const buffered = 16

// Stream implements [cdc.Source].
//
// One goroutine reads from the server and one tells it what is durable, so that a receiver which takes its time does not
// look like one that is gone (wal_sender_timeout). yield is called by the caller's goroutine.
func (s *Source) Stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	return s.wrap(s.stream(ctx, from, func(e cdc.Event) error {
		e.Through = cdc.TxID{Seq: uint64(e.Position)}
		s.history.yield(e.Position)
		return yield(e)
	}))
}

func (s *Source) stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	before := overlap{from: from.LSN, last: parseMark(from.Mark)}
	conn, status, err := s.startReplication(ctx, &before)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if err := s.beginShown(ctx, from.LSN); err != nil {
		return err
	}
	s.history.yield(from.LSN)
	position := new(atomic.Uint64)
	position.Store(uint64(from.LSN))
	r := &receiver{
		wire:      newWire(conn.PgConn()),
		assembler: newAssembler(s.hasher, s.list.Load),
		silence:   s.silence,
		events:    make(chan cdc.Event, buffered),
		asked:     make(chan struct{}, 1),
		position:  position,
		before:    before,
		proven:    new(atomic.Bool),
		passed:    from.LSN,
		shown:     &s.shown,
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	acks := &acknowledger{
		conn: conn.PgConn(), history: &s.history, position: position, proven: r.proven, start: before.start,
		barrier: &s.barrier, asked: r.asked, patience: s.patience, status: status,
	}
	var group sync.WaitGroup
	var received, acknowledged error
	group.Go(func() { received = fault.Catch(func() error { return r.run(reading) }) })
	group.Go(func() { acknowledged = fault.Catch(func() error { return acks.run(reading) }) })
	yielded := drain(ctx, r.events, yield)
	stop()
	group.Wait()
	switch {
	case yielded != nil:
		return yielded
	case ctx.Err() != nil:
		return ctx.Err()
	}
	// The server says on the reading side why it hangs up; the writing side only finds that it has.
	return s.explain(ctx, cmp.Or(received, acknowledged))
}

// beginShown notes what was in progress when the stream began.
func (s *Source) beginShown(ctx context.Context, from cdc.LSN) error {
	return s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		now, err := readMVCC(ctx, conn)
		if err == nil {
			s.shown.begin(from, now)
		}
		return err
	})
}

// drain hands events on until there are no more.
func drain(ctx context.Context, events <-chan cdc.Event, yield func(cdc.Event) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, more := <-events:
			if !more {
				return nil
			}
			if err := yield(e); err != nil {
				return err
			}
		}
	}
}

// startReplication opens the stream and makes sure that it begins where we left off: the server forwards a start before
// the slot's confirmed position without a word. Nobody can move the slot once we have it.
func (s *Source) startReplication(ctx context.Context, before *overlap) (_ *pgx.Conn, status time.Duration, err error) {
	if err := s.keepSlot(ctx, before.from); err != nil {
		return nil, 0, err
	}
	err = s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		types, err := loadTypes(ctx, conn)
		if err == nil {
			s.setTypes(types)
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	conn, err := s.login(ctx, true)
	if err != nil {
		return nil, 0, err
	}
	if status, err = s.statusInterval(ctx, conn.PgConn()); err == nil {
		err = s.sameServer(ctx, conn.PgConn(), before.from)
	}
	if err != nil {
		hangUp(conn)
		return nil, 0, err
	}
	err = pglogrepl.StartReplication(ctx, conn.PgConn(), quoteName(s.options.Slot), pglogrepl.LSN(before.ask()), pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names " + quoteText(quoteName(s.options.Publication))},
	})
	if err == nil {
		err = s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			slot, err := readSlot(ctx, conn, s.options.Slot)
			if err != nil {
				return err
			}
			if err := s.continues(slot, before.from); err != nil {
				return err
			}
			before.start, err = cdc.ParseLSN(slot.Confirmed)
			return err
		})
	}
	if err != nil {
		hangUp(conn)
		return nil, 0, s.explain(ctx, err)
	}
	return conn, status, nil
}

// sameServer asks the very connection that the stream will come by whether its server is who it was, and whether its log
// reaches to from: we acknowledge no more than that.
func (s *Source) sameServer(ctx context.Context, conn *pgconn.PgConn, from cdc.LSN) error {
	is, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify system: %w", err)
	}
	known := s.identity.Load()
	if known != nil && (known.SystemID != is.SystemID || known.Timeline != is.Timeline) {
		return fmt.Errorf("another server answers than before: system identifier %s on timeline %d, was %s on timeline %d",
			is.SystemID, is.Timeline, known.SystemID, known.Timeline)
	}
	if end := cdc.LSN(is.XLogPos); end < from {
		return putBack(end, from)
	}
	return nil
}

// A server that decodes much and has nothing to send answers us after half of its wal_sender_timeout: with this at most its silence for
// longer means that the connection is dead. It lets go of our slot that soon when it is, too.
const limitSender = "SELECT pg_catalog.set_config(name, '20s', false) FROM pg_catalog.pg_settings" +
	" WHERE name = 'wal_sender_timeout' AND setting::int NOT BETWEEN 1 AND 20000"

// statusInterval asks the walsender itself how long it waits for us: the setting may differ by role and database.
func (s *Source) statusInterval(ctx context.Context, conn *pgconn.PgConn) (time.Duration, error) {
	if _, err := simpleQuery(ctx, conn, limitSender); err != nil {
		return 0, fmt.Errorf("set wal_sender_timeout: %w", err)
	}
	rows, err := simpleQuery(ctx, conn, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	if len(rows) != 1 {
		return s.status, nil
	}
	timeout, err := strconv.Atoi(string(rows[0][0])) // milliseconds; 0: it waits for ever
	if err != nil || timeout <= 0 {
		return s.status, err
	}
	return min(s.status, time.Duration(timeout)*time.Millisecond/4), nil // in time even when one is late
}

// explain finds out what the end of a stream means for the one who wants to go on.
func (s *Source) explain(ctx context.Context, err error) error {
	if err == nil || cdc.IsGap(err) || cdc.IsSetup(err) {
		return err
	}
	answer := serverAnswer(err)
	switch {
	case errors.Is(err, errSkippedPublication), answer != nil && answer.Code == undefinedObject && strings.Contains(answer.Message, "publication"):
		return s.lostPublication(ctx)
	case answer == nil:
		return err
	case answer.Code == undefinedObject && strings.Contains(answer.Message, "slot"), answer.Code == undefinedFile,
		answer.Code == notInPrerequisite && strings.Contains(answer.Message, "slot"):
		return &cdc.GapError{Reason: fmt.Sprintf("slot %q cannot be read from any more: %s", s.options.Slot, answer.Message)}
	}
	return err
}

// lostPublication is asked when the server did not find our publication at some point of its log. If it is there now, it
// was made anew, and what was written in between cannot be decoded any more.
func (s *Source) lostPublication(ctx context.Context) error {
	return s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := s.hasPublication(ctx, conn); err != nil {
			return err
		}
		return &cdc.GapError{
			Reason: fmt.Sprintf("publication %q was dropped and made again: what was written in between is not in the stream", s.options.Publication),
			Hint:   "change lockstep's publication with ALTER PUBLICATION only",
		}
	})
}
