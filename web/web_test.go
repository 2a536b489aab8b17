package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// watched is a group as it is at one moment.
type watched struct {
	status      status.Group
	divergences []*finding.Divergence
	err         error
	waits       error    // what cannot be asked of it before it is opened
	asked       []string // tables and members of scrubs that were asked for
	scrubs      []align.ScrubRequest
}

func (w *watched) RequestScrub(_ context.Context, r align.ScrubRequest) (align.ScrubRequest, error) {
	if w.waits != nil {
		return align.ScrubRequest{}, w.waits
	}
	if err := (names.Groups{w.Status().Names()}).Check(names.Wanted{Group: w.status.Name, Members: r.Members, Tables: r.Tables}); err != nil {
		return align.ScrubRequest{}, err
	}
	w.asked = append(w.asked, fmt.Sprintf("%v%v%s..%s", r.Tables, r.Members, r.FirstKey, r.LastKey))
	r.ID, r.Group, r.Requested = "01K", w.status.Name, noon
	w.scrubs = append(w.scrubs, r)
	return r, nil
}

func (w *watched) Acknowledge(_ context.Context, id string, a finding.Acknowledgement) (*finding.Divergence, error) {
	if w.waits != nil {
		return nil, w.waits
	}
	for _, d := range w.divergences {
		if d.ID == id {
			a.At = noon
			d.Acknowledged = &a
			return d, nil
		}
	}
	return nil, w.err
}

func (w *watched) ScrubRequests() []align.ScrubRequest { return w.scrubs }

func (w *watched) Status() *status.Group {
	w.status.Complete()
	return &w.status
}

func (w *watched) Divergences(yield func(*finding.Divergence) bool) error {
	for _, d := range w.divergences {
		if !yield(d) {
			break
		}
	}
	return w.err
}

// health is what lockstep says of itself.
type health []alerts.Status

func (h health) Receivers() []alerts.Status { return h }
func (h health) DiskBytes() uint64          { return 4096 }
func (h health) Audit() *audit.Status {
	return &audit.Status{Size: 12, CheckpointAt: noon, Failed: "disk full", Aside: 1, Duties: []duty.Runs{{Name: "audit_log", OK: 5, Failed: 6}}, Space: audit.Space{Bytes: 1000, Free: 9000, Expected: 3000}, Stamps: &audit.Outcome{Failed: "no answer"}, Copies: &audit.Outcome{At: noon}, Witnesses: &audit.Outcome{At: noon}}
}

func (h health) RecordExport(e evidence.ExportData) error {
	if e.By == "nobody" {
		return errors.New("there is no audit log")
	}
	return nil
}

func (h health) LastReload() (time.Time, bool) { return noon, true }

func divergence(n int, change func(*finding.Divergence)) *finding.Divergence {
	d := &finding.Divergence{
		ID: fmt.Sprintf("01J%d", n), Group: "shop", Table: "public.orders", Member: "us-1", Reference: "eu-1",
		State: finding.Open, Kind: finding.Changed, Cause: finding.CauseApply,
		Ranges:       []finding.Range{{First: json.RawMessage(`{"id":500000}`), Last: json.RawMessage(`{"id":500001}`), Changed: 2}},
		Keys:         2,
		IntroducedBy: &finding.Introduced{Transaction: "0/15261D0", CommittedAt: noon},
		Positions:    map[string]string{"eu-1": "0/1526FF8", "us-1": "0/1527148"},
		FirstSeen:    noon, ConfirmedAt: noon.Add(10 * time.Second), LagBudget: "10s",
	}
	if change != nil {
		change(d)
	}
	return d
}

