package mysql

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
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			g := dbtest.MySQLGroupT(t, dbtest.NeedMySQL(t, f), 1, "CREATE TABLE app.a (id int PRIMARY KEY, n int); INSERT INTO app.a VALUES (1, 0)", anew)
			if err := g.GrantLockstep(t.Context(), "pw"); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				name string
				run  func(*testing.T, *dbtest.MySQLGroup)
			}{
				{"without PROCESS the transactions are a note", hiddenTransactions},
				{"statements of others run, ours and what feeds replicas do not", runningStatements},
				{"an open transaction has its age and holds old rows", openTransaction},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, g) })
			}
		})
	}
}

func pressure(t *testing.T, s *Source) cdc.Pressure {
	t.Helper()
	p, err := s.Pressure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.ManyHeld == 0 {
		t.Errorf("no limit of what is held: %+v", p)
	}
	return p
}

// seesAll is a source whose account may see what others do.
func seesAll(t *testing.T, server *dbtest.MySQLServer) *Source {
	t.Helper()
	if err := server.Quietly(t.Context(), "GRANT PROCESS ON *.* TO "+dbtest.LockstepUser+"@'%'"); err != nil {
		t.Fatal(err)
	}
	return probe(t, server, "")
}

func hiddenTransactions(t *testing.T, g *dbtest.MySQLGroup) {
	s := probe(t, g.Primary, "")
	p := pressure(t, s)
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "GRANT PROCESS ON *.* TO") || p.Oldest != 0 {
		t.Errorf("%+v", p)
	}
	before := p.Running
	during(t, g.Primary, func() {
		waitPressure(t, s, "the statement shows", func(p cdc.Pressure) bool { return p.Running == before+1 })
	})
}

// during runs a statement that lasts as long as do.
func during(t *testing.T, server *dbtest.MySQLServer, do func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Exec(ctx, "DO SLEEP(60)") }()
	do()
	stop()
	<-ended // it was interrupted
}

// idleCache is for how long nobody may look at InnoDB's transactions before it looks at them itself (trx0i_s.cc).
const idleCache = 150 * time.Millisecond

func waitPressure(t *testing.T, s *Source, what string, met func(cdc.Pressure) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var last cdc.Pressure
	err := dbtest.WaitFor(ctx, what, func(context.Context) (bool, error) {
		<-time.After(idleCache)
		last = pressure(t, s)
		return met(last), nil
	})
	if err != nil {
		t.Fatalf("%v; the last was %+v", err, last)
	}
}

func runningStatements(t *testing.T, g *dbtest.MySQLGroup) {
	s := seesAll(t, g.Primary)
	idle := func(p cdc.Pressure) bool { return p.Running == 0 && len(p.Notes) == 0 }
	waitPressure(t, s, "nothing but ours and the dump to the replica runs", idle)
	own := seesAll(t, g.Primary)
	err := own.ask(t.Context(), func(ctx context.Context, c *session) error {
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { _, err := c.query(ctx, "SELECT SLEEP(60)"); ended <- err }()
		waitPressure(t, s, "our own statement does not count", idle)
		stop()
		return <-ended
	})
	if err == nil {
		t.Error("our own statement was over before it could be counted")
	}
	during(t, g.Primary, func() {
		waitPressure(t, s, "the other's statement shows", func(p cdc.Pressure) bool { return p.Running == 1 })
	})
}

func openTransaction(t *testing.T, g *dbtest.MySQLGroup) {
	s := seesAll(t, g.Primary)
	conn, err := g.Primary.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Execute("START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		t.Fatal(err)
	}
	for range 20 { // of which none can be forgotten; what was there before may be, at any time
		run(t, g.Primary, "UPDATE app.a SET n = n + 1")
	}
	waitPressure(t, s, "the transaction is as old as it is, and old rows are held", func(p cdc.Pressure) bool {
		return p.Oldest >= time.Second && p.Oldest < time.Minute && p.Held >= 20
	})
	if _, err := conn.Execute("COMMIT"); err != nil {
		t.Fatal(err)
	}
	// MySQL shortens the list only once in a while.
	waitPressure(t, s, "the transaction is over", func(p cdc.Pressure) bool { return p.Oldest == 0 })
}
