// Package daemon is lockstep as it runs by one configuration: it opens the store, and runs groups, receivers, audit log and API
// side by side. What is not touched by a change of the configuration goes on while the rest is changed.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/store"
	"github.com/lockstep-cdc/lockstep/web"
)

// Daemon is all of lockstep: groups, their store, the API and the receivers.
type Daemon struct {
	options Options
	log     *slog.Logger
	store   *store.Store
	audit   *audit.Log // nil: there is none
	logins  *cdc.Logins
	now     atomic.Pointer[setup]
	changes chan change
}

// setup is what a change of the configuration changes.
type setup struct {
	config   *config.Config
	groups   []*Group // as configured
	api      *web.Server
	notifier *alerts.Notifier

	stopNotifier func() // and waits until it has ended
}

// change is a wish to go by another configuration.
type change struct {
	next *config.Config
	done chan error
}

// Options say how a Daemon is run.
type Options struct {
	Version  string
	Logger   *slog.Logger
	OnNotice func(finding.Divergence)
	// LastReload is how it went when the configuration was last read; nil: it was, once, at the start.
	LastReload func() Reload
	// Strict has a start refuse members that do not answer, or cannot be watched as they are set up.
	Strict bool

	tune func(*monitor.Options) // nil but in tests
}

// Start opens the store and the groups. With [Options.Strict] the error is a [*StartError] if a member cannot be watched.
func Start(ctx context.Context, c *config.Config, o Options) (*Daemon, error) {
	d := &Daemon{options: o, log: o.Logger, logins: cdc.NewLogins(), changes: make(chan change)}
	if d.options.LastReload == nil {
		started := time.Now()
		d.options.LastReload = func() Reload { return Reload{started, true} }
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.now.Store(&setup{config: c})
	var err error
	if d.store, err = openStore(ctx, c.DataDir); err != nil {
		return nil, err
	}
	if err = d.open(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// openStore does not wait for a disk once ctx has ended: a store may be left at any moment, as in a crash, and one that opens after
// all is closed.
func openStore(ctx context.Context, dir string) (*store.Store, error) {
	var s *store.Store
	opened := make(chan error)
	go func() {
		var err error
		s, err = store.Open(dir, store.Options{})
		select {
		case opened <- err:
		case <-ctx.Done():
			if err == nil {
				_ = s.Close()
			}
		}
	}()
	select {
	case err := <-opened:
		return s, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Daemon) open(ctx context.Context) error {
	if err := d.openAudit(ctx); err != nil {
		return err
	}
	s := d.now.Load()
	for i := range s.config.Groups {
		s.groups = append(s.groups, d.group(&s.config.Groups[i]))
	}
	if err := d.openGroups(ctx, s.groups, d.options.Strict); err != nil {
		return err
	}
	s.notifier = d.tell(&s.config.Alerts)
	s.api = d.serve(s)
	return d.startEvidence(true)
}

// openGroups opens groups, all at once. One that cannot be opened yet is waited for, unless strict.
func (d *Daemon) openGroups(ctx context.Context, groups []*Group, strict bool) error {
	var opening errgroup.Group
	for _, g := range groups {
		opening.Go(func() error {
			if strict {
				return g.open(ctx, true)
			}
			return g.try(ctx)
		})
	}
	return opening.Wait()
}

func (d *Daemon) serve(s *setup) *web.Server {
	var groups []web.Group
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	return web.New(groups, d, web.Rules{Roles: roles(s.config), Hosts: hosts(s.config)}, d.options.Version, d.log)
}

func roles(c *config.Config) web.Roles {
	if c.Roles == nil {
		return nil
	}
	roles := make(web.Roles)
	for user, role := range c.Roles {
		roles[user] = web.Role(role)
	}
	return roles
}

// hosts are the names under which lockstep is called.
func hosts(c *config.Config) []string {
	names := slices.Clone(c.AllowedHosts)
	if u, err := url.Parse(c.Alerts.ExternalURL); err == nil && u.Host != "" {
		names = append(names, u.Host)
	}
	return names
}

// config is what the Daemon goes by now.
func (d *Daemon) config() *config.Config { return d.now.Load().config }

// API answers HTTP requests; once Run has ended, that there is nobody to ask. After a change it is another one.
func (d *Daemon) API() *web.Server { return d.now.Load().api }

// Groups returns the groups, as configured.
func (d *Daemon) Groups() []*Group { return d.now.Load().groups }

// Run watches until ctx ends or something of lockstep's own fails. It closes what Start opened.
func (d *Daemon) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return d.direct(ctx, work) })
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

// direct starts what a change may stop, and makes changes.
func (d *Daemon) direct(ctx context.Context, work *errgroup.Group) error {
	s := d.now.Load()
	for _, g := range s.groups {
		g.start(ctx, work)
	}
	s.startNotifier(ctx, work)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-d.changes:
			c.done <- d.change(ctx, work, c.next)
		}
	}
}

