package mysql

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// settings are global variables of a server. Those of its version or flavour only may be missing.
type settings map[string]string

func readSettings(ctx context.Context, c *session) (settings, error) {
	rows, err := c.query(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	s := settings{}
	for _, r := range rows {
		s[r.at(0)] = r.at(1)
	}
	return s, nil
}

// named returns the first of the names that the server knows a setting by, and its value.
func (s settings) named(names ...string) (name, value string) {
	for _, name := range names {
		if value, known := s[name]; known {
			return name, value
		}
	}
	return names[0], ""
}

// rds reports whether the server is one of Amazon RDS, where even administrators may set nothing.
func (s settings) rds() bool { return strings.HasPrefix(s["basedir"], "/rdsdbbin/") }

// rid says how a setting is let go of.
func (s settings) rid(name string) string {
	if s.rds() {
		return "take " + name + " out of the parameter group of the instance, and restart it"
	}
	return "take " + name + " out of the server's configuration, and restart it"
}

func (s settings) on(name string) bool { return strings.EqualFold(s[name], "ON") }

// number is the value of a setting, 0 for one that the server does not have.
func (s settings) number(name string) float64 {
	n, err := strconv.ParseFloat(s[name], 64)
	if err != nil {
		return 0
	}
	return n
}

func judgeVersion(s cdc.Server) preflight.Check {
	return preflight.Check{Subject: "version", State: preflight.OK, Detail: s.Version} // others were refused
}

// judgeTransport warns of connections that anybody on the way can read or redirect.
func judgeTransport(d dsn, encrypted bool) preflight.Check {
	c := preflight.Check{Subject: "tls", State: preflight.Warn, Detail: d.unverified()}
	switch {
	case d.local():
		return preflight.Check{Subject: "tls", State: preflight.OK, Detail: "the connection does not leave the machine"}
	case c.Detail == "":
		return preflight.Check{Subject: "tls", State: preflight.OK, Detail: "the connection is encrypted, and the server has proven who it is"}
	case !encrypted:
		c.Detail = "the connection is in clear text: " + c.Detail
		c.Hint = "give the server a certificate, and write tls=verify-full in the dsn"
	default:
		c.Hint = "write tls=verify-full in the dsn, and tls_ca=FILE for an authority of your own"
	}
	return c
}

// judgeLog is about what the server writes into its log, and for how long it keeps it.
func judgeLog(v version, s settings) []preflight.Check {
	checks := []preflight.Check{judgeLogged(v, s), judgeServerID(s)}
	for _, n := range needs(v, s) {
		checks = append(checks, n.judge(v, s))
	}
	if !v.mariadb {
		checks = append(checks, judgeConsistency(s), judgeGTIDMode(s))
	}
	return append(checks, judgeRetention(v, s)...)
}

// judgeScanned is about a server that is only scanned: what it has replayed is to be known, not what it logs.
func judgeScanned(v version, s settings) []preflight.Check {
	checks := []preflight.Check{{Subject: "log_bin", State: preflight.OK, Detail: cmp.Or(s["log_bin"], "OFF") + "; the log is not read, rows are scanned"}}
	if !v.mariadb {
		checks = append(checks, judgeConsistency(s), judgeGTIDMode(s))
	}
	return checks
}

func judgeLogged(v version, s settings) preflight.Check {
	if s.on("log_bin") {
		return preflight.Check{Subject: "log_bin", State: preflight.OK, Detail: "ON"}
	}
	c := preflight.Check{Subject: "log_bin", Detail: "OFF, the server keeps no log of changes", Restart: true,
		Hint: "take skip_log_bin or disable_log_bin out of the server's configuration, and restart it"}
	switch {
	case s.rds():
		c.Hint = "turn automated backups of the instance on; on Aurora, set binlog_format = ROW in the parameter group of the cluster, and restart it"
	case v.mariadb:
		c.Hint = "write log_bin below [mariadb] in the server's configuration, and restart it"
	}
	return c
}

func judgeServerID(s settings) preflight.Check {
	c := preflight.Check{Subject: "server_id", State: preflight.OK, Detail: s["server_id"]}
	if s.number("server_id") < 1 {
		c.State, c.Detail = preflight.Fail, "0, the server lets nobody read its log"
		c.Hint = "set server_id, in the configuration too, to a number above 0 that no other server of the group has"
	}
	return c
}

// need is a setting that has to have one value.
type need struct {
	name, value string
	state       preflight.State // if it has another
	lost        string          // why
	note        string          // on changing it
}

func needs(v version, s settings) []need {
	reconnect := "open connections keep the old value: let the application connect anew, and on a replica run " + restartReplication(v, s)
	list := []need{
		{"binlog_format", "ROW", preflight.Fail, "changes are logged as statements, which do not tell rows", reconnect},
		{"binlog_row_image", "FULL", preflight.Fail, "rows are logged in part", reconnect},
		{"binlog_row_metadata", "FULL", preflight.Warn, "names of columns, and labels of ENUM and SET, are taken from the catalog, which may be newer than the log", ""},
	}
	if v.mariadb {
		return list // gtid_strict_mode is left alone: where it is ON an errant transaction stops replication
	}
	return append(list, need{"binlog_row_value_options", "", preflight.Fail, "of a JSON document only the part that changed is logged", reconnect})
}

func (n need) judge(v version, s settings) preflight.Check {
	got := s[n.name]
	c := preflight.Check{Subject: n.name, State: preflight.OK, Detail: cmp.Or(got, "not set")}
	if strings.EqualFold(got, n.value) {
		return c
	}
	if got == "NO_LOG" { // of binlog_row_metadata, on MariaDB
		n.lost = strings.Replace(n.lost, "names of columns", "names and signs of columns", 1)
	}
	c.State, c.Detail = n.state, c.Detail+": "+n.lost
	assign(&c, v, s, n.name, cmp.Or(n.value, "''"), n.note)
	return c
}

// judgeConsistency is about the first step to GTIDs. A server that refuses what GTIDs do not allow may break an
// application, so that no script takes this step.
func judgeConsistency(s settings) preflight.Check {
	c := preflight.Check{Subject: "enforce_gtid_consistency", State: preflight.OK, Detail: s["enforce_gtid_consistency"]}
	if s.on("enforce_gtid_consistency") {
		return c
	}
	c.State = preflight.Fail
	c.Detail += ", gtid_mode needs ON"
	if s.rds() {
		c.Hint = inParameters("enforce_gtid_consistency", "WARN") + "; if the server's error log shows no warning while the application does all that it does, ON"
		return c
	}
	c.Hint = "SET PERSIST enforce_gtid_consistency = WARN; if the server's error log shows no warning while the application does all that it does: SET PERSIST enforce_gtid_consistency = ON;"
	return c
}

// judgeGTIDMode tells the way that is left to GTIDs; each step of it waits for all servers.
// https://dev.mysql.com/doc/refman/9.0/en/replication-mode-change-online-enable-gtids.html
func judgeGTIDMode(s settings) preflight.Check {
	c := preflight.Check{Subject: "gtid_mode", State: preflight.OK, Detail: s["gtid_mode"]}
	if s.on("gtid_mode") {
		return c
	}
	if s.rds() {
		c.State, c.Detail = preflight.Fail, c.Detail+", transactions have no id that other servers know them by"
		c.Hint = "once enforce_gtid_consistency is ON everywhere, " + inParameters("gtid-mode", "OFF_PERMISSIVE, then ON_PERMISSIVE, then ON") + ", on all servers of the group each step before the next"
		return c
	}
	steps := []string{"SET PERSIST gtid_mode = OFF_PERMISSIVE;", "SET PERSIST gtid_mode = ON_PERMISSIVE;",
		"wait until SHOW STATUS LIKE 'ongoing_anonymous_transaction_count' is 0 and every replica has replayed what was logged before;",
		"SET PERSIST gtid_mode = ON;"}
	switch strings.ToUpper(s["gtid_mode"]) {
	case "OFF_PERMISSIVE":
		steps = steps[1:]
	case "ON_PERMISSIVE":
		steps = steps[2:]
	}
	c.State, c.Detail = preflight.Fail, c.Detail+", transactions have no id that other servers know them by"
	c.Hint = "once enforce_gtid_consistency is ON everywhere, on all servers of the group, each step on all of them before the next: " + strings.Join(steps, " ")
	return c
}

const (
	leastRetention   = 6 * time.Hour
	advisedRetention = 24 * time.Hour

	leastLogSize   = 1 << 30
	advisedLogSize = 10 << 30
)

// judgeRetention sees to it that a pause of lockstep does not cost a reading of all tables.
func judgeRetention(v version, s settings) []preflight.Check {
	if s.rds() {
		return []preflight.Check{judgeRetentionOnRDS(s)}
	}
	c := preflight.Check{Subject: "binlog_expire_logs_seconds", State: preflight.OK, Detail: "the log is kept until somebody purges it"}
	kept := time.Duration(s.number("binlog_expire_logs_seconds")) * time.Second
	if kept == 0 { // the older setting, which MySQL 8.0 still has
		kept = time.Duration(s.number("expire_logs_days") * float64(24*time.Hour))
	}
	switch purges, known := s["binlog_expire_logs_auto_purge"]; {
	case kept == 0 || known && !strings.EqualFold(purges, "ON"):
	case kept < leastRetention:
		c.State, c.Detail = preflight.Warn, fmt.Sprintf("the log is kept for %v: if lockstep is away for longer, it has to read all tables anew", kept)
		assign(&c, v, s, c.Subject, strconv.Itoa(int(advisedRetention/time.Second)), "choose what the disk can spare")
	default:
		c.Detail = fmt.Sprintf("the log is kept for %v", kept)
	}
	checks := []preflight.Check{c}
	// MariaDB 11.4 and newer, by two names.
	if name, _ := s.named("max_binlog_total_size", "binlog_space_limit"); s.number(name) > 0 && s.number(name) < leastLogSize {
		c := preflight.Check{Subject: name, State: preflight.Warn,
			Detail: fmt.Sprintf("of the log only %.0f MB are kept: if lockstep is away while more is written, it has to read all tables anew", s.number(name)/(1<<20))}
		assign(&c, v, s, name, strconv.Itoa(advisedLogSize), "choose what the disk can spare")
		checks = append(checks, c)
	}
	return checks
}

// retentionOnRDS is what purges the log of a server of Amazon RDS: no variable, but a row of a table.
const retentionOnRDS = "binlog retention hours"

// readRetentionOnRDS notes it among the settings. Our account need not be allowed to see it.
func (s settings) readRetentionOnRDS(ctx context.Context, c *session) {
	rows, err := c.query(ctx, "SELECT COALESCE(value, 'NULL') FROM mysql.rds_configuration WHERE name = "+quoteText(retentionOnRDS))
	if err == nil && len(rows) == 1 {
		s[retentionOnRDS] = rows[0].at(0)
	}
}

func judgeRetentionOnRDS(s settings) preflight.Check {
	c := preflight.Check{Subject: retentionOnRDS, State: preflight.Warn, Hint: "choose what the disk can spare; CALL mysql.rds_show_configuration; tells what it is now",
		SQL: fmt.Sprintf("CALL mysql.rds_set_configuration(%s, %d);", quoteText(retentionOnRDS), int(advisedRetention.Hours()))}
	text, seen := s[retentionOnRDS]
	hours, err := strconv.Atoi(text)
	switch kept := time.Duration(hours) * time.Hour; {
	case !seen:
		c.Detail = "nobody but its master user sees for how long the log is kept"
	case err != nil || hours == 0:
		c.Detail = "not set, the log is purged as soon as RDS has no use for it: if lockstep is away, it has to read all tables anew"
	case kept < leastRetention:
		c.Detail = fmt.Sprintf("the log is kept for %v: if lockstep is away for longer, it has to read all tables anew", kept)
	default:
		return preflight.Check{Subject: retentionOnRDS, State: preflight.OK, Detail: fmt.Sprintf("the log is kept for %v", kept)}
	}
	return c
}
