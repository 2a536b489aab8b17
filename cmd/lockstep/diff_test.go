package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// replicated is a group of servers under test: eu-1, which is written to, and us-1.
type replicated interface {
	Configuration() *config.Config
	Exec(ctx context.Context, member string, statements ...string) error
	Query(ctx context.Context, member, query string) ([][]string, error)
	WaitCaughtUp(ctx context.Context) error
	Pause(ctx context.Context, member string) error
	Resume(ctx context.Context, member string) error
	DSN(member string) string
	Close() error
}

// diffed is a group and how lockstep diff is run on it.
type diffed struct {
	replicated
	t      *testing.T
	yaml   string
	flags  []string // of each run
	schema string   // that qualifies the tables' names
	// silently runs a statement on us-1 that leaves no trace in its log.
	silently func(statement string)
}

// inSoak is one version, and in `make soak` others too: for what is the same on all. Package cdc/postgres shows that it is.
func inSoak(one dbtest.Version, others ...dbtest.Version) []dbtest.Version {
	if !dbtest.Soaking() {
		return []dbtest.Version{one}
	}
	return append(others, one)
}

// onEachEngine runs a test on all engines, side by side, each with the tables of a load.
func onEachEngine(t *testing.T, test func(t *testing.T, d *diffed)) {
	t.Parallel()
	for _, version := range inSoak(dbtest.PG18, dbtest.PG15) {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			o := diffOptionsOf(t, load.Schema)
			o.Install = dbtest.Need(t, version)
			c, err := cluster.Start(t.Context(), o)
			d := &diffed{replicated: c, t: t, schema: "public"}
			ready(t, d, err)
			d.yaml, d.silently = c.YAML, func(sql string) { dbtest.ExecT(t, c.Member("us-1"), sql) }
			test(t, d)
		})
	}
	for _, flavour := range []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97} {
		t.Run(flavour.String(), func(t *testing.T) {
			t.Parallel()
			c, err := cluster.StartMySQL(t.Context(), dbtest.NeedMySQL(t, flavour), diffOptionsOf(t, load.MySQLSchema))
			d := &diffed{replicated: c, t: t, schema: cluster.Database}
			ready(t, d, err)
			d.yaml, d.silently = c.YAML, func(sql string) {
				if err := c.Member("us-1").Quietly(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			test(t, d)
		})
	}
}

func diffOptionsOf(t *testing.T, schema string) cluster.Options {
	return cluster.Options{
		Schema: schema, Subscribers: 1, DataDir: t.TempDir(), LagBudget: 20 * time.Second, Server: dbtest.Options{Below: dbtest.MemoryDir(), Reuse: true},
	}
}

// ready fills a cluster that was started.
func ready(t *testing.T, d *diffed, err error) {
	t.Helper()
	if err == nil {
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Logf("close cluster: %v", err)
			}
		})
		err = load.FillShare(t.Context(), d.DSN("eu-1"), 5)
	}
	if err == nil {
		err = d.WaitCaughtUp(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// diff runs lockstep diff and returns its exit code and what it printed.
func (d *diffed) diff(args ...string) (code int, stdout, stderr string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	var out, err strings.Builder
	code = execute(ctx, slices.Concat([]string{"diff", "-c", writeFile(d.t, "lockstep.yaml", d.yaml)}, d.flags, args), &out, &err)
	return code, out.String(), err.String()
}

// finds runs lockstep diff -o json and compares its divergences: table, kind and ranges.
func (d *diffed) finds(code int, want ...string) (stderr string) {
	d.t.Helper()
	got, stdout, stderr := d.diff("-o", "json")
	if got != code {
		d.t.Errorf("exit code %d, want %d: %s", got, code, stderr)
	}
	var list, partly []string
	for line := range strings.Lines(stdout) {
		var v finding.Divergence
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			d.t.Fatalf("%v in %q", err, line)
		}
		if v.ID == "" {
			partly = append(partly, line)
			continue
		}
		if v.Member != "us-1" || v.Reference != "eu-1" || v.State != finding.Open || v.Cause != finding.CauseUnknown || v.Positions["eu-1"] == "" || v.Positions["us-1"] == "" || len(v.ID) != 26 {
			d.t.Errorf("divergence %+v", v)
		}
		for _, r := range v.Ranges {
			list = append(list, fmt.Sprintf("%s %s %s..%s", strings.TrimPrefix(v.Table, d.schema+"."), v.Kind, r.First, r.Last))
		}
	}
	if diff := cmp.Diff(want, list); diff != "" {
		d.t.Errorf("divergences (-want +got)\n%s\n%s", diff, stderr)
	}
	if len(partly) > 0 && (code == exitInStep || code == exitDiverged) {
		d.t.Errorf("not compared: %q", partly)
	}
	return stderr
}

// columnsDiffer: a column that one side lacks was left out without a word on stdout, and the exit code was 0.
func (d *diffed) columnsDiffer() {
	d.t.Helper()
	d.silently("ALTER TABLE stock ADD COLUMN surplus INT")
	code, stdout, stderr := d.diff("-o", "json")
	want := fmt.Sprintf(`{"group":"shop","table":"%s.stock","member":"us-1","reference":"eu-1","state":"unverified","reason":"not compared: column \"surplus\", only on us-1","columns_not_compared":["surplus"]}`+"\n", d.schema)
	if code != exitColumns || stdout != want {
		d.t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := d.diff("--allow-missing-columns"); code != exitInStep || !strings.Contains(stdout, `not compared: column "surplus", only on us-1`) {
		d.t.Errorf("allowed: exit code %d\n%s", code, stdout)
	}
	d.silently("ALTER TABLE stock DROP COLUMN surplus")
}

func (d *diffed) exec(member string, statements ...string) {
	d.t.Helper()
	if err := d.Exec(d.t.Context(), member, statements...); err != nil {
		d.t.Fatal(err)
	}
}

func TestDiff(t *testing.T) {
	onEachEngine(t, func(t *testing.T, d *diffed) {
		d.finds(exitInStep)
		if d.Configuration().Groups[0].Engine == config.MySQL && !dbtest.Soaking() {
			d.exactKeys()
			return // the rest is as on MariaDB
		}
		d.underLoad()
		d.exactKeys()
		d.stale()
		d.columnsDiffer()
		d.schemaDiffers()
		d.refusals()
	})
}

// underLoad: while the replica lags the one difference that was made is found by its exact key, and no other.
func (d *diffed) underLoad() {
	d.t.Helper()
	writing := d.load()
	id := load.ReservedFrom + 5
	d.silently(fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", id))
	d.flags = []string{"--max-rows-per-second", "5000"} // so that the load goes on beside it
	d.t.Log(d.finds(exitDiverged, fmt.Sprintf(`accounts changed {"id":%d}..{"id":%d}`, id, id)))
	d.flags = nil
	d.end(writing)
	d.silently(fmt.Sprintf("UPDATE accounts SET balance = balance - 1 WHERE id = %d", id))
	d.finds(exitInStep)
}

// load writes to the reference, and makes the replica lag now and then, until end.
func (d *diffed) load() (end func() error) {
	writing := load.Start(d.t.Context(), d.DSN("eu-1"), load.Options{Clients: 3, Seed: 7, Pause: 25 * time.Millisecond})
	ctx, stop := context.WithCancel(d.t.Context())
	lagging := make(chan error)
	go func() { lagging <- d.lag(ctx) }()
	return func() error {
		stop()
		return errors.Join(<-lagging, writing.Stop(), d.WaitCaughtUp(d.t.Context()))
	}
}

func (d *diffed) lag(ctx context.Context) error {
	tick := time.NewTicker(400 * time.Millisecond) // on PostgreSQL each lag takes two new processes
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := d.Pause(d.t.Context(), "us-1"); err != nil {
			return err
		}
		<-tick.C
		if err := errors.Join(d.Resume(d.t.Context(), "us-1"), d.WaitCaughtUp(d.t.Context())); err != nil {
			return err
		}
	}
	return nil
}

func (d *diffed) end(writing func() error) {
	d.t.Helper()
	if err := writing(); err != nil {
		d.t.Fatal(err)
	}
}

// exactKeys: rows that are missing, changed and only on the replica, neighbours as one range.
func (d *diffed) exactKeys() {
	d.t.Helper()
	d.silently(fmt.Sprintf("UPDATE accounts SET id = id + 500000 WHERE id BETWEEN %d AND %d", load.ReservedFrom+10, load.ReservedFrom+13))
	d.silently("INSERT INTO stock VALUES ('zz', 1, 1, NULL), ('zz', 2, 1, NULL)")
	d.silently(fmt.Sprintf("UPDATE accounts SET owner = 'nobody' WHERE id = %d", load.ReservedFrom+20))
	extra := []string{`stock extra {"warehouse":"zz","item":1}..{"warehouse":"zz","item":2}`}
	if d.schema != "public" { // a collation's order, in which only the reference's rows have known neighbours
		extra = []string{
			`stock extra {"warehouse":"zz","item":1}..{"warehouse":"zz","item":1}`,
			`stock extra {"warehouse":"zz","item":2}..{"warehouse":"zz","item":2}`,
		}
	}
	stderr := d.finds(exitDiverged, append([]string{
		fmt.Sprintf(`accounts changed {"id":%d}..{"id":%d}`, load.ReservedFrom+20, load.ReservedFrom+20),
		fmt.Sprintf(`accounts extra {"id":%d}..{"id":%d}`, load.ReservedFrom+500_010, load.ReservedFrom+500_013),
		fmt.Sprintf(`accounts missing {"id":%d}..{"id":%d}`, load.ReservedFrom+10, load.ReservedFrom+13),
	}, extra...)...)
	if last := strings.TrimSpace(stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:]); !strings.Contains(last, "1 in step, 2 diverged, 0 stale, 0 unverified; 11 divergent keys") {
		d.t.Errorf("last line %q", last)
	}
	code, stdout, _ := d.diff("--table", d.schema+".accounts", "--member", "us-1")
	for _, want := range []string{"us-1     " + d.schema + ".accounts   diverged", fmt.Sprintf("{\"id\":%d}..{\"id\":%d} (4 keys)", load.ReservedFrom+10, load.ReservedFrom+13), "eu-1 from "} {
		if code != exitDiverged || !strings.Contains(stdout, want) || strings.Contains(stdout, "stock") {
			d.t.Errorf("exit code %d, no %q in\n%s", code, want, stdout)
		}
	}
	d.silently("DELETE FROM stock WHERE warehouse = 'zz'")
	d.silently("UPDATE accounts SET id = id - 500000 WHERE id > 1500000")
	d.silently(fmt.Sprintf("UPDATE accounts SET owner = 'reserved %d' WHERE id = %d", load.ReservedFrom+20, load.ReservedFrom+20))
	d.finds(exitInStep)
}

// stale: a replica that was stopped is over its budget, one that is waited for shorter than that is not known.
func (d *diffed) stale() {
	d.t.Helper()
	if err := d.Pause(d.t.Context(), "us-1"); err != nil {
		d.t.Fatal(err)
	}
	id := load.ReservedFrom + 30
	d.exec("eu-1", fmt.Sprintf("UPDATE accounts SET balance = 7 WHERE id = %d", id))
	code, stdout, _ := d.diff("--wait", "300ms")
	if code != exitUnknown || !strings.Contains(stdout, "which is less than its lag budget") {
		d.t.Errorf("exit code %d without waiting\n%s", code, stdout)
	}
	budget := d.yaml
	d.yaml = strings.ReplaceAll(d.yaml, "lag_budget: 20s", "lag_budget: 1s")
	d.finds(exitDiverged, fmt.Sprintf(`accounts stale {"id":%d}..{"id":%d}`, id, id))
	d.yaml = budget
	if err := d.Resume(d.t.Context(), "us-1"); err != nil {
		d.t.Fatal(err)
	}
	d.finds(exitInStep)
}

// schemaDiffers: a table that one side lacks, or that may not be read, is named, and is no sameness.
func (d *diffed) schemaDiffers() {
	d.t.Helper()
	d.silently("CREATE TABLE lonely (id INT PRIMARY KEY)")
	code, stdout, _ := d.diff("--wait", "0s")
	if code != exitUnknown || !strings.Contains(stdout, d.schema+".lonely") || !strings.Contains(stdout, "it does not exist on eu-1") {
		d.t.Errorf("exit code %d\n%s", code, stdout)
	}
	d.silently("DROP TABLE lonely")
	if d.schema != "public" {
		return
	}
	d.silently("REVOKE SELECT ON stock FROM lockstep")
	code, stdout, _ = d.diff()
	for _, want := range []string{`GRANT SELECT ON TABLE "public"."stock" TO "lockstep"`, "public.orders     in_step"} {
		if code != exitUnknown || !strings.Contains(stdout, want) {
			d.t.Errorf("exit code %d, no %q in\n%s", code, want, stdout)
		}
	}
	d.silently("GRANT SELECT ON stock TO lockstep")
}

// refusals: what keeps diff from an answer is said in a line, with the code that it deserves.
func (d *diffed) refusals() {
	d.t.Helper()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--table", "nosuch.table"}, exitUsage, "no table nosuch.table in group shop; there are "},
		{[]string{"--table", d.schema + ".ordrs"}, exitUsage, "no table " + d.schema + ".ordrs in group shop; nearest: " + d.schema + ".orders"},
		{[]string{"--member", "eu-9"}, exitUsage, "no member eu-9 in group shop; nearest: eu-1"},
		{[]string{"--member", "eu-1"}, exitUsage, "is the reference"},
		{[]string{"--group", "nosuch"}, exitUsage, "no group nosuch; there is only shop"},
		{[]string{"--wait", "-1s"}, exitUsage, "is negative"},
		{[]string{"--nosuch"}, exitUsage, "unknown flag"},
	} {
		if code, _, stderr := d.diff(c.args...); code != c.code || !strings.Contains(stderr, c.want) {
			d.t.Errorf("%v: exit code %d, want %d; %q does not say %q", c.args, code, c.code, stderr, c.want)
		}
	}
	us1, err := url.Parse(d.Configuration().Groups[0].Member("us-1").DSN)
	if err != nil {
		d.t.Fatal(err)
	}
	d.yaml = strings.ReplaceAll(d.yaml, us1.Host, "127.0.0.1:1")
	if code, stdout, stderr := d.diff(); code != exitUnreachable || stdout != "" || !strings.Contains(stderr, "us-1") {
		d.t.Errorf("exit code %d, want %d; %s%s", code, exitUnreachable, stdout, stderr)
	}
}
