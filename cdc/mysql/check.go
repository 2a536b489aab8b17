package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// report is a Report in the making.
type report struct {
	preflight.Report
	version  version
	account  account
	settings settings
	channels []upstream
	view     *catalogView // of the tables that match
	tables   []tableFacts // those, by name
	schema   string       // that the DSN names; empty: none
	scanOnly bool         // the server's log is not read
}

// Check looks at everything that lockstep needs of a member to watch the tables that match. It changes nothing. A server
// that refuses the connection is a failed check; an error is for a member that could not be asked.
func (o Options) Check(ctx context.Context, match func(name string) bool) (*preflight.Report, error) {
	s, err := New(o, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if o.Password != nil {
		if _, err := o.Password(); err != nil {
			return o.refusal("password", preflight.Check{Detail: oneLine(err.Error()), Hint: "see to that file; lockstep reads it anew for every connection"}), nil
		}
	}
	server, err := s.Server(ctx)
	if refused := new(cdc.SetupError); errors.As(err, &refused) {
		return o.refusal("connection", preflight.Check{Detail: refused.Problem, Hint: refused.Hint}), nil
	}
	if err != nil {
		return nil, err
	}
	var r *report
	err = s.ask(ctx, func(ctx context.Context, c *session) error {
		own, err := ownID(ctx, c)
		if err != nil {
			return err
		}
		r = &report{version: c.version, account: account{name: c.account}, schema: s.address.schema, scanOnly: o.ScanOnly, Report: preflight.Report{
			Member: o.Member, Version: server.Version, Feeds: []string{own}, Server: server.SystemID, Named: "server",
		}}
		r.Add(judgeVersion(server), judgeTransport(s.address, c.login.encrypted))
		return r.read(ctx, s, c, match)
	})
	if err != nil {
		return nil, err
	}
	r.judge()
	return &r.Report, nil
}

// refusal is the report of a member that cannot be asked until somebody did something.
func (o Options) refusal(subject string, c preflight.Check) *preflight.Report {
	c.Subject = subject
	return &preflight.Report{Member: o.Member, Client: "mysql -u root", Checks: []preflight.Check{c}}
}

func (r *report) read(ctx context.Context, s *Source, c *session, match func(string) bool) (err error) {
	if r.settings, err = readSettings(ctx, c); err != nil {
		return err
	}
	r.Client, r.Preamble = administrator(c.version, r.settings), preamble(c.version, r.Server, r.settings)
	if r.settings.rds() {
		r.settings.readRetentionOnRDS(ctx, c)
	}
	if err = r.account.read(ctx, c); err != nil {
		return err
	}
	// Without the right to see the log, or without a log, the catalog is whole but for what is kept out of the log.
	if r.view, err = s.readCatalog(ctx, c, match); err != nil && !(cdc.IsSetup(err) && r.view != nil) {
		return err
	}
	if r.tables, err = r.readTables(ctx, c); err != nil {
		return err
	}
	if r.channels, err = readReplication(ctx, c, r.view.fold); err != nil && errorCode(err) != errPrivilegeMissing {
		return fmt.Errorf("read state of replication: %w", err)
	}
	return nil
}

// judge adds what was found, rights first: without them the rest was not seen as it is.
func (r *report) judge() {
	r.Add(r.judgeRights()...)
	r.Add(r.judgeTables()...)
	if r.scanOnly {
		r.Add(judgeScanned(r.version, r.settings)...)
	} else {
		r.Add(judgeLog(r.version, r.settings)...)
		r.Add(r.judgeReplayLogged())
	}
	r.Add(r.judgeReplication()...)
	for _, t := range r.tables {
		r.Tables = append(r.Tables, t.shown())
	}
	r.Whole = len(r.tables) > 0 && len(r.unreadable()) == 0 || r.account.readsAll
	r.Unseen = !r.account.seesReplicas
	for _, ch := range r.channels {
		u := preflight.Upstream{ID: ch.source, Named: ch.from}
		if u.ID == "0" { // of MariaDB, until it has connected
			u.ID = ""
		}
		r.Upstreams = append(r.Upstreams, u)
	}
}
