package audit_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// bystander is a witness that can be away.
type bystander struct {
	*witness.Server
	client witness.Client
	away   atomic.Bool
}

func newBystander(t *testing.T, name, log string) *bystander {
	t.Helper()
	w, err := witness.Open(t.TempDir(), name, []string{log}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := &bystander{Server: w}
	server := httptest.NewServer(http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		if b.away.Load() {
			http.Error(to, "out to lunch", http.StatusBadGateway)
			return
		}
		w.ServeHTTP(to, r)
	}))
	t.Cleanup(func() {
		server.Close()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := witness.ParseKey(w.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	b.client = witness.Client{URL: server.URL + "/", Key: key}
	return b
}

// by has the desk's log cosigned from now on.
func (d *desk) by(list ...*bystander) {
	d.close()
	d.witnesses = audit.Witnesses{Every: 10 * time.Millisecond}
	for _, b := range list {
		c := b.client
		d.witnesses.Of = append(d.witnesses.Of, &c)
	}
	d.open()
}

// alone has it cosigned no longer, and ends it.
func (d *desk) alone() {
	d.witnesses = audit.Witnesses{}
	d.close()
}

// cosigned waits for the cosignature of all over as many entries.
func (d *desk) cosigned(size uint64, by ...*bystander) {
	d.t.Helper()
	until(d.t.(*testing.T), "cosignatures", func() bool {
		for _, b := range by {
			c := verify.Cosigned{Size: size, By: b.client.Key.ID()}
			if _, err := os.Stat(filepath.Join(d.folder(), "log", c.Name())); err != nil {
				return false
			}
		}
		return true
	})
}

func keysOf(by ...*bystander) (keys []*witness.Key) {
	for _, b := range by {
		keys = append(keys, b.client.Key)
	}
	return keys
}

func (d *desk) note(at time.Time) {
	d.record(evidence.Event{Type: evidence.Acknowledge, Time: at, Data: evidence.AcknowledgeData{ID: "x"}})
}

// watched is a log that two have cosigned, thrice, and of which they have not seen the last entry.
func watched(t *testing.T) (*desk, []*bystander) {
	d := newDesk(t)
	list := []*bystander{newBystander(t, "example.org/w1", d.public()), newBystander(t, "example.org/w2", d.public())}
	d.by(list...)
	for n := range uint64(3) {
		d.note(time.Now())
		d.cosigned(n+2, list...)
	}
	d.alone()
	d.open()
	d.note(time.Now())
	d.close()
	return d, list
}

func TestCheckpointsAreCosigned(t *testing.T) {
	d, list := watched(t)
	r := d.verify(verify.Options{Witnesses: keysOf(list...)})
	for i, name := range []string{"example.org/w1", "example.org/w2"} {
		c := r.Checks[len(r.Checks)-2+i]
		if !r.OK() || c.Name != "entries are cosigned by "+name || !strings.Contains(c.Detail, "over entries 0 to 3, each within") || !strings.Contains(c.Detail, "none yet over 4 to 4") {
			t.Errorf("verification says %v", r.Checks)
		}
	}
	stranger := newBystander(t, "example.org/w1", d.public())
	if r := d.verify(verify.Options{Witnesses: keysOf(stranger)}); r.OK() || !strings.Contains(failures(r), "there are none") {
		t.Errorf("of a witness that has not cosigned: %v", r.Checks)
	}
	// A report of all, one that ends before the last cosignature, and one that does not begin at the beginning.
	entries := d.entries()
	for _, p := range [][2]time.Time{{entries[0].Time, time.Now().Add(time.Hour)}, {entries[0].Time, entries[2].Time.Add(time.Microsecond)}, {entries[2].Time, time.Now().Add(time.Hour)}} {
		_, files := d.export(p[0], p[1])
		if r := d.verifyArchiveBy(files, verify.Options{Witnesses: keysOf(list...)}); !r.OK() {
			t.Errorf("the report from %v to %v: %q", p[0], p[1], failures(r))
		}
		if r := d.verifyArchive(files); !r.OK() {
			t.Errorf("the report from %v to %v, without looking at cosignatures: %q", p[0], p[1], failures(r))
		}
		if r := d.verifyArchiveBy(files, verify.Options{Witnesses: keysOf(stranger)}); r.OK() {
			t.Error("a report passes that the witness has not cosigned")
		}
	}
}

func TestEveryAttackOnCosignaturesIsFound(t *testing.T) {
	d, list := watched(t)
	at := func(size uint64, by int) string {
		c := verify.Cosigned{Size: size, By: list[by].client.Key.ID()}
		return filepath.Join(d.folder(), "log", c.Name())
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.CopyFS(whole, os.DirFS(d.folder())); err != nil {
		t.Fatal(err)
	}
	for name, attack := range map[string]struct {
		change func(t *testing.T)
		want   string
	}{
		"another size":             {func(t *testing.T) { write(t, at(3, 0), content(t, at(2, 0))) }, "it is over 2 entries"},
		"of the other witness":     {func(t *testing.T) { write(t, at(3, 0), content(t, at(3, 1))) }, "has not cosigned it"},
		"only signed by the log":   {func(t *testing.T) { write(t, at(3, 0), d.checkpoint()) }, "has not cosigned it"},
		"a root that was changed":  {func(t *testing.T) { edit(t, at(3, 0), "\n3\n", "\n4\n") }, "has not cosigned it"},
		"beyond the end":           {func(t *testing.T) { _ = os.Rename(at(4, 0), at(9, 0)) }, "it is over 4 entries"},
		"all are taken away":       {func(t *testing.T) { _ = os.RemoveAll(filepath.Dir(at(3, 0))) }, "there are none"},
		"an entry that is changed": {func(t *testing.T) { d.forge() }, "is over other entries"},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			attack.change(t)
			if r := d.verify(verify.Options{Witnesses: keysOf(list[0])}); r.OK() || !strings.Contains(failures(r), attack.want) {
				t.Errorf("verification says %v", r.Checks)
			}
			_ = os.RemoveAll(d.folder())
			if err := os.CopyFS(d.folder(), os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// forge has whoever holds the key and the disk write another history, with the cosignatures of the true one.
func (d *desk) forge() {
	d.t.Helper()
	other := &desk{t: d.t, dir: d.t.TempDir()}
	if err := os.MkdirAll(other.folder(), 0o700); err != nil {
		d.t.Fatal(err)
	}
	for _, name := range []string{"log.key", "log.vkey"} {
		write(d.t.(*testing.T), filepath.Join(other.folder(), name), content(d.t.(*testing.T), filepath.Join(d.folder(), name)))
	}
	other.open()
	for range 5 {
		other.note(time.Now().Add(-time.Minute))
	}
	other.close()
	other.passes()
	honest := filepath.Join(d.folder(), "log")
	cosigned := filepath.Join(honest, verify.WitnessesDir)
	if err := os.Rename(cosigned, filepath.Join(other.folder(), "log", verify.WitnessesDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	if err := os.RemoveAll(honest); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.folder(), "log"), honest); err != nil {
		d.t.Fatal(err)
	}
}

// The log goes on while a witness is away, the others cosign, and it does when it is back.
func TestAWitnessThatIsAwayIsAskedAgain(t *testing.T) {
	d := newDesk(t)
	here, away := newBystander(t, "example.org/here", d.public()), newBystander(t, "example.org/away", d.public())
	away.away.Store(true)
	d.by(away, here)
	d.note(time.Now())
	d.cosigned(2, here)
	until(t, "a failure", func() bool { return strings.Contains(d.log.Status().Witnesses.Failed, "502 Bad Gateway") })
	away.away.Store(false)
	d.note(time.Now())
	d.cosigned(3, here, away)
	until(t, "no failure", func() bool {
		s := d.log.Status().Witnesses
		return s.Failed == "" && !s.At.IsZero()
	})
	d.alone()
	if r := d.verify(verify.Options{Witnesses: keysOf(here, away)}); !r.OK() {
		t.Errorf("verification says %v", r.Checks)
	}
}

// A log that is put back to an older state and goes on in another way is not cosigned any more.
func TestALogThatWasPutBackIsNotCosigned(t *testing.T) {
	d := newDesk(t)
	b := newBystander(t, "example.org/w", d.public())
	d.by(b)
	d.close()
	before := filepath.Join(t.TempDir(), "before")
	if err := os.CopyFS(before, os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
	d.by(b)
	d.note(time.Now())
	d.note(time.Now())
	d.cosigned(3, b)
	d.close()
	if err := os.RemoveAll(d.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(d.dir, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.note(time.Now())
	until(t, "that it was put back", func() bool {
		return strings.Contains(d.log.Status().Witnesses.Failed, "has cosigned 3 entries of this log, which has")
	})
	d.note(time.Now())
	d.note(time.Now())
	until(t, "that it is another history", func() bool { return strings.Contains(d.log.Status().Witnesses.Failed, "does not continue") })
	d.alone()
	d.passes() // it is a log all the same
}

// What the witness has not seen for days must not look as if it had.
func TestALogThatTheWitnessSeesNoLongerFails(t *testing.T) {
	for later, passes := range map[time.Duration]bool{47 * time.Hour: true, 49 * time.Hour: false} {
		d := newDesk(t)
		b := newBystander(t, "example.org/w", d.public())
		start := time.Now()
		d.by(b)
		d.note(start)
		d.cosigned(2, b)
		d.alone()
		d.open()
		d.note(start.Add(time.Minute))
		d.note(start.Add(time.Minute + later))
		d.close()
		r := d.verify(verify.Options{Witnesses: keysOf(b)})
		if r.OK() != passes || !passes && !strings.Contains(failures(r), "none is over entries 2 to 3, which go on for 49h0m0s") {
			t.Errorf("%v later: %v", later, r.Checks)
		}
	}
}
