package monitor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"lockstep/align"
	"lockstep/internal/cluster"
)

// hook is a webhook receiver that refuses the first request.
type hook struct {
	mu       sync.Mutex
	requests int                // guarded by mu
	got      []align.Divergence // guarded by mu
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	var d align.Divergence
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil || h.requests == 1 {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	h.got = append(h.got, d)
}

// received spells what was taken.
func (h *hook) received() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, d := range h.got {
		list = append(list, d.State+" "+summary(d))
	}
	return list
}

func TestReceiverAndMetricsHearOfADivergence(t *testing.T) {
	receiver := &hook{}
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	c := startCluster(t, cluster.Options{Schema: oneTable, Extra: fmt.Sprintf("alerts:\n  webhook:\n    - url: %q\n", server.URL)})
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
	w.exec("us-1", "UPDATE items SET price = id % 7 WHERE id IN (3, 4)")
	w.finds()
	w.until("the receiver to be told of both", func() bool {
		got := receiver.received()
		return len(got) == 2 && got[0] == "open "+found && got[1] == "resolved "+found
	})
}

func scrape(t *testing.T, w *watch) string {
	t.Helper()
	resp, err := http.Get("http://" + w.daemon.Addr() + "/metrics")
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
