package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// Prepare implements [cdc.Source]. These servers keep their log without being asked to.
func (s *Source) Prepare(ctx context.Context, from cdc.Position) (cdc.Position, error) {
	start := from
	err := s.ask(ctx, func(ctx context.Context, c *session) error {
		logs, err := c.fit(ctx)
		s.mute.Store(err == nil && !logs)
		if err != nil {
			return err
		}
		started, err := c.startOfServer(ctx)
		if err != nil {
			return err
		}
		var mark logMark
		if from.LSN != 0 {
			mark, err = parseMark(from.Mark), s.continues(ctx, c, from)
		} else {
			start, mark, err = s.now(ctx, c)
		}
		mark.started = started
		start.Mark = mark.String()
		return err
	})
	return start, err
}

// now is where a first start begins.
func (s *Source) now(ctx context.Context, c *session) (start cdc.Position, mark logMark, err error) {
	if c.version.mariadb {
		start, err = c.mariadbNow(ctx)
	} else {
		start, err = c.mysqlNow(ctx)
	}
	if err == nil {
		mark, err = s.firstMark(ctx, c, start.LSN)
	}
	return start, mark, err
}

// fit checks that the log shows what we need, and reports whether it would show what the server replays.
func (c *session) fit(ctx context.Context) (logs bool, err error) {
	settings, err := readSettings(ctx, c)
	if err != nil {
		return false, err
	}
	for _, check := range judgeLog(c.version, settings) {
		if check.State == preflight.Fail {
			return false, &cdc.SetupError{
				Problem: check.Subject + " is " + check.Detail, Hint: strings.TrimSpace(check.SQL + " " + check.Hint),
				Unlogged: check.Subject == "log_bin",
			}
		}
	}
	if settings.on("log_slave_updates") || settings.on("log_replica_updates") {
		return true, nil
	}
	rows, err := c.query(ctx, c.version.replicaStatus())
	if err != nil {
		return false, c.missingRight(err, c.version.seeReplicas(), "*.*")
	}
	if len(rows) > 0 {
		return false, &cdc.SetupError{Problem: replaysUnlogged, Hint: logReplays, Unlogged: true}
	}
	return false, nil
}

const (
	replaysUnlogged = "it does not log what it replays as a replica"
	logReplays      = "set log_replica_updates = ON (log_slave_updates on MariaDB and before MySQL 8.0.26) in its configuration and restart it"
)

// mysqlNow is where a first start begins. All that ended in earlier files is in gtid_executed, which lags behind the end
// of the file by what is just being committed.
func (c *session) mysqlNow(ctx context.Context) (cdc.Position, error) {
	status, err := readLogStatus(ctx, c)
	if err != nil {
		return cdc.Position{}, err
	}
	at, err := position(status.text("File"), startOfFile)
	if err != nil {
		return cdc.Position{}, err
	}
	shown, err := c.readSet(ctx, "SELECT @@GLOBAL.gtid_executed")
	return cdc.Position{LSN: at, Shown: shown}, err
}

// tries is how often the state of a busy log is read until it is clear to which place it belongs.
const tries = 50

var errBusyLog = errors.New("several servers write to one GTID domain so fast that the state of the log cannot be read")

// mariadbNow is where a first start begins. The server tells its log's state and its end one after the other, and from a
// place the last transaction of each domain. If between two looks at the state in no domain more than one server's number
// moved, that is all there is to know.
func (c *session) mariadbNow(ctx context.Context) (cdc.Position, error) {
	for range tries {
		before, err := c.binlogState(ctx)
		if err != nil {
			return cdc.Position{}, err
		}
		status, err := readLogStatus(ctx, c)
		if err != nil {
			return cdc.Position{}, err
		}
		after, err := c.binlogState(ctx)
		if err != nil {
			return cdc.Position{}, err
		}
		if !oneEach(before, after) {
			continue
		}
		at, err := logPlace(status.text("File"), status.text("Position"))
		if err != nil {
			return cdc.Position{}, err
		}
		last, known, err := c.lastAt(ctx, status.text("File"), at)
		if err != nil {
			return cdc.Position{}, err
		}
		if !known { // it was purged just now, or is too far in a huge file
			continue
		}
		shown, err := cdc.ParseTxSet(strings.Join(before, ","))
		shown.AddSet(last)
		return cdc.Position{LSN: at, Shown: shown, Last: last}, err
	}
	return cdc.Position{}, errBusyLog
}

