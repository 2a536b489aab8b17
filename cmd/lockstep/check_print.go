package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// print shows the lines of one group.
func (o checkOptions) print(w io.Writer, g config.Group, lines []checkLine) error {
	if o.output.value == "json" {
		for _, l := range lines {
			if err := printJSON(w, l); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for _, l := range lines {
		rows = append(rows, []string{l.owner(), l.Subject, l.StateName, l.Detail})
	}
	if err := printTable(w, []string{"MEMBER", "CHECK", "STATE", "DETAIL"}, rows, statePaint(w)); err != nil {
		return err
	}
	return o.printMending(w, g, lines)
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

// printMending says, below the table, what to run and what to do by hand.
func (o checkOptions) printMending(w io.Writer, g config.Group, lines []checkLine) error {
	advice := o.scripts(g, lines)
	for _, l := range lines {
		if l.State != preflight.OK && l.Hint != "" {
			advice = append(advice, fmt.Sprintf("%s: %s: %s", l.owner(), l.Subject, l.Hint))
		}
	}
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

// owner is the member, or in parentheses the group, that a line is about.
func (l checkLine) owner() string {
	if l.Member == "" {
		return "(" + l.Group + ")"
	}
	return l.Member
}
