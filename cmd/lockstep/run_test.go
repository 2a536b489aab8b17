package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/store"
)

// runOnce runs `lockstep run` on a configuration that it must refuse.
func runOnce(t *testing.T, yaml string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, err strings.Builder
	code := execute(ctx, []string{"run", "--strict", "-c", writeFile(t, "lockstep.yaml", yaml), "--log.level", "error"}, &out, &err)
	return code, err.String()
}

// Each mistake is one clear line that says what to do, an exit code that says what kind it is, and nothing that was kept
// is lost.
func TestRunRefusesWhatItCannotWatch(t *testing.T) {
	install := dbtest.Need(t, dbtest.PG15)
	dir := t.TempDir()
	c, err := cluster.Start(t.Context(), cluster.Options{
		Install: install, Schema: "CREATE TABLE items (id int PRIMARY KEY);", DataDir: filepath.Join(dir, "data"),
		Server: dbtest.Options{Below: dbtest.MemoryDir(), Reuse: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	us1 := c.Member("us-1")
	exec := func(sql ...string) func(t *testing.T) {
		return func(t *testing.T) { dbtest.ExecT(t, us1, sql...) }
	}
	replace := func(old, new string) func(string) string {
		return func(yaml string) string { return strings.ReplaceAll(yaml, old, new) }
	}
	dsn := func(name string) string {
		return fmt.Sprintf("%q", c.Member(name).DSNFor("lockstep", cluster.Database))
	}
	locked := postgresWithPassword(t, install)
	wrong := writeFile(t, "pw", "wrong\n")
	tests := []struct {
		name   string
		change func(string) string
		before func(*testing.T)
		after  func(*testing.T)
		code   int
		want   []string // all of them in the one line
	}{
		{name: "unknown key", change: replace("lag_budget:", "lag_budgets:"), code: exitUsage, want: []string{"lockstep.yaml:3:", `"lag_budgets"`, "lag_budget"}},
		{name: "roles without passwords", change: replace("listen:", "roles: {viewer: [ann]}\nlisten:"), code: exitUsage, want: []string{"lockstep.yaml", "roles", "basic_auth_users", "--web.config.file"}},
		{name: "unreachable member", change: replace(dsn("us-1"), `"postgres://lockstep@127.0.0.1:1/app?sslmode=disable"`), code: exitUnreachable, want: []string{"us-1", "127.0.0.1"}},
		{name: "wrong password", change: replace("dsn: "+dsn("us-1"), fmt.Sprintf("dsn: %q, password_file: %q", locked.DSN("postgres"), wrong)), code: exitUnknown, want: []string{"us-1", "password"}},
		{name: "missing privilege", before: exec("REVOKE SELECT ON items FROM lockstep"), after: exec("GRANT SELECT ON items TO lockstep"), code: exitUnknown, want: []string{"us-1", "public.items", "GRANT SELECT"}},
		{name: "no replication", before: exec("ALTER ROLE lockstep NOREPLICATION"), after: exec("ALTER ROLE lockstep REPLICATION"), code: exitUnknown, want: []string{"us-1", "REPLICATION"}},
		{name: "missing publication", before: exec("ALTER PUBLICATION lockstep_shop RENAME TO elsewhere"), after: exec("ALTER PUBLICATION elsewhere RENAME TO lockstep_shop"), code: exitUnknown, want: []string{"us-1", "lockstep_shop", "check -o sql"}},
		{name: "table without key", before: exec("CREATE TABLE keyless (id int)"), after: exec("DROP TABLE keyless"), code: exitUnknown, want: []string{"us-1", "public.keyless", "primary key", "exclude"}},
		{name: "same server twice", change: replace(dsn("us-2"), dsn("us-1")), code: exitUnknown, want: []string{"us-1", "us-2", "same server"}},
		{name: "no such table", change: replace("public.*", "nosuch.*"), code: exitUnknown, want: []string{"no table", "tables.include"}},
		{name: "missing password file", change: replace("dsn: "+dsn("us-1"), "password_file: /nonexistent/pw, dsn: "+dsn("us-1")), code: exitUnknown, want: []string{"us-1", "/nonexistent/pw"}},
		{name: "address in use", change: replace("listen: 127.0.0.1:0", fmt.Sprintf("listen: 127.0.0.1:%d", us1.Port)), code: exitUsage, want: []string{"listen", fmt.Sprint(us1.Port), "another"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			yaml := c.YAML
			if test.change != nil {
				yaml = test.change(yaml)
			}
			if test.before != nil {
				test.before(t)
				defer test.after(t)
			}
			code, stderr := runOnce(t, yaml)
			t.Log(stderr)
			if code != test.code || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, want %d, with one line of %q", code, test.code, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q does not say %q", stderr, want)
				}
			}
		})
	}
}

func postgresWithPassword(t *testing.T, install dbtest.Install) *dbtest.Server {
	t.Helper()
	return dbtest.StartT(t, install, dbtest.Options{Password: "right"})
}

// nobodyAt is a configuration whose members do not answer.
func nobodyAt(dir string) string {
	return "data_dir: " + dir + "\nlisten: 127.0.0.1:0\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n" +
		"      - {name: a, dsn: \"postgres://x@127.0.0.1:1/app\"}\n      - {name: b, dsn: \"postgres://x@127.0.0.1:1/app2\"}\n    tables: {include: [\"public.*\"]}\n"
}

// A disk that did not let the store be opened, or took a while to, kept lockstep from ending.
func TestRunEndsWhileItsStoreIsBeingOpened(t *testing.T) {
	dir := t.TempDir()
	never := filepath.Join(dir, "digest.key") // a pipe is open once somebody writes to it
	if err := syscall.Mkfifo(never, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var out, stderr strings.Builder
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{"run", "-c", writeFile(t, "lockstep.yaml", nobodyAt(dir))}, &out, &stderr)
	}()
	opening := func(context.Context) (bool, error) {
		_, err := os.Stat(filepath.Join(dir, "db", "LOCK"))
		return err == nil, nil
	}
	if err := dbtest.WaitFor(t.Context(), "the store is being opened", opening); err != nil {
		t.Error(err)
	}
	stop()
	if code := <-ended; code != exitInStep || !strings.Contains(stderr.String(), "lockstep stopped") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
	key, err := os.OpenFile(never, os.O_WRONLY, 0) // for what still waits for it
	if err := errors.Join(err, key.Close()); err != nil {
		t.Error(err)
	}
}

func TestRunRefusesADataDirectoryThatItMustNotTouch(t *testing.T) {
	inUse := t.TempDir()
	s, err := store.Open(inUse, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	code, stderr := runOnce(t, nobodyAt(inUse))
	if code != exitUsage || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "in use by another lockstep") {
		t.Errorf("in use: exit code %d, %q", code, stderr)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open(filepath.Join(inUse, "db"), &pebble.Options{Logger: pebble.DefaultLogger})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set([]byte("F"), binary.BigEndian.AppendUint32(nil, store.Format+1), pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	code, stderr = runOnce(t, nobodyAt(inUse))
	if code != exitUsage || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "newer lockstep") {
		t.Errorf("newer: exit code %d, %q", code, stderr)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stderr = runOnce(t, nobodyAt(filepath.Join(file, "data")))
	if code != exitUsage || strings.Count(stderr, "\n") != 1 {
		t.Errorf("not a directory: exit code %d, %q", code, stderr)
	}
}
