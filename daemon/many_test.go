package daemon_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/impostor"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// What a member's server does instead of its work.
const (
	refuses   = "refuses"    // nobody listens
	hangs     = "hangs"      // and accepts connections
	babbles   = "babbles"    // what is no protocol
	cuts      = "cuts"       // hangs up in the middle of answers
	stalls    = "stalls"     // falls silent in the middle of answers
	turnsAway = "turns away" // for a wrong password
)

// complaints are what is said of a member in that trouble, with the words of the server or the driver.
var complaints = map[string][]string{
	refuses:   {"connection refused"},
	hangs:     {"timeout", "no answer"},
	babbles:   {"the server sent", "EOF", "unexpected message", "greeting", "message length", "body length", "unknown message"},
	cuts:      {"EOF", "reset", "closed", "broken pipe", "bad connection", "invalid connection"},
	stalls:    {"timeout", "no answer", "deadline exceeded"},
	turnsAway: {"password authentication failed", "Access denied"},
}

// share is one of many groups, on servers that it shares with others.
type share struct {
	trio
	name      string            // of the group and of its database
	bad       map[string]string // what is the matter with members' servers
	reference string            // as configured
	at        map[string]*impostor.Server
}

// crowd is lockstep at work on many groups, some of which are in trouble.
type crowd struct {
	*watch
	budget   time.Duration
	dir      string // of the store
	password string // name of a file
	rounds   int
	expected map[string]bool // divergences, each by its group and summary

	mu   sync.Mutex
	told map[string]time.Time // when divergences were told of, the same way; guarded by mu
}

const itemsOfShare = 200

// asWritten is what a test has a configuration of that is no cluster's.
type asWritten struct {
	servers
	as *config.Config
}

func (w asWritten) Configuration() *config.Config { return w.as }

// soundOf lists the shares all of whose servers do their work.
func soundOf(shares []*share) (list []*share) {
	for _, s := range shares {
		if len(s.bad) == 0 {
			list = append(list, s)
		}
	}
	return list
}

