package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

// checkTimeout is how long a member may take to answer, unless it is said.
const checkTimeout = 20 * time.Second

type checkOptions struct {
	path, group, member string
	timeout             time.Duration
	output              *format
}

// checkLine is one line of output, and of -o json.
type checkLine struct {
	Group  string `json:"group,omitempty"`  // empty: about lockstep's own machine
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
		Long: `Check reads the configuration, asks every member what lockstep needs of it, and changes nothing. Of the machine that it runs on it warns
if data_dir cannot be written, or nobody could find what listens.

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
	durationFlag(cmd, &o.timeout, someTime, "timeout", checkTimeout, "how long a member may take to answer")
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
	if o.group == "" && o.member == "" {
		if err := o.print(w, config.Group{}, checkLocal(c)); err != nil {
			return err
		}
	}
	worst := exitInStep
	for _, g := range groups {
		lines, _, _ := checkGroup(ctx, g, o.timeout, o.member == "")
		if err := o.print(w, g, lines); err != nil {
			return err
		}
		worst = max(worst, worstOf(lines))
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

// checkGroup checks the members, and the whole group also against each other. Members that did not answer have no report. Those that go
// by one name are told from one another.
func checkGroup(ctx context.Context, g config.Group, timeout time.Duration, whole bool) (lines []checkLine, answered []*preflight.Report, proofs preflight.Proofs) {
	reports, errs := askMembers(ctx, g, timeout)
	client := ""
	add := func(member, state string, c preflight.Check) {
		lines = append(lines, checkLine{Group: g.Name, Member: member, Check: c, StateName: state, client: client})
	}
	for i, m := range g.Members {
		if errs[i] != nil {
			add(m.Name, unreachable, preflight.Check{Subject: "connection", Detail: strings.TrimPrefix(errs[i].Error(), "member "+m.Name+": ")})
			continue
		}
		answered, client = append(answered, reports[i]), reports[i].Client
		for _, c := range reports[i].Checks {
			c.Detail = strings.TrimPrefix(c.Detail, "password of member "+m.Name+": ") // which the line has
			add(m.Name, c.State.String(), c)
		}
	}
	telling, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	proofs = daemon.TellApart(telling, &g, answered)
	if whole {
		reference, line := checkReference(g, answered, proofs)
		if line != nil {
			add(reference, line.State.String(), *line)
		}
		between := preflight.Group(answered, proofs, reference, g.ExcludeColumns)
		if len(answered) == len(g.Members) {
			between = append(between, preflight.Strays(answered, reference)...)
			between = append(between, preflight.Beside(answered, proofs, reference, isScanOnly(g))...)
		}
		if reference != "" {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			between = append(between, daemon.CheckErrant(ctx, &g, reference)...)
		}
		for _, c := range between {
			add(c.About, c.State.String(), c)
		}
	}
	return lines, answered, proofs
}

// checkReference finds the reference by the rule by which `lockstep run` does, if all members have answered; empty: it is not known. The
// line is of that member, or of nobody.
func checkReference(g config.Group, answered []*preflight.Report, proofs preflight.Proofs) (reference string, line *preflight.Check) {
	if len(answered) < len(g.Members) {
		return g.Reference, nil // who does not answer has a line already
	}
	if g.Reference != "" {
		return g.Reference, &preflight.Check{Subject: "reference", State: preflight.OK, Detail: "it is named in the configuration"}
	}
	reference, why, err := preflight.Reference(preflight.TiesOf(answered, isScanOnly(g)), proofs)
	switch {
	case err == nil:
		return reference, &preflight.Check{Subject: "reference", State: preflight.OK, Detail: why}
	case errors.Is(err, preflight.ErrNoReference) && !preflight.Unseen(answered):
		return "", &preflight.Check{
			Subject: "reference", Detail: "which member is the reference is not known: " + err.Error(), Hint: "name it in the group's setting `reference`",
		}
	}
	return "", nil // what keeps members from saying it has lines of its own
}

// isScanOnly reports of a member whether its log is not read.
func isScanOnly(g config.Group) func(member string) bool {
	return func(member string) bool { return g.Member(member).ScanOnly }
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

// worstOf is the exit code of all lines together.
func worstOf(lines []checkLine) int {
	worst := exitInStep
	for _, l := range lines {
		worst = max(worst, l.code())
	}
	return worst
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
