package status_test

import (
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/status"
)

// A loop that stood still for 83 seconds had its last words served as true all that time.
func TestWhatWasSaidLongAgoIsUnverified(t *testing.T) {
	said := status.Clocks{Wall: noon, Running: time.Hour}
	g := &status.Group{Name: "shop", At: noon, Said: said, Members: []status.Member{{Name: "us-1", Tables: []status.Table{
		{Table: "a", Verdict: status.InStep, Ranges: map[status.Verdict]int64{status.InStep: 3, status.Lagging: 1}},
		{Table: "b", Verdict: status.Diverged, Reason: "being read", Ranges: map[status.Verdict]int64{status.Diverged: 1, status.InStep: 1}},
	}}}}
	g.Complete()
	for name, c := range map[string]struct {
		wall, running time.Duration
		stale         bool
		age           time.Duration
	}{
		"a moment ago":         {time.Second, time.Second, false, time.Second},
		"the loop stands":      {83 * time.Second, 83 * time.Second, true, 83 * time.Second},
		"the machine slept":    {time.Hour, time.Second, true, time.Hour},
		"the clock was put on": {10 * time.Second, time.Second, true, 10 * time.Second},
		"the clock was back":   {-time.Hour, time.Second, true, time.Second},
		"time servers tune it": {1500 * time.Millisecond, time.Second, false, 1500 * time.Millisecond},
	} {
		now := g.AsOf(status.Clocks{Wall: noon.Add(c.wall), Running: said.Running + c.running}, true)
		if (now.Stale != "") != c.stale || now.Age != status.Seconds(c.age) || now.Still != c.running {
			t.Errorf("%s: stale %q, age %v, still for %v", name, now.Stale, now.Age, now.Still)
		}
		a, b := now.Members[0].Tables[0], now.Members[0].Tables[1]
		if a.Verdict.Trusted() == c.stale || b.Verdict != status.Diverged || b.Reason != "being read" || (a.Reason != "") != c.stale {
			t.Errorf("%s: a is %s (%s), b is %s (%s)", name, a.Verdict, a.Reason, b.Verdict, b.Reason)
		}
		if c.stale && (a.Ranges[status.Unverified] != 4 || b.Ranges[status.Diverged] != 1 || b.Ranges[status.InStep] != 0) {
			t.Errorf("%s: ranges are %v and %v", name, a.Ranges, b.Ranges)
		}
	}
	if was := g.Members[0].Tables[0]; was.Verdict != status.InStep || was.Ranges[status.InStep] != 3 {
		t.Errorf("what was said is %v now", was)
	}
}

func TestAGroupThatDoesNotRunDoesNotStandStill(t *testing.T) {
	g := &status.Group{Said: status.Clocks{Wall: noon}}
	if now := g.AsOf(status.Clocks{Wall: noon.Add(time.Hour), Running: time.Hour}, false); now.Still != 0 || now.Looping || now.Stale == "" {
		t.Errorf("before its first round it stands for %v, stale: %q", now.Still, now.Stale)
	}
}
