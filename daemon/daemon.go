// Package daemon is lockstep as it runs by one configuration: it opens the store, asks the members who they are, and runs
// groups, receivers, audit log and API side by side. A Supervisor puts another one in its place when the configuration changes.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/store"
	"github.com/lockstep-cdc/lockstep/web"
)

// Daemon is all of lockstep by one configuration: groups, their store, the API and the receivers.
type Daemon struct {
	config     *config.Config
	log        *slog.Logger
	store      *store.Store
	groups     []*monitor.Group
	members    []monitor.Member // of all groups
	api        *web.Server
	notifier   *alerts.Notifier
	audit      *audit.Log // nil: there is none
	lastReload func() Reload
}

// Options say how a Daemon is run.
type Options struct {
	Version  string
	Logger   *slog.Logger
	OnNotice func(finding.Divergence)
	// LastReload is how it went when the configuration was last read; nil: it was, once, at the start.
	LastReload func() Reload

	resume bool                   // a member that was watched is waited for, also where it is set up wrongly now
	tune   func(*monitor.Options) // nil but in tests
}

// Start opens the store and asks every member who it is. A member that cannot be watched as it is set up is
// an error here; one that was watched before and does not answer now is not.
func Start(ctx context.Context, c *config.Config, o Options) (*Daemon, error) {
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

func (d *Daemon) open(ctx context.Context, o Options) error {
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
func (d *Daemon) Groups() []*monitor.Group { return d.groups }

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
	}
	closeAll(d.members)
	return errors.Join(append(errs, d.closeAudit(), d.store.Close())...)
}

func (d *Daemon) openGroup(ctx context.Context, c *config.Group, o Options) (*monitor.Group, error) {
	members, err := d.sources(c)
	if err != nil {
		return nil, err
	}
	opt := monitor.Options{
		Name:        c.Name,
		Members:     members,
		Match:       c.Tables.Match,
		Exclude:     c.ExcludeColumns,
		Budget:      c.LagBudget,
		MaxInFlight: int(d.config.MaxInFlightRows),
		RowIndex:    c.RowIndex,
		Scrub:       monitor.ScrubPlan{Every: c.ScrubEvery, ChunkTime: c.Scrub.ChunkTime, Settings: c.Scrub.Settings()},
		Expected:    d.expected(c),
		Evidence:    monitor.EvidencePlan{Every: d.coverageEvery(), Key: d.keySpelling(), NoTrees: d.config.Audit.ProvableFor == 0},
		Canary: monitor.CanaryPlan{
			Table: c.Canary.Table, Every: c.Canary.Every, Into: func(member string) bool { return c.Canary.Into(*c.Member(member)) },
		},
		Logger:   d.log,
		OnNotice: func(v finding.Divergence) { d.notice(v, o) },
	}
	if opt.Reference, err = d.preflight(ctx, c, members, o.resume); err != nil {
		closeAll(members)
		return nil, fmt.Errorf("group %s: %w", c.Name, err)
	}
	if o.tune != nil {
		o.tune(&opt)
	}
	g, err := monitor.Open(opt, d.store)
	if err != nil {
		closeAll(members)
		return nil, err
	}
	d.members = append(d.members, members...)
	return g, nil
}

// notice tells of a divergence that was raised or resolved.
func (d *Daemon) notice(v finding.Divergence, o Options) {
	d.api.Observe(&v)
	if o.OnNotice != nil {
		o.OnNotice(v)
	}
}

func closeAll(members []monitor.Member) {
	for _, m := range members {
		m.Source.Close()
	}
}

func (d *Daemon) sources(c *config.Group) ([]monitor.Member, error) {
	hasher := digest.NewHasher(d.store.Secret())
	var members []monitor.Member
	for i := range c.Members {
		m := &c.Members[i]
		source, err := newSource(c, m, hasher, d.log)
		if err != nil {
			closeAll(members)
			return nil, fmt.Errorf("group %s: member %s: %w", c.Name, m.Name, err)
		}
		members = append(members, monitor.Member{Name: m.Name, Source: source, ScanOnly: m.ScanOnly})
	}
	return members, nil
}
