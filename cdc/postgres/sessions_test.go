package postgres

import (
	"context"
	"slices"
	"testing"

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
	if err := m.Execute(t.Context(), "INSERT INTO public.a VALUES (2)"); err != nil {
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
}
