package web_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

func scrape(t *testing.T, h health, groups ...*watched) string {
	t.Helper()
	code, body := get(server(h, groups...), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("the scrape answers %d %s", code, body)
	}
	return body
}

func TestMetricsFollowTheConventions(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, health{}, shop()))).Lint()
	if err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// What is counted is there, at zero, before anything goes wrong, and so is whether anybody is trusted. Of the rest nothing is known
// yet, and 0 would say that it is: no lag, no row that differs.
func TestSeriesBeginAtZeroOrAreNotThere(t *testing.T) {
	fresh := &watched{status: status.Group{Name: "shop", Members: []status.Member{
		{Name: "us-1", Canary: &status.Canary{Every: time.Hour}, Duties: []duty.Runs{{Name: "scan"}}, Tables: []status.Table{{Table: "public.orders"}}},
	}}}
	body := scrape(t, health{{Name: "ops", Kind: "webhook"}}, fresh)
	table := `group="shop",member="us-1",table="public.orders"`
	begin := []string{
		`lockstep_build_info{goversion="`,
		`lockstep_notifications_waiting{kind="webhook",receiver="ops"} 0`,
		`lockstep_notifications_total{kind="webhook",receiver="ops"} 0`,
		`lockstep_notifications_failed_total{kind="webhook",receiver="ops"} 0`,
		`lockstep_store_disk_bytes 4096`,
		`lockstep_member_trusted{group="shop",member="us-1"} 0`,
		`lockstep_table_trusted{` + table + `} 0`,
		`lockstep_member_row_changes_total{group="shop",member="us-1"} 0`,
		`lockstep_scrub_rows_total{group="shop",member="us-1"} 0`,
		`lockstep_silent_changes_total{` + table + `} 0`,
		`lockstep_canaries_total{group="shop",member="us-1",result="found"} 0`,
		`lockstep_duty_runs_total{duty="scan",group="shop",member="us-1",outcome="failed"} 0`,
	}
	for _, series := range begin {
		if !strings.Contains(body, "\n"+series) {
			t.Errorf("there is no %s", series)
		}
	}
	counted := regexp.MustCompile(`_total|_count|_sum|_bucket|_trusted|lockstep_notifications_waiting|lockstep_audit_log_(entries|up|timestamp_up)`)
	for _, zero := range regexp.MustCompile(`(?m)^lockstep_.* 0$`).FindAllString(body, -1) {
		if !counted.MatchString(zero) {
			t.Errorf("of a group of which nothing is known it says %s", zero)
		}
	}
	if strings.Contains(body, "lockstep_member_errant_transactions{") || strings.Contains(body, "lockstep_divergence_oldest_open_timestamp_seconds{") {
		t.Error("it says that there are no errant transactions, or none that are open, which nobody knows")
	}
	if strings.Contains(body, "lockstep_member_up") || strings.Contains(body, "lockstep_canary_last_found") {
		t.Error("it says what nobody knows")
	}
}

// What a loop said before it stood still stays where it is bad; that all is well is not known any more.
func TestOldWordsSayNothingGood(t *testing.T) {
	g := shop()
	g.status = *g.status.AsOf(status.Clocks{Wall: noon.Add(time.Hour), Running: time.Hour}, true)
	body := scrape(t, health{}, g)
	for series, there := range map[string]bool{
		`lockstep_member_up{`: false,
		`lockstep_member_trusted{group="shop",member="eu-1"} 0`:                              true,
		`lockstep_divergences_open{group="shop",kind="stale",member="us-1"} 2`:               true,
		`lockstep_divergences_open{group="shop",kind="extra",member="us-1"}`:                 false,
		`lockstep_divergences_expected{`:                                                     false,
		`lockstep_member_errant_transactions{group="shop",member="us-1"} 3`:                  true,
		`lockstep_divergence_oldest_open_timestamp_seconds{group="shop"}`:                    true,
		`lockstep_divergent_keys{`:                                                           false,
		`lockstep_member_lag_seconds{group="shop",member="us-1"} 1.5`:                        true,
		`lockstep_member_lag_seconds{group="shop",member="eu-1"}`:                            false,
		`state="in_step",table="public.users"} 0`:                                            true,
		`lockstep_group_round_timestamp_seconds{group="shop"} 1.7954352e+09`:                 true,
		`lockstep_member_row_changes_total{group="shop",member="us-1"} 7`:                    true,
		`lockstep_member_proven_timestamp_seconds{group="shop",member="us-1"} 1.7954352e+09`: true,
	} {
		if strings.Contains(body, series) != there {
			t.Errorf("%s is there: %v", series, !there)
		}
	}
}

