package daemon_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// toldOfAlerts are servers whose divergences Alertmanagers are told of.
type toldOfAlerts struct {
	servers
	urls []string
}

func (s toldOfAlerts) Configuration() *config.Config {
	c := s.servers.Configuration()
	c.Alerts.ExternalURL = "https://lockstep.example"
	for _, url := range s.urls {
		c.Alerts.Alertmanager = append(c.Alerts.Alertmanager, config.Alertmanager{URL: url})
	}
	return c
}

// page is one notification as Alertmanager's webhook sends it
// (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).
type page struct {
	Status string `json:"status"`
	Alerts []struct {
		Status       string            `json:"status"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		GeneratorURL string            `json:"generatorURL"`
	} `json:"alerts"`
}

// pager is who Alertmanager notifies.
type pager struct {
	*httptest.Server
	mu    sync.Mutex
	pages []page // guarded by mu
}

func newPager(t *testing.T) *pager {
	p := &pager{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var got page
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Errorf("a page cannot be read: %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pages = append(p.pages, got)
	}))
	t.Cleanup(p.Close)
	return p
}

// got lists the pages: status, member and table of each alert.
func (p *pager) got() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, page := range p.pages {
		for _, a := range page.Alerts {
			list = append(list, fmt.Sprintf("%s %s %s %s", a.Status, a.Labels["alertname"], a.Labels["member"], a.Labels["table"]))
		}
	}
	return list
}

const pagerConfig = `route:
  receiver: pager
  group_by: [alertname, group, member, table]
  group_wait: 1s
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: pager
    webhook_configs:
      - url: %s
`

// The way of a difference to whoever is on call, through two Alertmanagers of one cluster: one page, with the exact keys,
// and one when it is healed, although one Alertmanager is killed in between.
func TestAlertmanagersPageOnceWithTheExactKeysAndResolve(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable})
	p := newPager(t)
	settings := fmt.Sprintf(pagerConfig, p.URL)
	first := dbtest.AlertmanagerT(t, settings)
	second := dbtest.AlertmanagerT(t, settings, first)
	w := &watch{t: t, c: toldOfAlerts{c, []string{first.URL, second.URL}}}
	w.exec("eu-1", "INSERT INTO items SELECT i, 'item', 1 FROM generate_series(1, 100) i")
	w.replayed()
	w.start()
	w.inStep()

	w.exec("us-1", "UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12")
	firing := "firing LockstepDiverged us-1 public.items"
	w.until("a page", func() bool { return slices.Equal(p.got(), []string{firing}) })
	alert := p.pages[0].Alerts[0]
	if got, want := alert.Annotations["key_ranges"], `changed {"id":10}..{"id":12}`; got != want {
		t.Errorf("the page names keys %q, want %q", got, want)
	}
	if alert.Labels["severity"] != "critical" || alert.Labels["group"] != "shop" || !strings.HasPrefix(alert.GeneratorURL, "https://lockstep.example/") {
		t.Errorf("the page says %v, %s", alert.Labels, alert.GeneratorURL)
	}

	paged := time.Now()
	w.until("the other Alertmanager to have had its turn", func() bool { return time.Since(paged) > 5*time.Second })
	if got := p.got(); len(got) != 1 {
		t.Errorf("two Alertmanagers sent %q", got)
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	w.exec("us-2", "DELETE FROM items WHERE id = 50")
	w.exec("eu-1", "UPDATE items SET name = 'healed' WHERE id BETWEEN 10 AND 12")
	w.finds(`us-2 public.items missing errant_transaction {"id":50}..{"id":50}`)
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{firing, "firing LockstepDiverged us-2 public.items", "resolved LockstepDiverged us-1 public.items"}
	w.until("a page more, and the end of the first", func() bool {
		got := p.got() // Alertmanager itself may send a page twice after it was killed
		slices.Sort(got)
		return slices.Equal(slices.Compact(got), want)
	})
}
