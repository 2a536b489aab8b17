package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestInitWritesAConfigurationThatCheckTakes(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{
		Install: dbtest.Need(t, dbtest.PG15), Schema: "CREATE TABLE items (id int PRIMARY KEY, name text);", DataDir: t.TempDir(),
		LagBudget: time.Second, Subscribers: 1, Server: dbtest.Options{Below: dbtest.MemoryDir(), Reuse: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	dbtest.ExecT(t, c.Member("eu-1"), "CREATE TABLE keyless (id int)")
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	dsn := func(name string) string { return c.Member(name).DSNFor(dbtest.LockstepUser, cluster.Database) }
	args := []string{"init", "us-1=" + dsn("us-1"), "eu-1=" + dsn("eu-1"), "--name", "shop", "--output", file, "--data-dir", t.TempDir()}
	if code, stdout, stderr := lockstep(t, args...); code != exitInStep || stdout != "" || stderr != file+" was written: read it, then run lockstep check -c "+file+"\n" {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	for _, want := range []string{"# reference: eu-1\n", `- name: "us-1"   # 15.`, `include: ["public.*"]`, `- "public.keyless"   # `} {
		if !strings.Contains(string(text), want) {
			t.Errorf("does not say %s", want)
		}
	}
	if code, stdout, stderr := lockstep(t, "check", "-c", file); code != exitInStep {
		t.Errorf("check: exit code %d\n%s%s", code, stdout, stderr)
	}
	beside := []string{"init", "--output", "-", dsn("eu-1"), "other=" + c.Member("eu-1").DSN("postgres")} // another database, which replicates nothing
	if code, stdout, stderr := lockstep(t, beside...); code != exitUnknown || !strings.Contains(stdout, "# None of them was seen to replicate from another. Say which one the others are held against:") || !strings.Contains(stderr, "reference") || !strings.Contains(stdout, "public.*") {
		t.Errorf("without a reference: exit code %d, %q, %q", code, stdout, stderr)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{args, exitUsage, file + " is there already: name another file with --output, or remove it"},
		{[]string{"init", "postgres://u:hunter2@a/x", "postgres://u@b/x"}, exitUsage, "holds a password: put it in a file and name that as password_file"},
		{[]string{"init", "postgres://u@a/x", "mysql://u@b/x"}, exitUsage, "the servers are of two engines"},
		{[]string{"init", "postgres://u@a/x", "host=b password=hunter2"}, exitUsage, "a DSN is a URL"},
		{[]string{"init", "postgres://u@a/x"}, exitUsage, "requires at least 2 arg(s)"},
		{[]string{"init", "--output", "-", dsn("eu-1"), "postgres://u@127.0.0.1:1/x?sslmode=disable"}, exitUnreachable, "127.0.0.1:1"},
	} {
		if code, stdout, stderr := lockstep(t, test.args...); code != test.code || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "hunter2") || stdout != "" {
			t.Errorf("%v: exit code %d, %q, %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

func TestInitOfMariaDBNamesNoSchemaOfTheServersOwn(t *testing.T) {
	o := diffOptionsOf(t, "CREATE TABLE items (id int PRIMARY KEY, name text);")
	c, err := cluster.StartMySQL(t.Context(), dbtest.NeedMySQL(t, dbtest.MariaDB1011), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	named := func(dsns []string) []string {
		return append([]string{"init", "--output", "-", "--data-dir", t.TempDir()}, dsns...)
	}
	var dsns, bare []string
	for _, m := range c.Configuration().Groups[0].Members {
		dsns = append(dsns, strings.Replace(m.DSN, "mysql://", "mariadb://", 1))
	}
	for i, name := range c.Names {
		if err := c.Exec(t.Context(), name, "SET sql_log_bin = 0", "CREATE USER bare@'%'"); err != nil {
			t.Fatal(err)
		}
		bare = append(bare, strings.Replace(dsns[i], "lockstep@", "bare@", 1))
	}
	code, said, stderr := lockstep(t, named(bare)...)
	if code != exitUnknown || !strings.Contains(said, "may not be seen yet") || strings.Contains(said, "slots") || !strings.Contains(said, `include: ["`+cluster.Database+`.*"]`) ||
		!strings.Contains(stderr, "GRANT SELECT ON `"+cluster.Database+"`.* TO 'bare'@'%';") {
		t.Errorf("of an account without rights: exit code %d, %s%s", code, said, stderr)
	}
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	if code, _, stderr := lockstep(t, append([]string{"init", "--output", file, "--data-dir", t.TempDir()}, dsns...)...); code != exitInStep {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `include: ["`+cluster.Database+`.*"]`) || !strings.Contains(string(text), "engine: mariadb\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if code, stdout, stderr := lockstep(t, "check", "-c", file); code != exitInStep {
		t.Errorf("check: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// A newcomer who had made the role, and nothing else, was told of one missing right of one member at a time, and then that no table
// matches: those that the role may not read were excluded.
func TestInitTellsAllThatIsMissingWithTheSQL(t *testing.T) {
	schema := "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE keyless (id int); CREATE ROLE lockstep LOGIN"
	g := dbtest.GroupT(t, dbtest.Need(t, dbtest.PG15), 2, schema, dbtest.Options{})
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	args := []string{"--name", "shop", "--data-dir", t.TempDir()}
	names := []string{"eu-1", "us-1", "us-2"}
	for i, s := range g.Members() {
		args = append(args, names[i]+"="+s.DSNFor("lockstep", ""))
	}
	code, stdout, stderr := lockstep(t, append([]string{"init", "--output", file}, args...)...)
	if code != exitUnknown || stdout != "" || !strings.HasPrefix(stderr, file+" was written. Before lockstep can watch, this has to be mended:\n") {
		t.Fatalf("exit code %d, %q, %s", code, stdout, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "# Seen to replicate from eu-1: us-1, us-2.") || strings.Contains(string(text), "orders") || !strings.Contains(string(text), `- "public.keyless"   # has no primary key`) {
		t.Errorf("%v\n%s", err, text)
	}
	for i, member := range names {
		_, script, _ := lockstep(t, "check", "-c", file, "-o", "sql", "--member", member)
		if !strings.Contains(stderr, "\n"+script) || !strings.Contains(script, "GRANT SELECT ON TABLE \"public\".\"items\",\n  \"public\".\"orders\" TO \"lockstep\";") {
			t.Errorf("%s is not said the same by init and check:\n%s\n%s", member, stderr, script)
		}
		psql(t, g.Members()[i], script)
	}
	if code, stdout, stderr := lockstep(t, "check", "-c", file); code != exitInStep {
		t.Errorf("check: exit code %d\n%s%s", code, stdout, stderr)
	}
	// A server that turns us down: what is missing on the others is said too.
	g.Subscribers[1].Spoil()
	dbtest.ExecT(t, g.Subscribers[1], "REVOKE CONNECT ON DATABASE app FROM PUBLIC")
	dbtest.ExecT(t, g.Subscribers[0], "REVOKE SELECT ON orders FROM lockstep")
	code, stdout, stderr = lockstep(t, append([]string{"init", "--output", "-"}, args...)...)
	if code != exitUnknown || stdout != "" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	for _, want := range []string{`GRANT CONNECT ON DATABASE "app" TO "lockstep";`, `GRANT SELECT ON TABLE "public"."orders" TO "lockstep";`,
		"lockstep: nothing was written, since it is not known what is on us-2: mend that, then run lockstep init again\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("does not say %s:\n%s", want, stderr)
		}
	}
}

func TestInitRefusesServersThatAreNoGroup(t *testing.T) {
	g := dbtest.GroupT(t, dbtest.Need(t, dbtest.PG15), 2, "CREATE TABLE items (id int PRIMARY KEY); CREATE ROLE lockstep LOGIN", dbtest.Options{})
	dsn := func(name string, s *dbtest.Server) string { return name + "=" + s.DSNFor("lockstep", "") }
	eu, us, ap := g.Publisher, g.Subscribers[0], g.Subscribers[1]
	for want, args := range map[string][]string{
		`us replicates from the server with slot "app_0", which is not among the members: name that server too`: {dsn("us", us), dsn("ap", ap)},
		`eu and again are the same database "app" of the same server: correct one dsn, or take one of them out`: {dsn("eu", eu), dsn("us", us), dsn("again", eu)},
	} {
		if code, stdout, stderr := lockstep(t, append([]string{"init", "--output", "-"}, args...)...); code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, %q, %q; want %q", code, stdout, stderr, want)
		}
	}
	// The SQL made publications of a name that nobody would look for once the dsn was corrected.
	wrong := strings.Replace(dsn("eu", eu), "/"+cluster.Database, "/shpo", 1)
	code, stdout, stderr := lockstep(t, "init", "--output", "-", wrong, dsn("us", us), dsn("ap", ap))
	if code != exitUnknown || stdout != "" || strings.Contains(stderr, "lockstep_shpo") || !strings.Contains(stderr, `CREATE PUBLICATION "lockstep_`+cluster.Database+`"`) ||
		!strings.Contains(stderr, `database "shpo" does not exist`) || !strings.Contains(stderr, "eu: connection: correct the database in the dsn") {
		t.Errorf("of a database that there is not: exit code %d, %q, %s", code, stdout, stderr)
	}
	dbtest.ExecT(t, us, "ALTER SUBSCRIPTION app_0 DISABLE", "ALTER SUBSCRIPTION app_0 SET (slot_name = NONE)", "DROP SUBSCRIPTION app_0")
	if _, stdout, stderr := lockstep(t, "init", "--output", "-", dsn("eu", eu), dsn("us", us)); !strings.Contains(stdout, "# None of them was seen to replicate from another.") {
		t.Errorf("%s%s", stdout, stderr)
	}
}