func TestMetricsShowTheState(t *testing.T) {
	g := shop()
	g.status.Members[0].Trouble = "connection refused"
	g.status.Members[0].Duties = []duty.Runs{{Name: "follow", OK: 1, Failed: 2}}
	body := scrape(t, health{{Name: "ops", Kind: "slack", Waiting: 3, Sent: 8}}, g)
	for _, series := range []string{
		`lockstep_member_up{group="shop",member="eu-1"} 0`,
		`lockstep_member_lag_seconds{group="shop",member="us-1"} 1.5`,
		`lockstep_group_round_timestamp_seconds{group="shop"} 1.7954352e+09`,
		`lockstep_audit_log_entries 12`,
		`lockstep_audit_log_up 0`,
		`lockstep_duty_runs_total{duty="audit_log",group="",member="",outcome="ok"} 5`,
		`lockstep_duty_runs_total{duty="audit_log",group="",member="",outcome="failed"} 6`,
		`lockstep_duty_runs_total{duty="follow",group="shop",member="eu-1",outcome="ok"} 1`,
		`lockstep_duty_runs_total{duty="follow",group="shop",member="eu-1",outcome="failed"} 2`,
		`lockstep_audit_logs_put_aside 1`,
		`lockstep_audit_log_bytes 1000`,
		`lockstep_audit_log_free_bytes 9000`,
		`lockstep_audit_log_expected_bytes 3000`,
		`lockstep_audit_log_timestamp_up 0`,
		`lockstep_audit_log_copy_up 1`,
		`lockstep_audit_log_witness_up 1`,
		`lockstep_divergent_keys{group="shop",member="us-1",table="public.orders"} 0`,
		`lockstep_member_up{group="shop",member="us-1"} 1`,
		`lockstep_table_trusted{group="shop",member="us-1",table="public.orders"} 0`,
		`lockstep_table_trusted{group="shop",member="us-1",table="public.users"} 1`,
		`lockstep_member_trusted{group="shop",member="eu-1"} 1`,
		`lockstep_member_row_changes_total{group="shop",member="us-1"} 7`,
		`lockstep_ranges{group="shop",member="us-1",state="diverged",table="public.orders"} 1`,
		`lockstep_divergences_open{group="shop",kind="changed",member="us-1"} 1`,
		`lockstep_divergence_oldest_open_timestamp_seconds{group="shop"} 1.79543514e+09`,
		`lockstep_member_errant_transactions{group="shop",member="us-1"} 3`,
		`lockstep_divergences_open{group="shop",kind="stale",member="us-1"} 2`,
		`lockstep_notifications_waiting{kind="slack",receiver="ops"} 3`,
		`lockstep_notifications_total{kind="slack",receiver="ops"} 8`,
	} {
		if !strings.Contains(body, "\n"+series+"\n") {
			t.Errorf("there is no %s", series)
		}
	}
}

func TestDivergencesAreCountedWithTheirIDsAsExemplars(t *testing.T) {
	s := server(health{}, shop())
	before := scrapeAs(t, s, "")
	for _, series := range []string{`lockstep_divergences_opened_total{group="shop",kind="extra",member="us-1"} 0`, `lockstep_divergence_detection_seconds_count{group="shop"} 0`} {
		if !strings.Contains(before, series) {
			t.Errorf("there is no %s", series)
		}
	}
	at := noon.Add(time.Hour)
	d := &finding.Divergence{ID: "01J", Group: "shop", Member: "us-1", Kind: finding.Extra, State: finding.Open, FirstSeen: noon, ConfirmedAt: noon.Add(3 * time.Second)}
	s.Observe(d)
	over := *d
	over.State, over.ResolvedAt = finding.Resolved, &at
	s.Observe(&over)
	after := scrapeAs(t, s, "application/openmetrics-text; version=1.0.0")
	for _, series := range []string{
		`lockstep_divergences_opened_total{group="shop",kind="extra",member="us-1"} 1.0 # {divergence="01J"} 1.0`,
		`lockstep_divergences_resolved_total{group="shop",kind="extra",member="us-1"} 1.0 # {divergence="01J"} 1.0`,
		`lockstep_divergence_detection_seconds_bucket{group="shop",le="5.0"} 1 # {divergence="01J"} 3.0`,
		`lockstep_divergence_open_seconds_bucket{group="shop",le="3600.0"} 1 # {divergence="01J"} 3597.0`,
	} {
		if !strings.Contains(after, series) {
			t.Errorf("there is no %s", series)
		}
	}
}

// scrapeAs scrapes in a format.
func scrapeAs(t *testing.T, s *web.Server, accept string) string {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	s.ServeHTTP(w, r)
	return w.Body.String()
}

// Labels that never repeat would fill the memory of whoever scrapes.
func TestLabelsHoldNoKeysPositionsOrIDs(t *testing.T) {
	allowed := map[string]bool{"group": true, "member": true, "table": true, "state": true, "kind": true, "version": true, "receiver": true, "le": true, "quantile": true, "goversion": true, "duty": true, "outcome": true}
	for _, label := range regexp.MustCompile(`[{,]([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(scrape(t, health{}, shop()), -1) {
		if !allowed[label[1]] || strings.Contains(label[2], "01J") || strings.Contains(label[2], "0/") || strings.Contains(label[2], "50000") {
			t.Errorf("label %s has the value %s", label[1], label[2])
		}
	}
}
