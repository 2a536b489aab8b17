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
	if code, stdout, stderr := lockstep(t, beside...); code != exitInStep || !strings.Contains(stdout, "# TODO: which member is the reference is not known: ") || !strings.Contains(stdout, "public.*") {
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
	var dsns []string
	for _, m := range c.Configuration().Groups[0].Members {
		dsns = append(dsns, strings.Replace(m.DSN, "mysql://", "mariadb://", 1))
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
