package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// SQLSTATEs of a server that answers, and says no.
const (
	invalidAuthorization = "28000"
	invalidPassword      = "28P01"
	noSuchDatabase       = "3D000"
	insufficientRight    = "42501"
)

// judgeRefusal tells a server that says no, which somebody can mend, from one that cannot be reached.
func (o Options) judgeRefusal(err error, config *pgx.ConnConfig) (refused preflight.Check, unreachable error) {
	if stranger := distrusted(err, config); stranger != nil {
		return preflight.Check{Subject: "connection", Detail: stranger.Problem, Hint: stranger.Hint}, nil
	}
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return preflight.Check{}, fmt.Errorf("member %s: %s", o.Member, strings.Join(causes(err), "; "))
	}
	c := preflight.Check{Subject: "connection", Detail: answer.Message}
	role := quoteName(config.User)
	switch answer.Code {
	case invalidPassword:
		c.Hint = fmt.Sprintf("role %s may not exist, have no password or another one; compare it with the password_file", role)
		if o.Password == nil {
			c.Hint = fmt.Sprintf("no password was given: name the file that holds it, password_file or lockstep init --password-file; or role %s does not exist yet (CREATE ROLE %s LOGIN PASSWORD …)", role, role)
		}
	case invalidAuthorization:
		c.Hint = fmt.Sprintf("make the role (CREATE ROLE %s LOGIN REPLICATION, and a password), and let pg_hba.conf admit it", role)
	case noSuchDatabase:
		c.Hint = "correct the database in the dsn"
	case insufficientRight:
		c.SQL = fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", quoteName(config.Database), role)
	default:
		c.Hint = "the server's log says more"
	}
	return c, nil
}

// connectError is the driver's account of all its attempts, of which each cause is told once: it tries an address with TLS and
// without.
type connectError struct{ err error }

func (e *connectError) Error() string { return strings.Join(causes(e.err), "; ") }
func (e *connectError) Unwrap() error { return e.err }

// causes takes the causes out of it.
func causes(err error) (list []string) {
	var attempts interface{ Unwrap() []error }
	if errors.As(err, &attempts) {
		for _, one := range attempts.Unwrap() {
			list = append(list, causes(one)...)
		}
		return slices.Compact(list)
	}
	var network *net.OpError
	switch {
	case errors.As(err, &network):
		return []string{oneLine(network)}
	case errors.Is(err, context.DeadlineExceeded):
		return []string{"no answer in time"}
	}
	return []string{oneLine(err)}
}

// judgeTransport warns of connections that anybody on the way can read or redirect.
func judgeTransport(config *pgx.ConnConfig) preflight.Check {
	left := unverified(config)
	switch {
	case local(config):
		return preflight.Check{Subject: "tls", State: preflight.OK, Detail: "the connection does not leave the machine"}
	case left == "":
		return preflight.Check{Subject: "tls", State: preflight.OK, Detail: "the connection is encrypted, and the server has proven who it is"}
	}
	return preflight.Check{Subject: "tls", State: preflight.Warn, Detail: left,
		Hint: "write sslmode=verify-full in the dsn, and sslrootcert=FILE for an authority of your own"}
}
