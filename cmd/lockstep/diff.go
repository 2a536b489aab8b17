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
	"github.com/lockstep-cdc/lockstep/status"
)

type diffOptions struct {
	path, group     string
	members, tables []string
	wait            time.Duration
	waitSet         bool
	rowsPerSecond   int
	ranges          int
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
at which positions; with -o json one object a line for each divergence, and the rest on stderr.

Exit codes: 0 in step, 1 diverged or stale, 2 wrong command line or configuration, 3 not all could
be determined, 4 a member could not be reached. 1 comes before 4, and 4 before 3.`,
		Example: `  lockstep diff -c lockstep.yaml
  lockstep diff -c lockstep.yaml --table public.orders --member us-1
  lockstep diff -c lockstep.yaml --max-rows-per-second 20000 -o json > differences.json`,
		Args: cobra.NoArgs,
	}
	configFlag(cmd, &o.path)
	o.output = formatFlag(cmd, "table", "json")
	f := cmd.Flags()
	f.StringVar(&o.group, "group", "", "of this `GROUP` only")
	f.StringSliceVar(&o.tables, "table", nil, "this `TABLE` only; may be given several times")
	f.StringSliceVar(&o.members, "member", nil, "this `MEMBER` only, against the reference; may be given several times")
	f.DurationVar(&o.wait, "wait", 0, "how long a member may take to replay what the reference had (default: its lag budget)")
	f.IntVar(&o.rowsPerSecond, "max-rows-per-second", 0, "read no more `ROWS` a second of each server (default: as many as it gives)")
	f.IntVar(&o.ranges, "max-ranges", 1000, "list no more `RANGES` of one table; further keys are counted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.waitSet = f.Changed("wait")
		return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func (o diffOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if o.wait < 0 || o.rowsPerSecond < 0 || o.ranges < 1 {
		return usageError(errors.New("--wait and --max-rows-per-second cannot be negative, and --max-ranges is 1 at least"))
	}
	c, err := loadConfig(o.path)
	if err != nil {
		return err
	}
	groups, err := o.choose(c)
	if err != nil {
		return usageError(err)
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
	for _, code := range []int{exitUsage, exitDiverged, exitUnreachable, exitUnknown} {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return exitInStep
}

// choose takes the groups that --group leaves, and checks what the other flags name.
func (o diffOptions) choose(c *config.Config) ([]config.Group, error) {
	groups := c.Groups
	if o.group != "" {
		g := c.Group(o.group)
		if g == nil {
			return nil, fmt.Errorf("%s has no group %q", o.path, o.group)
		}
		groups = []config.Group{*g}
	}
	for _, name := range o.members {
		if !slices.ContainsFunc(groups, func(g config.Group) bool { return g.Member(name) != nil }) {
			return nil, fmt.Errorf("%s has no member %q", o.path, name)
		}
	}
	for _, name := range o.tables {
		if !slices.ContainsFunc(groups, func(g config.Group) bool { return g.Tables.Match(name) }) {
			return nil, fmt.Errorf("table %q is not among those that %s includes", name, o.path)
		}
	}
	if len(o.members) > 0 {
		groups = slices.DeleteFunc(slices.Clone(groups), func(g config.Group) bool {
			return !slices.ContainsFunc(o.members, func(name string) bool { return g.Member(name) != nil })
		})
	}
	return groups, nil
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
	if err := o.missing(g, report); err != nil {
		return worstDiff([]int{diffCode(report), exitUnknown}), err
	}
	return diffCode(report), nil
}

// options say what is compared in a group.
func (o diffOptions) options(g *config.Group, readers *daemon.Readers) (diff.Options, error) {
	options := diff.Options{
		Group:     g.Name,
		Reference: diff.Member{Name: readers.Reference, Reader: readers.Members[readers.Reference]},
		Match: func(table string) bool {
			return g.Tables.Match(table) && (len(o.tables) == 0 || slices.Contains(o.tables, table))
		},
		Exclude:          g.ExcludeColumns,
		Budget:           g.LagBudget,
		MaxRowsPerSecond: o.rowsPerSecond,
		MaxRanges:        o.ranges,
		NewID:            monitor.NewID,
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

func codeOf(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitUnknown
}

// diffCode is the exit code for what was found. A comparison of nothing says nothing.
func diffCode(r *diff.Report) int {
	codes := []int{exitInStep}
	if len(r.Results) == 0 {
		codes = append(codes, exitUnknown)
	}
	for _, x := range r.Results {
		switch x.Verdict {
		case status.InStep:
		case status.Diverged, status.Stale:
			codes = append(codes, exitDiverged)
		default:
			codes = append(codes, exitUnknown)
		}
		if x.Unreachable {
			codes = append(codes, exitUnreachable)
		}
	}
	return worstDiff(codes)
}

// missing says which tables were asked for and are nowhere.
func (o diffOptions) missing(g *config.Group, r *diff.Report) error {
	var errs []error
	for _, name := range o.tables {
		if g.Tables.Match(name) && !slices.ContainsFunc(r.Results, func(x diff.Result) bool { return x.Table == name }) {
			errs = append(errs, fmt.Errorf("group %s: no member has a table %s", g.Name, name))
		}
	}
	if len(errs) == 0 && len(r.Results) == 0 {
		errs = append(errs, fmt.Errorf("group %s: no member has a table that matches tables.include", g.Name))
	}
	return errors.Join(errs...)
}
