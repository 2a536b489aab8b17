package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/align"
)

// statusGroup is what the command needs of a group in /api/v1/groups.
type statusGroup struct {
	Name    string
	At      time.Time
	Members []statusMember
}

type statusMember struct {
	Name, Role, Position, Trouble string
	LagSeconds                    float64 `json:"lag_seconds"`
	Tables                        []statusTable
}

type statusTable struct {
	Table         string
	State         align.Verdict
	Reason        string
	Rows          int64
	DivergentKeys int64      `json:"divergent_keys"`
	VerifiedAt    *time.Time `json:"verified_at"`
	Fresh         float64
	Silent        int64 `json:"silent_changes"`
}

func newStatusCommand() *cobra.Command {
	var api *apiFlags
	var output *format
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the state of every table on every member, as a running lockstep knows it",
		Long: `Show the state of every table on every member, as a running lockstep knows it.

Exits 0 if all are in step or lag within their budget, 1 if one has diverged or is stale,
3 if of one nothing can be said, 4 if no lockstep answers.

VERIFIED is how long ago those rows were read from the server that were read longest ago; what changed since
then came through the log. With -o wide also: the whole POSITION, FRESH (the share of the rows that were read
within scrub.every) and SILENT (rows that were found to have changed without a trace in the log).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var raw []json.RawMessage
			if err := api.get(cmd.Context(), "api/v1/groups", nil, &raw); err != nil {
				return err
			}
			groups := make([]statusGroup, len(raw))
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
	cell   func(statusGroup, statusMember, statusTable) string
}

var statusColumns = []statusColumn{
	{"GROUP", func(g statusGroup, _ statusMember, _ statusTable) string { return g.Name }},
	{"MEMBER", func(_ statusGroup, m statusMember, _ statusTable) string { return m.Name }},
	{"ROLE", func(_ statusGroup, m statusMember, _ statusTable) string { return m.Role }},
	{"TABLE", func(_ statusGroup, _ statusMember, t statusTable) string { return t.Table }},
	{stateHeader, func(_ statusGroup, _ statusMember, t statusTable) string { return string(t.State) }},
	{"ROWS", func(_ statusGroup, _ statusMember, t statusTable) string { return fmt.Sprint(t.Rows) }},
	{"DIVERGENT", func(_ statusGroup, _ statusMember, t statusTable) string { return fmt.Sprint(t.DivergentKeys) }},
	{"LAG", func(_ statusGroup, m statusMember, _ statusTable) string { return fmt.Sprintf("%.1fs", m.LagSeconds) }},
	{"VERIFIED", func(g statusGroup, _ statusMember, t statusTable) string { return age(g.At, t.VerifiedAt) }},
	{"POSITION", func(_ statusGroup, m statusMember, _ statusTable) string { return shortPosition(m.Position) }},
	{"NOTE", func(_ statusGroup, m statusMember, t statusTable) string { return cmp.Or(t.Reason, m.Trouble) }},
}

const stateHeader = "STATE"

// wideColumns are those of -o wide: the position stands whole.
var wideColumns = slices.Concat(statusColumns[:9], []statusColumn{
	{"FRESH", func(_ statusGroup, _ statusMember, t statusTable) string { return fmt.Sprintf("%.0f%%", 100*t.Fresh) }},
	{"SILENT", func(_ statusGroup, _ statusMember, t statusTable) string { return fmt.Sprint(t.Silent) }},
	{"POSITION", func(_ statusGroup, m statusMember, _ statusTable) string { return m.Position }},
	statusColumns[10],
})

// age is how long ago something was, in the largest unit that says enough.
func age(now time.Time, at *time.Time) string {
	if at == nil {
		return "never"
	}
	d := max(now.Sub(*at), 0)
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

func printStatus(cmd *cobra.Command, groups []statusGroup, wide bool) error {
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
		switch align.Verdict(cell) {
		case align.InStep, align.Lagging:
			return coloured(green, padded)
		case align.Unverified:
			return coloured(yellow, padded)
		}
		return coloured(red, padded)
	})
}

// worstCode is the exit code for the worst state of all tables. A group without tables says nothing.
func worstCode(groups []statusGroup) int {
	code, tables := exitInStep, 0
	for _, g := range groups {
		for _, m := range g.Members {
			for _, t := range m.Tables {
				tables++
				switch t.State {
				case align.InStep, align.Lagging:
				case align.Unverified:
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
