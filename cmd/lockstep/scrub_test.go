package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestScrubReadsRowsAgainAndExitsAsTheyAre(t *testing.T) {
	address := freeAddress(t)
	c, err := cluster.Start(t.Context(), cluster.Options{
		Install: dbtest.Need(t, dbtest.PG15), Schema: "CREATE TABLE items (id int PRIMARY KEY, name text);", DataDir: filepath.Join(t.TempDir(), "data"),
		Listen: address, LagBudget: time.Second, Subscribers: 1, Server: dbtest.Options{Below: dbtest.MemoryDir(), Reuse: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	url := "http://" + address
	if code, _, stderr := lockstep(t, "scrub", "--url", url); code != exitUnreachable || !strings.Contains(stderr, "no lockstep answers") {
		t.Errorf("without a lockstep: exit code %d, %q", code, stderr)
	}
	dbtest.ExecT(t, c.Member("eu-1"), "INSERT INTO items SELECT i, 'item' FROM generate_series(1, 5000) i")
	file := writeFile(t, "lockstep.yaml", c.YAML)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		var out, errs strings.Builder
		ended <- execute(ctx, []string{"run", "-c", file, "--log.level", "error"}, &out, &errs)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitInStep {
			t.Errorf("run exited with %d", code)
		}
	})
	waitCode := func(want int, args ...string) string {
		t.Helper()
		var code int
		var stdout, stderr string
		err := dbtest.WaitFor(t.Context(), fmt.Sprintf("exit code %d of %v", want, args), func(context.Context) (bool, error) {
			code, stdout, stderr = lockstep(t, args...)
			return code == want, nil
		})
		if err != nil {
			t.Fatalf("%v: exit code %d, %q, %q", err, code, stdout, stderr)
		}
		return stdout
	}
	waitCode(exitInStep, "status", "--url", url)
	if out := waitCode(exitInStep, "scrub", "--url", url); !strings.Contains(out, "All rows were read again in") {
		t.Errorf("scrub says %q", out)
	}
	if out := waitCode(exitInStep, "scrub", "--url", url, "--wait=false", "public.items", "--member", "us-1"); !strings.Contains(out, "was asked for") {
		t.Errorf("scrub says %q", out)
	}
	if code, _, stderr := lockstep(t, "scrub", "--url", url, "public.nosuch"); code != exitUsage || !strings.Contains(stderr, "no table public.nosuch in group shop; there is only public.items") {
		t.Errorf("of an unknown table: exit code %d, %q", code, stderr)
	}
	if out := waitCode(exitInStep, "scrub", "--url", url, "public.items:100..{\"id\":200}"); !strings.Contains(out, "All rows were read again in") {
		t.Errorf("scrub says %q", out)
	}
	for arg, want := range map[string]string{
		"public.items:7": "bounds of rows are FIRST..LAST", "public.items:..": "bounds of rows are FIRST..LAST",
		"public.items:20..10": "the last key comes before the first", "public.items:a..b": "is not an integer",
		`public.items:{"id":1}-{"id":2}`: "bounds of rows are FIRST..LAST",
	} {
		if code, _, stderr := lockstep(t, "scrub", "--url", url, arg); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q, want: %s", arg, code, stderr, want)
		}
	}
	dbtest.ExecT(t, c.Member("us-1"), "UPDATE items SET name = 'other' WHERE id = 7")
	waitCode(exitDiverged, "divergences", "--url", url)
	waitCode(exitDiverged, "scrub", "--url", url)

	dbtest.ExecT(t, c.Member("us-1"), "DELETE FROM items WHERE id = 9")
	var list []string
	err = dbtest.WaitFor(t.Context(), "two divergences", func(context.Context) (bool, error) {
		_, out, _ := lockstep(t, "divergences", "--url", url)
		list = strings.Split(strings.TrimSpace(out), "\n")
		return len(list) == 3, nil
	})
	if err != nil {
		t.Fatalf("%v: %q", err, list)
	}
	code, out, hint := lockstep(t, "divergences", "--url", url, "--limit", "1")
	if code != exitDiverged || strings.Count(out, "\n") != 2 || !strings.Contains(hint, "More than 1 were found") {
		t.Errorf("of two divergences: exit code %d, %q, %q", code, out, hint)
	}
	id, _, _ := strings.Cut(list[1], " ")
	code, out, _ = lockstep(t, "divergences", "--url", url, id)
	for _, want := range []string{id, "us-1, held against eu-1", "missing", `{"id":9}`, "errant_transaction"} {
		if code != exitDiverged || !strings.Contains(out, want) {
			t.Errorf("exit code %d, %s does not say %s", code, out, want)
		}
	}
	if code, out, stderr := lockstep(t, "acknowledge", "--url", url, strings.ToLower(id[:len(id)-3]), "--by", "ann", "--ticket", "OPS-1"); code != exitInStep || out != "Divergence "+id+" of public.items on us-1 is acknowledged by ann.\n" {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
	if _, out, _ := lockstep(t, "divergences", "--url", url, id); !strings.Contains(out, "open (acknowledged)") || !strings.Contains(out, " by ann OPS-1\n") {
		t.Errorf("%s does not say who has taken it on", out)
	}
	if code, _, stderr := lockstep(t, "acknowledge", "--url", url, "01NOSUCH", "--by", "ann"); code != exitUsage || !strings.Contains(stderr, "no divergence 01NOSUCH") {
		t.Errorf("of an unknown divergence: exit code %d, %q", code, stderr)
	}
	if code, _, stderr := lockstep(t, "divergences", "--url", url, "01NOSUCH"); code != exitUsage || !strings.Contains(stderr, "no divergence 01NOSUCH") {
		t.Errorf("of an unknown divergence: exit code %d, %q", code, stderr)
	}
	// Of a table that cannot be watched it was said at once that all rows were read again.
	dbtest.ExecT(t, c.Member("eu-1"), "CREATE TABLE keyless (id int)")
	waitCode(exitUnknown, "status", "--url", url, "--table", "public.keyless")
	if code, out, stderr := lockstep(t, "scrub", "--url", url, "public.keyless"); code != exitUsage || !strings.Contains(stderr, "table public.keyless cannot be watched: ") {
		t.Errorf("of a table that is not watched: exit code %d, %q, %q", code, out, stderr)
	}
	c.Member("us-1").Spoil()
	if err := c.Member("us-1").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := lockstep(t, "scrub", "--url", url, "--timeout", "20s", "public.items")
	for _, want := range []string{"us-1 waits: ", "the scrub cannot end while us-1 waits", "the scrub has not ended within --timeout: ", "; us-1 waits: "} {
		if code != exitUnknown || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("with a member that is away: exit code %d, %q, %q does not say %s", code, out, stderr, want)
		}
	}
}
