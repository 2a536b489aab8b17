// Package postgres holds all that lockstep knows of PostgreSQL: its catalog, its WAL as pgoutput decodes it, its rows as
// COPY prints them. Both forms of a value come from the same output functions under the same pinned settings.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Options say how one member is reached. The zero values of Password and Logger work.
type Options struct {
	Group, Member string
	DSN           string                 // URL or keyword form, without a password
	Password      func() (string, error) // read anew for each connection, so that it can be rotated; nil: none
	Slot          string                 // name of lockstep's replication slot on every member of the group
	Publication   string                 // name of the publication that lists the tables for lockstep
	Logger        *slog.Logger           // nil: discard
	Logins        *cdc.Logins            // of all sources of a process; nil: it has its own
	// ScanOnly says that the member's log is not read: neither slot nor publication is needed.
	ScanOnly bool
	// MaxRetained is how many bytes of its log the server may keep for our slot. With more the slot is given up, which is a
	// gap. 0: no bound of ours.
	MaxRetained int64
}

// Name is what lockstep calls its slot and its publication of a group.
func Name(group string) string { return "lockstep_" + group }

// pinned are the settings that shape the text of values, and those that would end or narrow what we do. They are sent in
// the startup packet, where they win over ALTER ROLE, ALTER DATABASE and postgresql.conf.
var pinned = map[string]string{
	"DateStyle":          "ISO, MDY",
	"IntervalStyle":      "postgres",
	"extra_float_digits": "3",
	"bytea_output":       "hex",
	"TimeZone":           "UTC",
	"xmlbinary":          "base64",
	"lc_monetary":        "C",
	"search_path":        "",
	"client_encoding":    "UTF8",
	"application_name":   "lockstep",
	"jit":                "off", // half a second of the server's time for a question of the catalog that takes a few milliseconds

	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_session_timeout":                "0",
	"idle_in_transaction_session_timeout": "0",
	"default_transaction_isolation":       "read committed",
	"default_transaction_read_only":       "on",  // we write no row but a canary, see Execute
	"row_security":                        "off", // an error, rather than rows that are kept from us
}

// rawBytes is the encoding of databases whose texts are of any encoding.
const rawBytes = "SQL_ASCII"

// takeBytes has texts come as they are from a database of raw bytes: the server would refuse to send what is no UTF-8.
func takeBytes(ctx context.Context, conn *pgconn.PgConn) error {
	if conn.ParameterStatus("server_encoding") != rawBytes {
		return nil
	}
	_, err := conn.Exec(ctx, "SET client_encoding = '"+rawBytes+"'").ReadAll()
	return err
}

// connectTimeout is for a DSN that has no connect_timeout.
const connectTimeout = 10 * time.Second

// The driver sets memory aside for a message before it comes: for one of a server that we do not know yet no more than a login takes,
// after that as much as a server ever sends (MaxAllocSize).
const (
	maxLogin   = 64 << 10
	maxMessage = 1<<30 - 1
)

// connect opens an ordinary connection, or with replication set one that takes replication commands.
func (o Options) connect(ctx context.Context, replication bool) (*pgx.Conn, error) {
	config, err := o.config()
	if err != nil {
		return nil, &memberError{o.Member, err}
	}
	return o.connectBy(ctx, config, replication)
}

func (o Options) connectBy(ctx context.Context, config *pgx.ConnConfig, replication bool) (_ *pgx.Conn, err error) {
	if o.Password != nil {
		if config.Password, err = o.Password(); err != nil {
			return nil, &memberError{o.Member, &cdc.SetupError{Problem: oneLine(err)}}
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.AfterConnect = takeBytes
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.SetMaxBodyLen(maxLogin)
		return f
	}
	for name, value := range pinned {
		config.RuntimeParams[name] = value
	}
	if replication {
		config.RuntimeParams["replication"] = "database"
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, &memberError{o.Member, &connectError{err}}
	}
	conn.PgConn().Frontend().SetMaxBodyLen(maxMessage)
	return conn, nil
}

// simpleQuery runs one query by the simple protocol, which is all that a replication connection has.
func simpleQuery(ctx context.Context, conn *pgconn.PgConn, query string) ([][][]byte, error) {
	results, err := conn.Exec(ctx, query).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results instead of one", len(results))
	}
	return results[0].Rows, nil
}

// pinnedQuery asks for those alone: the server makes a text of each of the hundreds that pg_settings lists.
var pinnedQuery = func() string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(pinned)) {
		names = append(names, quoteText(name))
	}
	return "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.unnest(ARRAY[" + strings.Join(names, ", ") + "]) name"
}()

// checkPinned makes sure that the settings arrived: a connection pooler in between may drop them, and values printed
// under others would look like differences.
func checkPinned(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := simpleQuery(ctx, conn, pinnedQuery)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	have := map[string]string{}
	for _, row := range rows {
		have[string(row[0])] = string(row[1])
	}
	for name, want := range pinned {
		if name == "client_encoding" && conn.ParameterStatus("server_encoding") == rawBytes {
			want = rawBytes
		}
		if got := have[name]; got != want && name != "application_name" {
			return &cdc.SetupError{
				Problem: fmt.Sprintf("%s is %q in our session although we asked for %q", name, got, want),
				Hint:    "connect to the server itself, not through a connection pooler",
			}
		}
	}
	return nil
}

// open is connect for a Source: what the operator has to mend is a *cdc.SetupError, and the settings are verified.
func (o Options) open(ctx context.Context, replication bool) (*pgx.Conn, error) {
	conn, err := o.connect(ctx, replication)
	if err != nil {
		return nil, o.refused(err)
	}
	if err := checkPinned(ctx, conn.PgConn()); err != nil {
		hangUp(conn)
		return nil, err
	}
	return conn, nil
}

// login is open, but for when the server has just refused a login.
func (s *Source) login(ctx context.Context, replication bool) (conn *pgx.Conn, err error) {
	password := ""
	if s.options.Password != nil {
		password, _ = s.options.Password() // open says why it cannot be read
	}
	err = s.logins.Attempt(ctx, s.options.account(), password, func() (err error) {
		conn, err = s.options.open(ctx, replication)
		return err
	})
	return conn, err
}

// account is what an attempt to log in depends on. Errors name the member, and a database, which may be what is missing.
func (o Options) account() string { return o.Member + " " + o.DSN }

// refused tells a server that will say no until somebody does something from one that may say yes the next time.
func (o Options) refused(err error) error {
	config, parseErr := o.config()
	if parseErr != nil {
		return err
	}
	if stranger := distrusted(err, config); stranger != nil {
		return stranger
	}
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return err
	}
	role := quoteName(config.User)
	switch answer.Code {
	case insufficientRight:
		if strings.Contains(answer.Message, "walsender") || strings.Contains(answer.Detail, "REPLICATION") {
			return &cdc.SetupError{Problem: answer.Message, Hint: fmt.Sprintf("ALTER ROLE %s REPLICATION;", role)}
		}
	case invalidAuthorization, invalidPassword, noSuchDatabase:
	case tooManyConnections:
		if strings.Contains(answer.Message, "max_wal_senders") {
			return &cdc.SetupError{Problem: answer.Message, Hint: "raise max_wal_senders"}
		}
		return err
	default:
		return err
	}
	c, _ := o.judgeRefusal(err, config)
	denied := answer.Code == invalidAuthorization || answer.Code == invalidPassword
	return &cdc.SetupError{Problem: c.Detail, Hint: c.Hint + c.SQL, Denied: denied}
}

// hangUp closes a connection without waiting long for a server that may be gone.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // there is nothing to do about a connection that does not close
}
