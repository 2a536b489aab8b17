package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/scan"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/store"
)

// The times that a history goes by.
const (
	budget     = 3 * time.Second
	scrubEvery = 20 * time.Second
	beat       = 50 * time.Millisecond // between two looks of the oracle
	toldAgain  = 5 * time.Second       // longest wait until a receiver that was away is told again
)

// plan is how lockstep is configured.
type plan struct {
	reference string
	members   []string // watched
	scanOnly  []string
	excluded  []string // tables
	sparse    []string // tables of which no row digests are kept
	parts     bool     // tables are read in parts, however small
	scrub     bool
	inFlight  int
}

func (p plan) partsFrom() int64 {
	if p.parts {
		return -1
	}
	return 0
}

func (p plan) clone() plan {
	p.members, p.scanOnly = slices.Clone(p.members), slices.Clone(p.scanOnly)
	p.excluded, p.sparse = slices.Clone(p.excluded), slices.Clone(p.sparse)
	return p
}

// world is a group of servers, and lockstep that watches it.
type world struct {
	ctx     context.Context // of the test
	random  *rand.Rand
	cluster *cdctest.Cluster
	servers []*cdctest.Server
	plan    plan
	source  string // the server that applications write to: the reference, as a rule
	fs      *vfs.MemFS
	trace   *trace
	oracle  *oracle
	// neighbour is watched by the same lockstep; nil in most worlds.
	neighbour *neighbour

	// Of lockstep's process that runs now; store is nil while none does.
	store   *store.Store
	group   *monitor.Group
	members []monitor.Member
	sources sources
	stop    context.CancelFunc
	done    chan error
	told    *receiver

	// Of the world outside.
	paused  map[string]bool // replication, by server and lane
	bad     map[string]cdctest.Fault
	copies  map[string]cdctest.Disk
	values  int
	most    int // keys of tableNames[1]; of the others there are few
	failed  []string
	inPlace bool // the step that is taken says so
	drawn   map[string]int
	crashes int
	// patient says that rest at the end is awaited for as long as anything might come: what is right at first may not stay so.
	patient bool
	// fuse is how many writes to the disk are left before lockstep is killed at one; 0: it is not. After that, wreck is the
	// disk as it was found.
	fuse  atomic.Int64
	share int // of what was not synced, in percent, that survives then
	wreck atomic.Pointer[vfs.MemFS]
}

var tableNames = []string{"app.accounts", "app.orders", "app.notes"}

// manyKeys are more than are read at once.
const fewKeys, manyKeys = 30, 330

func (w *world) anyKey(table string, r *rand.Rand) int {
	if table == tableNames[1] {
		return 1 + r.IntN(w.most)
	}
	return 1 + r.IntN(fewKeys)
}

func newWorld(ctx context.Context, seed uint64, out io.Writer) *world {
	random := rand.New(rand.NewPCG(seed, 1))
	engine := cdctest.Engines[random.IntN(len(cdctest.Engines))]
	w := &world{
		ctx: ctx, random: random, patient: seed%8 == 1, cluster: cdctest.NewCluster(engine, seed), fs: vfs.NewCrashableMem(),
		paused: make(map[string]bool), bad: make(map[string]cdctest.Fault), copies: make(map[string]cdctest.Disk),
		drawn: make(map[string]int), told: newReceiver(),
	}
	w.trace = newTrace(out)
	w.oracle = newOracle(w)
	w.cluster.Events = func(server, what string) { w.trace.say(server, what, "") }
	names := []string{"a", "b", "c"}
	for _, name := range names {
		s := w.cluster.Server(name)
		w.servers = append(w.servers, s)
		for _, t := range tableNames {
			s.CreateTable(t, cdctest.Int("v"), cdctest.Wide("note"))
		}
	}
	w.source = "a"
	w.plan = plan{reference: w.source, members: names, scrub: random.IntN(4) > 0, inFlight: []int{0, 0, 12}[random.IntN(3)]}
	if random.IntN(6) == 0 && engine != cdctest.Postgres {
		w.plan.sparse = []string{tableNames[1]}
	}
	if random.IntN(6) == 0 {
		w.plan.scanOnly = []string{"c"}
	}
	shape := rand.New(rand.NewPCG(seed, 6))
	w.plan.parts = shape.IntN(4) == 0
	w.most = []int{fewKeys, fewKeys, fewKeys, fewKeys, manyKeys}[shape.IntN(5)]
	if w.most == fewKeys { // reading many small ranges slowly takes longer than a scrub has
		w.cluster.Sluggish = []time.Duration{1, 1, 30}[shape.IntN(3)]
	}
	for _, s := range w.servers[1:] {
		w.connect(s, w.servers[0])
	}
	w.sort(rand.New(rand.NewPCG(seed, 5)))
	if rand.New(rand.NewPCG(seed, 8)).IntN(4) == 0 {
		w.neighbour = newNeighbour(w, seed)
	}
	w.trace.say("", "begin", fmt.Sprintf("seed %d, %s, %+v", seed, engine, w.plan))
	return w
}

