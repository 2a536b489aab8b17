package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/diff"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
)

type diffOptions struct {
	path, group     string
	members, tables []string
	wait            time.Duration
	waitSet         bool
	rowsPerSecond   int
	ranges          int
	missingColumns  bool
	output          *format
}

func newDiffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff -c FILE",
		Short: "Compare all rows of all members once, without a running lockstep",
		Long: `Diff reads the tables of every member once, row by row, and says which keys differ. It needs no
running lockstep, no replication slot, no store, takes no locks and writes nothing, so it is fit for
cron, for CI, and for a look before lockstep run.

The servers may be written to meanwhile: what differs is read again, in an order and until it is
certain, so lag is no difference. A member that has not replayed after its lag budget what the
reference had before is stale.

Prints a line for each table on each member, the exact ranges of keys that differ, and what was read
at which positions; with -o json one object a line for each divergence and for each table of which
not all can be said, and the rest on stderr.

Columns that only one side has are not compared, and the table is unverified: --allow-missing-columns
takes that for well.

Exit codes: 0 in step, 1 diverged or stale, 2 wrong command line or configuration, 3 not all could
be determined, 4 a member could not be reached, 5 all is in step but for columns that were not compared.
1 comes before 4, 4 before 3, and 3 before 5.`,
		Example: `  lockstep diff -c lockstep.yaml
  lockstep diff -c lockstep.yaml --table public.orders --member us-1
  lockstep diff -c lockstep.yaml --table 'public.order_*'
  lockstep diff -c lockstep.yaml --max-rows-per-second 20000 -o json > differences.json`,
		Args: cobra.NoArgs,
	}
	configFlag(cmd, &o.path)
	o.output = formatFlag(cmd, "table", "json")
	f := cmd.Flags()
	f.StringVar(&o.group, "group", "", "of this `GROUP` only")
	listFlag(cmd, &o.tables, "table", "this `TABLE` only, or those that fit a pattern such as public.*; may be given several times")
	listFlag(cmd, &o.members, "member", "this `MEMBER` only, against the reference; may be given several times")
	durationFlag(cmd, &o.wait, 0, "wait", 0, "how long a member may take to replay what the reference had (default: its lag budget)")
	numberFlag(cmd, &o.rowsPerSecond, 0, "max-rows-per-second", 0, "read no more `ROWS` a second of each server (default: as many as it gives)")
	f.BoolVar(&o.missingColumns, "allow-missing-columns", false, "take a table for in step although one side has columns that the other lacks")
	numberFlag(cmd, &o.ranges, 1, "max-ranges", 1000, "list no more `RANGES` of one table; further keys are counted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.waitSet = f.Changed("wait")
		return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func (o diffOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	c, err := loadConfig(o.path)
	if err != nil {
		return err
	}
	groups, err := o.choose(ctx, c)
	if err != nil {
		return err
	}
	var codes []int
	var errs []error
	for i := range groups {
		code, err := o.compare(ctx, &groups[i], stdout, stderr)
		codes, errs = append(codes, code), append(errs, err)
	}
	if code := worstDiff(codes); code != exitInStep {
		return exit(code, errors.Join(errs...))
	}
	return nil
}

// worstDiff is the code that comes first: a wrong configuration, then a difference, then who could not be reached.
func worstDiff(codes []int) int {
	for _, code := range []int{exitUsage, exitDiverged, exitUnreachable, exitUnknown, exitColumns} {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return exitInStep
}

// fits reports whether a table is one that patterns stand for, as in tables.include.
func fits(table string, patterns ...string) bool {
	return config.Tables{Include: patterns}.Match(table)
}

// choose takes the groups that the flags leave. A table that is named, or one that fits a pattern, has to be on some server of them.
func (o diffOptions) choose(ctx context.Context, c *config.Config) ([]config.Group, error) {
	if err := c.Names().Check(names.Wanted{Group: o.group, Members: o.members}); err != nil {
		return nil, fmt.Errorf("%s: %w", o.path, err)
	}
	groups := slices.DeleteFunc(slices.Clone(c.Groups), func(g config.Group) bool {
		named := func(name string) bool { return g.Member(name) != nil }
		return o.group != "" && g.Name != o.group || len(o.members) > 0 && !slices.ContainsFunc(o.members, named)
	})
	if len(o.tables) == 0 {
		return groups, nil
	}
	var known names.Groups
	for i := range groups {
		known = append(known, names.Group{Name: groups[i].Name, Tables: o.tablesOf(ctx, &groups[i])})
	}
	nowhere := slices.DeleteFunc(slices.Clone(o.tables), func(pattern string) bool {
		return slices.ContainsFunc(known, func(g names.Group) bool {
			return slices.ContainsFunc(g.Tables, func(table string) bool { return fits(table, pattern) })
		})
	})
	if err := known.Check(names.Wanted{Tables: nowhere}); err != nil {
		return nil, fmt.Errorf("%w (of those that tables.include of %s has compared)", err, o.path)
	}
	i := -1
	return slices.DeleteFunc(groups, func(config.Group) bool {
		i++
		there := known[i].Tables
		return there != nil && !slices.ContainsFunc(there, func(table string) bool { return fits(table, o.tables...) })
	}), nil
}

// tablesOf returns the tables on the servers of a group; nil: they do not say, and comparing them will tell why.
func (o diffOptions) tablesOf(ctx context.Context, g *config.Group) []string {
	readers, err := daemon.OpenReaders(ctx, g, o.members, nil)
	if err != nil {
		return nil
	}
	defer readers.Close()
	options, err := o.options(g, readers)
	if err != nil {
		return nil
	}
	options.Match = g.Tables.Match
	tables, err := diff.New(options).Tables(ctx)
	if err != nil {
		return nil
	}
	return append([]string{}, tables...)
}

// compare compares one group and prints what it finds.
func (o diffOptions) compare(ctx context.Context, g *config.Group, stdout, stderr io.Writer) (int, error) {
	readers, err := daemon.OpenReaders(ctx, g, o.members, nil)
	if err != nil {
		return codeOf(startError(err)), err
	}
	defer readers.Close()
	options, err := o.options(g, readers)
	if err != nil {
		return exitUsage, err
	}
	comparison := diff.New(options)
	report, err := o.follow(ctx, comparison, stderr)
	if err != nil {
		return codeOf(diffError(err)), fmt.Errorf("group %s: %w", g.Name, err)
	}
	if err := o.print(stdout, stderr, report); err != nil {
		return exitUnknown, err
	}
	if len(report.Results) == 0 {
		return exitUnknown, fmt.Errorf("group %s: no member has a table that matches tables.include", g.Name)
	}
	return diffCode(report), nil
}

// options say what is compared in a group.
func (o diffOptions) options(g *config.Group, readers *daemon.Readers) (diff.Options, error) {
	options := diff.Options{
		Group:     g.Name,
		Reference: diff.Member{Name: readers.Reference, Reader: readers.Members[readers.Reference]},
		Match: func(table string) bool {
			return g.Tables.Match(table) && (len(o.tables) == 0 || fits(table, o.tables...))
		},
		Exclude:          g.ExcludeColumns,
		Budget:           g.LagBudget,
		MaxRowsPerSecond: o.rowsPerSecond,
		MaxRanges:        o.ranges,

		AllowMissingColumns: o.missingColumns,
		NewID:               monitor.NewID,
	}
	if o.waitSet {
		options.Wait = &o.wait
	}
	for _, m := range g.Members {
		if m.Name != readers.Reference && (len(o.members) == 0 || slices.Contains(o.members, m.Name)) {
			options.Members = append(options.Members, diff.Member{Name: m.Name, Reader: readers.Members[m.Name]})
		}
	}
	if len(options.Members) == 0 {
		return options, fmt.Errorf("group %s: %s is the reference: name another member to hold against it", g.Name, readers.Reference)
	}
	return options, nil
}

// follow runs the comparison, with progress bars if somebody sees them.
func (o diffOptions) follow(ctx context.Context, c *diff.Comparison, stderr io.Writer) (*diff.Report, error) {
	if isTerminal(stderr) {
		drawing, stop := context.WithCancel(ctx)
		bars := showScans(drawing, stderr, func() []status.ScanProgress { return stepsOf(c) })
		defer bars.Wait()
		defer stop()
	}
	return c.Run(ctx)
}

// stepsOf lists what goes on in a comparison, for its bars.
func stepsOf(c *diff.Comparison) (scans []status.ScanProgress) {
	for _, s := range c.Steps() {
		if s.Waits != "" {
			s.Table += ", waiting until it has " + shortPosition(s.Waits)
		}
		scans = append(scans, s.ScanProgress)
	}
	return scans
}

// diffError gives an error of a comparison the exit code that it deserves.
func diffError(err error) error {
	var failed *diff.Error
	switch {
	case !errors.As(err, &failed):
		return undeterminedError(err)
	case failed.Usage:
		return usageError(err)
	case failed.Unreachable:
		return unreachableError(err)
	}
	return undeterminedError(err)
}

// diffCode is the exit code for what was found. A comparison of nothing says nothing.
func diffCode(r *diff.Report) int {
	codes := []int{exitInStep}
	if len(r.Results) == 0 {
		codes = append(codes, exitUnknown)
	}
	for _, x := range r.Results {
		switch {
		case x.Verdict == status.InStep:
		case x.Verdict == status.Diverged || x.Verdict == status.Stale:
			codes = append(codes, exitDiverged)
		case x.Reason == "" && len(x.NotCompared) > 0:
			codes = append(codes, exitColumns)
		default:
			codes = append(codes, exitUnknown)
		}
		if x.Unreachable {
			codes = append(codes, exitUnreachable)
		}
	}
	return worstDiff(codes)
}
