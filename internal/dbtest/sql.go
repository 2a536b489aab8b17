package dbtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// DSN names a database of the server as a URL, for the superuser and without its password. Empty: the server's own.
func (s *Server) DSN(database string) string { return s.url(superuser, database, false) }

// DSNFor is DSN for another role.
func (s *Server) DSNFor(role, database string) string { return s.url(role, database, false) }

func (s *Server) url(role, database string, withPassword bool) string {
	if database == "" {
		database = s.Database
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(role),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	if withPassword && s.password != "" {
		u.User = url.UserPassword(role, s.password)
	}
	return u.String()
}

// Conn opens a session on the server's database as the superuser. The caller closes it.
func (s *Server) Conn(ctx context.Context) (*pgx.Conn, error) { return s.connect(ctx, s.Database) }

func (s *Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.url(superuser, database, true))
	if err != nil {
		return nil, fmt.Errorf("%v on port %d: %w", s.Install.Version, s.Port, err)
	}
	return conn, nil
}

// Exec runs statements one after the other in one new session. A string with several statements is one transaction.
func (s *Server) Exec(ctx context.Context, statements ...string) error {
	return s.session(ctx, s.Database, func(conn *pgx.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
}

// createDatabase has the files copied as they are, for half of what it takes to write the pages to the log, which each
// stream would have to read.
func (s *Server) createDatabase(ctx context.Context) error {
	return s.session(ctx, superuser, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{s.Database}.Sanitize()+" STRATEGY file_copy")
		return err
	})
}

// session runs do in a session that is as good as a new one.
func (s *Server) session(ctx context.Context, database string, do func(*pgx.Conn) error) error {
	place := s.url(superuser, database, true)
	conn, err := s.sessions.take(ctx, place)
	if err != nil {
		return err
	}
	if conn == nil {
		if conn, err = s.connect(ctx, database); err != nil {
			return err
		}
	}
	defer s.sessions.give(ctx, place, conn)
	return do(conn)
}

// sessions are those of a server that nobody uses now, by URL. A server process for each session makes a new one cost
// as much as many statements.
type sessions struct {
	sync.Mutex
	idle map[string]*pgx.Conn
}

// take returns a session that still lives, or nil.
func (s *sessions) take(ctx context.Context, place string) (*pgx.Conn, error) {
	s.Lock()
	conn := s.idle[place]
	delete(s.idle, place)
	s.Unlock()
	if conn == nil || conn.Ping(ctx) == nil {
		return conn, nil
	}
	_ = conn.Close(ctx) // the server has ended it
	return nil, ctx.Err()
}

// mostIdle bounds the sessions that are kept: on a server that many tests share, each has a database of its own.
const mostIdle = 8

// give keeps one session for each URL, instead of any other if there are many. What it was used for may have left it in a state that cannot be undone.
func (s *sessions) give(ctx context.Context, place string, conn *pgx.Conn) {
	err := conn.DeallocateAll(ctx) // what the driver has prepared, too
	if err == nil {
		_, err = conn.Exec(ctx, "DISCARD ALL")
	}
	s.Lock()
	defer s.Unlock()
	if err != nil || s.idle[place] != nil {
		_ = conn.Close(ctx)
		return
	}
	for other, idle := range s.idle {
		if len(s.idle) < mostIdle {
			break
		}
		_ = idle.Close(ctx)
		delete(s.idle, other)
	}
	if s.idle == nil {
		s.idle = make(map[string]*pgx.Conn)
	}
	s.idle[place] = conn
}

// close ends all that nobody uses.
func (s *sessions) close(ctx context.Context) {
	s.Lock()
	defer s.Unlock()
	for _, conn := range s.idle {
		_ = conn.Close(ctx)
	}
	s.idle = nil
}

// Rows returns the values of a query with one column.
func Rows[T any](ctx context.Context, s *Server, query string, args ...any) (values []T, err error) {
	err = s.session(ctx, s.Database, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, query, args...)
		if err == nil {
			values, err = pgx.CollectRows(rows, pgx.RowTo[T])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		return nil
	})
	return values, err
}

// Value returns the one value of a query with one row and one column.
func Value[T any](ctx context.Context, s *Server, query string, args ...any) (T, error) {
	values, err := Rows[T](ctx, s, query, args...)
	if err == nil && len(values) != 1 {
		err = fmt.Errorf("%s: %d rows, want 1", query, len(values))
	}
	if err != nil {
		var none T
		return none, err
	}
	return values[0], nil
}

// hang is when what is waited for is held to be never to come, however busy the machine.
const hang = 5 * time.Minute

// WaitFor asks until the answer is yes or an error, or ctx ends; without a deadline of ctx's own it gives up on what hangs.
// what completes the sentence "waited for …".
func WaitFor(ctx context.Context, what string, condition func(context.Context) (bool, error)) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hang)
		defer cancel()
	}
	for {
		began := time.Now()
		met, err := condition(ctx)
		if err != nil {
			return fmt.Errorf("waited for %s: %w", what, err)
		}
		if met {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-time.After(min(max(10*time.Millisecond, 9*time.Since(began)), time.Second)): // a tenth of the time goes into asking
		}
	}
}
