package duty_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

// record runs a duty in virtual time for so long. It returns when it was done, since the start, by what do says of each time.
func record(t *testing.T, d *duty.Duty, long time.Duration, do func(n int) (time.Duration, error)) (at []time.Duration) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		began := time.Now()
		d.Do = func(context.Context) (time.Duration, error) {
			at = append(at, time.Since(began))
			return do(len(at))
		}
		if err := d.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ends with %v", err)
		}
	})
	return at
}

func seconds(list ...int) (all []time.Duration) {
	for _, n := range list {
		all = append(all, time.Duration(n)*time.Second)
	}
	return all
}

var errBusy = errors.New("busy")

func TestDutyIsDoneAtItsTimes(t *testing.T) {
	fail := func(times ...int) func(int) (time.Duration, error) {
		return func(n int) (time.Duration, error) {
			if slices.Contains(times, n) {
				return 0, errBusy
			}
			return 0, nil
		}
	}
	cases := []struct {
		name string
		duty *duty.Duty
		do   func(int) (time.Duration, error)
		want []time.Duration
		runs duty.Runs
	}{
		{"at once, and again and again", &duty.Duty{Every: 10 * time.Second}, fail(), seconds(0, 10, 20), duty.Runs{OK: 3}},
		{"first after a while", &duty.Duty{First: 5 * time.Second, Every: 10 * time.Second}, fail(), seconds(5, 15, 25), duty.Runs{OK: 3}},
		{"a failure is no reason to hurry", &duty.Duty{Every: 10 * time.Second}, fail(1, 2), seconds(0, 10, 20), duty.Runs{OK: 1, Failed: 2}},
		{"a failure is tried again", &duty.Duty{Every: 10 * time.Second, Retry: 4 * time.Second}, fail(1, 2), seconds(0, 4, 8, 18, 28), duty.Runs{OK: 3, Failed: 2}},
		{"with longer and longer pauses", &duty.Duty{Every: 10 * time.Second, Retry: time.Second, Longest: 5 * time.Second}, fail(1, 2, 3, 4, 5), seconds(0, 1, 3, 7, 12, 17, 27), duty.Runs{OK: 2, Failed: 5}},
		{"which begin anew after a success", &duty.Duty{Every: 10 * time.Second, Retry: time.Second, Longest: 8 * time.Second}, fail(1, 2, 4, 5), seconds(0, 1, 3, 13, 14, 16, 26), duty.Runs{OK: 3, Failed: 4}},
		{"what it says goes before", &duty.Duty{Every: 10 * time.Second, Retry: time.Second}, func(n int) (time.Duration, error) {
			switch n {
			case 1:
				return 3 * time.Second, nil
			case 2:
				return 7 * time.Second, errBusy
			}
			return 0, nil
		}, seconds(0, 3, 10, 20), duty.Runs{OK: 3, Failed: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			at := record(t, c.duty, 29*time.Second, c.do)
			if diff := cmp.Diff(c.want, at); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if runs := c.duty.Runs(); runs != c.runs {
				t.Errorf("it counts %+v, and not %+v", runs, c.runs)
			}
		})
	}
}

