package config

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExampleLoads(t *testing.T) {
	c, err := Load("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := c.Group("shop")
	if g == nil || len(g.Members) != 2 || g.Reference != "eu-1" {
		t.Fatalf("group shop = %+v", g)
	}
	if got := g.Member("us-1").DSN; got != "host=10.0.1.1 dbname=shop user=lockstep sslmode=verify-full" {
		t.Errorf("dsn of us-1 = %q", got)
	}
	if got := g.LagBudget("public.events"); got != 2*time.Minute {
		t.Errorf("lag budget of public.events = %s", got)
	}
	if got := g.LagBudget("public.orders"); got != 10*time.Second {
		t.Errorf("lag budget of public.orders = %s", got)
	}
	if got := g.ScrubEvery("public.events"); got != 168*time.Hour || len(g.Scrub.Windows) != 2 {
		t.Errorf("public.events is scrubbed every %s, in %v", got, g.Scrub.Windows)
	}
	if diff := cmp.Diff([]string{"seen_at"}, g.ExcludeColumns("public.events")); diff != "" {
		t.Error(diff)
	}
	if string(Example) == "" {
		t.Error("the example is not embedded")
	}
}

// minimal is a whole file of 12 lines; the tests below break one thing each.
const minimal = `data_dir: /tmp/x
groups:
  - name: shop
    engine: postgres
    members:
      - name: a
        dsn: postgres://u@h1/db
      - name: b
        dsn: postgres://u@h2/db
    tables:
      include:
        - public.*
`

func TestDefaultsAreFilledIn(t *testing.T) {
	c, err := Parse("f", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{DataDir: "/tmp/x", Listen: DefaultListen, LagBudget: DefaultLagBudget, MaxInFlightRows: DefaultMaxInFlightRows,
		SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(minimal)))}
	got := *c
	got.Groups = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := c.Groups[0].LagBudget("public.x"); got != DefaultLagBudget {
		t.Errorf("lag budget = %s", got)
	}
}

