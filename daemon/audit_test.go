package daemon_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/monitor"
)

const audited = "audit: {every: 1m, origin: example.org/lockstep}\n"

// verifyLog has the audit log pass, which nobody writes any more, and returns the result and all entries.
func verifyLog(t *testing.T, c interface{ Configuration() *config.Config }) (*verify.Result, []*evidence.Entry) {
	t.Helper()
	dir := daemon.AuditDir(c.Configuration())
	public, err := audit.PublicKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	var entries []*evidence.Entry
	r, err := verify.Log(t.Context(), filepath.Join(dir, "log"), verify.Options{Key: public, Each: func(e *evidence.Entry, _ []byte) { entries = append(entries, e) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range r.Checks {
		if !check.OK {
			t.Errorf("%s: %s", check.Name, check.Detail)
		}
	}
	return r, entries
}

// coverages counts the entries of coverage in a log that may be written to meanwhile.
func coverages(t *testing.T, c servers) int {
	t.Helper()
	dir := daemon.AuditDir(c.Configuration())
	public, err := audit.PublicKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Log(t.Context(), filepath.Join(dir, "log"), verify.Options{Key: public})
	if err != nil {
		t.Fatal(err)
	}
	return int(r.Counts[evidence.Coverage])
}

// provenOffline holds a proof against the public key alone.
func provenOffline(t *testing.T, c *cluster.Cluster, proof *verify.RangeProof) {
	t.Helper()
	key, err := audit.PublicKey(daemon.AuditDir(c.Configuration()))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(proof)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "proof.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := verify.Range(file, verify.Options{Key: key})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Errorf("the proof of %s: %v", proof.Table, err)
	}
}

// What auditors need is recorded as it happens: what was covered, what was found and what became of it, when it could not be
// known, when lockstep ran and by which configuration.
func TestWhatHappensIsRecordedForAuditors(t *testing.T) {
	const leastGap = time.Second
	c := startCluster(t, cluster.Options{Schema: oneTable, Extra: audited, LagBudget: time.Second})
	every := c.Config.Audit.Every
	c.Config.Audit.Every = 200 * time.Millisecond
	w := &watch{t: t, c: c, tune: func(o *monitor.Options) { o.Evidence.LeastGap = leastGap }}
	w.start()
	rounds := func(n uint64) { // of coverage of three members
		from := w.daemon.Audit().Size
		w.until("more coverage", func() bool { return w.daemon.Audit().Size >= from+3*n })
	}
	w.exec("eu-1", items(1, 10))
	w.inStep()
	w.exec("us-1", "UPDATE items SET price = 99 WHERE id IN (3, 4)")
	w.finds(`us-1 public.items changed errant_transaction {"id":3}..{"id":4}`)
	id := w.open()[0].ID
	if d, err := w.daemon.Groups()[0].Acknowledge(t.Context(), id, finding.Acknowledgement{By: "ann", Ticket: "OPS-1"}); err != nil || d == nil {
		t.Fatal(d, err)
	}
	if d := w.open()[0]; d.Acknowledged == nil || d.Acknowledged.Ticket != "OPS-1" {
		t.Errorf("the divergence is acknowledged by %+v", d.Acknowledged)
	}
	rounds(2)
	w.exec("us-1", "UPDATE items SET price = id % 7 WHERE id = 3")
	w.finds(`us-1 public.items changed errant_transaction {"id":4}..{"id":4}`)
	rounds(4) // what became of it is recorded once
	w.stop()
	w.start()
	rounds(4) // and once more after a start
	w.until("us-2 to be in step", func() bool { return w.table("us-2", "public.items").Verdict == "in_step" })
	stopped := time.Now()
	if err := c.Member("us-2").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("us-2 to be unverified", func() bool { return w.table("us-2", "public.items").Verdict == "unverified" })
	unknown := time.Now()
	w.until("that to be a gap", func() bool { return time.Since(unknown) > 2*leastGap })
	if err := c.Member("us-2").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec("us-1", "UPDATE items SET price = id % 7 WHERE id = 4")
	w.finds()
	w.inStep()
	w.stop()

	// Another configuration. The first coverage may have come before the first scan of a table; here it has all trees.
	c.Config.Audit.Every, c.Config.SHA256 = every, "another"
	c.Config.Groups[0].Tables.Exclude = []string{"public.other"}
	for range 2 {
		before := coverages(t, c)
		w.start()
		w.until("coverage of 3 members", func() bool { return coverages(t, c) == before+3 })
		w.stop()
	}
	r, entries := verifyLog(t, c)
	for kind, want := range map[evidence.Type]uint{
		evidence.LogStart: 1, evidence.Start: 4, evidence.Stop: 4, evidence.DivergenceOpen: 1, evidence.DivergenceUpdate: 2, evidence.DivergenceResolve: 1,
		evidence.Acknowledge: 1, evidence.ConfigChange: 1, evidence.ScopeChange: 1,
	} {
		if r.Counts[kind] != want {
			t.Errorf("%d entries of %s, want %d: %v", r.Counts[kind], kind, want, r.Counts)
		}
	}
	proveCoverage(t, c, entries)
	gaps, covered := make(map[evidence.Type]int), make(map[string]bool)
	for i, e := range entries {
		switch e.Type {
		case evidence.DivergenceOpen:
			var d evidence.DivergenceData
			decode(t, e, &d)
			if d.Keys != 2 || d.Member != "us-1" || d.Transaction == "" || len(d.Ranges) != 1 || !strings.HasPrefix(d.Ranges[0].First, "hmac-sha256:") || strings.Contains(string(e.Data), `"id\"`) {
				t.Errorf("recorded was %s", e.Data)
			}
		case evidence.DivergenceUpdate:
			if !strings.Contains(string(e.Data), `"keys":1,`) {
				t.Errorf("recorded was %s", e.Data)
			}
		case evidence.GapOpen, evidence.GapClose:
			var d evidence.GapData
			decode(t, e, &d)
			if e.Type == evidence.GapClose && d.Until.Sub(d.Since) < leastGap {
				t.Errorf("recorded was %s", e.Data)
			}
			if d.Member == "us-2" && d.Since.After(stopped) && d.Since.Before(unknown) {
				gaps[e.Type]++
			}
		case evidence.Coverage:
			var d evidence.CoverageData
			decode(t, e, &d)
			switch { // at first it is not known which tables there are
			case len(d.Tables) == 0 && !covered[d.Member]:
			case len(d.Tables) != 1 || d.Tables[0].Table != "public.items":
				t.Errorf("recorded was %s", e.Data)
			default:
				covered[d.Member] = true
			}
		case evidence.ScopeChange:
			if string(e.Data) != `{"added":["group shop: but no tables public.other"],"removed":[]}` || entries[i+1].Type != evidence.Start {
				t.Errorf("recorded was %s, and then %s", e.Data, entries[i+1].Type)
			}
		}
	}
	if gaps[evidence.GapOpen] != 1 || gaps[evidence.GapClose] != 1 {
		t.Errorf("of the time without us-2 was recorded %v", gaps)
	}
}

func decode(t *testing.T, e *evidence.Entry, into any) {
	t.Helper()
	if err := json.Unmarshal(e.Data, into); err != nil {
		t.Fatalf("recorded was %s: %v", e.Data, err)
	}
}

// proveCoverage proves rows by the coverage of three members that was recorded since the last start.
func proveCoverage(t *testing.T, c *cluster.Cluster, entries []*evidence.Entry) {
	t.Helper()
	proven := 0
	for i := len(entries) - 1; entries[i].Type != evidence.Start; i-- {
		e := entries[i]
		if e.Type != evidence.Coverage {
			continue
		}
		proven++
		covered, err := audit.ReadCovered(t.Context(), daemon.AuditDir(c.Configuration()), e.Seq, "public.items")
		if err != nil {
			t.Error(err)
			continue
		}
		proof, err := covered.Prove(0)
		if err != nil || proof.Rows != covered.Table.Rows {
			t.Errorf("entry %d is of %d rows, and proven is %+v (%v)", e.Seq, covered.Table.Rows, proof, err)
			continue
		}
		provenOffline(t, c, proof)
	}
	if proven != 3 {
		t.Errorf("the coverage of %d members was proven, want 3", proven)
	}
}
