package mysql

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/preflight"
)

var (
	oldMySQL   = version{major: 8, minor: 0, patch: 11}
	newMySQL   = version{major: 9, minor: 7}
	newMariaDB = version{mariadb: true, major: 11, minor: 4}
)

func TestRetentionIsReadByAllItsNames(t *testing.T) {
	const never = "ok binlog_expire_logs_seconds: the log is kept until somebody purges it"
	for _, test := range []struct {
		v    version
		s    settings
		want string
		sql  string
	}{
		{newMySQL, settings{"binlog_expire_logs_seconds": "0"}, never, ""},
		{newMySQL, settings{}, never, ""},
		{newMySQL, settings{"binlog_expire_logs_seconds": "600", "binlog_expire_logs_auto_purge": "OFF"}, never, ""},
		{newMySQL, settings{"binlog_expire_logs_seconds": "21600", "binlog_expire_logs_auto_purge": "ON"}, "ok binlog_expire_logs_seconds: the log is kept for 6h0m0s", ""},
		{newMySQL, settings{"binlog_expire_logs_seconds": "21599"}, "warn binlog_expire_logs_seconds: the log is kept for 5h59m59s: if lockstep is away for longer, it has to read all tables anew",
			"SET PERSIST binlog_expire_logs_seconds = 86400;"},
		{oldMySQL, settings{"binlog_expire_logs_seconds": "0", "expire_logs_days": "2"}, "ok binlog_expire_logs_seconds: the log is kept for 48h0m0s", ""},
		{newMariaDB, settings{"binlog_expire_logs_seconds": "0", "expire_logs_days": "0.041667"}, "warn binlog_expire_logs_seconds: the log is kept for 1h0m0.0288s: if lockstep is away for longer, it has to read all tables anew",
			"SET GLOBAL binlog_expire_logs_seconds = 86400;"},
		{newMariaDB, settings{"max_binlog_total_size": "0"}, never, ""},
		{newMariaDB, settings{"max_binlog_total_size": "1073741824"}, never, ""},
		{newMariaDB, settings{"max_binlog_total_size": "10485760"}, "warn max_binlog_total_size: of the log only 10 MB are kept: if lockstep is away while more is written, it has to read all tables anew",
			"SET GLOBAL max_binlog_total_size = 10737418240;"},
	} {
		checks := judgeRetention(test.v, test.s)
		c := checks[len(checks)-1]
		if got := c.State.String() + " " + c.Subject + ": " + c.Detail; got != test.want || c.SQL != test.sql {
			t.Errorf("%v: got %s %q, want %s", test.s, got, c.SQL, test.want)
		}
	}
}

