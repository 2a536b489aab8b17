package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/preflight"
	"github.com/lockstep-cdc/lockstep/status"
)

// Group is one replication group of the configuration. There is one from the first second, whatever its servers do: while it
// cannot be opened, because nobody says which member is the reference, it says of all its members that nothing is known.
// Its methods may be called from any goroutine.
type Group struct {
	config *config.Group
	daemon *Daemon

	watched atomic.Pointer[monitor.Group] // nil: it waits
	waits   atomic.Pointer[string]        // for what

	mu       sync.Mutex
	members  []monitor.Member      // as they were opened
	servers  map[string]cdc.Server // who the members say they are, of those that have said so
	reopened chan struct{}         // a wish to be opened anew; holds one

	stop  context.CancelFunc
	ended chan struct{}
}

func (d *Daemon) group(c *config.Group) *Group {
	g := &Group{config: c, daemon: d, servers: make(map[string]cdc.Server), reopened: make(chan struct{}, 1)}
	g.wait("it is being opened")
	return g
}

func (g *Group) wait(reason string) { g.waits.Store(&reason) }

const (
	// meetWithin is how long a start waits for a member that it does not know to say who it is.
	meetWithin = 5 * time.Second
	// openRetry and openLongest are the times between two tries to open a group.
	openRetry   = time.Second
	openLongest = 30 * time.Second
)

// warnOfTrust says of which members' servers lockstep takes on trust who they are.
func (g *Group) warnOfTrust() {
	for i := range g.config.Members {
		m := &g.config.Members[i]
		if left := unverified(g.config, m); left != "" {
			g.daemon.log.Warn("the member's server is taken on trust, as its dsn says; sslmode or tls=verify-full has it prove who it is",
				"group", g.config.Name, "member", m.Name, "unverified", left)
		}
	}
}

// open opens the group. With strict every member must answer and be set up well.
func (g *Group) open(ctx context.Context, strict bool) error {
	members, err := g.daemon.sources(g.config)
	if err != nil {
		return err
	}
	reference, err := g.survey(ctx, members, strict)
	if err == nil {
		var opened *monitor.Group
		if opened, err = g.daemon.watch(g, members, reference); err == nil {
			g.mu.Lock()
			g.members = members
			g.mu.Unlock()
			g.watched.Store(opened)
			return nil
		}
	}
	closeAll(members)
	return fmt.Errorf("group %s: %w", g.config.Name, err)
}

// try opens the group, unless that cannot be yet: then it waits.
func (g *Group) try(ctx context.Context) error {
	err := g.open(ctx, false)
	var start *StartError
	if !errors.As(err, &start) {
		return err
	}
	g.wait(start.Error())
	g.daemon.log.Warn("group cannot be watched yet; lockstep tries again", "group", g.config.Name, "err", start.Error())
	return nil
}

// run watches the group until ctx ends. It ends before only if something of lockstep's own fails.
func (g *Group) run(ctx context.Context) error {
	for retry := openRetry; ; {
		if g.watched.Load() != nil {
			retry = openRetry
			if err := g.watch(ctx); err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			retry = 0 // it is to be opened anew
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
		retry = min(max(openRetry, 2*retry), openLongest)
		if err := g.try(ctx); err != nil || ctx.Err() != nil {
			return cmp.Or(ctx.Err(), err)
		}
	}
}

// watch runs the group until ctx ends or it is to be opened anew, and closes it.
func (g *Group) watch(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	opened := g.watched.Load()
	ended := make(chan error, 1)
	go func() { ended <- opened.Run(running) }()
	var err error
	select {
	case err = <-ended:
	case <-g.reopened:
		g.wait("it is being opened anew")
		stop()
		err = <-ended
	}
	g.watched.Store(nil)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, g.close(opened))
}

// close gives up what was opened.
func (g *Group) close(opened *monitor.Group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	closeAll(g.members)
	g.members = nil
	return opened.Close()
}

// survey finds out which member is the reference and which ones are only scanned. A member that was watched before is not waited
// for: what it was then it is taken for, until it says otherwise.
func (g *Group) survey(ctx context.Context, members []monitor.Member, strict bool) (string, error) {
	state, err := g.daemon.store.Group(g.config.Name)
	if err != nil {
		return "", err
	}
	defer state.Close()
	scanned, err := state.Watched()
	if err != nil {
		return "", err
	}
	before, err := state.Reference()
	if err != nil {
		return "", err
	}
	reference := g.config.Reference
	if reference == "" && before != "" && g.config.Member(before) != nil {
		reference = before
	}
	if err := g.meetAll(ctx, members, scanned, strict); err != nil {
		return "", err
	}
	if reference != "" {
		return reference, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*meetWithin)
	defer cancel()
	if reference, err = findReference(ctx, members); err != nil {
		err = &StartError{Err: fmt.Errorf("which member is the reference is not known: %w; name it in reference", err), Unreachable: unreachable(err)}
	}
	return reference, err
}

