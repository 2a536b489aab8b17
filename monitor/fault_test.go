package monitor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/store"
)

// faulty is a source whose code panics, or fails, where hit says so: with what it does, and the table if it is about one.
type faulty struct {
	cdc.Source
	hit func(doing, table string) error
}

func (f *faulty) Tables(ctx context.Context, match func(string) bool) ([]cdc.Table, error) {
	if err := f.hit("tables", ""); err != nil {
		return nil, err
	}
	return f.Source.Tables(ctx, match)
}

func (f *faulty) Progress(ctx context.Context) (cdc.Progress, error) {
	if err := f.hit("progress", ""); err != nil {
		return cdc.Progress{}, err
	}
	return f.Source.Progress(ctx)
}

func (f *faulty) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	return f.Source.Read(ctx, t, e, p, func(k digest.Key, r *digest.Row) error {
		if err := f.hit("part", t.Name); err != nil {
			return err
		}
		return yield(k, r)
	})
}

func (f *faulty) Snapshot(ctx context.Context) (cdc.Snapshot, error) {
	s, err := f.Source.Snapshot(ctx)
	return &faultySnapshot{s, f}, err
}

type faultySnapshot struct {
	cdc.Snapshot
	of *faulty
}

func (s *faultySnapshot) Rows(ctx context.Context, t cdc.Table, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	if err := s.of.hit("rows", t.Name); err != nil {
		return err
	}
	return s.Snapshot.Rows(ctx, t, e, yield)
}

// Stream hits "stream" before an event of a transaction, and "decode" of each table in it, as the engines' decoders do.
func (f *faulty) Stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	return f.Source.Stream(ctx, from, func(e cdc.Event) error {
		if tx := e.Transaction; tx != nil && len(tx.Changes) > 0 {
			if err := f.hit("stream", ""); err != nil {
				return err
			}
			table := tx.Changes[0].Table
			if err := fault.Catch(func() error { return f.hit("decode", "") }); err != nil {
				tx.Changes, tx.Touched = nil, []cdc.Touched{cdc.Doubt(table, err)}
			}
		}
		return yield(e)
	})
}

// watching is a monitor of two servers with three tables of 20 rows, in virtual time.
type watching struct {
	*monitor.Group
	a, b    *cdctest.Server
	options monitor.Options
	secret  [32]byte
	log     *syncBuffer
	disk    vfs.FS
	hit     func(doing, table string) error
	end     func()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.b.String(), text)
}

var watchedTables = []string{"app.one", "app.two", "app.zero"}

func watch(t *testing.T, engine cdctest.Engine, hit func(doing, table string) error, change func(*monitor.Options)) *watching {
	t.Helper()
	cluster := cdctest.NewCluster(engine, 1)
	w := &watching{a: cluster.Server("a"), b: cluster.Server("b"), log: &syncBuffer{}, disk: vfs.NewMem(), hit: hit}
	for _, s := range []*cdctest.Server{w.a, w.b} {
		for _, name := range watchedTables {
			s.CreateTable(name, cdctest.Int("v"), cdctest.Int("note"))
		}
	}
	if engine == cdctest.Postgres {
		w.b.Subscribe(w.a, "sub", watchedTables...)
	} else {
		w.b.Follow(w.a)
	}
	w.options = monitor.Options{
		Name: "shop", Reference: "a",
		Match:   func(string) bool { return true },
		Exclude: func(string) []string { return nil },
		Budget:  func(string) time.Duration { return 3 * time.Second },
		Logger:  slog.New(slog.NewTextHandler(w.log, nil)),
	}
	w.start(t, change)
	return w
}

