package daemon_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
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
