package dbtest

import (
	"slices"
	"strings"
	"testing"
)

const goods = "CREATE TABLE goods (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL)"

// TestPrimaryAndReplica has one pair for all that a pair can show; the table is empty at the start of each.
func TestPrimaryAndReplica(t *testing.T) {
	inTurn(t, MariaDB1011, 1, []part{
		{"a stopped applier replays nothing until it starts", stoppedApplier},
		{"binlogs that were purged are gone, and a replica that was cut off comes back", purgedBinlogs},
		{"replication goes on after either side was killed", eitherSideKilled},
		{"a skipped transaction is missing and the next is there", skippedTransaction},
		{"a failed applier ends the wait", failedApplier},
	})
}

// TestPrimaryAndTwoReplicas is about the roles of three.
func TestPrimaryAndTwoReplicas(t *testing.T) {
	inTurn(t, MySQL97, 2, []part{
		{"replay with the same GTIDs", sameGTIDs},
		{"a promotion reverses the direction, and another one back", promotions},
		{"a dead primary is replaced and comes back as a replica", deadPrimary},
	})
}

type part struct {
	name string
	test func(*testing.T, *MySQLGroup)
}

func inTurn(t *testing.T, flavour Flavour, replicas int, parts []part) {
	oneFlavour(t, flavour, func(t *testing.T, install MySQLInstall) {
		g := MySQLGroupT(t, install, replicas, goods, again)
		for _, part := range parts {
			ExecT(t, g.Primary, "TRUNCATE TABLE goods") // not DELETE: a replica need not have the rows
			fatal(t, g.WaitCaughtUp(t.Context()))
			if !t.Run(part.name, func(t *testing.T) { part.test(t, g) }) {
				return // what follows needs a group that replicates
			}
		}
	})
}

func stoppedApplier(t *testing.T, g *MySQLGroup) {
	replica := g.Replicas[0]
	if err := replica.StopApplier(t.Context()); err != nil {
		t.Fatal(err)
	}
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (1, 'late')")
	if has, err := replica.has(t.Context(), executed(t, g.Primary)); err != nil || has || contents(t, replica) != "" {
		t.Errorf("a stopped replica has it: %v, %q, %v", has, contents(t, replica), err)
	}
	if err := replica.StartApplier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.WaitCaughtUp(t.Context()); err != nil || contents(t, replica) != "1 late" {
		t.Errorf("got %q, %v", contents(t, replica), err)
	}
}

func purgedBinlogs(t *testing.T, g *MySQLGroup) {
	ExecT(t, g.Primary, "FLUSH BINARY LOGS", "INSERT INTO goods VALUES (1, 'purged')")
	if err := g.Primary.PurgeBinlogs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if logs, err := g.Primary.Show(t.Context(), "SHOW BINARY LOGS"); err != nil || len(logs) != 1 {
		t.Errorf("binlogs %v, %v; want one", logs, err)
	}
	if n, err := g.Primary.KillDumpThreads(t.Context()); err != nil || n != 1 {
		t.Errorf("%d dump threads killed, %v; want 1", n, err)
	}
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (2, 'sent after a reconnect')")
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, g.Replicas[0]); got != "1 purged, 2 sent after a reconnect" {
		t.Errorf("the replica has %q", got)
	}
}

func eitherSideKilled(t *testing.T, g *MySQLGroup) {
	for i, victim := range g.Members() {
		ExecT(t, g.Primary, "REPLACE INTO goods VALUES (1, 'before')")
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := victim.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		ExecT(t, g.Primary, "REPLACE INTO goods VALUES (2, 'after')")
		if err := g.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, b := executed(t, g.Primary), executed(t, g.Replicas[0]); a != b || contents(t, g.Replicas[0]) != "1 before, 2 after" {
			t.Errorf("member %d killed: executed %q and %q, the replica has %q", i, a, b, contents(t, g.Replicas[0]))
		}
	}
}

func skippedTransaction(t *testing.T, g *MySQLGroup) {
	replica := g.Replicas[0]
	if err := replica.SkipNext(t.Context(), g.Primary); err == nil {
		t.Error("there was nothing to skip, and no error")
	}
	if err := replica.StopApplier(t.Context()); err != nil {
		t.Fatal(err)
	}
	ExecT(t, g.Primary, "BEGIN; INSERT INTO goods VALUES (1, 'skipped'); INSERT INTO goods VALUES (2, 'skipped'); COMMIT", "INSERT INTO goods VALUES (3, 'kept')")
	if err := replica.SkipNext(t.Context(), g.Primary); err != nil {
		t.Fatal(err)
	}
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (4, 'after')")
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, replica); got != "3 kept, 4 after" {
		t.Errorf("the replica has %q", got)
	}
	if a, b := executed(t, g.Primary), executed(t, replica); a != b {
		t.Errorf("the primary executed %q, the replica %q", a, b)
	}
}

