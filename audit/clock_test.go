package audit_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// hand is a clock that people set.
type hand struct {
	now     time.Time
	running time.Duration
}

func (h *hand) goOn(d time.Duration) { h.now, h.running = h.now.Add(d), h.running+d }

// clocked is a desk whose clock is set by hand.
func clocked(t testing.TB) (*desk, *hand) {
	h := &hand{now: time.Now()}
	d := &desk{t: t, dir: t.TempDir(), clock: func() (time.Time, time.Duration) { return h.now, h.running }}
	t.Cleanup(d.close)
	d.open()
	return d, h
}

const threeDays = 72 * time.Hour

func (d *desk) begins(at time.Time) {
	d.record(evidence.Event{Type: evidence.Start, Time: at, Data: evidence.StartData{Groups: []evidence.GroupData{{Name: "shop", Every: 3600}}}})
}

func (d *desk) covers(at time.Time) {
	d.record(evidence.Event{Type: evidence.Coverage, Group: "shop", Time: at, Data: evidence.CoverageData{
		Member: "us-1", Role: "replica", Every: 3600, Tables: []evidence.TableData{{Table: "public.orders", Verdict: "in_step"}},
	}})
}

func (d *desk) stops(at time.Time) {
	d.record(evidence.Event{Type: evidence.Stop, Time: at, Data: struct{}{}})
}

func told(r *verify.Result) string {
	i := slices.IndexFunc(r.Checks, func(c verify.Check) bool { return c.Name == "steps of the clock are recorded" })
	if i < 0 {
		return ""
	}
	return r.Checks[i].Detail
}

// Somebody sets the clock, days back or days forward. A log was accused for ever after that: of coverage that is missing.
func TestAClockThatIsSetIsExplainedAndAccusesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		steps []time.Duration
		want  []string
	}{
		"days forward":          {[]time.Duration{threeDays}, []string{"forward by 72h0m0s, from "}},
		"days back":             {[]time.Duration{-threeDays}, []string{"back by 72h0m0s, from "}},
		"there and back":        {[]time.Duration{threeDays, -threeDays}, []string{"forward by 72h0m0s", "back by 72h0m0s"}},
		"back and there":        {[]time.Duration{-threeDays, threeDays}, []string{"back by 72h0m0s", "forward by 72h0m0s"}},
		"by a minute, often":    {slices.Repeat([]time.Duration{time.Minute}, 7), []string{"and 2 more"}},
		"by less than a second": {[]time.Duration{500 * time.Millisecond, -900 * time.Millisecond}, nil},
		"not at all":            {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d, clock := clocked(t)
			d.begins(clock.now)
			for _, step := range append(c.steps, 0) {
				for range 3 {
					clock.goOn(time.Hour)
					d.covers(clock.now)
				}
				clock.now = clock.now.Add(step)
			}
			clock.goOn(time.Minute)
			d.stops(clock.now)
			d.close()
			r := d.passes()
			if said := told(r); (said == "") != (c.want == nil) {
				t.Errorf("it says of the clock %q", said)
			}
			for _, want := range c.want {
				if said := told(r); !strings.Contains(said, want) {
					t.Errorf("it says of the clock %q, want %q", said, want)
				}
			}
			steps := 0
			for _, step := range c.steps {
				if step.Abs() > evidence.Skew {
					steps++
				}
			}
			if n := int(r.Counts[evidence.ClockState]); n != steps {
				t.Errorf("%d entries tell of %d steps", n, steps)
			}
		})
	}
}

// A step explains itself, and no coverage that is missing beside it, on whichever side.
func TestAClockThatIsSetHidesNoHole(t *testing.T) {
	for _, step := range []time.Duration{threeDays, -threeDays} {
		for _, hole := range []string{"before", "after"} {
			t.Run(fmt.Sprint(step, " ", hole), func(t *testing.T) {
				d, clock := clocked(t)
				d.begins(clock.now)
				clock.goOn(time.Hour)
				d.covers(clock.now)
				if hole == "before" {
					clock.goOn(4 * time.Hour)
				}
				clock.now = clock.now.Add(step)
				if hole == "after" {
					clock.goOn(4 * time.Hour)
				}
				clock.goOn(time.Hour)
				d.covers(clock.now)
				d.close()
				if r := d.verify(verify.Options{}); !strings.Contains(failures(r), "coverage is missing before it") || told(r) == "" {
					t.Errorf("verification says %v", r.Checks)
				}
			})
		}
	}
}

// What was made before the clock was set is recorded after it, and what waited a little for its commit is no step of the clock.
func TestAnEventThatComesLateIsNoStepOfTheClock(t *testing.T) {
	for _, step := range []time.Duration{0, threeDays, -threeDays} {
		for _, first := range []string{"late", "new"} {
			t.Run(fmt.Sprint(step, " ", first), func(t *testing.T) {
				d, clock := clocked(t)
				d.begins(clock.now)
				for range 3 {
					clock.goOn(time.Hour)
					d.covers(clock.now)
				}
				clock.goOn(time.Hour)
				late := clock.now
				clock.now = clock.now.Add(step)
				clock.goOn(5 * time.Second)
				if first == "new" {
					d.stops(clock.now)
					d.begins(clock.now)
				}
				d.covers(late)
				if first == "late" {
					clock.goOn(time.Second)
					d.stops(clock.now)
				}
				d.close()
				r, want := d.passes(), uint(1)
				if step == 0 {
					want = 0
				}
				if r.Counts[evidence.ClockState] != want {
					t.Errorf("it says of the clock %q", told(r))
				}
			})
		}
	}
}

