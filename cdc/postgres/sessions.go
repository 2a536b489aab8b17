package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// sessions are ordinary connections that nobody uses now. All that is asked of a member, and read of its tables, takes one,
// for a new one costs the server a process; streams and snapshots have their own. Each is as it was when it was opened.
type sessions struct {
	open   func(context.Context) (*pgx.Conn, error)
	idle   chan *pgx.Conn
	closed atomic.Bool // what is given from now on is closed
	// era counts how often the server has come to be another one. What was opened before is a session with the one that it was.
	era atomic.Int64
}

// eraKey has a session's era in what its connection keeps for us.
const eraKey = "lockstep era"

// mostIdle is for a question beside two readers of tables. What is opened beyond that is closed after use.
const mostIdle = 3

// take returns a session, which give takes back. One that was used may have broken since.
func (s *sessions) take(ctx context.Context) (conn *pgx.Conn, used bool, err error) {
	for {
		select {
		case conn := <-s.idle:
			if conn.PgConn().CustomData()[eraKey] == s.era.Load() {
				return conn, true, nil
			}
			hangUp(conn)
		default:
			era := s.era.Load()
			if conn, err = s.open(ctx); err == nil {
				conn.PgConn().CustomData()[eraKey] = era
			}
			return conn, false, err
		}
	}
}

// alive is take for what cannot be asked again.
func (s *sessions) alive(ctx context.Context) (*pgx.Conn, error) {
	for {
		conn, used, err := s.take(ctx)
		if err != nil || !used || conn.Ping(ctx) == nil {
			return conn, err
		}
		hangUp(conn)
	}
}

// give keeps a session for the next, unless it has broken, or was left in a transaction or in the middle of an answer.
func (s *sessions) give(conn *pgx.Conn) {
	const outside = 'I' // https://www.postgresql.org/docs/current/protocol-message-formats.html, ReadyForQuery
	if !conn.IsClosed() && !conn.PgConn().IsBusy() && conn.PgConn().TxStatus() == outside {
		select {
		case s.idle <- conn:
			if s.closed.Load() {
				s.close()
			}
			return
		default:
		}
	}
	hangUp(conn)
}

func (s *sessions) close() {
	s.closed.Store(true)
	for {
		select {
		case conn := <-s.idle:
			hangUp(conn)
		default:
			return
		}
	}
}

// within runs do with one of the server's timeouts set, which others shall not have.
func within(ctx context.Context, conn *pgx.Conn, timeout string, limit time.Duration, do func() error) error {
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET %s = %d", timeout, limit.Milliseconds())); err != nil {
		return err
	}
	err := do()
	if _, reset := conn.Exec(ctx, "RESET "+timeout); reset != nil {
		hangUp(conn)
	}
	return err
}
