package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// each runs a test with every version that we must work with, if not in `make soak` then with one: what tests of sources,
// the command and the daemon do with servers of the others shows whether these can be started.
func each(t *testing.T, test func(t *testing.T, install Install)) {
	versions := []Version{PG18}
	if Soaking() {
		versions = append(versions, PG15)
	}
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, Need(t, v))
		})
	}
}

// again are the options of servers that need not be new, nor be gone in the end.
var again = Options{Reuse: true}

// TestNewServers has two servers.
func TestNewServers(t *testing.T) {
	each(t, func(t *testing.T, install Install) {
		a := StartT(t, install, Options{Database: "it's", Conf: map[string]string{"cluster_name": "o'brien"}})
		b := StartT(t, install, Options{})
		t.Run("answer with their version and settings", func(t *testing.T) { serverAnswers(t, a) })
		t.Run("have identifiers of their own", func(t *testing.T) {
			if a.Port == b.Port {
				t.Fatalf("both on port %d", a.Port)
			}
			if identifier(t, a) == identifier(t, b) {
				t.Errorf("both are system %d", identifier(t, a))
			}
		})
		t.Run("keep their data over kill and restart", func(t *testing.T) { serverKeepsItsData(t, b) })
		t.Run("are put back to an older state", func(t *testing.T) { serverIsPutBack(t, a) })
	})
}

func serverAnswers(t *testing.T, s *Server) {
	for query, want := range map[string]string{
		"SELECT current_setting('server_version_num')::int / 10000 || ''": strconv.Itoa(int(s.Install.Version)),
		"SELECT current_database()":                                       "it's",
		"SELECT current_setting('wal_level')":                             "logical",
		"SELECT current_setting('cluster_name')":                          "o'brien",
		"SELECT current_setting('listen_addresses')":                      "127.0.0.1",
		"SELECT current_setting('server_encoding')":                       "UTF8",
		"SELECT current_setting('fsync')":                                 "off",
		"SELECT inet_server_addr()::inet::text":                           "127.0.0.1/32",
		"SELECT count(*)::text FROM pg_stat_wal WHERE 1 = 1":              "1",
	} {
		if got, err := Value[string](t.Context(), s, query); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", query, got, err, want)
		}
	}
}