// start starts lockstep on what is on the disk, with other options.
func (w *watching) start(t *testing.T, change func(*monitor.Options)) {
	t.Helper()
	st, err := store.Open("data", store.Options{FS: w.disk})
	if err != nil {
		t.Fatal(err)
	}
	opt := w.options
	opt.Members = nil
	for _, s := range []*cdctest.Server{w.a, w.b} {
		var source cdc.Source = s.Source(digest.NewHasher(st.Secret()))
		if s == w.b {
			source = &faulty{source, w.hit}
		}
		opt.Members = append(opt.Members, monitor.Member{Name: s.Name, Source: source})
	}
	if change != nil {
		change(&opt)
	}
	w.options, w.secret = opt, st.Secret()
	if w.Group, err = monitor.Open(opt, st); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	w.end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the group ended with %v", err)
			}
			if err := errors.Join(w.Close(), st.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// write changes a row of a table and has it replayed.
func (w *watching) write(table string, key, v int) {
	w.a.Write(cdctest.Put(table, key, cdctest.Row{"v": v}))
	w.replay()
}

func (w *watching) replay() {
	lane := cdc.GTIDLane
	if lanes := w.b.Lanes(); len(lanes) > 0 {
		lane = lanes[0]
	}
	for w.b.Replay(lane, cdctest.Rightly, rand.New(rand.NewPCG(1, 1))) {
	}
}

// rest lets time pass.
func rest(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *watching) table(member, name string) status.Table {
	for _, m := range w.Status().Members {
		for _, t := range m.Tables {
			if m.Name == member && t.Table == name {
				return t
			}
		}
	}
	return status.Table{}
}

func (w *watching) is(t *testing.T, member, table string, want status.Verdict, reason string) {
	t.Helper()
	if got := w.table(member, table); got.Verdict != want || !strings.Contains(got.Reason, reason) {
		t.Errorf("after %s on %s is %v (%s), and not %v (%s)", table, member, got.Verdict, got.Reason, want, reason)
	}
}

// A stream that was open for longer than lockstep waited before it is not one of a server that cannot be read: it is opened again
// at once. After 14 s it was, once more, left alone for 12.8.
func TestStreamThatWorkedIsOpenedAgainAtOnce(t *testing.T) {
	for _, engine := range cdctest.Engines {
		t.Run(fmt.Sprint(engine), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var cut atomic.Bool
				w := watch(t, engine, func(doing, _ string) error {
					if doing == "stream" && cut.Swap(false) {
						return errors.New("the line is cut")
					}
					return nil
				}, nil)
				defer w.end()
				w.write(watchedTables[0], 1, 1)
				rest(time.Second)
				w.b.Break(cdctest.Faults{Refuse: true})
				w.b.Cut()
				for w.log.count("retry_in=12.8s") == 0 {
					rest(time.Second)
				}
				w.b.Break(cdctest.Faults{})
				for opened := w.log.count("change stream opened"); w.log.count("change stream opened") == opened; {
					rest(100 * time.Millisecond)
				}
				rest(14 * time.Second)
				before := w.log.count("retry_in=200ms")
				cut.Store(true)
				w.write(watchedTables[0], 1, 0)
				rest(time.Second)
				if n := w.log.count("the line is cut"); n != 1 || w.log.count("retry_in=200ms") != before+1 {
					t.Errorf("it was cut %d times, and is not opened anew at once: %s", n, w.log.b.String())
				}
			})
		})
	}
}

// What one table makes lockstep panic by, or fail at, keeps that table unverified with the reason, and no other.
func TestTableFailsAlone(t *testing.T) {
	for _, engine := range cdctest.Engines {
		for _, c := range []struct {
			doing string
			parts int64
			fails func() error
		}{
			{"rows", 0, func() error { panic("broken") }},
			{"rows", 0, func() error { return errors.New("broken") }},
			{"part", -1, func() error { panic("broken") }},
			{"part", -1, func() error { return errors.New("broken") }},
		} {
			t.Run(fmt.Sprintf("%s/%s/%d", engine, c.doing, c.parts), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					hit := func(doing, table string) error {
						if doing == c.doing && table == watchedTables[0] {
							return c.fails()
						}
						return nil
					}
					w := watch(t, engine, hit, func(o *monitor.Options) { o.PartsFrom = c.parts })
					defer w.end()
					for _, table := range watchedTables {
						w.write(table, 1, 1)
					}
					rest(time.Minute)
					w.is(t, "b", watchedTables[0], status.Unverified, "broken")
					w.is(t, "b", watchedTables[1], status.InStep, "")
					w.is(t, "b", watchedTables[2], status.InStep, "")
					before := w.log.count("was interrupted")
					rest(10 * time.Minute)
					if n := w.log.count("was interrupted") - before; n > 42 { // every 15 s
						t.Errorf("the log tells of it %d times in ten minutes", n)
					}
					if n := w.log.count("stack="); n > 1 {
						t.Errorf("the log has the stack %d times", n)
					}
				})
			})
		}
	}
}

