package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

// Group is one replication group of the configuration. There is one from the first second, whatever its servers do: while it
// cannot be opened, because nobody says which member is the reference, it says of all its members that nothing is known.
// Its methods may be called from any goroutine.
type Group struct {
	daemon  *Daemon
	as      atomic.Pointer[config.Group]
	watched atomic.Pointer[monitor.Group] // nil: it waits
	waits   atomic.Pointer[string]        // for what

	mu       sync.Mutex
	members  []member                 // as they are watched
	servers  map[string]cdc.Server    // who the members say they are, of those that have said so
	owners   map[string]cdc.Server    // who the members were when they were watched last, by this lockstep or one before it
	letIn    map[string]bool          // members that were let in as who they say to be, and may be watched still; see settle
	outdated map[string]bool          // members that are not to be watched as they are
	doors    map[string]chan struct{} // by what a server says that it is; see enter

	changes  chan regrouping
	outdates chan struct{} // some member has come to be outdated; holds one

	stop  context.CancelFunc
	ended chan struct{}
}

// member is a member that is watched, and what the configuration says of it.
type member struct {
	monitor.Member
	as     config.Member
	said   *cdc.Server // who it has said that it is before it was watched; nil: it was not asked, or did not answer
	silent error       // why it did not
}

// regrouping is a wish to have a group be as another configuration has it.
type regrouping struct {
	next *config.Group
	done chan error // nil: nobody waits
}

func (r regrouping) answer(err error) {
	if r.done != nil {
		r.done <- err
	}
}

func (d *Daemon) group(c *config.Group) *Group {
	g := &Group{
		daemon: d, servers: make(map[string]cdc.Server), owners: make(map[string]cdc.Server), letIn: make(map[string]bool), outdated: make(map[string]bool),
		doors:   make(map[string]chan struct{}),
		changes: make(chan regrouping), outdates: make(chan struct{}, 1),
	}
	g.as.Store(c)
	g.wait("it is being opened")
	return g
}

// config is what the configuration says of the group now.
func (g *Group) config() *config.Group { return g.as.Load() }

func (g *Group) wait(reason string) { g.waits.Store(&reason) }

const (
	// openRetry and openLongest are the times between two tries to open a group.
	openRetry   = time.Second
	openLongest = 30 * time.Second
)

// warnOfTrust says of which members' servers lockstep takes on trust who they are.
func (d *Daemon) warnOfTrust(c *config.Group, members []*member) {
	for _, m := range members {
		if left := unverified(c, &m.as); left != "" {
			d.log.Warn("the member's server is taken on trust, as its dsn says; sslmode or tls=verify-full has it prove who it is",
				"group", c.Name, "member", m.Name, "unverified", left)
		}
	}
}

// open opens the group. With strict every member must answer and be set up well.
func (g *Group) open(ctx context.Context, strict bool) error {
	c := g.config()
	members, fresh, err := g.gather(c)
	if err != nil {
		return err
	}
	g.daemon.warnOfTrust(c, fresh)
	reference, err := g.survey(ctx, members, fresh, strict)
	if err == nil {
		var opened *monitor.Group
		if opened, err = monitor.Open(g.daemon.watching(g, c, members, reference), g.daemon.store); err == nil {
			g.become(c, members, fresh)
			g.watched.Store(opened)
			return nil
		}
	}
	closeAll(fresh)
	return fmt.Errorf("group %s: %w", c.Name, err)
}

// gather returns the members of a configuration: those that are watched already as it says, and fresh ones.
func (g *Group) gather(c *config.Group) (members []member, fresh []*member, err error) {
	hasher := digest.NewHasher(g.daemon.store.Secret())
	members = make([]member, len(c.Members))
	for i := range c.Members {
		m := &c.Members[i]
		var stays bool
		if members[i], stays = g.watchedAs(m); stays {
			continue
		}
		source, err := newSource(c, m, hasher, g.daemon.log, g.daemon.logins)
		if err != nil {
			closeAll(fresh)
			return nil, nil, fmt.Errorf("group %s: member %s: %w", c.Name, m.Name, err)
		}
		members[i] = member{Member: monitor.Member{Name: m.Name, Source: source, ScanOnly: m.ScanOnly, Leaves: leaves(c, m)}, as: *m}
		fresh = append(fresh, &members[i])
	}
	return members, fresh, nil
}

// watchedAs returns a member that is watched as the configuration says, if it is.
func (g *Group) watchedAs(as *config.Member) (m member, is bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.Name == as.Name && reflect.DeepEqual(m.as, *as) && !g.outdated[m.Name] {
			return m, true
		}
	}
	return m, false
}

