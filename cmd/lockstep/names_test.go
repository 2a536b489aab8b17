package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
)

// mistyped are the flags and arguments that name something that is watched or known, with a typing error and what is said of it.
// A flag means the same in all commands.
var mistyped = map[string]struct{ name, says string }{
	"--group":  {"shp", "no group shp; nearest: shop"},
	"--member": {"us1", "no member us1"}, // and in which group
	"--table":  {"public.ordrs", "no table public.ordrs"},
	"TABLE":    {"public.ordrs", "no table public.ordrs in group shop; nearest: public.orders"},
	"ID":       {"01M83CBN5", "no divergence 01M83CBN5; nearest: 01M83CBN4Q"},
}

// nameless are those that name nothing of that, with what they are instead.
var nameless = map[string][]string{
	"files, folders and addresses": {
		"--config", "--ca-file", "--password-file", "--web.config.file", "--debug.listen-address", "--url", "--listen", "--output", "--dir",
		"--key of verify", "--seen", "--log", "--tsa-ca", "--witness-key", "--data-dir", "DIR", "FILE", "FOLDER", "DSN", "NAME",
	},
	"people, and what they say":     {"--by", "--ticket", "--note", "--username", "--name"},
	"one of a few words":            {"--state", "--log.level", "--log.format", "--engine", "--postgres"},
	"numbers, times, keys and more": {"--limit", "--timeout", "--wait", "--max-rows-per-second", "--max-ranges", "--once", "--lag-budget", "--warmup", "--watch", "--clear-text", "--strict", "--allow-missing-columns", "--from", "--to", "--at", "--range", "--key", "--help", "--version"},
}

// whole are the other arguments that a command needs to get as far as to its names. FILE is a configuration, URL where lockstep answers.
var whole = map[string]string{
	"acknowledge": "--url URL --by ann", "divergences": "--url URL", "scrub": "--url URL", "status": "--url URL",
	"check": "-c FILE", "diff": "-c FILE", "audit report": "-c FILE --from 2026-01-01 --output /nowhere/x.zip", "audit prove": "-c FILE --at 3 --table public.orders",
}

// "divergences --table accounts" of a table accunts once said "No divergences found." and ended with 0. Each flag and argument of
// each command is tried; one that this test does not know yet fails it.
func TestAMistypedNameIsAnErrorInEveryCommand(t *testing.T) {
	said := make(map[string]bool)
	for _, list := range nameless {
		for _, name := range list {
			said[name] = true
		}
	}
	address := strings.TrimPrefix(serveGroups(t, shop{}), "http://") // which --url takes too
	reader := strings.NewReplacer("URL", address, "FILE", shopFile(t))
	tried := 0
	try := func(c *cobra.Command, name string, args ...string) {
		t.Helper()
		path := strings.TrimPrefix(c.CommandPath(), "lockstep ")
		if said[name+" of "+c.Name()] || said[name] && mistyped[name].name == "" {
			return
		}
		wrong, known := mistyped[name]
		needs, runs := whole[path]
		if !known || !runs {
			t.Errorf("lockstep %s %s: say in this test whether it names something, and how the command is run", path, name)
			return
		}
		args = slices.Concat(strings.Fields(path), strings.Fields(reader.Replace(needs)), args, []string{wrong.name})
		code, stdout, stderr := lockstep(t, args...)
		if code != exitUsage || !strings.Contains(stderr, wrong.says) || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q; want %q", args, code, stdout, stderr, wrong.says)
		}
		tried++
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { try(c, "--"+f.Name, "--"+f.Name) })
		for _, argument := range regexp.MustCompile(`\b[A-Z]{2,}\b`).FindAllString(strings.SplitN(c.Use, " --", 2)[0], -1) {
			if !slices.Contains([]string{"FIRST", "LAST"}, argument) { // keys behind a table
				try(c, argument)
			}
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(newRootCommand())
	if tried < 15 {
		t.Errorf("only %d names were tried", tried)
	}
}

