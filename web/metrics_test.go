package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"lockstep/align"
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

// An alert on a series that is not there never fires: every series is there, at zero, before anything goes wrong.
func TestSeriesBeginAtZero(t *testing.T) {
	fresh := &watched{status: align.GroupStatus{Group: "shop", Members: []align.MemberStatus{
		{Name: "us-1", Tables: []align.TableStatus{{Table: "public.orders"}}},
	}}}
	body := scrape(t, health{{Name: "ops", Kind: "webhook"}}, fresh)
	table := `group="shop",member="us-1",table="public.orders"`
	want := []string{
		`lockstep_build_info{goversion="`,
		`lockstep_notifications_waiting{kind="webhook",receiver="ops"} 0`,
		`lockstep_notifications_failed_total{kind="webhook",receiver="ops"} 0`,
		`lockstep_notifications_last_success_timestamp_seconds{kind="webhook",receiver="ops"} 0`,
		`lockstep_store_disk_bytes 4096`,
		`lockstep_member_up{group="shop",member="us-1"} 1`,
		`lockstep_member_position_bytes{group="shop",member="us-1"} 0`,
		`lockstep_member_proven_timestamp_seconds{group="shop",member="us-1"} 0`,
		`lockstep_member_lag_seconds{group="shop",member="us-1"} 0`,
		`lockstep_member_in_flight_rows{group="shop",member="us-1"} 0`,
		`lockstep_member_row_changes_total{group="shop",member="us-1"} 0`,
		`lockstep_divergent_keys{` + table + `} 0`,
		`lockstep_rows{` + table + `} 0`,
	}
	for _, kind := range []string{"stale", "changed", "missing", "extra"} {
		want = append(want, `lockstep_divergences_open{group="shop",kind="`+kind+`",member="us-1"} 0`)
	}
	for _, state := range []string{"in_step", "lagging", "unverified", "stale", "diverged"} {
		want = append(want, `lockstep_ranges{group="shop",member="us-1",state="`+state+`",table="public.orders"} 0`)
	}
	for _, series := range want {
		if !strings.Contains(body, "\n"+series) {
			t.Errorf("there is no %s", series)
		}
	}
}

func TestMetricsShowTheState(t *testing.T) {
	g := shop()
	g.status.Members[0].Trouble = "connection refused"
	body := scrape(t, health{{Name: "ops", Kind: "slack", Waiting: 3, Sent: 8}}, g)
	for _, series := range []string{
		`lockstep_member_up{group="shop",member="eu-1"} 0`,
		`lockstep_member_lag_seconds{group="shop",member="us-1"} 1.5`,
		`lockstep_member_row_changes_total{group="shop",member="us-1"} 7`,
		`lockstep_ranges{group="shop",member="us-1",state="diverged",table="public.orders"} 1`,
		`lockstep_divergences_open{group="shop",kind="changed",member="us-1"} 1`,
		`lockstep_divergences_open{group="shop",kind="stale",member="us-1"} 2`,
		`lockstep_notifications_waiting{kind="slack",receiver="ops"} 3`,
		`lockstep_notifications_total{kind="slack",receiver="ops"} 8`,
	} {
		if !strings.Contains(body, "\n"+series+"\n") {
			t.Errorf("there is no %s", series)
		}
	}
}

// Labels that never repeat would fill the memory of whoever scrapes.
func TestLabelsHoldNoKeysPositionsOrIDs(t *testing.T) {
	allowed := map[string]bool{"group": true, "member": true, "table": true, "state": true, "kind": true, "version": true, "receiver": true, "goversion": true}
	for _, label := range regexp.MustCompile(`[{,]([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(scrape(t, health{}, shop()), -1) {
		if !allowed[label[1]] || strings.Contains(label[2], "01J") || strings.Contains(label[2], "0/") || strings.Contains(label[2], "50000") {
			t.Errorf("label %s has the value %s", label[1], label[2])
		}
	}
}
