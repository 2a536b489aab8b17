package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestSlot(t *testing.T) {
	eachVersion(t, func(t *testing.T, s servers) {
		each(t, s, map[string]func(*testing.T, servers){
			"stream goes on where it was left":          goesOn,
			"server that refuses us needs the operator": refuses,
		})
		once(t, s, map[string]func(*testing.T, servers){
			"slot that was moved on is a gap":                movedOn,
			"slot that is gone is a gap":                     gone,
			"slot of another kind is left alone":             otherKind,
			"slot that somebody reads is left alone":         inUse,
			"transaction that keeps a slot waiting is named": waiting,
			"all questions share a session":                  fewSessions,
			"session is as good as new for the next":         sessionsAsNew,
		})
		tests := map[string]func(*testing.T, servers){
			"slot whose log was removed is a gap":         logRemoved,
			"slot for which too much is kept is given up": retained,
		}
		if s.all {
			tests["no free slot needs the operator"] = noFreeSlot
			tests["server that falls silent ends the stream"] = silent
		}
		alone(t, s, dbtest.Options{}, tests)
	})
}

const oneTable = "CREATE TABLE a (id int PRIMARY KEY)"

func (m *member) slot(query string) {
	m.t.Helper()
	m.exec(strings.ReplaceAll(query, "$slot", quoteText(m.options.Slot)))
}

func (m *member) wantPrepare(from cdc.LSN, kind func(error) bool, words string) {
	m.t.Helper()
	if _, err := prepare(m.t.Context(), m, from); !kind(err) || !strings.Contains(err.Error(), words) {
		m.t.Errorf("Prepare(%v) gives %v, want one about %q", from, err, words)
	}
}

