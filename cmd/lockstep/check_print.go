package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// print shows the lines of one group.
func (o checkOptions) print(w io.Writer, g config.Group, lines []checkLine) error {
	if len(lines) == 0 {
		return nil
	}
	if o.output.value == "json" {
		for _, l := range lines {
			if err := printJSON(w, l); err != nil {
				return err
			}
		}
		return nil
	}
	if err := printLines(w, lines); err != nil {
		return err
	}
	return printAdvice(w, append(o.scripts(g, lines), hints(lines)...))
}

func printLines(w io.Writer, lines []checkLine) error {
	var rows [][]string
	for _, l := range lines {
		rows = append(rows, []string{l.owner(), l.Subject, l.StateName, l.Detail})
	}
	return printTable(w, []string{"MEMBER", "CHECK", "STATE", "DETAIL"}, rows, statePaint(w))
}

// printMissing shows what is not well, what to do by hand, and the SQL for each member that SQL can mend.
func printMissing(w io.Writer, lines []checkLine, reports []*preflight.Report) error {
	lines = slices.DeleteFunc(slices.Clone(lines), func(l checkLine) bool { return l.StateName == preflight.OK.String() })
	if err := printLines(w, lines); err != nil {
		return err
	}
	if err := printAdvice(w, hints(lines)); err != nil {
		return err
	}
	for _, r := range reports {
		if !slices.ContainsFunc(lines, func(l checkLine) bool { return l.Member == r.Member && l.SQL != "" }) {
			continue
		}
		if _, err := io.WriteString(w, "\n"+r.SQL()); err != nil {
			return err
		}
	}
	return nil
}

// statePaint colours the third column.
func statePaint(w io.Writer) func(int, string, string) string {
	if !colourful(w) {
		return nil
	}
	colours := map[string]string{"ok": green, "warn": yellow, "fail": red, unreachable: red}
	return func(column int, cell, padded string) string {
		if column != 2 {
			return padded
		}
		return coloured(colours[cell], padded)
	}
}

// hints say what to do by hand, once for all whom it is about.
func hints(lines []checkLine) (advice []string) {
	owners := make(map[string][]string)
	var order []string
	for _, l := range lines {
		if l.State == preflight.OK || l.Hint == "" {
			continue
		}
		what := l.Subject + ": " + l.Hint
		if owners[what] == nil {
			order = append(order, what)
		}
		if !slices.Contains(owners[what], l.owner()) {
			owners[what] = append(owners[what], l.owner())
		}
	}
	for _, what := range order {
		advice = append(advice, strings.Join(owners[what], ", ")+": "+what)
	}
	return advice
}

func printAdvice(w io.Writer, advice []string) error {
	if len(advice) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString("\nTo mend:\n")
	for _, a := range advice {
		b.WriteString("  " + printable(a) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// scripts names the command that prints the SQL, for each member that SQL can mend.
func (o checkOptions) scripts(g config.Group, lines []checkLine) []string {
	var commands []string
	for _, m := range g.Members {
		statements, client, restart := 0, "", ""
		for _, l := range lines {
			if l.Member != m.Name || l.State == preflight.OK || l.SQL == "" {
				continue
			}
			statements, client = statements+1, l.client
			if l.Restart {
				restart = ", then restart the server"
			}
		}
		if statements > 0 {
			commands = append(commands, fmt.Sprintf("%s: lockstep check -c %s --group %s --member %s -o sql | %s%s",
				m.Name, o.path, g.Name, m.Name, client, restart))
		}
	}
	return commands
}

// owner is the member, or in parentheses the group, or lockstep itself, that a line is about.
func (l checkLine) owner() string {
	return cmp.Or(l.Member, "("+cmp.Or(l.Group, "lockstep")+")")
}
