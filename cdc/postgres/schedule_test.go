package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// A schedule is a row of steps on one table, which its seed decides: writers begin, change rows, go back to a savepoint,
// prepare, commit, or commit and then wait for a standby that does not exist, and in between, or while the rows of a part
// come, parts are read. One goroutine takes the steps, and no writer touches what another one has not ended yet, so that
// none of them waits and a seed means the same steps each time. Only what runs beside the steps, reads and commits at
// once, is left to the machine.
type schedule struct {
	*member
	seed     uint64
	rnd      *rand.Rand
	table    cdc.Table
	epoch    cdc.Epoch
	admin    *pgx.Conn
	writers  []*writer
	prepared map[string][]place // by its name, what a transaction has changed
	busy     map[place]bool     // changed by a transaction that has not ended
	named    int
	aside    []chan *partRead // reads that go on beside the steps
	reads    []*partRead
	counts   map[string]int
}

// place is a key of the table.
type place struct {
	a int
	b string
}

func (p place) String() string { return fmt.Sprintf("a = %d AND b = '%s'", p.a, p.b) }

// writer is a session that writes.
type writer struct {
	conn  *pgx.Conn
	open  bool
	marks int // savepoints
	holds []place
	hangs chan error // its commit waits for a standby
}

const scheduled = `CREATE TABLE s (a int, b text COLLATE "C", n int, PRIMARY KEY (a, b))`

// schedulesFrom is the first seed of a test: LOCKSTEP_SEED, to see a schedule again, or what the test wants.
func schedulesFrom(t *testing.T, wanted uint64) uint64 {
	text := os.Getenv("LOCKSTEP_SEED")
	if text == "" {
		return wanted
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("LOCKSTEP_SEED: %v", err)
	}
	return seed
}

func TestPartsReadInRandomSchedulesAgreeWithTheStream(t *testing.T) {
	runSchedules(t, dbtest.PG15, schedulesFrom(t, 1), 8)
}

func TestSoakOfPartsReadInRandomSchedules(t *testing.T) {
	if !soak {
		t.Skip("make soak runs it: it takes minutes")
	}
	for _, v := range []dbtest.Version{dbtest.PG15, dbtest.PG18} {
		t.Run(v.String(), func(t *testing.T) { runSchedules(t, v, schedulesFrom(t, rand.Uint64N(1<<40)), 1500) })
	}
}

// runSchedules runs so many schedules in each of two databases of one server at once: whose commits come close together.
func runSchedules(t *testing.T, v dbtest.Version, seed uint64, n int) {
	server := dbtest.StartT(t, dbtest.Need(t, v), dbtest.Options{Conf: map[string]string{
		"max_prepared_transactions": "20", "synchronous_standby_names": "nosuch", "synchronous_commit": "local",
	}})
	for i := range uint64(2) {
		t.Run(fmt.Sprintf("from seed %d", seed+i*uint64(n)), func(t *testing.T) {
			t.Parallel()
			s := newSchedule(t, server)
			for j := range uint64(n) {
				s.run(seed + i*uint64(n) + j)
				if t.Failed() {
					t.Fatalf("LOCKSTEP_SEED=%d runs this schedule first", s.seed)
				}
			}
			t.Log(s.counts)
			for _, what := range []string{"transactions", "prepared", "hung", "aside", "wholly after"} {
				if s.counts[what] == 0 {
					t.Errorf("no schedule had what is counted as %q: %v", what, s.counts)
				}
			}
		})
	}
}

func newSchedule(t *testing.T, server *dbtest.Server) *schedule {
	m := watch(t, newDatabase(t, server, scheduled))
	m.streaming()
	s := &schedule{member: m, busy: map[place]bool{}, prepared: map[string][]place{}, counts: map[string]int{}}
	s.table, s.epoch = m.table("public.s")
	connect := func() *pgx.Conn {
		conn, err := m.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hangUp(conn) })
		return conn
	}
	s.admin = connect()
	for range 5 {
		s.writers = append(s.writers, &writer{conn: connect()})
	}
	return s
}

// run runs one schedule, from an empty table to one that nobody writes to any more, and holds its reads against the stream.
func (s *schedule) run(seed uint64) {
	s.t.Helper()
	s.seed, s.rnd, s.reads = seed, rand.New(rand.NewPCG(seed, 1)), nil
	before := s.content()
	s.do(s.admin, "DELETE FROM s", "INSERT INTO s SELECT i, (ARRAY['', 'a', 'b'])[1 + i % 3], 0 FROM generate_series(0, 19) i")
	for range 40 + s.rnd.IntN(40) {
		switch {
		case s.rnd.IntN(4) > 0:
			s.write()
		case s.hanging() || s.rnd.IntN(3) == 0:
			s.readAside()
		default:
			s.readNow()
		}
	}
	for _, w := range s.writers {
		s.end(w)
	}
	for len(s.prepared) > 0 {
		s.endPrepared(s.oldest())
	}
	for _, reading := range s.aside {
		s.reads = append(s.reads, <-reading)
	}
	s.aside = nil
	s.check(before)
}

