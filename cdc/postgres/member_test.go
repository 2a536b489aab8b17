package postgres

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// servers are shared by the tests of one version: each test makes databases of its own on them, and leaves settings alone.
type servers struct {
	publisher, subscriber *dbtest.Server
	all                   bool // this version runs all tests, also those for which it makes no difference
}

var testHasher = digest.NewHasher([32]byte{1, 2, 3})

// publisherConf lets one server serve all tests: a commit waits for a standby that does not exist if its session sets
// synchronous_commit = on.
var publisherConf = map[string]string{
	"synchronous_standby_names": "nosuch", "synchronous_commit": "local",
	"max_prepared_transactions": "20", "max_slot_wal_keep_size": "1GB", "max_replication_slots": "40", "max_wal_senders": "40",
}

// publisherOf is the server that most tests share. Where that can be had, its transaction ids have wrapped around.
func publisherOf(t *testing.T, install dbtest.Install) *dbtest.Server {
	o := dbtest.Options{Conf: publisherConf}
	if install.CanSetEpoch() {
		o.XIDEpoch = 1
	}
	return dbtest.SharedT(t, install, "publisher", o)
}

// eachVersion runs the test on both versions, beside others.
func eachVersion(t *testing.T, test func(t *testing.T, s servers)) {
	onVersions(t, []dbtest.Version{dbtest.PG15, dbtest.PG18}, test)
}

// oneVersion runs a test, for which the version makes no difference, on one; `make soak` runs it on both.
func oneVersion(t *testing.T, test func(t *testing.T, s servers)) {
	if soak {
		eachVersion(t, test)
		return
	}
	onVersions(t, []dbtest.Version{dbtest.PG18}, test)
}

// soak is set for runs of hours.
var soak = dbtest.Soaking()

func onVersions(t *testing.T, versions []dbtest.Version, test func(t *testing.T, s servers)) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			install := dbtest.Need(t, v)
			test(t, servers{
				publisher: publisherOf(t, install), subscriber: dbtest.SharedT(t, install, "subscriber", dbtest.Options{}),
				all: soak || v == versions[len(versions)-1],
			})
		})
	}
}

// each runs tests beside one another, which therefore leave the servers as they are.
func each(t *testing.T, s servers, tests map[string]func(*testing.T, servers)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// once runs tests, for which the version makes no difference, as each does on one version; `make soak` runs them on both.
func once(t *testing.T, s servers, tests map[string]func(*testing.T, servers)) {
	if s.all {
		each(t, s, tests)
	}
}

// alone runs tests that need a server to themselves on one, one after the other.
func alone(t *testing.T, s servers, o dbtest.Options, tests map[string]func(*testing.T, servers)) {
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		own := servers{publisher: dbtest.StartT(t, s.publisher.Install, o)}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, own) })
		}
	})
}

// member is one database that is watched, with its source and what its stream has yielded.
type member struct {
	*dbtest.Server
	*Source
	t      *testing.T
	tables []cdc.Table
	shapes map[string]digest.Shape // by table and epoch

	from     cdc.LSN
	began    cdc.Position // of the events
	mu       sync.Mutex
	events   []cdc.Event
	news     chan struct{}
	stop     context.CancelFunc
	ended    chan struct{}
	streamed error // why the stream ended
}

var databases atomic.Int64

// left are databases that tests have used, and others may use again: making one takes longer than many tests do.
var left struct {
	sync.Mutex
	names map[*dbtest.Server][]string
}

// newDatabase returns an empty database with the schema and a publication of all its tables.
func newDatabase(t *testing.T, on *dbtest.Server, schema string) *dbtest.Server {
	t.Helper()
	s := *on
	left.Lock()
	if names := left.names[on]; len(names) > 0 {
		s.Database, left.names[on] = names[0], names[1:]
	}
	left.Unlock()
	if s.Database == on.Database {
		s.Database = fmt.Sprintf("shop_%d", databases.Add(1))
		createDatabase(t, &s)
	}
	t.Cleanup(func() { leave(t, on, &s) })
	publishAll(t, &s, schema)
	return &s
}