// Run's wait begins when the last time has ended: what is slow is not done more often for it.
func TestEveryIsFromTheEndOfTheLastTime(t *testing.T) {
	at := record(t, &duty.Duty{Every: 10 * time.Second}, 40*time.Second, func(int) (time.Duration, error) {
		<-time.After(5 * time.Second)
		return 0, nil
	})
	if diff := cmp.Diff(seconds(0, 15, 30), at); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMoreToDoIsDoneAtOnce(t *testing.T) {
	at := record(t, &duty.Duty{Every: time.Minute}, time.Second, func(n int) (time.Duration, error) {
		if n < 3 {
			return duty.AtOnce, nil
		}
		return 0, nil
	})
	if len(at) != 3 {
		t.Errorf("it was done at %v", at)
	}
}

// A stream that has been read for an hour and breaks is not a stream that cannot be read.
func TestFailureAfterALongTimeIsAFirstOne(t *testing.T) {
	var retries []time.Duration
	d := &duty.Duty{Retry: time.Second, Longest: 8 * time.Second, Failed: func(err error, retry time.Duration) {
		if !errors.Is(err, errBusy) {
			t.Errorf("it failed with %v", err)
		}
		retries = append(retries, retry)
	}}
	record(t, d, 2*time.Minute, func(n int) (time.Duration, error) {
		switch {
		case n == 4:
			<-time.After(17 * time.Second)
		case n == 6:
			<-time.After(16 * time.Second)
		case n == 8:
			<-time.After(time.Hour)
		}
		return 0, errBusy
	})
	if diff := cmp.Diff(seconds(1, 2, 4, 1, 2, 4, 8), retries); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A stream that was open for 15 seconds after a pause of 12.8 had the longest one after it. One that ends as soon as it is open is not
// tried more often for it.
func TestFailureAfterItWentWellForLongerThanThePauseBeforeIsAFirstOne(t *testing.T) {
	var retries []time.Duration
	var well time.Duration
	d := &duty.Duty{Retry: 200 * time.Millisecond, Longest: 15 * time.Second, Went: func() time.Duration { return well }}
	d.Failed = func(_ error, retry time.Duration) { retries = append(retries, retry) }
	went := map[int]time.Duration{
		4: 900 * time.Millisecond,  // after a pause of 0.8 s
		6: 3100 * time.Millisecond, // of 3.2 s
		8: 13 * time.Second,        // of 12.8 s
		9: time.Second,             // of 0.2 s
	}
	record(t, d, time.Minute, func(n int) (time.Duration, error) {
		well = went[n]
		<-time.After(well)
		return 0, errBusy
	})
	const ms = time.Millisecond
	want := []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 200 * ms, 400 * ms}
	if diff := cmp.Diff(want, retries[:min(len(retries), len(want))]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhoAsksNeedNotWait(t *testing.T) {
	var asked chan struct{}
	d := &duty.Duty{Every: 10 * time.Second, Pause: 2 * time.Second}
	at := record(t, d, 29*time.Second, func(n int) (time.Duration, error) {
		switch n {
		case 1: // at 0: nobody asks until 4
			asked = make(chan struct{}, 1) // of the bubble
			d.Asked = asked
			time.AfterFunc(4*time.Second, func() { asked <- struct{}{} })
		case 2: // at 4: asked at once, which is too soon
			asked <- struct{}{}
		}
		return 0, nil
	})
	if diff := cmp.Diff(seconds(0, 4, 6, 16, 26), at); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// However it waits, the end of the context ends it, and what fails because of that is no failure.
func TestDutyEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{}, 1)
	asked <- struct{}{}
	cases := map[string]*duty.Duty{
		"before it was ever done":    {First: time.Hour},
		"between two times":          {Every: time.Hour},
		"asked, and too soon":        {Every: time.Hour, Asked: asked, Pause: time.Hour},
		"while it has more and more": {Every: duty.AtOnce},
		"while it does it": {Every: time.Hour, Do: func(ctx context.Context) (time.Duration, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}},
	}
	for name, d := range cases {
		t.Run(name, func(t *testing.T) {
			if d.Do == nil {
				d.Do = func(context.Context) (time.Duration, error) { return 0, nil }
			}
			d.Failed = func(err error, _ time.Duration) { t.Errorf("it failed with %v", err) }
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if err := d.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it ends with %v", err)
			}
			if n := d.Runs().Failed; n != 0 {
				t.Errorf("it counts %d failures", n)
			}
		})
	}
}

// What panics would do so again: the process goes on, and it is tried ever less often. Other failures have pauses of their own.
func TestPanicIsAFailureThatIsTriedEverLessOften(t *testing.T) {
	var said []string
	d := &duty.Duty{Every: 250 * time.Millisecond, Panicked: func(e *fault.Error) { said = append(said, e.Value) }}
	at := record(t, d, 20*time.Second, func(n int) (time.Duration, error) {
		switch n {
		case 1, 2, 3, 4, 7:
			panic("broken")
		case 6:
			return 0, errBusy
		}
		return 0, nil
	})
	const ms = time.Millisecond
	want := []time.Duration{0, 1000 * ms, 3000 * ms, 7000 * ms, 15000 * ms, 15250 * ms, 15500 * ms, 16500 * ms, 16750 * ms}
	if diff := cmp.Diff(want, at[:min(len(at), len(want))]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r := d.Runs(); r.Panicked != 5 || r.Failed != 6 || len(said) != 5 || said[0] != "broken" {
		t.Errorf("it counts %+v, and tells of %q", r, said)
	}
}