func (s *schedule) do(conn *pgx.Conn, statements ...string) {
	s.t.Helper()
	if s.t.Failed() {
		return // the steps after a failure mean nothing
	}
	for _, statement := range statements {
		if _, err := conn.Exec(s.t.Context(), statement); err != nil {
			s.t.Errorf("seed %d: %s: %v", s.seed, statement, err)
			return
		}
	}
}

func (s *schedule) hanging() bool {
	for _, w := range s.writers {
		if w.hangs != nil {
			return true
		}
	}
	return false
}

// write takes a step of some writer.
func (s *schedule) write() {
	w := s.writers[s.rnd.IntN(len(s.writers))]
	switch {
	case w.hangs != nil:
		if s.rnd.IntN(3) == 0 {
			s.release(w)
		}
	case !w.open && len(s.prepared) > 0 && s.rnd.IntN(3) == 0:
		s.endPrepared(s.oldest())
	case !w.open:
		s.do(w.conn, "BEGIN")
		w.open = true
		s.change(w)
	case s.rnd.IntN(12) == 0:
		s.commitAtOnce()
	case s.rnd.IntN(4) > 0:
		s.change(w)
	default:
		s.finish(w)
	}
}

// free picks a key that no transaction holds, and gives it to the writer.
func (s *schedule) free(w *writer) (place, bool) {
	for range 20 {
		p := place{s.rnd.IntN(20), []string{"", "a", "b"}[s.rnd.IntN(3)]}
		if !s.busy[p] {
			s.busy[p] = true
			w.holds = append(w.holds, p)
			return p, true
		}
	}
	return place{}, false
}

// change has a writer change a row, or move it, or go back on what it changed.
func (s *schedule) change(w *writer) {
	p, ok := s.free(w)
	if !ok {
		return
	}
	switch s.rnd.IntN(12) {
	case 0, 1, 2:
		s.do(w.conn, fmt.Sprintf("INSERT INTO s VALUES (%d, '%s', %d) ON CONFLICT (a, b) DO UPDATE SET n = excluded.n", p.a, p.b, s.rnd.IntN(1000)))
	case 3, 4:
		s.do(w.conn, fmt.Sprintf("UPDATE s SET n = n + 1 WHERE %v", p))
	case 5, 6:
		s.do(w.conn, fmt.Sprintf("DELETE FROM s WHERE %v", p))
	case 7, 8, 9:
		if to, ok := s.free(w); ok {
			s.do(w.conn, fmt.Sprintf("UPDATE s SET a = %d, b = '%s' WHERE %v AND NOT EXISTS (SELECT FROM s WHERE %v)", to.a, to.b, p, to))
		}
	case 10:
		w.marks++
		s.do(w.conn, fmt.Sprintf("SAVEPOINT m; UPDATE s SET n = n + 100 WHERE %v", p))
	case 11:
		if w.marks > 0 {
			w.marks--
			s.do(w.conn, "ROLLBACK TO m; RELEASE m")
		} else if s.rnd.IntN(4) == 0 { // more parts than a snapshot has room for
			s.do(w.conn, strings.Repeat(fmt.Sprintf("SAVEPOINT many; UPDATE s SET n = n + 1 WHERE %v;", p), 70))
		}
	}
}

// finish ends a writer's transaction in one of the ways there are.
func (s *schedule) finish(w *writer) {
	switch s.rnd.IntN(8) {
	case 0:
		s.do(w.conn, "ROLLBACK")
	case 1, 2:
		s.named++
		name := fmt.Sprintf("%s %d", s.Database, s.named)
		s.do(w.conn, fmt.Sprintf("PREPARE TRANSACTION '%s'", name))
		s.prepared[name], w.holds = w.holds, nil
		s.counts["prepared"]++
	case 3:
		s.hang(w)
		return
	case 4:
		s.do(w.conn, "SET LOCAL synchronous_commit = off; COMMIT")
	default:
		s.do(w.conn, "COMMIT")
	}
	s.ended(w)
}

func (s *schedule) ended(w *writer) {
	for _, p := range w.holds {
		delete(s.busy, p)
	}
	w.open, w.marks, w.holds = false, 0, nil
}

