package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/status"
)

func newStatusCommand() *cobra.Command {
	var api *apiFlags
	var output *format
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the state of every table on every member, as a running lockstep knows it",
		Long: `Show the state of every table on every member, as a running lockstep knows it.

Exits 0 if all are in step, lag within their budget or differ as expected_writes tells, 1 if one has diverged or is stale,
3 if of one nothing can be said, 4 if no lockstep answers.

VERIFIED is how long ago those rows were read from the server that were read longest ago; what changed since
then came through the log. With -o wide also: the whole POSITION, FRESH (the share of the rows that were read
within scrub.every), SILENT (rows that were found to have changed without a trace in the log) and AGE (how old
all of this is: lockstep looks anew twice a second; what is older than 5 seconds is unverified).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var raw []json.RawMessage
			if err := api.get(cmd.Context(), "api/v1/groups", nil, &raw); err != nil {
				return err
			}
			groups := make([]status.Group, len(raw))
			for i, r := range raw {
				if err := json.Unmarshal(r, &groups[i]); err != nil {
					return undeterminedError(fmt.Errorf("parse group: %w", err))
				}
			}
			var err error
			if output.value == "json" {
				for _, r := range raw {
					if err == nil {
						err = printJSON(cmd.OutOrStdout(), r)
					}
				}
			} else {
				err = printStatus(cmd, groups, output.value == "wide")
			}
			if code := worstCode(groups); err == nil && code != exitInStep {
				err = exit(code, nil)
			}
			return err
		},
	}
	api = addAPIFlags(c)
	output = formatFlag(c, "table", "wide", "json")
	return c
}

// shortPosition leaves of a GTID set what fits a column: the first characters of a UUID tell servers apart, and of many
// sources the first stands for all. The whole set is in -o json.
func shortPosition(set string) string {
	entries := strings.Split(set, ",")
	if uuid, numbers, ok := strings.Cut(entries[0], ":"); ok && len(uuid) == 36 {
		entries[0] = uuid[:8] + "…:" + numbers
	}
	if more := len(entries) - 1; more > 0 {
		return fmt.Sprintf("%s +%d", entries[0], more)
	}
	return entries[0]
}

// statusColumn is a column of what status prints.
type statusColumn struct {
	header string
	cell   func(status.Group, status.Member, status.Table) string
}

var statusColumns = []statusColumn{
	{"GROUP", func(g status.Group, _ status.Member, _ status.Table) string { return g.Name }},
	{"MEMBER", func(_ status.Group, m status.Member, _ status.Table) string { return m.Name }},
	{"ROLE", func(_ status.Group, m status.Member, _ status.Table) string { return m.Role }},
	{"TABLE", func(_ status.Group, _ status.Member, t status.Table) string { return t.Table }},
	{stateHeader, func(_ status.Group, _ status.Member, t status.Table) string { return string(t.Verdict) }},
	{"ROWS", func(_ status.Group, _ status.Member, t status.Table) string { return fmt.Sprint(t.Rows) }},
	{"DIVERGENT", func(_ status.Group, _ status.Member, t status.Table) string { return fmt.Sprint(t.DivergentKeys) }},
	{"LAG", func(_ status.Group, m status.Member, _ status.Table) string {
		return fmt.Sprintf("%.1fs", m.Behind.Seconds())
	}},
	{"VERIFIED", func(g status.Group, _ status.Member, t status.Table) string { return age(g.At, t.VerifiedAt) }},
	{"POSITION", func(_ status.Group, m status.Member, _ status.Table) string { return shortPosition(m.Position) }},
	{"NOTE", func(_ status.Group, m status.Member, t status.Table) string { return cmp.Or(t.Reason, m.Trouble) }},
}

const stateHeader = "STATE"

// wideColumns are those of -o wide: the position stands whole.
var wideColumns = slices.Concat(statusColumns[:9], []statusColumn{
	{"FRESH", func(_ status.Group, _ status.Member, t status.Table) string {
		return fmt.Sprintf("%.0f%%", 100*t.Fresh)
	}},
	{"SILENT", func(_ status.Group, _ status.Member, t status.Table) string { return fmt.Sprint(t.Silent) }},
	{"POSITION", func(_ status.Group, m status.Member, _ status.Table) string { return m.Position }},
	{"AGE", func(g status.Group, _ status.Member, _ status.Table) string {
		return fmt.Sprintf("%.1fs", g.Age.Seconds())
	}},
	statusColumns[10],
})

// age is how long ago something was, in the largest unit that says enough.
func age(now time.Time, at status.Time) string {
	if at.IsZero() {
		return "never"
	}
	d := max(now.Sub(at.Time), 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func printStatus(cmd *cobra.Command, groups []status.Group, wide bool) error {
	columns := statusColumns
	if wide {
		columns = wideColumns
	}
	var header []string
	for _, c := range columns {
		header = append(header, c.header)
	}
	var rows [][]string
	for _, g := range groups {
		for _, m := range g.Members {
			for _, t := range m.Tables {
				var row []string
				for _, c := range columns {
					row = append(row, c.cell(g, m, t))
				}
				rows = append(rows, row)
			}
		}
	}
	out := cmd.OutOrStdout()
	return printTable(out, header, rows, func(column int, cell, padded string) string {
		if header[column] != stateHeader || !colourful(out) {
			return padded
		}
		switch status.Verdict(cell) {
		case status.InStep, status.Lagging:
			return coloured(green, padded)
		case status.Unverified, status.Expected:
			return coloured(yellow, padded)
		}
		return coloured(red, padded)
	})
}

// worstCode is the exit code for the worst state of all tables. A group without tables says nothing.
func worstCode(groups []status.Group) int {
	code, tables := exitInStep, 0
	for _, g := range groups {
		for _, m := range g.Members {
			for _, t := range m.Tables {
				tables++
				switch t.Verdict {
				case status.InStep, status.Lagging, status.Expected:
				case status.Unverified:
					if code == exitInStep {
						code = exitUnknown
					}
				default:
					code = exitDiverged
				}
			}
		}
	}
	if tables == 0 {
		return exitUnknown
	}
	return code
}
