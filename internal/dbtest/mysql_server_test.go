package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// eachFlavour runs a test with every flavour that we must work with.
func eachFlavour(t *testing.T, test func(t *testing.T, install MySQLInstall)) {
	onFlavours(t, []Flavour{MariaDB1011, MySQL97}, test)
}

// oneFlavour runs a test with one flavour, and in `make soak` with every one: see each.
func oneFlavour(t *testing.T, f Flavour, test func(t *testing.T, install MySQLInstall)) {
	if Soaking() {
		eachFlavour(t, test)
		return
	}
	onFlavours(t, []Flavour{f}, test)
}

func onFlavours(t *testing.T, flavours []Flavour, test func(t *testing.T, install MySQLInstall)) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			test(t, NeedMySQL(t, f))
		})
	}
}

// TestNewMySQLServers has two servers, one of them with a password: a start takes a second.
func TestNewMySQLServers(t *testing.T) {
	oneFlavour(t, MariaDB1011, func(t *testing.T, install MySQLInstall) {
		a := StartMySQLT(t, install, Options{Database: "it`s", Conf: map[string]string{"sql_mode": "", "max_connections": "33"}})
		b := StartMySQLT(t, install, Options{Database: "app", Password: `corr3ct:'horse\@x`})
		t.Run("have no history", func(t *testing.T) { withoutHistory(t, a, b) })
		t.Run("answer with their version and settings", func(t *testing.T) { answersWithSettings(t, a) })
		t.Run("demand their password, which is not in the DSN", func(t *testing.T) { demandsPassword(t, b) })
		t.Run("keep their data over kill and restart", func(t *testing.T) { keepsItsData(t, b) })
		t.Run("answer again after a pause", func(t *testing.T) {
			fatal(t, a.Pause())
			waitForState(t, a.process.pid, "T")
			fatal(t, a.Resume())
			ExecT(t, a, "SELECT 1")
		})
		t.Run("leave nothing behind", func(t *testing.T) {
			if err := errors.Join(a.Pause(), b.Stop(t.Context())); err != nil {
				t.Fatal(err)
			}
			leavesNothing(t, a)
			leavesNothing(t, b)
		})
	})
}

func answersWithSettings(t *testing.T, s *MySQLServer) {
	for query, want := range map[string]string{
		"SELECT SUBSTRING_INDEX(VERSION(), '.', 2)":                 s.Install.Flavour.series(),
		"SELECT DATABASE()":                                         "it`s",
		"SELECT @@sql_mode":                                         "",
		"SELECT @@max_connections":                                  "33",
		"SELECT @@bind_address":                                     "127.0.0.1",
		"SELECT @@server_id":                                        strconv.Itoa(s.Port),
		"SELECT @@log_bin + 0":                                      "1",
		"SELECT @@binlog_format":                                    "ROW",
		"SELECT @@binlog_row_image":                                 "FULL",
		"SELECT @@binlog_row_metadata":                              "FULL",
		"SELECT @@character_set_server":                             "utf8mb4",
		"SELECT TIMESTAMPDIFF(HOUR, UTC_TIMESTAMP, NOW())":          "0",
		"SELECT COUNT(*) FROM mysql.user WHERE user = ''":           "0",
		"SELECT CURRENT_USER()":                                     "root@127.0.0.1",
		"SELECT SUM(n) FROM (SELECT 1.5 AS n UNION ALL SELECT 2) t": "3.5",
	} {
		if got, err := MySQLValue[string](t.Context(), s, query); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", query, got, err, want)
		}
	}
}

func withoutHistory(t *testing.T, a, b *MySQLServer) {
	if a.Port == b.Port {
		t.Fatalf("both on port %d", a.Port)
	}
	for _, s := range []*MySQLServer{a, b} {
		if set, err := s.Executed(t.Context()); err != nil || set != "" {
			t.Errorf("a new server has executed %q, %v", set, err)
		}
	}
	if a.Install.Flavour.MariaDB() {
		return // no server_uuid
	}
	uuids := map[string]bool{}
	for _, s := range []*MySQLServer{a, b} {
		uuid, err := MySQLValue[string](t.Context(), s, "SELECT @@server_uuid")
		if err != nil || uuids[uuid] {
			t.Errorf("server_uuid %q, %v; another has it", uuid, err)
		}
		uuids[uuid] = true
	}
}