// start has the group run among other work until it is stopped.
func (g *Group) start(ctx context.Context, work *errgroup.Group) {
	ctx, g.stop = context.WithCancel(ctx)
	g.ended = make(chan struct{})
	work.Go(func() error {
		defer close(g.ended)
		return unlessStopped(g.run(ctx))
	})
}

func (s *setup) startNotifier(ctx context.Context, work *errgroup.Group) {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	s.stopNotifier = func() { stop(); <-ended }
	work.Go(func() error {
		defer close(ended)
		return unlessStopped(s.notifier.Run(ctx))
	})
}

func unlessStopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Changes reports whether a Daemon can go by another configuration without being started anew: only what groups, receivers,
// roles, names of hosts and the watchdog are differs, and the audit log has no files to read anew, such as its next key.
func (d *Daemon) Changes(next *config.Config) bool {
	if a := next.Audit; a.On && (audit.NextKey(AuditDir(next)) || a.Copy.SecretKeyFile+a.Copy.CAFile+a.Timestamps.CAFile != "") {
		return false
	}
	now, then := *d.config(), *next
	for _, c := range []*config.Config{&now, &then} {
		c.Groups, c.Alerts, c.Roles, c.AllowedHosts, c.LagBudget, c.SHA256 = nil, config.Alerts{}, nil, nil, 0, ""
	}
	return reflect.DeepEqual(now, then)
}

// Change has the Daemon go by another configuration, see [Daemon.Changes]. What is the same in both is not touched: groups, and of
// groups that are not, their members and tables.
func (d *Daemon) Change(ctx context.Context, next *config.Config) error {
	c := change{next, make(chan error, 1)}
	return ask(ctx, d.changes, c, c.done)
}

// ask hands a wish over and returns how it went; the answer must wait for nobody.
func ask[W any](ctx context.Context, to chan<- W, wish W, answer <-chan error) error {
	select {
	case to <- wish:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Daemon) change(ctx context.Context, work *errgroup.Group, next *config.Config) error {
	before := d.now.Load()
	s := &setup{config: next, notifier: before.notifier, stopNotifier: before.stopNotifier}
	stays := make(map[*Group]bool)
	var fresh []*Group
	changed := make(map[*Group]*config.Group)
	for i := range next.Groups {
		c := &next.Groups[i]
		g := before.group(c)
		if g == nil {
			g = d.group(c)
			fresh = append(fresh, g)
		} else if !reflect.DeepEqual(*g.config(), *c) {
			changed[g] = c
		}
		stays[g] = true
		s.groups = append(s.groups, g)
		if err := d.usable(c); err != nil { // before anything is stopped
			return err
		}
	}
	for _, g := range before.groups {
		if !stays[g] {
			g.stop()
			<-g.ended
			g.leave(nil)
		}
	}
	renews := !reflect.DeepEqual(before.config.Alerts, next.Alerts)
	if renews {
		before.stopNotifier()
		s.notifier = d.tell(&next.Alerts)
	}
	s.api = d.serve(s)
	d.now.Store(s)
	var changing errgroup.Group
	for g, c := range changed {
		changing.Go(func() error { return g.change(ctx, c) })
	}
	err := errors.Join(d.openGroups(ctx, fresh, false), changing.Wait())
	for _, g := range fresh {
		g.start(ctx, work)
	}
	if renews {
		s.startNotifier(ctx, work)
	}
	before.api.Retire()
	return errors.Join(err, d.startEvidence(false))
}

// group returns the group that can become what another configuration says; nil: there is none.
func (s *setup) group(c *config.Group) *Group {
	for _, g := range s.groups {
		if now := g.config(); now.Name == c.Name && now.Engine == c.Engine {
			return g
		}
	}
	return nil
}

// usable refuses what no group can be made of.
func (d *Daemon) usable(c *config.Group) error {
	_, members, err := d.group(c).gather(c)
	closeAll(members)
	return err
}

func (d *Daemon) close() error {
	s := d.now.Load()
	if s.api != nil {
		s.api.Close()
	}
	var errs []error
	for _, g := range s.groups {
		if opened := g.watched.Swap(nil); opened != nil { // it never ran
			errs = append(errs, g.close(opened))
		}
	}
	return errors.Join(append(errs, d.closeAudit(), d.store.Close())...)
}

// notice tells of a divergence that was raised or resolved.
func (d *Daemon) notice(v finding.Divergence) {
	if api := d.API(); api != nil {
		api.Observe(&v)
	}
	if d.options.OnNotice != nil {
		d.options.OnNotice(v)
	}
}