// hang commits, and leaves the commit waiting: it can be decoded, and nobody sees it.
func (s *schedule) hang(w *writer) {
	s.do(w.conn, "SET LOCAL synchronous_commit = on")
	hangs := make(chan error, 1)
	go func() {
		_, err := w.conn.Exec(s.t.Context(), "COMMIT")
		hangs <- err
	}()
	w.hangs = hangs
	s.counts["hung"]++
	err := dbtest.WaitFor(s.t.Context(), "a commit to hang", func(ctx context.Context) (waits bool, err error) {
		// A transaction that has changed nothing does not wait.
		err = s.admin.QueryRow(ctx, "SELECT wait_event = 'SyncRep' OR state = 'idle' FROM pg_stat_activity WHERE pid = $1 AND wait_event IS NOT NULL UNION ALL SELECT false LIMIT 1", w.conn.PgConn().PID()).Scan(&waits)
		return waits, err
	})
	if err != nil {
		s.t.Errorf("seed %d: %v", s.seed, err)
	}
}

// release ends the wait of a commit.
func (s *schedule) release(w *writer) {
	s.do(s.admin, fmt.Sprintf("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'", w.conn.PgConn().PID()))
	select {
	case err := <-w.hangs:
		if err != nil {
			s.t.Errorf("seed %d: %v", s.seed, err)
		}
	case <-time.After(time.Minute):
		s.t.Fatalf("seed %d: a commit hangs for good", s.seed)
	}
	w.hangs = nil
	s.ended(w)
}

func (s *schedule) end(w *writer) {
	switch {
	case w.hangs != nil:
		s.release(w)
	case w.open && s.rnd.IntN(3) == 0:
		s.do(w.conn, "ROLLBACK")
		s.ended(w)
	case w.open:
		s.do(w.conn, "COMMIT")
		s.ended(w)
	}
}

// commitAtOnce commits what is open, all at once.
func (s *schedule) commitAtOnce() {
	ended := make(chan error, len(s.writers))
	n := 0
	for _, w := range s.writers {
		if !w.open || w.hangs != nil {
			continue
		}
		n++
		go func() {
			_, err := w.conn.Exec(s.t.Context(), "COMMIT")
			ended <- err
		}()
	}
	for range n {
		if err := <-ended; err != nil {
			s.t.Errorf("seed %d: %v", s.seed, err)
		}
	}
	for _, w := range s.writers {
		if w.open && w.hangs == nil {
			s.ended(w)
		}
	}
}

// oldest is the prepared transaction that comes first by name, so that the seed decides which one that is.
func (s *schedule) oldest() string {
	first := ""
	for name := range s.prepared {
		if first == "" || len(name) < len(first) || len(name) == len(first) && name < first {
			first = name
		}
	}
	return first
}

func (s *schedule) endPrepared(name string) {
	how := "COMMIT"
	if s.rnd.IntN(3) == 0 {
		how = "ROLLBACK"
	}
	s.do(s.admin, fmt.Sprintf("%s PREPARED '%s'", how, name))
	for _, p := range s.prepared[name] {
		delete(s.busy, p)
	}
	delete(s.prepared, name)
}

// somePart is a part of the table: between two keys that need not exist, so many rows of one, or certain keys.
func (s *schedule) somePart() cdc.Part {
	key := func() digest.Key {
		return keyAt(s.t, s.epoch, place{s.rnd.IntN(20), []string{"", "a", "aa", "b"}[s.rnd.IntN(4)]})
	}
	switch s.rnd.IntN(5) {
	case 0:
		return cdc.Part{}
	case 1:
		return cdc.Part{Keys: []digest.Key{key(), key(), key(), key(), key(), key()}}
	case 2:
		return cdc.Part{After: key(), Limit: 1 + s.rnd.IntN(10)}
	case 3:
		return cdc.Part{Limit: 1 + s.rnd.IntN(10)}
	}
	return cdc.Part{After: key(), Through: key()}
}

// readNow reads a part. Writers may take steps while its rows come.
func (s *schedule) readNow() {
	at, steps := s.rnd.IntN(20), s.rnd.IntN(6)
	s.reads = append(s.reads, s.read(s.somePart(), func(row int) {
		if row == at {
			for range steps {
				s.write()
			}
		}
	}))
}

// readAside begins to read a part, and the steps go on.
func (s *schedule) readAside() {
	if len(s.aside) > 2 && !s.hanging() {
		s.reads = append(s.reads, <-s.aside[0])
		s.aside = s.aside[1:]
	}
	if len(s.aside) > 2 {
		return
	}
	p, done := s.somePart(), make(chan *partRead, 1)
	go func() { done <- s.read(p, func(int) {}) }()
	s.aside = append(s.aside, done)
	s.counts["aside"]++
}
