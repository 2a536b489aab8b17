package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func idleLog(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'x')", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
	m.want("insert a 1") // read waits for the barrier, which is in a file without transactions
	m.do("FLUSH BINARY LOGS", "CREATE DATABASE IF NOT EXISTS idle", "DROP DATABASE idle", "FLUSH BINARY LOGS")
	m.want(defined, defined)
	m.want()
	m.do("FLUSH BINARY LOGS")
	m.want()
}

func allIDs(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("FLUSH PRIVILEGES", "INSERT INTO a VALUES (1, 1, 'x')", "CREATE TABLE elsewhere (id int)", "INSERT INTO elsewhere VALUES (1)")
	state := "@@GLOBAL.gtid_binlog_state"
	if !server.Install.Flavour.MariaDB() {
		state = "@@GLOBAL.gtid_executed"
		m.do("SET gtid_next = 'AUTOMATIC:nightly'; INSERT INTO a VALUES (2, 2, 'x')",
			"SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:42'; BEGIN; COMMIT",
			"SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:odd_one:9000000000'; INSERT INTO a VALUES (3, 2, 'x')")
	} else {
		m.do("SET gtid_domain_id = 7, server_id = 4242; INSERT INTO a VALUES (2, 2, 'x')", "SET gtid_seq_no = 900; INSERT INTO a VALUES (3, 3, 'x')",
			"SET server_id = 4243; INSERT INTO a VALUES (4, 3, 'x')")
	}
	m.read()
	m.same()
	has, err := dbtest.MySQLValue[string](t.Context(), server, "SELECT "+state)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := cdc.ParseTxSet(has); err != nil || !want.Equal(m.at.Shown) {
		t.Errorf("shown %v, the server has %v (%v)", m.at.Shown, want, err)
	}
	if server.Install.Flavour.MariaDB() {
		last, err := dbtest.MySQLValue[string](t.Context(), server, "SELECT @@GLOBAL.gtid_binlog_pos")
		if want, err2 := cdc.ParseTxSet(last); err != nil || err2 != nil || !want.Equal(m.at.Last) {
			t.Errorf("last are %v, the server has %v (%v, %v)", m.at.Last, want, err, err2)
		}
	}
	m.do("INSERT INTO a VALUES (9, 9, 'x')") // goes on after tags and domains
	m.want("insert a 9")
	age := func(at time.Time) time.Duration { return time.Since(at).Abs() }
	for id, at := range m.times {
		if age(at) > time.Minute {
			t.Errorf("%v was committed at %v", id, at)
		}
	}
}

// gap reads what must be a gap, and begins anew.
func (m *tail) gap(words ...string) {
	m.t.Helper()
	m.isGap(words...)
	m.restart()
	clear(m.through)
	m.do("INSERT INTO b VALUES (77, 1, 'x')")
	m.want("insert b 77")
	m.do("DELETE FROM b")
	m.want("delete b 77")
}

func (m *tail) isGap(words ...string) {
	m.t.Helper()
	_, err := m.tryRead()
	hole := new(cdc.GapError)
	if !errors.As(err, &hole) || hole.Hint == "" || !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(hole.Reason), w) }) {
		m.t.Fatalf("%v, want a gap with %q", err, words)
	}
}

