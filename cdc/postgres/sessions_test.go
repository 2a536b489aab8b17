package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// fewSessions counts what a start of a member costs its server: one session for all that is asked, and the stream's.
func fewSessions(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	m.start()
	m.exec("INSERT INTO a VALUES (1)")
	m.caughtUp()
	m.learn(2)
	if _, err := m.Confirmed(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Execute(t.Context(), "public.a", "INSERT INTO public.a VALUES (2)"); err != nil {
		t.Error(err)
	}
	m.part("public.a", cdc.Part{})
	var sessions []string
	err := dbtest.WaitFor(t.Context(), "those of the test before to be gone", func(ctx context.Context) (_ bool, err error) {
		sessions, err = dbtest.Rows[string](ctx, m.Server,
			"SELECT backend_type FROM pg_stat_activity WHERE application_name = 'lockstep' AND datname = current_database() ORDER BY 1")
		return slices.Equal(sessions, []string{"client backend", "walsender"}), err
	})
	if err != nil {
		t.Errorf("%v: %q", err, sessions)
	}
}

// sessionsAsNew has a session in every state that it can be left in.
func sessionsAsNew(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	if _, err := prepare(t.Context(), m, 0); err != nil {
		t.Fatal(err)
	}
	conn, used, err := m.take(t.Context())
	if err != nil || !used {
		t.Fatal(used, err)
	}
	if err := checkPinned(t.Context(), conn.PgConn()); err != nil {
		t.Errorf("after definitions were read and a slot was made: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	m.give(conn)
	if !conn.IsClosed() {
		t.Error("a session is kept that was left in a transaction")
	}
	lost, stop := context.WithCancel(t.Context())
	if conn, _, err = m.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = within(lost, conn, "lock_timeout", m.lock, func() error { stop(); return nil })
	m.give(conn)
	if !conn.IsClosed() {
		t.Error("a session is kept whose timeout could not be put back")
	}
	m.Source.Close()
	if _, err := m.Source.Server(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(m.idle); n > 0 {
		t.Errorf("%d sessions are kept of a source that was closed", n)
	}
}

// All that lockstep asks of a member, in parallel and again and again, is one wrong password.
func TestWrongPasswordIsNotTriedOverAndOver(t *testing.T) {
	t.Parallel()
	server := dbtest.StartT(t, dbtest.Need(t, dbtest.PG15), dbtest.Options{Password: "right"})
	secret := "wrong"
	s, err := New(Options{
		Member: "m", DSN: server.DSN("postgres"), Slot: "lockstep_g", Publication: "lockstep_g",
		Password: func() (string, error) { return secret, nil },
	}, testHasher)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	began := time.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				_, identity := s.Server(t.Context())
				_, tables := s.Tables(t.Context(), func(string) bool { return true })
				_, progress := s.Progress(t.Context())
				_, confirmed := s.Confirmed(t.Context())
				_, snapshot := s.Snapshot(t.Context())
				_, prepared := s.Prepare(t.Context(), cdc.Position{})
				for what, err := range map[string]error{
					"identity": identity, "tables": tables, "progress": progress, "confirmed": confirmed, "snapshot": snapshot, "slot": prepared,
				} {
					if !cdc.IsDenied(err) {
						t.Errorf("%s: %v", what, err)
					}
				}
			}
		})
	}
	all.Wait()
	n, most := strings.Count(server.Log(), "password authentication failed"), 1+int(time.Since(began)/(5*time.Second))
	if n < 1 || n > most {
		t.Errorf("%d logins, want 1 to %d", n, most)
	}
	secret = "right"
	if _, err := s.Server(t.Context()); err != nil {
		t.Errorf("another password is not tried at once: %v", err)
	}
}
