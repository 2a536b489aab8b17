package alerts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lockstep/alerts"
	"lockstep/align"
)

// posted is an alert as Alertmanager is sent it.
type posted struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	GeneratorURL        string
}

// desk takes what is sent to an Alertmanager, by what makes an alert one, and answers as it is told.
func desk(t *testing.T, answer func(n int) int) (url string, messages chan []posted) {
	messages = make(chan []posted, 1000)
	n := 0 // one message at a time comes from one lockstep
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if code := answer(n); code != http.StatusOK {
			http.Error(w, "not now", code)
			return
		}
		var got []posted
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.URL.Path != "/base/api/v2/alerts" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		messages <- got
	}))
	t.Cleanup(s.Close)
	return s.URL + "/base/", messages
}

func always(int) int { return http.StatusOK }

// tells runs an Alertmanager receiver over divergences; news is to be counted up when they change.
func tells(t *testing.T, url string, list func() []*align.Divergence, news func() uint64, logger *slog.Logger) {
	a := &alerts.Alertmanager{
		Instances: []alerts.Instance{{URL: url}}, News: news, ExternalURL: "https://lockstep.example",
		Divergences: func(yield func(*align.Divergence) bool) error {
			for _, d := range list() {
				if !yield(d) {
					break
				}
			}
			return nil
		},
		Logger: logger, Poll: time.Millisecond, Resend: 50 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ends with %v", err)
		}
	})
}

func nothingNew() uint64 { return 1 }

func divergence(n int, member, table string) *align.Divergence {
	at := time.Now().Add(-time.Minute).Add(time.Duration(n) * time.Millisecond).Truncate(time.Millisecond)
	return &align.Divergence{
		ID: fmt.Sprintf("01%06d", n), Group: "shop", Member: member, Table: table, Reference: "eu-1", State: align.Open,
		Kind: align.Changed, Cause: align.CauseApply, Keys: 1, FirstSeen: at, ConfirmedAt: at,
		Ranges:       []align.Range{{First: json.RawMessage(fmt.Sprintf(`{"id":%d}`, n)), Last: json.RawMessage(fmt.Sprintf(`{"id":%d}`, n))}},
		IntroducedBy: &align.Introduced{Transaction: fmt.Sprintf("0/%X", n)},
	}
}

// A storm of divergences is a bounded number of alerts, each of bounded size.
func TestTenThousandDivergencesAreFewAlertsOfBoundedSize(t *testing.T) {
	var list []*align.Divergence
	for n := range 10_000 {
		list = append(list, divergence(n, "us-1", fmt.Sprintf("public.t%d", n%1000)))
	}
	url, messages := desk(t, always)
	tells(t, url, func() []*align.Divergence { return list }, nothingNew, slog.New(slog.DiscardHandler))
	byName := make(map[string]int)
	for got := 0; got < 51; {
		message := <-messages
		if len(message) > 64 {
			t.Errorf("a message has %d alerts", len(message))
		}
		for _, a := range message {
			got++
			byName[a.Labels["alertname"]]++
			for k, v := range a.Annotations {
				if len(v) > 8<<10 {
					t.Errorf("annotation %s has %d bytes", k, len(v))
				}
			}
		}
	}
	if byName[alerts.DivergedAlert] != 50 || byName[alerts.MoreAlert] != 1 {
		t.Errorf("alerts are %v", byName)
	}
}

func TestAlertNamesTheFirstRangesAndCountsTheRest(t *testing.T) {
	d := divergence(1, "us-1", "public.orders")
	for n := range 500 {
		k := json.RawMessage(fmt.Sprintf(`{"name":"%0100d"}`, n))
		d.Ranges = append(d.Ranges, align.Range{First: k, Last: k})
	}
	url, messages := desk(t, always)
	tells(t, url, func() []*align.Divergence { return []*align.Divergence{d} }, nothingNew, slog.New(slog.DiscardHandler))
	a := (<-messages)[0]
	lines := strings.Split(a.Annotations["key_ranges"], "\n")
	if lines[0] != `changed {"id":1}..{"id":1}` || len(lines) != 21 || lines[20] != "and at least 481 more ranges" {
		t.Errorf("key ranges are %d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if a.Annotations["transactions"] != "0/1" || a.GeneratorURL != "https://lockstep.example/api/v1/divergences?group=shop" {
		t.Errorf("the alert says %v, %s", a.Annotations, a.GeneratorURL)
	}
}

// An alert is sent again and again with an end that is away, so that it ends by itself if lockstep does, and once it is
// resolved with the end that it had.
func TestAlertIsSentAgainWhileItFiresAndWhenItIsResolved(t *testing.T) {
	open := divergence(1, "us-1", "public.orders")
	resolved := *open
	at := time.Now().Add(-time.Second).Truncate(time.Millisecond)
	resolved.State, resolved.ResolvedAt = align.Resolved, &at
	state := make(chan *align.Divergence, 1)
	state <- open
	current := func() []*align.Divergence {
		d := <-state
		state <- d
		return []*align.Divergence{d}
	}
	url, messages := desk(t, always)
	tells(t, url, current, nothingNew, slog.New(slog.DiscardHandler))
	for range 3 {
		if a := (<-messages)[0]; !a.EndsAt.After(time.Now()) || !a.StartsAt.Equal(open.ConfirmedAt) {
			t.Errorf("a firing alert starts at %v and ends at %v", a.StartsAt, a.EndsAt)
		}
	}
	<-state
	state <- &resolved
	for range 100 {
		if a := (<-messages)[0]; a.EndsAt.Equal(at) {
			return
		}
	}
	t.Error("the alert is not resolved")
}

func TestAlertsThatAreNotTakenAreSentAgainAndTheReasonIsLogged(t *testing.T) {
	logged := &log{}
	url, messages := desk(t, func(n int) int {
		if n == 1 {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	tells(t, url, func() []*align.Divergence { return []*align.Divergence{divergence(1, "us-1", "public.orders")} }, nothingNew, slog.New(slog.NewTextHandler(logged, nil)))
	if got := <-messages; len(got) != 1 {
		t.Errorf("%d alerts were sent", len(got))
	}
	if text := logged.String(); !strings.Contains(text, "400 Bad Request: not now") {
		t.Errorf("the log says %q", text)
	}
}
