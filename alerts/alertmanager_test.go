package alerts_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/finding"
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

// tells runs an Alertmanager over the divergences of a world.
func (w *world) tells(url string) {
	w.t.Cleanup(w.run(w.notifier(&alerts.Alertmanager{URL: url, Logger: w.logger(), Resend: 50 * time.Millisecond})))
}

// storm makes so many divergences in a thousand tables.
func (w *world) storm(n int) {
	var list []*finding.Divergence
	for i := range n {
		list = append(list, divergence(i, "us-1", fmt.Sprintf("public.t%d", i%1000)))
	}
	w.set(list...)
}

// A storm of divergences is a bounded number of alerts, each of bounded size.
func TestTenThousandDivergencesAreFewAlertsOfBoundedSize(t *testing.T) {
	w := newWorld(t)
	w.storm(10_000)
	url, messages := desk(t, always)
	w.tells(url)
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
		d.Ranges = append(d.Ranges, finding.Range{First: k, Last: k})
	}
	url, messages := desk(t, always)
	w := newWorld(t)
	w.set(d)
	w.tells(url)
	a := (<-messages)[0]
	lines := strings.Split(a.Annotations["key_ranges"], "\n")
	if lines[0] != `changed {"id":1}..{"id":1}` || len(lines) != 21 || lines[20] != "and at least 481 more" {
		t.Errorf("key ranges are %d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if a.Annotations["transactions"] != "0/1" || a.GeneratorURL != "https://lockstep.example/api/v1/divergences?group=shop&member=us-1&table=public.orders" {
		t.Errorf("the alert says %v, %s", a.Annotations, a.GeneratorURL)
	}
}

// The alerts of Prometheus' rules had a runbook, those of lockstep's own had none.
func TestAlertLeadsToItsRunbook(t *testing.T) {
	for runbooks, base := range map[string]string{"": "https://github.com/lockstep-cdc/lockstep/blob/main/docs/runbooks/", "https://wiki.example/lockstep/": "https://wiki.example/lockstep/"} {
		url, messages := desk(t, always)
		w := newWorld(t)
		stale := divergence(2, "us-1", "public.users")
		stale.Kind = finding.Stale
		list := []*finding.Divergence{stale}
		for n := range 52 {
			list = append(list, divergence(n+3, "us-1", fmt.Sprintf("public.t%d", n)))
		}
		w.set(list...)
		n := w.notifier(&alerts.Alertmanager{URL: url, Logger: w.logger(), Resend: 50 * time.Millisecond})
		n.Runbooks = runbooks
		stop := w.run(n)
		pages := map[string]string{alerts.StaleAlert: "LockstepReplicaStale.md", alerts.DivergedAlert: "LockstepRowsDiffer.md", alerts.MoreAlert: "LockstepRowsDiffer.md"}
		told := make(map[string]bool)
		for _, a := range <-messages {
			name := a.Labels["alertname"]
			told[name] = true
			if want := base + pages[name]; a.Annotations["runbook_url"] != want {
				t.Errorf("%s leads to %q, want %q", name, a.Annotations["runbook_url"], want)
			}
			if _, err := os.Stat("../docs/runbooks/" + pages[name]); err != nil {
				t.Error(err)
			}
		}
		if stop(); len(told) != len(pages) {
			t.Errorf("only %v were told", told)
		}
	}
}

// Who takes a divergence on was to be seen in lockstep only, not where people are paged.
func TestAlertSaysWhoHasTakenItOn(t *testing.T) {
	d := divergence(1, "us-1", "public.orders")
	d.Keys = 1
	d.Acknowledged = &finding.Acknowledgement{By: "ann", Ticket: "OPS-1", Note: "restored from eu-1", At: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}
	other := divergence(2, "us-1", "public.orders")
	url, messages := desk(t, always)
	w := newWorld(t)
	w.set(d, other)
	w.tells(url)
	a := (<-messages)[0]
	if want := d.ID + ": ann, OPS-1, at 2026-11-29T12:00:00Z: restored from eu-1"; a.Annotations["acknowledged"] != want {
		t.Errorf("the alert says %q, want %q", a.Annotations["acknowledged"], want)
	}
	if !strings.Contains(a.Annotations["description"], "changed: 1 row of public.orders") {
		t.Errorf("it says %q", a.Annotations["description"])
	}
}

// An alert is sent again and again with an end that is away, so that it ends by itself if lockstep does, and once it is
// resolved with the end that it had.
func TestAlertIsSentAgainWhileItFiresAndWhenItIsResolved(t *testing.T) {
	open := divergence(1, "us-1", "public.orders")
	w := newWorld(t)
	w.set(open)
	url, messages := desk(t, always)
	w.tells(url)
	for range 3 {
		if a := (<-messages)[0]; !a.EndsAt.After(time.Now()) || !a.StartsAt.Equal(open.ConfirmedAt) {
			t.Errorf("a firing alert starts at %v and ends at %v", a.StartsAt, a.EndsAt)
		}
	}
	over := resolved(open)
	w.set(over)
	for range 100 {
		if a := (<-messages)[0]; a.EndsAt.Equal(*over.ResolvedAt) {
			return
		}
	}
	t.Error("the alert is not resolved")
}

// For a quarter of an hour it said of the next one, too, that its rows are not watched any more.
func TestAlertmanagerIsToldHowTheLastOfATablesAlertsEnded(t *testing.T) {
	w := newWorld(t)
	url, messages := desk(t, always)
	first, second := divergence(1, "us-1", "public.orders"), later(divergence(2, "us-1", "public.orders"))
	for _, c := range []struct {
		are  []*finding.Divergence
		want string
	}{
		{[]*finding.Divergence{forgotten(first)}, "forgotten"},
		{[]*finding.Divergence{resolved(second), forgotten(first)}, ""},
		{[]*finding.Divergence{forgotten(second), resolved(first)}, "forgotten"},
		{[]*finding.Divergence{resolved(divergence(3, "us-1", "public.orders")), forgotten(first)}, "forgotten"}, // both at a time
	} {
		w.set(c.are...)
		stop := w.run(w.notifier(&alerts.Alertmanager{URL: url, Logger: w.logger()}))
		if got := (<-messages)[0].Annotations; got["outcome"] != c.want {
			t.Errorf("the outcome is %q, want %q: %v", got["outcome"], c.want, got)
		}
		stop()
	}
}

func TestAlertsThatAreNotTakenAreSentAgainAndTheReasonIsLogged(t *testing.T) {
	url, messages := desk(t, func(n int) int {
		if n == 1 {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	w := newWorld(t)
	w.set(divergence(1, "us-1", "public.orders"))
	w.tells(url)
	if got := <-messages; len(got) != 1 {
		t.Errorf("%d alerts were sent", len(got))
	}
	if text := w.logged.String(); !strings.Contains(text, "400 Bad Request: not now") {
		t.Errorf("the log says %q", text)
	}
}

func TestTheWatchdogAlwaysFires(t *testing.T) {
	w := newWorld(t)
	url, messages := desk(t, always)
	n := w.notifier(&alerts.Alertmanager{URL: url, Logger: w.logger(), Resend: 50 * time.Millisecond})
	n.Watchdog = true
	defer w.run(n)()
	for range 3 {
		if a := (<-messages)[0]; a.Labels["alertname"] != alerts.WatchdogAlert || !a.EndsAt.After(time.Now()) {
			t.Errorf("the watchdog is %+v", a)
		}
	}
}
