package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/store"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// desk is a store with its log, both of which can be ended and opened again.
type desk struct {
	t     testing.TB
	dir   string
	store *store.Store
	log   *audit.Log
	done  chan error
	end   context.CancelFunc

	stamps    audit.Stamps
	copies    audit.Copies
	witnesses audit.Witnesses
	clock     func() (time.Time, time.Duration) // nil: the host's
}

func newDesk(t testing.TB) *desk {
	d := &desk{t: t, dir: t.TempDir()}
	t.Cleanup(d.close)
	d.open()
	return d
}

func (d *desk) folder() string { return filepath.Join(d.dir, "audit") }

func (d *desk) open() {
	d.t.Helper()
	var err error
	if d.store, err = store.Open(filepath.Join(d.dir, "store"), store.Options{Clock: d.clock}); err != nil {
		d.t.Fatal(err)
	}
	if d.log, err = audit.Open(d.t.Context(), audit.Options{Dir: d.folder(), Origin: "example.org/lockstep", Interval: 100 * time.Millisecond, Trees: 31 * 24 * time.Hour, Stamps: d.stamps, Copies: d.copies, Witnesses: d.witnesses}, d.store); err != nil {
		d.t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithoutCancel(d.t.Context()))
	d.end, d.done = end, make(chan error, 1)
	go func() {
		beside := make(chan error)
		go func() { beside <- d.log.Stamp(ctx) }()
		go func() { beside <- d.log.Copy(ctx) }()
		go func() { beside <- d.log.Witness(ctx) }()
		d.done <- errors.Join(d.log.Run(ctx), <-beside, <-beside, <-beside)
	}()
}

func (d *desk) close() {
	if d.log == nil {
		return
	}
	d.end()
	if err := <-d.done; err != nil {
		d.t.Error(err)
	}
	if err := d.log.Close(); err != nil {
		d.t.Error(err)
	}
	if err := d.store.Close(); err != nil {
		d.t.Error(err)
	}
	d.log = nil
}

