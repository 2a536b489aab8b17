package web_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/web"
)

const exported = `{"by":"","from":"2026-07-01T00:00:00Z","to":"2026-10-01T00:00:00Z","sha256":"` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `"}`

func post(h http.Handler, path, user, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if user != "" {
		r.SetBasicAuth(user, "secret")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestUsersDoWhatTheirRolePermits(t *testing.T) {
	roles := web.Roles{"grafana": web.Viewer, "ann": web.Operator, "carol": web.Auditor}
	api := web.New([]web.Group{shop()}, health{}, web.Rules{Roles: roles}, "test", slog.New(slog.DiscardHandler))
	const acknowledge, export, scrub = "/api/v1/divergences/01J3/acknowledge", "/api/v1/audit/exports", "/api/v1/scrubs"
	for _, c := range []struct {
		user, path, body string
		code             int
		says             string
	}{
		{"ann", acknowledge, `{}`, 200, `"by":"ann"`},
		{"ann", scrub, `{"group":"shop"}`, 202, ""},
		{"ann", export, exported, 403, "user ann is operator; this takes the role auditor"},
		{"carol", export, exported, 200, `"by":"carol"`},
		{"carol", acknowledge, `{}`, 403, "user carol is auditor; this takes the role operator"},
		{"grafana", acknowledge, `{}`, 403, "this takes the role operator"},
		{"grafana", export, exported, 403, "this takes the role auditor"},
		{"mallory", scrub, `{"group":"shop"}`, 403, `user \"mallory\" has no role: add it to roles in the configuration`},
		{"", scrub, `{"group":"shop"}`, 403, "has no role"},
	} {
		if w := post(api, c.path, c.user, c.body); w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s of %q: %d %s", c.path, c.user, w.Code, w.Body)
		}
	}
	for user, code := range map[string]int{"grafana": 200, "ann": 200, "carol": 200, "mallory": 403, "": 403} {
		for _, path := range []string{"/metrics", "/api/v1/groups", "/"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			if user != "" {
				r.SetBasicAuth(user, "secret")
			}
			w := httptest.NewRecorder()
			if api.ServeHTTP(w, r); w.Code != code {
				t.Errorf("GET %s of %q: %d %s", path, user, w.Code, w.Body)
			}
		}
	}
}

func TestAnExportSaysWhatWasTaken(t *testing.T) {
	api := server(health{}, shop())
	for _, c := range []struct {
		body string
		code int
		says string
	}{
		{strings.Replace(exported, `"by":""`, `"by":"carol"`, 1), 200, `"by":"carol"`},
		{exported, 400, "by is missing: say who you are"},
		{`{"by":"carol","from":"2026-07-01T00:00:00Z","to":"2026-10-01T00:00:00Z","sha256":"12"}`, 400, "64 hexadecimal digits"},
		{strings.Replace(exported, `"by":""`, `"by":"nobody"`, 1), 409, "there is no audit log"},
	} {
		if w := post(api, "/api/v1/audit/exports", "", c.body); w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
}

// Where nobody asks for passwords, a name that comes with a request is worth nothing.
func TestANameWithoutACheckedPasswordIsNotBelieved(t *testing.T) {
	reloads := 0
	f, stop := serve(t, "", func(context.Context) error { reloads++; return nil })
	defer stop()
	f.Use(web.New([]web.Group{shop()}, health{}, web.Rules{Roles: web.Roles{"ann": web.Operator}}, "test", slog.New(slog.DiscardHandler)))
	c := newClient(t, nil)
	for path, method := range map[string]string{"/api/v1/groups": http.MethodGet, "/api/v1/divergences/01J3/acknowledge": http.MethodPost, "/-/reload": http.MethodPost} {
		if code, body := ask(t, c, method, "http://"+f.Addr()+path, map[string]string{"Login": "ann:secret"}); code != 403 {
			t.Errorf("%s answers %d %s", path, code, body)
		}
	}
	if code, _ := ask(t, c, http.MethodGet, "http://"+f.Addr()+"/-/healthy", nil); code != 200 || reloads > 0 {
		t.Errorf("health answers %d, and there were %d reloads", code, reloads)
	}
}
