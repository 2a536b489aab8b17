package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
)

// statusOptions say what is shown, and how.
type statusOptions struct {
	api    *apiFlags
	output *format
	selection
	states []string
	every  time.Duration // 0: once
}

func newStatusCommand() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the state of every table on every member, as a running lockstep knows it",
		Long: `Show the state of every table on every member, as a running lockstep knows it: a line that sums each group up, its members,
and its tables with their state on each member and the number of keys that differ.

Exits 0 if all are in step, lag within their budget or differ as expected_writes tells, 1 if one has diverged or is stale,
3 if of one nothing can be said, 4 if no lockstep answers. --group, --member and --table choose what is judged; --state
only leaves out lines.

VERIFIED is how long ago those rows were read from the server that were read longest ago, on any member; what changed since
then came through the log. -o wide has a line for each table on each member, with all that is known: the whole POSITION, FRESH (the
share of the rows that were read within scrub.every), SILENT (rows that were found to have changed without a trace in the log) and
AGE (how old all of this is: lockstep looks anew twice a second; what is older than 5 seconds is unverified).

--watch draws it again and again, until Ctrl-C; the exit code is then that of what was shown last.`,
		Example: `  lockstep status
  lockstep status --state unverified,stale,diverged --watch
  lockstep status --group shop --member us-1 --table public.orders -o wide`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.api = addAPIFlags(c)
	o.output = formatFlag(c, "table", "wide", "json")
	o.addFlags(c)
	listFlag(c, &o.states, "state", "only what is in this `STATE`: in_step, lagging, expected, unverified, stale or diverged; may be given several times")
	durationFlag(c, &o.every, someTime, "watch", 0, "draw again every so often, as in --watch=5s")
	c.Flags().Lookup("watch").NoOptDefVal = "2s"
	return c
}

// selection is what somebody asks about.
type selection struct {
	group           string
	members, tables []string
}

func (s *selection) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&s.group, "group", "", "of this `GROUP` only")
	listFlag(c, &s.members, "member", "of this `MEMBER` only; may be given several times")
	listFlag(c, &s.tables, "table", "of this `TABLE` only, such as public.orders; may be given several times")
}

// check returns an error for a name that is not there.
func (s selection) check(groups []status.Group) error {
	var known names.Groups
	for i := range groups {
		known = append(known, groups[i].Names())
	}
	return known.Check(names.Wanted{Group: s.group, Members: s.members, Tables: s.tables})
}

// of leaves of groups what is asked about. A group whose tables are not known yet may have any.
func (s selection) of(groups []status.Group) (left []status.Group) {
	for _, g := range groups {
		there := g.Names()
		if s.group != "" && g.Name != s.group || !among(s.members, there.Members...) || there.Tables != nil && !among(s.tables, there.Tables...) {
			continue
		}
		g.Members = slices.DeleteFunc(slices.Clone(g.Members), func(m status.Member) bool { return !among(s.members, m.Name) })
		for j := range g.Members {
			m := &g.Members[j]
			m.Tables = slices.DeleteFunc(slices.Clone(m.Tables), func(t status.Table) bool { return !among(s.tables, t.Table) })
		}
		g.Complete()
		left = append(left, g)
	}
	return left
}

// among reports whether one of the names is in a list; an empty list stands for all.
func among(list []string, any ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(any, func(name string) bool { return slices.Contains(list, name) })
}

// ask asks for the state of what was selected. Each name has to be there.
func (s selection) ask(ctx context.Context, api *apiFlags) ([]status.Group, error) {
	groups, err := askGroups(ctx, api)
	if err == nil {
		err = s.check(groups)
	}
	return s.of(groups), err
}

func askGroups(ctx context.Context, api *apiFlags) (groups []status.Group, err error) {
	return groups, api.get(ctx, "api/v1/groups", nil, &groups)
}

func (o statusOptions) run(cmd *cobra.Command) error {
	for _, state := range o.states {
		var known []string
		for _, v := range status.Verdicts {
			known = append(known, string(v))
		}
		if err := names.Check("state", state, "", known); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("watch") && o.every < leastWatch {
		return usageError(fmt.Errorf("--watch=%v is too often: write %v or more", o.every, leastWatch))
	}
	groups, err := o.ask(cmd.Context(), o.api)
	switch {
	case err != nil:
		return err
	case o.every > 0:
		return o.watch(cmd.Context(), cmd.OutOrStdout(), groups)
	}
	if err := o.print(cmd.OutOrStdout(), groups, colourful(cmd.OutOrStdout())); err != nil {
		return err
	}
	return verdictOf(groups)
}

const leastWatch = 200 * time.Millisecond

// watch draws what is asked for again and again until ctx ends. That no lockstep answers for a while does not end it.
func (o statusOptions) watch(ctx context.Context, out io.Writer, groups []status.Group) error {
	var err error
	for tick := time.NewTicker(o.every); ; {
		if err := o.draw(out, groups, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			if err != nil {
				return exit(codeOf(err), nil)
			}
			return verdictOf(groups)
		case <-tick.C:
		}
		if now, failed := o.ask(ctx, o.api); ctx.Err() == nil {
			groups, err = now, failed
		}
	}
}

// draw shows groups, or why they are not known, in place of what was shown before.
func (o statusOptions) draw(out io.Writer, groups []status.Group, failed error) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, every %v, until Ctrl-C\n\n", time.Now().Format(time.TimeOnly), o.every)
	if failed != nil {
		fmt.Fprintf(&b, "lockstep: %v\n", failed)
	} else if err := o.print(&b, groups, colourful(out)); err != nil {
		return err
	}
	if o.output.value == "json" && failed == nil {
		b.Reset() // nothing but objects, a line each
		if err := o.print(&b, groups, false); err != nil {
			return err
		}
	}
	text := b.String()
	if isTerminal(out) {
		// Over what is there, and what then is left of it cleared: to clear first would flicker.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(out, text)
	return err
}

// verdictOf ends a command by the worst state of groups.
func verdictOf(groups []status.Group) error {
	if code := worstCode(groups); code != exitInStep {
		return exit(code, nil)
	}
	return nil
}

// worstCode is the exit code for the worst state of all members. Of a member without tables, and of no group, nothing can be said.
func worstCode(groups []status.Group) int {
	code := exitInStep
	if len(groups) == 0 {
		code = exitUnknown
	}
	for _, g := range groups {
		g.Complete()
		switch g.State {
		case status.InStep, status.Lagging, status.Expected:
		case status.Diverged, status.Stale:
			return exitDiverged
		default:
			code = exitUnknown
		}
	}
	return code
}
