package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// State is what a check came to. The zero State is a failure, so that a forgotten one is never taken for a pass.
type State uint8

// The states of a check.
const (
	Fail State = iota // lockstep cannot watch this
	Warn              // it can, but somebody should know
	OK
)

// String returns the state as users read it.
func (s State) String() string {
	switch s {
	case OK:
		return "ok"
	case Warn:
		return "warn"
	}
	return "fail"
}

// MarshalText prints the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Check is one thing that was looked at before a member is watched.
type Check struct {
	Subject string `json:"check"` // wal_level; table public.orders
	State   State  `json:"state"`
	Detail  string `json:"detail"`            // what was found
	SQL     string `json:"sql,omitempty"`     // mends it, run by a superuser in this database; empty if SQL cannot
	Hint    string `json:"hint,omitempty"`    // what else to know or to do
	Restart bool   `json:"restart,omitempty"` // the SQL takes effect when the server was restarted
}

// Report is what the checks of one member found. Its SQL statements, run in the order of Checks, make the member ready.
type Report struct {
	Member string
	Checks []Check

	server   serverFacts
	tables   []tableFacts // that match
	answered bool         // all of it was read
}

// Check looks at everything that lockstep needs of a member to watch the tables that match. It changes nothing. A server
// that refuses the connection is a failed check; an error is for a member that could not be asked.
func (o Options) Check(ctx context.Context, match func(name string) bool) (*Report, error) {
	r := &Report{Member: o.Member}
	config, err := pgx.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("member %s: %s", o.Member, oneLine(err))
	}
	if o.Password != nil {
		if _, err := o.Password(); err != nil {
			r.add(Check{Subject: "password", Detail: oneLine(err), Hint: "lockstep reads it anew for every connection"})
			return r, nil
		}
	}
	conn, err := o.connect(ctx, false)
	if err != nil {
		refused, unreachable := o.judgeRefusal(err, config)
		if unreachable != nil {
			return nil, unreachable
		}
		r.Checks = []Check{refused}
		return r, nil
	}
	defer hangUp(conn)
	if err := r.read(ctx, conn, o, config, match); err != nil {
		return nil, fmt.Errorf("member %s: %s", o.Member, oneLine(err))
	}
	return r, nil
}

// read asks and judges, in the order in which the SQL has to run: a role may read before a publication is made of it.
func (r *Report) read(ctx context.Context, conn *pgx.Conn, o Options, config *pgx.ConnConfig, match func(string) bool) error {
	var err error
	if r.server, err = readServer(ctx, conn, o.Slot); err != nil {
		return err
	}
	r.add(judgeVersion(r.server), judgeTransport(config))
	if r.server.Recovery {
		r.add(Check{Subject: "role", Detail: "the server is a physical standby",
			Hint: "this version of lockstep watches primaries and logical subscribers; take the member out"})
		return nil
	}
	if r.tables, err = readTables(ctx, conn, match); err != nil {
		return err
	}
	publication, err := readPublication(ctx, conn, o.Publication)
	if err != nil {
		return err
	}
	subscriptions, err := readSubscriptions(ctx, conn, match)
	if err != nil {
		return err
	}
	r.add(judgeRole(r.server, r.tables)...)
	r.add(judgeTables(r.server, r.tables)...)
	r.add(judgePublication(o.Publication, publication, r.server, r.tables)...)
	r.add(judgeSubscriptions(subscriptions)...)
	r.add(judgeSettings(r.server)...)
	r.add(judgeSlot(o.Slot, r.server))
	r.answered = true
	return nil
}

func (r *Report) add(checks ...Check) { r.Checks = append(r.Checks, checks...) }

// oneLine prints an error of the driver, which may list several attempts below each other.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// quoteName quotes an identifier, or the parts of a qualified one, for SQL.
func quoteName(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// quoteText quotes a string for SQL. The E form reads the same whatever standard_conforming_strings says.
func quoteText(s string) string {
	s = strings.NewReplacer("\x00", "", `'`, `''`, `\`, `\\`).Replace(s)
	if strings.Contains(s, `\`) {
		return "E'" + s + "'"
	}
	return "'" + s + "'"
}

// someOf lists the first few names, and how many there are in all.
func someOf(what string, names []string) string {
	const shown = 5
	if len(names) == 1 {
		return names[0]
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += ", …"
	}
	return fmt.Sprintf("%d %s: %s", len(names), what, list)
}
