package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// checkEach runs a test with both versions.
func checkEach(t *testing.T, test func(t *testing.T, install dbtest.Install)) {
	t.Parallel()
	for _, v := range []dbtest.Version{dbtest.PG15, dbtest.PG18} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, dbtest.Need(t, v))
		})
	}
}

func checkPrefix(prefix string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, prefix) }
}

func checkOptions(s *dbtest.Server, role string) Options {
	return Options{Group: "g", Member: "m", DSN: s.DSNFor(role, ""), Slot: "lockstep_g", Publication: "lockstep_g"}
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

// runPsql pipes a script through the real psql, as a superuser.
func runPsql(t *testing.T, s *dbtest.Server, script string) {
	t.Helper()
	runPsqlAs(t, s.DSN(""), script)
}

func runPsqlAs(t *testing.T, dsn, script string) {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	psql := exec.CommandContext(t.Context(), path, "-X", "-q", "-d", dsn)
	psql.Stdin = strings.NewReader(script)
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s\n%s", err, out, script)
	}
}

func TestBareServerIsMadeReadyByTheSQLOfItsChecks(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.Install) {
		s := dbtest.StartT(t, install, dbtest.Options{Database: `shop's $lockstep$ \`, Conf: map[string]string{
			"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1",
		}})
		dbtest.ExecT(t, s, `CREATE ROLE "lock'step" LOGIN`,
			`CREATE TABLE orders (id int PRIMARY KEY)`,
			`CREATE TABLE "Odd ""t"".x\y
				; SELECT 1/0" (id int PRIMARY KEY)`,
			`CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING`,
			`CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)`,
			`CREATE TABLE tenants (id int PRIMARY KEY); ALTER TABLE tenants ENABLE ROW LEVEL SECURITY`,
			`CREATE SCHEMA sales; CREATE TABLE sales.events (id int, y int, PRIMARY KEY (id, y)) PARTITION BY LIST (y)`,
			`CREATE TABLE sales.events_1 PARTITION OF sales.events FOR VALUES IN (1)`,
			`CREATE TABLE sales.events_2 PARTITION OF sales.events FOR VALUES IN (2) PARTITION BY LIST (id)`,
			`CREATE TABLE sales.events_2a PARTITION OF sales.events_2 DEFAULT; ALTER TABLE sales.events_2a REPLICA IDENTITY NOTHING`,
			`CREATE TABLE keyless (id int)`,
		)
		o := checkOptions(s, "lock'step")
		match := func(name string) bool { return name != "public.keyless" && name != "public.child" }
		bare := runCheck(t, o, match)
		want := []string{
			`fail replication role: "lock'step" has no REPLICATION attribute`,
			`fail replication origins: "lock'step" may not read how far the server has replayed`,
			`fail row security: policies may hide rows from "lock'step" in public.tenants`,
			`fail schema sales: "lock'step" may not use it`,
			"fail reading rows: \"lock'step\" cannot yet read 6 tables: public.Odd \"t\".x\\y\n\t\t\t\t; SELECT 1/0, public.nothing, public.orders, public.parent, public.tenants, …",
			`fail table public.nothing: has REPLICA IDENTITY NOTHING, updates and deletes do not show their row`,
			`fail table sales.events: partition sales.events_2a: has REPLICA IDENTITY NOTHING, updates and deletes do not show their row`,
			`fail publication lockstep_g: does not exist`,
			`fail wal_level: replica, lockstep needs logical`,
			`fail max_replication_slots: 0 of 1 in use, lockstep needs 2`,
			`fail max_wal_senders: 0 of 1 in use, lockstep needs 2`,
			`warn max_slot_wal_keep_size: no bound: if lockstep is away, its slot could fill the disk`,
		}
		if diff := cmp.Diff(want, notOK(bare)); diff != "" {
			t.Errorf("bare server:\n%s", diff)
		}

		runPsql(t, s, bare.SQL())
		want = []string{
			"fail wal_level: replica, lockstep needs logical; it was changed, for when the server is restarted",
			"fail max_replication_slots: 0 of 1 in use, lockstep needs 2; it was changed, for when the server is restarted",
			"fail max_wal_senders: 0 of 1 in use, lockstep needs 2; it was changed, for when the server is restarted",
		}
		if err := dbtest.WaitFor(t.Context(), "the server to have read its settings", func(context.Context) (bool, error) {
			return cmp.Equal(want, notOK(runCheck(t, o, match))), nil
		}); err != nil {
			t.Errorf("before the restart: %v\n%s", err, cmp.Diff(want, notOK(runCheck(t, o, match))))
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		ready := runCheck(t, o, match)
		if diff := cmp.Diff([]string(nil), notOK(ready)); diff != "" {
			t.Errorf("after the SQL:\n%s", diff)
		}
		runPsql(t, s, bare.SQL()) // any number of times
		published, err := dbtest.Rows[string](t.Context(), s, `SELECT schemaname || '.' || tablename FROM pg_publication_tables
			WHERE pubname = 'lockstep_g' AND tablename !~ 'Odd' ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"public.nothing", "public.orders", "public.parent", "public.tenants", "sales.events_1", "sales.events_2a"}, published); diff != "" {
			t.Errorf("published:\n%s", diff)
		}
		readAsRole(t, o)
	})
}

// readAsRole does with the rights that check asked for what lockstep does with them.
func readAsRole(t *testing.T, o Options) {
	t.Helper()
	conn, err := o.connect(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	for _, query := range []string{"SELECT * FROM pg_replication_origin_status", "COPY public.orders TO STDOUT", "SELECT * FROM sales.events"} {
		if _, err := conn.Exec(t.Context(), query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	replication, err := o.connect(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(replication)
	if err := replication.PgConn().Exec(t.Context(), "CREATE_REPLICATION_SLOT lockstep_x TEMPORARY LOGICAL pgoutput").Close(); err != nil {
		t.Errorf("make a slot: %v", err)
	}
}

func TestEachTrapHasItsCheck(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.Install) {
		s := newDatabase(t, publisherOf(t, install), "")
		generated := []string{"table public.gen", "has REPLICA IDENTITY FULL and a generated column: once it is published, the application's UPDATE and DELETE would fail"}
		if install.Version < 18 {
			generated = nil
		}
		publish := "CREATE PUBLICATION lockstep_g FOR TABLE " // each test has one of its own in place of lockstep_g
		tests := []struct {
			name   string
			tables string // below public., by prefix
			setup  string
			want   []string // subject, detail of the one failure, and what is said before it; nil: none
			mends  bool     // by SQL
		}{
			{"no table matches", "absent", "", []string{"tables", "no table matches"}, false},
			{"ready", "ready", "CREATE TABLE ready (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id) STORED);" + publish + "ready", nil, false},
			{"no publication", "nopub", "CREATE TABLE nopub (id int PRIMARY KEY)", []string{"publication lockstep_g", "does not exist"}, true},
			{"table that is not published", "two", "CREATE TABLE two1 (id int PRIMARY KEY); CREATE TABLE two2 (id int PRIMARY KEY);" + publish + "two1",
				[]string{"publication lockstep_g", "lacks public.two2"}, true},
			{"partition that is not published", "part", `CREATE TABLE part (id int PRIMARY KEY) PARTITION BY LIST (id);
				CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF part DEFAULT;` + publish + "part_1",
				[]string{"publication lockstep_g", "lacks public.part_2"}, true},
			{"root that is published with its partitions", "root", `CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id);
				CREATE TABLE root_1 PARTITION OF root DEFAULT;` + publish + "root", nil, false},
			{"published by the root's name", "via", `CREATE TABLE via (id int PRIMARY KEY) PARTITION BY LIST (id);
				CREATE TABLE via_1 PARTITION OF via DEFAULT;` + publish + "via_1 WITH (publish_via_partition_root)",
				[]string{"publication lockstep_g", "does not publish every operation of every partition",
					"warn publication lockstep_g: has partitions of public.via one by one: those that are made later are not in it"}, true},
			{"too many tables", "many", "CREATE TABLE many1 (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY);" + publish + "many1, other",
				[]string{"publication lockstep_g", "publishes more than it should: public.other"}, true},
			{"for all tables", "forall", "CREATE TABLE forall (id int PRIMARY KEY); CREATE PUBLICATION lockstep_g FOR ALL TABLES",
				[]string{"publication lockstep_g", "is FOR ALL TABLES, which breaks updates of tables without a primary key"}, true},
			{"no truncate", "trunc", "CREATE TABLE trunc (id int PRIMARY KEY);" + publish + "trunc WITH (publish = 'insert, update, delete')",
				[]string{"publication lockstep_g", "does not publish every operation of every partition"}, true},
			{"row filter", "filter", "CREATE TABLE filter (id int PRIMARY KEY);" + publish + "filter WHERE (id > 5)",
				[]string{"publication lockstep_g", "has a row filter or column list for public.filter"}, true},
			{"column list", "cols", "CREATE TABLE cols (id int PRIMARY KEY, v int);" + publish + "cols (id)",
				[]string{"publication lockstep_g", "has a row filter or column list for public.cols"}, true},
			{"no primary key", "nokey", "CREATE TABLE nokey (id int); CREATE TABLE nokey_ok (id int PRIMARY KEY);" + publish + "nokey_ok",
				[]string{"table public.nokey", "has no primary key"}, false},
			{"deferrable primary key", "later", "CREATE TABLE later (id int PRIMARY KEY DEFERRABLE); CREATE TABLE later_ok (id int PRIMARY KEY);" + publish + "later_ok",
				[]string{"table public.later", "its primary key is deferrable, replication cannot use it"}, false},
			{"identity nothing", "ident", "CREATE TABLE ident (id int PRIMARY KEY); ALTER TABLE ident REPLICA IDENTITY NOTHING;" + publish + "ident",
				[]string{"table public.ident", "has REPLICA IDENTITY NOTHING, updates and deletes do not show their row"}, true},
			{"identity of an index that is gone", "gone", `CREATE TABLE gone (id int PRIMARY KEY, v int NOT NULL); CREATE UNIQUE INDEX gone_v ON gone (v);
				ALTER TABLE gone REPLICA IDENTITY USING INDEX gone_v; DROP INDEX gone_v;` + publish + "gone",
				[]string{"table public.gone", "has REPLICA IDENTITY NOTHING, updates and deletes do not show their row"}, true},
			{"identity by another index", "index", `CREATE TABLE index1 (id int PRIMARY KEY, v int NOT NULL); CREATE UNIQUE INDEX index1_v ON index1 (v);
				ALTER TABLE index1 REPLICA IDENTITY USING INDEX index1_v; CREATE TABLE index2 (id int PRIMARY KEY);` + publish + "index2",
				[]string{"table public.index1", "has REPLICA IDENTITY USING INDEX public.index1_v, which is not the primary key"}, false},
			{"identity by the primary key's index", "pkidx", "CREATE TABLE pkidx (id int PRIMARY KEY); ALTER TABLE pkidx REPLICA IDENTITY USING INDEX pkidx_pkey;" + publish + "pkidx", nil, false},
			{"full identity", "full", "CREATE TABLE full1 (id int PRIMARY KEY); ALTER TABLE full1 REPLICA IDENTITY FULL;" + publish + "full1", nil, false},
			{"full identity and a generated column", "gen", `CREATE TABLE gen (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id) STORED);
				ALTER TABLE gen REPLICA IDENTITY FULL; CREATE TABLE gen_ok (id int PRIMARY KEY);` + publish + "gen_ok" + map[bool]string{true: ", gen"}[generated == nil], generated, false},
			{"unlogged", "unlog", "CREATE UNLOGGED TABLE unlog (id int PRIMARY KEY); CREATE TABLE unlog_ok (id int PRIMARY KEY);" + publish + "unlog_ok",
				[]string{"table public.unlog", "is unlogged, its rows are not in the WAL"}, false},
		}
		var setups []string
		for _, test := range tests {
			setups = append(setups, strings.ReplaceAll(test.setup, "lockstep_g", "lockstep_"+test.tables))
		}
		dbtest.ExecT(t, s, setups...)
		conn, err := checkOptions(s, "postgres").connect(t.Context(), false) // for all: a session costs more than what it asks here
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(conn)
		check := func(t *testing.T, tables string) *preflight.Report {
			o, r := checkOptions(s, "postgres"), &report{}
			o.Publication = "lockstep_" + tables
			if err := r.read(t.Context(), conn, o, conn.Config(), checkPrefix("public."+tables)); err != nil {
				t.Fatal(err)
			}
			return &r.Report
		}
		var scripts string
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				r := check(t, test.tables)
				var want []string
				if test.want != nil {
					for _, line := range append(slices.Clone(test.want[2:]), "fail "+test.want[0]+": "+test.want[1]) {
						want = append(want, strings.ReplaceAll(line, "lockstep_g", "lockstep_"+test.tables))
					}
				}
				got := slices.DeleteFunc(notOK(r), func(l string) bool {
					return test.tables == "absent" && strings.Contains(l, "publication")
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatal(diff)
				}
				if test.mends {
					scripts += r.SQL()
				}
			})
		}
		runPsql(t, s, scripts)
		for _, test := range tests {
			if !test.mends {
				continue
			}
			if diff := cmp.Diff([]string(nil), notOK(check(t, test.tables))); diff != "" {
				t.Errorf("%s, after the SQL:\n%s", test.name, diff)
			}
		}
	})
}

// On a managed service check printed what only a superuser may do there, and its script stopped at the first statement. The services are
// servers with their roles here: the script is run as one of their administrators.
func TestManagedServicesAreGivenWhatTheirAdministratorsMayDo(t *testing.T) {
	t.Parallel()
	for _, managed := range services {
		t.Run(managed.admin, func(t *testing.T) {
			t.Parallel()
			s := dbtest.StartT(t, dbtest.Need(t, dbtest.PG18), dbtest.Options{Conf: map[string]string{"wal_level": "replica"}})
			dbtest.ExecT(t, s, "CREATE ROLE "+managed.owner+" SUPERUSER", "CREATE ROLE "+managed.admin+" CREATEROLE CREATEDB REPLICATION",
				"CREATE ROLE boss LOGIN CREATEROLE REPLICATION", "GRANT "+managed.admin+" TO boss", "GRANT CREATE ON SCHEMA public TO boss", "GRANT CREATE ON DATABASE "+s.Database+" TO boss")
			if managed.replica != "" {
				dbtest.ExecT(t, s, "CREATE ROLE "+managed.replica, "GRANT "+managed.replica+" TO boss WITH ADMIN OPTION", "ALTER ROLE boss NOREPLICATION")
			}
			dbtest.ExecT(t, s, "SET ROLE boss; CREATE ROLE lockstep LOGIN; CREATE TABLE orders (id int PRIMARY KEY); ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
			o, match := checkOptions(s, "lockstep"), checkPrefix("public.")
			before := runCheck(t, o, match)
			script := before.SQL()
			for _, never := range []string{"\nALTER SYSTEM", "\nGRANT SELECT ON pg_catalog", "BYPASSRLS;\n\n"} {
				if strings.Contains(script, never) {
					t.Errorf("the script has %q:\n%s", never, script)
				}
			}
			if version := before.Checks[0].Detail; !strings.HasSuffix(version, " on "+managed.name) {
				t.Errorf("the server is %s", version)
			}
			if !strings.Contains(script, "as a member of "+managed.admin) || !strings.Contains(script, managed.logical) || !strings.Contains(script, managed.settings) {
				t.Errorf("it does not say how it is done there:\n%s", script)
			}
			runPsqlAs(t, s.DSNFor("boss", ""), script)
			want := []string{
				`fail replication origins: "lockstep" may not read how far the server has replayed`,
				`fail row security: policies may hide rows from "lockstep" in public.orders`,
				`fail wal_level: replica, lockstep needs logical`,
				`warn max_slot_wal_keep_size: no bound: if lockstep is away, its slot could fill the disk`,
			}
			if diff := cmp.Diff(want, notOK(runCheck(t, o, match))); diff != "" {
				t.Errorf("after the script:\n%s", diff)
			}
		})
	}
}

// A partition that was made the day after was in no publication: its table was unverified until somebody ran SQL, each day.
func TestPartitionsOfTomorrowArePublished(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.Install) {
		s := newDatabase(t, publisherOf(t, install), `CREATE TABLE days (id int PRIMARY KEY) PARTITION BY RANGE (id);
			CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (10); CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
			CREATE TABLE days_2a PARTITION OF days_2 DEFAULT; CREATE PUBLICATION lockstep_g FOR TABLE ONLY days_1, ONLY days_2a`)
		role := "low_" + s.Database
		dbtest.ExecT(t, s, "CREATE ROLE "+role+" LOGIN")
		t.Cleanup(func() { _ = s.Exec(context.Background(), "DROP OWNED BY "+role, "DROP ROLE "+role) })
		o, match := checkOptions(s, role), checkPrefix("public.days")
		said := func() []string {
			return slices.DeleteFunc(notOK(runCheck(t, o, match)), func(l string) bool { return strings.Contains(l, "max_slot_wal_keep_size") })
		}
		const single = "warn publication lockstep_g: has partitions of public.days one by one: those that are made later are not in it"
		if !slices.Contains(said(), single) {
			t.Errorf("%q", said())
		}
		runPsql(t, s, runCheck(t, o, match).SQL())
		dbtest.ExecT(t, s, "CREATE SCHEMA deep", "CREATE TABLE deep.days_3 PARTITION OF days FOR VALUES FROM (20) TO (30)", "CREATE TABLE days_2b PARTITION OF days_2 FOR VALUES FROM (15) TO (20)",
			"INSERT INTO days VALUES (1), (12), (16), (25)")
		if bad := said(); len(bad) > 0 {
			t.Errorf("with a new partition: %q", bad)
		}
		source, err := New(o, testHasher)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		tables, err := source.Tables(t.Context(), match)
		if err != nil || len(tables) != 1 || tables[0].Problem != "" || len(tables[0].Leaves) != 4 {
			t.Fatalf("%+v, %v", tables, err)
		}
		snapshot, err := source.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer snapshot.Close()
		rows := 0
		if err := snapshot.Rows(t.Context(), tables[0], epochOf(tables[0], 1, 1), func(digest.Key, *digest.Row) error { rows++; return nil }); err != nil || rows != 4 {
			t.Errorf("%d rows were read: %v", rows, err)
		}
		for _, made := range []string{"FOR TABLES IN SCHEMA public, TABLES IN SCHEMA deep", "FOR TABLE days"} {
			dbtest.ExecT(t, s, "DROP PUBLICATION lockstep_g", "CREATE PUBLICATION lockstep_g "+made)
			if bad := said(); len(bad) > 0 {
				t.Errorf("%s: %q", made, bad)
			}
		}
	})
}

// The reason for the check of full identities: from PostgreSQL 18 on it is the application that would fail.
func TestPublishedFullIdentityWithAGeneratedColumnBreaksUpdatesFromEighteenOn(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.Install) {
		s := newDatabase(t, publisherOf(t, install), "CREATE TABLE gen (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (id) STORED)")
		dbtest.ExecT(t, s, "ALTER TABLE gen REPLICA IDENTITY FULL", "INSERT INTO gen VALUES (1)")
		err := s.Exec(t.Context(), "UPDATE gen SET v = 2")
		if broken := err != nil; broken != (install.Version >= 18) {
			t.Errorf("UPDATE: %v", err)
		}
	})
}

func TestSubscriptionsAreChecked(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.Install) {
		g := dbtest.GroupT(t, install, 1, "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE orders_2 (id int PRIMARY KEY)", dbtest.Options{})
		sub := g.Subscribers[0]
		dbtest.ExecT(t, sub, "CREATE ROLE lockstep LOGIN", "CREATE TABLE keyless (id int)", "CREATE TABLE orders_alone (id int PRIMARY KEY)")
		o := checkOptions(sub, "lockstep")
		match := checkPrefix("public.orders")
		runPsql(t, sub, runCheck(t, o, match).SQL())

		failures := func(want ...string) {
			t.Helper()
			err := dbtest.WaitFor(t.Context(), "the check", func(ctx context.Context) (bool, error) {
				r, err := o.Check(ctx, match)
				return err == nil && cmp.Equal(want, notOK(r)), err
			})
			if err != nil {
				t.Fatalf("%v; want %q, got %q", err, want, notOK(runCheck(t, o, match)))
			}
		}
		failures()
		r := runCheck(t, o, match)
		if lane, hold := cdc.Route(r.Lanes, "public.orders_alone"); lane != nil || hold != "" || len(r.Lanes) != 1 || len(r.Lanes[0].Tables) != 2 {
			t.Errorf("tables are brought by %+v", r.Lanes)
		}
		dbtest.ExecT(t, sub, "ALTER SUBSCRIPTION app_0 DISABLE")
		failures("fail subscription app_0: is disabled")
		dbtest.ExecT(t, sub, "ALTER SUBSCRIPTION app_0 ENABLE")
		dbtest.ExecT(t, g.Publisher, "CREATE PUBLICATION second FOR TABLE orders_2")
		if err := dbtest.Subscribe(t.Context(), sub, "second", g.Publisher, "second"); err != nil {
			t.Fatal(err)
		}
		failures("fail table public.orders_2: is carried by 2 subscriptions (app_0, second), whose order nobody can tell")
		dbtest.ExecT(t, sub, "ALTER SUBSCRIPTION second DISABLE", "ALTER SUBSCRIPTION second SET (slot_name = NONE)")
		failures("fail subscription second: has no slot on its publisher",
			"fail table public.orders_2: is carried by 2 subscriptions (app_0, second), whose order nobody can tell")
	})
}

func TestSlotOfOursIsChecked(t *testing.T) {
	t.Parallel()
	s := dbtest.StartT(t, dbtest.Need(t, dbtest.PG15), dbtest.Options{Conf: map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}})
	dbtest.ExecT(t, s, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION lockstep_g FOR TABLE t")
	tests := []struct{ make, want string }{
		{"SELECT 1", ""},
		{"SELECT pg_create_logical_replication_slot('lockstep_g', 'pgoutput')", ""},
		{"SELECT pg_create_physical_replication_slot('lockstep_g')", "fail slot lockstep_g: is not lockstep's: physical , two_phase false"},
		{"SELECT pg_create_logical_replication_slot('lockstep_g', 'pgoutput', false, true)", "fail slot lockstep_g: is not lockstep's: logical pgoutput, two_phase true"},
		{"CREATE DATABASE other", ""},
		{"SELECT pg_create_logical_replication_slot('lockstep_g', 'pgoutput'); SELECT pg_switch_wal(); CREATE TABLE x (id int); SELECT pg_switch_wal(); DROP TABLE x; SELECT pg_switch_wal(); CHECKPOINT",
			"warn slot lockstep_g: was invalidated"},
	}
	for _, test := range tests {
		for statement := range strings.SplitSeq(test.make, "; ") {
			dbtest.ExecT(t, s, statement)
		}
		got := strings.Join(notOK(runCheck(t, checkOptions(s, "postgres"), checkPrefix("public.t"))), "\n")
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.make, got, test.want)
		}
		dbtest.ExecT(t, s, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'lockstep_g'")
	}
}

func TestOfAStandbyOnlyWhatScansNeedIsAsked(t *testing.T) {
	t.Parallel()
	primary := dbtest.StartT(t, dbtest.Need(t, dbtest.PG15), dbtest.Options{})
	standby := dbtest.StandbyT(t, primary, dbtest.Options{})
	dbtest.ExecT(t, primary, "CREATE TABLE t (id int PRIMARY KEY)")
	if err := dbtest.WaitReplayed(t.Context(), primary, standby.StandbyName()); err != nil {
		t.Fatal(err)
	}
	r := runCheck(t, checkOptions(standby, "postgres"), checkPrefix("public."))
	if bad := notOK(r); len(bad) > 0 {
		t.Errorf("a standby is found wanting: %q", bad)
	}
	if shows := fmt.Sprint(r.Checks); !strings.Contains(shows, "physical standby") || strings.Contains(shows, "slot") {
		t.Errorf("checked were %s", shows)
	}
}

func TestServerThatSaysNoIsNotUnreachable(t *testing.T) {
	t.Parallel()
	s := dbtest.StartT(t, dbtest.Need(t, dbtest.PG15), dbtest.Options{Password: "right"})
	tests := []struct {
		name, role, database, password, want string
	}{
		{"wrong password", "postgres", "", "wrong", `fail connection: password authentication failed for user "postgres"`},
		{"no such role", "nobody", "", "x", `fail connection: password authentication failed for user "nobody"`},
		{"no such database", "postgres", "none", "right", `fail connection: database "none" does not exist`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := checkOptions(s, test.role)
			o.DSN = s.DSNFor(test.role, test.database)
			o.Password = func() (string, error) { return test.password, nil }
			if diff := cmp.Diff([]string{test.want}, notOK(runCheck(t, o, checkPrefix("")))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPasswordThatCannotBeReadIsAFailedCheck(t *testing.T) {
	o := Options{Member: "us-1", DSN: "postgres://u@127.0.0.1:1/db", Password: func() (string, error) {
		return "", errors.New("password of member us-1: open pw: no such file or directory")
	}}
	want := []string{"fail password: password of member us-1: open pw: no such file or directory"}
	if diff := cmp.Diff(want, notOK(runCheck(t, o, checkPrefix("")))); diff != "" {
		t.Error(diff)
	}
}

func TestUnreachableMemberIsAnErrorOnOneLine(t *testing.T) {
	o := Options{Member: "us-1", DSN: "postgres://u@127.0.0.1:1/db"}
	_, err := o.Check(t.Context(), checkPrefix(""))
	want := "member us-1: dial tcp 127.0.0.1:1: connect: connection refused"
	if fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := o.Check(ctx, checkPrefix("")); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("no time left: %v", err)
	}
}

// A server that nobody has verified may be anybody.
func TestClearTextAndUnverifiedServersAreWarnedOfUnlessItStaysOnTheMachine(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable") // which is not for members
	for dsn, want := range map[string]preflight.State{
		"postgres://u@10.0.0.1/db":                                preflight.OK, // never in clear text
		"postgres://u@10.0.0.1/db?application_name=x":             preflight.OK,
		"postgres://u@10.0.0.1/db?sslmode=disable":                preflight.Warn,
		"postgres://u@10.0.0.1/db?sslmode=prefer":                 preflight.Warn,
		"postgres://u@10.0.0.1/db?sslmode=allow":                  preflight.Warn,
		"postgres://u@10.0.0.1/db?sslmode=require":                preflight.Warn,
		"postgres://u@10.0.0.1/db?sslmode=verify-ca":              preflight.Warn,
		"postgres://u@10.0.0.1/db?ssl=true":                       preflight.Warn,
		"postgres://u@10.0.0.1/db?sslmode=verify-full":            preflight.OK,
		"postgres://u@127.0.0.1/db?sslmode=disable":               preflight.OK,
		"postgres://u@[::1]/db?sslmode=disable":                   preflight.OK,
		"host=/var/run/postgresql dbname=db user=u":               preflight.OK,
		"host=db.example dbname=db user=u":                        preflight.OK,
		"host=db.example dbname=db user=u sslmode=prefer":         preflight.Warn,
		"host=localhost.example dbname=db user=u sslmode=disable": preflight.Warn,
	} {
		config, err := checkConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		if got := judgeTransport(config); got.State != want {
			t.Errorf("%s: %s %s", dsn, got.State, got.Detail)
		}
	}
}
