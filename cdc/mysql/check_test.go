package mysql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// checkEach runs a test with both flavours.
func checkEach(t *testing.T, test func(t *testing.T, install dbtest.MySQLInstall)) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			test(t, dbtest.NeedMySQL(t, f))
		})
	}
}

func checkPrefix(prefix string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, prefix) }
}

func checkOptions(s *dbtest.MySQLServer, user string) Options {
	return Options{Group: "g", Member: "m", DSN: s.DSNFor(user, "") + "?" + anyServer}
}

func runCheck(t *testing.T, o Options, match func(string) bool) *preflight.Report {
	t.Helper()
	r, err := o.Check(t.Context(), match)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// notOK prints what a report finds wrong, one line a check.
func notOK(r *preflight.Report) []string {
	var lines []string
	for _, c := range r.Checks {
		if c.State != preflight.OK {
			lines = append(lines, fmt.Sprintf("%s %s: %s", c.State, c.Subject, c.Detail))
		}
	}
	return lines
}

// checkOf is the one check of a subject.
func checkOf(t *testing.T, r *preflight.Report, subject string) preflight.Check {
	t.Helper()
	var found []preflight.Check
	for _, c := range r.Checks {
		if c.Subject == subject {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d checks of %s, want 1: %+v", len(found), subject, r.Checks)
	}
	return found[0]
}

// runScript does what the client does: it leaves out comments, and stops at the first error.
func runScript(ctx context.Context, s *dbtest.MySQLServer, script string) error {
	var statements strings.Builder
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, "-- ") {
			statements.WriteString(line)
		}
	}
	return s.Exec(ctx, strings.TrimSpace(statements.String()))
}

// bareSchema has a name that GRANT and the client would take for something else.
const bareSchema = "sh\\op_`s"

// bareSettings break all that can be broken at once.
var bareSettings = map[bool]map[string]string{
	true: {
		"binlog_format": "MIXED", "binlog_row_image": "MINIMAL", "binlog_row_metadata": "NO_LOG",
		"log_slave_updates": "OFF", "binlog_expire_logs_seconds": "3600",
	},
	false: {
		"binlog_format": "STATEMENT", "binlog_row_image": "NOBLOB", "binlog_row_metadata": "MINIMAL", "binlog_row_value_options": "PARTIAL_JSON",
		"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF", "log_replica_updates": "OFF", "server_id": "0", "binlog_expire_logs_seconds": "7200",
	},
}

// bareLines are what is wrong with such a server.
var bareLines = map[bool][]string{
	true: {
		`fail account: 'lock''step'@'127.0.0.1' lacks REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR`,
		"fail schema sh\\op_`s: 'lock''step'@'127.0.0.1' may not read 2 tables: sh\\op_`s.clients, sh\\op_`s.orders",
		"fail binlog_format: MIXED: changes are logged as statements, which do not tell rows",
		"fail binlog_row_image: MINIMAL: rows are logged in part",
		"warn binlog_row_metadata: NO_LOG: names and signs of columns, and labels of ENUM and SET, are taken from the catalog, which may be newer than the log",
		"warn binlog_expire_logs_seconds: the log is kept for 1h0m0s: if lockstep is away for longer, it has to read all tables anew",
		"fail log_slave_updates: OFF: what is replayed is not in the server's own log",
	},
	false: {
		`fail account: 'lock''step'@'127.0.0.1' lacks REPLICATION SLAVE, REPLICATION CLIENT`,
		"fail schema sh\\op_`s: 'lock''step'@'127.0.0.1' may not read 2 tables: sh\\op_`s.clients, sh\\op_`s.orders",
		"fail server_id: 0, the server lets nobody read its log",
		"fail binlog_format: STATEMENT: changes are logged as statements, which do not tell rows",
		"fail binlog_row_image: NOBLOB: rows are logged in part",
		"warn binlog_row_metadata: MINIMAL: names of columns, and labels of ENUM and SET, are taken from the catalog, which may be newer than the log",
		"fail binlog_row_value_options: PARTIAL_JSON: of a JSON document only the part that changed is logged",
		"fail enforce_gtid_consistency: OFF, gtid_mode needs ON",
		"fail gtid_mode: OFF, transactions have no id that other servers know them by",
		"warn binlog_expire_logs_seconds: the log is kept for 2h0m0s: if lockstep is away for longer, it has to read all tables anew",
		"fail log_replica_updates: OFF: what is replayed is not in the server's own log",
	},
}

