package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// checkFile writes a configuration with one group of the given members, name to DSN, in the order of names.
func checkFile(t *testing.T, members ...[3]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("data_dir: /nowhere\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n")
	for _, m := range members {
		fmt.Fprintf(&b, "      - {name: %s, dsn: %q, password_file: %q}\n", m[0], m[1], m[2])
	}
	b.WriteString("    tables: {include: [\"public.*\"], exclude: [public.keyless]}\n")
	return writeFile(t, "lockstep.yaml", b.String())
}

type checkResult struct{ Group, Member, Check, State, Detail, SQL, Hint string }

func checkJSON(t *testing.T, path string, args ...string) (int, []checkResult) {
	t.Helper()
	code, stdout, stderr := lockstep(t, append([]string{"check", "-c", path, "-o", "json"}, args...)...)
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	var results []checkResult
	for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
		var r checkResult
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		results = append(results, r)
	}
	return code, results
}

// psql runs a script in the server's database.
func psql(t *testing.T, s *dbtest.Server, script string) {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "-X", "-q", "-d", s.DSN(""))
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s\n%s", err, out, script)
	}
}

func TestCheckLeadsFromABareGroupToAReadyOne(t *testing.T) {
	schema := "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE items (id int PRIMARY KEY); CREATE ROLE lockstep LOGIN"
	g := dbtest.GroupT(t, dbtest.Need(t, dbtest.PG15), 1, schema, dbtest.Options{})
	for _, s := range g.Members() {
		dbtest.ExecT(t, s, "CREATE TABLE keyless (id int)")
	}
	pw := writeFile(t, "pw", "unused\n")
	path := checkFile(t, [3]string{"eu-1", g.Publisher.DSNFor("lockstep", ""), pw}, [3]string{"us-1", g.Subscribers[0].DSNFor("lockstep", ""), pw})
	if code, results := checkJSON(t, path); code != exitUnknown || !slices.ContainsFunc(results, func(r checkResult) bool {
		return r.Member == "us-1" && r.Check == "publication lockstep_shop" && r.State == "fail" && r.SQL != ""
	}) {
		t.Errorf("bare: exit code %d, %+v", code, results)
	}
	for i, member := range []string{"eu-1", "us-1"} {
		code, script, stderr := lockstep(t, "check", "-c", path, "-o", "sql", "--member", member)
		if code != exitInStep || stderr != "" {
			t.Errorf("-o sql: exit code %d, %s", code, stderr)
		}
		psql(t, g.Members()[i], script)
	}
	code, results := checkJSON(t, path)
	if code != exitInStep {
		t.Errorf("ready: exit code %d", code)
	}
	for _, r := range results {
		if r.State != "ok" || r.Group != "shop" || r.Member == "" || r.Detail == "" {
			t.Errorf("ready: %+v", r)
		}
	}
	if !slices.ContainsFunc(results, func(r checkResult) bool {
		return r.Member == "eu-1" && r.Check == "reference" && r.Detail == "us-1 replicates from it, and it from nobody"
	}) {
		t.Errorf("ready: nobody is the reference: %+v", results)
	}
	code, table, _ := lockstep(t, "check", "-c", path)
	if code != exitInStep || !strings.HasPrefix(table, "MEMBER   CHECK ") || strings.Contains(table, "To mend") || strings.Contains(table, "\x1b") {
		t.Errorf("table: exit code %d\n%s", code, table)
	}
}

func TestUnreachableMemberDoesNotKeepOthersFromBeingChecked(t *testing.T) {
	s := dbtest.StartT(t, dbtest.Need(t, dbtest.PG15), dbtest.Options{Password: "right"})
	dbtest.ExecT(t, s, "CREATE TABLE orders (id int PRIMARY KEY)")
	right, wrong := writeFile(t, "right", "right\n"), writeFile(t, "wrong", "hunter2\n")
	path := checkFile(t,
		[3]string{"a", s.DSN(""), right}, [3]string{"b", s.DSN(""), wrong},
		[3]string{"c", "postgres://u@127.0.0.1:1/db", right}, [3]string{"d", s.DSN(""), "/nowhere/pw"}, [3]string{"e", s.DSN(""), right})
	code, table, _ := lockstep(t, "check", "-c", path)
	if code != exitUnreachable {
		t.Errorf("exit code %d", code)
	}
	squeezed := string(bytes.Join(bytes.Fields([]byte(table)), []byte(" ")))
	for _, want := range []string{
		"a version ok PostgreSQL 15.",
		`b connection fail password authentication failed for user "postgres"`,
		"c connection unreachable dial tcp 127.0.0.1:1: connect: connection refused",
		"d password fail open /nowhere/pw: no such file or directory: make it, or correct the path",
		`(shop) members fail a and e are the same database "postgres" of the same server`,
		"To mend: a: lockstep check -c " + path + " --group shop --member a -o sql | psql, as a superuser in its database",
	} {
		if !strings.Contains(squeezed, want) {
			t.Errorf("lacks %q:\n%s", want, table)
		}
	}
	if strings.Contains(table, "hunter2") {
		t.Error("shows a password")
	}
	if code, _, stderr := lockstep(t, "check", "-c", path, "-o", "sql", "--member", "c"); code != exitUnreachable || stderr != "lockstep: member c: dial tcp 127.0.0.1:1: connect: connection refused\n" {
		t.Errorf("-o sql: exit code %d, %q", code, stderr)
	}
	if code, results := checkJSON(t, path, "--member", "b"); code != exitUnknown || len(results) != 1 {
		t.Errorf("--member: exit code %d, %+v", code, results)
	}
}

