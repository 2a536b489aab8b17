package audit_test

import (
	"bytes"
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
	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

// Entries were given to a queue of which a timer may write a part from a goroutine of its own, and on a busy machine entry
// 12704 overtook entry 12663. However long it takes to give them, none is written before the last one is given.
func TestEntriesAreWrittenOnceAllAreGiven(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 256} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			folder := t.TempDir() // is removed once what writes to it has ended, with the bubble
			bubble.Test(t, func(t *testing.T) {
				var log audit.Appender
				var base, given uint64
				log, err := audit.OpenAppender(t.Context(), folder, func() {
					time.Sleep(time.Second) // of the bubble: as a goroutine that gets no processor
					given++
					// The last one goes by itself, behind all others.
					if size := sizeOf(t, log); given < n-1 && size != base {
						t.Fatalf("%d entries are in the log when %d of %d are given", size-base, given, n)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				entries := slices.Repeat([][]byte{[]byte("entry")}, int(n))
				for range 3 {
					if err := log.Append(t.Context(), base, entries); err != nil {
						t.Fatal(err)
					}
					base, given = base+n, 0
				}
				if size := sizeOf(t, log); size != 3*n {
					t.Errorf("the log has %d entries, want %d", size, 3*n)
				}
				log.Abandon()
			})
		})
	}
}

func sizeOf(t *testing.T, log audit.Appender) uint64 {
	t.Helper()
	size, err := log.Size(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// write adds entries to the desk's log behind its back.
func (d *desk) write(entries ...[]byte) {
	d.t.Helper()
	log, err := audit.OpenAppender(d.t.Context(), d.folder(), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	size, err := log.Size(d.t.Context())
	if err == nil {
		err = log.Append(d.t.Context(), size, entries)
	}
	if err == nil {
		err = log.Close(d.t.Context())
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// succeeded has the log pass that took the place of another, which lies beside it and whose last checkpoint it names.
func (d *desk) succeeded(reason string) *verify.Result {
	d.t.Helper()
	aside, err := filepath.Glob(filepath.Join(d.folder(), "log.2*"))
	if err != nil || len(aside) != 1 {
		d.t.Fatalf("logs that were put aside: %q %v", aside, err)
	}
	first := d.entries()[0]
	root := strings.Split(string(content(d.t, filepath.Join(aside[0], "checkpoint"))), "\n")[2]
	for _, want := range []string{reason, filepath.Base(aside[0]), root} {
		if !bytes.Contains(first.Data, []byte(want)) {
			d.t.Errorf("the new log does not name %q: %s", want, first.Data)
		}
	}
	return d.passes()
}

// opened is a divergence, of which day has the end too.
func opened(at time.Time) evidence.Event {
	return evidence.Event{Type: evidence.DivergenceOpen, Group: "shop", Time: at, Data: evidence.DivergenceData{ID: "01JX", Table: "public.orders", Member: "us-1"}}
}

func resolved(at time.Time) evidence.Event {
	e := opened(at)
	e.Type = evidence.DivergenceResolve
	return e
}

// A log that has an entry elsewhere than at its number can never be verified again. It is put aside when that is read first.
func TestALogOutOfOrderIsPutAsideAtTheStart(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	d.record(opened(time.Now().Add(24 * time.Hour)))
	d.close()
	var all [][]byte
	d.verify(verify.Options{Each: func(_ *evidence.Entry, sealed []byte) { all = append(all, sealed) }})
	for _, gone := range []string{"log", "log.followed"} { // as versions left it that did not look
		if err := os.RemoveAll(filepath.Join(d.folder(), gone)); err != nil {
			t.Fatal(err)
		}
	}
	all[12], all[13] = all[13], all[12]
	d.write(all...)
	d.open()
	if n := d.log.Status().Aside; n != 1 {
		t.Errorf("%d logs were put aside", n)
	}
	d.record(resolved(time.Now().Add(25 * time.Hour)))
	d.close()
	if r := d.succeeded("entry 12 says that it is number 13"); r.Counts[evidence.DivergenceResolve] != 1 {
		t.Errorf("the new log has %v", r.Counts)
	}
	d.open() // which does not put it aside once more
	d.close()
	d.succeeded("entry 12 says that it is number 13")
}

// An entry that somebody else has added shows with the next one that is.
func TestALogOutOfOrderIsPutAsideWhileItIsWritten(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	d.record(opened(time.Now().Add(24 * time.Hour)))
	size := uint64(len(day(noon)) + 2)
	d.until("the log to have all entries", func() bool { return d.log.Status().Size == size })
	d.write([]byte("of somebody else"))
	for n := range 700 {
		d.record(note(n))
	}
	d.record(resolved(time.Now().Add(25 * time.Hour)))
	d.until("another log to begin", func() bool { s := d.log.Status(); return s.Aside == 1 && s.Failed == "" })
	d.close()
	if r := d.succeeded(fmt.Sprintf("entry %d became number %d of the log", size, size+1)); r.Counts[evidence.Stop] < 699 || r.Counts[evidence.DivergenceResolve] != 1 {
		t.Errorf("the new log has %v", r.Counts)
	}
}

// BenchmarkAppend has many entries wait for the log.
func BenchmarkAppend(b *testing.B) {
	const waiting = 5000
	for b.Loop() {
		d := newDesk(b)
		d.close()
		d.open()
		var events []evidence.Event
		for n := range waiting {
			events = append(events, note(n))
		}
		began := time.Now()
		d.record(events...)
		d.until("the log to have all entries", func() bool { return d.log.Status().Size >= waiting })
		b.ReportMetric(float64(time.Since(began).Milliseconds())/waiting, "ms/entry")
		d.close()
	}
}