// On Amazon RDS nobody may set variables, nor leave something out of the log: the script stopped at its first statement.
func TestOnRDSIsSaidWhatItsMasterUserMayDo(t *testing.T) {
	for _, v := range []version{newMySQL, newMariaDB} {
		s := settings{
			"basedir": "/rdsdbbin/mysql-8.4.3.R1/", "log_bin": "OFF", "server_id": "5", "binlog_format": "MIXED", "binlog_row_image": "MINIMAL",
			"binlog_row_metadata": "MINIMAL", "binlog_row_value_options": "PARTIAL_JSON", "enforce_gtid_consistency": "OFF", "gtid_mode": "OFF", "log_replica_updates": "OFF",
			"binlog_expire_logs_seconds": "600", "replica_exec_mode": "IDEMPOTENT", "slave_run_triggers_for_rbr": "YES", "replica_skip_errors": "1062", "read_only": "ON",
		}
		r := report{version: v, settings: s, channels: []upstream{{}}}
		checks := append(append(judgeLog(v, s), r.judgeReplayLogged()), judgeApplier(v, s)...)
		for _, c := range checks {
			if c.State == preflight.OK {
				continue
			}
			said := c.SQL + c.Hint
			if c.SQL != "" && !strings.HasPrefix(c.SQL, "CALL mysql.rds_") || c.SQL == "" && !strings.Contains(c.Hint, "parameter group") && !strings.Contains(c.Hint, "automated backups") {
				t.Errorf("%v: of %s it says %q, %q", v, c.Subject, c.SQL, c.Hint)
			}
			for _, never := range []string{"SET PERSIST", "SET GLOBAL", "configuration", "START REPLICA", "START ALL SLAVES"} {
				if strings.Contains(strings.NewReplacer("rds_set_configuration", "", "rds_show_configuration", "").Replace(said), never) {
					t.Errorf("%v: of %s it says %s: %q", v, c.Subject, never, said)
				}
			}
		}
		if text := preamble(v, "x", s); strings.Contains(text, "sql_log_bin") || !strings.Contains(text, "this script is for another server") {
			t.Errorf("%s", text)
		}
		var rights preflight.Check
		if r.grant(&rights, "SELECT", "*.*"); rights.SQL != "" || !strings.Contains(rights.Hint, "run it on its source") {
			t.Errorf("on a read replica: %+v", rights)
		}
		for hours, want := range map[string]string{
			"":     "warn binlog retention hours: nobody but its master user sees for how long the log is kept",
			"NULL": "warn binlog retention hours: not set, the log is purged as soon as RDS has no use for it: if lockstep is away, it has to read all tables anew",
			"2":    "warn binlog retention hours: the log is kept for 2h0m0s: if lockstep is away for longer, it has to read all tables anew",
			"48":   "ok binlog retention hours: the log is kept for 48h0m0s",
		} {
			delete(s, retentionOnRDS)
			if hours != "" {
				s[retentionOnRDS] = hours
			}
			c := judgeRetention(v, s)[0]
			if got := c.State.String() + " " + c.Subject + ": " + c.Detail; got != want || c.State != preflight.OK && c.SQL != "CALL mysql.rds_set_configuration('binlog retention hours', 24);" {
				t.Errorf("%q: %s, %q", hours, got, c.SQL)
			}
		}
	}
}

func TestSettingThatTheServerDoesNotShowIsNotTakenForWell(t *testing.T) {
	for _, v := range []version{oldMySQL, newMySQL, newMariaDB} {
		for _, c := range judgeLog(v, settings{}) {
			optional := c.Subject == "binlog_expire_logs_seconds" || c.Subject == "binlog_row_value_options" // which some versions lack
			if (c.State == preflight.OK) != optional {
				t.Errorf("%v: %+v", v, c)
			}
		}
		r := report{version: v, settings: settings{}, channels: []upstream{{}}}
		if c := r.judgeReplayLogged(); c.State != preflight.Fail {
			t.Errorf("%v: %+v", v, c)
		}
		if c := judgeReadOnly(v, settings{}); c.State != preflight.Warn {
			t.Errorf("%v: %+v", v, c)
		}
	}
}

func TestRowsWithoutDuplicatesAreNotWholeRows(t *testing.T) {
	for _, c := range judgeLog(newMariaDB, settings{"binlog_row_image": "FULL_NODUP"}) {
		if c.Subject == "binlog_row_image" && (c.State != preflight.Fail || c.SQL != "SET GLOBAL binlog_row_image = FULL;") {
			t.Errorf("%+v", c)
		}
	}
}

func TestWayToGTIDsBeginsWhereTheServerIs(t *testing.T) {
	for mode, steps := range map[string]int{"OFF": 3, "OFF_PERMISSIVE": 2, "ON_PERMISSIVE": 1, "": 3} {
		c := judgeGTIDMode(settings{"gtid_mode": mode})
		if got := strings.Count(c.Hint, "SET PERSIST gtid_mode"); got != steps || c.State != preflight.Fail || c.SQL != "" {
			t.Errorf("%q: %d steps, want %d: %+v", mode, got, steps, c)
		}
	}
}

