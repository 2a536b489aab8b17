package mysql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// upstream is a server that this one replicates from, by one channel.
type upstream struct {
	channel
	from     string // host:port
	receives string // Yes, No, Connecting
	applies  string // Yes, No
	byID     bool   // it goes on by GTIDs, not by a place in a file
	rewrites string // replicate_rewrite_db
}

func readReplication(ctx context.Context, c *session, fold bool) ([]upstream, error) {
	rows, err := c.query(ctx, c.version.replicaStatus())
	if err != nil {
		return nil, err
	}
	var list []upstream
	for _, r := range rows {
		using := r.either("Auto_Position", "Using_Gtid")
		list = append(list, upstream{
			channel:  newChannel(r, fold),
			from:     r.either("Source_Host", "Master_Host") + ":" + r.either("Source_Port", "Master_Port"),
			receives: r.either("Replica_IO_Running", "Slave_IO_Running"),
			applies:  r.either("Replica_SQL_Running", "Slave_SQL_Running"),
			byID:     using != "0" && !strings.EqualFold(using, "No"),
			rewrites: r.text("Replicate_Rewrite_DB"),
		})
	}
	return list, nil
}

// judgeReplayLogged is about log_replica_updates: it matters as soon as the member replicates.
func (r *report) judgeReplayLogged() preflight.Check {
	name, value := r.settings.named("log_replica_updates", "log_slave_updates")
	c := preflight.Check{Subject: name, State: preflight.OK, Detail: value}
	if strings.EqualFold(value, "ON") {
		return c
	}
	c.Detail = cmp.Or(value, "not set") + ": what is replayed is not in the server's own log"
	if c.State = preflight.Fail; len(r.channels) == 0 && r.account.seesReplicas {
		c.State, c.Detail = preflight.Warn, c.Detail+"; it has to be once the server is a replica"
	}
	assignAtStart(&c, r.version, r.settings, name, "ON")
	return c
}

func (r *report) judgeReplication() []preflight.Check {
	switch {
	case !r.account.seesReplicas:
		return nil // a failed check already
	case len(r.channels) == 0 && r.scanOnly && !r.settings.on("log_bin"):
		return []preflight.Check{{Subject: "replication", Detail: "from nowhere, and what is written here has no GTIDs without a log",
			Hint: "make it a replica, or take it out of the group"}}
	case len(r.channels) == 0:
		return []preflight.Check{{Subject: "replication", State: preflight.OK, Detail: "from nowhere: writes are made here"}}
	}
	var checks []preflight.Check
	for _, ch := range r.channels {
		checks = append(checks, ch.judge(r.version)...)
	}
	checks = append(checks, r.judgeFilters()...)
	checks = append(checks, judgeReadOnly(r.version, r.settings))
	return append(checks, judgeApplier(r.version, r.settings)...)
}

func (ch upstream) judge(v version) []preflight.Check {
	c := preflight.Check{Subject: "replication", State: preflight.OK, Detail: "from " + ch.from + " runs"}
	if ch.name != "" {
		c.Subject = "channel " + ch.name
	}
	switch {
	case ch.receives != "Yes" || ch.applies != "Yes":
		c.State, c.Detail = preflight.Fail, fmt.Sprintf("from %s does not run (receiver: %s, applier: %s)", ch.from, ch.receives, ch.applies)
		c.Hint = ch.statements(v, "START") + " once the reason that it does not is gone"
		if ch.problem != "" {
			c.Detail += ": " + ch.problem
		}
	case !ch.byID:
		c.State, c.Detail = preflight.Warn, fmt.Sprintf("from %s goes by places in files, not by GTIDs: after a crash or a change of the source it may replay twice, or leave out", ch.from)
		change := "CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 1" + ch.forChannel() + ";"
		switch {
		case v.mariadb:
			change = "CHANGE MASTER " + ch.ofMaster() + "TO MASTER_USE_GTID = slave_pos;"
		case !v.atLeast(8, 0, 23):
			change = "CHANGE MASTER TO MASTER_AUTO_POSITION = 1" + ch.forChannel() + ";"
		}
		c.Hint = strings.Join([]string{ch.statements(v, "STOP"), change, ch.statements(v, "START")}, " ")
	}
	checks := []preflight.Check{c}
	if ch.rewrites != "" {
		checks = append(checks, preflight.Check{Subject: c.Subject, Detail: "gives schemas other names than on the source (replicate_rewrite_db=" + ch.rewrites + ")",
			Hint: "exclude the tables of these schemas, or take that setting out of the replica's configuration"})
	}
	return checks
}

