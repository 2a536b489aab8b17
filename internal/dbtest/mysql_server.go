package dbtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"syscall"
)

// mysqlRoot is the account of Exec and Conn; replicator is the one that replicas log in as, without a password.
const (
	mysqlRoot  = "root"
	replicator = "replicator"
)

// MySQLServer is one server of MySQL or MariaDB with GTIDs and a binlog of full rows. Its methods may be called from one
// goroutine at a time, those of mysql_sql.go from many.
type MySQLServer struct {
	Install  MySQLInstall
	Database string
	Port     int

	conf     map[string]string // the caller's settings, and read_only of a replica
	password string
	fresh    map[string]string // the server's own settings when it was started, if it may be used again
	daemon
}

// StartMySQL makes a data directory, starts a server on it, and returns when it accepts connections. o.Conf overrides the
// settings of mysqlBaseline; names are written with underscores. Nothing that was done so far is in the binlog.
func StartMySQL(ctx context.Context, install MySQLInstall, o Options) (*MySQLServer, error) {
	if o.Reuse {
		if s, err := reusedMySQL(ctx, install, o); s != nil {
			return s, err
		}
	}
	d, err := newDaemon(install.share(""), o)
	if err != nil {
		return nil, err
	}
	s := &MySQLServer{Install: install, Database: o.Database, conf: maps.Clone(o.Conf), daemon: d}
	if s.conf == nil {
		s.conf = map[string]string{}
	}
	if o.Reuse {
		s.kind = o.kindOf(install.Flavour.String())
	}
	err = newMySQL(ctx, install, s.who, s.data())
	if err == nil {
		err = s.begin(ctx)
	}
	if err == nil {
		err = s.furnish(ctx, o.Password)
	}
	if err == nil && o.Reuse {
		s.fresh, err = s.variables(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin starts the first process; another one may take the port that was found free, then the next is tried.
func (s *MySQLServer) begin(ctx context.Context) error {
	const tries = 5
	var err error
	for range tries {
		if s.Port, err = freePort(); err != nil {
			return err
		}
		if err = s.launch(ctx); err == nil || !strings.Contains(s.Log(), "Address already in use") {
			return err
		}
	}
	return fmt.Errorf("no free port in %d tries: %w", tries, err)
}

// launch runs the server and waits until it accepts connections. It dies by SIGKILL when we end: unlike PostgreSQL it
// leaves nothing outside its folder, and a paused one would not heed anything else.
func (s *MySQLServer) launch(ctx context.Context) error {
	command := s.Install.command(arguments(s.settings())...)
	if err := s.run(syscall.SIGKILL, command[0], command[1:]...); err != nil {
		return err
	}
	if err := WaitFor(ctx, "the server to accept connections", s.ready); err != nil {
		return errors.Join(fmt.Errorf("%v on port %d: %w\n%s", s.Install.Flavour, s.Port, err, s.logTail(20)), s.Kill())
	}
	return nil
}

// ready connects, and asks for the data directory: somebody else's server may have the port.
func (s *MySQLServer) ready(ctx context.Context) (bool, error) {
	if !s.Running() {
		return false, fmt.Errorf("the server ended: %w", s.process.exit)
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return false, ctx.Err() // not yet
	}
	defer conn.Close()
	answer, err := conn.Execute("SELECT @@datadir")
	if err != nil {
		return false, nil
	}
	at, err := answer.GetString(0, 0)
	return err == nil && strings.TrimSuffix(at, "/") == s.data(), nil
}

// furnish makes the replicas' account and the database, on each server for itself: with GTIDs of its own a member would
// differ from the others before anything happened.
func (s *MySQLServer) furnish(ctx context.Context, password string) error {
	statements := []string{
		"SET sql_log_bin = 0",
		fmt.Sprintf("CREATE USER %s@'127.0.0.1'", replicator),
		fmt.Sprintf("GRANT REPLICATION SLAVE ON *.* TO %s@'127.0.0.1'", replicator),
	}
	if s.Database != "" {
		statements = append(statements, "CREATE DATABASE "+quoteName(s.Database))
	}
	if password != "" {
		statements = append(statements, fmt.Sprintf("ALTER USER %s@'127.0.0.1' IDENTIFIED BY %s", mysqlRoot, quoteText(password)))
	}
	err := s.session(ctx, "", statements...)
	s.password = password
	return err
}

// Stop ends the server in order. Replicas need not have received everything.
func (s *MySQLServer) Stop(ctx context.Context) error {
	if !s.Running() {
		return nil
	}
	if err := errors.Join(s.process.thaw(), s.process.signal(syscall.SIGTERM)); err != nil {
		return err
	}
	if err := s.process.wait(ctx); err != nil {
		return fmt.Errorf("stop of %v on port %d: %w\n%s", s.Install.Flavour, s.Port, err, s.logTail(10))
	}
	return nil
}

// Restart starts the server again on its port, after an orderly stop if it still runs. A replica goes on replicating.
func (s *MySQLServer) Restart(ctx context.Context) error { return s.RestartWith(ctx, nil) }

// RestartWith is Restart with settings over those that the server has; they stay for later restarts.
func (s *MySQLServer) RestartWith(ctx context.Context, conf map[string]string) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	maps.Copy(s.conf, conf)
	if conf != nil {
		s.Spoil()
	}
	return s.launch(ctx)
}

// Keep is [Server.Keep].
func (s *MySQLServer) Keep() (putBack func(context.Context) error, err error) {
	restore, err := s.keep()
	return func(ctx context.Context) error {
		if err := errors.Join(s.Kill(), restore()); err != nil {
			return err
		}
		return s.launch(ctx)
	}, err
}

// Close kills the server and removes its folder if StartMySQL made it. It may be called twice.
func (s *MySQLServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.giveBack(ctx) {
		return nil
	}
	err := s.Kill()
	if s.temporary {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}