// Lines of SHOW GRANTS, of both servers.
func TestGrantsAreReadAsTheServerPrintsThem(t *testing.T) {
	for _, test := range []struct {
		lines               string
		readsAll, readsLogs bool
	}{
		{"GRANT USAGE ON *.* TO `u`@`%`", false, false},
		{"GRANT ALL PRIVILEGES ON *.* TO `u`@`%` WITH GRANT OPTION", true, true},
		{"GRANT SELECT, RELOAD, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`@`%`", true, true},
		{"GRANT SELECT ON *.* TO `u`@`%`;REVOKE SELECT ON `shop`.* FROM `u`@`%`", false, false},
		{"GRANT SELECT ON `shop`.* TO `u`@`%`;GRANT BACKUP_ADMIN,REPLICATION_SLAVE_ADMIN ON *.* TO `u`@`%`", false, false},
		{"GRANT `watcher` TO `u`@`%`;GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `watcher`", false, true},
		{"GRANT SELECT (`a ON *.* TO b`) ON `shop`.`t` TO `u`@`%`", false, false},
		{"GRANT SELECT ON `x ON *.* TO `.`t` TO `u`@`%`", false, false},
	} {
		var grants []row
		for line := range strings.SplitSeq(test.lines, ";") {
			grants = append(grants, row{values: []mysql.FieldValue{mysql.NewFieldValue(mysql.FieldValueTypeString, 0, []byte(line))}})
		}
		var a account
		a.judge(grants)
		if a.readsAll != test.readsAll || a.readsLog != test.readsLogs {
			t.Errorf("%s: reads all %v, the log %v", test.lines, a.readsAll, a.readsLog)
		}
	}
}

// What an account surely sees of schemas: names are whatever somebody chose.
func TestGrantsOnSchemasAreReadAsTheServerPrintsThem(t *testing.T) {
	for line, want := range map[string][]string{
		"GRANT SELECT ON `shop`.* TO `u`@`%`":                               {"shop"},
		"GRANT ALL PRIVILEGES ON `a``b`.* TO `u`@`%`":                       {"a`b"},
		"GRANT INSERT, SELECT, UPDATE ON `s\\_p`.* TO `u`@`%`":              {`s\_p`},
		"GRANT INSERT ON `shop`.* TO `u`@`%`":                               nil,
		"GRANT SELECT ON `shop`.`t` TO `u`@`%`":                             nil,
		"GRANT SELECT ON `shop`.`.* TO ` TO `u`@`%`":                        nil,
		"GRANT SELECT, INSERT (`a ON ``app``.* TO `) ON `x`.`t` TO `u`@`%`": nil,
		"REVOKE SELECT ON `shop`.* FROM `u`@`%`":                            nil,
		"GRANT SELECT ON `shop":                                             nil,
	} {
		var a account
		a.judge([]row{{values: []mysql.FieldValue{mysql.NewFieldValue(mysql.FieldValueTypeString, 0, []byte(line))}}})
		if !slices.Equal(a.readsSchemas, want) {
			t.Errorf("%s: reads all of %q, want %q", line, a.readsSchemas, want)
		}
	}
}

func TestChannelsAreNamedInStatements(t *testing.T) {
	ch := upstream{channel: channel{name: "o'ne"}, receives: "Yes", applies: "Yes"}
	for v, want := range map[version]string{
		newMySQL:   "STOP REPLICA FOR CHANNEL 'o''ne'; CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 1 FOR CHANNEL 'o''ne'; START REPLICA FOR CHANNEL 'o''ne';",
		oldMySQL:   "STOP SLAVE FOR CHANNEL 'o''ne'; CHANGE MASTER TO MASTER_AUTO_POSITION = 1 FOR CHANNEL 'o''ne'; START SLAVE FOR CHANNEL 'o''ne';",
		newMariaDB: "STOP SLAVE 'o''ne'; CHANGE MASTER 'o''ne' TO MASTER_USE_GTID = slave_pos; START SLAVE 'o''ne';",
	} {
		c := ch.judge(v)[0]
		if c.State != preflight.Warn || c.Subject != "channel o'ne" || c.Hint != want {
			t.Errorf("%v: %+v", v, c)
		}
	}
}
