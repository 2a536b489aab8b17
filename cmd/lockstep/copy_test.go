package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// A promoted base backup of the publisher has its system identifier, and replicates from it since. All commands take it for the server that
// it is, and one server under two names for one.
func TestCommandsTellACopyFromItsOrigin(t *testing.T) {
	t.Parallel()
	o := diffOptionsOf(t, "CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance numeric)")
	o.Install = dbtest.Need(t, dbtest.PG18)
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Exec(t.Context(), "eu-1", "INSERT INTO accounts SELECT id, 'o', id FROM generate_series(1, 50) id"); err != nil {
		t.Fatal(err)
	}
	promoted := dbtest.StandbyT(t, c.Member("eu-1"), dbtest.Options{})
	dbtest.ExecT(t, promoted, "SELECT pg_promote()")
	if err := dbtest.Subscribe(t.Context(), promoted, "app_copy", c.Member("eu-1"), "app"); err != nil {
		t.Fatal(err)
	}
	dsn := promoted.DSNFor(dbtest.LockstepUser, cluster.Database)
	write := func(members ...string) string {
		var lines strings.Builder
		for _, name := range members {
			if name == "reference" {
				lines.WriteString("    reference: eu-1\n")
				continue
			}
			fmt.Fprintf(&lines, "      - {name: %s, dsn: %q}\n", name, dsn)
		}
		path := filepath.Join(t.TempDir(), "lockstep.yaml")
		text := strings.Replace(c.YAML, "    tables:", lines.String()+"    tables:", 1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	says := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := lockstep(t, args...)
		squeezed := string(bytes.Join(bytes.Fields([]byte(stdout+stderr)), []byte(" ")))
		if got != code || !strings.Contains(squeezed, want) {
			t.Errorf("%q: exit code %d, want %d; want %q in\n%s%s", args, got, code, want, stdout, stderr)
		}
	}
	copied, twice := write("eu-2"), write("eu-2", "twin")
	says(exitInStep, "eu-2 version ok", "check", "-c", copied)
	says(exitUnknown, `members fail eu-2 and twin are the same database "app" of the same server`, "check", "-c", twice)
	says(exitInStep, "in_step", "diff", "-c", copied)
	says(exitUnknown, "members eu-2 and twin are the same server and database", "diff", "-c", twice)
	says(exitUsage, "members eu-2 and twin are the same server and database", "diff", "-c", write("eu-2", "twin", "reference"))
	both := []string{"init", "--name", "shop", "--output", "-", "eu-1=" + c.Member("eu-1").DSNFor(dbtest.LockstepUser, cluster.Database), "eu-2=" + dsn}
	says(exitInStep, "# Seen to replicate from eu-1: eu-2", both...)
	says(exitUsage, `eu-2 and twin are the same database "app" of the same server`, append(both, "twin="+dsn)...)
}