// scanned says of the members that are watched whether they are only scanned.
func (g *Group) scanned() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	only := make(map[string]bool)
	for _, m := range g.members {
		only[m.Name] = m.ScanOnly
	}
	return only
}

// become notes by which configuration the group is watched, and returns what was watched before and is not any more. Of those who
// are connected to anew it is known who they are if they have said so by the new connection.
func (g *Group) become(c *config.Group, members []member, fresh []*member) (left []*member) {
	g.configure(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.members {
		m := &g.members[i]
		if !slices.ContainsFunc(members, func(now member) bool { return now.Source == m.Source }) {
			left = append(left, m)
			delete(g.servers, m.Name)
			delete(g.letIn, m.Name)
			delete(g.outdated, m.Name)
		}
	}
	g.members = members
	for i := range g.members {
		g.members[i].silent = nil // by now it may answer
	}
	g.introduce(fresh)
	return left
}

// configure notes what the configuration says, and forgets who was a member.
func (g *Group) configure(c *config.Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.as.Store(c)
	for _, servers := range []map[string]cdc.Server{g.servers, g.owners} {
		maps.DeleteFunc(servers, func(name string, _ cdc.Server) bool { return c.Member(name) == nil })
	}
	maps.DeleteFunc(g.letIn, func(name string, _ bool) bool { return c.Member(name) == nil })
}

// adjust has what is watched be as a configuration says, without a touch to what is so already. It reports whether it could; if not,
// the group is to be opened anew, because of err. A configuration of which nothing can be made changes nothing.
func (g *Group) adjust(ctx context.Context, opened *monitor.Group, c *config.Group) (inPlace bool, err error) {
	reference := opened.Status().Reference
	switch m := c.Member(reference); {
	case m == nil:
		return false, fmt.Errorf("its reference, %s, is no member any more", reference)
	case m.ScanOnly, c.Reference != "" && c.Reference != reference:
		return false, errors.New("the reference is to be another one")
	}
	members, fresh, err := g.gather(c)
	if err != nil {
		return true, err
	}
	g.daemon.warnOfTrust(c, fresh)
	if err := g.meetAll(ctx, fresh, g.scanned(), false); err != nil {
		closeAll(fresh)
		return true, err
	}
	if stays, err := g.remains(ctx, c, members, fresh, reference); !stays {
		closeAll(fresh)
		return false, err
	}
	left := g.become(c, members, fresh)
	err = opened.Change(ctx, g.daemon.watching(g, c, members, reference))
	closeAll(left)
	return err == nil, err
}

// remains reports whether the reference stays the one that it is, or why not. Where nobody has named it, a change of what the members
// are has it found anew, as a start would.
func (g *Group) remains(ctx context.Context, c *config.Group, members []member, fresh []*member, reference string) (stays bool, why error) {
	is := slices.IndexFunc(members, func(m member) bool { return m.Name == reference })
	before := g.config()
	if !members[is].ScanOnly && before.Reference == c.Reference && reflect.DeepEqual(before.Members, c.Members) {
		return true, nil
	}
	found, err := g.choose(ctx, c, members, fresh, reference)
	if err != nil {
		return false, err
	}
	if found.name != reference {
		return false, fmt.Errorf("the reference is to be %s", found.name)
	}
	found.tell(g.logger(), reference)
	return true, nil
}

func (g *Group) logger() *slog.Logger { return g.daemon.log.With("group", g.Name()) }

// try opens the group, unless that cannot be yet: then it waits.
func (g *Group) try(ctx context.Context) error {
	err := g.open(ctx, false)
	var start *StartError
	if !errors.As(err, &start) {
		return err
	}
	g.wait(start.Error())
	g.daemon.log.Warn("group cannot be watched yet; lockstep tries again", "group", g.config().Name, "err", start.Error())
	return nil
}

// run watches the group until ctx ends. It ends before only if something of lockstep's own fails.
func (g *Group) run(ctx context.Context) error {
	for retry := openRetry; ; {
		var wish regrouping
		if g.watched.Load() != nil {
			var err error
			if wish, err = g.watch(ctx); err != nil || ctx.Err() != nil {
				wish.answer(cmp.Or(err, ctx.Err()))
				return errors.Join(err, ctx.Err())
			}
			retry = 0
		} else {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case wish = <-g.changes:
				g.configure(wish.next)
			case <-time.After(retry):
			}
		}
		retry = min(max(openRetry, 2*retry), openLongest)
		err := cmp.Or(g.try(ctx), ctx.Err())
		if wish.answer(err); err != nil {
			return err
		}
	}
}