func TestBareServerIsMadeReadyByTheSQLOfItsChecks(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		mariadb := install.Flavour.MariaDB()
		s := dbtest.StartMySQLT(t, install, dbtest.Options{Database: bareSchema, Conf: bareSettings[mariadb]})
		dbtest.ExecT(t, s, `CREATE USER 'lock''step'@'127.0.0.1'`,
			"CREATE TABLE orders (id INT PRIMARY KEY); CREATE TABLE clients (id INT PRIMARY KEY, secret INT)",
			"GRANT INSERT ON orders TO 'lock''step'@'127.0.0.1'; GRANT SELECT (id) ON clients TO 'lock''step'@'127.0.0.1'",
			"CREATE DATABASE `sh\\opx``s`; CREATE TABLE `sh\\opx``s`.other (id INT PRIMARY KEY)")
		o := checkOptions(s, "lock'step")
		bare := runCheck(t, o, checkPrefix(bareSchema+"."))
		if diff := cmp.Diff(bareLines[mariadb], notOK(bare)); diff != "" {
			t.Fatalf("bare server:\n%s", diff)
		}
		for range 2 { // any number of times
			if err := runScript(t.Context(), s, bare.SQL()); err != nil {
				t.Fatalf("%v\n%s", err, bare.SQL())
			}
		}
		byHand(t, s, bare)
		if diff := cmp.Diff([]string(nil), notOK(runCheck(t, o, checkPrefix(bareSchema+".")))); diff != "" {
			t.Errorf("after the SQL:\n%s", diff)
		}
		if err := runScript(t.Context(), s, bare.SQL()); err != nil { // and later
			t.Error(err)
		}
		readAsAccount(t, o)
	})
}

// byHand does what the hints of checks without SQL say. What MariaDB's say about the configuration is in each of them.
func byHand(t *testing.T, s *dbtest.MySQLServer, bare *preflight.Report) {
	t.Helper()
	conf := map[string]string{}
	if !s.Install.Flavour.MariaDB() {
		conf["server_id"] = "7"
		dbtest.ExecT(t, s, "SET PERSIST enforce_gtid_consistency = ON")
		steps := regexp.MustCompile(`SET PERSIST gtid_mode = \w+;`).FindAllString(checkOf(t, bare, "gtid_mode").Hint, -1)
		if len(steps) != 3 {
			t.Errorf("%d steps to gtid_mode, want 3: %q", len(steps), steps)
		}
		dbtest.ExecT(t, s, steps...)
		// Our servers are started with --no-defaults, and so do without what was persisted too.
		persisted, err := s.Show(t.Context(), "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM performance_schema.persisted_variables")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range persisted {
			conf[p["name"]] = p["value"]
		}
	}
	for _, c := range bare.Checks {
		written := regexp.MustCompile(`write (\w+) = (\w+) below \[mariadb\]`).FindStringSubmatch(c.Hint)
		if (written != nil) != (s.Install.Flavour.MariaDB() && c.State != preflight.OK && bareSettings[true][c.Subject] != "") {
			t.Errorf("%s: the hint is %q", c.Subject, c.Hint)
		}
		if written != nil {
			conf[written[1]] = written[2]
		}
	}
	if err := s.RestartWith(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
}

// readAsAccount does with the rights that check asked for what lockstep does with them.
func readAsAccount(t *testing.T, o Options) {
	t.Helper()
	s, err := New(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tables, err := s.Tables(t.Context(), checkPrefix(`sh\op`))
	if err != nil || len(tables) != 2 { // the _ of the GRANT stands for itself
		t.Errorf("sees %v, %v; want orders and clients", tables, err)
	}
	for _, table := range tables {
		if table.Problem != "" {
			t.Errorf("table %s %s", table.Name, table.Problem)
		}
	}
	if _, err := s.Progress(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
		return c.exec(ctx, "SELECT * FROM "+quoteName(bareSchema, "orders"))
	}); err != nil {
		t.Error(err)
	}
}

func TestServerWithoutALogIsToldSo(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		s := dbtest.StartMySQLT(t, install, manyAppliers(install, unlogged[0].mariadb, unlogged[0].mysql))
		dbtest.ExecT(t, s, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE USER lockstep@'%'")
		match := checkPrefix("app.")
		r := runCheck(t, checkOptions(s, "lockstep"), match)
		if c := checkOf(t, r, "log_bin"); c.State != preflight.Fail || c.SQL != "" || !c.Restart || c.Hint == "" {
			t.Errorf("%+v", c)
		}
		if c := checkOf(t, r, "tables"); c.Detail != "no table that 'lockstep'@'%' may see matches" || c.SQL != "GRANT SELECT ON `app`.* TO 'lockstep'@'%';" ||
			c.Hint != "if that is not it, compare tables.include with the names that the server has, schema and letter case too" || r.Whole {
			t.Errorf("%+v, whole %v", c, r.Whole)
		}
		if err := runScript(t.Context(), s, r.SQL()); err != nil {
			t.Fatal(err)
		}
		left := slices.DeleteFunc(notOK(runCheck(t, checkOptions(s, "lockstep"), match)), func(line string) bool {
			return strings.Contains(line, "_updates: OFF") // without a log neither is one of what is replayed
		})
		if diff := cmp.Diff([]string{"fail log_bin: OFF, the server keeps no log of changes"}, left); diff != "" {
			t.Error(diff)
		}
		namesNoTransactions(t, s)
	})
}