func (d *desk) record(events ...evidence.Event) {
	d.t.Helper()
	if err := d.store.Record(events...); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) verify(o verify.Options) *verify.Result {
	d.t.Helper()
	if o.Key == "" {
		o.Key = d.public()
	}
	r, err := verify.Log(d.t.Context(), filepath.Join(d.folder(), "log"), o)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// entries are those of the log.
func (d *desk) entries() (list []*evidence.Entry) {
	d.verify(verify.Options{Each: func(e *evidence.Entry, _ []byte) { list = append(list, e) }})
	return list
}

// passes has the log pass, of which it returns the result.
func (d *desk) passes() *verify.Result {
	d.t.Helper()
	r := d.verify(verify.Options{})
	for _, c := range r.Checks {
		if !c.OK {
			d.t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	return r
}

func (d *desk) checkpoint() []byte {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.folder(), "log", "checkpoint"))
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// day is what a day of one group leaves, an hour after the other.
func day(from time.Time) []evidence.Event {
	at := func(m int) time.Time { return from.Add(time.Duration(m) * time.Minute) }
	events := []evidence.Event{{Type: evidence.Start, Time: at(0), Data: evidence.StartData{
		Lockstep: "test", Groups: []evidence.GroupData{{Name: "shop", Every: 3600}},
	}}}
	for hour := range 24 {
		events = append(events, evidence.Event{Type: evidence.Coverage, Group: "shop", Time: at(60*hour + 1), Data: evidence.CoverageData{
			Member: "us-1", Role: "replica", Position: fmt.Sprintf("0/%X", hour), Every: 3600,
			Tables: []evidence.TableData{{Table: "public.orders", Verdict: "in_step", Rows: 10, Ranges: map[string]int{"in_step": 1}}},
		}})
		if hour == 7 {
			d := evidence.DivergenceData{
				ID: "01J" + from.Format("0201"), Table: "public.orders", Member: "us-1", Kind: "changed", Cause: "apply", Keys: 1,
				Ranges: []evidence.RangeData{{First: "hmac-sha256:00", Last: "hmac-sha256:01", Changed: 1}}, RangesTotal: 1,
				Transaction: "0/1A2B3C", FirstSeen: at(60*hour + 9), ConfirmedAt: at(60*hour + 10),
			}
			events = append(events, evidence.Event{Type: evidence.DivergenceOpen, Group: "shop", Time: at(60*hour + 10), Data: d})
			resolved := at(60*hour + 20)
			d.ResolvedAt = &resolved
			events = append(events, evidence.Event{Type: evidence.DivergenceResolve, Group: "shop", Time: resolved, Data: d})
		}
	}
	return append(events, evidence.Event{Type: evidence.Stop, Time: at(23*60 + 30), Data: struct{}{}})
}

func TestWhatIsRecordedIsInTheLogInItsOrder(t *testing.T) {
	d := newDesk(t)
	for n := range 3 {
		for _, e := range day(time.Now().Add(time.Duration(n) * 24 * time.Hour)) {
			d.record(e)
		}
		d.close()
		d.open()
	}
	d.close()
	r := d.passes()
	want := map[evidence.Type]uint{evidence.LogStart: 1, evidence.Start: 3, evidence.Stop: 3, evidence.Coverage: 72, evidence.DivergenceOpen: 3, evidence.DivergenceResolve: 3}
	if fmt.Sprint(r.Counts) != fmt.Sprint(want) || r.Size != 85 {
		t.Errorf("log of %d entries: %v, want %v", r.Size, r.Counts, want)
	}
	info, err := os.Stat(filepath.Join(d.folder(), "log.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key that signs: %v %v", info.Mode(), err)
	}
}

// Whatever is done to a log afterwards, verification fails and says where.
func TestEveryAttackOnALogIsFound(t *testing.T) {
	d := newDesk(t)
	for n := range 20 { // more entries than a file holds
		d.record(day(time.Now().Add(time.Duration(n) * 24 * time.Hour))...)
	}
	d.close()
	first := d.checkpoint()
	d.open()
	d.record(day(time.Now().Add(20 * 24 * time.Hour))...)
	d.close()
	r := d.passes()
	if !d.verify(verify.Options{Seen: first}).OK() {
		t.Error("a log that has grown does not pass beside the checkpoint from before")
	}
	log := filepath.Join(d.folder(), "log")
	last := r.Size - 1
	for _, attack := range []struct {
		name   string
		change func(t *testing.T, log string)
		want   string
	}{
		{"a byte of an entry", func(t *testing.T, log string) {
			edit(t, filepath.Join(log, "tile/entries/000"), `"us-1"`, `"us-2"`)
		}, "entry 2 is not the one that tile 0 of level 0 is about"},
		{"a byte of a tile", func(t *testing.T, log string) {
			path := filepath.Join(log, "tile/0/000")
			b := content(t, path)
			b[5*32+7] ^= 1
			write(t, path, b)
		}, "entry 5 is not the one that tile 0 of level 0 is about"},
		{"a missing file of entries", func(t *testing.T, log string) {
			if err := os.Remove(filepath.Join(log, "tile/entries/000")); err != nil {
				t.Fatal(err)
			}
		}, "entries from 0 on cannot be read"},
		{"an entry less", func(t *testing.T, log string) {
			entries(t, filepath.Join(log, "tile/entries/000"), func(list [][]byte) [][]byte { return slices.Delete(list, 9, 10) })
		}, "entry 255 is missing: its file holds 255 entries of 256"},
		{"two entries in the other order", func(t *testing.T, log string) {
			entries(t, filepath.Join(log, "tile/entries/000"), func(list [][]byte) [][]byte {
				list[9], list[10] = list[10], list[9]
				return list
			})
		}, "entry 9 is not the one that tile 0 of level 0 is about"},
		{"a back-dated entry", func(t *testing.T, log string) {
			entries(t, filepath.Join(log, "tile/entries/000"), func(list [][]byte) [][]byte {
				list[30] = bytes.Replace(list[30], []byte(`"time":"20`), []byte(`"time":"19`), 1)
				return list
			})
		}, "entry 30 is not the one that tile 0 of level 0 is about"},
		{"a log cut short, with its older checkpoint", func(t *testing.T, log string) {
			write(t, filepath.Join(log, "checkpoint"), first)
		}, "are gone"},
		{"another root in the checkpoint", func(t *testing.T, log string) {
			b := bytes.Split(content(t, filepath.Join(log, "checkpoint")), []byte("\n"))
			b[2] = []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
			write(t, filepath.Join(log, "checkpoint"), bytes.Join(b, []byte("\n")))
		}, "no checkpoint that example.org/lockstep has signed"},
		{"no checkpoint", func(t *testing.T, log string) {
			if err := os.Remove(filepath.Join(log, "checkpoint")); err != nil {
				t.Fatal(err)
			}
		}, "there is none"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "log")
			if err := os.CopyFS(copied, os.DirFS(log)); err != nil {
				t.Fatal(err)
			}
			attack.change(t, copied)
			public, err := audit.PublicKey(d.folder())
			if err != nil {
				t.Fatal(err)
			}
			r, err := verify.Log(t.Context(), copied, verify.Options{Key: public, Seen: d.checkpoint()})
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() || !strings.Contains(failures(r), attack.want) {
				t.Errorf("verification says %q, want %q", failures(r), attack.want)
			}
		})
	}
	t.Logf("%d entries", last+1)
}