func identifier(t *testing.T, s *Server) int64 {
	t.Helper()
	id, err := Value[int64](t.Context(), s, "SELECT system_identifier FROM pg_control_system()")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func serverKeepsItsData(t *testing.T, s *Server) {
	ExecT(t, s, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "ALTER SYSTEM SET work_mem = '5MB'")
	end := map[string]func() error{
		"kill":      s.Kill,
		"immediate": func() error { return s.StopImmediate(t.Context()) },
		"none":      func() error { return nil }, // the restart stops it
	}
	for name, stop := range end {
		if err := stop(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name != "none" && s.Running() {
			t.Fatalf("%s: still runs", name)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatalf("%s: restart: %v", name, err)
		}
		if n, err := Value[int64](t.Context(), s, "SELECT count(*) FROM t"); err != nil || n != 1 {
			t.Errorf("%s: %d rows, %v; want 1", name, n, err)
		}
	}
	if mem, err := Value[string](t.Context(), s, "SHOW work_mem"); err != nil || mem != "5MB" {
		t.Errorf("work_mem %q, %v; want 5MB", mem, err)
	}
}

func TestPausedServerAnswersNobodyUntilItResumes(t *testing.T) {
	s := StartT(t, Need(t, PG15), again)
	conn, err := s.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	answer := make(chan error, 1)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	children, err := childrenOf(s.process.pid)
	if err != nil || len(children) < 3 {
		t.Fatalf("children %v, %v", children, err)
	}
	for _, pid := range append(children, s.process.pid) {
		waitForState(t, pid, "T")
	}
	go func() { _, err := conn.Exec(context.Background(), "SELECT 1"); answer <- err }()
	select {
	case err := <-answer:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

func waitForState(t *testing.T, pid int, want string) {
	t.Helper()
	err := WaitFor(t.Context(), "process state "+want, func(context.Context) (bool, error) {
		fields := stat(pid)
		return len(fields) > 0 && fields[0] == want, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	install := Need(t, PG15)
	for _, state := range []string{"running", "paused", "killed", "stopped"} {
		s := StartT(t, install, Options{})
		processes, err := childrenOf(s.process.pid)
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, s.process.pid)
		segment := strings.Fields(strings.Split(s.pidFile(), "\n")[6])[1]
		switch state {
		case "paused":
			err = s.Pause()
		case "killed":
			err = s.Kill()
		case "stopped":
			err = s.Stop(t.Context())
		}
		if err := errors.Join(err, s.Close(), s.Close()); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		if i := slices.IndexFunc(processes, alive); i >= 0 {
			t.Errorf("%s: process %d is left: %v", state, processes[i], stat(processes[i]))
		}
		if shared, err := os.ReadFile("/proc/sysvipc/shm"); err != nil || slices.Contains(strings.Fields(string(shared)), segment) {
			t.Errorf("%s: shared memory %s is left, %v", state, segment, err)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("%s: %s is left: %v", state, s.dir, err)
		}
	}
}

// TestServerDiesWithTheProcessThatStartedIt runs itself once more as the process that is killed.
func TestServerDiesWithTheProcessThatStartedIt(t *testing.T) {
	if os.Getenv("DBTEST_VICTIM") != "" {
		s, err := Start(t.Context(), Need(t, PG15), Options{Below: os.Getenv("DBTEST_VICTIM")})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("postmaster", s.process.pid)
		select {}
	}
	Need(t, PG15)
	who, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := newDir(MemoryDir(), who)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	victim := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	victim.Env = append(os.Environ(), "DBTEST_VICTIM="+dir)
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscanf(out, "postmaster %d\n", &pid)
	children, _ := childrenOf(pid)
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.Wait()
	if scanErr != nil || len(children) == 0 {
		t.Fatalf("the process told of no server: %v", scanErr)
	}
	err = WaitFor(t.Context(), "the orphaned server to end", func(context.Context) (bool, error) {
		return !slices.ContainsFunc(append(children, pid), alive), nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPasswordIsDemandedAndNotInTheDSN(t *testing.T) {
	s := StartT(t, Need(t, PG15), Options{Password: "corr3ct:horse@x"})
	if strings.Contains(s.DSN(""), "horse") {
		t.Errorf("DSN %s holds the password", s.DSN(""))
	}
	ExecT(t, s, "SELECT 1")
	s.password = "wrong"
	if err := s.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a wrong password was accepted")
	}
}

func TestFailedStartShowsTheServersLog(t *testing.T) {
	_, err := Start(t.Context(), Need(t, PG15), Options{Conf: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v; want the log's line that names no_such_setting", err)
	}
}

func TestGivenFolderIsKeptAndNotUsedTwice(t *testing.T) {
	install := Need(t, PG15)
	who, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := newDir("", who)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s := StartT(t, install, Options{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.data()); err != nil {
		t.Errorf("Close removed a folder that it was given: %v", err)
	}
	if _, err := Start(t.Context(), install, Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a used folder was taken: %v", err)
	}
}

func TestUnknownVersionSaysHowToInstall(t *testing.T) {
	if _, err := Find(7); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("got %v", err)
	}
}

func serverIsPutBack(t *testing.T, s *Server) {
	ExecT(t, s, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	if _, err := s.Keep(); err == nil {
		t.Error("the folder of a server that runs was kept")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	putBack, err := s.Keep()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	ExecT(t, s, "INSERT INTO t VALUES (2)")
	for range 2 {
		if err := putBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := Value[int64](t.Context(), s, "SELECT count(*) FROM t"); err != nil || n != 1 {
			t.Errorf("%d rows, %v; want 1", n, err)
		}
	}
}

func TestTransactionIDsThatHaveWrappedAround(t *testing.T) {
	install := Need(t, PG15)
	if !install.CanSetEpoch() {
		t.Skip("this build has no pg_resetwal")
	}
	s := StartT(t, install, Options{XIDEpoch: 3})
	ExecT(t, s, "CREATE TABLE t (id int PRIMARY KEY)")
	if epoch, err := Value[int64](t.Context(), s, "SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::numeric / 4294967296)::int8"); err != nil || epoch != 3 {
		t.Errorf("epoch %d, %v; want 3", epoch, err)
	}
}