func unreachable(err error) bool {
	var start *StartError
	return errors.As(err, &start) && start.Unreachable
}

// introduction is who a member says that it is, or why it does not.
type introduction struct {
	asked  bool
	server cdc.Server
	err    error
}

// meetAll asks members who they are, all at once; a physical standby is only scanned. Of one that does not answer it is known from
// before whether it was only scanned. With strict, each has to answer and to be fit.
func (g *Group) meetAll(ctx context.Context, members []monitor.Member, scanned map[string]bool, strict bool) error {
	var asking errgroup.Group
	met := make([]introduction, len(members))
	for i := range members {
		m := &members[i]
		only, known := scanned[m.Name]
		if server, met := g.server(m.Name); met {
			only, known = server.Standby, true
		}
		m.ScanOnly = m.ScanOnly || known && only
		if !known || strict {
			asking.Go(func() error { met[i] = meet(ctx, m); return nil })
		}
	}
	_ = asking.Wait()
	for i, who := range met {
		m := &members[i]
		switch {
		case !who.asked:
		case who.err == nil:
			m.ScanOnly = m.ScanOnly || who.server.Standby
		case strict:
			return who.err
		default:
			g.daemon.log.Warn("member does not answer; lockstep waits for it", "group", g.config.Name, "member", m.Name, "err", who.err.Error())
		}
	}
	if !strict {
		return nil
	}
	return g.fit(ctx, members, met)
}

func meet(ctx context.Context, m *monitor.Member) introduction {
	within, cancel := context.WithTimeout(ctx, meetWithin)
	defer cancel()
	server, err := m.Source.Server(within)
	switch {
	case cdc.IsSetup(err):
		err = &StartError{Err: err}
	case err != nil:
		err = &StartError{Err: fmt.Errorf("%w: start that server, or correct its dsn", err), Unreachable: true}
	}
	return introduction{true, server, err}
}

// fit refuses members of which one cannot be watched as it is set up. They are entered in their order, so that it is the same
// one each time.
func (g *Group) fit(ctx context.Context, members []monitor.Member, met []introduction) error {
	for i, m := range members {
		if err := g.enter(m.Name, met[i].server); err != nil {
			return &StartError{Err: err}
		}
		if err := fitTables(ctx, g.config, m); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := g.orphan(m.Name); err != nil {
			return &StartError{Err: err}
		}
	}
	return nil
}

// server is who a member has said that it is, if it has.
func (g *Group) server(member string) (s cdc.Server, met bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, met = g.servers[member]
	return s, met
}

// enter notes who a member says that it is. It refuses one that is the same server as another before it in the configuration.
func (g *Group) enter(member string, s cdc.Server) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.servers, member)
	var roll preflight.Roll
	at := slices.IndexFunc(g.config.Members, func(m config.Member) bool { return m.Name == member })
	for _, m := range g.config.Members[:at] {
		if other, met := g.servers[m.Name]; met {
			_ = roll.Add(m.Name, other) // it was entered: it is not the same as another
		}
	}
	if err := roll.Add(member, s); err != nil {
		return err
	}
	for _, m := range g.config.Members[at+1:] {
		if other, met := g.servers[m.Name]; met && roll.Add(m.Name, other) != nil {
			delete(g.servers, m.Name) // it was entered first, and has no right to
			g.reopen()
		}
	}
	g.servers[member] = s
	return nil
}

// orphan refuses a member that is a physical standby of a server that is no member, which is known once all were entered.
func (g *Group) orphan(member string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.servers) < len(g.config.Members) {
		return nil
	}
	var roll preflight.Roll
	for name, s := range g.servers {
		if name == member || !s.Standby {
			_ = roll.Add(name, s) // see enter
		}
	}
	if roll.Orphan() == "" {
		return nil
	}
	return fmt.Errorf("member %s is a physical standby of a server that is no member of the group: add its primary, or remove it", member)
}

// reopen has the group opened anew.
func (g *Group) reopen() {
	select {
	case g.reopened <- struct{}{}:
	default: // it is to be already
	}
}