// Somebody with the key, who writes another log from the beginning, has another root for what was seen before.
func TestAForkIsFound(t *testing.T) {
	d := newDesk(t)
	d.record(day(noon)...)
	d.close()
	seen := d.checkpoint()
	for _, gone := range []string{"store", "audit/log"} {
		if err := os.RemoveAll(filepath.Join(d.dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	d.open()
	d.record(slices.Delete(day(noon), 3, 4)...)
	d.record(day(noon)...)
	d.close()
	if r := d.verify(verify.Options{Seen: seen}); !strings.Contains(failures(r), "the log has forked") {
		t.Errorf("verification says %q", failures(r))
	}
}

// What the entries tell must fit together too, whoever has signed them.
func TestAStoryThatDoesNotFitIsFound(t *testing.T) {
	index := func(want evidence.Type, nth int) int {
		for i, e := range day(noon) {
			if e.Type == want {
				if nth--; nth < 0 {
					return i
				}
			}
		}
		return -1
	}
	for name, c := range map[string]struct {
		events []evidence.Event
		want   string
	}{
		"an interval of coverage is missing": {slices.Delete(day(noon), index(evidence.Coverage, 5), index(evidence.Coverage, 5)+1), "coverage is missing before it"},
		"the last ones are missing":          {slices.Delete(day(noon), index(evidence.Coverage, 20), index(evidence.Coverage, 23)+1), "coverage is missing before it"},
		"a divergence is resolved only":      {slices.Delete(day(noon), index(evidence.DivergenceOpen, 0), index(evidence.DivergenceOpen, 0)+1), "is about divergence 01J0106, which is not open"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.record(c.events...)
			d.close()
			if r := d.verify(verify.Options{}); !strings.Contains(failures(r), c.want) {
				t.Errorf("verification says %q, want %q", failures(r), c.want)
			}
		})
	}
}

// A clock that steps back is recorded as what it is.
func TestAClockThatStepsBackIsRecorded(t *testing.T) {
	d := newDesk(t)
	later := time.Now().Add(time.Hour)
	d.record(evidence.Event{Type: evidence.Stop, Time: later, Data: struct{}{}})
	d.record(evidence.Event{Type: evidence.Stop, Time: later.Add(-30 * time.Minute), Data: struct{}{}})
	d.close()
	if r := d.passes(); r.Counts[evidence.ClockState] != 1 {
		t.Errorf("recorded was %v", r.Counts)
	}
}

// A log does not go on over a time for which it was switched off.
func TestALogThatWasSwitchedOffIsSucceeded(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	d.close()
	for range 2 {
		s, err := store.Open(filepath.Join(d.dir, "store"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.PauseEvidence(), s.Record(note(1)), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	d.open()
	if !d.log.Fresh() {
		t.Error("the log goes on")
	}
	d.record(note(2))
	d.close()
	d.open()
	d.close()
	if r := d.passes(); r.Size != 2 || !strings.Contains(string(content(t, entryFile(t, d))), "switched off for a time") {
		t.Errorf("the log has %d entries: %v", r.Size, r.Counts)
	}
}

// A store and a log that do not belong together, since one was restored: the log goes on or another begins, which says so.
func TestALogThatDoesNotBelongToTheStoreIsSucceeded(t *testing.T) {
	for _, c := range []struct {
		name, restored string
		size           uint64 // of the log then
		previous       string
	}{
		{"an older store", "store", 1 + 2*28 + 3, "the store is older than the log"},
		{"an older log", "audit/log", 2, "it ends before entry 29"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.record(day(time.Now())...)
			d.close()
			path, backup := filepath.Join(d.dir, c.restored), filepath.Join(t.TempDir(), "backup")
			if err := os.CopyFS(backup, os.DirFS(path)); err != nil {
				t.Fatal(err)
			}
			d.open()
			d.record(day(time.Now().Add(24 * time.Hour))...)
			d.close()
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(path, os.DirFS(backup)); err != nil {
				t.Fatal(err)
			}
			before := d.checkpoint()
			d.open()
			d.close()
			d.open()
			d.record(evidence.Event{Type: evidence.Stop, Time: time.Now().Add(48 * time.Hour), Data: struct{}{}})
			d.close()
			r := d.passes()
			if r.Size != c.size || r.Counts[evidence.LogStart] == 0 {
				t.Errorf("the log has %d entries: %v, want %d", r.Size, r.Counts, c.size)
			}
			if text := string(content(t, entryFile(t, d))); !strings.Contains(text, c.previous) {
				t.Errorf("the log does not say %q", c.previous)
			}
			if c.restored != "store" && !strings.Contains(string(content(t, entryFile(t, d))), strings.Split(string(before), "\n")[2]) {
				t.Error("the new log does not name the last checkpoint of the old one")
			}
		})
	}
}

func entryFile(t *testing.T, d *desk) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.folder(), "log/tile/entries/000.p/*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no entries", err)
	}
	newest := files[0]
	for _, f := range files {
		if len(content(t, f)) > len(content(t, newest)) {
			newest = f
		}
	}
	return newest
}

func failures(r *verify.Result) string {
	var list []string
	for _, c := range r.Checks {
		if !c.OK {
			list = append(list, c.Name+": "+c.Detail)
		}
	}
	return strings.Join(list, "\n")
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path, old, replacement string) {
	t.Helper()
	b := content(t, path)
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%s does not say %s", path, old)
	}
	write(t, path, bytes.Replace(b, []byte(old), []byte(replacement), 1))
}

// entries rewrites a file of entries, each of which has its length before it.
func entries(t *testing.T, path string, change func([][]byte) [][]byte) {
	t.Helper()
	var list [][]byte
	for b := content(t, path); len(b) > 0; {
		n := 2 + int(b[0])<<8 + int(b[1])
		list = append(list, b[2:n])
		b = b[n:]
	}
	var out []byte
	for _, e := range change(list) {
		out = append(append(out, byte(len(e)>>8), byte(len(e))), e...)
	}
	write(t, path, out)
}