// A data_dir below /proc, and a port that is another one at every start, passed.
func TestCheckWarnsOfWhatThisMachineCannot(t *testing.T) {
	path := writeFile(t, "lockstep.yaml", "data_dir: /proc/x/y\nlisten: 127.0.0.1:0\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n"+
		"      - {name: a, dsn: \"postgres://u@127.0.0.1:1/db\"}\n      - {name: b, dsn: \"postgres://u@127.0.0.1:2/db\"}\n    tables: {include: [\"public.*\"]}\n")
	_, results := checkJSON(t, path)
	var said []string
	for _, r := range results {
		if r.Group == "" {
			said = append(said, r.Check+" "+r.State+" "+r.Detail)
		}
	}
	want := fmt.Sprintf("listen warn 127.0.0.1:0 is another port at every start; data_dir warn /proc/x/y cannot be written by user %d of this machine: nothing can be made in /proc: no such file or directory", os.Getuid())
	if got := strings.Join(said, "; "); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, table, _ := lockstep(t, "check", "-c", path); !strings.Contains(table, "(lockstep)   listen ") {
		t.Errorf("%s", table)
	}
	for dir, want := range map[string]bool{t.TempDir(): true, filepath.Join(t.TempDir(), "a", "b"): true, path: false, filepath.Join(path, "x"): false} {
		if err := writable(dir); (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// What the store holds tells of rows, and a data_dir that was made by hand was kept as it was, open to everybody, without a word.
func TestADataDirectoryThatEverybodyMayLookIntoIsToldOf(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, "lockstep.yaml", "data_dir: "+dir+"\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n"+
		"      - {name: a, dsn: \"postgres://u@127.0.0.1:1/db\"}\n      - {name: b, dsn: \"postgres://u@127.0.0.1:2/db\"}\n    tables: {include: [\"public.*\"]}\n")
	for mode, want := range map[os.FileMode]string{
		0o700: "", 0o750: "", 0o755: dir + " is open to everybody on this machine (mode 0755): chmod o= " + dir, 0o701: dir + " is open to everybody on this machine (mode 0701): chmod o= " + dir,
	} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, results := checkJSON(t, path)
		said := ""
		for _, r := range results {
			if r.Check == "data_dir" {
				said += r.Detail + ": " + r.Hint
			}
		}
		if said != want {
			t.Errorf("mode %o: %q, want %q", mode, said, want)
		}
	}
}

func TestCheckRefusesWhatTheFileDoesNotName(t *testing.T) {
	path := checkFile(t, [3]string{"a", "postgres://u@127.0.0.1:1/db", "pw"}, [3]string{"b", "postgres://u@127.0.0.1:2/db", "pw"})
	for want, args := range map[string][]string{
		"FILE: no member x in group shop; there are a, b":   {"--member", "x"},
		"FILE: no group ship; nearest: shop":                {"--group", "ship"},
		"-o sql is about one member: name it with --member": {"-o", "sql"},
	} {
		code, _, stderr := lockstep(t, append([]string{"check", "-c", path}, args...)...)
		if want = "lockstep: " + strings.Replace(want, "FILE", path, 1) + "\n"; code != exitUsage || stderr != want {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
}

// A publication of the application's that leaves out a column or rows, and a reference from which nothing comes to a sibling, had run say
// unverified for ever, while check was content.
func TestCheckSaysWhatRunCouldNotVerify(t *testing.T) {
	schema := "CREATE TABLE orders (id int PRIMARY KEY, n int, note text); CREATE TABLE items (id int PRIMARY KEY, n int); CREATE ROLE lockstep LOGIN"
	g := dbtest.GroupT(t, dbtest.Need(t, dbtest.PG15), 2, schema, dbtest.Options{})
	pw := writeFile(t, "pw", "unused\n")
	names := []string{"eu-1", "us-1", "us-2"}
	var members [][3]string
	for i, s := range g.Members() {
		members = append(members, [3]string{names[i], s.DSNFor("lockstep", ""), pw})
	}
	path := checkFile(t, members...)
	for i, member := range names {
		_, script, _ := lockstep(t, "check", "-c", path, "-o", "sql", "--member", member)
		psql(t, g.Members()[i], script)
	}
	said := func(more string) (code int, lines []string) {
		t.Helper()
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code, results := checkJSON(t, writeFile(t, "other.yaml", string(file)+more))
		for _, r := range results {
			if r.State != "ok" {
				lines = append(lines, strings.Join([]string{r.Member, r.Check, r.State, r.Detail, r.Hint}, "|"))
			}
		}
		return code, lines
	}
	expect := func(more string, wantCode int, want ...string) {
		t.Helper()
		if code, lines := said(more); code != wantCode || !slices.Equal(lines, want) {
			t.Errorf("with %q: exit code %d, want %d:\n%s\nwant\n%s", more, code, wantCode, strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	}
	expect("", exitInStep)
	const remedy = "name eu-1 as the group's `reference`: us-1 and us-2 replicate from it, and it from nobody"
	expect("    reference: us-1\n", exitUnknown,
		"eu-1|members|fail|nothing brings the tables from us-1, the reference, to eu-1: it can never be verified|"+remedy,
		"us-2|members|fail|nothing brings the tables from us-1, the reference, to us-2: it can never be verified|"+remedy)
	dbtest.ExecT(t, g.Publisher, "BEGIN; DROP PUBLICATION app; CREATE PUBLICATION app FOR TABLE orders (id, n), items WHERE (id > 5); COMMIT")
	narrowed := func(member string) []string {
		const hint = "|fail|publication \"app\" leaves out "
		const mend = "|publish all of it, or exclude what does not travel"
		return []string{
			member + "|table public.items" + hint + "rows that are not (id > 5)" + mend,
			member + "|table public.orders" + hint + "column \"note\": name it in exclude_columns" + mend,
		}
	}
	expect("", exitUnknown, slices.Concat(narrowed("us-1"), narrowed("us-2"))...)
}