func purgedLog(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'x')")
	m.want("insert a 1")
	if err := server.PurgeBinlogs(t.Context()); err != nil { // nothing that we have not seen
		t.Fatal(err)
	}
	m.do("INSERT INTO a VALUES (2, 1, 'x')")
	m.want("insert a 2")
	m.do("INSERT INTO a VALUES (3, 1, 'x')", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (4, 1, 'x')")
	if err := server.PurgeBinlogs(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.gap("purged")
}

func resetStatement(server *dbtest.MySQLServer) string {
	if server.Install.Flavour.MariaDB() {
		return "RESET MASTER"
	}
	return "RESET BINARY LOGS AND GTIDS"
}

func resetLog(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'x')")
	m.want("insert a 1")
	m.do(resetStatement(server))
	m.gap("the log ends at")
	m.do("INSERT INTO a VALUES (2, 1, 'x')")
	m.want("insert a 2")
	m.do(resetStatement(server), "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
	m.gap("has lost transactions")
}

// rewrittenLog is a server that was restored to an earlier state and has since written as many transactions as it lost.
func rewrittenLog(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do(resetStatement(server))
	m.restart()
	m.do("INSERT INTO a VALUES (1, 1, 'x')", "INSERT INTO a VALUES (2, 1, 'x')")
	m.want("insert a 1", "insert a 2")
	m.do(resetStatement(server), "INSERT INTO a VALUES (3, 1, 'a longer one, so that places differ')", "INSERT INTO a VALUES (4, 1, 'x')", "INSERT INTO a VALUES (5, 1, 'x')")
	m.gap("is not the one", "is not the log")
}

// sameAgain is a log that was begun anew, and then got the same transactions again, at the same places.
func sameAgain(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	again := []string{resetStatement(server), "SET TIMESTAMP = 1700000000; INSERT INTO a VALUES (1, 1, 'x')", "DELETE FROM a"}
	m.do(again...)
	m.restart()
	m.do(again[1:]...)
	m.want("insert a 1", "delete a 1")
	m.do(again[:1]...)
	m.do(again[1:]...)
	m.do(again[1:]...)
	m.gap("is not the one")
}

// putBackAfter has a server's disk put back to an older state from before a statement, which takes so long, and returns who has read what is
// lost.
func putBackAfter(t *testing.T, server *dbtest.MySQLServer, lost string, takes time.Duration) *tail {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'x')")
	m.want("insert a 1")
	m.Close()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	back, err := server.Keep()
	if err == nil {
		err = server.Restart(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	m.do(lost)
	m.want("insert a 2")
	m.Close()
	time.Sleep(takes)
	if err := back(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// putBack is a server whose disk is put back to an older state, on which it writes the same transactions again.
func putBack(t *testing.T, server *dbtest.MySQLServer) {
	lost := "SET TIMESTAMP = 1700000000; INSERT INTO a VALUES (2, 1, 'x')"
	m := putBackAfter(t, server, lost, time.Second) // a file says in whole seconds when it was begun, and a real server takes longer to be put back
	m.do(lost)
	m.gap("was begun at")
}

// putBackAndPurged is a server whose disk is put back, on which it writes other transactions with the same GTIDs, and removes the files of its log
// up to then.
func putBackAndPurged(t *testing.T, server *dbtest.MySQLServer) {
	m := putBackAfter(t, server, "INSERT INTO a VALUES (2, 1, 'x')", 3*time.Second)    // when a server was started is known to a second or two
	m.do("INSERT INTO a VALUES (3, 1, 'x')", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS") // not before where the log was read up to
	if err := server.PurgeBinlogs(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.gap("nothing tells that it was not put back")
}

// bounce restarts the server, with settings, once nobody reads its log: MySQL waits for those who do, for ten seconds.
func (m *tail) bounce(conf map[string]string) {
	m.t.Helper()
	m.Close()
	err := dbtest.WaitFor(m.t.Context(), "nobody to read the log", func(ctx context.Context) (bool, error) {
		sessions, err := m.server.Show(ctx, "SHOW PROCESSLIST")
		reads := func(session map[string]string) bool { return strings.HasPrefix(session["Command"], "Binlog Dump") }
		return !slices.ContainsFunc(sessions, reads), err
	})
	if err == nil {
		err = m.server.RestartWith(m.t.Context(), conf)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func restarted(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'x')")
	m.want("insert a 1")
	m.do("INSERT INTO a VALUES (2, 1, 'x')")
	m.bounce(nil)
	m.do("INSERT INTO a VALUES (3, 1, 'x')")
	m.want("insert a 2", "insert a 3")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.want()
	m.do("INSERT INTO a VALUES (4, 1, 'x')")
	m.want("insert a 4")
	m.same()
}

// cutOff has the connection killed again and again while the server is in the middle of sending: two transactions are larger
// than what a connection holds, by few rows that are wide.
func cutOff(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server, "ALTER TABLE a MODIFY note mediumtext")
	const transactions, rows = 6, 200
	for i := range transactions {
		m.do(fmt.Sprintf("BEGIN; INSERT INTO a SELECT %d + n, 1, REPEAT('x', 30000) FROM (%s) AS s", i*rows, counted(rows)) +
			fmt.Sprintf("; UPDATE a SET n = n + 1 WHERE id DIV 10 = %d; INSERT INTO b VALUES (%d, 1, 'y'); COMMIT", i*rows/10, i))
	}
	p, err := m.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for tries := 0; m.at.LSN < p.Barrier; tries++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		events := 0
		err := m.Stream(ctx, m.at, func(e cdc.Event) error {
			m.take(e)
			if events++; events == 1+tries%2 {
				if _, err := server.KillDumpThreads(ctx); err != nil {
					return err
				}
			}
			if m.at.LSN >= p.Barrier {
				return errEnough
			}
			return nil
		})
		cancel()
		if cdc.IsGap(err) || cdc.IsSetup(err) || errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if !errors.Is(err, errEnough) {
			cuts++
		}
	}
	m.same()
	if cuts < 2 {
		t.Errorf("the connection was cut %d times before all was read", cuts)
	}
	if n := len(m.through); n < transactions {
		t.Errorf("%d transactions were shown, want %d", n, transactions)
	}
}

// counted is a query of the numbers below limit.
func counted(limit int) string {
	return fmt.Sprintf("SELECT w.d * 1000 + x.d * 100 + y.d * 10 + z.d AS n FROM %[1]s w, %[1]s x, %[1]s y, %[1]s z WHERE w.d * 1000 + x.d * 100 + y.d * 10 + z.d < %[2]d", digits, limit)
}

const digits = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"

func renumbered(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	id, err := dbtest.MySQLValue[int64](t.Context(), server, "SELECT @@GLOBAL.server_id")
	if err != nil {
		t.Fatal(err)
	}
	m.do("INSERT INTO a VALUES (1, 1, 'x')", "SET GLOBAL server_id = 987654")
	m.do("INSERT INTO a VALUES (2, 1, 'x')")
	m.want("insert a 1", "insert a 2")
	m.do(fmt.Sprintf("SET GLOBAL server_id = %d", id))
	m.do("INSERT INTO a VALUES (3, 1, 'x')")
	m.want("insert a 3")
	m.same()
}

func unfit(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	for setting, good := range map[string]string{"binlog_row_image": "FULL", "binlog_format": "ROW"} {
		bad := map[string]string{"binlog_row_image": "MINIMAL", "binlog_format": "MIXED"}[setting]
		m.do(fmt.Sprintf("SET GLOBAL %s = %s", setting, bad))
		_, err := m.Prepare(t.Context(), m.at)
		m.do(fmt.Sprintf("SET GLOBAL %s = %s", setting, good))
		if setup := new(cdc.SetupError); !errors.As(err, &setup) || !strings.Contains(setup.Problem, setting) || !strings.Contains(setup.Hint, "SET ") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func unprivileged(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("REVOKE REPLICATION SLAVE ON *.* FROM "+dbtest.LockstepUser, "INSERT INTO a VALUES (1, 1, 'x')")
	_, err := m.tryRead()
	m.do("GRANT REPLICATION SLAVE ON *.* TO " + dbtest.LockstepUser)
	setup := new(cdc.SetupError)
	if !errors.As(err, &setup) || !strings.HasPrefix(setup.Hint, "GRANT REPLICATION SLAVE") {
		t.Fatalf("%v", err)
	}
	m.want("insert a 1")
}

func distributed(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	xa := m.session()
	exec(t, xa, "XA START 'x1', 'branch', 7", "INSERT INTO a VALUES (1, 1, 'x')", "UPDATE a SET n = 2 WHERE id = 1", "XA END 'x1', 'branch', 7", "XA PREPARE 'x1', 'branch', 7")
	other := m.session()
	exec(t, other, "XA START 'x2'", "INSERT INTO a VALUES (2, 1, 'x')", "XA END 'x2'", "XA PREPARE 'x2'")
	m.do("INSERT INTO b VALUES (1, 1, 'x')")
	m.want("insert b 1")
	if m.at.Resume == nil {
		t.Error("nothing says that prepared transactions are to be read again")
	}
	m.want()
	m.do("INSERT INTO b VALUES (2, 1, 'x')")
	m.want("insert b 2")
	exec(t, xa, "XA COMMIT 'x1', 'branch', 7")
	m.want("insert a 1; update a 1")
	m.do("INSERT INTO b VALUES (3, 1, 'x')")
	exec(t, other, "XA ROLLBACK 'x2'")
	m.want("insert b 3")
	if m.at.Resume != nil {
		t.Errorf("still %v is to be asked for", m.at.Resume)
	}
	exec(t, xa, "XA START 'x1'", "INSERT INTO a VALUES (3, 1, 'x')", "XA END 'x1'", "XA COMMIT 'x1' ONE PHASE")
	exec(t, xa, "XA START 'x1'", "SELECT * FROM a", "XA END 'x1'", "XA PREPARE 'x1'", "XA COMMIT 'x1'") // of no rows
	m.want("insert a 3")
	m.same()

	exec(t, xa, "XA START 'x3'", "INSERT INTO a VALUES (4, 1, 'x')", "XA END 'x3'", "XA PREPARE 'x3'")
	m.want()
	m.bounce(nil)
	m.want()
	m.do("INSERT INTO b VALUES (4, 1, 'x')")
	m.want("insert b 4")
	m.do("XA COMMIT 'x3'")
	m.want("insert a 4")
	m.same()

	xa = m.session()
	exec(t, xa, "XA START 'x4'", "INSERT INTO a VALUES (5, 1, 'x')", "XA END 'x4'", "XA PREPARE 'x4'")
	m.restart()
	exec(t, xa, "XA COMMIT 'x4'")
	if _, err := m.tryRead(); !cdc.IsGap(err) {
		t.Errorf("%v, want a gap: the rows were written before we looked", err)
	}
}

func compressed(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	on, off := "SET SESSION binlog_transaction_compression = ON", "SET SESSION binlog_transaction_compression = OFF"
	if server.Install.Flavour.MariaDB() {
		on, off = "SET GLOBAL log_bin_compress = ON; SET GLOBAL log_bin_compress_min_len = 10", "SET GLOBAL log_bin_compress = DEFAULT, GLOBAL log_bin_compress_min_len = DEFAULT"
	}
	m.do(on, "INSERT INTO a VALUES (1, 1, REPEAT('x', 300)), (2, 2, 'y')",
		"BEGIN; UPDATE a SET n = 3, note = REPEAT('z', 250); UPDATE a SET id = 5 WHERE id = 1; INSERT INTO b SELECT * FROM a; DELETE FROM a WHERE id = 2; COMMIT",
		"ALTER TABLE b COMMENT = 'a statement that is long enough to be compressed, if statements are'", off)
	got := slices.DeleteFunc(m.read(), func(s string) bool { return s == defined })
	want := []string{"insert a 1; insert a 2", "update a 1; update a 2; update a 5 was 1; insert b 2; insert b 5; delete a 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	m.same()
}
