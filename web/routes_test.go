package web_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/web"
)

// named are the parameters that name something that is watched or known, with what is asked for by a typing error and what it is
// answered. They are so in every route; a parameter that is neither here nor in free fails.
var named = map[string]struct{ mistyped, says string }{
	"group":   {"shp", "no group shp; nearest: shop"},
	"member":  {"us1", "no member us1"}, // and in which group
	"members": {"us1", "no member us1 in group shop; nearest: us-1"},
	"table":   {"public.ordrs", "no table public.ordrs in group shop; nearest: public.orders"},
	"tables":  {"public.ordrs", "no table public.ordrs in group shop; nearest: public.orders"},
	"id":      {"01J4", "no divergence 01J4; nearest: 01J3"},
}

// free are those that name nothing: their values are checked for what they are, if they have a form.
var free = map[string]bool{
	"state": true, "kind": true, "limit": true, "first_key": true, "last_key": true, "by": true, "ticket": true, "note": true,
	"from": true, "to": true, "sha256": true,
}

// whole are bodies with all that they need.
var whole = map[string]string{
	"POST /api/v1/scrubs":                       `{}`,
	"POST /api/v1/divergences/{id}/acknowledge": `{"by":"ann"}`,
	"POST /api/v1/audit/exports":                `{"by":"ann","sha256":"` + strings.Repeat("a", 64) + `","from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z"}`,
}

// A filter with a typing mistake once found nothing, and the answer was "no divergences". It is tried for every parameter of every
// route, of which there is no list but the one that is served.
func TestAMistypedNameIsAnErrorInEveryParameter(t *testing.T) {
	s := server(health{}, shop())
	inPath := regexp.MustCompile(`{([a-z]+)}`)
	right := strings.NewReplacer("{group}", "shop", "{member}", "us-1", "{id}", "01J3")
	for _, r := range web.Routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		ask := func(name, target string, change map[string]any) {
			t.Helper()
			if free[name] {
				return
			}
			wrong, known := named[name]
			if !known {
				t.Errorf("%s: say in this test whether %s names something", r.Pattern, name)
				return
			}
			code, body := request(t, s, method, target, whole[r.Pattern], change)
			if code != http.StatusNotFound || !strings.Contains(body, wrong.says) {
				t.Errorf("%s %s %v: %d %s, want 404 and %q", method, target, change, code, body, wrong.says)
			}
		}
		for _, name := range inPath.FindAllStringSubmatch(path, -1) {
			ask(name[1], right.Replace(strings.Replace(path, name[0], named[name[1]].mistyped, 1)), nil)
		}
		for _, name := range r.Query {
			ask(name, right.Replace(path)+"?"+url.Values{name: {named[name].mistyped}}.Encode(), nil)
		}
		if r.Body != nil {
			for i := range r.Body.NumField() {
				name, _, _ := strings.Cut(r.Body.Field(i).Tag.Get("json"), ",")
				var value any = named[name].mistyped
				if strings.HasSuffix(name, "s") {
					value = []any{value}
				}
				ask(name, right.Replace(path), map[string]any{name: value})
			}
		}
		if method == http.MethodGet {
			if code, body := get(s, right.Replace(path)+"?stat=open"); code != http.StatusBadRequest || !strings.Contains(body, "no parameter stat") {
				t.Errorf("%s with a parameter that it does not have: %d %s", r.Pattern, code, body)
			}
		}
	}
}

// "?member=$REPLICA" of a variable that is not set was answered with what is known of all members.
func TestAnEmptyParameterIsAnError(t *testing.T) {
	s := server(health{}, shop())
	right := strings.NewReplacer("{group}", "shop", "{member}", "us-1", "{id}", "01J3")
	for _, r := range web.Routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		for _, name := range r.Query {
			code, body := request(t, s, method, right.Replace(path)+"?"+name+"=", whole[r.Pattern], nil)
			if want := `parameter "` + name + `" is empty: give it a value, or leave it out`; code != http.StatusBadRequest || body != want {
				t.Errorf("%s with an empty %s: %d %s, want 400 and %q", r.Pattern, name, code, body, want)
			}
		}
	}
}