// sort gives a table orders of its keys that only the servers know, in some worlds, or none on some server.
func (w *world) sort(r *rand.Rand) {
	if r.IntN(3) > 0 {
		return
	}
	t := tableNames[2]
	for _, s := range w.servers {
		switch r.IntN(4) {
		case 0:
			s.Sort(t, cdctest.Descending)
		case 1:
			s.Sort(t, cdctest.Scrambled(s.Name))
		case 2:
			s.Unsort(t)
		}
	}
}

// connect makes a server replicate from another one, in one of the ways that there are.
func (w *world) connect(s, author *cdctest.Server) {
	if w.cluster.Engine != cdctest.Postgres {
		s.Follow(author)
		return
	}
	for _, lane := range s.Lanes() {
		s.Unsubscribe(lane)
	}
	if w.random.IntN(3) == 0 {
		for i, t := range tableNames {
			s.Subscribe(author, fmt.Sprintf("%s_%d", s.Name, i), t)
		}
		return
	}
	s.Subscribe(author, "sub_"+s.Name, tableNames...)
}

func (w *world) server(name string) *cdctest.Server {
	return w.servers[slices.IndexFunc(w.servers, func(s *cdctest.Server) bool { return s.Name == name })]
}

func (w *world) ref() *cdctest.Server { return w.server(w.plan.reference) }

// writer is the server that applications write to, which the others replicate from.
func (w *world) writer() *cdctest.Server { return w.server(w.source) }

// fail notes that lockstep did what it must not.
func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(w.failed) < 20 {
		w.failed = append(w.failed, text)
	}
	w.trace.say("", "VIOLATION", text)
}

// start starts lockstep on the disk as it is.
func (w *world) start() {
	st, err := store.Open("data", store.Options{FS: errorfs.Wrap(w.fs, errorfs.InjectorFunc(w.atWrite)), Cache: 256 << 10, Fatal: func(err error) { panic(err) }})
	if err != nil {
		w.fail("the store cannot be opened: %v", err)
		return
	}
	w.members = nil
	opt := w.options(st, w.plan)
	beside := make(chan error, 1)
	go func() { // as the daemon opens its groups
		if w.neighbour == nil {
			beside <- nil
			return
		}
		beside <- w.neighbour.open(st)
	}()
	g, err := monitor.Open(opt, st)
	if err = errors.Join(err, <-beside); err != nil {
		w.fail("the group cannot be opened: %v", err)
		_ = st.Close()
		return
	}
	w.store, w.group, w.members = st, g, opt.Members
	w.oracle.remembered(g)
	ctx, cancel := context.WithCancel(w.ctx)
	w.stop, w.done = cancel, make(chan error, 3)
	go func() { w.done <- g.Run(ctx) }()
	if w.neighbour != nil {
		go func() { w.done <- w.neighbour.group.Run(ctx) }()
	} else {
		w.done <- nil
	}
	n := &alerts.Notifier{
		Divergences: g.Divergences, News: st.News,
		Sinks: []alerts.Sink{&alerts.Receiver{Name: "people", Channel: w.told, Memory: st, Logger: slog.New(slog.DiscardHandler), LastRetry: toldAgain}},
	}
	w.told.dead.Store(false)
	go func() { w.done <- n.Run(ctx) }()
	w.oracle.started()
}

