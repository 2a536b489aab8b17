package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lockstep/align"
)

func newDivergencesCommand() *cobra.Command {
	var api *apiFlags
	var output *format
	var state, group, table, member string
	c := &cobra.Command{
		Use:   "divergences",
		Short: "List what a running lockstep has found to differ",
		Long: `List what a running lockstep has found to differ, newest first.

Exits 1 if an open divergence is listed, 3 if none is but lockstep cannot say that there is none
(lockstep status tells why), 4 if no lockstep answers, else 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, value := range map[string]string{"state": state, "group": group, "table": table, "member": member} {
				if value != "" {
					query.Set(name, value)
				}
			}
			var raw []json.RawMessage
			if err := api.get(cmd.Context(), "api/v1/divergences", query, &raw); err != nil {
				return err
			}
			list, err := parseDivergences(raw)
			if err != nil {
				return undeterminedError(err)
			}
			if output.value == "json" {
				for _, r := range raw {
					if err := printJSON(cmd.OutOrStdout(), r); err != nil {
						return err
					}
				}
			} else if err := printDivergences(cmd, list); err != nil {
				return err
			}
			for _, d := range list {
				if d.State == align.Open {
					return exit(exitDiverged, nil)
				}
			}
			var groups []statusGroup
			if err := api.get(cmd.Context(), "api/v1/groups", nil, &groups); err != nil {
				return err
			}
			if worstCode(groups) == exitUnknown {
				return undeterminedError(errors.New("not everything can be compared now, so there may be more: see lockstep status"))
			}
			return nil
		},
	}
	api = addAPIFlags(c)
	output = formatFlag(c, "table", "json")
	c.Flags().StringVar(&state, "state", align.Open, "open, resolved, or empty for both")
	c.Flags().StringVar(&group, "group", "", "of this `GROUP` only")
	c.Flags().StringVar(&table, "table", "", "of this `TABLE` only, such as public.orders")
	c.Flags().StringVar(&member, "member", "", "of this `MEMBER` only")
	return c
}

func parseDivergences(raw []json.RawMessage) ([]align.Divergence, error) {
	list := make([]align.Divergence, len(raw))
	for i, r := range raw {
		if err := json.Unmarshal(r, &list[i]); err != nil {
			return nil, fmt.Errorf("parse divergence: %w", err)
		}
	}
	return list, nil
}

func printDivergences(cmd *cobra.Command, list []align.Divergence) error {
	if len(list) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "No divergences found.")
		return nil
	}
	var rows [][]string
	for _, d := range list {
		by := "-"
		if d.IntroducedBy != nil {
			by = d.IntroducedBy.Transaction
		}
		rows = append(rows, []string{
			d.ID, d.State, d.Member, d.Table, string(d.Kind), string(d.Cause), fmt.Sprint(d.Keys), by,
			time.Since(d.FirstSeen).Round(time.Second).String(), rangesText(d),
		})
	}
	header := []string{"ID", "STATE", "MEMBER", "TABLE", "KIND", "CAUSE", "KEYS", "TRANSACTION", "AGE", "RANGES"}
	return printTable(cmd.OutOrStdout(), header, rows, nil)
}

// rangesText shows the first ranges of a divergence.
func rangesText(d align.Divergence) string {
	var parts []string
	for i, r := range d.Ranges {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("+%d more", len(d.Ranges)-i))
			break
		}
		text := string(r.First)
		if string(r.Last) != text {
			text += ".." + string(r.Last)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}