// shop is a group of a reference and a replica of which the orders are diverged.
func shop() *watched {
	tables := func(v status.Verdict) []status.Table {
		ranges := map[status.Verdict]int64{status.InStep: 3}
		ranges[v] = 1
		return []status.Table{
			{Table: "public.orders", Verdict: v, Rows: 10, Ranges: ranges, Root: "ab", ComparedAt: status.Time{Time: noon}},
			{Table: "public.users", Verdict: status.InStep, Ranges: map[status.Verdict]int64{status.InStep: 1}},
		}
	}
	return &watched{
		status: status.Group{Name: "shop", Reference: "eu-1", At: noon, Said: status.Clocks{Wall: noon}, Looping: true, Members: []status.Member{
			{ID: 1, Name: "eu-1", Role: "reference", Position: cdc.Position{LSN: 0x1526FF8, Shown: cdc.Everything(0x1526FF8)}.String(), Exact: cdc.Position{LSN: 0x1526FF8, Shown: cdc.Everything(0x1526FF8)}, ProvenAt: status.Time{Time: noon}, Version: "17.1", Tables: tables(status.InStep)},
			{ID: 2, Name: "us-1", Role: "replica", Position: cdc.Position{LSN: 0x1527148, Shown: cdc.Everything(0x1527148)}.String(), Exact: cdc.Position{LSN: 0x1527148, Shown: cdc.Everything(0x1527148)}, ProvenAt: status.Time{Time: noon}, Errant: cdc.Everything(0x99).String(), ErrantCount: new(uint64(3)), OldestOpen: noon.Add(-time.Minute), Behind: status.Seconds(1500 * time.Millisecond), InFlight: 4, Applied: 7, Open: map[finding.Kind]int{finding.Changed: 1, finding.Stale: 2}, Tables: tables(status.Diverged)},
		}},
		divergences: []*finding.Divergence{
			divergence(3, nil),
			divergence(2, func(d *finding.Divergence) {
				d.State, d.Member, d.ResolvedAt = finding.Resolved, "ap-1", &noon
			}),
			divergence(1, func(d *finding.Divergence) {
				d.Kind, d.Table, d.Ranges, d.IntroducedBy = finding.Stale, "public.users", nil, nil
			}),
		},
	}
}

func server(h web.Health, groups ...*watched) *web.Server {
	var list []web.Group
	for _, g := range groups {
		list = append(list, g)
	}
	return web.New(list, h, web.Rules{}, "v1.2.3", slog.New(slog.DiscardHandler))
}

func get(s *web.Server, target string) (int, string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w.Code, w.Body.String()
}

