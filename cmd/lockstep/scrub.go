package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"lockstep/align"
)

func newScrubCommand() *cobra.Command {
	var api *apiFlags
	var group string
	var members []string
	var wait bool
	c := &cobra.Command{
		Use:   "scrub [TABLE...]",
		Short: "Have a running lockstep read rows again and hold them against what it keeps",
		Long: `Have a running lockstep read all rows of the tables again, now, and hold them against what
the change streams say they must be. That finds what no stream shows: rows changed with
sql_log_bin=0, a restored data directory, a damaged page. Rows are read in parts, at the pace
that scrub.max_rows_per_second allows, and without locks.

Waits for the end and then exits as lockstep status does: 0 in step, 1 diverged, 3 cannot say.`,
		Example: `  lockstep scrub                                 # all tables on all members
  lockstep scrub public.orders --member us-1`,
		RunE: func(cmd *cobra.Command, tables []string) error {
			var request align.ScrubRequest
			body := map[string]any{"group": group, "tables": tables, "members": members}
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
			var groups []statusGroup
			if err := api.get(cmd.Context(), "api/v1/groups", nil, &groups); err != nil {
				return err
			}
			if code := worstCode(groups); code != exitInStep {
				return exit(code, nil)
			}
			return nil
		},
	}
	api = addAPIFlags(c)
	c.Flags().StringVar(&group, "group", "", "of this `GROUP`; may be left out if there is only one")
	c.Flags().StringSliceVar(&members, "member", nil, "on this `MEMBER` only; may be given several times")
	c.Flags().BoolVar(&wait, "wait", true, "wait for the end")
	return c
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
