package dbtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// dialect is what MySQL 8.4 and MariaDB call by different names.
type dialect struct{ start, stop, reset, status, executed, io, sql string }

func (s *MySQLServer) dialect() dialect {
	if s.Install.Flavour.MariaDB() {
		return dialect{
			start: "START SLAVE", stop: "STOP SLAVE", reset: "RESET SLAVE ALL", status: "SHOW SLAVE STATUS",
			executed: "SELECT @@GLOBAL.gtid_binlog_pos", io: "Slave_IO_Running", sql: "Slave_SQL_Running",
		}
	}
	return dialect{
		start: "START REPLICA", stop: "STOP REPLICA", reset: "RESET REPLICA ALL", status: "SHOW REPLICA STATUS",
		executed: "SELECT @@GLOBAL.gtid_executed", io: "Replica_IO_Running", sql: "Replica_SQL_Running",
	}
}

// Executed is what the server's binlog holds: on MySQL gtid_executed, a set; on MariaDB gtid_binlog_pos, the last GTID of
// each domain.
func (s *MySQLServer) Executed(ctx context.Context) (string, error) {
	set, err := MySQLValue[string](ctx, s, s.dialect().executed)
	return strings.ReplaceAll(set, "\n", ""), err
}

// Follow makes s a replica of primary by GTID, with read_only on, which root may overrule, and returns when it receives and
// applies. On MariaDB a server that follows nobody begins after what its own binlog holds; one that follows another
// already goes on after what it has applied.
func (s *MySQLServer) Follow(ctx context.Context, primary *MySQLServer) error {
	status, err := s.replication(ctx)
	if err != nil {
		return err
	}
	statements := []string{s.dialect().stop}
	if s.Install.Flavour.MariaDB() {
		if status == nil {
			statements = append(statements, "SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos")
		}
		statements = append(statements, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = '%s', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos", primary.Port, replicator))
	} else {
		statements = append(statements, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = %d, SOURCE_USER = '%s', SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 86400, SOURCE_AUTO_POSITION = 1", primary.Port, replicator))
	}
	if err := s.Exec(ctx, append(statements, "SET GLOBAL read_only = ON", s.dialect().start)...); err != nil {
		return err
	}
	s.conf["read_only"] = "ON" // and after a restart
	return s.WaitReplicating(ctx)
}

// Unfollow makes a replica a server that follows nobody and may be written to.
func (s *MySQLServer) Unfollow(ctx context.Context) error {
	s.conf["read_only"] = "OFF"
	return s.Exec(ctx, s.dialect().stop, s.dialect().reset, "SET GLOBAL read_only = OFF")
}

// replication is the one row of SHOW REPLICA STATUS; nil if the server follows nobody.
func (s *MySQLServer) replication(ctx context.Context) (map[string]string, error) {
	rows, err := s.Show(ctx, s.dialect().status)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// WaitReplicating waits until the replica receives and applies.
func (s *MySQLServer) WaitReplicating(ctx context.Context) error {
	return s.waitFor(ctx, "the replica to receive and apply", func(status map[string]string) (bool, error) {
		return status[s.dialect().io] == "Yes" && status[s.dialect().sql] == "Yes", nil
	})
}

// waitFor ends early when the replica's applier has failed: nothing but a human starts it again. What the receiver
// complains of may pass by itself, and is told only if the wait was in vain.
func (s *MySQLServer) waitFor(ctx context.Context, what string, met func(status map[string]string) (bool, error)) error {
	var complaint string
	err := WaitFor(ctx, what, func(ctx context.Context) (bool, error) {
		status, err := s.replication(ctx)
		if err != nil {
			return false, err
		}
		if failed := status["Last_SQL_Error"]; failed != "" {
			return false, fmt.Errorf("the applier on port %d stopped: %s", s.Port, failed)
		}
		complaint = status["Last_IO_Error"]
		return met(status)
	})
	if err != nil && complaint != "" {
		err = fmt.Errorf("%w; the receiver on port %d says: %s", err, s.Port, complaint)
	}
	return err
}

// WaitReplayed waits until the replica has applied all that primary had committed when it was called.
func (s *MySQLServer) WaitReplayed(ctx context.Context, primary *MySQLServer) error {
	position, err := primary.Executed(ctx)
	if err != nil {
		return err
	}
	return s.waitFor(ctx, fmt.Sprintf("port %d to replay %q", s.Port, position), func(map[string]string) (bool, error) {
		return s.has(ctx, position)
	})
}

// has asks for a position of the primary's. MASTER_GTID_WAIT is 0 when it is reached and -1 when the time, here none, is over.
func (s *MySQLServer) has(ctx context.Context, position string) (bool, error) {
	if s.Install.Flavour.MariaDB() {
		return MySQLValue[bool](ctx, s, "SELECT MASTER_GTID_WAIT("+quoteText(position)+", 0) = 0")
	}
	return MySQLValue[bool](ctx, s, "SELECT GTID_SUBSET("+quoteText(position)+", @@GLOBAL.gtid_executed)")
}

// StopApplier stops the replica's SQL thread: it still receives, and applies nothing.
func (s *MySQLServer) StopApplier(ctx context.Context) error {
	return s.Exec(ctx, s.dialect().stop+" SQL_THREAD")
}

// StartApplier starts the SQL thread again.
func (s *MySQLServer) StartApplier(ctx context.Context) error {
	return s.Exec(ctx, s.dialect().start+" SQL_THREAD")
}

// SkipNext makes the replica pass over the first transaction of primary that it has not applied, as an operator does: on
// MySQL by an empty transaction with its GTID, which the replica's binlog then shows; on MariaDB by
// sql_slave_skip_counter, after which the replica's binlog has no trace of it. Call it with the applier stopped before
// that transaction was written; on return the applier runs and the transaction is passed.
func (s *MySQLServer) SkipNext(ctx context.Context, primary *MySQLServer) error {
	position, err := primary.Executed(ctx)
	if err != nil {
		return err
	}
	done, err := s.has(ctx, position)
	if err != nil {
		return err
	}
	if done {
		return fmt.Errorf("port %d has nothing to skip: it has applied %q", s.Port, position)
	}
	if s.Install.Flavour.MariaDB() {
		return s.skipByCounter(ctx)
	}
	return s.skipByEmptyTransaction(ctx, primary, position)
}

func (s *MySQLServer) skipByCounter(ctx context.Context) error {
	if err := s.Exec(ctx, s.dialect().stop+" SQL_THREAD", "SET GLOBAL sql_slave_skip_counter = 1", s.dialect().start+" SQL_THREAD"); err != nil {
		return err
	}
	return s.waitFor(ctx, "the replica to skip a transaction", func(map[string]string) (bool, error) {
		return MySQLValue[bool](ctx, s, "SELECT @@GLOBAL.sql_slave_skip_counter = 0")
	})
}

func (s *MySQLServer) skipByEmptyTransaction(ctx context.Context, primary *MySQLServer, position string) error {
	pending, err := MySQLValue[string](ctx, s, "SELECT GTID_SUBTRACT("+quoteText(position)+", @@GLOBAL.gtid_executed)")
	if err != nil {
		return err
	}
	author, err := MySQLValue[string](ctx, primary, "SELECT @@GLOBAL.server_uuid")
	if err != nil {
		return err
	}
	next, err := firstOf(pending, author)
	if err != nil {
		return err
	}
	return s.Exec(ctx, s.dialect().stop+" SQL_THREAD", "SET gtid_next = "+quoteText(next), "BEGIN", "COMMIT",
		"SET gtid_next = 'AUTOMATIC'", s.dialect().start+" SQL_THREAD")
}

// firstOf is the author's first transaction in a set, which reads uuid:5-7:9,uuid:3. One with a tag is not looked for.
func firstOf(set, author string) (string, error) {
	for part := range strings.SplitSeq(set, ",") {
		uuid, intervals, _ := strings.Cut(strings.TrimSpace(part), ":")
		first, _, _ := strings.Cut(strings.SplitN(intervals, ":", 2)[0], "-")
		if _, err := strconv.ParseUint(first, 10, 64); err == nil && strings.EqualFold(uuid, author) {
			return uuid + ":" + first, nil
		}
	}
	return "", fmt.Errorf("%q has nothing of %s; which transaction comes next cannot be told", set, author)
}

// PurgeBinlogs begins a new binlog and removes all older ones, so that nobody can read them any more. It waits for the
// dump threads that still read an older one: the server keeps what is being read.
func (s *MySQLServer) PurgeBinlogs(ctx context.Context) error {
	if err := s.Exec(ctx, "FLUSH BINARY LOGS"); err != nil {
		return err
	}
	return WaitFor(ctx, fmt.Sprintf("port %d to purge its binlogs", s.Port), func(ctx context.Context) (bool, error) {
		logs, err := s.Show(ctx, "SHOW BINARY LOGS")
		if err != nil || len(logs) == 1 {
			return len(logs) == 1, err
		}
		if len(logs) == 0 {
			return false, errors.New("the server has no binlog")
		}
		return false, s.Exec(ctx, "PURGE BINARY LOGS TO "+quoteText(logs[len(logs)-1]["Log_name"]))
	})
}

// KillDumpThreads cuts off all that read the server's binlog, replicas and monitors alike, and says how many there were.
func (s *MySQLServer) KillDumpThreads(ctx context.Context) (int, error) {
	sessions, err := s.Show(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return 0, err
	}
	sessions = slices.DeleteFunc(sessions, func(session map[string]string) bool {
		return !strings.HasPrefix(session["Command"], "Binlog Dump")
	})
	for _, session := range sessions {
		err := s.Exec(ctx, "KILL "+session["Id"])
		if refused := new(mysql.MyError); err != nil && !(errors.As(err, &refused) && refused.Code == mysql.ER_NO_SUCH_THREAD) {
			return 0, err
		}
	}
	return len(sessions), nil
}
