package audit_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/tsa"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// stampedDesk is a log that is time-stamped whenever there is something new, thrice.
func stampedDesk(t *testing.T, a *dbtest.Authority) *desk {
	d := newDesk(t)
	d.close()
	d.stamps = audit.Stamps{URL: a.Serve(), Roots: a.Roots(), Every: 10 * time.Millisecond}
	d.open()
	for n := range 3 {
		d.record(evidence.Event{Type: evidence.Acknowledge, Time: time.Now(), Data: evidence.AcknowledgeData{ID: "x"}})
		until(t, "a stamp", func() bool {
			list, err := verify.Stamps(filepath.Join(d.folder(), "log"))
			return err == nil && len(list) > n && list[len(list)-1].Size == uint64(n+2)
		})
	}
	if s := d.log.Status().Stamps; s == nil || s.At.IsZero() || s.Failed != "" {
		t.Errorf("the log says %+v", s)
	}
	d.record(evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}})
	return d
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestCheckpointsAreTimeStamped(t *testing.T) {
	a := dbtest.NewAuthority(t, "good", "sha256")
	d := stampedDesk(t, a)
	d.stamps = audit.Stamps{}
	d.close()
	trusted := a.Roots()
	r := d.verify(verify.Options{Authorities: trusted})
	last := r.Checks[len(r.Checks)-1]
	if !r.OK() || last.Name != "time-stamps are the authority's" || !strings.Contains(last.Detail, "over entries 0 to 3, each within") || !strings.Contains(last.Detail, "none yet over 4 to 4") {
		t.Errorf("verification says %v", r.Checks)
	}
	if r := d.verify(verify.Options{Authorities: dbtest.NewAuthority(t, "good", "sha256").Roots()}); r.OK() {
		t.Error("stamps of another authority pass")
	}
	// The documented way without lockstep.
	name := filepath.Join(d.folder(), "log", "timestamps", "00000000000000000004")
	if out := a.OpenSSL("ts", "-verify", "-in", name+".tsr", "-data", name+".checkpoint", "-CAfile", "root.pem"); !strings.Contains(out, "Verification: OK") {
		t.Errorf("openssl says %s", out)
	}
	// A report of all, and one that ends before the last stamp.
	entries := d.entries()
	for _, to := range []time.Time{time.Now().Add(time.Hour), entries[2].Time.Add(time.Microsecond)} {
		_, files := d.export(entries[0].Time, to)
		if r := d.verifyArchiveBy(files, verify.Options{Authorities: trusted}); !r.OK() {
			t.Errorf("the report up to %v: %q", to, failures(r))
		}
		if r := d.verifyArchive(files); !r.OK() {
			t.Errorf("the report up to %v, without looking at stamps: %q", to, failures(r))
		}
	}
}

func TestEveryAttackOnTimeStampsIsFound(t *testing.T) {
	a := dbtest.NewAuthority(t, "good", "sha256")
	d := stampedDesk(t, a)
	d.stamps = audit.Stamps{}
	d.close()
	trusted := a.Roots()
	dir := filepath.Join(d.folder(), "log", "timestamps")
	second, third := filepath.Join(dir, "00000000000000000003"), filepath.Join(dir, "00000000000000000004")
	keep := map[string][]byte{}
	for _, name := range []string{second + ".tsr", second + ".checkpoint", third + ".tsr", third + ".checkpoint"} {
		keep[name] = content(t, name)
	}
	for name, attack := range map[string]struct {
		change func(t *testing.T)
		want   string
	}{
		"the reply of another":      {func(t *testing.T) { write(t, second+".tsr", keep[third+".tsr"]) }, "timestamps/00000000000000000003: the time-stamp is of something else"},
		"another root":              {func(t *testing.T) { edit(t, second+".checkpoint", "\n3\n", "\n2\n") }, "is of something else"},
		"a pair under another name": {func(t *testing.T) { write(t, third+".checkpoint", nil) }, "is of something else"},
		"a reply that is none":      {func(t *testing.T) { write(t, third+".tsr", []byte("x")) }, "no time-stamp"},
	} {
		t.Run(name, func(t *testing.T) {
			attack.change(t)
			d.t = t
			if r := d.verify(verify.Options{Authorities: trusted}); r.OK() || !strings.Contains(failures(r), attack.want) {
				t.Errorf("verification says %v", r.Checks)
			}
			for name, b := range keep {
				write(t, name, b)
			}
		})
	}
	// A stamp, rightly made, over another history.
	d.t = t
	forged := []byte("example.org/lockstep\n3\n" + strings.Repeat("A", 43) + "=\n\n— x y\n")
	reply, _, err := (&tsa.Authority{URL: a.Serve()}).Stamp(t.Context(), forged)
	if err != nil {
		t.Fatal(err)
	}
	write(t, second+".checkpoint", forged)
	write(t, second+".tsr", reply)
	if r := d.verify(verify.Options{Authorities: trusted}); r.OK() || !strings.Contains(failures(r), "is over other entries: it has another root than the first 3") {
		t.Errorf("verification says %v", r.Checks)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if r := d.verify(verify.Options{Authorities: trusted}); r.OK() || !strings.Contains(failures(r), "there are none") {
		t.Errorf("verification says %v", r.Checks)
	}
}

// An entry cannot say that it is of a later time than the stamp over it.
func TestAnEntryThatIsPostDatedIsFound(t *testing.T) {
	a := dbtest.NewAuthority(t, "good", "sha256")
	d := newDesk(t)
	d.close()
	d.stamps = audit.Stamps{URL: a.Serve(), Every: 10 * time.Millisecond}
	d.open()
	d.record(evidence.Event{Type: evidence.Stop, Time: time.Now().Add(time.Hour), Data: struct{}{}})
	until(t, "a stamp", func() bool {
		list, err := verify.Stamps(filepath.Join(d.folder(), "log"))
		return err == nil && len(list) > 0 && list[len(list)-1].Size == 2
	})
	d.close()
	if r := d.verify(verify.Options{Authorities: a.Roots()}); r.OK() || !strings.Contains(failures(r), "entry 1 says that it is of ") {
		t.Errorf("verification says %v", r.Checks)
	}
}

// An authority that does not answer is asked again, and the log goes on.
func TestAnAuthorityThatIsAwayIsAskedAgain(t *testing.T) {
	d := newDesk(t)
	d.close()
	d.stamps = audit.Stamps{URL: "http://127.0.0.1:1/tsr", Every: 10 * time.Millisecond}
	d.open()
	until(t, "a failure", func() bool { return strings.Contains(d.log.Status().Stamps.Failed, "connection refused") })
	d.record(evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}})
	until(t, "the entry", func() bool { return d.log.Status().Size == 2 })
	d.close()
	d.passes()
}
