// Package cdctest is a group of database servers in memory, written as simply as possible, and the contract of a
// [cdc.Source] as a test suite.
//
// A [Server] has a log, tables with definitions that change, rows, and either subscriptions with slots and LSNs
// (PostgreSQL) or GTIDs (MySQL, MariaDB). Followers replay what authors wrote when they are told to, rightly or wrongly;
// [Server.Difference] says, from the rows and logs themselves, what a member has otherwise than it must. [Source] is what
// lockstep sees of a server, through a network that can be cut, slow or silent. [Exercise] is the suite that this source
// passes as well as those of the real engines, so that what is tried on it holds for them.
package cdctest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Engine is what a cluster's servers are like.
type Engine string

// The engines.
const (
	Postgres Engine = "postgres"
	MariaDB  Engine = "mariadb"
	MySQL    Engine = "mysql"
)

// Engines lists all of them.
var Engines = []Engine{Postgres, MariaDB, MySQL}

// Cluster is a group of servers of one engine. Its clock is the bubble's that a test runs in (testing/synctest).
type Cluster struct {
	Engine Engine
	// Events is told of what servers do, for traces; nil: nobody is.
	Events func(server, what string)
	// Sluggish says how many times as long as usual it takes to read rows; 0: once.
	Sluggish time.Duration

	mu         sync.Mutex // guards everything of all servers
	servers    []*Server
	random     *rand.Rand
	violations []string
	next       int // number of the next replication origin
	changes    int // how often anything of any server was changed
	written    int // transactions, to any log
}

// NewCluster returns a cluster without servers. Its delays are of the seed.
func NewCluster(engine Engine, seed uint64) *Cluster {
	return &Cluster{Engine: engine, random: rand.New(rand.NewPCG(seed, 7)), next: 16400}
}

// Server adds a server.
func (c *Cluster) Server(name string) *Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Server{cluster: c, Name: name, number: len(c.servers) + 1, changed: make(chan struct{}), beacons: make(map[cdc.Beacon]int), touched: make(map[rowAt]map[string]bool)}
	s.disk = disk{
		systemID: fmt.Sprintf("system-%d", s.number), timeline: 1, end: firstLSN,
		tables: make(map[string]*table), dropped: make(map[string]int), subscriptions: make(map[string]*Subscription), slots: make(map[string]*slot),
		history: make(map[rowAt][]step),
	}
	s.shown = s.end
	c.servers = append(c.servers, s)
	return s
}

// firstLSN is where the log of each server begins: all at the same place, so that positions of two logs match by chance.
const firstLSN = cdc.LSN(0x1000)

// Violations lists what lockstep did that no server must ever see: that it asked for a part of the log which it had said
// may be forgotten.
func (c *Cluster) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.violations...)
}

func (c *Cluster) violate(format string, args ...any) {
	c.violations = append(c.violations, fmt.Sprintf(format, args...))
}

func (c *Cluster) gtids() bool { return c.Engine != Postgres }

func (c *Cluster) tell(s *Server, format string, args ...any) {
	if c.Events != nil {
		c.Events(s.Name, fmt.Sprintf(format, args...))
	}
}

// Server is one server. Its methods may be called from any goroutine.
type Server struct {
	Name    string
	cluster *Cluster
	number  int

	disk
	// What follows is not on the disk, and stays when that is set back.
	history0   int                // counts histories: each time that the log went back
	connection int                // counts the times that all connections were cut
	beacons    map[cdc.Beacon]int // by the connection that they were lit by
	unlogged   bool               // what is written leaves no trace in the log
	unshown    bool               // and it has replayed since
	seenOff    bool               // and lockstep was told so
	untold     []RowName          // rows that were written here meanwhile
	follows    *Server
	problem    string    // of the replication of MySQL and MariaDB
	stopped    bool      // so is that replication
	hidden     []*hidden // in the order of the log
	faults     Faults
	skew       time.Duration // of the server's clock
	changed    chan struct{} // closed and made anew at each change
	// touched is by which transactions each row was changed here, by id and by end, whatever became of the log since.
	touched map[rowAt]map[string]bool
	// shown is how far any source has shown the log of the present history.
	shown cdc.LSN
}

// disk is what a server keeps. A copy of it that was taken earlier may take its place.
type disk struct {
	systemID      string
	timeline      int32
	tables        map[string]*table
	dropped       map[string]int // the versions that tables had which were dropped
	log           []*entry
	end           cdc.LSN
	gap           cdc.LSN   // what came right after it was not logged
	starts        []cdc.LSN // where MariaDB's log tells that the server was started
	purgedSeq     uint64    // the highest number of MariaDB's that is not
	purged        cdc.LSN   // what ends at or before it is not in the log any more
	seq           uint64    // of the server's own GTIDs
	executed      cdc.TxSet
	logged        cdc.Position             // MariaDB: what its log says that it has had
	resets        int                      // how often its log was begun anew
	newest        cdc.TxID                 // of MariaDB's domain, replayed or written here
	slavePosition cdc.TxID                 // MariaDB: the last that was replayed (gtid_slave_pos)
	subscriptions map[string]*Subscription // by lane
	slots         map[string]*slot
	history       map[rowAt][]step
}

// entry is one transaction in a log.
type entry struct {
	id          cdc.TxID
	lane        string
	commit, end cdc.LSN
	time        time.Time // as its author's clock had it
	written     time.Time // here
	serial      int       // no two that were ever written have the same one
	changes     []logged
	steps       []logged // changes, and those of tables that the log shows nothing of
}

// logged is what the log has of one change of a row.
type logged struct {
	table         string
	columns       []digest.Column // as the table was defined
	op            cdc.Op
	key, from     int
	before, after Row
}

// slot is how far a reader is known to be.
type slot struct {
	confirmed cdc.LSN
	start     cdc.LSN // of lockstep's: what it was made at, or was told that it may forget
	told      bool    // the latter
}

type rowAt struct {
	table string
	key   int
}

// step is one change of a row, whether the log shows it or not.
type step struct {
	id            cdc.TxID // zero: without a trace
	end           cdc.LSN
	before, after Row
}

// Changes counts what may have changed a server, so that who looks again and again need not look when nothing did.
func (c *Cluster) Changes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// do changes a server, and wakes whoever waits for that.
func (s *Server) do(f func()) {
	s.doIf(func() bool { f(); return true })
}

// doIf is do where nothing may come of it.
func (s *Server) doIf(f func() bool) bool {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	done := f()
	if done {
		s.cluster.changes++
	}
	s.wake()
	return done
}

func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (d disk) clone() disk {
	c := d
	c.tables = make(map[string]*table)
	for name, t := range d.tables {
		c.tables[name] = t.clone()
	}
	c.log = append([]*entry(nil), d.log...)
	c.executed, c.logged = d.executed.Clone(), d.logged.Clone()
	c.subscriptions = make(map[string]*Subscription)
	for name, sub := range d.subscriptions {
		copied := *sub
		copied.tables = cloneMap(sub.tables)
		c.subscriptions[name] = &copied
	}
	c.slots = make(map[string]*slot)
	for name, sl := range d.slots {
		copied := *sl
		c.slots[name] = &copied
	}
	c.history = make(map[rowAt][]step)
	for at, steps := range d.history {
		c.history[at] = append([]step(nil), steps...)
	}
	return c
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
