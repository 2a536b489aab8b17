package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/lockstep-cdc/lockstep/align"
)

func newScrubCommand() *cobra.Command {
	var api *apiFlags
	var group string
	var members []string
	var wait bool
	c := &cobra.Command{
		Use:   "scrub [TABLE[:FIRST..LAST]...]",
		Short: "Have a running lockstep read rows again and hold them against what it keeps",
		Long: `Have a running lockstep read all rows of the tables again, now, and hold them against what
the change streams say they must be. That finds what no stream shows: rows changed with
sql_log_bin=0, a restored data directory, a damaged page. Rows are read in parts, at the pace
that scrub.max_rows_per_second allows, and without locks.

Of a single table the rows may be bounded by their keys, as lockstep divergences prints them; either may be
left out. A key of one column may be written as its value. What is read is a little more: it begins and ends
where a range does. Where rows cannot be read in the order of their keys, the table is read whole.

Waits for the end and then exits as lockstep status does: 0 in step, 1 diverged, 3 cannot say.`,
		Example: `  lockstep scrub                                 # all tables on all members
  lockstep scrub public.orders --member us-1
  lockstep scrub public.orders:1000..2000
  lockstep scrub 'public.lines:{"order":7,"line":1}..{"order":7,"line":99}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := scrubOf(args)
			if err != nil {
				return err
			}
			body["group"], body["members"] = group, members
			var request align.ScrubRequest
			if err := api.send(cmd.Context(), http.MethodPost, "api/v1/scrubs", body, &request); err != nil {
				return err
			}
			if !wait {
				fmt.Fprintf(cmd.OutOrStdout(), "Scrub %s of group %s was asked for.\n", request.ID, request.Group)
				return nil
			}
			if err := followScrub(cmd, api, request); err != nil {
				return err
			}
			groups, err := selection{group: request.Group, members: members}.ask(cmd.Context(), api)
			if err != nil {
				return err
			}
			return verdictOf(groups)
		},
	}
	api = addAPIFlags(c)
	c.Flags().StringVar(&group, "group", "", "of this `GROUP`; may be left out if there is only one")
	c.Flags().StringSliceVar(&members, "member", nil, "on this `MEMBER` only; may be given several times")
	c.Flags().BoolVar(&wait, "wait", true, "wait for the end")
	return c
}

// scrubOf returns what a request says of the tables that are named, with the keys that bound the rows of one.
func scrubOf(args []string) (map[string]any, error) {
	var tables []string
	body := make(map[string]any)
	for _, arg := range args {
		table, bounds, bounded := strings.Cut(arg, ":")
		tables = append(tables, table)
		if !bounded {
			continue
		}
		if len(args) > 1 {
			return nil, usageError(fmt.Errorf("%s: rows can be bounded if a single table is named; run lockstep scrub once for each", arg))
		}
		first, last, ok := cutBounds(bounds)
		if !ok || first == "" && last == "" {
			return nil, usageError(fmt.Errorf("%s: bounds of rows are FIRST..LAST, of which one may be left out: %s:1000..2000", arg, table))
		}
		for name, key := range map[string]string{"first_key": first, "last_key": last} {
			if json.Valid([]byte(key)) {
				body[name] = json.RawMessage(key)
			} else if key != "" {
				body[name] = key
			}
		}
	}
	body["tables"] = tables
	return body, nil
}

// cutBounds cuts FIRST..LAST. Dots that are part of a key in JSON do not count.
func cutBounds(s string) (first, last string, ok bool) {
	if first, last, ok = strings.Cut(s, ".."); !strings.HasPrefix(s, "{") {
		return first, last, ok
	}
	object := json.NewDecoder(strings.NewReader(s))
	var key json.RawMessage
	if object.Decode(&key) != nil {
		return "", "", false
	}
	last, ok = strings.CutPrefix(s[object.InputOffset():], "..")
	return string(key), last, ok
}

// scrubAsk is how often a scrub's progress is asked for.
const scrubAsk = 500 * time.Millisecond

// followScrub shows how far a scrub is until it has ended.
func followScrub(cmd *cobra.Command, api *apiFlags, request align.ScrubRequest) error {
	progress := mpb.NewWithContext(cmd.Context(), mpb.WithOutput(io.Discard), mpb.WithWidth(40))
	hints := cmd.ErrOrStderr()
	if isTerminal(hints) {
		progress = mpb.NewWithContext(cmd.Context(), mpb.WithOutput(hints), mpb.WithWidth(40))
		hints = progress // above the bar
	}
	defer progress.Shutdown()
	said := make(map[string]string)
	drawn := progress.AddBar(1000, mpb.PrependDecorators(decor.Name("reading rows again ")), mpb.AppendDecorators(decor.Percentage()))
	for {
		now, err := findScrub(cmd.Context(), api, request.ID)
		if err != nil {
			return err
		}
		drawn.SetCurrent(int64(1000 * now.Done))
		if now.Finished != nil {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "All rows were read again in %s.\n", now.Finished.Sub(now.Requested).Round(100*time.Millisecond))
			return err
		}
		sayWaits(hints, said, now.Waits)
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(scrubAsk):
		}
	}
}

// sayWaits says what keeps the scrub from going on, if that was not the last that was said of the member.
func sayWaits(out io.Writer, said, waits map[string]string) {
	for _, member := range slices.Sorted(maps.Keys(waits)) {
		if said[member] != waits[member] {
			said[member] = waits[member]
			fmt.Fprintf(out, "%s waits: %s\n", member, waits[member])
		}
	}
}

func findScrub(ctx context.Context, api *apiFlags, id string) (align.ScrubRequest, error) {
	var list []align.ScrubRequest
	if err := api.get(ctx, "api/v1/scrubs", nil, &list); err != nil {
		return align.ScrubRequest{}, err
	}
	for _, r := range list {
		if r.ID == id {
			return r, nil
		}
	}
	return align.ScrubRequest{}, undeterminedError(errors.New("lockstep does not know of the scrub any more: was it restarted?"))
}
