package scan

import (
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

func TestScanWaitsForOthers(t *testing.T) {
	tests := []struct {
		name    string
		load    Load
		rolling Reason
		urgent  Reason
		detail  string
	}{
		{"nothing", Load{}, Going, Going, ""},
		{"lag within the limit", Load{ReplicaLag: 10 * time.Second}, Going, Going, ""},
		{"lag over it", Load{ReplicaLag: 11 * time.Second, Laggard: "us-1"}, ReplicaLag, ReplicaLag, "replica us-1 is 11s behind, more than 10s"},
		{"some statements", Load{Server: cdc.Pressure{Running: 25}}, Going, Going, ""},
		{"too many", Load{Server: cdc.Pressure{Running: 26}}, ServerLoad, ServerLoad, "the server runs 26 statements, more than 25"},
		{"held rows that hurt", Load{Server: cdc.Pressure{Held: 100, ManyHeld: 100, Oldest: 90 * time.Minute}}, LongTransactions, Going,
			"the server keeps the old rows of 100 transactions, 100 or more; its oldest transaction is open for 1h30m0s"},
		{"held rows, by nobody knows whom", Load{Server: cdc.Pressure{Held: 100, ManyHeld: 100}}, LongTransactions, Going,
			"the server keeps the old rows of 100 transactions, 100 or more"},
		{"held rows that do not", Load{Server: cdc.Pressure{Held: 99, ManyHeld: 100}}, Going, Going, ""},
		{"an old transaction that holds little", Load{Server: cdc.Pressure{Oldest: 72 * time.Hour, ManyHeld: 100}}, Going, Going, ""},
		{"a server that tells nothing", Load{Server: cdc.Pressure{Notes: []string{"no right"}}}, Going, Going, ""},
		{"our own store", Load{StoreBehind: true, ReplicaLag: time.Hour}, StoreBehind, StoreBehind, "lockstep's own store is behind the change streams"},
	}
	for _, test := range tests {
		for u, want := range map[Urgency]Reason{Rolling: test.rolling, Urgent: test.urgent} {
			b := brake{maxLag: DefaultMaxReplicaLag}
			p := b.judge(time.Unix(1e9, 0), u, test.load)
			if p.Reason != want || want != Going && p.Detail != test.detail || (p.For > 0) != (want != Going) {
				t.Errorf("%s: %+v, want %v", test.name, p, want)
			}
		}
	}
}

// TestBusyServerIsScannedOnceItIsKnownToBeBusy: a server that always runs 60 statements is left alone at first, and then
// only when it runs more than twice as many.
func TestBusyServerIsScannedOnceItIsKnownToBeBusy(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := brake{maxLag: time.Second}
	runs := func(n int) Pause { return b.judge(now, Rolling, Load{Server: cdc.Pressure{Running: n}}) }
	waited := time.Duration(0)
	for p := runs(60); p.Reason == ServerLoad && waited < 24*time.Hour; p = runs(60) {
		waited += p.For
		now = now.Add(p.For)
	}
	if waited < 30*time.Minute || waited > 2*time.Hour {
		t.Errorf("waited %v", waited)
	}
	for range 24 * 60 {
		now = now.Add(time.Minute)
		if p := runs(60); p.Reason != Going {
			t.Fatalf("%+v", p)
		}
	}
	if p := runs(119); p.Reason != Going {
		t.Errorf("%+v", p)
	}
	if p := runs(121); p.Reason != ServerLoad {
		t.Errorf("%+v", p)
	}
	now = now.Add(1000 * time.Hour) // nobody looked, and one look is no habit
	runs(0)
	if p := runs(100); p.Reason != Going {
		t.Errorf("%+v", p)
	}
}

func TestReasonsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		text, err := r.MarshalText()
		if err != nil || len(text) == 0 || seen[string(text)] || string(text) == "unknown" {
			t.Errorf("%d is %q, %v", r, text, err)
		}
		seen[string(text)] = true
	}
	if len(seen) != 6 || Going.String() != "going" || Reason(200).String() != "unknown" {
		t.Errorf("%v", seen)
	}
}
