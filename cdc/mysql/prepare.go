package mysql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
		switch {
		case err != nil:
			return err
		case from.LSN != 0:
			return c.continues(ctx, from)
		case c.version.mariadb:
			start, err = c.mariadbNow(ctx)
		default:
			start, err = c.mysqlNow(ctx)
		}
		return err
	})
	return start, err
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
	rows, err := c.query(ctx, "SELECT @@GLOBAL.gtid_binlog_state")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(rows[0].at(0), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }), nil
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
	rows, err := c.query(ctx, fmt.Sprintf("SELECT COALESCE(BINLOG_GTID_POS(%s, %d), 'NULL')", quoteText(file), offset))
	if err != nil || rows[0].at(0) == "NULL" {
		return cdc.TxSet{}, false, err
	}
	last, err = cdc.ParseTxSet(rows[0].at(0))
	return last, true, err
}

func (c *session) readSet(ctx context.Context, query string) (cdc.TxSet, error) {
	rows, err := c.query(ctx, query)
	if err != nil {
		return cdc.TxSet{}, err
	}
	return cdc.ParseTxSet(rows[0].at(0))
}

const keepHistory = "keep the log of a server that is watched: no RESET BINARY LOGS AND GTIDS, RESET MASTER, or restoring in place"

// continues checks that the server still has the log that was read up to from.
func (c *session) continues(ctx context.Context, from cdc.Position) error {
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
	if err := c.sameFile(ctx, status.text("File"), from); err != nil || c.version.mariadb {
		return err
	}
	purged, err := c.readSet(ctx, "SELECT @@GLOBAL.gtid_purged")
	if err == nil && !afterWhat(from).Covers(purged) {
		return &cdc.GapError{
			Reason: fmt.Sprintf("the log after %v was purged", from.LSN),
			Hint:   "raise binlog_expire_logs_seconds above the longest time that lockstep may be away",
		}
	}
	return err
}

// sameFile looks at the place where we left off, if the file is still there: transactions with the same ids may have been
// written again, after the server was restored.
func (c *session) sameFile(ctx context.Context, current string, from cdc.Position) error {
	number, offset := fileAndOffset(from.LSN)
	file := fileName(current, number)
	rows, err := c.query(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return c.missingRight(err, c.version.seeLog(), "*.*")
	}
	here := false
	for _, r := range rows {
		size, err := strconv.ParseUint(r.at(1), 10, 64)
		if r.at(0) == file && err == nil {
			if here = true; size < offset {
				return otherFile(file, fmt.Sprintf("has %d bytes, lockstep has read %d", size, offset))
			}
		}
	}
	if !here {
		return nil // whether what follows is there, the server says when it is asked for it
	}
	if c.version.mariadb {
		last, known, err := c.lastAt(ctx, file, from.LSN)
		if err != nil {
			return err
		}
		if known && !last.Equal(from.Last) {
			return otherFile(file, fmt.Sprintf("has %v at %v, lockstep has read %v there", last, from.LSN, from.Last))
		}
	}
	return c.sameEvent(ctx, file, offset, from)
}

func otherFile(file, how string) error {
	return &cdc.GapError{Reason: fmt.Sprintf("log file %s is not the one that lockstep has read: it %s", file, how), Hint: keepHistory}
}

// errCommandFailed is said of an offset at which no event begins.
const errCommandFailed = 1220

// sameEvent looks at what follows the place where we left off: it must be an event, and none that we have read.
func (c *session) sameEvent(ctx context.Context, file string, offset uint64, from cdc.Position) error {
	rows, err := c.query(ctx, fmt.Sprintf("SHOW BINLOG EVENTS IN %s FROM %d LIMIT 1", quoteText(file), offset))
	switch {
	case errorCode(err) == errCommandFailed && !strings.Contains(serverAnswer(err).Message, "target log"):
		return otherFile(file, fmt.Sprintf("has no event at %v", from.LSN))
	case errorCode(err) == errCommandFailed: // it was purged just now
		return nil
	case err != nil:
		return c.missingRight(err, "REPLICATION SLAVE", "*.*")
	case len(rows) == 0 || c.version.mariadb || !strings.Contains(rows[0].text("Event_type"), "Gtid"):
		return nil
	}
	_, id, _ := strings.Cut(rows[0].text("Info"), "'") // SET @@SESSION.GTID_NEXT= 'uuid:7'
	id, _, _ = strings.Cut(id, "'")
	next, err := cdc.ParseTxSet(id)
	if err == nil && !next.IsZero() && from.Shown.Covers(next) {
		return otherFile(file, fmt.Sprintf("has %v at %v, which lockstep has read before", next, from.LSN))
	}
	return nil
}