// namesNoTransactions has the server give its transactions no GTIDs either: it is not fit to be scanned.
func namesNoTransactions(t *testing.T, s *dbtest.MySQLServer) {
	t.Helper()
	want := []string{"fail replication: from nowhere, and what is written here has no GTIDs without a log"}
	if !s.Install.Flavour.MariaDB() {
		dbtest.ExecT(t, s, "SET GLOBAL gtid_mode = ON_PERMISSIVE", "SET GLOBAL gtid_mode = OFF_PERMISSIVE", "SET GLOBAL gtid_mode = OFF", "SET GLOBAL enforce_gtid_consistency = OFF")
		defer dbtest.ExecT(t, s, "SET GLOBAL enforce_gtid_consistency = ON", "SET GLOBAL gtid_mode = OFF_PERMISSIVE", "SET GLOBAL gtid_mode = ON_PERMISSIVE", "SET GLOBAL gtid_mode = ON")
		want = append([]string{"fail enforce_gtid_consistency: OFF, gtid_mode needs ON", "fail gtid_mode: OFF, transactions have no id that other servers know them by"}, want...)
	}
	o := checkOptions(s, "root")
	o.ScanOnly = true
	if diff := cmp.Diff(want, notOK(runCheck(t, o, checkPrefix("app.")))); diff != "" {
		t.Error(diff)
	}
}

func TestScriptIsForItsServerAloneAndLeavesNothingInTheLog(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		g := dbtest.MySQLGroupT(t, install, 1, "CREATE TABLE t (id INT PRIMARY KEY)", anew)
		for _, s := range g.Members() {
			if err := s.Quietly(t.Context(), "CREATE USER lockstep@'%'"); err != nil {
				t.Fatal(err)
			}
		}
		replica := g.Replicas[0]
		o, match := checkOptions(replica, "lockstep"), checkPrefix("app.")
		r := runCheck(t, o, match)
		before := notOK(runCheck(t, checkOptions(g.Primary, "lockstep"), match))
		if err := runScript(t.Context(), g.Primary, r.SQL()); err == nil || !strings.Contains(err.Error(), "this script is for another server") {
			t.Errorf("on the primary: %v", err)
		}
		if diff := cmp.Diff(before, notOK(runCheck(t, checkOptions(g.Primary, "lockstep"), match))); diff != "" {
			t.Errorf("it changed the primary: %s", diff)
		}
		logged, err := replica.Executed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := runScript(t.Context(), replica, r.SQL()); err != nil {
			t.Fatal(err)
		}
		if lines := notOK(runCheck(t, o, match)); slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "fail") }) {
			t.Errorf("after the script: %q", lines)
		}
		if now, err := replica.Executed(t.Context()); err != nil || now != logged {
			t.Errorf("executed %q before and %q after, %v", logged, now, err)
		}
	})
}

