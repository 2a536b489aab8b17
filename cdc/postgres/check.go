package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// report is a Report in the making.
type report struct {
	preflight.Report
	server serverFacts
	tables []tableFacts // that match
}

// Check looks at everything that lockstep needs of a member to watch the tables that match. It changes nothing. A server
// that refuses the connection is a failed check; an error is for a member that could not be asked.
func (o Options) Check(ctx context.Context, match func(name string) bool) (*preflight.Report, error) {
	r := &report{Report: preflight.Report{Member: o.Member, Client: "psql, as a superuser in its database", Preamble: preamble("")}}
	config, err := o.config()
	if err != nil {
		return nil, fmt.Errorf("member %s: %s", o.Member, oneLine(err))
	}
	if o.Password != nil {
		if _, err := o.Password(); err != nil {
			r.Add(preflight.Check{Subject: "password", Detail: oneLine(err), Hint: "see to that file; lockstep reads it anew for every connection"})
			return &r.Report, nil
		}
	}
	conn, err := o.connect(ctx, false)
	if err != nil {
		refused, unreachable := o.judgeRefusal(err, config)
		if unreachable != nil {
			return nil, unreachable
		}
		r.Checks = []preflight.Check{refused}
		return &r.Report, nil
	}
	defer hangUp(conn)
	if err := r.read(ctx, conn, o, config, match); err != nil {
		return nil, fmt.Errorf("member %s: %s", o.Member, oneLine(err))
	}
	return &r.Report, nil
}

// read asks and judges, in the order in which the SQL has to run: a role may read before a publication is made of it.
func (r *report) read(ctx context.Context, conn *pgx.Conn, o Options, config *pgx.ConnConfig, match func(string) bool) error {
	var err error
	if r.server, err = readServer(ctx, conn, o.Slot); err != nil {
		return err
	}
	r.Server, r.Named = r.server.SystemID+" "+r.server.Database, fmt.Sprintf("database %q of the same server", r.server.Database)
	if r.server.Recovery { // the system identifier is its primary's
		r.Server += " on " + o.Member
	}
	r.Version, r.Feeds, r.Direct, r.Standby = r.server.VersionText, r.server.Feeding, true, r.server.Recovery
	r.Preamble, r.Client = preamble(r.server.Database), r.server.client()
	r.Add(judgeVersion(r.server), judgeTransport(config))
	r.Add(judgeEncoding(r.server)...)
	if r.tables, err = readTables(ctx, conn, match); err != nil {
		return err
	}
	carried, err := carriers(ctx, conn, r.tables)
	if err != nil {
		return err
	}
	for i, t := range r.tables {
		shown := t.shown(r.server)
		shown.Publications = carried[i].Publications
		r.Tables = append(r.Tables, shown)
	}
	if r.server.Recovery || o.ScanOnly {
		r.Add(judgeScanned(r.server, r.tables)...)
		r.Whole, r.Unseen = true, !r.server.Recovery
		return nil
	}
	publication, err := readPublication(ctx, conn, o.Publication)
	if err != nil {
		return err
	}
	subscriptions, err := readSubscriptions(ctx, conn, match)
	if err != nil {
		return err
	}
	r.Add(judgeRole(r.server, r.tables)...)
	r.Add(judgeTables(r.server, r.tables)...)
	r.Add(judgePublication(o.Publication, publication, r.server, r.tables)...)
	r.Add(judgeSubscriptions(subscriptions)...)
	r.Add(judgeSettings(r.server)...)
	r.Add(judgeSlot(o.Slot, r.server))
	r.Whole, r.Upstreams, r.Lanes = true, upstreams(subscriptions), lanesOf(subscriptions)
	return nil
}

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