// A request with another one behind it was taken for the first, and who sent a text for a list was told of "Go struct field
// scrubJSON.tables of type []string".
func TestABodyIsOneObjectWhoseFieldsAreToldByTheirNames(t *testing.T) {
	s := server(health{}, shop())
	for _, r := range web.Routes() {
		if r.Body == nil {
			continue
		}
		method, path, _ := strings.Cut(r.Pattern, " ")
		path = strings.ReplaceAll(path, "{id}", "01J3")
		bodies := map[string]string{whole[r.Pattern] + "{}": "after top-level value", whole[r.Pattern] + "x": "after top-level value", `[1]`: "it is a JSON array: want an object"}
		for i := range r.Body.NumField() {
			name, _, _ := strings.Cut(r.Body.Field(i).Tag.Get("json"), ",")
			if r.Body.Field(i).Type != reflect.TypeFor[json.RawMessage]() {
				bodies[`{"`+name+`":5}`] = name + ": want a "
			}
		}
		for body, want := range bodies {
			q := httptest.NewRequest(method, path, strings.NewReader(body))
			q.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, q)
			if said := w.Body.String(); w.Code != http.StatusBadRequest || !strings.Contains(said, want) || strings.Contains(said, "json: ") || strings.Contains(said, "Go ") {
				t.Errorf("%s with %s: %d %s, want %q", r.Pattern, body, w.Code, said, want)
			}
		}
	}
}

// What is not served is an error of the API too.
func TestWhatIsNotServedIsAnError(t *testing.T) {
	s := server(health{}, shop())
	for _, r := range web.Routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		path = strings.NewReplacer("{group}", "shop", "{member}", "us-1", "{id}", "01J3").Replace(path)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, path, nil))
		var said struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Header().Get("Allow"), method) || !strings.Contains(said.Error, method) {
			t.Errorf("DELETE %s: %d %v %s (%v)", path, w.Code, w.Header(), w.Body, err)
		}
	}
	if code, body := get(s, "/api/v1/gruops"); code != http.StatusNotFound || body != `{"error":"the API has no /api/v1/gruops"}`+"\n" {
		t.Errorf("%d %s", code, body)
	}
}

func request(t *testing.T, s *web.Server, method, target, body string, change map[string]any) (int, string) {
	t.Helper()
	var sent bytes.Buffer
	if body != "" {
		all := parse(t, body).(map[string]any)
		for name, value := range change {
			all[name] = value
		}
		if err := json.NewEncoder(&sent).Encode(all); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequest(method, target, &sent)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var said struct{ Error string }
	if json.Unmarshal(w.Body.Bytes(), &said) != nil || said.Error == "" {
		return w.Code, w.Body.String()
	}
	return w.Code, said.Error
}

// What was resolved before its member or table was taken out of the configuration can still be asked for.
func TestWhatADivergenceIsStillKnownOfIsNoTypingError(t *testing.T) {
	g := shop()
	g.divergences[1].Table = "public.gone"
	s := server(health{}, g)
	for query, want := range map[string]int{
		"member=ap-1&state=open": 200, "table=public.gone&state=open": 200, "table=public.gone": 200, "table=public.gon": 404, "member=ap-2": 404,
		"group=shop&table=public.gone&kind=stale": 200,
	} {
		if code, body := get(s, "/api/v1/divergences?"+query); code != want {
			t.Errorf("%s: %d %s, want %d", query, code, body, want)
		}
	}
}

func TestOfSeveralGroupsOneIsNamed(t *testing.T) {
	other := &watched{}
	other.status.Name = "crm"
	code, body := request(t, server(health{}, shop(), other), http.MethodPost, "/api/v1/scrubs", `{}`, nil)
	if code != http.StatusBadRequest || body != "several groups are watched: name one of shop, crm" {
		t.Errorf("%d %s", code, body)
	}
}

// Of a group that is still being opened nobody knows the tables; a proxy must not be told that there is no such table.
func TestTrustInATableOfAGroupThatIsNotOpenedIsRefusedForNow(t *testing.T) {
	g := shop()
	for i := range g.status.Members {
		g.status.Members[i].Tables = nil
	}
	if code, body := get(server(health{}, g), "/api/v1/trust/shop/us-1?table=public.orders"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"unverified"`) {
		t.Error(code, body)
	}
}

func TestAnIDMayBeCut(t *testing.T) {
	g := shop()
	for i, id := range []string{"01M83CBN4Q", "01M83CBN4R", "01M854J5KH"} {
		g.divergences[i].ID = id
	}
	s := server(health{}, g)
	if code, body := get(s, "/api/v1/divergences/01m854"); code != 200 || !strings.Contains(body, `"id":"01M854J5KH"`) {
		t.Error(code, body)
	}
	if code, body := request(t, s, http.MethodPost, "/api/v1/divergences/01M854/acknowledge", `{"by":"ann"}`, nil); code != 200 || !strings.Contains(body, `"by":"ann"`) {
		t.Error(code, body)
	}
	want := "several divergences begin with 01M83: 01M83CBN4Q, 01M83CBN4R; write more of the one"
	for _, target := range []string{"GET /api/v1/divergences/01M83", "POST /api/v1/divergences/01M83/acknowledge"} {
		method, path, _ := strings.Cut(target, " ")
		if code, body := request(t, s, method, path, `{"by":"ann"}`, nil); code != 400 || body != want {
			t.Errorf("%s: %d %s", target, code, body)
		}
	}
}