// binlogState is the last id of each server in each domain.
func (c *session) binlogState(ctx context.Context) ([]string, error) {
	state, err := c.one(ctx, "SELECT @@GLOBAL.gtid_binlog_state", 1)
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(state.at(0), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }), nil
}

// oneEach reports whether of each domain no more than one id differs.
func oneEach(before, after []string) bool {
	same := map[string]bool{}
	for _, id := range before {
		same[id] = true
	}
	changed := map[string]bool{}
	for _, id := range after {
		domain, _, _ := strings.Cut(id, "-")
		if !same[id] && changed[domain] {
			return false
		}
		changed[domain] = changed[domain] || !same[id]
	}
	return true
}

// lastAt is the last transaction of each domain before a place in MariaDB's log. It is not known of a file that is gone.
func (c *session) lastAt(ctx context.Context, file string, at cdc.LSN) (last cdc.TxSet, known bool, err error) {
	_, offset := fileAndOffset(at)
	set, err := c.one(ctx, fmt.Sprintf("SELECT COALESCE(BINLOG_GTID_POS(%s, %d), 'NULL')", quoteText(file), offset), 1)
	if err != nil || set.at(0) == "NULL" {
		return cdc.TxSet{}, false, err
	}
	last, err = cdc.ParseTxSet(set.at(0))
	return last, true, err
}

func (c *session) readSet(ctx context.Context, query string) (cdc.TxSet, error) {
	set, err := c.one(ctx, query, 1)
	if err != nil {
		return cdc.TxSet{}, err
	}
	return cdc.ParseTxSet(set.at(0))
}

const keepLog = "raise binlog_expire_logs_seconds above the longest time that lockstep may be away"

const keepHistory = "keep the log of a server that is watched: no RESET BINARY LOGS AND GTIDS, RESET MASTER, or restoring in place"

// continues checks that the server still has the log that was read up to from.
func (s *Source) continues(ctx context.Context, c *session, from cdc.Position) error {
	status, err := readLogStatus(ctx, c)
	if err != nil {
		return err
	}
	end, err := logPlace(status.text("File"), status.text("Position"))
	if err != nil {
		return err
	}
	if end < from.LSN {
		return &cdc.GapError{Reason: fmt.Sprintf("the log ends at %v, before %v up to where lockstep has read it", end, from.LSN), Hint: keepHistory}
	}
	state := "SELECT @@GLOBAL.gtid_executed"
	if c.version.mariadb {
		state = "SELECT @@GLOBAL.gtid_binlog_state"
	}
	has, err := c.readSet(ctx, state)
	if err != nil {
		return err
	}
	if !has.Covers(from.Shown) {
		return &cdc.GapError{
			Reason: fmt.Sprintf("the server has lost transactions that it had shown (%v)", from.Shown.Without(has)), Hint: keepHistory,
		}
	}
	if !c.version.mariadb { // which says so when it is asked for what comes after
		purged, err := c.readSet(ctx, "SELECT @@GLOBAL.gtid_purged")
		if err != nil {
			return err
		}
		if !afterWhat(from).Covers(purged) {
			return &cdc.GapError{Reason: fmt.Sprintf("the log after %v was purged", from.LSN), Hint: keepLog}
		}
	}
	return s.unchanged(ctx, c, status.text("File"), parseMark(from.Mark))
}