func TestReplicaThatTakesNoWritesIsGrantedRightsOnItsSource(t *testing.T) {
	s := dbtest.StartMySQLT(t, dbtest.NeedMySQL(t, dbtest.MySQL97), anew)
	dbtest.ExecT(t, s, "CREATE USER lockstep@'%'", "CREATE TABLE t (id INT PRIMARY KEY)", "SET GLOBAL super_read_only = ON")
	c := checkOf(t, runCheck(t, checkOptions(s, "lockstep"), checkPrefix("app.")), "account")
	if c.SQL != "" || !strings.HasSuffix(c.Hint, "run it on its source, GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'lockstep'@'%';") {
		t.Errorf("%+v", c)
	}
}

func TestRightsByRolesCount(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		s := dbtest.StartMySQLT(t, install, anew)
		monitor, to := "REPLICATION CLIENT", "TO"
		if install.Flavour.MariaDB() {
			monitor, to = "BINLOG MONITOR, SLAVE MONITOR", "FOR"
		}
		dbtest.ExecT(t, s, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE USER lockstep@'%'", "CREATE ROLE watcher",
			"GRANT REPLICATION SLAVE, "+monitor+" ON *.* TO watcher", "GRANT SELECT ON app.* TO watcher",
			"GRANT watcher TO lockstep@'%'", "SET DEFAULT ROLE watcher "+to+" lockstep@'%'")
		r := runCheck(t, checkOptions(s, "lockstep"), checkPrefix("app."))
		if diff := cmp.Diff([]string(nil), notOK(r)); diff != "" || !r.Whole {
			t.Errorf("whole %v, %s", r.Whole, diff)
		}
		if c := checkOf(t, r, "reading rows"); c.Detail != "'lockstep'@'%' sees tables that match in app; others it may not see" {
			t.Errorf("%+v", c)
		}
	})
}

func TestTablesThatCannotBeWatchedAreListedByTheirProblem(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		o := anew
		if install.Flavour.MariaDB() { // of MySQL the test of its foreign keys has such a server
			o = dbtest.Options{Database: "app", Conf: map[string]string{"binlog_ignore_db": "scratch"}}
		}
		s := dbtest.StartMySQLT(t, install, o)
		dbtest.ExecT(t, s, "CREATE TABLE good (id INT PRIMARY KEY)", "CREATE TABLE loose (id INT)", "CREATE TABLE loose_too (id INT)",
			"CREATE TABLE fleeting (id INT PRIMARY KEY) ENGINE = MEMORY")
		want := []string{
			"fail table app.fleeting: is of engine MEMORY, whose rows the log does not tell",
			"fail tables: has no primary key: 2 tables: app.loose, app.loose_too",
		}
		if install.Flavour.MariaDB() { // newer versions of MySQL log what a foreign key does
			dbtest.ExecT(t, s, "CREATE DATABASE scratch; CREATE TABLE scratch.t (id INT PRIMARY KEY)", "CREATE TABLE child (id INT PRIMARY KEY, up INT, CONSTRAINT k FOREIGN KEY (up) REFERENCES good (id) ON DELETE CASCADE)",
				"CREATE TABLE past (id INT PRIMARY KEY) WITH SYSTEM VERSIONING")
			want = append(want, "fail table scratch.t: is kept out of the log (binlog_ignore_db=scratch)",
				"fail table app.past: is system-versioned: its log shows rows of the past like rows of now")
		}
		r := runCheck(t, checkOptions(s, "root"), checkPrefix(""))
		hidden := "warn table app.child: the log leaves out changes made by foreign key k (ON DELETE CASCADE): only a scrub sees them"
		if install.Flavour.MariaDB() && !slices.Contains(notOK(r), hidden) {
			t.Errorf("no %q in %q", hidden, notOK(r))
		}
		got := slices.DeleteFunc(notOK(r), func(l string) bool { return strings.HasPrefix(l, "warn") })
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, c := range r.Checks {
			if strings.Contains(c.Detail, "primary key:") && c.Hint != "ALTER TABLE … ADD PRIMARY KEY (...);" {
				t.Errorf("one hint for two tables: %q", c.Hint)
			}
		}
		if c := checkOf(t, runCheck(t, checkOptions(s, "root"), checkPrefix("none.")), "tables"); c.State != preflight.Fail || c.Detail != "no table matches" || c.SQL != "" {
			t.Errorf("%+v", c)
		}
	})
}