// leave lets other tests have a database that can be made as good as new.
func leave(t *testing.T, on, s *dbtest.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if t.Failed() || !s.Running() || s.Empty(ctx) != nil {
		return
	}
	left.Lock()
	defer left.Unlock()
	if left.names == nil {
		left.names = make(map[*dbtest.Server][]string)
	}
	left.names[on] = append(left.names[on], s.Database)
}

// freshDatabase makes a database of a test's own.
func freshDatabase(t *testing.T, on *dbtest.Server, schema string) *dbtest.Server {
	t.Helper()
	s := *on
	s.Database = fmt.Sprintf("shop_%d", databases.Add(1))
	createDatabase(t, &s)
	publishAll(t, &s, schema)
	return &s
}

func publishAll(t *testing.T, s *dbtest.Server, schema string) {
	t.Helper()
	if schema != "" {
		dbtest.ExecT(t, s, schema)
	}
	dbtest.ExecT(t, s, "CREATE PUBLICATION lockstep_shop FOR ALL TABLES")
}

// createDatabase has the files copied: written to the log page by page, as is the default, each stream would read them.
func createDatabase(t *testing.T, s *dbtest.Server) {
	t.Helper()
	on := *s
	on.Database = "postgres"
	dbtest.ExecT(t, &on, "CREATE DATABASE "+s.Database+" STRATEGY file_copy")
}

func optionsOf(s *dbtest.Server) Options {
	return Options{Group: "shop", Member: "eu-1", DSN: s.DSN(""), Slot: "lockstep_" + s.Database, Publication: "lockstep_shop"}
}

// watch makes a source for a database and sets the shapes of its tables.
func watch(t *testing.T, s *dbtest.Server) *member {
	t.Helper()
	source, err := New(optionsOf(s), testHasher)
	if err != nil {
		t.Fatal(err)
	}
	source.status, source.tick = time.Second, 20*time.Millisecond
	m := &member{Server: s, Source: source, t: t, shapes: map[string]digest.Shape{}, news: make(chan struct{}, 1)}
	t.Cleanup(func() {
		m.end()
		source.Close()
		dropSlots(t, s)
	})
	m.learn(1)
	return m
}

