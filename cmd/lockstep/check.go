package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// unreachable is the state of a member that did not answer; the other states are those of preflight.State.
const unreachable = "unreachable"

type checkOptions struct {
	path, group, member string
	timeout             time.Duration
	output              *format
}

// checkLine is one line of output, and of -o json.
type checkLine struct {
	Group  string `json:"group"`
	Member string `json:"member,omitempty"` // empty: about the group as a whole
	preflight.Check
	StateName string `json:"state"` // hides that of Check, which knows no unreachable
	client    string // by which the member's script is run
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Say what keeps the servers from being watched, and the SQL that mends it",
		Long: `Check reads the configuration, asks every member what lockstep needs of it, and changes nothing.

With -o sql it prints a script that makes one member ready:

  lockstep check -c lockstep.yaml -o sql --member eu-1 | psql -d shop

Exit codes: 0 all is well, 2 wrong command line or configuration, 3 something has to be mended (with -o sql: that SQL
cannot mend), 4 a member could not be reached.`,
		Args: cobra.NoArgs,
	}
	configFlag(cmd, &o.path)
	o.output = formatFlag(cmd, "table", "json", "sql")
	cmd.Flags().StringVar(&o.group, "group", "", "check only this group")
	cmd.Flags().StringVar(&o.member, "member", "", "check only this member")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 20*time.Second, "how long a member may take to answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) }
	return cmd
}

func (o checkOptions) run(ctx context.Context, w io.Writer) error {
	c, err := loadConfig(o.path)
	if err != nil {
		return err
	}
	groups, err := o.choose(c)
	if err != nil {
		return usageError(err)
	}
	if o.output.value == "sql" {
		return o.printSQL(ctx, w, groups)
	}
	worst := exitInStep
	for _, g := range groups {
		lines := checkGroup(ctx, g, o.timeout, o.member == "")
		if err := o.print(w, g, lines); err != nil {
			return err
		}
		for _, l := range lines {
			worst = max(worst, l.code())
		}
	}
	if worst != exitInStep {
		return exit(worst, nil)
	}
	return nil
}

// choose takes the groups, and in them the members, that --group and --member leave.
func (o checkOptions) choose(c *config.Config) ([]config.Group, error) {
	if err := c.Names().Check(names.Wanted{Group: o.group, Members: given(o.member)}); err != nil {
		return nil, fmt.Errorf("%s: %w", o.path, err)
	}
	var groups []config.Group
	for _, g := range c.Groups {
		if o.group != "" && g.Name != o.group {
			continue
		}
		if o.member != "" {
			m := g.Member(o.member)
			if m == nil {
				continue
			}
			g.Members = []config.Member{*m}
		}
		groups = append(groups, g)
	}
	switch {
	case o.output.value == "sql" && o.member == "":
		return nil, errors.New("-o sql is about one member: name it with --member")
	case o.output.value == "sql" && len(groups) > 1:
		return nil, fmt.Errorf("member %q is in %d groups: name one with --group", o.member, len(groups))
	}
	return groups, nil
}

// askMembers checks all members at once. Where an error is, the report is nil.
func askMembers(ctx context.Context, g config.Group, timeout time.Duration) ([]*preflight.Report, []error) {
	reports, errs := make([]*preflight.Report, len(g.Members)), make([]error, len(g.Members))
	var asking sync.WaitGroup
	for i, m := range g.Members {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			reports[i], errs[i] = daemon.Check(ctx, &g, &m)
		})
	}
	asking.Wait()
	return reports, errs
}

// checkGroup checks the members, and if all of them were asked, them against each other.
func checkGroup(ctx context.Context, g config.Group, timeout time.Duration, whole bool) []checkLine {
	reports, errs := askMembers(ctx, g, timeout)
	var lines []checkLine
	var answered []*preflight.Report
	client := ""
	add := func(member, state string, c preflight.Check) {
		lines = append(lines, checkLine{Group: g.Name, Member: member, Check: c, StateName: state, client: client})
	}
	for i, m := range g.Members {
		if errs[i] != nil {
			add(m.Name, unreachable, preflight.Check{Subject: "connection", Detail: errs[i].Error()})
			continue
		}
		answered, client = append(answered, reports[i]), reports[i].Client
		for _, c := range reports[i].Checks {
			add(m.Name, c.State.String(), c)
		}
	}
	if whole {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		reference, line := checkReference(ctx, &g, len(answered) == len(g.Members))
		if line != nil {
			add(reference, line.State.String(), *line)
		}
		between := preflight.Group(answered, reference, g.ExcludeColumns)
		if reference != "" {
			between = append(between, daemon.CheckErrant(ctx, &g, reference)...)
		}
		for _, c := range between {
			add("", c.State.String(), c)
		}
	}
	return lines
}

// checkReference finds the reference as `lockstep run` does, if all members have answered; empty: it is not known. The line is of that
// member, or of nobody.
func checkReference(ctx context.Context, g *config.Group, all bool) (reference string, line *preflight.Check) {
	if !all {
		return g.Reference, nil // who does not answer has a line already
	}
	reference, why, err := daemon.FindReference(ctx, g)
	switch {
	case err == nil:
		return reference, &preflight.Check{Subject: "reference", State: preflight.OK, Detail: why}
	case errors.Is(err, preflight.ErrNoReference):
		return "", &preflight.Check{Subject: "reference", Detail: err.Error()}
	}
	return "", nil // what keeps members from saying it has lines of its own
}

// code is the exit code that a line calls for.
func (l checkLine) code() int {
	switch l.StateName {
	case unreachable:
		return exitUnreachable
	case preflight.Fail.String():
		return exitUnknown
	}
	return exitInStep
}

// printSQL prints the script of the one member that was chosen.
func (o checkOptions) printSQL(ctx context.Context, w io.Writer, groups []config.Group) error {
	reports, errs := askMembers(ctx, groups[0], o.timeout)
	if errs[0] != nil {
		return unreachableError(errs[0])
	}
	if _, err := io.WriteString(w, reports[0].SQL()); err != nil {
		return err
	}
	for _, c := range reports[0].Checks {
		if c.State == preflight.Fail && c.SQL == "" {
			return undeterminedError(fmt.Errorf("member %s: %s: %s: %s", o.member, c.Subject, c.Detail, c.Hint))
		}
	}
	return nil
}