func demandsPassword(t *testing.T, s *MySQLServer) {
	if want := fmt.Sprintf("mysql://root@127.0.0.1:%d/app", s.Port); s.DSN("") != want {
		t.Errorf("DSN %s, want %s", s.DSN(""), want)
	}
	ExecT(t, s, "SELECT 1")
	right := s.password
	s.password = "wrong"
	if err := s.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a wrong password was accepted")
	}
	s.password = right
}

// keepsItsData is about tables and binlog, which must tell the same after kill -9, or each test that kills would find
// divergences of our making.
func keepsItsData(t *testing.T, s *MySQLServer) {
	ExecT(t, s, "CREATE TABLE t (id INT PRIMARY KEY)")
	for n, end := range []struct {
		name string
		stop func() error
		conf map[string]string
	}{
		{"kill", s.Kill, nil},
		{"none", func() error { return nil }, map[string]string{"max_connections": "44"}}, // the restart stops it
	} {
		var inserts []string
		for row := range 50 {
			inserts = append(inserts, fmt.Sprintf("INSERT INTO t VALUES (%d)", 50*n+row))
		}
		ExecT(t, s, inserts...)
		before, err := s.Executed(t.Context())
		if err := errors.Join(err, end.stop()); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if end.name != "none" && s.Running() {
			t.Fatalf("%s: still runs", end.name)
		}
		if err := s.RestartWith(t.Context(), end.conf); err != nil {
			t.Fatalf("%s: restart: %v", end.name, err)
		}
		if rows, err := MySQLValue[int64](t.Context(), s, "SELECT COUNT(*) FROM t"); err != nil || rows != int64(50*(n+1)) {
			t.Errorf("%s: %d rows, %v; want %d", end.name, rows, err, 50*(n+1))
		}
		if after, err := s.Executed(t.Context()); err != nil || after != before {
			t.Errorf("%s: executed %q, %v; before it was %q", end.name, after, err, before)
		}
	}
	if n, err := MySQLValue[uint64](t.Context(), s, "SELECT @@max_connections"); err != nil || n != 44 {
		t.Errorf("max_connections %d, %v; want 44", n, err)
	}
}

func leavesNothing(t *testing.T, s *MySQLServer) {
	t.Helper()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if alive(s.process.pid) {
		t.Errorf("process %d is left: %v", s.process.pid, stat(s.process.pid))
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", s.dir, err)
	}
}

func TestSeveralMySQLStatementsInOneStringAllRunOrTellTheirError(t *testing.T) {
	eachFlavour(t, func(t *testing.T, install MySQLInstall) {
		s := StartMySQLT(t, install, Options{Database: "app", Reuse: true})
		ExecT(t, s, "CREATE TABLE t (id INT PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)")
		ids, err := MySQLRows[int64](t.Context(), s, "SELECT id FROM t WHERE id > ? ORDER BY id", 1)
		if err != nil || len(ids) != 2 || ids[0] != 2 {
			t.Errorf("ids %v, %v; want 2 and 3", ids, err)
		}
		if err := s.Exec(t.Context(), "INSERT INTO t VALUES (4, ''); INSERT INTO t VALUES (1, ''); INSERT INTO t VALUES (5, '')"); err == nil {
			t.Error("a duplicate key in the second statement of a string was not told")
		}
		if n, err := MySQLValue[int64](t.Context(), s, "SELECT COUNT(*) FROM t"); err != nil || n != 4 {
			t.Errorf("%d rows, %v; want 4: what precedes the error stays", n, err)
		}
		for _, bad := range []string{"SELECT name FROM t WHERE id = 3", "SELECT name FROM t", "SELECT id, name FROM t WHERE id = 1", "SELEKT"} {
			if got, err := MySQLValue[string](t.Context(), s, bad); err == nil {
				t.Errorf("%s: got %q, want an error", bad, got)
			}
		}
		if names, err := s.Show(t.Context(), "SELECT id, name FROM t WHERE id IN (1, 3) ORDER BY id"); err != nil ||
			fmt.Sprint(names) != "[map[id:1 name:a] map[id:3]]" {
			t.Errorf("rows %v, %v", names, err)
		}
	})
}

func TestContextEndsAMySQLStatement(t *testing.T) {
	s := StartMySQLT(t, NeedMySQL(t, MariaDB1011), again)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- s.Exec(ctx, "SELECT SLEEP(3600)") }()
	err := WaitFor(t.Context(), "the statement to run", func(ctx context.Context) (bool, error) {
		return MySQLValue[bool](ctx, s, "SELECT COUNT(*) > 0 FROM information_schema.processlist WHERE state = 'User sleep'")
	})
	cancel()
	if err := errors.Join(err, <-answer); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want the context's end", err)
	}
}