// dropSlots lets the other tests have the server's slots.
func dropSlots(t *testing.T, s *dbtest.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := dbtest.WaitFor(ctx, "slots to be free", func(ctx context.Context) (bool, error) {
		err := s.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '`+optionsOf(s).Slot+`'`)
		return err == nil || sqlState(err) != objectInUse, nil
	})
	if err != nil && s.Running() {
		t.Log(err)
	}
}

// learn reads the definitions and gives every table that can be watched a new epoch.
func (m *member) learn(epoch uint32) {
	m.t.Helper()
	var err error
	m.tables, err = m.Tables(m.t.Context(), func(string) bool { return true })
	if err != nil {
		m.t.Fatal(err)
	}
	for i, t := range m.tables {
		e := epochOf(t, cdc.TableID(i+1), epoch)
		m.shapes[fmt.Sprint(e.Table, e.Number)] = e.Shape
		m.SetEpoch(t, e)
	}
}

func epochOf(t cdc.Table, id cdc.TableID, number uint32) cdc.Epoch {
	e := cdc.Epoch{Table: id, Number: number, Shape: digest.Shape{Table: t.Name, Columns: t.Columns}}
	for _, k := range t.Key {
		e.Shape.Key = append(e.Shape.Key, slices.IndexFunc(t.Columns, func(c digest.Column) bool { return c.Name == k }))
	}
	return e
}

func (m *member) table(name string) (cdc.Table, cdc.Epoch) {
	m.t.Helper()
	i := slices.IndexFunc(m.tables, func(t cdc.Table) bool { return t.Name == name })
	if i < 0 {
		m.t.Fatalf("no table %s in %v", name, m.tables)
	}
	return m.tables[i], epochOf(m.tables[i], cdc.TableID(i+1), 1)
}

// at is the position after all that ends at or before p.
func at(p cdc.LSN) cdc.Position { return cdc.Position{LSN: p, Shown: cdc.Everything(p)} }

// preparer is a Source, or something around one.
type preparer interface {
	Prepare(context.Context, cdc.Position) (cdc.Position, error)
}

// prepare prepares a source in terms of LSNs.
func prepare(ctx context.Context, s preparer, from cdc.LSN) (cdc.LSN, error) {
	start := cdc.Position{}
	if from != 0 {
		start = at(from)
	}
	p, err := s.Prepare(ctx, start)
	if err == nil && !p.Shown.Equal(cdc.Everything(p.LSN)) {
		err = fmt.Errorf("at %v it says to have shown %v", p.LSN, p.Shown)
	}
	return p.LSN, err
}

// start prepares from zero and streams.
func (m *member) start() cdc.LSN {
	m.t.Helper()
	from, err := m.Prepare(m.t.Context(), cdc.Position{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.open(from)
	return from.LSN
}

func (m *member) stream(from cdc.LSN) { m.open(at(from)) }

// open begins a stream behind from.
func (m *member) open(from cdc.Position) {
	ctx, cancel := context.WithCancel(m.t.Context())
	m.stop, m.ended, m.from = cancel, make(chan struct{}), from.LSN
	m.mu.Lock()
	if len(m.events) == 0 {
		m.began = from
	}
	m.mu.Unlock()
	go func() {
		defer close(m.ended)
		m.streamed = m.Stream(ctx, from, func(e cdc.Event) error {
			m.mu.Lock()
			m.events = append(m.events, e)
			m.mu.Unlock()
			select {
			case m.news <- struct{}{}:
			default:
			}
			return nil
		})
	}()
}

// end stops the stream and returns why it ended.
func (m *member) end() error {
	if m.stop == nil {
		return nil
	}
	m.stop()
	<-m.ended
	return m.streamed
}

// failure waits for the stream to end by itself.
func (m *member) failure() error {
	m.t.Helper()
	select {
	case <-m.ended:
		return m.streamed
	case <-time.After(20 * time.Second):
		m.t.Fatal("the stream goes on")
		return nil
	}
}

// caughtUp waits until the stream has passed all that is written now, and returns the transactions since the start.
func (m *member) caughtUp() []*cdc.Transaction {
	m.t.Helper()
	return m.passed(m.progress().Barrier)
}

func (m *member) progress() cdc.Progress {
	m.t.Helper()
	p, err := m.Progress(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

func (m *member) passed(p cdc.LSN) []*cdc.Transaction {
	m.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		at, transactions := m.from, []*cdc.Transaction(nil)
		for _, e := range m.events {
			at = e.Position
			if e.Transaction != nil {
				transactions = append(transactions, e.Transaction)
			}
		}
		m.mu.Unlock()
		if at >= p {
			return transactions
		}
		select {
		case <-m.news:
		case <-m.ended:
			m.t.Fatalf("the stream ended: %v", m.streamed)
		case <-timeout:
			m.t.Fatalf("the stream is at %v, not at %v; %s", at, p, m.Log()[max(0, len(m.Log())-2000):])
		}
	}
}

func (m *member) exec(statements ...string) {
	m.t.Helper()
	dbtest.ExecT(m.t, m.Server, statements...)
}

// script prints transactions as a test reads them: "insert {"id":1}".
func (m *member) script(transactions []*cdc.Transaction) []string {
	m.t.Helper()
	var lines []string
	for _, t := range transactions {
		for _, c := range t.Changes {
			lines = append(lines, m.line(c))
		}
		for _, touched := range t.Touched {
			name := "an unknown table"
			if touched.Table != 0 {
				name = m.tables[touched.Table-1].Name
			}
			lines = append(lines, strings.TrimSpace("touched "+name+" "+touched.Reason))
		}
	}
	return lines
}

var opNames = map[cdc.Op]string{cdc.Insert: "insert", cdc.Update: "update", cdc.Delete: "delete", cdc.Truncate: "truncate"}

func (m *member) line(c cdc.Change) string {
	shape := m.shapes[fmt.Sprint(c.Table, c.Epoch)]
	words := []string{opNames[c.Op], shape.Table}
	for _, k := range []digest.Key{c.OldKey, c.Key} {
		if len(k) == 0 {
			continue
		}
		text, err := shape.KeyJSON(k)
		if err != nil {
			m.t.Fatal(err)
		}
		words = append(words, string(text))
	}
	if c.Row.Partial != nil {
		words = append(words, "partial")
	}
	return strings.Join(words, " ")
}
