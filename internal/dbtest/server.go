package dbtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// superuser is the role that initdb makes; Exec and Rows connect as it.
const superuser = "postgres"

// Options of a server of any engine. The zero value is a server in a new temporary folder that trusts everybody on this machine.
type Options struct {
	Dir      string            // empty: a new folder, which Close removes; else it must hold no server yet and is kept
	Below    string            // where the new folder is made; empty: TMPDIR, in tests memory if it has room
	Conf     map[string]string // settings over those of baseline, value unquoted: {"max_slot_wal_keep_size": "64MB"}
	Database string            // made at the start and used by Exec, Rows and Conn; empty: "postgres", on MySQL none
	Password string            // of the superuser; set on PostgreSQL: everybody must prove a password by SCRAM
	Reuse    bool              // one of the same Conf that was closed will do, and this one is kept when it is closed: see Main. Without Dir, Password and XIDEpoch
	Zone     string            // TZ of the server's process, for what it does not tell by its own settings; empty: UTC
	XIDEpoch int               // on PostgreSQL: how many times transaction ids have wrapped around; see [Install.CanSetEpoch]
}

// baseline makes a server small, quick, and ready to be tailed. Nothing is synced to disk: kill -9 loses nothing, since
// the kernel keeps what was written; only a power cut would.
var baseline = map[string]string{
	"fsync":                           "off",
	"wal_level":                       "logical",
	"shared_buffers":                  "32MB",
	"max_connections":                 "60",
	"max_wal_senders":                 "20",
	"max_replication_slots":           "20",
	"max_worker_processes":            "16",
	"max_logical_replication_workers": "8",
	"wal_retrieve_retry_interval":     "200ms", // a subscription that lost its publisher tries again soon
	"wal_init_zero":                   "off",   // new files of its log are holes
	"autovacuum":                      "off",   // a process now and then for each of many databases
	"dynamic_shared_memory_type":      "mmap",  // inside the data directory: nothing stays behind after Kill
	"log_line_prefix":                 "%m [%p] %b %d ",
	"log_min_messages":                "info",
}

// Server is one PostgreSQL server. Its methods may be called from one goroutine at a time, those of sql.go from many.
type Server struct {
	Install  Install
	Database string
	Port     int

	password string
	sessions *sessions
	*daemon  // of all copies of the Server, each of which may name another Database
}

