package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/store"
	"github.com/lockstep-cdc/lockstep/web"
)

// Daemon is all of lockstep by one configuration: groups, their store, the API and the receivers.
type Daemon struct {
	config     *config.Config
	log        *slog.Logger
	store      *store.Store
	groups     []*Group
	api        *web.Server
	notifier   *alerts.Notifier
	audit      *audit.Log // nil: there is none
	lastReload func() Reload
}

// DaemonOptions say how a Daemon is run.
type DaemonOptions struct {
	Version  string
	Logger   *slog.Logger
	OnNotice func(align.Divergence)
	// LastReload is how it went when the configuration was last read; nil: it was, once, at the start.
	LastReload func() Reload
}

// Start opens the store and asks every member who it is. A member that cannot be watched as it is set up is
// an error here; one that was watched before and does not answer now is not.
func Start(ctx context.Context, c *config.Config, o DaemonOptions) (*Daemon, error) {
	d := &Daemon{config: c, log: o.Logger, lastReload: o.LastReload}
	if d.lastReload == nil {
		started := time.Now()
		d.lastReload = func() Reload { return Reload{started, true} }
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if d.store, err = store.Open(c.DataDir, store.Options{}); err != nil {
		return nil, err
	}
	if err = d.open(ctx, o); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *Daemon) open(ctx context.Context, o DaemonOptions) error {
	if err := d.openAudit(ctx, o); err != nil {
		return err
	}
	var apis []web.Group
	for i := range d.config.Groups {
		g, err := d.openGroup(ctx, &d.config.Groups[i], o)
		if err != nil {
			return err
		}
		d.groups, apis = append(d.groups, g), append(apis, g)
	}
	d.notifier = d.tell()
	d.api = web.New(apis, d, d.roles(), o.Version, d.log)
	return d.startEvidence(o.Version)
}

func (d *Daemon) roles() web.Roles {
	if d.config.Roles == nil {
		return nil
	}
	roles := make(web.Roles)
	for user, role := range d.config.Roles {
		roles[user] = web.Role(role)
	}
	return roles
}

// API answers HTTP requests; once Run has ended, that there is nobody to ask.
func (d *Daemon) API() *web.Server { return d.api }

// Groups returns the groups, as configured.
func (d *Daemon) Groups() []*Group { return d.groups }

// Run watches until ctx ends or something of lockstep's own fails. It closes what Start opened.
func (d *Daemon) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	for _, g := range d.groups {
		work.Go(func() error { return g.Run(ctx) })
	}
	work.Go(func() error { return d.notifier.Run(ctx) })
	if d.audit != nil {
		work.Go(func() error { return d.audit.Run(ctx) })
		work.Go(func() error { return d.audit.Stamp(ctx) })
		work.Go(func() error { return d.audit.Copy(ctx) })
		work.Go(func() error { return d.audit.Witness(ctx) })
	}
	err := work.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, d.close())
}

func (d *Daemon) close() error {
	if d.api != nil {
		d.api.Close()
	}
	var errs []error
	for _, g := range d.groups {
		errs = append(errs, g.Close())
		for _, f := range g.feeds {
			f.Source.Close()
		}
	}
	return errors.Join(append(errs, d.closeAudit(), d.store.Close())...)
}

func (d *Daemon) openGroup(ctx context.Context, c *config.Group, o DaemonOptions) (*Group, error) {
	members, err := d.sources(c)
	if err != nil {
		return nil, err
	}
	opt := Options{
		Name:        c.Name,
		Members:     members,
		Match:       c.Tables.Match,
		Exclude:     c.ExcludeColumns,
		Budget:      c.LagBudget,
		MaxInFlight: int(d.config.MaxInFlightRows),
		RowIndex:    c.RowIndex,
		Scrub:       ScrubPlan{Every: c.ScrubEvery, ChunkTime: c.Scrub.ChunkTime, Settings: c.Scrub.Settings()},
		Expected:    d.expected(c),
		Evidence:    EvidencePlan{Every: d.coverageEvery(), Key: d.keySpelling(), NoTrees: d.config.Audit.ProvableFor == 0},
		Canary: CanaryPlan{
			Table: c.Canary.Table, Every: c.Canary.Every, Into: func(member string) bool { return c.Canary.Into(*c.Member(member)) },
		},
		Logger:   d.log,
		OnNotice: func(v align.Divergence) { d.notice(v, o) },
	}
	if opt.Reference, err = d.preflight(ctx, c, members); err != nil {
		closeAll(members)
		return nil, fmt.Errorf("group %s: %w", c.Name, err)
	}
	g, err := Open(opt, d.store)
	if err != nil {
		closeAll(members)
	}
	return g, err
}

// notice tells of a divergence that was raised or resolved.
func (d *Daemon) notice(v align.Divergence, o DaemonOptions) {
	d.api.Observe(&v)
	if o.OnNotice != nil {
		o.OnNotice(v)
	}
}

func closeAll(members []Member) {
	for _, m := range members {
		m.Source.Close()
	}
}

func (d *Daemon) sources(c *config.Group) ([]Member, error) {
	hasher := digest.NewHasher(d.store.Secret())
	var members []Member
	for i := range c.Members {
		m := &c.Members[i]
		source, err := newSource(c, m, hasher, d.log)
		if err != nil {
			closeAll(members)
			return nil, fmt.Errorf("group %s: member %s: %w", c.Name, m.Name, err)
		}
		members = append(members, Member{Name: m.Name, Source: source, ScanOnly: m.ScanOnly})
	}
	return members, nil
}