// watch runs the group until ctx ends, or until there is a wish for which it is to be opened anew, and closes it. What can be had in
// place is.
func (g *Group) watch(ctx context.Context) (wish regrouping, err error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	opened := g.watched.Load()
	ended, moved := make(chan error, 1), make(chan choice)
	go func() { ended <- opened.Run(running) }()
	looking := g.lookout(opened.Status().Reference, moved)
	looked := make(chan error, 1)
	go func() { looked <- looking.Run(running) }()
	for goesOn := true; goesOn; {
		var inPlace bool
		var why error
		select {
		case err = <-ended:
			goesOn = false
			continue
		case found := <-moved:
			wish, why = regrouping{next: g.config()}, fmt.Errorf("%s is the reference now: %s", found.name, found.why)
		case wish = <-g.changes:
			inPlace, why = g.adjust(ctx, opened, wish.next)
		case <-g.outdates:
			wish = regrouping{next: g.config()}
			inPlace, why = g.adjust(ctx, opened, wish.next)
		}
		if inPlace {
			wish.answer(why)
			wish = regrouping{}
			continue
		}
		g.daemon.log.Info("group is opened anew", "group", wish.next.Name, "reason", why.Error())
		g.leave(wish.next)
		g.configure(wish.next)
		g.wait("it is being opened anew")
		stop()
		err, goesOn = <-ended, false
	}
	stop()
	<-looked
	g.watched.Store(nil)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return wish, errors.Join(err, g.close(opened))
}

// change has the group be as another configuration has it, while it runs.
func (g *Group) change(ctx context.Context, next *config.Group) error {
	wish := regrouping{next, make(chan error, 1)}
	select {
	case g.changes <- wish:
	case <-g.ended:
		return g.errWaits()
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-wish.done
}

// leave logs which members are not watched any more by the next configuration of the group; nil: there is none.
func (g *Group) leave(next *config.Group) {
	c := g.config()
	for i := range c.Members {
		m := &c.Members[i]
		if next != nil && next.Member(m.Name) != nil {
			continue
		}
		monitor.Member{Name: m.Name, ScanOnly: m.ScanOnly, Leaves: leaves(c, m)}.Leave(g.daemon.log.With("group", c.Name))
	}
}

// close gives up what was opened.
func (g *Group) close(opened *monitor.Group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		m.Source.Close()
	}
	g.members = nil
	clear(g.servers)
	clear(g.letIn)
	return opened.Close()
}

// survey finds out which member is the reference and which ones are only scanned. A member that does not answer and was watched before
// is taken for what it was then, until it says otherwise.
func (g *Group) survey(ctx context.Context, members []member, fresh []*member, strict bool) (string, error) {
	state, err := g.daemon.store.Group(g.config().Name)
	if err != nil {
		return "", err
	}
	defer state.Close()
	watched, err := state.Watched()
	if err != nil {
		return "", err
	}
	before, err := state.Reference()
	if err != nil {
		return "", err
	}
	if err := g.meetAll(ctx, fresh, g.recall(watched), strict); err != nil {
		return "", err
	}
	chosen, err := g.choose(ctx, g.config(), members, fresh, before)
	if err != nil {
		return "", err
	}
	chosen.tell(g.logger(), before)
	return chosen.name, nil
}

// watching says how a group is to be watched.
func (d *Daemon) watching(g *Group, c *config.Group, members []member, reference string) monitor.Options {
	opt := monitor.Options{
		Name:        c.Name,
		Reference:   reference,
		Match:       c.Tables.Match,
		Named:       c.Tables.Named,
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
	for _, m := range members {
		opt.Members = append(opt.Members, m.Member)
	}
	if d.options.tune != nil {
		d.options.tune(&opt)
	}
	return opt
}

func closeAll(members []*member) {
	for _, m := range members {
		m.Source.Close()
	}
}

// Name is the group's, as configured.
func (g *Group) Name() string { return g.config().Name }

// Status is what can be said of the group.
func (g *Group) Status() *status.Group {
	if opened := g.watched.Load(); opened != nil {
		return opened.Status()
	}
	s := &status.Group{Name: g.config().Name, Reference: g.config().Reference, At: time.Now().UTC()}
	for _, m := range g.config().Members {
		role := "replica"
		if m.Name == g.config().Reference {
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
	state, err := g.daemon.store.Group(g.config().Name)
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
	return fmt.Errorf("group %s %w: %s", g.config().Name, web.ErrWaits, *g.waits.Load())
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
