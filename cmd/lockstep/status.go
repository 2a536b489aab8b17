package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/align"
)

// statusGroup is what the command needs of a group in /api/v1/groups.
type statusGroup struct {
	Name    string
	Members []struct {
		Name, Role, Position, Trouble string
		LagSeconds                    float64 `json:"lag_seconds"`
		Tables                        []struct {
			Table         string
			State         align.Verdict
			Reason        string
			Rows          int64
			DivergentKeys int64 `json:"divergent_keys"`
		}
	}
}

func newStatusCommand() *cobra.Command {
	var api *apiFlags
	var output *format
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the state of every table on every member, as a running lockstep knows it",
		Long: `Show the state of every table on every member, as a running lockstep knows it.

Exits 0 if all are in step or lag within their budget, 1 if one has diverged or is stale,
3 if of one nothing can be said, 4 if no lockstep answers.`,
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
				err = printStatus(cmd, groups)
			}
			if code := worstCode(groups); err == nil && code != exitInStep {
				err = exit(code, nil)
			}
			return err
		},
	}
	api = addAPIFlags(c)
	output = formatFlag(c, "table", "json")
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

func printStatus(cmd *cobra.Command, groups []statusGroup) error {
	var rows [][]string
	for _, g := range groups {
		for _, m := range g.Members {
			for _, t := range m.Tables {
				note := t.Reason
				if note == "" {
					note = m.Trouble
				}
				rows = append(rows, []string{
					g.Name, m.Name, m.Role, t.Table, string(t.State), fmt.Sprint(t.Rows), fmt.Sprint(t.DivergentKeys),
					fmt.Sprintf("%.1fs", m.LagSeconds), shortPosition(m.Position), note,
				})
			}
		}
	}
	header := []string{"GROUP", "MEMBER", "ROLE", "TABLE", "STATE", "ROWS", "DIVERGENT", "LAG", "POSITION", "NOTE"}
	out := cmd.OutOrStdout()
	return printTable(out, header, rows, func(column int, cell, padded string) string {
		if column != 4 || !colourful(out) {
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
