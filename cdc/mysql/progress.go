package mysql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Progress implements [cdc.Source]. What a server counts as replayed is in its log before it is counted, so the log's end
// is read last. Of a server whose log is not read, only what can be read is counted.
func (s *Source) Progress(ctx context.Context) (cdc.Progress, error) {
	var p cdc.Progress
	err := s.ask(ctx, func(ctx context.Context, c *session) error {
		self, err := ownID(ctx, c)
		if err != nil {
			return fmt.Errorf("read the server's id: %w", err)
		}
		lane, follows, err := s.lane(ctx, c)
		if err != nil {
			return err
		}
		var applied, position cdc.TxSet
		if s.options.ScanOnly {
			applied, err = readVisible(ctx, c)
		} else {
			applied, position, err = readReplayed(ctx, c)
		}
		if err != nil {
			return fmt.Errorf("read what was replayed: %w", err)
		}
		p = cdc.Progress{
			Applied: map[string]cdc.TxSet{cdc.GTIDLane: applied}, Position: position, Self: self, Follows: follows, Lanes: []cdc.Lane{lane},
		}
		if !s.options.ScanOnly {
			p.End, err = endOfLog(ctx, c)
			p.Barrier = p.End
		}
		return err
	})
	return p, err
}

// readApplied asks for all transactions that the server has, or has been told to pass over.
func readApplied(ctx context.Context, c *session) (cdc.TxSet, error) {
	applied, _, err := readReplayed(ctx, c)
	return applied, err
}

// readReplayed is readApplied with, of MariaDB, the position of its replication, which alone tells of what is passed over.
func readReplayed(ctx context.Context, c *session) (applied, position cdc.TxSet, err error) {
	query := "SELECT @@GLOBAL.gtid_executed, ''"
	if c.version.mariadb {
		query = "SELECT CONCAT_WS(',', @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos), @@GLOBAL.gtid_slave_pos"
	}
	sets, err := c.one(ctx, query, 2)
	if err != nil {
		return applied, position, err
	}
	if applied, err = cdc.ParseTxSet(sets.at(0)); err != nil {
		return applied, position, err
	}
	position, err = cdc.ParseTxSet(sets.at(1))
	return applied, position, err
}

// readVisible asks for transactions that every read shows which begins later; there may be more. MySQL counts a
// transaction into gtid_executed once it can be read, whether or not it is logged. MariaDB does so with what it replays, in
// gtid_slave_pos. What was written on the server itself only its log has, of which a view tells how far it shows it, but for
// distributed transactions.
func readVisible(ctx context.Context, c *session) (cdc.TxSet, error) {
	if !c.version.mariadb {
		return readApplied(ctx, c)
	}
	visible, err := c.readSet(ctx, "SELECT @@GLOBAL.gtid_slave_pos")
	if err != nil {
		return cdc.TxSet{}, err
	}
	file, at, err := c.openView(ctx)
	if err == nil {
		err = c.exec(ctx, "ROLLBACK")
	}
	if err != nil || file == "" {
		return visible, err
	}
	switch ended, err := c.distributedEnd(ctx); {
	case err != nil:
		return cdc.TxSet{}, err
	case !ended && visible.IsZero():
		return cdc.TxSet{}, errPreparedXA
	case !ended:
		return visible, nil
	}
	logged, _, err := c.lastAt(ctx, file, at)
	visible.AddSet(logged)
	return visible, err
}

// readLogStatus asks for the end of the log and what is kept out of it.
func readLogStatus(ctx context.Context, c *session) (row, error) {
	rows, err := c.query(ctx, c.version.logStatus())
	if err != nil {
		return row{}, c.missingRight(err, c.version.seeLog(), "*.*")
	}
	if len(rows) == 0 {
		return row{}, errNoLog
	}
	return rows[0], nil
}

var errNoLog = &cdc.SetupError{Problem: "the server writes no binary log", Hint: "set log_bin in its configuration and restart it"}

// endOfLog is the end of the last transaction that the server has begun to write to its log.
func endOfLog(ctx context.Context, c *session) (cdc.LSN, error) {
	status, err := readLogStatus(ctx, c)
	if err != nil {
		return 0, err
	}
	return logPlace(status.text("File"), status.text("Position"))
}

// logPlace makes one position of a file's name and an offset in it.
func logPlace(file, offset string) (cdc.LSN, error) {
	at, err := strconv.ParseUint(offset, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("position %q in log file %q is no number", offset, file)
	}
	return position(file, at)
}