// Start makes a cluster, starts a server on it, and returns when it accepts connections.
func Start(ctx context.Context, install Install, o Options) (*Server, error) {
	if o.Reuse {
		if s, err := reused(ctx, install, o); s != nil {
			return s, err
		}
	}
	s, err := prepare(install, o)
	if err != nil {
		return nil, err
	}
	err = newCluster(ctx, install, s.who, s.data(), o)
	if err == nil {
		err = s.begin(ctx, o.Conf)
	}
	if err == nil && s.Database != superuser {
		err = s.createDatabase(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func prepare(install Install, o Options) (*Server, error) {
	if o.Database == "" {
		o.Database = superuser
	}
	d, err := newDaemon(install.Bin, o)
	if err != nil {
		return nil, err
	}
	if o.Reuse {
		d.kind = o.kindOf(install.Bin)
	}
	return &Server{Install: install, Database: o.Database, password: o.Password, sessions: new(sessions), daemon: &d}, nil
}

// begin starts the first process of a server. Between the look for a free port and the server's own bind another process
// may take it; then the next port is tried.
func (s *Server) begin(ctx context.Context, conf map[string]string) error {
	const tries = 5
	var err error
	for range tries {
		if s.Port, err = freePort(); err != nil {
			return err
		}
		if err = s.configure(conf); err != nil {
			return err
		}
		if err = s.launch(ctx); err == nil {
			return nil
		}
		if !strings.Contains(s.Log(), "Address already in use") {
			return err
		}
	}
	return fmt.Errorf("no free port in %d tries: %w", tries, err)
}

func (s *Server) configure(conf map[string]string) error {
	settings := maps.Clone(baseline)
	if s.Install.Version >= PG18 {
		settings["io_method"] = "sync" // no processes that read for others
	}
	maps.Copy(settings, conf)
	settings["listen_addresses"] = "127.0.0.1"
	settings["port"] = strconv.Itoa(s.Port)
	settings["unix_socket_directories"] = "" // loopback only: no limit on the length of a path, nothing outside dir
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	path := filepath.Join(s.data(), "postgresql.conf")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return s.who.own(path)
}

// launch runs postgres and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	// SIGQUIT is PostgreSQL's immediate shutdown: unlike SIGKILL it leaves no shared memory behind.
	if err := s.run(syscall.SIGQUIT, filepath.Join(s.Install.Bin, "postgres"), "-D", s.data()); err != nil {
		return err
	}
	if err := WaitFor(ctx, "the server to accept connections", s.ready); err != nil {
		return errors.Join(fmt.Errorf("%v on port %d: %w\n%s", s.Install.Version, s.Port, err, s.logTail(20)), s.Kill())
	}
	return nil
}

// ready reads postmaster.pid, whose first line is the process id and whose eighth the state (miscadmin.h).
func (s *Server) ready(context.Context) (bool, error) {
	if !s.Running() {
		return false, fmt.Errorf("the server ended: %w", s.process.exit)
	}
	lines := strings.Split(s.pidFile(), "\n")
	return len(lines) >= 8 && lines[0] == strconv.Itoa(s.process.pid) && strings.TrimSpace(lines[7]) == "ready", nil
}

// Stop ends the server in order: sessions are cut off, and as with any shutdown of a primary, those who replicate from it
// receive all of its WAL first. It therefore waits for them, as long as ctx does.
func (s *Server) Stop(ctx context.Context) error { return s.end(ctx, syscall.SIGINT) }

// StopImmediate ends the server without a checkpoint and without waiting for anybody; the next start recovers.
func (s *Server) StopImmediate(ctx context.Context) error { return s.end(ctx, syscall.SIGQUIT) }

func (s *Server) end(ctx context.Context, sig syscall.Signal) error {
	if !s.Running() {
		return nil
	}
	if err := errors.Join(s.process.thaw(), s.process.signal(sig)); err != nil {
		return err
	}
	if err := s.process.wait(ctx); err != nil {
		return fmt.Errorf("stop of %v on port %d: %w\n%s", s.Install.Version, s.Port, err, s.logTail(10))
	}
	return nil
}

// Restart starts the server again on its port, after an orderly stop if it still runs. ALTER SYSTEM takes effect.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Keep copies the data folder of a server that was stopped, as a snapshot of its disk would, and returns how to put the
// server back to it: that one stops the server if it runs, and starts it on the older state.
func (s *Server) Keep() (putBack func(context.Context) error, err error) {
	restore, err := s.keep()
	return func(ctx context.Context) error {
		if err := s.StopImmediate(ctx); err != nil {
			return err
		}
		if err := errors.Join(s.sweep(), restore()); err != nil {
			return err
		}
		return s.launch(ctx)
	}, err
}

// Close ends the server, at once, and removes its folder if Start made it. It may be called twice.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.giveBack(ctx) {
		return nil
	}
	s.sessions.close(ctx)
	err := s.StopImmediate(ctx)
	if err != nil {
		err = errors.Join(err, s.Kill())
	}
	if !s.Running() {
		err = errors.Join(err, s.sweep())
	}
	if s.temporary {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// sweep removes what a killed server could not: the small segment of shared memory by which two servers on one data
// directory notice each other. Its id is the second word of the seventh line of postmaster.pid, which an orderly end removes.
func (s *Server) sweep() error {
	lines := strings.Split(s.pidFile(), "\n")
	if s.process == nil || len(lines) < 7 || lines[0] != strconv.Itoa(s.process.pid) {
		return nil
	}
	words := strings.Fields(lines[6])
	if len(words) != 2 {
		return nil
	}
	id, err := strconv.Atoi(words[1])
	if err != nil {
		return nil
	}
	return removeSharedMemory(id)
}

// pidFile is the text of postmaster.pid; empty before the server writes it and after an orderly end.
func (s *Server) pidFile() string {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return ""
	}
	return string(text)
}
