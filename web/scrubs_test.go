package web_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/web"
)

func TestScrubsAreAskedForAndListed(t *testing.T) {
	g := shop()
	server := web.New([]web.Group{g}, health{}, web.Rules{}, "test", slog.New(slog.DiscardHandler))
	post := func(kind, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/scrubs", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name, kind, body string
		code             int
		says             string
	}{
		{"all of the only group", "application/json", `{}`, 202, `"group":"shop"`},
		{"one table on one member", "application/json; charset=utf-8", `{"group":"shop","tables":["public.orders"],"members":["us-1"]}`, 202, `"tables":["public.orders"]`},
		{"a range of a table", "application/json", `{"tables":["public.orders"],"first_key":{"id":7},"last_key":null}`, 202, `"first_key":{"id":7}`},
		{"a form of another site", "text/plain", `{}`, 415, "application/json"},
		{"an unknown group", "application/json", `{"group":"ship"}`, 404, "no group ship; nearest: shop"},
		{"an unknown table", "application/json", `{"tables":["public.unknown"]}`, 404, "no table public.unknown in group shop"},
		{"a misspelt field", "application/json", `{"table":"public.orders"}`, 400, "no field table; nearest: tables"},
		{"no JSON", "application/json", `scrub`, 400, "cannot be read"},
		{"nothing", "application/json", ``, 202, `"group":"shop"`},
	} {
		w := post(c.kind, c.body)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s, want %d and %q", c.name, w.Code, w.Body, c.code, c.says)
		}
	}
	if want := []string{"[][]..", "[public.orders][us-1]..", `[public.orders][]{"id":7}..`, "[][].."}; !slices.Equal(g.asked, want) {
		t.Errorf("asked for were %q, want %q", g.asked, want)
	}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/scrubs", nil))
	var list []align.ScrubRequest
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 4 || list[1].Finished != nil {
		t.Errorf("listed are %s (%v)", w.Body, err)
	}
}
