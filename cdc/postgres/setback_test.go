package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// A snapshot of a disk or of a virtual machine puts a server back to an older state, with the same system identifier and
// on the same timeline. What the stream has shown since may never have been; what is written then may be passed over.
func TestServerThatIsPutBackToAnOlderState(t *testing.T) {
	oneVersion(t, func(t *testing.T, s servers) {
		alone(t, s, dbtest.Options{}, map[string]func(*testing.T, servers){
			"and has lost what was shown":                            putBackLost,
			"and shows other transactions up to where it was before": putBackWithOthers,
			"or only crashes":                                        crashed,
			"subscriber":                                             putBackSubscriber,
		})
	})
}

// position is how far the stream has come.
func (m *member) position() cdc.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.began.Clone()
	for _, e := range m.events {
		p.Pass(e)
	}
	return p
}

// restarted is the member as a lockstep sees it that has just been started.
func (m *member) restarted() *member {
	m.t.Helper()
	m.end()
	source, err := New(m.options, testHasher)
	if err != nil {
		m.t.Fatal(err)
	}
	source.status, source.tick = m.Source.status, m.tick
	next := &member{Server: m.Server, Source: source, t: m.t, shapes: m.shapes, news: make(chan struct{}, 1)}
	m.t.Cleanup(func() {
		next.end()
		source.Close()
	})
	next.learn(1)
	return next
}