func failedApplier(t *testing.T, g *MySQLGroup) {
	if err := g.Replicas[0].Quietly(t.Context(), "INSERT INTO goods VALUES (1, 'in the way')"); err != nil {
		t.Fatal(err)
	}
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (1, 'new')")
	if err := g.WaitCaughtUp(t.Context()); err == nil || !strings.Contains(err.Error(), "applier") {
		t.Errorf("got %v; want the applier's error", err)
	}
}

func sameGTIDs(t *testing.T, g *MySQLGroup) {
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (1, 'a'), (2, 'b'), (3, 'c')", "DELETE FROM goods WHERE id = 2", "UPDATE goods SET name = 'd' WHERE id = 3")
	want := executed(t, g.Primary)
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, s := range g.Replicas {
		if got := executed(t, s); got != want || got == "" {
			t.Errorf("replica %d executed %q, the primary %q", i, got, want)
		}
		if got := contents(t, s); got != "1 a, 3 d" {
			t.Errorf("replica %d has %q", i, got)
		}
	}
}

func promotions(t *testing.T, g *MySQLGroup) {
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (1, 'first')")
	first := g.Primary
	for _, name := range []string{"second", "third"} {
		if err := g.Promote(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		ExecT(t, g.Primary, "UPDATE goods SET name = '"+name+"'")
		if err := g.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range g.Members() {
			if contents(t, s) != "1 "+name || executed(t, s) != executed(t, g.Primary) {
				t.Errorf("port %d has %q and executed %q, the primary %q", s.Port, contents(t, s), executed(t, s), executed(t, g.Primary))
			}
		}
	}
	if g.Primary != first {
		t.Error("two promotions did not lead back")
	}
	readOnly, err := MySQLRows[int64](t.Context(), g.Replicas[0], "SELECT @@read_only + 0")
	if err != nil || readOnly[0] != 1 {
		t.Errorf("the old primary has read_only %v, %v", readOnly, err)
	}
}

func deadPrimary(t *testing.T, g *MySQLGroup) {
	dead := g.Primary
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.Promote(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ExecT(t, g.Primary, "INSERT INTO goods VALUES (1, 'new reign')")
	if err := dead.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := dead.Follow(t.Context(), g.Primary); err != nil {
		t.Fatal(err)
	}
	if err := g.WaitCaughtUp(t.Context()); err != nil || contents(t, dead) != "1 new reign" {
		t.Errorf("the old primary has %q, %v", contents(t, dead), err)
	}
}

func executed(t *testing.T, s *MySQLServer) string {
	t.Helper()
	set, err := s.Executed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func contents(t *testing.T, s *MySQLServer) string {
	t.Helper()
	rows, err := MySQLRows[string](t.Context(), s, "SELECT CONCAT(id, ' ', name) FROM goods ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(rows, ", ")
}

func TestFirstTransactionOfASetIsTheAuthors(t *testing.T) {
	const a, b = "aaaaaaaa-0000-11ef-8000-000000000001", "bbbbbbbb-0000-11ef-8000-000000000001"
	for set, want := range map[string]string{
		a + ":5":                     a + ":5",
		a + ":5-7:9":                 a + ":5",
		b + ":1-3,\n" + a + ":12:14": a + ":12",
		a + ":7:tag:1":               a + ":7",
		a + ":tag:1":                 "",
		b + ":1":                     "",
		"":                           "",
	} {
		if got, err := firstOf(set, a); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", set, got, err, want)
		}
	}
}

func TestMySQLGroupWithAWrongSchemaLeavesNothingRunning(t *testing.T) {
	install, before := NeedMySQL(t, MariaDB1011), children(t)
	if _, err := NewMySQLGroup(t.Context(), install, 1, "CREATE TABEL", Options{Below: MemoryDir()}); err == nil {
		t.Fatal("a syntax error was accepted")
	}
	if now := children(t); !slices.Equal(now, before) {
		t.Errorf("processes %v are left, before there were %v", now, before)
	}
}
