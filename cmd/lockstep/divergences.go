package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/finding"
)

func newDivergencesCommand() *cobra.Command {
	var api *apiFlags
	var output *format
	var state, group, table, member string
	var limit int
	c := &cobra.Command{
		Use:   "divergences [ID]",
		Short: "List what a running lockstep has found to differ",
		Long: `List what a running lockstep has found to differ, newest first, or show all that is known of one. An ID may be cut, as long
as no other one begins so. AGE is how long rows have differed, or did until RESOLVED, which is shown if something listed is.

Exits 1 if an open divergence is listed that was not expected, 3 if none is but lockstep cannot say that there is none
(lockstep status tells why), 4 if no lockstep answers, else 0.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return showDivergence(cmd, api, output, args[0])
			}
			query := url.Values{"limit": {fmt.Sprint(limit + 1)}} // one more tells whether there are more
			for name, value := range map[string]string{"state": state, "group": group, "table": table, "member": member} {
				if value != "" && (name != "state" || value != everyState) {
					query.Set(name, value)
				}
			}
			var raw []json.RawMessage
			if err := api.get(cmd.Context(), "api/v1/divergences", query, &raw); err != nil {
				return err
			}
			cut := len(raw) > limit
			if cut {
				raw = raw[:limit]
				fmt.Fprintf(cmd.ErrOrStderr(), "More than %d were found: raise --limit, or name a group, member or table.\n", limit)
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
				if broken(&d) {
					return exit(exitDiverged, nil)
				}
			}
			if cut && (state == everyState || state == finding.Open) {
				return undeterminedError(errors.New("none that is listed is open and was not expected, but one that is left out may be: raise --limit"))
			}
			groups, err := askGroups(cmd.Context(), api)
			if err != nil {
				return err
			}
			// What is not watched any more can be asked for too: then nothing is left, of which nothing can be said.
			about := selection{group, given(member), given(table)}
			if worstCode(about.of(groups)) == exitUnknown {
				return undeterminedError(errors.New("not everything can be compared now, so there may be more: see lockstep status"))
			}
			return nil
		},
	}
	api = addAPIFlags(c)
	output = formatFlag(c, "table", "json")
	c.Flags().StringVar(&state, "state", finding.Open, "open, resolved, of those healed, superseded or forgotten; or all")
	c.Flags().StringVar(&group, "group", "", "of this `GROUP` only")
	c.Flags().StringVar(&table, "table", "", "of this `TABLE` only, such as public.orders")
	c.Flags().StringVar(&member, "member", "", "of this `MEMBER` only")
	numberFlag(c, &limit, 1, "limit", 1000, "list no more than `N`")
	return c
}

// everyState is what --state says for divergences that are open or not.
const everyState = "all"

// showDivergence shows one divergence, all ranges included, and exits by its state.
func showDivergence(cmd *cobra.Command, api *apiFlags, output *format, id string) error {
	var raw json.RawMessage
	if err := api.get(cmd.Context(), "api/v1/divergences/"+url.PathEscape(id), nil, &raw); err != nil {
		return err
	}
	list, err := parseDivergences([]json.RawMessage{raw})
	if err != nil {
		return undeterminedError(err)
	}
	if output.value == "json" {
		err = printJSON(cmd.OutOrStdout(), raw)
	} else {
		err = describeDivergence(cmd.OutOrStdout(), list[0])
	}
	if err == nil && broken(&list[0]) {
		err = exit(exitDiverged, nil)
	}
	return err
}

func describeDivergence(out io.Writer, d finding.Divergence) error {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	rows := [][]string{
		{"Group", d.Group}, {"Table", d.Table}, {"Member", d.Member + ", held against " + d.Reference}, {"State", stateText(d)},
		{"Kind", string(d.Kind)}, {"Cause", string(d.Cause)}, {"Detail", d.Detail}, {"Keys", fmt.Sprint(d.Keys)},
	}
	if by := d.IntroducedBy; by != nil {
		rows = append(rows, []string{"Transaction", by.Transaction + ", committed " + at(by.CommittedAt)})
		if look := d.Look(); look != "" {
			rows = append(rows, []string{"To see it", look})
		}
	}
	for _, member := range slices.Sorted(maps.Keys(d.Positions)) {
		rows = append(rows, []string{"Position", member + " " + d.Positions[member]})
	}
	rows = append(rows, []string{"First seen", at(d.FirstSeen)}, []string{"Raised", at(d.ConfirmedAt)})
	if d.ResolvedAt != nil {
		rows = append(rows, []string{"Resolved", strings.TrimSpace(at(*d.ResolvedAt) + " " + string(d.Outcome))})
	}
	if a := d.Acknowledged; a != nil {
		rows = append(rows, []string{"Acknowledged", strings.TrimSpace(strings.Join([]string{at(a.At), "by", a.By, a.Ticket, a.Note}, " "))})
	}
	for _, r := range d.Ranges {
		rows = append(rows, []string{"Range", rangeText(r)})
	}
	if d.Truncated {
		rows = append(rows, []string{"Range", "and more"})
	}
	return printTable(out, []string{"ID", d.ID}, rows, nil)
}

func parseDivergences(raw []json.RawMessage) ([]finding.Divergence, error) {
	list := make([]finding.Divergence, len(raw))
	for i, r := range raw {
		if err := json.Unmarshal(r, &list[i]); err != nil {
			return nil, fmt.Errorf("parse divergence: %w", err)
		}
	}
	return list, nil
}

func printDivergences(cmd *cobra.Command, list []finding.Divergence) error {
	if len(list) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "No divergences found.")
		return nil
	}
	header := []string{"ID", "STATE", "MEMBER", "TABLE", "KIND", "CAUSE", "KEYS", "TRANSACTION", "AGE", "RESOLVED", "RANGES"}
	var rows [][]string
	ended := false
	for _, d := range list {
		by, age, at := "-", time.Since(d.FirstSeen), "-"
		if d.IntroducedBy != nil {
			by = d.IntroducedBy.Transaction
		}
		if d.ResolvedAt != nil {
			age, at, ended = d.ResolvedAt.Sub(d.FirstSeen), d.ResolvedAt.UTC().Format(time.RFC3339), true
		}
		rows = append(rows, []string{
			d.ID, stateText(d), d.Member, d.Table, string(d.Kind), causeText(d), fmt.Sprint(d.Keys), by,
			age.Round(time.Second).String(), at, rangesText(d),
		})
	}
	if !ended {
		without := func(row []string) []string { return slices.Delete(row, endColumn, endColumn+1) }
		header = without(header)
		for i := range rows {
			rows[i] = without(rows[i])
		}
	}
	return printTable(cmd.OutOrStdout(), header, rows, nil)
}

// endColumn is that of RESOLVED, which is there if something is.
const endColumn = 9

// broken reports whether a divergence is one that somebody is to do something about.
func broken(d *finding.Divergence) bool { return d.State == finding.Open && !d.Expected }

func stateText(d finding.Divergence) string {
	switch {
	case d.Outcome != "" && d.Outcome != finding.Healed: // of which it is not known that its rows are the same
		return fmt.Sprintf("%s (%s)", d.State, d.Outcome)
	case d.Expected:
		return d.State + " (expected)"
	}
	if d.Acknowledged != nil && d.State == finding.Open {
		return d.State + " (acknowledged)"
	}
	return d.State
}

// causeText is the cause; of what has not arrived, for which there is no word, what is known to hold it up.
func causeText(d finding.Divergence) string {
	if d.Kind == finding.Stale && d.Cause == finding.CauseUnknown && d.Detail != "" {
		return d.Detail
	}
	return string(d.Cause)
}

// rangesText shows the first ranges of a divergence.
func rangesText(d finding.Divergence) string {
	var parts []string
	for i, r := range d.Ranges {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("+%d more", len(d.Ranges)-i))
			break
		}
		parts = append(parts, bounds(r))
	}
	return strings.Join(parts, " ")
}

// given is a list of the value of a flag, if it has one.
func given(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}