// newCrowd makes the databases of shares.
func newCrowd(t *testing.T, budget time.Duration, shares []*share) *crowd {
	t.Helper()
	c := &crowd{
		budget: budget, dir: t.TempDir(), password: filepath.Join(t.TempDir(), "password"),
		expected: make(map[string]bool), told: make(map[string]time.Time),
	}
	if err := os.WriteFile(c.password, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.watch = &watch{t: t, tune: func(o *monitor.Options) {
		next := o.OnNotice
		o.OnNotice = func(d finding.Divergence) {
			c.note(d)
			next(d)
		}
	}}
	for _, s := range shares {
		if err := s.add(t.Context(), s.name, rowsOf(1, itemsOfShare)); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		s.open(t)
	}
	set := c.configuration(shares, false)
	for i, s := range shares {
		if err := cluster.Mend(t.Context(), &set.Groups[i], s.execOn); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
	c.c = asWritten{as: c.configuration(soundOf(shares), true)}
	c.start()
	return c
}

func (c *crowd) note(d finding.Divergence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := d.Group + ": " + summary(d); d.State == finding.Open && c.told[at].IsZero() {
		c.told[at] = time.Now()
	}
}

// open puts somebody else at the addresses of members in trouble.
func (s *share) open(t *testing.T) {
	s.at = make(map[string]*impostor.Server)
	for i, name := range trioNames {
		to := addressOf(s.trio, i)
		serve := map[string]func(net.Conn){
			hangs: impostor.Hang, babbles: impostor.Babble, cuts: impostor.Cut(to), stalls: impostor.Stall(to), turnsAway: impostor.Lead(to),
		}[s.bad[name]]
		if serve != nil {
			s.at[name] = impostor.Serve(t, serve)
		}
	}
}

// execOn runs statements on a member's server.
func (s *share) execOn(ctx context.Context, member string, statements ...string) error {
	return s.exec(ctx, slices.Index(trioNames, member), s.name, statements...)
}

// configuration is that of shares, with their trouble or without.
func (c *crowd) configuration(shares []*share, trouble bool) *config.Config {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %s\nlisten: 127.0.0.1:0\nlag_budget: %v\ngroups:\n", c.dir, c.budget)
	for _, s := range shares {
		fmt.Fprintf(&b, "  - name: %s\n    engine: %s\n", s.name, s.engine())
		if s.reference != "" {
			fmt.Fprintf(&b, "    reference: %s\n", s.reference)
		}
		fmt.Fprintf(&b, "    tables: {include: [%q]}\n    members:\n", s.schema(s.name)+".*")
		for i, name := range trioNames {
			user, address, password := dbtest.LockstepUser, addressOf(s.trio, i), ""
			switch at := s.at[name]; {
			case !trouble:
			case s.bad[name] == refuses:
				address = "127.0.0.1:1"
			case at != nil:
				address = at.Address
			}
			if trouble && s.bad[name] == turnsAway {
				user, password = stranger, ", password_file: "+c.password
			}
			fmt.Fprintf(&b, "      - {name: %s, dsn: %q%s}\n", name, dsnOf(s.trio, user, address, s.name), password)
		}
	}
	all, err := config.Parse("lockstep.yaml", []byte(b.String()))
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

// watches has these groups be watched, with their trouble, and no others.
func (c *crowd) watches(shares []*share) {
	c.t.Helper()
	if err := c.daemon.Change(c.t.Context(), c.configuration(shares, true)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) status(s *share) *status.Group {
	for _, g := range c.daemon.Groups() {
		if g.Name() == s.name {
			return g.Status()
		}
	}
	return &status.Group{}
}

// keepStep waits until the members whose servers do their work are in step.
func (c *crowd) keepStep(shares []*share) {
	c.t.Helper()
	for _, s := range shares {
		c.until(s.name+" to be in step", func() bool {
			for _, m := range c.status(s).Members {
				if s.bad[m.Name] == "" && m.State != status.InStep {
					return false
				}
			}
			return len(c.status(s).Members) == len(trioNames)
		})
	}
}

// complain waits until it is said of each member in trouble what that is.
func (c *crowd) complain(shares []*share) {
	c.t.Helper()
	for _, s := range shares {
		for i := range trioNames {
			name, kind := trioNames[i], s.bad[trioNames[i]]
			if kind == "" {
				continue
			}
			var m status.Member
			c.until(fmt.Sprintf("it to be said of %s %s that its server %s", s.name, name, kind), func() bool {
				if m = c.status(s).Members[i]; m.State != status.Unverified {
					c.t.Errorf("%s %s is %s, and its server %s", s.name, name, m.State, kind)
				}
				return slices.ContainsFunc(complaints[kind], func(words string) bool { return strings.Contains(m.Trouble, words) })
			})
			c.t.Logf("%s %s, whose server %s: %s", s.name, name, kind, m.Trouble)
		}
	}
}

// besideTrouble lists the shares in which what differs on us-1 can be found, though us-2 is in trouble.
func besideTrouble(shares []*share) (list []*share) {
	for _, s := range shares {
		if len(s.bad) == 1 && s.bad["us-2"] != "" {
			list = append(list, s)
		}
	}
	return list
}

// leavesAlone fails the test if a server that has turned lockstep away was asked again and again in this time: after 5 seconds, and then
// ever more seldom.
func (c *crowd) leavesAlone(shares []*share, since time.Duration) {
	c.t.Helper()
	most := int64(1 + since/(5*time.Second))
	if since > time.Minute {
		most = 4 + int64(since/time.Minute)
	}
	for _, s := range shares {
		for name, at := range s.at {
			c.t.Logf("%s %s, which %s: %d connections in %v, %d are open", s.name, name, s.bad[name], at.Came(), since.Round(time.Second), at.Here())
			if s.bad[name] == turnsAway && at.Came() > most {
				c.t.Errorf("%s %s was logged in to %d times in %v, though it turns lockstep away; want at most %d", s.name, name, at.Came(), since, most)
			}
		}
	}
}

// leavesNobody waits until there is no connection any more to servers in trouble.
func (c *crowd) leavesNobody(shares []*share) {
	c.t.Helper()
	for _, s := range shares {
		for name, at := range s.at {
			c.until("connections to "+s.name+" "+name+" to be closed", func() bool { return at.Here() == 0 })
		}
	}
}

// round writes to us-1 of each group by mistake, and returns how long after the lag budget it was told of. It puts that right again.
func (c *crowd) round(shares []*share) (late map[*share]time.Duration) {
	c.t.Helper()
	n := c.rounds%itemsOfShare + 1
	c.rounds++
	wrote, want := make(map[*share]time.Time), make(map[*share]string)
	for _, s := range shares {
		if err := s.exec(c.t.Context(), 1, s.name, fmt.Sprintf("UPDATE items SET name = 'wrong' WHERE id = %d", n)); err != nil {
			c.t.Fatal(err)
		}
		wrote[s], want[s] = time.Now(), fmt.Sprintf(`%s: us-1 %s changed errant_transaction {"id":%d}..{"id":%d}`, s.name, s.schema(s.name)+".items", n, n)
		c.expected[want[s]] = true
	}
	late = make(map[*share]time.Duration)
	c.until("all to be told of", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range shares {
			if at := c.told[want[s]]; !at.IsZero() {
				late[s] = at.Sub(wrote[s]) - c.budget
			}
		}
		return len(late) == len(shares)
	})
	for _, s := range shares {
		if err := s.exec(c.t.Context(), 1, s.name, fmt.Sprintf("UPDATE items SET name = 'item %d' WHERE id = %d", n, n)); err != nil {
			c.t.Fatal(err)
		}
	}
	c.keepStep(shares)
	return late
}

// neverOthers fails the test if a divergence was ever told of that nobody has made.
func (c *crowd) neverOthers() {
	c.t.Helper()
	for _, g := range c.daemon.Groups() {
		err := g.Divergences(func(d *finding.Divergence) bool {
			if !c.expected[d.Group+": "+summary(*d)] {
				c.t.Errorf("%s: false alarm: %s (%s)", d.Group, summary(*d), d.Detail)
			}
			return true
		})
		if err != nil {
			c.t.Error(err)
		}
	}
}

// A third of the servers are dead, hang, lie or turn lockstep away. What is written by mistake elsewhere is found all the same, each member
// in trouble says what that is, and the servers are left in peace.
func TestServersInTroubleDisturbNobody(t *testing.T) {
	t.Parallel()
	servers := startMySQLTrio(t, dbtest.MariaDB1011)
	shares := []*share{
		{trio: servers, name: "good_1"},
		{trio: servers, name: "good_2"},
		{trio: servers, name: "beside_hung", bad: map[string]string{"us-2": hangs}, reference: "eu-1"},
		{trio: servers, name: "beside_cut", bad: map[string]string{"us-2": cuts}, reference: "eu-1"},
		{trio: servers, name: "waiting", bad: map[string]string{"eu-1": turnsAway, "us-1": turnsAway, "us-2": turnsAway}},
		{trio: servers, name: "lost", bad: map[string]string{"eu-1": babbles, "us-1": refuses, "us-2": turnsAway}, reference: "eu-1"},
	}
	c := newCrowd(t, time.Second, shares)
	good := soundOf(shares)
	c.keepStep(good)
	changed, began := make(chan error, 1), time.Now()
	all := c.configuration(shares, true)
	go func() { changed <- c.daemon.Change(t.Context(), all) }()
	c.round(good)
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	c.complain(shares)
	other := besideTrouble(shares)
	c.keepStep(other)
	c.round(slices.Concat(good, other))
	c.complain(shares)
	c.neverOthers()
	c.leavesAlone(shares, time.Since(began))
	c.watches(good)
	c.leavesNobody(shares)
}

// 24 groups of three members on servers of three engines, a third of which are in trouble: how late a divergence is told of in the groups
// whose servers do their work, with the others there and without, in turns; how often servers in trouble are logged in to; and what
// lockstep takes of memory.
func TestSoakOfManyGroupsWithServersInTrouble(t *testing.T) {
	needSoak(t)
	var shares []*share
	for _, of := range []struct {
		trio
		lost   [3]string
		beside [2]string
	}{
		{startPostgresTrio(t), [3]string{babbles, refuses, hangs}, [2]string{cuts, turnsAway}},
		{startMySQLTrio(t, dbtest.MariaDB1011), [3]string{babbles, refuses, cuts}, [2]string{hangs, stalls}},
		{startMySQLTrio(t, dbtest.MySQL97), [3]string{hangs, refuses, turnsAway}, [2]string{cuts, stalls}},
	} {
		engine := of.engine()
		for i := range 4 {
			shares = append(shares, &share{trio: of.trio, name: fmt.Sprintf("%s_%d", engine, i+1)})
		}
		for i, kind := range of.beside {
			shares = append(shares, &share{trio: of.trio, name: fmt.Sprintf("%s_beside_%d", engine, i+1), bad: map[string]string{"us-2": kind}, reference: "eu-1"})
		}
		shares = append(shares,
			&share{trio: of.trio, name: engine + "_waiting", bad: map[string]string{"eu-1": turnsAway, "us-1": turnsAway, "us-2": turnsAway}},
			&share{trio: of.trio, name: engine + "_lost", bad: map[string]string{"eu-1": of.lost[0], "us-1": of.lost[1], "us-2": of.lost[2]}, reference: "eu-1"})
	}
	c := newCrowd(t, 2*time.Second, shares)
	good, other := soundOf(shares), besideTrouble(shares)
	late := make(map[string][]time.Duration)
	round := func(what string, list []*share) {
		for _, after := range c.round(list) {
			late[what] = append(late[what], after)
		}
	}
	const alone, beside, inside = "alone", "with the others", "in groups with a member in trouble"
	c.keepStep(good)
	before := runtime.NumGoroutine()

	began, came := time.Now(), make(map[string]int64)
	c.watches(shares)
	c.keepStep(other)
	var first, last use
	for minute := range 5 {
		for time.Since(began) < time.Duration(minute+1)*time.Minute {
			round(inside, other)
		}
		c.logins(shares, minute+1, came)
		if last = used(); minute == 0 {
			first = last
		}
		t.Logf("minute %d: %v", minute+1, last)
	}
	c.complain(shares)
	c.leavesAlone(shares, time.Since(began))
	if last.heap > first.heap+32<<20 || last.resident > first.resident+256<<20 || last.goroutines > 2*first.goroutines {
		t.Errorf("it took %v after a minute, and %v now", first, last)
	}

	for range 5 { // the same is done by turns
		c.watches(good)
		for range 3 {
			round(alone, good)
		}
		c.watches(shares)
		c.keepStep(other)
		for range 3 {
			round(beside, good)
		}
	}
	c.neverOthers()
	c.watches(good)
	c.leavesNobody(shares)
	c.until("what worked for the others to end", func() bool { return runtime.NumGoroutine() <= before+20 })
	median := make(map[string]time.Duration)
	for _, what := range []string{alone, beside, inside} {
		all := late[what]
		slices.Sort(all)
		median[what] = all[len(all)/2]
		t.Logf("told of after the lag budget %s: median %d ms, 90 %% within %d ms, at most %d ms, of %d", what,
			median[what].Milliseconds(), all[len(all)*9/10].Milliseconds(), all[len(all)-1].Milliseconds(), len(all))
	}
	t.Logf("the median %s is %.2f times that %s", beside, float64(median[beside])/float64(median[alone]), alone)
}

// use is what this process takes.
type use struct {
	heap, resident int64
	goroutines     int
}

func (u use) String() string {
	return fmt.Sprintf("heap %d kB, resident %d MB, %d goroutines", u.heap>>10, u.resident>>20, u.goroutines)
}

func used() use {
	u := use{heap: heap(), goroutines: runtime.NumGoroutine()}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil { // what is no Linux does not have it
		var size int64
		_, _ = fmt.Sscan(string(text), &size, &u.resident)
		u.resident *= int64(os.Getpagesize())
	}
	return u
}

// logins logs how many connections were made to servers in trouble in one more minute, of each kind, and counts those that came so far.
func (c *crowd) logins(shares []*share, minute int, came map[string]int64) {
	servers, connections := make(map[string]int), make(map[string]int64)
	for _, s := range shares {
		for name, at := range s.at {
			servers[s.bad[name]]++
			connections[s.bad[name]] += at.Came()
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(servers)) {
		n := connections[kind] - came[kind]
		came[kind] = connections[kind]
		c.t.Logf("minute %d: %d connections to %d servers of the kind that %s", minute, n, servers[kind], kind)
	}
}
