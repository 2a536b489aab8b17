package mysql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestScansAgreeWithTheStream(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"a scan shows what is before its cut and nothing after it has settled": dividesTransactions,
		"a scan brought up to date is the table":                               broughtUpToDate,
		"so it is of a table that no view shows":                               broughtUpToDateMyISAM,
	})
}

// follower runs the stream of a source and keeps what it yields.
type follower struct {
	*Source
	t      *testing.T
	table  cdc.Table
	epoch  cdc.Epoch
	cancel context.CancelFunc
	done   chan error

	mu           sync.Mutex
	transactions []*cdc.Transaction // guarded by mu
}

// follow streams the changes of one table.
func follow(t *testing.T, server *dbtest.MySQLServer, schema, name string) *follower {
	t.Helper()
	f := &follower{Source: probe(t, server, ""), t: t, done: make(chan error, 1)}
	f.table = catalog(t, f.Source, schema)[name]
	f.epoch = epochOf(f.table)
	f.SetEpoch(f.table, f.epoch)
	from, err := f.Prepare(t.Context(), cdc.Position{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go func() {
		f.done <- f.Stream(ctx, from, func(e cdc.Event) error {
			if e.Transaction != nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.transactions = append(f.transactions, e.Transaction)
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-f.done; !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended: %v", err)
		}
	})
	err = dbtest.WaitFor(t.Context(), "the stream to begin", func(context.Context) (bool, error) { return f.streamed().began, nil })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// all waits until everything that was written has been yielded, and returns it.
func (f *follower) all() []*cdc.Transaction {
	f.t.Helper()
	p, err := f.Progress(f.t.Context())
	if err == nil {
		err = dbtest.WaitFor(f.t.Context(), fmt.Sprintf("the stream to reach %v", p.Barrier), func(context.Context) (bool, error) {
			return f.streamed().position.LSN >= p.Barrier, nil
		})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, transaction := range f.transactions {
		if len(transaction.Touched) > 0 {
			f.t.Errorf("touched: %+v", transaction.Touched)
		}
	}
	return slices.Clone(f.transactions)
}

// state is what is known of a table: digests by key.
type state map[string]digest.Digest

// apply brings a state up to date.
func (s state) apply(c cdc.Change) {
	switch {
	case c.Op == cdc.Delete:
		delete(s, string(c.Key))
		return
	case len(c.OldKey) > 0:
		delete(s, string(c.OldKey))
	}
	s[string(c.Key)] = c.Row.Digest
}

// scan is one scan of the table: what it showed, and between which places.
type scan struct {
	state
	cut, settled cdc.LSN
}

func (f *follower) scan() scan {
	f.t.Helper()
	v, err := f.Snapshot(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	defer v.Close()
	got := scan{state: state{}, cut: v.Cut()}
	err = v.Rows(f.t.Context(), f.table, f.epoch, func(k digest.Key, r *digest.Row) error {
		if _, twice := got.state[string(k)]; twice {
			f.t.Errorf("key %x comes twice", k)
		}
		got.state[string(k)] = r.Digest
		return nil
	})
	if err == nil {
		got.settled, err = v.Settled(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if got.settled < got.cut {
		f.t.Errorf("a view from %v to %v", got.cut, got.settled)
	}
	return got
}

// enough is how many statements are run at least while something is tried.
var enough = int64(rounds(3600))

// while runs writers, each with a session of its own, while do is done, which begins once all of them write, and until they have
// written enough.
func while(t *testing.T, server *dbtest.MySQLServer, writers int, write func(writer, n int) string, do func()) {
	t.Helper()
	stop, all := make(chan struct{}), sync.WaitGroup{}
	var written, begun atomic.Int64
	for writer := range writers {
		all.Go(func() {
			conn, err := server.Conn(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if n == 1 {
					begun.Add(1)
				}
				written.Add(1)
				if _, err := conn.Execute(write(writer, n)); err != nil && errorCode(err) != deadlock {
					t.Error(err)
					return
				}
			}
		})
	}
	wait := func(what string, met func() bool) {
		t.Helper()
		if err := dbtest.WaitFor(t.Context(), what, func(context.Context) (bool, error) { return met() || t.Failed(), nil }); err != nil {
			t.Error(err)
		}
	}
	wait("all to write", func() bool { return begun.Load() == int64(writers) })
	do()
	wait("enough to be written", func() bool { return written.Load() >= enough })
	close(stop)
	all.Wait()
}

const deadlock = 1213

func dividesTransactions(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.inserted (writer int, n int, note varchar(20), PRIMARY KEY (writer, n))")
	f := follow(t, server, "app", "inserted")
	f.firstChunk, f.chunk = 50, time.Millisecond
	var scans []scan
	while(t, server, 4, func(writer, n int) string {
		return fmt.Sprintf("INSERT INTO app.inserted VALUES (%d, %d, 'x'), (%d, %d, 'y')", writer, -n, writer, n+1)
	}, func() {
		for range 10 {
			scans = append(scans, f.scan())
		}
	})
	transactions := f.all()
	for _, s := range scans {
		before, after := 0, 0
		for _, transaction := range transactions {
			for _, c := range transaction.Changes {
				_, seen := s.state[string(c.Key)]
				if transaction.Commit < s.cut && !seen {
					before++
				}
				if transaction.Commit >= s.settled && seen {
					after++
				}
			}
		}
		if before+after > 0 {
			t.Errorf("of a scan from %v to %v, %d rows before it are missing, and %d are there that were written after it", s.cut, s.settled, before, after)
		}
	}
	if len(transactions) < 100 {
		t.Errorf("only %d transactions were written", len(transactions))
	}
}

func broughtUpToDate(t *testing.T, server *dbtest.MySQLServer) {
	upToDate(t, server, "mixed", "InnoDB")
}

func broughtUpToDateMyISAM(t *testing.T, server *dbtest.MySQLServer) {
	upToDate(t, server, "mixed_isam", "MyISAM")
}

// upToDate has rows inserted, updated, deleted and moved, also from chunks that were read to chunks that were not and
// back, while scans run. Each scan, with all changes from its cut on, must be what the table is in the end.
func upToDate(t *testing.T, server *dbtest.MySQLServer, name, engine string) {
	run(t, server, fmt.Sprintf("CREATE TABLE app.%s (k varchar(10), i int, n int, PRIMARY KEY (k, i)) ENGINE = %s", name, engine))
	f := follow(t, server, "app", name)
	f.firstChunk, f.chunk = 7, time.Millisecond
	const rows = 400
	var scans []scan
	while(t, server, 3, func(writer, n int) string {
		key := func() string { return fmt.Sprintf("k = '%c' AND i = %d", 'a'+rand.IntN(4), rand.IntN(rows/4)) }
		switch rand.IntN(4) {
		case 0:
			return fmt.Sprintf("REPLACE INTO app.%s VALUES ('%c', %d, %d)", name, "aBcD"[rand.IntN(4)], rand.IntN(rows/4), n)
		case 1:
			return fmt.Sprintf("UPDATE app.%s SET n = n + 1 WHERE %s", name, key())
		case 2:
			return fmt.Sprintf("DELETE FROM app.%s WHERE %s", name, key())
		}
		return fmt.Sprintf("UPDATE IGNORE app.%s SET k = '%c', i = %d WHERE %s", name, 'a'+rand.IntN(4), rand.IntN(rows/4), key())
	}, func() {
		for range rounds(12) {
			scans = append(scans, f.scan())
		}
	})
	transactions := f.all()
	want := f.scan().state
	for _, s := range scans {
		for _, transaction := range transactions {
			if transaction.Commit < s.cut {
				continue
			}
			for _, c := range transaction.Changes {
				s.apply(c)
			}
		}
		if diff := cmp.Diff(want, s.state); diff != "" {
			t.Errorf("a scan from %v to %v, brought up to date: %s", s.cut, s.settled, diff)
		}
	}
	if len(want) < 10 || len(transactions) < 100 {
		t.Errorf("%d rows after %d transactions", len(want), len(transactions))
	}
}
