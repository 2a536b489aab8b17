// Package duty does something again and again until a context ends, and counts how it went.
package duty

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/fault"
)

// Duty is something that is to be done again and again. It is done by one goroutine, that of Run, and must not be copied.
type Duty struct {
	Name  string
	First time.Duration // until it is done for the first time; 0: at once
	Every time.Duration // from the end of one time to the next
	// Retry is the same after a failure, Every if it is 0. With Longest, each failure in a row doubles it up to that. One that
	// comes after twice the longest is the first of a new row: so long it went well.
	Retry, Longest time.Duration
	// Went, if set, says for how long it went well the last time, before it failed. Longer than the pause before that, and than a
	// second, it is the first of a new row, too; what fails at once is not.
	Went func() time.Duration
	// Asked has it done before its time, but not within Pause of the last. nil: nobody asks.
	Asked <-chan struct{}
	Pause time.Duration
	// Do does it. It may say how long to wait until the next time, also after a failure; 0: as above.
	Do func(context.Context) (next time.Duration, err error)
	// Failed, if set, is told why it was not done and when that is tried again. What fails because the context ended is
	// no failure.
	Failed func(err error, retry time.Duration)
	// Panicked, if set, is told of a panic, which is a failure too.
	Panicked func(*fault.Error)

	ok, failed, panicked atomic.Int64
}

// A duty that panics would in all likelihood do so at once again. It waits, twice as long each time in a row.
const (
	firstPause = time.Second
	lastPause  = 10 * time.Minute
)

// leastWell is for how long something goes well at least that is no failure at its beginning.
const leastWell = time.Second

// AtOnce is the wait of a duty that has more to do.
const AtOnce = time.Nanosecond

// Runs is how often a duty was done, and how often it failed, since the start.
type Runs struct {
	Name                 string
	OK, Failed, Panicked int64 // what panicked has failed, too
}

// Runs may be called from any goroutine.
func (d *Duty) Runs() Runs { return Runs{d.Name, d.ok.Load(), d.failed.Load(), d.panicked.Load()} }

// Run does it until ctx ends, and returns ctx's error.
func (d *Duty) Run(ctx context.Context) error {
	var last time.Time
	wait, retry, pause := d.First, d.retry(), firstPause
	for d.await(ctx, wait, last) {
		began := time.Now()
		next, err := d.do(ctx)
		last = time.Now()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			d.ok.Add(1)
			wait, retry, pause = cmp.Or(next, d.Every), d.retry(), firstPause
			continue
		case last.Sub(began) > 2*d.Longest, d.Went != nil && d.Went() > max(wait, leastWell):
			retry = d.retry()
		}
		if last.Sub(began) > 2*lastPause {
			pause = firstPause
		}
		d.failed.Add(1)
		wait, retry = cmp.Or(next, retry), min(2*retry, max(retry, d.Longest))
		if fault.Caught(err) != nil {
			wait, pause = max(wait, pause), min(2*pause, lastPause)
		}
		if d.Failed != nil {
			d.Failed(err, wait)
		}
	}
	return ctx.Err()
}

// do does it once.
func (d *Duty) do(ctx context.Context) (next time.Duration, err error) {
	err = fault.Catch(func() (err error) {
		next, err = d.Do(ctx)
		return err
	})
	if p := fault.Caught(err); p != nil {
		d.panicked.Add(1)
		if d.Panicked != nil {
			d.Panicked(p)
		}
	}
	return next, err
}

func (d *Duty) retry() time.Duration { return cmp.Or(d.Retry, d.Every) }

// await waits until it is time, or somebody asks. It reports false once ctx has ended.
func (d *Duty) await(ctx context.Context, wait time.Duration, last time.Time) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	case <-d.Asked:
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d.Pause - time.Since(last)):
		return true
	}
}
