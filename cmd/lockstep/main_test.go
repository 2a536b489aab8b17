package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// lockstep runs one command line in this process.
func lockstep(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	code = execute(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongCommandLineExitsWithTwoAndOneLine(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"chek"}, "lockstep: no command chek; nearest: check\n"},
		{[]string{"audit", "verfiy", "log"}, "lockstep: no command verfiy in lockstep audit; nearest: verify\n"},
		{[]string{"check", "--nosuch"}, "lockstep: unknown flag: --nosuch\n"},
		{[]string{"check", "surplus"}, "lockstep: unknown command \"surplus\" for \"lockstep check\"\n"},
		{[]string{"check"}, "lockstep: read configuration: open lockstep.yaml: no such file or directory\n"},
		{[]string{"check", "-c", "nosuch.yaml"}, "lockstep: read configuration: open nosuch.yaml: no such file or directory\n"},
		{[]string{"version", "-o", "xml"}, "lockstep: invalid argument \"xml\" for \"-o, --output\" flag: use one of table, json\n"},
	}
	for _, test := range tests {
		code, stdout, stderr := lockstep(t, test.args...)
		first, _, _ := strings.Cut(stderr, "\n")
		if code != exitUsage || first+"\n" != test.want || stdout != "" {
			t.Errorf("%v: exit code %d, %q, %q; want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

func TestEveryMistakeOfTheFileIsOneLine(t *testing.T) {
	path := writeFile(t, "lockstep.yaml", "data_dir: /tmp/x\nlisten: nowhere\nlag_budgt: 3s\n")
	code, stdout, stderr := lockstep(t, "check", "-c", path)
	want := strings.ReplaceAll(`lockstep: FILE:1: groups: is missing: list at least one group of servers that must hold the same rows
lockstep: FILE:2: listen: "nowhere" is not an address: write host:port, such as 127.0.0.1:9640
lockstep: FILE:3: unknown key "lag_budgt": did you mean "lag_budget"?
`, "FILE", path)
	if code != exitUsage || stdout != "" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	if diff := cmp.Diff(want, stderr); diff != "" {
		t.Error(diff)
	}
}

func TestErrorThatNobodyClassifiedDeterminesNothing(t *testing.T) {
	var stderr strings.Builder
	for _, test := range []struct {
		err  error
		code int
		said string
	}{
		{nil, exitInStep, ""},
		{errors.New("disk full"), exitUnknown, "lockstep: disk full\n"},
		{exit(exitDiverged, nil), exitDiverged, ""},
		{fmt.Errorf("status: %w", exit(exitUnreachable, errors.New("gone"))), exitUnreachable, "lockstep: status: gone\n"},
	} {
		stderr.Reset()
		if code := report(&stderr, test.err); code != test.code || stderr.String() != test.said {
			t.Errorf("%v: exit code %d, %q", test.err, code, stderr.String())
		}
	}
}

func TestVersionSaysWhatItWasBuiltFrom(t *testing.T) {
	code, stdout, _ := lockstep(t, "version", "-o", "json")
	var v versionInfo
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != exitInStep {
		t.Fatalf("exit code %d, %q: %v", code, stdout, err)
	}
	if v.Version != version || v.Go != runtime.Version() || v.Commit == "" {
		t.Errorf("%+v", v)
	}
	if code, stdout, _ := lockstep(t, "--version"); code != exitInStep || stdout != "lockstep version "+version+"\n" {
		t.Errorf("--version: %d, %q", code, stdout)
	}
	if _, stdout, _ = lockstep(t, "version"); !strings.HasPrefix(stdout, "lockstep "+version+", commit ") {
		t.Errorf("%q", stdout)
	}
}

func TestTableIsAlignedAndTakesNoOrdersFromNames(t *testing.T) {
	var b strings.Builder
	rows := [][]string{{"é", "long cell", "x\x1b[31m\n"}, {"abc", "y", "z"}}
	paint := func(column int, cell, padded string) string {
		if column == 1 && cell == "y" {
			return coloured(red, padded)
		}
		return padded
	}
	if err := printTable(&b, []string{"A", "B", "C"}, rows, paint); err != nil {
		t.Fatal(err)
	}
	want := "A     B           C\né     long cell   x?[31m?\nabc   \x1b[31my           \x1b[0mz\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if colourful(file) || colourful(&strings.Builder{}) {
		t.Error("a file is painted")
	}
}