func TestEachMistakeIsOneLineWithPlaceAndRemedy(t *testing.T) {
	t.Setenv("LOCKSTEP_TEST_PW", "hunter2")
	tests := []struct {
		name, old, new string
		want           string
	}{
		{"misspelled key", "data_dir: /tmp/x", "data_dri: /tmp/x",
			`f:1: unknown key "data_dri": did you mean "data_dir"?` + "\n" +
				`f:1: data_dir: is missing: say where lockstep keeps its store, such as /var/lib/lockstep`},
		{"misspelled key of a member", "dsn: postgres://u@h2/db", "dsn: postgres://u@h2/db\n        pasword_file: x",
			`f:10: groups[0].members[1]: unknown key "pasword_file": did you mean "password_file"?`},
		{"a key of a later version", "    tables:", "    audit: {}\n    tables:",
			`f:10: groups[0]: unknown key "audit": this version of lockstep does not have it; remove it`},
		{"user with two roles", "data_dir: /tmp/x", "data_dir: /tmp/x\nroles:\n  viewer: [ann]\n  operator: [ann]",
			`f:4: roles.operator[0]: "ann" is already on line 3: every one needs its own`},
		{"host with a port", "data_dir: /tmp/x", "data_dir: /tmp/x\nweb: {allowed_hosts: [\"lockstep:9640\", \"*.example\", a.example]}",
			`f:2: web.allowed_hosts[0]: "lockstep:9640" is not the name of a host: write one such as lockstep.example, without scheme, port and *` + "\n" +
				`f:2: web.allowed_hosts[1]: "*.example" is not the name of a host: write one such as lockstep.example, without scheme, port and *`},
		{"roles of nobody", "data_dir: /tmp/x", "data_dir: /tmp/x\nroles: {}",
			`f:2: roles: names no user: list users under viewer, operator or auditor, or leave the key out`},
		{"role that there is not", "data_dir: /tmp/x", "data_dir: /tmp/x\nroles: {admin: [ann]}",
			`f:2: roles: unknown key "admin": known here are viewer, operator, auditor` + "\n" +
				`f:2: roles: names no user: list users under viewer, operator or auditor, or leave the key out`},
		{"alertmanager", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  alertmanager: [{url: x}]",
			`f:3: alerts.alertmanager[0].url: is not an HTTP address: write it like http://alertmanager:9093`},
		{"alertmanager twice", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  alertmanager: [{url: http://a:1}, {url: http://a:1}]",
			`f:3: alerts.alertmanager[1].url: "http://a:1" is already on line 3: every one needs its own`},
		{"alertmanager with a password", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  alertmanager: [{url: http://u:p@a:1}]",
			`f:3: alerts.alertmanager[0].url: holds a password or a user name: write username and password_file beside it`},
		{"alertmanager without a password", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  alertmanager: [{url: http://a:1, username: u}]",
			`f:3: alerts.alertmanager[0].username: has no password_file beside it: name the file that holds the password, or remove username`},
		{"alertmanager with a password for all to read", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  alertmanager: [{url: http://a:1, username: u, password_file: /p}]",
			`f:3: alerts.alertmanager[0].url: has the password sent in clear text: write https://, or clear_text: true beside it to let anybody on the way read it`},
		{"pagerduty for all to read", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  pagerduty: [{routing_key_file: /k, url: http://a:1}]",
			`f:3: alerts.pagerduty[0].url: has the routing key sent in clear text: write https://, or clear_text: true beside it to let anybody on the way read it`},
		{"webhook with a password for all to read", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  webhook: [{url: http://u:p@a:1}]",
			`f:3: alerts.webhook[0].url: holds a password or a user name that would be sent in clear text: write https://`},
		{"external_url", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {external_url: lockstep}",
			`f:2: alerts.external_url: is not an HTTP address: write it like https://lockstep.example`},
		{"runbook_url", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {runbook_url: docs/runbooks}",
			`f:2: alerts.runbook_url: is not an HTTP address: write it like https://wiki.example/lockstep/runbooks`},
		{"pagerduty", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts:\n  pagerduty: [{url: x}]",
			"f:3: alerts.pagerduty[0].routing_key_file: is missing: name the file that holds the integration's routing key\n" +
				`f:3: alerts.pagerduty[0].url: is not an HTTP address: write it like https://hooks.example/lockstep`},
		{"slack with its secret in the file", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {slack: [{url: https://hooks.slack.com/T0}]}",
			`f:2: alerts.slack[0]: unknown key "url": known here are name, url_file, match, clear_text` + "\n" +
				`f:2: alerts.slack[0].url_file: is missing: name the file that holds the URL of the incoming webhook`},
		{"the same receiver twice", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {slack: [{url_file: a, name: ops}], pagerduty: [{routing_key_file: b, name: ops}]}",
			`f:2: alerts.slack[0].name: "ops" is already on line 2: every one needs its own`},
		{"a severity", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {slack: [{url_file: a, match: {severity: [page]}}]}",
			`f:2: alerts.slack[0].match.severity[0]: "page" is no severity: write critical or warning`},
		{"a watchdog that nobody hears", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {watchdog: true}",
			`f:2: alerts.watchdog: is on without alertmanager: list the Alertmanagers that are to be told, or remove it`},
		{"witnesses and time-stamps that cannot be", "data_dir: /tmp/x", "data_dir: /tmp/x\naudit: {timestamps: {url: 'https://tsa.example.org', every: 25h}, witnesses: [{url: w, key: k}, {key: k}, {url: 'https://w.example.org'}]}",
			`f:2: audit.timestamps.every: 25h0m0s is too rare: write at most 24h0m0s: verification wants all entries but the last ones stamped` + "\n" +
				`f:2: audit.witnesses[0].url: is not an HTTP address: write the address that lockstep audit witness listens on, such as https://witness.example.org` + "\n" +
				`f:2: audit.witnesses[1].url: is missing: write the address that lockstep audit witness listens on, such as https://witness.example.org` + "\n" +
				`f:2: audit.witnesses[2].key: is missing: write the key that lockstep audit witness prints`},
		{"an audit log that nobody can name", "data_dir: /tmp/x", "data_dir: /tmp/x\naudit: {every: 5s, origin: 'https://example.org'}",
			`f:2: audit.every: 5s is too often: write at least 1m0s` + "\n" +
				`f:2: audit.origin: "https://example.org" is not usable: write a name that is yours, without a scheme, such as example.org/lockstep`},
		{"a canary that nobody watches", "    engine: postgres", "    engine: postgres\n    canary: {table: other.canary, every: 1s, members: [c]}",
			`f:5: groups[0].canary.table: other.canary is not watched: add it to tables.include` + "\n" +
				`f:5: groups[0].canary.every: 1s is too often: write at least 1m0s` + "\n" +
				`f:5: groups[0].canary.members: "c" is no member of the group: name its members`},
		{"a canary whose name needs quotes", "    engine: postgres", "    engine: postgres\n    canary: {table: 'public.x; DROP TABLE y'}",
			`f:5: groups[0].canary.table: "public.x; DROP TABLE y" is not usable: write schema.table, of lower-case letters, digits and _`},
		{"expected keys of many tables", "    engine: postgres", "    engine: postgres\n    expected_writes: [{tables: [\"public.*\"], first_key: '10'}]",
			`f:5: groups[0].expected_writes[0].tables: is more than one table, and keys are those of one: name one table without * and ?`},
		{"an expected key that is none", "    engine: postgres", "    engine: postgres\n    expected_writes: [{tables: [public.a], first_key: 'id=10'}]",
			`f:5: groups[0].expected_writes[0].first_key: is not JSON: write it like '{"id": 1000}' or, of a key of one column, like '1000'`},
		{"expected writes of a stranger", "    engine: postgres", "    engine: postgres\n    expected_writes: [{tables: [public.a], members: [c], kinds: [new]}]",
			`f:5: groups[0].expected_writes[0].kinds[0]: "new" is no kind of divergence: write changed, missing, extra or stale` + "\n" +
				`f:5: groups[0].expected_writes[0].members: "c" is no member of the group: name its members, or leave the key out`},
		{"row_index", "        - public.*", "        - public.*\n      overrides: [{table: public.a, row_index: off}]",
			`f:13: groups[0].tables.overrides[0].row_index: is off: PostgreSQL's log does not say what a row was before a change, so the index has to be kept: remove the key`},
		{"row_index misspelled", "        - public.*", "        - public.*\n      overrides: [{table: public.a, row_index: of}]",
			`f:13: groups[0].tables.overrides[0].row_index: "of" is neither on nor off: write on or off`},
		{"a foreign key", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {nonsense: 1}",
			`f:2: alerts: unknown key "nonsense": known here are webhook, alertmanager, pagerduty, slack, external_url, runbook_url, watchdog`},
		{"key twice", "    engine: postgres", "    engine: postgres\n    engine: postgres",
			`f:5: groups[0].engine: is set a second time, first on line 4: keep one`},
		{"no value", "data_dir: /tmp/x", "data_dir:",
			`f:1: data_dir: has no value: give it one`},
		{"no value of a key that may be left out", "data_dir: /tmp/x", "data_dir: /tmp/x\nlisten:",
			`f:2: listen: has no value: give it one, or leave the key out`},
		{"empty", "data_dir: /tmp/x", "data_dir: ''\nlisten: ''",
			`f:1: data_dir: is empty: give it a value` + "\n" +
				`f:2: listen: is empty: give it a value, or leave the key out`},
		{"empty name of a group", "  - name: shop", "  - name: ''", `f:3: groups[0].name: is empty: give it a value`},
		{"empty name of a member", "name: b", "name: ''", `f:8: groups[0].members[1].name: is empty: give it a value`},
		{"empty pattern", "- public.*", "- public.*\n        - ''", `f:13: groups[0].tables.include[1]: is empty: give it a value, or take it out of the list`},
		{"number for a duration", "data_dir: /tmp/x", "data_dir: /tmp/x\nlag_budget: 30",
			`f:2: lag_budget: 30 has no unit: write 30s or 30m`},
		{"bad duration", "data_dir: /tmp/x", "data_dir: /tmp/x\nlag_budget: soon",
			`f:2: lag_budget: "soon" is not a duration: write it like 30s, 2m or 1h30m`},
		{"negative duration", "    engine: postgres", "    engine: postgres\n    lag_budget: -1s",
			`f:5: groups[0].lag_budget: "-1s" is not positive: write it like 30s, 2m or 1h30m`},
		{"a hundred years", "data_dir: /tmp/x", "data_dir: /tmp/x\nlag_budget: 876000h",
			`f:2: lag_budget: "876000h" is more than ten years: write less, or leave the key out`},
		{"a budget of months", "    engine: postgres", "    engine: postgres\n    lag_budget: 1000h",
			`f:5: groups[0].lag_budget: "1000h" is more than 30 days, for which nobody would be told of a difference: write it like 30s, 2m or 1h30m`},
		{"bad count", "data_dir: /tmp/x", "data_dir: /tmp/x\nmax_in_flight_rows: 0",
			`f:2: max_in_flight_rows: "0" is not a positive whole number: write it like 1000000`},
		{"bad listen", "data_dir: /tmp/x", "data_dir: /tmp/x\nlisten: localhost",
			`f:2: listen: "localhost" is not an address: write host:port, such as 127.0.0.1:9640`},
		{"unknown engine", "engine: postgres", "engine: oracle",
			`f:4: groups[0].engine: unknown engine "oracle": write postgres, mysql or mariadb`},
		{"no engine", "    engine: postgres\n", "",
			`f:3: groups[0].engine: is missing: write postgres, mysql or mariadb`},
		{"group name", "name: shop", "name: Shop",
			`f:3: groups[0].name: "Shop" is not a usable name: use 1 to 40 of a-z, 0-9 and _: it becomes part of slot names`},
		{"member name", "name: b", "name: b/c",
			`f:8: groups[0].members[1].name: "b/c" is not a usable name: use letters, digits, dot, hyphen and _`},
		{"name twice", "name: b", "name: a",
			`f:8: groups[0].members[1].name: "a" is already on line 6: every one needs its own`},
		{"one member", "      - name: b\n        dsn: postgres://u@h2/db\n", "",
			`f:5: groups[0].members: lists 1: a group needs at least 2 members to compare`},
		{"reference", "    engine: postgres", "    engine: postgres\n    reference: c",
			`f:5: groups[0].reference: "c" is no member of the group: name one of its members, or leave the key out`},
		{"password", "postgres://u@h2/db", "postgres://u:hunter2@h2/db",
			`f:9: groups[0].members[1].dsn: holds a password: put it in a file and name that as password_file, or write ${NAME} for it`},
		{"password as a keyword", "postgres://u@h2/db", "host=h dbname=d password='hun ter2'",
			`f:9: groups[0].members[1].dsn: holds a password: put it in a file and name that as password_file, or write ${NAME} for it`},
		{"password as a parameter", "postgres://u@h2/db", "postgres://u@h2/db?password=hunter2",
			`f:9: groups[0].members[1].dsn: holds a password: put it in a file and name that as password_file, or write ${NAME} for it`},
		{"half a password", "postgres://u@h2/db", "postgres://u:hunter2${LOCKSTEP_TEST_PW}@h2/db",
			`f:9: groups[0].members[1].dsn: holds a password: put it in a file and name that as password_file, or write ${NAME} for it`},
		{"password that breaks the URL", "postgres://u@h2/db", "postgres://u:hunter2%zz@h2/db",
			`f:9: groups[0].members[1].dsn: is not a well-formed URL: ` + dsnExample(Postgres)},
		{"two passwords", "dsn: postgres://u@h2/db", "dsn: postgres://u:${LOCKSTEP_TEST_PW}@h2/db\n        password_file: x",
			`f:10: groups[0].members[1].password_file: the dsn brings a password too: keep one of the two`},
		{"no such variable", "postgres://u@h2/db", "postgres://u:${LOCKSTEP_TEST_NONE}@h2/db",
			`f:9: groups[0].members[1].dsn: the environment variable LOCKSTEP_TEST_NONE is not set: set it for lockstep, or remove the ${LOCKSTEP_TEST_NONE}`},
		{"no host", "postgres://u@h2/db", "postgres:///db",
			`f:9: groups[0].members[1].dsn: names no host: ` + dsnExample(Postgres)},
		{"no database", "postgres://u@h2/db", "postgres://u@h2",
			`f:9: groups[0].members[1].dsn: names no database: ` + dsnExample(Postgres)},
		{"two hosts", "postgres://u@h2/db", "postgres://u@h2,h3/db",
			`f:9: groups[0].members[1].dsn: names several hosts: a member is one server: list each as a member of its own`},
		{"sslmode", "postgres://u@h2/db", "postgres://u@h2/db?sslmode=verify",
			`f:9: groups[0].members[1].dsn: unknown sslmode "verify": use one of disable, allow, prefer, require, verify-ca, verify-full`},
		{"empty sslmode", "postgres://u@h2/db", "postgres://u@h2/db?sslmode=",
			`f:9: groups[0].members[1].dsn: unknown sslmode "": use one of disable, allow, prefer, require, verify-ca, verify-full`},
		{"empty sslmode among keywords", "postgres://u@h2/db", "host=h2 dbname=db user=u sslmode=''",
			`f:9: groups[0].members[1].dsn: unknown sslmode "": use one of disable, allow, prefer, require, verify-ca, verify-full`},
		{"mysql scheme", "postgres://u@h2/db", "mysql://u@h2/db",
			`f:9: groups[0].members[1].dsn: is of another engine than the group (scheme "mysql"): ` + dsnExample(Postgres)},
		{"no include", "      include:\n        - public.*", "      exclude: [public.x]",
			`f:10: groups[0].tables.include: is missing: list patterns of schema.table, such as ["public.*"]`},
		{"empty include", "      include:\n        - public.*", "      include: []",
			`f:11: groups[0].tables.include: lists no table: list patterns of schema.table, such as ["public.*"]`},
		{"class in a pattern", "        - public.*", "        - public.[ab]",
			`f:12: groups[0].tables.include[0]: "public.[ab]" holds "[": only * and ? are special, names are written without quotes; ? stands for such a character in a name`},
		{"no schema", "        - public.*", "        - orders",
			`f:12: groups[0].tables.include[0]: "orders" names no schema: write schema.table, such as public.orders`},
		{"override of a table that is not watched", "        - public.*", "        - public.*\n      overrides: [{table: sales.x}]",
			`f:13: groups[0].tables.overrides[0].table: "sales.x" is not among the watched tables: include it, or remove the override`},
		{"override of a pattern", "        - public.*", "        - public.*\n      overrides: [{table: public.*}]",
			`f:13: groups[0].tables.overrides[0].table: "public.*" is not one table: write schema.table without * and ?`},
		{"webhook address", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {webhook: [{url: ftp://a/token}]}",
			`f:2: alerts.webhook[0].url: is not an HTTP address: write it like https://hooks.example/lockstep`},
		{"mapping for a list", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: {webhook: {url: http://a/}}",
			`f:2: alerts.webhook: a mapping where a list belongs: write it as [...] or as lines that start with -`},
		{"list for a mapping", "data_dir: /tmp/x", "data_dir: /tmp/x\nalerts: [1]",
			`f:2: alerts: a list where a mapping belongs: its keys are webhook, alertmanager, pagerduty, slack, external_url, runbook_url, watchdog`},
		{"number for text", "name: shop", "name: 2024",
			`f:3: groups[0].name: a number where text belongs: put it in quotes`},
		{"alias", "data_dir: /tmp/x", "data_dir: &d /tmp/x",
			`f:1: data_dir: an anchor or alias, which this file may not have, where text belongs: put it in quotes`},
		{"not YAML", "groups:", "groups: [",
			"f:2: sequence end token ']' not found: the file has to be YAML"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(minimal, test.old) {
				t.Fatalf("the file does not hold %q", test.old)
			}
			_, err := Parse("f", []byte(strings.Replace(minimal, test.old, test.new, 1)))
			if diff := cmp.Diff(test.want, fmt.Sprint(err)); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Error("the error shows a password")
			}
		})
	}
}

func TestAllMistakesAreReportedInTheOrderOfLines(t *testing.T) {
	file := strings.NewReplacer("name: shop", "name: S", "engine: postgres", "engine: oracle", "data_dir", "datadir").Replace(minimal)
	_, err := Parse("lockstep.yaml", []byte(file))
	lines := strings.Split(fmt.Sprint(err), "\n")
	var places []string
	for _, l := range lines {
		place, _, _ := strings.Cut(l, ": ")
		places = append(places, place)
	}
	if diff := cmp.Diff([]string{"lockstep.yaml:1", "lockstep.yaml:1", "lockstep.yaml:3", "lockstep.yaml:4"}, places); diff != "" {
		t.Errorf("%s\n%v", diff, err)
	}
	var one *Error
	if !errors.As(err, &one) || one.Line != 1 {
		t.Errorf("errors.As found %+v", one)
	}
}

func TestPasswordComesFromTheEnvironmentAsItIs(t *testing.T) {
	t.Setenv("LOCKSTEP_TEST_PW", "p@ss/w:rd$1%")
	t.Setenv("LOCKSTEP_TEST_HOST", "db.example")
	t.Setenv("LOCKSTEP_TEST_PORT", "5433")
	t.Setenv("LOCKSTEP_TEST_DSN", "postgres://u:whole@h/db")
	tests := []struct{ dsn, text, password string }{
		{"postgres://u:${LOCKSTEP_TEST_PW}@${LOCKSTEP_TEST_HOST}:${LOCKSTEP_TEST_PORT}/db?sslmode=require", "postgres://u@db.example:5433/db?sslmode=require", "p@ss/w:rd$1%"},
		{"host=${LOCKSTEP_TEST_HOST} password=${LOCKSTEP_TEST_PW} dbname='my db'", "host=db.example dbname='my db'", "p@ss/w:rd$1%"},
		{"${LOCKSTEP_TEST_DSN}", "postgres://u@h/db", "whole"},
		{"postgres:///db?host=/var/run/postgresql&user=u", "postgres:///db?host=/var/run/postgresql&user=u", ""},
		{"postgres://$u@h/db", "postgres://$u@h/db", ""},
	}
	for _, test := range tests {
		c, err := Parse("f", []byte(strings.Replace(minimal, "postgres://u@h2/db", `"`+test.dsn+`"`, 1)))
		if err != nil {
			t.Errorf("%s: %v", test.dsn, err)
			continue
		}
		m := c.Groups[0].Member("b")
		password, err := m.Password()
		if err != nil || m.DSN != test.text || password != test.password {
			t.Errorf("%s: got %q, %q, %v; want %q, %q", test.dsn, m.DSN, password, err, test.text, test.password)
		}
	}
}

func TestServersKeepNoMoreForUsThanTheyMay(t *testing.T) {
	for given, want := range map[string]int64{"512MB": 512 << 20, "3GB": 3 << 30, "2TB": 2 << 40, "off": 0} {
		c, err := Parse("f", []byte(strings.Replace(minimal, "u@h2/db\n", "u@h2/db\n        max_retained_wal: "+given+"\n", 1)))
		if err != nil || c.Groups[0].Member("b").MaxRetainedWAL != want || c.Groups[0].Member("a").MaxRetainedWAL != DefaultMaxRetainedWAL {
			t.Errorf("%q: %v, %v", given, c, err)
		}
	}
	const remedy = "write it like 512MB, 10GB or 1TB, or off"
	for given, want := range map[string]string{"1000": "1000 has no unit: " + remedy, "10G": `"10G" is not a size: ` + remedy, "0GB": `"0GB" is not a size: ` + remedy} {
		_, err := Parse("f", []byte(strings.Replace(minimal, "u@h2/db\n", "u@h2/db\n        max_retained_wal: "+given+"\n", 1)))
		if err == nil || !strings.HasSuffix(err.Error(), "groups[0].members[1].max_retained_wal: "+want) {
			t.Errorf("%q: %v", given, err)
		}
	}
	mysql := strings.NewReplacer("engine: postgres", "engine: mysql", "postgres://", "mysql://", "u@h2/db\n", "u@h2/db\n        max_retained_wal: off\n").Replace(minimal)
	if _, err := Parse("f", []byte(mysql)); err == nil || !strings.Contains(err.Error(), "max_retained_wal: is for PostgreSQL") {
		t.Error(err)
	}
}

func TestMySQLMembersAreURLs(t *testing.T) {
	t.Setenv("LOCKSTEP_TEST_PW", "p@ss/w:rd$1%")
	text := strings.NewReplacer("engine: postgres", "engine: mariadb", "postgres://u@h1/db", "mysql://u@h1:3306/shop?tls=verify-full",
		"postgres://u@h2/db", `"mysql://u:${LOCKSTEP_TEST_PW}@h2"`).Replace(minimal)
	c, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	g := c.Groups[0]
	if g.Engine != MariaDB || g.Member("a").DSN != "mysql://u@h1:3306/shop?tls=verify-full" || g.Member("b").DSN != "mysql://u@h2" || g.Member("b").EnvPassword.Reveal() != "p@ss/w:rd$1%" {
		t.Errorf("%+v", g)
	}
	for dsn, words := range map[string]string{
		"postgres://u@h2/db":        "is not a mysql URL: write it like mysql://lockstep@10.0.0.1:3306/shop?tls=verify-full",
		"u@tcp(h2:3306)/db":         "is not a mysql URL",
		"mysql://u:secret@h2/db":    "holds a password: put it in a file",
		"mysql://u@/db":             "names no host",
		"mysql://u@h1,h2/db":        "names several hosts",
		"mysql://u:%zz@h2:3306/db?": "is not a well-formed URL",
	} {
		_, err := Parse("f", []byte(strings.Replace(text, "mysql://u:${LOCKSTEP_TEST_PW}@h2", dsn, 1)))
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", dsn, err, words)
		}
	}
}

func TestPasswordFileIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	m := Member{Name: "eu-1", PasswordFile: path}
	if _, err := m.Password(); err == nil || !strings.Contains(err.Error(), "password of member eu-1: open "+path) {
		t.Errorf("missing file: %v", err)
	}
	for content, want := range map[string]string{"one\n": "one", "two": "two", "three\n\n": "three\n", "four\r\n": "four"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := m.Password(); err != nil || got != want {
			t.Errorf("file %q: got %q, %v", content, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Password(); err == nil {
		t.Error("an empty file is no error")
	}
}

func TestSecretNeverShows(t *testing.T) {
	s := Secret("hunter2")
	encoded, err := json.Marshal(Receiver{URL: s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s)
	m := Member{EnvPassword: s}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%#v", s), fmt.Sprintf("%q", s), fmt.Sprintf("%+v %#v", m, m), string(encoded), log.String()} {
		if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e") {
			t.Errorf("shows: %s", out)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal does not")
	}
}

// A schema of PostgreSQL that has a dot in its name is quoted, and so in patterns.
func TestPatternsHaveSchemasInQuotesWhereTablesDo(t *testing.T) {
	for pattern, want := range map[string]string{
		`"a.b".*`: "", `"a.b"."*`: `holds "\""`, `"public".*`: `holds "\""`, `public."orders"`: `holds "\""`, `"a""b".x`: "", `"a.b`: `holds "\""`, `"a.b".[x]`: `holds "["`,
	} {
		_, err := Parse("f", []byte(strings.Replace(minimal, "public.*", "'"+pattern+"'", 1)))
		if got := fmt.Sprint(err); (err == nil) != (want == "") || err != nil && !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", pattern, err, want)
		}
	}
	if !(Tables{Include: []string{`"a.b".*`}}).Match(`"a.b".c`) {
		t.Error("it does not match")
	}
	for table, want := range map[string]string{`public.a.b`: "public", `"a.b".c.d`: `"a.b"`, `"""a".x`: `"""a"`} {
		if got := SchemaOf(table); got != want {
			t.Errorf("%s is in schema %s, want %s", table, got, want)
		}
	}
}

func TestPatternsMatchWholeNames(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"public.*", "public.orders", true},
		{"public.*", "public.a.b", true}, // a dot in the table's name
		{"public.*", "publicx.orders", false},
		{"*", "sales.orders", true},
		{"*.orders", "sales.orders", true},
		{"*.orders", "sales.orders_old", false},
		{"public.order?", "public.orders", true},
		{"public.order?", "public.order", false},
		{"public.?", "public.é", true},
		{"public.*_*_x", "public.a_b_c_x", true},
		{"public.orders", "public.Orders", false},
		{"p.*a*a*a*b", "p." + strings.Repeat("a", 60), false},
	}
	for _, test := range tests {
		if got := (Tables{Include: []string{test.pattern}}).Match(test.name); got != test.want {
			t.Errorf("%s against %s: %t", test.pattern, test.name, got)
		}
	}
	tables := Tables{Include: []string{"public.*"}, Exclude: []string{"public.s*"}}
	if named := (Tables{Include: []string{"public.*", "public.orders"}}); !named.Named("public.orders") || named.Named("public.items") {
		t.Error("a table is named where a pattern fits, or is not by its name")
	}
	if tables.Match("public.sessions") || !tables.Match("public.orders") {
		t.Error("exclude does not win over include")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add(Example)
	f.Add([]byte("a: &x [*x]\n<<: *x\n? {a: b}\n: !!str c\n---\n..."))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if (c == nil) == (err == nil) {
			t.Errorf("config %v, error %v", c, err)
		}
	})
}

func TestReceiversAndExpectedWritesAreMatched(t *testing.T) {
	c, err := Parse("f", []byte(strings.Replace(minimal, "    engine: postgres\n", `    engine: postgres
    expected_writes: [{tables: ["public.local_*"], members: [b], kinds: [extra]}, {tables: [public.notes]}]
`, 1)+`alerts:
  webhook: [{url: "http://a/", match: {severity: [critical], groups: [shop], members: [b], tables: ["public.o*"]}}, {url: "http://b/"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	first, second := c.Alerts.Receivers[0], c.Alerts.Receivers[1]
	if first.Name == second.Name || !strings.HasPrefix(first.Name, "webhook-") {
		t.Errorf("receivers are called %s and %s", first.Name, second.Name)
	}
	labels := func(severity, group, member, table string) map[string]string {
		return map[string]string{"severity": severity, "group": group, "member": member, "table": table}
	}
	for _, c := range []struct {
		labels map[string]string
		fits   bool
	}{
		{labels("critical", "shop", "b", "public.orders"), true}, {labels("warning", "shop", "b", "public.orders"), false},
		{labels("critical", "crm", "b", "public.orders"), false}, {labels("critical", "shop", "a", "public.orders"), false},
		{labels("critical", "shop", "b", "public.items"), false},
	} {
		if first.Match.Fits(c.labels) != c.fits || !second.Match.Fits(c.labels) {
			t.Errorf("%v fits: %v, %v", c.labels, first.Match.Fits(c.labels), second.Match.Fits(c.labels))
		}
	}
	g := c.Group("shop")
	for text, want := range map[string]bool{
		"b public.local_x extra": true, "b public.local_x changed": false, "a public.local_x extra": false,
		"a public.notes stale": true, "b public.orders extra": false,
	} {
		f := strings.Fields(text)
		if (len(g.ExpectedWrites(f[0], f[1], f[2])) > 0) != want {
			t.Errorf("%s is expected: %v", text, !want)
		}
	}
}

// A hook's address is all that somebody needs to post as lockstep.
func TestAddressOfASlackHookIsNotReadOnTheWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	for url, refused := range map[string]bool{"https://hooks.example/T0": false, "http://127.0.0.1:1/T0": false, "http://hooks.example/T0": true} {
		if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Receiver{Kind: SlackKind, Name: "ops", SecretFile: file}
		if _, err := r.Secret(); (err != nil) != refused || err != nil && (!strings.Contains(err.Error(), "clear_text: true for receiver ops") || strings.Contains(err.Error(), "T0")) {
			t.Errorf("%s: %v", url, err)
		}
		r.ClearText = true
		if _, err := r.Secret(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
