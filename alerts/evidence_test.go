package alerts_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/store"
)

// recorded are the deliveries that a store keeps: receiver, status, table, divergences.
func recorded(t *testing.T, s *store.Store) (list []string) {
	t.Helper()
	must(t, s.Evidence(func(_ uint64, sealed []byte) bool {
		e, err := evidence.Parse(sealed)
		must(t, err)
		var d evidence.AlertData
		must(t, json.Unmarshal(e.Data, &d))
		for _, a := range d.Alerts {
			receiver, _, _ := strings.Cut(d.Receiver, ":")
			list = append(list, fmt.Sprint(e.Type, " ", receiver, " ", d.Kind, " ", a.Status, " ", a.Table, " ", a.Divergences, " ", a.Total))
		}
		return true
	}))
	return list
}

// keeper is a store that keeps entries.
func keeper(t *testing.T, w *world) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(w.dir, "evidence"), store.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	_, err = s.KeepEvidence()
	must(t, err)
	return s
}

// Each news is recorded once that a receiver has taken it, whether it remembers what it was told or is told all again.
func TestWhatReceiversHaveTakenIsRecorded(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	s := keeper(t, w)
	url, messages := desk(t, func(n int) int {
		if n == 1 {
			return 503
		}
		return 200
	})
	hook := &alerts.Receiver{Name: "ops", Channel: &alerts.Webhook{URL: p.url(), Name: "ops"}, Memory: s, Logger: w.logger()}
	am := &alerts.Alertmanager{URL: url, Logger: w.logger(), Record: s.Record}
	n := w.notifier(hook, am)
	n.Watchdog = true
	a := divergence(1, "us-1", "public.a")
	b := divergence(2, "us-1", "public.a")
	w.set(a)
	stop := w.run(n)
	until := func(want ...string) {
		t.Helper()
		for range 10_000 {
			if got := recorded(t, s); len(got) >= len(want) {
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Fatalf("recorded was\n%s", strings.Join(got, "\n"))
				}
				return
			}
			select {
			case <-messages:
			case <-time.After(time.Millisecond):
			}
		}
		t.Fatalf("recorded was\n%s", strings.Join(recorded(t, s), "\n"))
	}
	until("alert_delivered 127.0.0.1 alertmanager firing public.a [01000001] 1", "alert_delivered ops webhook firing public.a [01000001] 1")
	w.set(a, b)
	until("alert_delivered 127.0.0.1 alertmanager firing public.a [01000001 01000002] 2", "alert_delivered 127.0.0.1 alertmanager firing public.a [01000001] 1",
		"alert_delivered ops webhook firing public.a [01000001 01000002] 2", "alert_delivered ops webhook firing public.a [01000001] 1")
	w.set(resolved(a), resolved(b))
	until("alert_delivered 127.0.0.1 alertmanager firing public.a [01000001 01000002] 2", "alert_delivered 127.0.0.1 alertmanager firing public.a [01000001] 1",
		"alert_delivered 127.0.0.1 alertmanager resolved public.a [01000001 01000002] 2",
		"alert_delivered ops webhook firing public.a [01000001 01000002] 2", "alert_delivered ops webhook firing public.a [01000001] 1",
		"alert_delivered ops webhook resolved public.a [01000001 01000002] 2")
	stop()
}

// However many diverge at once, an entry has room for what it says.
func TestDeliveriesOfAStormFitIntoEntries(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	s := keeper(t, w)
	var all []*finding.Divergence
	for n := range 10_000 {
		all = append(all, divergence(n, fmt.Sprintf("us-%d", n%4), fmt.Sprintf("public.%s%03d", strings.Repeat("t", 60), n%203)))
	}
	w.set(all...)
	url, messages := desk(t, always)
	stop := w.run(w.notifier(&alerts.Receiver{Name: "ops", Channel: &alerts.Webhook{URL: p.url()}, Memory: s, Logger: w.logger()}, &alerts.Alertmanager{URL: url, Logger: w.logger(), Record: s.Record}))
	for len(recorded(t, s)) < 2*4*51 {
		select {
		case <-messages:
		case <-time.After(time.Millisecond):
		}
	}
	stop()
}