// TestCloseLeavesNothingOfMySQLBehind is about the flavour that starts soon; what ends both is the same.
func TestCloseLeavesNothingOfMySQLBehind(t *testing.T) {
	for _, state := range []string{"running", "killed"} { // paused and stopped ones: TestNewMySQLServers
		s := StartMySQLT(t, NeedMySQL(t, MariaDB1011), Options{})
		if state == "killed" {
			fatal(t, s.Kill())
		}
		leavesNothing(t, s)
	}
}

// TestMySQLDiesWithTheProcessThatStartedIt runs itself once more as the process that is killed, with a paused server.
func TestMySQLDiesWithTheProcessThatStartedIt(t *testing.T) {
	flavour := MariaDB1011 // which starts soon
	if Soaking() {
		flavour = MySQL97
	}
	if below := os.Getenv("DBTEST_MYSQL_VICTIM"); below != "" {
		s, err := StartMySQL(t.Context(), NeedMySQL(t, flavour), Options{Below: below})
		if err := errors.Join(err, s.Pause()); err != nil {
			t.Fatal(err)
		}
		fmt.Println("server", s.process.pid)
		select {}
	}
	NeedMySQL(t, flavour)
	dir := scratch(t)
	victim := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	victim.Env = append(os.Environ(), "DBTEST_MYSQL_VICTIM="+dir)
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscanf(out, "server %d\n", &pid)
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // says that it was killed
	if scanErr != nil {
		t.Fatalf("the process told of no server: %v", scanErr)
	}
	if err := WaitFor(t.Context(), "the orphaned server to end", func(context.Context) (bool, error) { return !alive(pid), nil }); err != nil {
		t.Error(err)
	}
}

// scratch is a folder in which servers may run, and which the test removes.
func scratch(t *testing.T) string {
	t.Helper()
	who, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := newDir(MemoryDir(), who)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestLockstepAccountMayReadAndTailAndNothingElse(t *testing.T) {
	eachFlavour(t, func(t *testing.T, install MySQLInstall) {
		s := StartMySQLT(t, install, Options{Database: "app", Reuse: true})
		ExecT(t, s, "CREATE TABLE t (id INT PRIMARY KEY)")
		before, err := s.Executed(t.Context())
		if err := errors.Join(err, s.GrantLockstep(t.Context(), "secret")); err != nil {
			t.Fatal(err)
		}
		if after, err := s.Executed(t.Context()); err != nil || after != before {
			t.Errorf("the grant is in the binlog: %q, %v, before %q", after, err, before)
		}
		conn, err := client.Connect(s.address(), LockstepUser, "secret", "app")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, allowed := range []string{"SELECT * FROM t", s.dialect().status, "SHOW BINARY LOGS", s.dialect().executed, "SELECT * FROM mysql.gtid_" + map[bool]string{true: "slave_pos", false: "executed"}[install.Flavour.MariaDB()]} {
			if _, err := conn.Execute(allowed); err != nil {
				t.Errorf("%s: %v", allowed, err)
			}
		}
		for _, denied := range []string{"INSERT INTO t VALUES (1)", "SET GLOBAL read_only = ON", "FLUSH TABLES WITH READ LOCK", "CREATE TABLE u (id INT)"} {
			refused := new(mysql.MyError)
			if _, err := conn.Execute(denied); !errors.As(err, &refused) {
				t.Errorf("%s: got %v, want a refusal", denied, err)
			}
		}
	})
}

func TestFailedMySQLStartShowsTheServersLog(t *testing.T) {
	_, err := StartMySQL(t.Context(), NeedMySQL(t, MariaDB1011), Options{Below: MemoryDir(), Conf: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v; want the log's line that names no_such_setting", err)
	}
}

func TestGivenFolderOfMySQLIsKeptAndNotUsedTwice(t *testing.T) {
	install := NeedMySQL(t, MariaDB1011)
	dir := filepath.Join(scratch(t), strings.Repeat("long", 40)) // longer than a socket's path may be
	s := StartMySQLT(t, install, Options{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.data()); err != nil {
		t.Errorf("Close removed a folder that it was given: %v", err)
	}
	if _, err := StartMySQL(t.Context(), install, Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a used folder was taken: %v", err)
	}
}

func TestUnknownFlavourNamesTheKnownOnes(t *testing.T) {
	if _, err := FindMySQL(""); err == nil || !strings.Contains(err.Error(), string(MySQL97)) {
		t.Errorf("got %v", err)
	}
}