// admit says whether a member may be watched as who it says that it is, in the way in which it is. One that has become a physical
// standby, or is none any more, is watched in another way: the group is opened anew.
func (g *Group) admit(member string, s cdc.Server) error {
	err := g.enter(member, s)
	if err == nil {
		err = g.orphan(member)
	}
	if err != nil {
		return &cdc.SetupError{Problem: err.Error()}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if want := g.config.Member(member).ScanOnly || s.Standby; m.Name == member && m.ScanOnly != want {
			g.reopen()
			return fmt.Errorf("member %s is %s now: the group is opened anew", member, map[bool]string{true: "a physical standby", false: "no physical standby"}[s.Standby])
		}
	}
	return nil
}

// watch opens a group as it is to be watched.
func (d *Daemon) watch(g *Group, members []monitor.Member, reference string) (*monitor.Group, error) {
	c := g.config
	opt := monitor.Options{
		Name:        c.Name,
		Reference:   reference,
		Members:     members,
		Match:       c.Tables.Match,
		Exclude:     c.ExcludeColumns,
		Budget:      c.LagBudget,
		MaxInFlight: int(d.config().MaxInFlightRows),
		RowIndex:    c.RowIndex,
		Scrub:       monitor.ScrubPlan{Every: c.ScrubEvery, ChunkTime: c.Scrub.ChunkTime, Settings: c.Scrub.Settings()},
		Expected:    d.expected(c),
		Evidence:    monitor.EvidencePlan{Every: d.coverageEvery(), Key: d.keySpelling(), NoTrees: d.config().Audit.ProvableFor == 0},
		Canary: monitor.CanaryPlan{
			Table: c.Canary.Table, Every: c.Canary.Every, Into: func(member string) bool { return c.Canary.Into(*c.Member(member)) },
		},
		Admit:    g.admit,
		Logger:   d.log,
		OnNotice: d.notice,
	}
	if d.options.tune != nil {
		d.options.tune(&opt)
	}
	return monitor.Open(opt, d.store)
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

// Name is the group's, as configured.
func (g *Group) Name() string { return g.config.Name }

// Status is what can be said of the group.
func (g *Group) Status() *status.Group {
	if opened := g.watched.Load(); opened != nil {
		return opened.Status()
	}
	s := &status.Group{Name: g.config.Name, Reference: g.config.Reference, At: time.Now().UTC()}
	for _, m := range g.config.Members {
		role := "replica"
		if m.Name == g.config.Reference {
			role = "reference"
		}
		s.Members = append(s.Members, status.Member{Name: m.Name, Role: role, ScanOnly: m.ScanOnly, Trouble: *g.waits.Load()})
	}
	s.Complete()
	return s
}

// Scans are the tables that are being read now.
func (g *Group) Scans() []status.ScanProgress {
	if opened := g.watched.Load(); opened != nil {
		return opened.Scans()
	}
	return nil
}

// Divergences yields the group's divergences, the newest first.
func (g *Group) Divergences(yield func(*finding.Divergence) bool) error {
	if opened := g.watched.Load(); opened != nil {
		return opened.Divergences(yield)
	}
	state, err := g.daemon.store.Group(g.config.Name)
	if err != nil {
		return err
	}
	defer state.Close()
	return state.Divergences(yield)
}

// openEvents are the events of a kind that tell of the divergences which are open.
func (g *Group) openEvents(kind evidence.Type, now time.Time) ([]evidence.Event, error) {
	if opened := g.watched.Load(); opened != nil {
		return opened.OpenEvents(kind, now)
	}
	return nil, nil
}

// errWaits is for what cannot be asked of a group that is not opened.
func (g *Group) errWaits() error {
	return fmt.Errorf("group %s is not watched yet: %s", g.config.Name, *g.waits.Load())
}

// RequestScrub has rows read again, see [monitor.Group.RequestScrub].
func (g *Group) RequestScrub(ctx context.Context, want align.ScrubRequest) (align.ScrubRequest, error) {
	opened := g.watched.Load()
	if opened == nil {
		return align.ScrubRequest{}, g.errWaits()
	}
	return opened.RequestScrub(ctx, want)
}

// ScrubRequests lists those that were asked for since the group was opened.
func (g *Group) ScrubRequests() []align.ScrubRequest {
	if opened := g.watched.Load(); opened != nil {
		return opened.ScrubRequests()
	}
	return nil
}

// Acknowledge notes who has taken a divergence on, see [monitor.Group.Acknowledge].
func (g *Group) Acknowledge(ctx context.Context, id string, a finding.Acknowledgement) (*finding.Divergence, error) {
	opened := g.watched.Load()
	if opened == nil {
		return nil, g.errWaits()
	}
	return opened.Acknowledge(ctx, id, a)
}