// A pattern that fits nothing is a typing error too; one that fits is not, beside what its letters are.
func TestDiffTakesPatternsOfTables(t *testing.T) {
	file := shopFile(t)
	for _, c := range []struct {
		tables []string
		code   int
		says   string
	}{
		{[]string{"public.ord*"}, exitInStep, "1 in step, 0 diverged"},
		{[]string{"*.order?", "public.orders"}, exitInStep, "1 in step, 0 diverged"},
		{[]string{"public.orders*", "public.ordr*"}, exitUsage, "lockstep: no table public.ordr* in group shop; nearest: public.orders (of those that tables.include of " + file + " has compared)"},
		{[]string{"Public.*"}, exitUsage, "no table Public.* in group shop"},
	} {
		args := []string{"diff", "-c", file}
		for _, table := range c.tables {
			args = append(args, "--table", table)
		}
		if code, stdout, stderr := lockstep(t, args...); code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%v: exit code %d, %q, %q; want %q", args, code, stdout, stderr, c.says)
		}
	}
}

// shopFile is a configuration of two databases that have a table of orders, with an audit log of it.
func shopFile(t *testing.T) string {
	t.Helper()
	server := dbtest.SharedT(t, dbtest.Need(t, dbtest.PG15), "names", dbtest.Options{})
	eu, us := strings.ToLower(t.Name())+"_eu", strings.ToLower(t.Name())+"_us"
	dbtest.ExecT(t, server, "CREATE DATABASE "+eu, "CREATE DATABASE "+us)
	for _, database := range []string{eu, us} {
		conn, err := pgx.Connect(t.Context(), server.DSN(database))
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), "CREATE TABLE orders (id int PRIMARY KEY)")
		if err := errors.Join(err, conn.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	watched := evidence.StartData{Groups: []evidence.GroupData{{Name: "shop", Reference: "eu-1", Members: []evidence.MemberData{{Name: "us-1"}}}}}
	dir, _ := auditLog(t, evidence.Event{Type: evidence.Start, Time: time.Now(), Data: watched}, evidence.Event{Type: evidence.Coverage, Group: "shop", Time: time.Now(), Data: evidence.CoverageData{
		Member: "us-1", Role: "replica", Tables: []evidence.TableData{{Table: "public.orders", Ranges: map[string]int{}}},
	}})
	return writeFile(t, "lockstep.yaml", fmt.Sprintf(`data_dir: %s
audit: {}
groups:
  - name: shop
    engine: postgres
    reference: eu-1
    members: [{name: eu-1, dsn: %q}, {name: us-1, dsn: %q}]
    tables: {include: ["public.*"]}
`, dir, server.DSN(eu), server.DSN(us)))
}

// shop is a group in which a row of the orders differs.
type shop struct{}

func (shop) Status() *status.Group {
	table := func(name string, v status.Verdict) status.Table {
		return status.Table{Table: name, Verdict: v, Rows: 5000}
	}
	g := &status.Group{Name: "shop", Reference: "eu-1", At: time.Now(), Members: []status.Member{
		{Name: "eu-1", Role: "reference", Position: "0/1", Tables: []status.Table{table("public.orders", status.InStep), table("public.users", status.InStep)}},
		{Name: "us-1", Role: "replica", Position: "0/1", Tables: []status.Table{table("public.orders", status.Diverged), table("public.users", status.InStep)}},
	}}
	g.Complete()
	return g
}

func (shop) Divergences(yield func(*finding.Divergence) bool) error {
	for _, id := range []string{"01M83CBN4Q", "01M83CBN4R"} {
		if !yield(&finding.Divergence{ID: id, Group: "shop", Member: "us-1", Table: "public.orders", State: finding.Open, Kind: finding.Changed, Keys: 1}) {
			break
		}
	}
	return nil
}

func (g shop) RequestScrub(_ context.Context, r align.ScrubRequest) (align.ScrubRequest, error) {
	return r, names.Groups{g.Status().Names()}.Check(names.Wanted{Group: "shop", Members: r.Members, Tables: r.Tables})
}

func (shop) ScrubRequests() []align.ScrubRequest { return nil }

func (shop) Acknowledge(context.Context, string, finding.Acknowledgement) (*finding.Divergence, error) {
	return nil, nil
}
