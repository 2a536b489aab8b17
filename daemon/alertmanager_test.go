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

// The way of a difference to whoever is on call: to the metrics, a webhook that refuses at first, and through two Alertmanagers
// of one cluster, one of which is killed in between. Each is told once, with the exact keys, and once when it is healed. Of rows
// that an application of the member's own is known to write, which differ all the same, nobody is.
func TestReceiversAreToldOnceWithTheExactKeysAndOfTheEnd(t *testing.T) {
	receiver := &hook{}
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	c := startCluster(t, cluster.Options{Schema: oneTable, Extra: fmt.Sprintf("alerts:\n  webhook:\n    - url: %q\n", server.URL)})
	p := newPager(t)
	settings := fmt.Sprintf(pagerConfig, p.URL)
	first := dbtest.AlertmanagerT(t, settings)
	second := dbtest.AlertmanagerT(t, settings, first)
	expecting := configured{c, func(g *config.Group) {
		g.Expected = []config.Expected{{Tables: []string{"public.items"}, Members: []string{"us-1"}, FirstKey: json.RawMessage("1000"), LastKey: json.RawMessage(`{"id":1999}`)}}
	}}
	w := &watch{t: t, c: toldOfAlerts{expecting, []string{first.URL, second.URL}}}
	w.exec("eu-1", items(1, 100))
	w.replayed()
	w.start()
	w.inStep()

	w.exec("us-1", "UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12")
	const found, ranges = `us-1 public.items changed errant_transaction {"id":10}..{"id":12}`, ` us-1 public.items changed {"id":10}..{"id":12}`
	w.finds(found)
	w.until("the metrics to tell", func() bool {
		return strings.Contains(scrape(t, w), `lockstep_divergent_keys{group="shop",member="us-1",table="public.items"} 3`) &&
			strings.Contains(scrape(t, w), `lockstep_divergences_open{group="shop",kind="changed",member="us-1"} 1`)
	})
	w.until("the webhook to be told", func() bool { return slices.Equal(receiver.received(), []string{"firing" + ranges}) })
	firing := "firing LockstepDiverged us-1 public.items"
	w.until("a page", func() bool { return slices.Equal(p.got(), []string{firing}) })
	paged := time.Now()
	alert := p.pages[0].Alerts[0]
	if got, want := alert.Annotations["key_ranges"], `changed {"id":10}..{"id":12}`; got != want {
		t.Errorf("the page names keys %q, want %q", got, want)
	}
	if alert.Labels["severity"] != "critical" || alert.Labels["group"] != "shop" || !strings.HasPrefix(alert.GeneratorURL, "https://lockstep.example/") {
		t.Errorf("the page says %v, %s", alert.Labels, alert.GeneratorURL)
	}

	w.exec("us-1", items(1000, 1002))
	const known = `us-1 public.items extra errant_transaction {"id":1000}..{"id":1002}`
	w.finds(found, known)
	w.until("the other Alertmanager to have had its turn", func() bool { return time.Since(paged) > 5*time.Second })
	if got := p.got(); len(got) != 1 {
		t.Errorf("two Alertmanagers sent %q", got)
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	w.exec("us-2", "DELETE FROM items WHERE id = 50")
	w.exec("eu-1", "UPDATE items SET name = 'healed' WHERE id BETWEEN 10 AND 12")
	w.finds(known, `us-2 public.items missing errant_transaction {"id":50}..{"id":50}`)
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("the webhook to be told of one more, and of the end of the first", func() bool {
		return sameSet(receiver.received(), "firing"+ranges, "resolved"+ranges, `firing us-2 public.items missing {"id":50}..{"id":50}`)
	})
	w.until("a page more, and the end of the first", func() bool {
		got := p.got() // Alertmanager itself may send a page twice after it was killed
		slices.Sort(got)
		return sameSet(slices.Compact(got), firing, "firing LockstepDiverged us-2 public.items", "resolved LockstepDiverged us-1 public.items")
	})
}

func sameSet(got []string, want ...string) bool {
	slices.Sort(got)
	slices.Sort(want)
	return slices.Equal(got, want)
}