// options are those of lockstep by a plan, with the members that it has already where they are to be watched in the same way.
func (w *world) options(st *store.Store, p plan) monitor.Options {
	opt := monitor.Options{
		Name: "shop", Reference: p.reference,
		Match: func(table string) bool {
			return strings.HasPrefix(table, "app.") && !slices.Contains(p.excluded, table)
		},
		Exclude:     func(string) []string { return nil },
		Budget:      func(string) time.Duration { return budget },
		MaxInFlight: p.inFlight,
		PartsFrom:   p.partsFrom(),
		RangeRows:   4,
		RowIndex:    func(table string) bool { return !slices.Contains(p.sparse, table) },
		Logger:      slog.New(slog.NewTextHandler(w.trace.log(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		OnNotice:    w.oracle.notice,
	}
	if p.scrub {
		opt.Scrub = monitor.ScrubPlan{
			Every: func(string) time.Duration { return scrubEvery }, ChunkTime: 20 * time.Millisecond,
			Settings: scan.Settings{MaxReplicaLag: time.Hour},
		}
	}
	for _, name := range p.members {
		scanOnly := slices.Contains(p.scanOnly, name)
		i := slices.IndexFunc(w.members, func(m monitor.Member) bool { return m.Name == name && m.ScanOnly == scanOnly })
		if i >= 0 {
			opt.Members = append(opt.Members, w.members[i])
			continue
		}
		x := w.server(name).Source(digest.NewHasher(st.Secret()))
		x.ScanOnly = scanOnly
		w.sources.add(x)
		opt.Members = append(opt.Members, monitor.Member{Name: name, Source: x, ScanOnly: scanOnly})
	}
	return opt
}

// sources are all that lockstep has had since it was started. They may be reached from any goroutine.
type sources struct {
	mu   sync.Mutex
	list []*cdctest.Source // guarded by mu
	dead bool              // lockstep was killed; guarded by mu
}

func (s *sources) add(x *cdctest.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, x)
	if s.dead {
		x.Kill()
	}
}

func (s *sources) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	for _, x := range s.list {
		x.Kill()
	}
}

func (s *sources) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.dead = nil, false
}

// end lets lockstep stop in good order, or sees it off after it was killed.
func (w *world) end(killed bool) {
	if w.store == nil {
		return
	}
	w.stop()
	if n := panics(w.group.Status()); n > 0 && !killed {
		w.fail("lockstep has panicked %d times", n)
	}
	for range cap(w.done) {
		if err := <-w.done; err != nil && !errors.Is(err, context.Canceled) && !killed {
			w.fail("lockstep ended with: %v", err)
		}
	}
	if w.neighbour != nil {
		if err := w.neighbour.close(); err != nil && !killed {
			w.fail("the other group could not be closed: %v", err)
		}
	}
	if err := errors.Join(w.group.Close(), w.store.Close()); err != nil && !killed {
		w.fail("lockstep could not be closed: %v", err)
	}
	w.store, w.group = nil, nil
	w.sources.clear()
}

// panics are those of a group, which it lives through.
func panics(s *status.Group) int64 {
	n := s.Panics
	for _, m := range s.Members {
		n += m.Panics
		for _, d := range m.Duties {
			n += d.Panicked
		}
	}
	return n
}

// crash kills lockstep. Of what it did not sync, any share is lost.
func (w *world) crash(random *rand.Rand) {
	synctest.Wait()
	w.share = random.IntN(101)
	w.kill()
	w.recover()
}

