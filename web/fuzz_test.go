package web_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/web"
)

// FuzzRequest asks for anything, under any name, as anybody. No request may make it panic or fail, nor take more than it has sent;
// each answer of the API is JSON. Nothing is told under a foreign name, and only a user with the role for it changes anything, with
// a body that no page of another site can send.
func FuzzRequest(f *testing.F) {
	for _, r := range web.Routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		path = strings.NewReplacer("{group}", "shop", "{member}", "us-1", "{id}", "01J3").Replace(path)
		query := url.Values{}
		for _, name := range r.Query {
			query.Set(name, named[name].mistyped)
		}
		f.Add(method, path, query.Encode(), "localhost:9640", "ann:secret", "application/json", whole[r.Pattern])
		f.Add(method, path, "", "lockstep.example", "", "text/plain", whole[r.Pattern])
	}
	f.Add("POST", "/api/v1/scrubs", "", "[::1%25x]:1", "ann", "application/json; charset=utf-8", `{"tables":["public.orders"],"first_key":{"id":1},"last_key":null}`)
	f.Add("GET", "/api/v1/divergences", "table=public.orders&state=open&kind=changed&limit=3&group=shop&member=us-1", "LOCALHOST.", "\x00:", "", "")
	f.Add("DELETE", "/-/ready", "a=%zz&;", "127.0.0.1.evil.example", "carol:", "application/x-www-form-urlencoded", "{}")
	f.Add("GET", "/", "", ":A", "ann:", "0", "") // a port that is none
	f.Add("GET", "/metrics", "", "evil.example", "", "multipart/form-data; boundary=x", "")
	roles := web.Roles{"grafana": web.Viewer, "ann": web.Operator, "carol": web.Auditor}
	hosts := []string{"lockstep.example"}
	f.Fuzz(func(t *testing.T, method, path, query, host, login, contentType, body string) {
		g := shop()
		api := web.New([]web.Group{g}, health{}, web.Rules{Roles: roles, Hosts: hosts}, "v1", slog.New(slog.DiscardHandler))
		guarded := web.SocketOf("127.0.0.1:9640").Guard(api, func() []string { return hosts })
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.Host = method, host
		r.URL = &url.URL{Path: "/" + strings.TrimPrefix(path, "/"), RawQuery: query}
		r.Header.Set("Content-Type", contentType)
		if login != "" {
			r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
		}
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable { // which says that something is not trusted
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if most := 64<<10 + 8*(len(method)+len(path)+len(query)+len(host)+len(login)+len(body)); w.Body.Len() > most {
			t.Errorf("it is answered %d bytes", w.Body.Len())
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(bytes.TrimSpace(w.Body.Bytes())) {
			t.Errorf("it is answered %s, which is no JSON", w.Body)
		}
		if w.Code < 300 && !ours(host, hosts) {
			t.Errorf("under the name %q it is answered %d", host, w.Code)
		}
		user, _, _ := strings.Cut(login, ":")
		if w.Code < 300 && roles[user] == "" {
			t.Errorf("user %q is answered %d", user, w.Code)
		}
		changed := len(g.asked) > 0 || slices.ContainsFunc(g.divergences, func(d *finding.Divergence) bool { return d.Acknowledged != nil })
		simple, _, _ := strings.Cut(contentType, ";") // what pages of other sites can send: https://fetch.spec.whatwg.org/#cors-safelisted-request-header
		simple = strings.ToLower(strings.TrimSpace(simple))
		if changed && (roles[user] != web.Operator || method != http.MethodPost || simple != "application/json") {
			t.Errorf("%s by %q with %q has changed something", method, login, contentType)
		}
	})
}

// ours reports whether a Host header is the name or address of this server, as browsers read it; or one that they cannot send.
func ours(host string, names []string) bool {
	u, err := url.Parse("http://" + host + "/")
	if err != nil {
		return true
	}
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	_, err = netip.ParseAddr(name)
	return err == nil || name == "" || name == "localhost" || slices.Contains(names, name)
}
