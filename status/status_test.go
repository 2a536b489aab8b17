package status_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/status"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// What a command reads is what the API sends.
func TestGroupComesBackFromJSON(t *testing.T) {
	g := status.Group{
		Name: "shop", Reference: "eu-1", At: noon, Scans: []status.ScanProgress{{Member: "us-1", Table: "public.big", Rows: 7, OfRows: -1, Started: noon}},
		Members: []status.Member{{
			Name: "us-1", Role: "replica", Position: "0/1527148", Version: "17.1", Behind: status.Seconds(1500 * time.Millisecond), InFlight: 4,
			ScanOnly: true, ScrubWaits: "load", Errant: "0-1-5", Trouble: "connection refused", ProvenAt: status.Time{Time: noon},
			Tables: []status.Table{{
				Table: "public.orders", Verdict: status.Diverged, Reason: "why", Rows: 10, DivergentKeys: 2, Ranges: map[status.Verdict]int64{status.InStep: 3, status.Diverged: 1},
				Root: "ab", ComparedAt: status.Time{Time: noon}, VerifiedAt: status.Time{}, Fresh: 0.5, Silent: 1,
			}},
		}},
	}
	g.Complete()
	text, err := json.Marshal(&g)
	if err != nil {
		t.Fatal(err)
	}
	var back status.Group
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, back); diff != "" {
		t.Errorf("(-sent +read)\n%s", diff)
	}
}

func TestMomentThatWasNotIsNull(t *testing.T) {
	elsewhere := noon.In(time.FixedZone("", 3600))
	for at, want := range map[time.Time]string{{}: `null`, elsewhere: `"2026-07-01T12:00:00Z"`} {
		if text, err := json.Marshal(status.Time{Time: at}); err != nil || string(text) != want {
			t.Errorf("%v is %s, %v", at, text, err)
		}
	}
	var at status.Time
	if err := json.Unmarshal([]byte(`null`), &at); err != nil || !at.IsZero() {
		t.Errorf("null is %v, %v", at, err)
	}
}

func TestStateIsTheWorst(t *testing.T) {
	of := func(verdicts ...status.Verdict) status.Member {
		m := status.Member{}
		for _, v := range verdicts {
			m.Tables = append(m.Tables, status.Table{Verdict: v})
		}
		return m
	}
	cases := []struct {
		members []status.Member
		want    status.Verdict
		trusted bool
	}{
		{nil, status.Unverified, false},
		{[]status.Member{of()}, status.Unverified, false},
		{[]status.Member{of(status.InStep), of(status.InStep, status.InStep)}, status.InStep, true},
		{[]status.Member{of(status.InStep), of(status.Lagging, status.InStep)}, status.Lagging, true},
		{[]status.Member{of(status.InStep), of(status.Expected, status.Lagging)}, status.Expected, true},
		{[]status.Member{of(status.Expected), of(status.Unverified)}, status.Unverified, false},
		{[]status.Member{of(status.Expected, status.Stale)}, status.Stale, false},
		{[]status.Member{of(status.InStep), of()}, status.Unverified, false},
		{[]status.Member{of(status.Lagging), of(status.Unverified)}, status.Unverified, false},
		{[]status.Member{of(status.Stale), of(status.Unverified)}, status.Stale, false},
		{[]status.Member{of(status.Stale, status.Diverged), of(status.InStep)}, status.Diverged, false},
		{[]status.Member{of(status.InStep), of("")}, "", false},
		{[]status.Member{of("of a later version", status.Lagging)}, "of a later version", false},
		{[]status.Member{of("of a later version", status.Diverged)}, status.Diverged, false},
	}
	for _, c := range cases {
		g := status.Group{Members: c.members}
		if g.Complete(); g.State != c.want || g.State.Trusted() != c.trusted {
			t.Errorf("%+v: %q, trusted %v", c.members, g.State, g.State.Trusted())
		}
	}
}