// statements is START or STOP for the channel.
func (ch upstream) statements(v version, verb string) string {
	switch {
	case v.mariadb:
		return strings.TrimSpace(verb+" SLAVE "+ch.ofMaster()) + ";"
	case v.atLeast(8, 0, 22):
		return verb + " REPLICA" + ch.forChannel() + ";"
	}
	return verb + " SLAVE" + ch.forChannel() + ";"
}

func (ch upstream) forChannel() string {
	if ch.name == "" {
		return ""
	}
	return " FOR CHANNEL " + quoteText(ch.name)
}

func (ch upstream) ofMaster() string {
	if ch.name == "" {
		return ""
	}
	return quoteText(ch.name) + " "
}

// judgeFilters names the tables that no channel brings, by the rule that keeps them out.
func (r *report) judgeFilters() []preflight.Check {
	channels := make([]channel, len(r.channels))
	for i, ch := range r.channels {
		channels[i] = ch.channel
	}
	kept := byReason{}
	for _, t := range r.tables {
		if reason := filtered(channels, t.Name); reason != "" {
			kept.add(reason, "exclude it, or change that setting", t)
		}
	}
	return kept.checks(preflight.Fail)
}

// judgeReadOnly warns of a replica that anybody can write to. No script sets it: a group may have several servers that are
// written to, and one that becomes the primary has to let go of it.
func judgeReadOnly(v version, s settings) preflight.Check {
	name, set := "super_read_only", "SET GLOBAL super_read_only = ON;"
	if v.mariadb {
		name, set = "read_only", "SET GLOBAL read_only = ON;"
	}
	c := preflight.Check{Subject: name, State: preflight.OK, Detail: s[name]}
	switch writable := []string{"", "OFF"}; {
	case !slices.Contains(writable, s[name]):
	case !slices.Contains(writable, s["read_only"]):
		c.Detail = "OFF, and read_only is ON: only administrators can write here"
	default:
		c.State, c.Detail = preflight.Warn, "OFF on a replica: what an application writes here is on no other server"
		c.Hint = "unless the application is to write to this server: " + set + " and the same in the configuration"
	}
	return c
}

// judgeApplier warns of settings that make a replica's rows other than its source's, in silence.
func judgeApplier(v version, s settings) []preflight.Check {
	var checks []preflight.Check
	if name, mode := s.named("replica_exec_mode", "slave_exec_mode"); strings.EqualFold(mode, "IDEMPOTENT") {
		c := preflight.Check{Subject: name, State: preflight.Warn, Detail: "IDEMPOTENT: rows that are missing or there already are passed over without an error"}
		assign(&c, v, s, name, "STRICT", "from then on the replica stops where it differs")
		checks = append(checks, c)
	}
	if mode := s["slave_run_triggers_for_rbr"]; mode != "" && !strings.EqualFold(mode, "NO") {
		c := preflight.Check{Subject: "slave_run_triggers_for_rbr", State: preflight.Warn, Detail: mode + ": triggers run here on rows that the source's have run on already"}
		assign(&c, v, s, c.Subject, "NO", "")
		checks = append(checks, c)
	}
	if name, passed := s.named("replica_skip_errors", "slave_skip_errors"); passed != "" && !strings.EqualFold(passed, "OFF") {
		checks = append(checks, preflight.Check{Subject: name, State: preflight.Warn, Detail: passed + ": transactions that fail with these errors are passed over", Restart: true,
			Hint: s.rid("slave_skip_errors and replica_skip_errors")})
	}
	if name, n := s.named("sql_replica_skip_counter", "sql_slave_skip_counter"); s.number(name) > 0 {
		checks = append(checks, preflight.Check{Subject: name, State: preflight.Warn, Detail: n + ": as many events are passed over when the applier starts",
			Hint: fmt.Sprintf("with the applier stopped: SET GLOBAL %s = 0;", name)})
	}
	return checks
}
