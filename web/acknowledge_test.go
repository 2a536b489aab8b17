package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/web"
)

func TestADivergenceIsAcknowledgedByWhoAsks(t *testing.T) {
	long := strings.Repeat("x", 2001)
	for _, c := range []struct {
		id, user, body string
		code           int
		says           string
	}{
		{"01J3", "", `{"by":"ann","ticket":"OPS-1","note":"restored"}`, http.StatusOK, `"acknowledged":{"by":"ann","ticket":"OPS-1","note":"restored","at":"2026-11-23T12:00:00Z"}`},
		{"01J3", "bob", `{"ticket":"OPS-1"}`, http.StatusOK, `"acknowledged":{"by":"bob","ticket":"OPS-1"`},
		{"01J3", "bob", `{"by":"ann"}`, http.StatusForbidden, "you are bob: leave by out"},
		{"01J3", "", `{"ticket":"OPS-1"}`, http.StatusBadRequest, "by is missing: say who you are"},
		{"01J3", "", `{"by":"ann","note":"` + long + `"}`, http.StatusBadRequest, "that is too long"},
		{"01J3", "", `{"by":"ann","who":"me"}`, http.StatusBadRequest, "the body cannot be read"},
		{"01J8", "", `{"by":"ann"}`, http.StatusNotFound, `no divergence 01J8; nearest: 01J3`},
	} {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/divergences/"+c.id+"/acknowledge", strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		if c.user != "" {
			r.SetBasicAuth(c.user, "secret")
		}
		w := httptest.NewRecorder()
		server(health{}, shop()).ServeHTTP(w, r)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s as %q: %d %s", c.body, c.user, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	server(health{}, shop()).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/divergences/01J3/acknowledge", strings.NewReader(`{"by":"ann"}`)))
	if w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form of another site: %d", w.Code)
	}
}

func TestWhatAGroupCannotBeAskedYetMayBeAskedLater(t *testing.T) {
	g := shop()
	g.waits = fmt.Errorf("group shop %w: eu does not answer", web.ErrWaits)
	for path, body := range map[string]string{"/api/v1/divergences/01J3/acknowledge": `{"by":"ann"}`, "/api/v1/scrubs": `{"group":"shop"}`} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		server(health{}, g).ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "group shop is not watched yet: eu does not answer") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