// A change that cannot be decoded for a mistake of ours puts its table in doubt. It is read anew, but ever more seldom if that
// goes on.
func TestPanicOfADecoderIsDoubt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		w := watch(t, cdctest.MySQL, func(doing, _ string) error {
			if doing == "decode" && broken.Load() {
				panic("broken")
			}
			return nil
		}, nil)
		defer w.end()
		w.write(watchedTables[0], 1, 1)
		w.write(watchedTables[1], 1, 1)
		rest(30 * time.Second)
		w.is(t, "b", watchedTables[0], status.InStep, "")
		broken.Store(true)
		w.write(watchedTables[0], 1, 2)
		rest(500 * time.Millisecond)
		w.is(t, "b", watchedTables[0], status.Unverified, "broken")
		w.is(t, "b", watchedTables[1], status.InStep, "")
		before := w.log.count("table was read")
		for v := range 300 {
			w.write(watchedTables[0], 1, v)
			rest(time.Second)
		}
		if n := w.log.count("table was read") - before; n > 9 {
			t.Errorf("it was read %d times in five minutes", n)
		}
		broken.Store(false)
		rest(15 * time.Minute)
		w.is(t, "b", watchedTables[0], status.InStep, "")
		if n := w.log.count("stack="); n != 1 {
			t.Errorf("the log has the stack %d times", n)
		}
		if m := w.Status().Members[1]; m.Panics < 100 {
			t.Errorf("%d panics are counted", m.Panics)
		}
	})
}

// A panic beside the rows of a table ends the stream, and is a hole: the same place is not read again, the member is. The reference
// stays what it is.
func TestPanicOfAStreamIsAHole(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		w := watch(t, cdctest.Postgres, func(doing, _ string) error {
			if doing == "stream" && broken.Load() {
				broken.Store(false)
				panic("broken")
			}
			return nil
		}, nil)
		defer w.end()
		w.write(watchedTables[0], 1, 1)
		rest(30 * time.Second)
		w.is(t, "b", watchedTables[0], status.InStep, "")
		broken.Store(true)
		w.write(watchedTables[0], 1, 2)
		rest(500 * time.Millisecond)
		w.is(t, "b", watchedTables[0], status.Unverified, "broken")
		w.is(t, "b", watchedTables[2], status.Unverified, "broken")
		w.is(t, "a", watchedTables[0], status.InStep, "")
		rest(time.Minute)
		for _, table := range watchedTables {
			w.is(t, "b", table, status.InStep, "")
		}
	})
}

// One that is met again and again does not have the member read without end.
func TestStreamThatPanicsAgainIsReadEverMoreSeldom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := watch(t, cdctest.MariaDB, func(doing, _ string) error {
			if doing == "stream" {
				panic("broken")
			}
			return nil
		}, nil)
		defer w.end()
		for v := range 600 {
			w.write(watchedTables[0], 1, v)
			rest(time.Second)
		}
		if n := w.log.count("stream opened") - 1; n > 11 {
			t.Errorf("the stream was opened %d times in ten minutes", n)
		}
		if n := w.log.count("stack="); n != 1 {
			t.Errorf("the log has the stack %d times", n)
		}
	})
}

// What is asked of a member without an answer that can be used makes that member unverified.
func TestMemberFailsAlone(t *testing.T) {
	for _, doing := range []string{"tables", "progress"} {
		t.Run(doing, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var broken atomic.Bool
				broken.Store(true)
				w := watch(t, cdctest.MySQL, func(what, _ string) error {
					if what == doing && broken.Load() {
						panic("broken")
					}
					return nil
				}, nil)
				defer w.end()
				w.write(watchedTables[0], 1, 1)
				rest(time.Minute)
				if got := w.table("b", watchedTables[0]).Verdict; got == status.InStep {
					t.Errorf("b is %v", got)
				}
				w.is(t, "a", watchedTables[0], status.InStep, "")
				broken.Store(false)
				rest(10 * time.Minute)
				w.is(t, "b", watchedTables[0], status.InStep, "")
			})
		})
	}
}

// A panic on the goroutine that owns the ledger ends the group, which says so; nothing waits for it for ever, and it stops in good
// order.
func TestPanicOfTheLedgerEndsTheGroup(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := watch(t, cdctest.MySQL, func(string, string) error { return nil }, nil)
		defer w.end()
		w.write(watchedTables[0], 1, 1)
		rest(30 * time.Second)
		w.is(t, "b", watchedTables[0], status.InStep, "")
		broken := func(*align.Ledger) error { panic("broken") }
		if err := w.Inspect(t.Context(), broken); err == nil {
			t.Error("who met the panic has no error")
		}
		rest(time.Minute)
		for _, member := range []string{"a", "b"} {
			w.is(t, member, watchedTables[0], status.Unverified, "broken")
		}
		if s := w.Status(); s.State != status.Unverified || s.Panics != 1 {
			t.Errorf("the group is %v, with %d panics", s.State, s.Panics)
		}
		if err := w.Inspect(t.Context(), func(*align.Ledger) error { return nil }); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("who asks later is told %v", err)
		}
		if n := w.log.count("stack="); n != 1 {
			t.Errorf("the log has the stack %d times", n)
		}
	})
}