// preflight asks all members who they are and returns the name of the reference. A member that was watched before may
// be out of reach: it is waited for.
func (d *Daemon) preflight(ctx context.Context, c *config.Group, members []Member) (string, error) {
	state, err := d.store.Group(c.Name)
	if err != nil {
		return "", err
	}
	defer state.Close()
	watched, err := state.Watched()
	if err != nil {
		return "", err
	}
	seen := make(map[cdc.Server]string)
	for i := range members {
		m := &members[i]
		err := d.meet(ctx, c, m, seen, watched[m.Name])
		var start *StartError
		if errors.As(err, &start) && start.Unreachable && watched[m.Name] {
			d.log.Warn("member does not answer; lockstep waits for it", "group", c.Name, "member", m.Name, "err", err.Error())
			continue
		}
		if err != nil {
			return "", err
		}
	}
	if err := checkStandbys(members, seen); err != nil {
		return "", err
	}
	if c.Reference != "" {
		return c.Reference, nil
	}
	if before, err := state.Reference(); err != nil || before != "" && c.Member(before) != nil {
		return before, err
	}
	return findReference(ctx, members)
}

// checkStandbys refuses a physical standby of a server that is no member: there is nothing to hold its rows against.
func checkStandbys(members []Member, seen map[cdc.Server]string) error {
	for server, name := range seen {
		primary := cdc.Server{SystemID: server.SystemID, Database: server.Database}
		if server.Standby && seen[primary] == "" && !slices.ContainsFunc(members, func(m Member) bool { return m.unmet }) {
			return &StartError{Err: fmt.Errorf("member %s is a physical standby of a server that is no member of the group: add its primary, or remove it", name)}
		}
	}
	return nil
}

// meet refuses a member that is another one's server or that cannot be watched as it is set up. Of a member that was
// watched before, a table that is not fit any more is no reason not to watch the others. A physical standby is only scanned.
func (d *Daemon) meet(ctx context.Context, c *config.Group, m *Member, seen map[cdc.Server]string, watched bool) error {
	server, err := m.Source.Server(ctx)
	m.unmet = err != nil
	switch {
	case cdc.IsSetup(err):
		return &StartError{Err: err}
	case err != nil:
		return &StartError{Err: fmt.Errorf("%w: start that server, or correct its dsn", err), Unreachable: true}
	}
	same := cdc.Server{SystemID: server.SystemID, Database: server.Database, Standby: server.Standby}
	m.ScanOnly = m.ScanOnly || server.Standby
	if other := seen[same]; other != "" && !server.Standby {
		return &StartError{Err: fmt.Errorf("members %s and %s are the same server and database, which always agrees with itself: correct the dsn of one", other, m.Name)}
	}
	seen[same] = m.Name
	err = fitTables(ctx, c, *m)
	var start *StartError
	if errors.As(err, &start) && !start.Unreachable && watched {
		d.log.Error("not all tables can be watched", "group", c.Name, "member", m.Name, "err", err.Error())
		return nil
	}
	return err
}

// StartError says why lockstep cannot begin to watch.
type StartError struct {
	Err         error
	Unreachable bool // a member does not answer, rather than being set up wrongly
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// fitTables refuses a member none of whose tables, or not all of them, can be watched as they are.
func fitTables(ctx context.Context, c *config.Group, m Member) error {
	tables, err := m.Source.Tables(ctx, c.Tables.Match)
	if err != nil {
		return &StartError{Err: err, Unreachable: !cdc.IsSetup(err)}
	}
	if len(tables) == 0 {
		return &StartError{Err: fmt.Errorf("member %s has no table that matches tables.include: correct the patterns, or the database in its dsn", m.Name)}
	}
	var problems []error
	for _, t := range tables {
		if t = judgeSparse(judgeHidden(t, c.ScrubEvery(t.Name)), !c.RowIndex(t.Name)); t.Problem != "" {
			problems = append(problems, &StartError{Err: fmt.Errorf("member %s: table %s: %s", m.Name, t.Name, t.WhyNot())})
		}
	}
	return errors.Join(problems...)
}

// findReference returns the member whose slots the others' subscriptions read; if none is, the first.
func findReference(ctx context.Context, members []Member) (string, error) {
	var lanes []cdc.Lane
	for _, m := range members {
		p, err := m.Source.Progress(ctx)
		if err != nil {
			return "", &StartError{Err: err, Unreachable: !cdc.IsSetup(err)}
		}
		lanes = append(lanes, p.Lanes...)
	}
	best, most := "", 0
	for _, m := range members {
		if m.ScanOnly {
			continue
		}
		if best == "" {
			best = m.Name
		}
		slots, err := m.Source.Confirmed(ctx)
		if err != nil {
			return "", &StartError{Err: err, Unreachable: !cdc.IsSetup(err)}
		}
		read := 0
		for _, ln := range lanes {
			if _, ok := slots[ln.Slot]; ok {
				read++
			}
		}
		if read > most {
			best, most = m.Name, read
		}
	}
	return best, nil
}