func TestServerThatSaysNoIsNotUnreachable(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		s := dbtest.StartMySQLT(t, install, anew)
		dbtest.ExecT(t, s, "CREATE USER lockstep@'%' IDENTIFIED BY 'right'")
		o := checkOptions(s, "lockstep")
		o.Password = func() (string, error) { return "wrong", nil }
		r := runCheck(t, o, checkPrefix(""))
		if got := notOK(r); len(got) != 1 || !strings.HasPrefix(got[0], "fail connection: Access denied for user 'lockstep'@") || r.Whole {
			t.Errorf("whole %v, %q", r.Whole, got)
		}
		if !strings.Contains(r.SQL(), "; by hand: check user, password") {
			t.Error(r.SQL())
		}
		o.Password = func() (string, error) { return "", errors.New("open pw:\nno such file") }
		if diff := cmp.Diff([]string{"fail password: open pw: no such file"}, notOK(runCheck(t, o, checkPrefix("")))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUnreachableMemberIsAnErrorOnOneLine(t *testing.T) {
	o := Options{Member: "us-1", DSN: "mysql://u@127.0.0.1:1/db"}
	_, err := o.Check(t.Context(), checkPrefix(""))
	want := "member us-1: connect to 127.0.0.1:1 as u: connect: connection refused"
	if fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	o.DSN = "mysql://127.0.0.1"
	if _, err := o.Check(t.Context(), checkPrefix("")); err == nil || !strings.HasPrefix(err.Error(), "member us-1: dsn names no user") {
		t.Error(err)
	}
}

// A server that nobody has verified may be anybody, who is then given the password.
func TestClearTextAndUnverifiedServersAreWarnedOfUnlessItStaysOnTheMachine(t *testing.T) {
	for text, want := range map[string][2]preflight.State{ // in clear text; encrypted
		"mysql://u@10.0.0.1":                          {preflight.OK, preflight.OK}, // never in clear text
		"mysql://u@10.0.0.1?tls=preferred":            {preflight.Warn, preflight.Warn},
		"mysql://u@10.0.0.1?tls=disable":              {preflight.Warn, preflight.Warn},
		"mysql://u@10.0.0.1?tls=required":             {preflight.Warn, preflight.Warn},
		"mysql://u@10.0.0.1?tls=verify-ca&tls_ca=/ca": {preflight.Warn, preflight.Warn},
		"mysql://u@10.0.0.1?tls=verify-full":          {preflight.OK, preflight.OK},
		"mysql://u@127.0.0.1":                         {preflight.OK, preflight.OK},
		"mysql://u@[::1]":                             {preflight.OK, preflight.OK},
		"mysql://u@localhost":                         {preflight.OK, preflight.OK},
		"mysql://u@localhost.example?tls=disable":     {preflight.Warn, preflight.Warn},
		"mysql://u@/?socket=/run/mysqld.sock":         {preflight.OK, preflight.OK},
	} {
		d, err := parseDSN(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, encrypted := range []bool{false, true} {
			if got := judgeTransport(d, encrypted); got.State != want[i] {
				t.Errorf("%s, encrypted %v: %s %s", text, encrypted, got.State, got.Detail)
			}
		}
	}
}