// While lockstep did not run nobody knows how the clock went; that it went back is seen.
func TestAClockThatIsSetWhileLockstepDoesNotRunIsNoForgery(t *testing.T) {
	for _, step := range []time.Duration{threeDays, -threeDays} {
		d, clock := clocked(t)
		d.begins(clock.now)
		clock.goOn(time.Hour)
		d.covers(clock.now)
		d.close()
		clock.now, clock.running = clock.now.Add(step), 0
		d.open()
		d.begins(clock.now)
		clock.goOn(time.Hour)
		d.covers(clock.now)
		d.close()
		if r := d.passes(); (step < 0) != strings.Contains(told(r), "back by 7") {
			t.Errorf("after %v it says of the clock %q", step, told(r))
		}
	}
}

// What a clock that was ahead has written is of a later time than a witness's that has cosigned it.
func TestAClockThatWasAheadIsExplainedToWitnesses(t *testing.T) {
	d := newDesk(t)
	w := newBystander(t, "example.org/w", d.public())
	d.by(w)
	d.note(time.Now())
	d.note(time.Now().Add(threeDays))
	d.cosigned(3, w)
	if r := d.verify(verify.Options{Witnesses: keysOf(w)}); !strings.Contains(failures(r), "entry 2 says that it is of") {
		t.Errorf("before it is put right: %v", r.Checks)
	}
	d.note(time.Now())
	d.cosigned(5, w)
	d.alone()
	d.close()
	if r := d.verify(verify.Options{Witnesses: keysOf(w)}); !r.OK() || !strings.Contains(told(r), "entry 3: back by 7") {
		t.Errorf("after it was put right: %v", r.Checks)
	}
}

// A report of a time in which the clock was set has all entries of it, and figures of the time that passed.
func TestAReportOverAStepOfTheClock(t *testing.T) {
	for _, step := range []time.Duration{threeDays, -threeDays} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			d, clock := clocked(t)
			clock.goOn(time.Minute)
			begin := clock.now
			d.begins(clock.now)
			clock.goOn(time.Minute)
			d.covers(clock.now)
			found := evidence.DivergenceData{ID: "01J", Table: "public.orders", Member: "us-1", FirstSeen: clock.now, ConfirmedAt: clock.now}
			d.record(evidence.Event{Type: evidence.DivergenceOpen, Group: "shop", Time: clock.now, Data: found})
			clock.goOn(30 * time.Minute)
			clock.now = clock.now.Add(step)
			clock.goOn(29 * time.Minute)
			resolved := clock.now
			found.ResolvedAt = &resolved
			d.record(evidence.Event{Type: evidence.DivergenceResolve, Group: "shop", Time: clock.now, Data: found})
			d.covers(clock.now)
			for range 5 {
				clock.goOn(time.Hour)
				d.covers(clock.now)
			}
			d.stops(clock.now)
			end := clock.now.Add(time.Minute)
			if end.Before(begin) {
				begin, end = resolved.Add(-time.Minute), begin.Add(2*time.Minute)
			}
			d.close()
			r, files := d.export(begin, end)
			if v := d.verifyArchive(files); !v.OK() || told(v) == "" {
				t.Errorf("verification says %v", v.Checks)
			}
			m := r.Members[0]
			if ran := r.Ran(); ran != 6*time.Hour || m.Intervals != 7 || m.Expected != 7 {
				t.Errorf("it ran for %v, with %d of %d records", ran, m.Intervals, m.Expected)
			}
			if took := r.Resolution(); took.Max != 59*time.Minute {
				t.Errorf("it was open for %v", took.Max)
			}
			if !bytes.Contains(files["changes.csv"], []byte("the clock of the monitor's host stepped")) {
				t.Errorf("changes are %s", files["changes.csv"])
			}
		})
	}
}

// A period to which the clock came back was refused.
func TestAReportOfAPeriodThatTheClockCameBackTo(t *testing.T) {
	d, clock := clocked(t)
	begin := clock.now
	d.begins(clock.now)
	for _, step := range []time.Duration{threeDays, -threeDays, 0} {
		clock.goOn(time.Hour)
		d.covers(clock.now)
		clock.now = clock.now.Add(step)
	}
	d.stops(clock.now)
	d.close()
	r, files := d.export(begin, begin.Add(24*time.Hour))
	if v := d.verifyArchive(files); !v.OK() || v.Counts[evidence.ClockState] != 2 || v.Counts[evidence.Coverage] != 3 || r.Ran() != 3*time.Hour {
		t.Errorf("of %v it says %v, and ran for %v", v.Counts, v.Checks, r.Ran())
	}
}
