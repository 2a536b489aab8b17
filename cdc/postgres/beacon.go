package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// A beacon is an advisory lock of a session: everybody may take and see one, a standby has its own, and it is in no log. Its number is
// looked for in all databases, as two halves (https://www.postgresql.org/docs/current/view-pg-locks.html).
const (
	lightBeacon  = "SELECT pg_catalog.pg_try_advisory_lock(%d)"
	seeBeacon    = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = %d AND objid = %d)"
	quenchBeacon = "SELECT pg_catalog.pg_advisory_unlock(%d)"
)

// Light implements [cdc.Beacons].
func (s *Source) Light(ctx context.Context, b cdc.Beacon) (quench func(context.Context) error, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	conn, err := s.known(ctx)
	if err != nil {
		return nil, s.wrap(err)
	}
	lit, err := yes(ctx, conn.PgConn(), fmt.Sprintf(lightBeacon, int64(b)))
	if err == nil && !lit {
		err = fmt.Errorf("advisory lock %d is held by somebody else", int64(b))
	}
	if err != nil {
		hangUp(conn)
		return nil, s.wrap(err)
	}
	return func(ctx context.Context) error {
		defer hangUp(conn)
		ctx, cancel := context.WithTimeout(ctx, s.call)
		defer cancel()
		burned, err := yes(ctx, conn.PgConn(), fmt.Sprintf(quenchBeacon, int64(b)))
		if err == nil && !burned {
			err = cdc.ErrQuenched
		}
		return s.wrap(err)
	}, nil
}

// Sees implements [cdc.Beacons].
func (s *Source) Sees(ctx context.Context, b cdc.Beacon) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	conn, err := s.known(ctx)
	if err != nil {
		return false, s.wrap(err)
	}
	defer hangUp(conn)
	seen, err := yes(ctx, conn.PgConn(), fmt.Sprintf(seeBeacon, uint32(b>>32), uint32(b)))
	return seen, s.wrap(err)
}

// known opens a connection to the server that the member has said to be, if it was asked. It is an ordinary one, which takes no right.
func (s *Source) known(ctx context.Context) (*pgx.Conn, error) {
	conn, err := s.login(ctx, false)
	if err != nil {
		return nil, err
	}
	known := s.identity.Load()
	if known == nil {
		return conn, nil
	}
	is, err := simpleQuery(ctx, conn.PgConn(), "SELECT system_identifier FROM pg_catalog.pg_control_system()")
	if err == nil && (len(is) != 1 || string(is[0][0]) != known.SystemID) {
		err = fmt.Errorf("another server answers than before: its system identifier was %s", known.SystemID)
	}
	if err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("identify system: %w", err)
	}
	return conn, nil
}

// yes asks a question that is answered by yes or no.
func yes(ctx context.Context, conn *pgconn.PgConn, query string) (bool, error) {
	rows, err := simpleQuery(ctx, conn, query)
	if err != nil {
		return false, err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return false, fmt.Errorf("%q was not answered by yes or no", query)
	}
	return string(rows[0][0]) == "t", nil
}
