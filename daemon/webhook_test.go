package daemon_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
)

// hook is a webhook receiver that refuses the first request.
type hook struct {
	mu       sync.Mutex
	requests int      // guarded by mu
	got      []string // guarded by mu; status, table and key ranges of what was taken
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	var m struct {
		Alerts []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || h.requests == 1 {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	for _, a := range m.Alerts {
		h.got = append(h.got, a.Status+" "+a.Labels["member"]+" "+a.Labels["table"]+" "+a.Annotations["key_ranges"])
	}
}

// received spells what was taken.
func (h *hook) received() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

func TestReceiverAndMetricsHearOfADivergence(t *testing.T) {
	receiver := &hook{}
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	c := startCluster(t, cluster.Options{Schema: oneTable, Subscribers: 1, Extra: fmt.Sprintf("alerts:\n  webhook:\n    - url: %q\n", server.URL)})
	w := startWatch(t, c)
	w.exec("eu-1", items(1, 10))
	w.inStep()
	w.exec("us-1", "UPDATE items SET price = 99 WHERE id IN (3, 4)")
	const found = `us-1 public.items changed errant_transaction {"id":3}..{"id":4}`
	w.finds(found)
	w.until("the metrics to tell", func() bool {
		return strings.Contains(scrape(t, w), `lockstep_divergent_keys{group="shop",member="us-1",table="public.items"} 2`) &&
			strings.Contains(scrape(t, w), `lockstep_divergences_open{group="shop",kind="changed",member="us-1"} 1`)
	})
	const alert = ` us-1 public.items changed {"id":3}..{"id":4}`
	w.until("the receiver to be told", func() bool { return slices.Equal(receiver.received(), []string{"firing" + alert}) })
	w.exec("us-1", "UPDATE items SET price = id % 7 WHERE id IN (3, 4)")
	w.finds()
	w.until("the receiver to be told of the end", func() bool {
		return slices.Equal(receiver.received(), []string{"firing" + alert, "resolved" + alert})
	})
}

func scrape(t *testing.T, w *watch) string {
	t.Helper()
	server := httptest.NewServer(w.daemon.API())
	defer server.Close()
	resp, err := http.Get(server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Rows that an application of the member's own is known to write differ, which is shown, and nobody is told; others are.
func TestExpectedWritesAreShownAndAlertNobody(t *testing.T) {
	receiver := &hook{requests: 1}
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	c := startCluster(t, cluster.Options{Schema: oneTable, Subscribers: 1, Extra: fmt.Sprintf("alerts:\n  webhook:\n    - url: %q\n", server.URL)})
	w := &watch{t: t, c: configured{c, func(g *config.Group) {
		g.Expected = []config.Expected{{Tables: []string{"public.items"}, Members: []string{"us-1"}, FirstKey: json.RawMessage("1000"), LastKey: json.RawMessage(`{"id":1999}`)}}
	}}}
	w.start()
	w.exec("eu-1", items(1, 10))
	w.inStep()
	w.exec("us-1", items(1000, 1002))
	const known = `us-1 public.items extra errant_transaction {"id":1000}..{"id":1002}`
	w.finds(known)
	w.exec("us-1", items(2000, 2000))
	w.finds(known, `us-1 public.items extra errant_transaction {"id":2000}..{"id":2000}`)
	w.until("the other row to be told of", func() bool { return len(receiver.received()) > 0 })
	if got, want := receiver.received(), []string{`firing us-1 public.items extra {"id":2000}..{"id":2000}`}; !slices.Equal(got, want) {
		t.Errorf("told was %q, want %q", got, want)
	}
}