// golden compares JSON with a file, both indented.
func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parse(t, string(want)), parse(t, got)); diff != "" {
		t.Error(diff)
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestDivergencesKeepTheirContract(t *testing.T) {
	code, body := get(server(health{}, shop()), "/api/v1/divergences")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	golden(t, "divergences.json", body)
}

func TestGroupsKeepTheirContract(t *testing.T) {
	_, body := get(server(health{}, shop()), "/api/v1/groups")
	golden(t, "groups.json", body)
}

func TestListsAreNeverNull(t *testing.T) {
	for _, c := range []struct {
		groups []*watched
		target string
	}{
		{nil, "/api/v1/groups"},
		{nil, "/api/v1/divergences"},
		{[]*watched{{status: status.Group{Name: "new"}}}, "/api/v1/groups"},
		{[]*watched{{status: status.Group{Name: "new", Members: []status.Member{{Name: "a"}}}}}, "/api/v1/groups"},
	} {
		_, body := get(server(health{}, c.groups...), c.target)
		if !strings.HasPrefix(body, "[") || regexp.MustCompile(`"(members|scans|tables)":null`).MatchString(body) {
			t.Errorf("%s answers %s", c.target, body)
		}
	}
}

// A group of which nothing is known must not seem to be in step.
func TestGroupWithoutMembersIsUnverified(t *testing.T) {
	_, body := get(server(health{}, &watched{}), "/api/v1/groups")
	if !strings.Contains(body, `"state":"unverified"`) {
		t.Error(body)
	}
}

func ids(t *testing.T, body string) (list []string) {
	t.Helper()
	for _, d := range parse(t, body).([]any) {
		list = append(list, d.(map[string]any)["id"].(string))
	}
	return list
}

func TestDivergencesAreFiltered(t *testing.T) {
	other := &watched{status: status.Group{Name: "crm"}, divergences: []*finding.Divergence{
		divergence(9, func(d *finding.Divergence) { d.Group = "crm" }),
	}}
	first := shop()
	first.divergences[1].Outcome = finding.Forgotten
	s := server(health{}, first, other)
	for query, want := range map[string][]string{
		"":                      {"01J3", "01J2", "01J1", "01J9"},
		"state=open":            {"01J3", "01J1", "01J9"},
		"state=resolved":        {"01J2"},
		"state=forgotten":       {"01J2"},
		"state=healed":          nil,
		"state=open&group=shop": {"01J3", "01J1"},
		"member=ap-1":           {"01J2"},
		"table=public.users":    {"01J1"},
		"kind=stale":            {"01J1"},
		"group=crm&kind=stale":  nil,
		"limit=1":               {"01J3"},
		"limit=3":               {"01J3", "01J2", "01J1"}, // once the next group added one more
		"limit=4":               {"01J3", "01J2", "01J1", "01J9"},
		"state=open&limit=2":    {"01J3", "01J1"},
		"group=crm&limit=1":     {"01J9"},
	} {
		code, body := get(s, "/api/v1/divergences?"+query)
		if code != 200 || !slices.Equal(ids(t, body), want) {
			t.Errorf("?%s answers %d with %q, want %q", query, code, ids(t, body), want)
		}
	}
}

// Those of the second group came behind all of the first, also the newest, which a limit then left out.
func TestTheNewestOfAllGroupsComesFirst(t *testing.T) {
	at := func(group string, n, minute int) *finding.Divergence {
		return divergence(n, func(d *finding.Divergence) {
			d.Group, d.ConfirmedAt = group, noon.Add(time.Duration(minute)*time.Minute)
		})
	}
	first := &watched{status: status.Group{Name: "shop"}, divergences: []*finding.Divergence{at("shop", 3, 8), at("shop", 2, 4), at("shop", 1, 2)}}
	second := &watched{status: status.Group{Name: "crm"}, divergences: []*finding.Divergence{at("crm", 9, 9), at("crm", 8, 4), at("crm", 7, 1)}}
	s := server(health{}, first, second)
	for query, want := range map[string][]string{"": {"01J9", "01J3", "01J2", "01J8", "01J1", "01J7"}, "limit=1": {"01J9"}, "limit=3": {"01J9", "01J3", "01J2"}, "group=shop&limit=2": {"01J3", "01J2"}} {
		if _, body := get(s, "/api/v1/divergences?"+query); !slices.Equal(ids(t, body), want) {
			t.Errorf("?%s answers %q, want %q", query, ids(t, body), want)
		}
	}
}

func TestWhatALimitLeavesOutIsCounted(t *testing.T) {
	w := httptest.NewRecorder()
	server(health{}, shop()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/divergences?state=open&limit=1", nil))
	if total := w.Header().Get("X-Total-Count"); total != "2" || len(ids(t, w.Body.String())) != 1 {
		t.Errorf("of two divergences %s and a total of %q are told", w.Body, total)
	}
}

func TestParametersThatWouldBeOverlookedAreRefused(t *testing.T) {
	s := server(health{}, shop())
	for _, c := range []struct{ target, part string }{
		{"divergences?stat=open", "no parameter stat; nearest: state"},
		{"divergences?state=closed", "want one of [open resolved healed superseded forgotten]"},
		{"divergences?kind=change", "want one of"},
		{"divergences?limit=0", "want a positive number"},
		{"divergences?limit=-1", "want a positive number"},
		{"divergences?limit=many", "want a positive number"},
		{"divergences?member=us-1&member=ap-1", "given 2 times"},
		{"divergences?member=us-1;state=open", "cannot be read"}, // the standard library drops it without a word
		{"divergences?member=%zz", "cannot be read"},
		{"trust/shop/us-1?tabel=public.users", "no parameter tabel; nearest: table"},
		{"trust/shop/us-1?table=public.users&table=public.orders", "given 2 times"},
	} {
		code, body := get(s, "/api/v1/"+c.target)
		if code != 400 || !strings.Contains(body, c.part) || !strings.HasPrefix(body, `{"error":`) {
			t.Errorf("%s answers %d %s, want 400 and %q", c.target, code, body, c.part)
		}
	}
}

func TestOneDivergenceIsShownByItsID(t *testing.T) {
	s := server(health{}, &watched{}, shop())
	if code, body := get(s, "/api/v1/divergences/01J2"); code != 200 || !strings.Contains(body, `"id":"01J2"`) {
		t.Errorf("answers %d %s", code, body)
	}
	if code, body := get(s, "/api/v1/divergences/01J1"); code != 200 || !strings.Contains(body, `"ranges":[]`) {
		t.Errorf("a stale divergence is %d %s, want it with no ranges", code, body)
	}
	for _, id := range []string{"01J22", "nobody"} {
		if code, body := get(s, "/api/v1/divergences/"+id); code != 404 || !strings.Contains(body, `{"error":"no divergence `+id) {
			t.Errorf("%s answers %d %s, want 404", id, code, body)
		}
	}
}

func TestDamagedStoreIsNoEmptyList(t *testing.T) {
	g := shop()
	g.divergences, g.err = nil, errors.New("data_dir is damaged")
	s := server(health{}, g)
	for _, target := range []string{"/api/v1/divergences", "/api/v1/divergences/01J1"} {
		if code, body := get(s, target); code != 500 || !strings.Contains(body, "data_dir is damaged") {
			t.Errorf("%s answers %d %s, want 500", target, code, body)
		}
	}
}

func TestTrustFollowsTheState(t *testing.T) {
	for state, want := range map[status.Verdict]int{
		status.InStep: 200, status.Lagging: 200, status.Expected: 200, status.Unverified: 503, status.Stale: 503, status.Diverged: 503,
		"": 503, "of a later version": 503, // the zero verdict once was trusted
	} {
		g := shop()
		g.status.Members[1].Tables[0].Verdict = state
		s := server(health{}, g)
		for _, target := range []string{"/api/v1/trust/shop/us-1", "/api/v1/trust/shop/us-1?table=public.orders"} {
			code, body := get(s, target)
			if code != want || !strings.Contains(body, fmt.Sprintf(`"trust":%v`, want == 200)) {
				t.Errorf("%s in state %q answers %d %s, want %d", target, state, code, body, want)
			}
		}
		if code, body := get(s, "/api/v1/trust/shop/us-1?table=public.users"); code != 200 {
			t.Errorf("the other table of a member in state %q answers %d %s", state, code, body)
		}
	}
}

// A loop that stands still had its last words served as true for 83 seconds.
func TestNobodyIsTrustedByOldWords(t *testing.T) {
	g := shop()
	g.status.Members[1].Tables[0].Verdict = status.Lagging
	g.status.Age = status.Seconds(250 * time.Millisecond)
	s := server(health{}, g)
	if code, body := get(s, "/api/v1/trust/shop/us-1"); code != 200 || !strings.Contains(body, `"age_seconds":0.25`) || strings.Contains(body, "reason") {
		t.Errorf("in time it answers %d %s", code, body)
	}
	g.status = *g.status.AsOf(status.Clocks{Wall: noon.Add(83 * time.Second), Running: 83 * time.Second}, true)
	for _, target := range []string{"eu-1", "us-1", "us-1?table=public.users"} {
		code, body := get(s, "/api/v1/trust/shop/"+target)
		for _, part := range []string{`"trust":false`, `"state":"unverified"`, `"reason":"stale_status"`, `"age_seconds":83`} {
			if code != 503 || !strings.Contains(body, part) {
				t.Errorf("%s answers %d %s, want 503 and %s", target, code, body, part)
			}
		}
	}
	if _, body := get(s, "/api/v1/groups"); !strings.Contains(body, `"age_seconds":83,"stale":"this was said 1m23s ago; lockstep's loop for the group has not come round since"`) {
		t.Error(body)
	}
}

func TestTrustInWhatIsNotWatchedIsRefused(t *testing.T) {
	g := shop()
	g.status.Members = append(g.status.Members, status.Member{Name: "empty"})
	s := server(health{}, g)
	for target, want := range map[string]int{"shop/nobody": 404, "crm/us-1": 404, "shop/us-1?table=public.gone": 404, "shop/empty": 503} {
		if code, body := get(s, "/api/v1/trust/"+target); code != want {
			t.Errorf("%s answers %d %s, want %d", target, code, body, want)
		}
	}
}

func TestReadyWaitsForEveryMember(t *testing.T) {
	g := shop()
	s := server(health{}, shop(), g)
	if code, body := get(s, "/-/ready"); code != 200 {
		t.Errorf("answers %d %s", code, body)
	}
	g.status.Members[1].ProvenAt = status.Time{}
	if code, body := get(s, "/-/ready"); code != 503 || !strings.Contains(body, "us-1 of group shop has not been heard from") {
		t.Errorf("answers %d %s, want 503", code, body)
	}
}

func TestLandingPageLinksToPagesThatExist(t *testing.T) {
	s := server(health{}, shop())
	_, body := get(s, "/")
	links := regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(body, -1)
	if len(links) < 3 {
		t.Errorf("only %d links: %s", len(links), body)
	}
	for _, l := range links {
		if code, _ := get(s, "/"+l[1]); code != 200 {
			t.Errorf("%s answers %d", l[1], code)
		}
	}
	if code, _ := get(s, "/nowhere"); code != 404 {
		t.Errorf("an unknown page answers %d, want 404", code)
	}
}

func TestNothingCanBeWritten(t *testing.T) {
	w := httptest.NewRecorder()
	server(health{}, shop()).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/divergences", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST answers %d, want 405", w.Code)
	}
}