// stopServer stops the server in order, which it cannot while somebody waits for what it does not have.
func (m *member) stopServer() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	if err := m.Server.Stop(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// snapshotted keeps the server's state of now and lets it go on; putBack puts it back.
func (m *member) snapshotted() (putBack func()) {
	m.t.Helper()
	m.stopServer()
	back, err := m.Server.Keep()
	if err == nil {
		err = m.Restart(m.t.Context())
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return func() {
		m.t.Helper()
		if err := back(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
}

// wantGap has the source go on after p, as monitor does.
func (m *member) wantGap(p cdc.Position) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	_, err := m.Prepare(ctx, p)
	if err == nil {
		err = m.Stream(ctx, p, func(e cdc.Event) error {
			if e.Position > p.LSN {
				return fmt.Errorf("it goes on to %v", e.Position)
			}
			return nil
		})
	}
	if !cdc.IsGap(err) {
		m.t.Errorf("to go on after %v gives %v, want a gap", p.LSN, err)
	}
}

// pass writes until the server's log is longer than it was.
func (m *member) pass(p cdc.LSN) {
	m.t.Helper()
	for {
		flushed, err := dbtest.Value[string](m.t.Context(), m.Server, "SELECT pg_current_wal_flush_lsn()::text")
		if err != nil {
			m.t.Fatal(err)
		}
		if end, err := cdc.ParseLSN(flushed); err != nil || end > p {
			return
		}
		m.exec("SELECT pg_logical_emit_message(true, 'filler', repeat('x', 10000))")
	}
}

// putBackLost has a stream that has shown transactions which the server, put back, does not have. A lockstep that goes on and
// one that is started again look at it before and after its log has become longer than it was.
func putBackLost(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.start()
	m.exec("INSERT INTO a VALUES (1)")
	m.caughtUp()
	p := m.position()
	m.Durable(p.LSN)
	m.end()
	putBack := m.snapshotted()
	m.open(p)
	m.exec("INSERT INTO a VALUES (2)", "INSERT INTO a VALUES (3)")
	m.caughtUp()
	p = m.position()
	m.Durable(p.LSN)
	putBack()
	if err := m.failure(); err == nil || cdc.IsSetup(err) {
		t.Errorf("the stream of a server that was stopped gives %v", err)
	}
	if _, err := m.Progress(t.Context()); !cdc.IsGap(err) {
		t.Errorf("to ask how far it is gives %v, want a gap", err)
	}
	m.wantGap(p)
	again := m.restarted()
	again.wantGap(p)
	if err := again.Stream(t.Context(), p, func(cdc.Event) error { return nil }); !cdc.IsGap(err) {
		t.Errorf("the stream gives %v, want a gap", err)
	}
	m.pass(p.LSN + 100_000)
	m.exec("INSERT INTO a VALUES (4)")
	m.restarted().wantGap(p)
	m.wantGap(p)
	putBack()
	m.anew(p.LSN)
}

// forgetEvents drops what the stream has shown.
func (m *member) forgetEvents() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = nil
}

// anew begins anew with a server that does not have what it had up to old, and is told to forget nothing that it does not have.
func (m *member) anew(old cdc.LSN) {
	m.t.Helper()
	m.forgetEvents()
	from := m.start()
	if from >= old {
		m.t.Fatalf("the new beginning is at %v, not before %v", from, old)
	}
	if _, err := m.Progress(m.t.Context()); err != nil {
		m.t.Errorf("after a new beginning: %v", err)
	}
	m.Durable(old) // late, and of the history that is no more
	m.exec("INSERT INTO a VALUES (2)")
	if diff := cmp.Diff([]string{`insert public.a {"id":2}`}, m.script(m.caughtUp())); diff != "" {
		m.t.Error(diff)
	}
	m.status = 10 * time.Millisecond
	for range 20 {
		slots, err := m.Confirmed(m.t.Context())
		if want := cdc.Everything(from); err != nil || !slots[m.options.Slot].Equal(want) {
			m.t.Fatalf("%v is confirmed, %v; want %v: nothing else is durable", slots[m.options.Slot], err, want)
		}
		m.exec("SELECT pg_logical_emit_message(true, 'probe', '')")
		m.caughtUp()
	}
	m.end()
	m.exec("INSERT INTO a VALUES (3)")
	m.forgetEvents()
	m.open(cdc.Position{LSN: from, Shown: cdc.Everything(from)})
	if diff := cmp.Diff([]string{`insert public.a {"id":2}`, `insert public.a {"id":3}`}, m.script(m.caughtUp())); diff != "" {
		m.t.Error(diff)
	}
	// It must be able to stop while we are attached.
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			m.Durable(m.position().LSN)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	m.stopServer()
	if err := m.Restart(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// putBackWithOthers has streams of one server that have lost nothing. Where the log had nothing of theirs, it now has: of one
// that has shown nothing, and of one that has shown a transaction before. A state that has all that was shown is no older
// one: the last has shown it before the server's state was kept.
func putBackWithOthers(t *testing.T, s servers) {
	const schema = "CREATE TABLE a (id int PRIMARY KEY)"
	var others [2]*member
	for i := range others {
		m := watch(t, newDatabase(t, s.publisher, schema))
		m.start()
		if i > 0 {
			m.exec("INSERT INTO a VALUES (0)")
		}
		m.caughtUp()
		m.Durable(m.position().LSN)
		m.end()
		others[i] = m
	}
	whole := watch(t, newDatabase(t, s.publisher, schema))
	whole.start()
	whole.exec("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)")
	whole.caughtUp()
	shown := whole.position() // not told to be durable: both come again
	whole.end()

	putBack := whole.snapshotted()
	whole.exec("INSERT INTO a VALUES (3)")
	for _, m := range others {
		m.open(m.position())
	}
	whole.pass(shown.LSN + 100_000)
	var at [2]cdc.Position
	for i, m := range others {
		m.caughtUp()
		at[i] = m.position()
		m.Durable(at[i].LSN)
		m.end()
	}
	putBack()
	for _, m := range others {
		m.exec("INSERT INTO a VALUES (2)")
	}
	whole.exec("INSERT INTO a VALUES (4)")
	whole.pass(at[1].LSN + 100_000)
	for i, m := range others {
		m.restarted().wantGap(at[i])
		m.wantGap(at[i])
	}
	again := whole.restarted()
	if _, err := again.Prepare(t.Context(), shown); err != nil {
		t.Fatal(err)
	}
	again.open(shown)
	if diff := cmp.Diff([]string{`insert public.a {"id":4}`}, again.script(again.caughtUp())); diff != "" {
		t.Error(diff)
	}
}

// crashed: what a slot is known to have confirmed may go back when a server crashes, or is stopped and started, and all
// that the stream has shown is still there.
func crashed(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.start()
	want := []string{}
	for i, end := range []func() error{m.Kill, func() error { return m.StopImmediate(t.Context()) }, func() error { return m.Stop(t.Context()) }} {
		m.exec(fmt.Sprintf("INSERT INTO a VALUES (%d)", 2*i), fmt.Sprintf("INSERT INTO a VALUES (%d)", 2*i+1))
		want = append(want, fmt.Sprintf(`insert public.a {"id":%d}`, 2*i), fmt.Sprintf(`insert public.a {"id":%d}`, 2*i+1))
		m.caughtUp()
		p := m.position()
		m.Durable(p.LSN)
		if i == 2 {
			m.end()
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		m.failure()
		if err := m.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Progress(t.Context()); err != nil {
			t.Errorf("after a crash: %v", err)
		}
		if _, err := m.Prepare(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		again := m.restarted()
		if _, err := again.Prepare(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		again.open(p)
		m.exec("SELECT pg_logical_emit_message(true, 'probe', '')")
		if got := again.script(again.caughtUp()); len(got) != 0 {
			t.Errorf("shown twice: %v", got)
		}
		again.end()
		m.open(p)
		if diff := cmp.Diff(want, m.script(m.caughtUp())); diff != "" {
			t.Error(diff)
		}
	}
}

// putBackSubscriber: how far a subscription has replayed goes back, also where the log has grown beyond what it was.
func putBackSubscriber(t *testing.T, s servers) {
	const schema = "CREATE TABLE a (id int PRIMARY KEY)"
	author := dbtest.StartT(t, s.publisher.Install, dbtest.Options{})
	p, r := newDatabase(t, author, schema), watch(t, newDatabase(t, s.publisher, schema))
	name := "sub_" + p.Database
	r.exec(fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION lockstep_shop WITH (copy_data = false)", name, p.DSN("")))
	replay := func(id int) {
		t.Helper()
		dbtest.ExecT(t, p, fmt.Sprintf("INSERT INTO a VALUES (%d)", id))
		if err := dbtest.WaitReplayed(t.Context(), p, name); err != nil {
			t.Fatal(err)
		}
	}
	scanned, err := New(Options{Group: "shop", Member: "us-1", DSN: r.DSN(""), ScanOnly: true}, testHasher)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(scanned.Close)
	r.start()
	replay(1)
	r.caughtUp()
	from := r.position()
	r.Durable(from.LSN)
	r.end()
	putBack := r.snapshotted()
	replay(2)
	r.exec("SELECT pg_logical_emit_message(true, 'probe', '')") // what was replayed counts once it is on disk: with this it is
	for _, source := range []*Source{r.Source, scanned} {
		if _, err := source.Progress(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	end, err := r.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dbtest.ExecT(t, p, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active") // if it has ended
	author.StopImmediate(t.Context())
	putBack()
	r.pass(end.Barrier + 100_000)
	if _, err := r.Progress(t.Context()); !cdc.IsGap(err) {
		t.Errorf("a subscription's position that went back gives %v, want a gap", err)
	}
	if _, err := scanned.Progress(t.Context()); !cdc.IsGap(err) {
		t.Errorf("of a member that is only scanned it gives %v, want a gap", err)
	}
	if _, err := scanned.Progress(t.Context()); err != nil {
		t.Errorf("of a member that is only scanned it is told once, and then gives %v", err)
	}
}