// lane is all of the replication that the server takes part in as a replica, whatever its channels: a transaction has the
// same name by whichever it comes. The second result has the ids of the servers that they read from.
func (s *Source) lane(ctx context.Context, c *session) (cdc.Lane, []string, error) {
	lane := cdc.Lane{Name: cdc.GTIDLane, Title: "replication", Tables: map[string]string{}}
	rows, err := c.query(ctx, c.version.replicaStatus())
	if err != nil {
		if err = c.missingRight(err, c.version.seeReplicas(), "*.*"); !cdc.IsSetup(err) {
			return lane, nil, fmt.Errorf("read state of replication: %w", err)
		}
		lane.Problem, lane.Hidden = oneLine(err.Error()), true
	}
	if len(rows) > 0 && s.mute.Load() { // since the stream was opened, and it need not be so when that is opened again
		return lane, nil, &cdc.GapError{Reason: replaysUnlogged, Hint: logReplays}
	}
	channels, follows := make([]channel, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		channels[i] = newChannel(r, s.fold.Load())
		follows[i] = channels[i].source
	}
	if len(channels) > 0 {
		lane.Slot, lane.Title, lane.Enabled = channels[0].source, title(channels), true
		lane.Hidden = lane.Slot == "" // it has not reached that server yet
	} else if lane.Problem == "" {
		lane.Problem = "no replication is configured on it"
	}
	var problems []string
	for _, ch := range channels {
		lane.Enabled = lane.Enabled && ch.running
		if ch.problem == "" {
			continue
		}
		if len(channels) > 1 {
			ch.problem = fmt.Sprintf("channel %q: %s", ch.name, ch.problem)
		}
		problems = append(problems, ch.problem)
	}
	lane.Problem = cmp.Or(lane.Problem, strings.Join(problems, "; "))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, table := range s.listed {
		lane.Tables[table] = filtered(channels, table)
	}
	return lane, follows, nil
}

// channel is one connection of a replica to a source.
type channel struct {
	name    string
	source  string // the id of the server it reads from, see Confirmed; empty: it was not connected yet
	running bool
	problem string
	filters replicaFilters
}

func newChannel(r row, fold bool) channel {
	ch := channel{
		name:    r.either("Channel_Name", "Connection_name"),
		source:  cmp.Or(r.text("Source_UUID"), r.either("Master_UUID", "Master_Server_Id")),
		running: r.either("Replica_IO_Running", "Slave_IO_Running") != "No" && r.either("Replica_SQL_Running", "Slave_SQL_Running") == "Yes",
		filters: newReplicaFilters(r, fold),
	}
	if ch.source == "0" {
		ch.source = "" // MariaDB's, that was not connected yet
	}
	var errs []string
	for _, column := range []string{"Last_IO_Error", "Last_SQL_Error"} {
		if text := oneLine(r.text(column)); text != "" {
			errs = append(errs, text)
		}
	}
	ch.problem = strings.Join(slices.Compact(errs), "; ")
	return ch
}

func title(channels []channel) string {
	var names []string
	for _, ch := range channels {
		if ch.name != "" {
			names = append(names, strconv.Quote(ch.name))
		}
	}
	switch len(names) {
	case 0:
		return "replication"
	case 1:
		return "replication channel " + names[0]
	}
	return "replication channels " + strings.Join(names, ", ")
}

// filtered says why no channel brings changes of a table, or nothing.
func filtered(channels []channel, table string) string {
	reason := ""
	for _, ch := range channels {
		if reason = ch.filters.keepsOut(table); reason == "" {
			return ""
		}
	}
	return reason
}

// Confirmed implements [cdc.Source]. These servers do not know what their replicas have.
func (s *Source) Confirmed(ctx context.Context) (map[string]cdc.TxSet, error) {
	var own string
	err := s.ask(ctx, func(ctx context.Context, c *session) (err error) {
		own, err = ownID(ctx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]cdc.TxSet{own: {}}, nil
}

// ownID asks for the id that is in the GTIDs of what the server writes, and that its replicas show of it.
func ownID(ctx context.Context, c *session) (string, error) {
	query := "SELECT @@server_uuid"
	if c.version.mariadb {
		query = "SELECT @@server_id"
	}
	id, err := c.one(ctx, query, 1)
	if err != nil {
		return "", err
	}
	return id.at(0), nil
}
