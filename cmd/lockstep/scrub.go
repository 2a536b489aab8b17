package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
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
	var patience time.Duration
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

Waits for the end, and says meanwhile how far it is, and what it waits for: a member that does not answer, a load, a window.
lockstep goes on with it if you stop waiting. At the end exits as lockstep status does: 0 in step, 1 diverged, 3 cannot say,
which it is too if it was not waited for the end.`,
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
			following, stop := cmd.Context(), func() {}
			if patience > 0 {
				following, stop = context.WithTimeoutCause(cmd.Context(), patience, errPatience)
			}
			defer stop()
			if err := followScrub(following, cmd.OutOrStdout(), cmd.ErrOrStderr(), api, request); err != nil {
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
	listFlag(c, &members, "member", "on this `MEMBER` only; may be given several times")
	c.Flags().BoolVar(&wait, "wait", true, "wait for the end")
	durationFlag(c, &patience, someTime, "timeout", 0, "how long to wait for the end (default: for as long as it takes)")
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

// followScrub shows how far a scrub is, and what it waits for, until it has ended or ctx ends.
func followScrub(ctx context.Context, stdout, stderr io.Writer, api *apiFlags, request align.ScrubRequest) error {
	bars, hints := mpb.NewWithContext(ctx, mpb.WithOutput(io.Discard)), stderr
	if isTerminal(stderr) {
		bars = mpb.NewWithContext(ctx, mpb.WithOutput(stderr), mpb.WithWidth(40))
		hints = bars // above the bar
	}
	defer bars.Shutdown()
	drawn := bars.AddBar(1000, mpb.PrependDecorators(decor.Name("reading rows again ")), mpb.AppendDecorators(decor.Percentage()))
	told := &scrubTeller{drawn: isTerminal(stderr)}
	now, asked := request, time.NewTicker(scrubAsk)
	defer asked.Stop()
	for {
		drawn.SetCurrent(int64(1000 * now.Done))
		if now.Finished != nil {
			_, err := fmt.Fprintf(stdout, "All rows were read again in %s.\n", now.Finished.Sub(now.Requested).Round(100*time.Millisecond))
			return err
		}
		for _, line := range told.tell(time.Now(), now) {
			fmt.Fprintln(hints, printable(line))
		}
		select {
		case <-ctx.Done():
			return leftScrub(context.Cause(ctx), now)
		case <-asked.C:
		}
		next, err := findScrub(ctx, api, request.ID)
		switch {
		case ctx.Err() != nil: // which is said above
		case err != nil:
			return err
		default:
			now = next
		}
	}
}

// errPatience ends the wait for a scrub.
var errPatience = errors.New("the scrub has not ended within --timeout")

// leftScrub says what goes on when nobody waits for a scrub any more.
func leftScrub(why error, r align.ScrubRequest) error {
	text := "stopped waiting"
	if errors.Is(why, errPatience) {
		text = why.Error()
	}
	text += fmt.Sprintf(": %s of the rows were read again", share(r.Done))
	for _, member := range slices.Sorted(maps.Keys(r.Waits)) {
		text += fmt.Sprintf("; %s waits: %s", member, r.Waits[member])
	}
	return undeterminedError(fmt.Errorf("%s\nlockstep goes on with scrub %s until it ends or lockstep does; VERIFIED in lockstep status says how far it is", text, r.ID))
}

// share is for people. What is not whole never looks so.
func share(done float64) string { return fmt.Sprintf("%.0f %%", math.Floor(100*done)) }

// scrubTeller says what there is to say of a scrub, a line each.
type scrubTeller struct {
	drawn bool // a bar shows how far it is
	waits map[string]string
	done  float64
	moved time.Time // when done last grew
	said  time.Time // when how far it is was last said
	stuck time.Time // when it was last said that it stands still
}

const (
	// scrubSay is how often it is said how far a scrub is, where no bar shows it.
	scrubSay = 10 * time.Second
	// scrubStill is how long nothing may be read until that is said, and scrubStillAgain how often it is said again.
	scrubStill, scrubStillAgain = 10 * time.Second, 5 * time.Minute
)

// tell takes what is known of a scrub at a time, and returns what is new in that.
func (t *scrubTeller) tell(now time.Time, r align.ScrubRequest) (lines []string) {
	for _, member := range slices.Sorted(maps.Keys(r.Waits)) {
		if t.waits[member] != r.Waits[member] {
			lines = append(lines, fmt.Sprintf("%s waits: %s", member, r.Waits[member]))
		}
	}
	for _, member := range slices.Sorted(maps.Keys(t.waits)) {
		if r.Waits[member] == "" {
			lines = append(lines, member+" goes on")
		}
	}
	t.waits = r.Waits
	if t.moved.IsZero() || r.Done > t.done {
		t.done, t.moved, t.stuck = r.Done, now, time.Time{}
	}
	if t.said.IsZero() {
		t.said = now
	}
	still := now.Sub(t.moved)
	switch {
	case still >= scrubStill && len(r.Waits) > 0 && (t.stuck.IsZero() || now.Sub(t.stuck) >= scrubStillAgain):
		t.stuck = now
		lines = append(lines, fmt.Sprintf("nothing was read for %v: the scrub cannot end while %s; Ctrl-C stops waiting, and lockstep goes on with it",
			still.Round(time.Second), waitText(r.Waits)))
	case !t.drawn && now.Sub(t.said) >= scrubSay && still < scrubSay:
		t.said = now
		lines = append(lines, share(r.Done)+" of the rows were read again")
	}
	return lines
}

// waitText names who waits.
func waitText(waits map[string]string) string {
	members := slices.Sorted(maps.Keys(waits))
	if len(members) == 1 {
		return members[0] + " waits"
	}
	return strings.Join(members, " and ") + " wait"
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