// atWrite is called before each operation on the disk, from any goroutine.
func (w *world) atWrite(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && w.fuse.Load() > 0 && w.fuse.Add(-1) == 0 {
		w.kill()
	}
	return nil
}

// kill takes what is on the disk now; nothing that lockstep still does reaches anybody.
func (w *world) kill() {
	w.wreck.Store(w.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: w.share, RNG: rand.New(rand.NewPCG(uint64(w.share), 5)),
	}))
	w.sources.kill()
	for _, s := range w.servers {
		s.Untell()
	}
	w.told.dead.Store(true)
	w.oracle.killed()
}

// recover starts lockstep again from what was on the disk when it was killed.
func (w *world) recover() {
	wreck := w.wreck.Swap(nil)
	if wreck == nil {
		return
	}
	w.trace.say("lockstep", "is killed", fmt.Sprintf("%d%% of what was not synced survives", w.share))
	w.fuse.Store(0)
	w.end(true)
	w.fs = wreck
	w.crashes++
	w.start()
}

// restart stops lockstep in good order and starts it by another plan.
func (w *world) restart(p plan) {
	w.recover()
	w.fuse.Store(0)
	w.end(false)
	w.oracle.killed()
	w.took(p)
	w.start()
}

// adopt has lockstep go by another plan with the same reference.
func (w *world) adopt(p plan) {
	w.recover()
	if !w.inPlace || w.group == nil {
		w.restart(p)
		return
	}
	w.change(p)
}

// change has lockstep go by another plan as it runs.
func (w *world) change(p plan) {
	w.trace.say("lockstep", "is changed in place", fmt.Sprintf("%+v", p))
	before, opt := w.plan, w.options(w.store, p)
	w.took(p)
	if err := w.group.Change(w.ctx, opt); err != nil {
		w.fail("lockstep cannot be changed: %v", err)
	}
	w.members = opt.Members
	w.oracle.changed(before, p)
}

// took notes by which plan lockstep goes from now on.
func (w *world) took(p plan) {
	if p.scrub && !w.plan.scrub {
		w.oracle.scrubs = time.Now()
	}
	w.plan = p
}

// run lets time pass, with replication going on, and looks at lockstep all the time.
func (w *world) run(d time.Duration) {
	w.oracle.see(time.Now()) // what comes next may undo what was done
	for end := time.Now().Add(d); time.Now().Before(end) && len(w.failed) == 0; {
		w.replicate()
		if w.neighbour != nil {
			w.neighbour.live()
		}
		<-time.After(beat)
		synctest.Wait()
		w.recover()
		w.oracle.look()
		if w.neighbour != nil {
			w.neighbour.look()
		}
	}
}

// replicate lets each follower go on a bit.
func (w *world) replicate() {
	for _, s := range w.servers {
		if w.cluster.Engine == cdctest.Postgres && w.random.IntN(20) == 0 {
			s.Noise() // its log goes on by itself
		}
		for _, lane := range s.Lanes() {
			if w.paused[s.Name+lane] {
				continue
			}
			for n := w.random.IntN(4); n > 0; n-- {
				w.replay(s, lane)
			}
		}
	}
}

func (w *world) replay(s *cdctest.Server, lane string) bool {
	f := w.bad[s.Name]
	if !s.Replay(lane, f, w.random) {
		return false
	}
	delete(w.bad, s.Name)
	w.oracle.see(time.Now()) // what the next one makes wrong is right for a moment
	return true
}

func (w *world) value() int {
	w.values++
	return w.values
}

func (w *world) close() {
	w.fuse.Store(0)
	w.recover()
	w.end(false)
	for _, v := range w.cluster.Violations() {
		w.fail("%s", v)
	}
}

// status is what lockstep says now; nil while it does not run.
func (w *world) status() *status.Group {
	if w.group == nil {
		return nil
	}
	return w.group.Status()
}