func goesOn(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	m.start()
	m.exec("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)")
	got := m.caughtUp()
	if err := m.end(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	m.exec("INSERT INTO a VALUES (3)")
	m.events = nil
	from, err := prepare(t.Context(), m, got[0].End)
	if err != nil || from != got[0].End {
		t.Fatal(from, err)
	}
	m.stream(from)
	if again := m.script(m.caughtUp()); strings.Join(again, ";") != `insert public.a {"id":2};insert public.a {"id":3}` {
		t.Error(again)
	}
	m.Source.Close() // the next call connects anew
	if _, err := m.Progress(t.Context()); err != nil {
		t.Error(err)
	}
	m.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lockstep' AND datname = current_database()")
	if err := m.failure(); err == nil || cdc.IsGap(err) || cdc.IsSetup(err) {
		t.Errorf("a connection that was ended gives %v, want an error to try again after", err)
	}
	if _, err := m.Progress(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := prepare(t.Context(), m, got[1].End); err != nil {
		t.Error(err)
	}
}

func movedOn(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.exec("INSERT INTO a VALUES (1)")
	m.slot("SELECT pg_replication_slot_advance($slot, pg_current_wal_lsn())")
	m.wantPrepare(from, cdc.IsGap, "beyond our checkpoint")
	err = m.Stream(t.Context(), at(from), func(cdc.Event) error { return nil })
	if !cdc.IsGap(err) {
		t.Errorf("the stream would be forwarded without a word, and gives %v", err)
	}
	m.slot("SELECT pg_drop_replication_slot($slot)")
	m.slot("SELECT pg_create_logical_replication_slot($slot, 'pgoutput')")
	m.wantPrepare(from, cdc.IsGap, "beyond our checkpoint")
	again, err := prepare(t.Context(), m, 0)
	if err != nil || again <= from {
		t.Errorf("starting over gives %v, %v", again, err)
	}
}

func gone(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	m.wantPrepare(1, cdc.IsGap, "is gone")
}

func logRemoved(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Exec(context.Background(), "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
	})
	m.exec("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
	err = dbtest.WaitFor(t.Context(), "the slot to be lost", func(ctx context.Context) (bool, error) {
		if err := m.Exec(ctx, "INSERT INTO a SELECT coalesce(max(id), 0) + 1 FROM a", "SELECT pg_switch_wal()", "CHECKPOINT"); err != nil {
			return false, err
		}
		return dbtest.Value[bool](ctx, m.Server, "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1", m.options.Slot)
	})
	if err != nil {
		t.Fatal(err)
	}
	m.wantPrepare(from, cdc.IsGap, "invalidated (wal_removed)")
	m.exec("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
	if _, err := prepare(t.Context(), m, 0); err != nil {
		t.Error(err)
	}
}

// retained has a slot that keeps more of the log than it may, because nothing becomes durable.
func retained(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	m.Source.options.MaxRetained = 8 << 20
	start, err := m.Prepare(t.Context(), cdc.Position{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Progress(t.Context())
	if err != nil || p.Retained.Most != 8<<20 || p.Retained.Bytes > p.Retained.Most {
		t.Fatalf("%+v, %v", p.Retained, err)
	}
	held := "SELECT pg_logical_emit_message(true, 'filler', repeat('x', 1000000)) FROM generate_series(1, 9)"
	m.exec(held)
	for _, err := range []error{second(m.Progress(t.Context())), second(m.Prepare(t.Context(), start))} {
		if !cdc.IsGap(err) || !strings.Contains(err.Error(), "more than max_retained_wal (8 MB)") {
			t.Errorf("%v", err)
		}
	}
	if n := m.slots(); n != 0 {
		t.Error("the slot is still there")
	}

	// Nor may it while something else is the matter.
	if _, err := m.Prepare(t.Context(), cdc.Position{}); err != nil {
		t.Fatal(err)
	}
	m.exec(held, "DROP PUBLICATION "+m.options.Publication)
	if _, err := m.Prepare(t.Context(), cdc.Position{}); !cdc.IsSetup(err) {
		t.Errorf("%v", err)
	}
	if n := m.slots(); n != 0 {
		t.Error("the slot is still there without a publication")
	}
}

func second[T any](_ T, err error) error { return err }

// slots counts our slot.
func (m *member) slots() int64 {
	m.t.Helper()
	n, err := dbtest.Value[int64](m.t.Context(), m.Server, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", m.options.Slot)
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

func otherKind(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	other := newDatabase(t, s.publisher, "")
	for _, from := range []cdc.LSN{0, 1} {
		m.slot("SELECT pg_create_physical_replication_slot($slot)")
		m.wantPrepare(from, cdc.IsSetup, "physical")
		m.slot("SELECT pg_drop_replication_slot($slot)")
		m.slot("SELECT pg_create_logical_replication_slot($slot, 'pgoutput', false, true)")
		m.wantPrepare(from, cdc.IsSetup, "two-phase")
		m.slot("SELECT pg_drop_replication_slot($slot)")
		dbtest.ExecT(t, other, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", m.options.Slot))
		m.wantPrepare(from, cdc.IsSetup, "belongs to database")
		dbtest.ExecT(t, other, fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", m.options.Slot))
	}
}

func inUse(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	from := m.start()
	m.exec("INSERT INTO a VALUES (1)")
	m.caughtUp()
	second, err := New(m.options, testHasher)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	second.active = 300 * time.Millisecond
	for _, p := range []cdc.LSN{0, from} {
		if _, err := prepare(t.Context(), second, p); !cdc.IsSetup(err) || !strings.Contains(err.Error(), "in use by the server's process") {
			t.Error(err)
		}
	}
}

func waiting(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	m.Source.slot, m.snapshot = 300*time.Millisecond, 300*time.Millisecond
	conn, err := m.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO a VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprintf("pid %d (postgres, open for ", conn.PgConn().PID())
	if _, err := prepare(t.Context(), m, 0); err == nil || !strings.Contains(err.Error(), pid) {
		t.Errorf("Prepare gives %v, want %q in it", err, pid)
	}
	if _, err := m.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), pid) {
		t.Errorf("Snapshot gives %v, want %q in it", err, pid)
	}
	if left, err := dbtest.Rows[string](t.Context(), m.Server, "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = $1", m.options.Slot); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(t.Context(), m, 0); err != nil {
		t.Error(err)
	}
}

func noFreeSlot(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	t.Cleanup(func() {
		_ = m.Exec(context.Background(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'filler%'")
	})
	m.exec(`SELECT pg_create_physical_replication_slot('filler' || i) FROM generate_series(1,
		current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots)) i`)
	m.wantPrepare(0, cdc.IsSetup, "raise max_replication_slots")
	if _, err := m.Snapshot(t.Context()); !cdc.IsSetup(err) {
		t.Error(err)
	}
}

func silent(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	m.silence, m.Source.status = time.Second, 200*time.Millisecond
	m.start()
	m.exec("INSERT INTO a VALUES (1)")
	m.caughtUp()
	if err := s.publisher.Pause(); err != nil {
		t.Fatal(err)
	}
	defer s.publisher.Resume()
	if err := m.failure(); err == nil || !strings.Contains(err.Error(), "no word from the server") {
		t.Error(err)
	}
}

func refuses(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, oneTable)
	role := "weak_" + db.Database
	dbtest.ExecT(t, db, "CREATE ROLE "+role+" LOGIN")
	for _, c := range []struct{ dsn, words string }{
		{db.DSNFor(role, ""), "REPLICATION"},
		{db.DSN("nosuch"), "correct the database"},
		{db.DSNFor("nosuch", ""), "CREATE ROLE"},
	} {
		o := optionsOf(db)
		o.DSN = c.dsn
		source, err := New(o, testHasher)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source.Server(t.Context()); !cdc.IsSetup(err) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want one with %q", c.dsn, err, c.words)
		}
		if _, err := prepare(t.Context(), source, 0); !cdc.IsSetup(err) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want one with %q", c.dsn, err, c.words)
		}
		source.Close()
	}
}
