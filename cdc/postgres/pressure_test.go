package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

var _ cdc.Gauger = (*Source)(nil)

func TestPressure(t *testing.T) {
	oneVersion(t, func(t *testing.T, s servers) {
		server := dbtest.StartT(t, s.publisher.Install, dbtest.Options{})
		for name, test := range map[string]func(*testing.T, *dbtest.Server){
			"statements of others run, ours do not":           runningStatements,
			"an open transaction has its age and holds rows":  openTransaction,
			"what another database holds does not count":      otherDatabase,
			"without the right the snapshots of others count": hiddenSessions,
			"a standby tells too":                             standbyTells,
		} {
			t.Run(name, func(t *testing.T) { test(t, server) })
		}
	})
}

func gauged(t *testing.T, s *dbtest.Server, role string) *Source {
	t.Helper()
	o := optionsOf(s)
	if role != "" {
		o.DSN = s.DSNFor(role, "")
	}
	source, err := New(o, testHasher)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source
}

func waitPressure(t *testing.T, s *Source, what string, met func(cdc.Pressure) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var last cdc.Pressure
	err := dbtest.WaitFor(ctx, what, func(context.Context) (bool, error) {
		p, err := s.Pressure(t.Context())
		last = p
		return err == nil && met(p) && p.ManyHeld > 0, err
	})
	if err != nil {
		t.Fatalf("%v; the last was %+v", err, last)
	}
}

// during runs a statement that lasts as long as do.
func during(t *testing.T, s *dbtest.Server, do func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Exec(ctx, "SELECT pg_sleep(60)") }()
	do()
	stop()
	<-ended // it was interrupted
}

func runs(n int) func(cdc.Pressure) bool {
	return func(p cdc.Pressure) bool { return p.Running == n }
}

func runningStatements(t *testing.T, server *dbtest.Server) {
	db := newDatabase(t, server, "")
	s, own := gauged(t, db, ""), gauged(t, db, "")
	waitPressure(t, s, "nothing runs", runs(0))
	conn, err := own.options.connect(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := conn.Exec(ctx, "SELECT pg_sleep(60)"); ended <- err }()
	err = dbtest.WaitFor(t.Context(), "our statement to run", func(ctx context.Context) (bool, error) {
		return dbtest.Value[bool](ctx, db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'lockstep' AND query LIKE '%pg_sleep(60)' AND state = 'active')")
	})
	if err != nil {
		t.Fatal(err)
	}
	waitPressure(t, s, "our own statement does not count", runs(0))
	during(t, db, func() { waitPressure(t, s, "the other's does", runs(1)) })
	stop()
	<-ended // it was interrupted
}

// holdSnapshot opens a transaction that keeps its snapshot.
func holdSnapshot(t *testing.T, s *dbtest.Server) (end func()) {
	t.Helper()
	conn, err := s.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	return func() { hangUp(conn) }
}

func write(t *testing.T, s *dbtest.Server, transactions int) {
	t.Helper()
	for range transactions {
		dbtest.ExecT(t, s, "SELECT txid_current()")
	}
}

func openTransaction(t *testing.T, server *dbtest.Server) {
	db := newDatabase(t, server, "")
	s := gauged(t, db, "")
	end := holdSnapshot(t, db)
	write(t, db, 20)
	waitPressure(t, s, "the transaction is as old as it is, and holds rows", func(p cdc.Pressure) bool {
		return p.Running == 0 && p.Oldest > 100*time.Millisecond && p.Oldest < time.Minute && p.Held >= 20 && len(p.Notes) == 0
	})
	end()
	waitPressure(t, s, "nobody holds them any more", func(p cdc.Pressure) bool { return p.Oldest == 0 && p.Held < 20 })
}

func otherDatabase(t *testing.T, server *dbtest.Server) {
	db, other := newDatabase(t, server, ""), newDatabase(t, server, "")
	end := holdSnapshot(t, other)
	defer end()
	write(t, db, 20)
	waitPressure(t, gauged(t, db, ""), "only the transaction's age shows", func(p cdc.Pressure) bool { return p.Oldest > 0 && p.Held < 20 })
}

func hiddenSessions(t *testing.T, server *dbtest.Server) {
	db := newDatabase(t, server, "")
	role := "low_" + db.Database
	dbtest.ExecT(t, db, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { _ = db.Exec(context.Background(), "DROP ROLE "+role) })
	s := gauged(t, db, role)
	grant := "GRANT pg_read_all_stats TO \"" + role + "\";"
	during(t, db, func() {
		waitPressure(t, s, "the statement shows", func(p cdc.Pressure) bool {
			return p.Running == 1 && p.Oldest == 0 && len(p.Notes) == 1 && strings.Contains(p.Notes[0], grant)
		})
	})
	waitPressure(t, s, "nothing runs", runs(0))
	dbtest.ExecT(t, db, grant)
	during(t, db, func() {
		waitPressure(t, s, "the statement and its age show", func(p cdc.Pressure) bool { return p.Running == 1 && p.Oldest > 0 && len(p.Notes) == 0 })
	})
}

func standbyTells(t *testing.T, server *dbtest.Server) {
	standby := dbtest.StandbyT(t, server, dbtest.Options{})
	s := gauged(t, standby, "")
	waitPressure(t, s, "nothing runs", runs(0))
	during(t, standby, func() {
		waitPressure(t, s, "the statement shows", func(p cdc.Pressure) bool { return p.Running == 1 && p.Oldest > 0 })
	})
	waitPressure(t, gauged(t, server, ""), "what feeds the standby is no load", runs(0))
}
