package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// stuck is a group whose scrubs do not get on.
type stuck struct{ shop }

var stuckScrub = align.ScrubRequest{ID: "01M8K6M4TS", Group: "shop", Done: 0.429, Waits: map[string]string{"us-1": "connection refused"}}

func (stuck) RequestScrub(context.Context, align.ScrubRequest) (align.ScrubRequest, error) {
	return align.ScrubRequest{ID: stuckScrub.ID, Group: stuckScrub.Group}, nil
}

func (stuck) ScrubRequests() []align.ScrubRequest { return []align.ScrubRequest{stuckScrub} }

// It once hung for as long as a member was away, and said nothing more after the first second.
func TestAScrubThatCannotEndSaysSo(t *testing.T) {
	waits := func(why string) map[string]string { return map[string]string{"us-1": why} }
	told := &scrubTeller{}
	begin := time.Date(2026, 7, 1, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after time.Duration
		done  float64
		waits map[string]string
		want  []string
	}{
		{0, 0, nil, nil},
		{5 * time.Second, 0.2, nil, nil},
		{10 * time.Second, 0.4, nil, []string{"40 % of the rows were read again"}},
		{11 * time.Second, 0.4, waits("the server runs 40 statements, more than 30"), []string{"us-1 waits: the server runs 40 statements, more than 30"}},
		{12 * time.Second, 0.4, waits("connection refused"), []string{"us-1 waits: connection refused"}},
		{21 * time.Second, 0.4, waits("connection refused"), []string{"nothing was read for 11s: the scrub cannot end while us-1 waits; Ctrl-C stops waiting, and lockstep goes on with it"}},
		{40 * time.Second, 0.4, waits("connection refused"), nil},
		{6 * time.Minute, 0.4, waits("connection refused"), []string{"nothing was read for 5m50s: the scrub cannot end while us-1 waits; Ctrl-C stops waiting, and lockstep goes on with it"}},
		{7 * time.Minute, 0.999, nil, []string{"us-1 goes on", "99 % of the rows were read again"}},
	} {
		got := told.tell(begin.Add(c.after), align.ScrubRequest{Done: c.done, Waits: c.waits})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("after %v:\n%s", c.after, diff)
		}
	}
}

func TestWhoStopsWaitingForAScrubHearsWhatGoesOn(t *testing.T) {
	url := serveGroups(t, stuck{})
	const goesOn = `: 42 % of the rows were read again; us-1 waits: connection refused
lockstep: lockstep goes on with scrub 01M8K6M4TS until it ends or lockstep does; VERIFIED in lockstep status says how far it is
`
	code, stdout, stderr := lockstep(t, "scrub", "--url", url, "--timeout", "1s")
	if want := "us-1 waits: connection refused\nlockstep: the scrub has not ended within --timeout" + goesOn; code != exitUnknown || stdout != "" || stderr != want {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs lockedBuilder
	ended := make(chan int, 1)
	go func() { ended <- execute(ctx, []string{"scrub", "--url", url}, &out, &errs) }()
	err := dbtest.WaitFor(t.Context(), "what it waits for", func(context.Context) (bool, error) {
		return strings.Contains(errs.String(), "us-1 waits"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if code := <-ended; code != exitUnknown || !slices.Contains(strings.SplitAfter(errs.String(), "\n"), "lockstep: stopped waiting"+strings.SplitAfter(goesOn, "\n")[0]) {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

// lockedBuilder is read while a command writes to it.
type lockedBuilder struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
