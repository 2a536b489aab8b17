package store

import (
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// clock notices when the clock of the host is set, which would make a log accuse for ever: of coverage that is missing, or of
// entries in a forged order. Its methods are called by whoever has the chain locked.
type clock struct {
	read func() (now time.Time, running time.Duration)

	now     time.Time     // when it was looked at last
	running time.Duration // and then
	looked  bool
	ahead   time.Duration // by how much more it has gone on since it was looked at before: a step that is to be recorded; 0: none
	stepped time.Duration // the last step
	at      time.Duration // and when it was noticed, by running
}

// settled is for how long after a step events may come that were made before it, and how late events come at most.
const settled = time.Minute

func hostClock() func() (time.Time, time.Duration) {
	began := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(began) // which no one sets
	}
}

// look looks whether the clock was set since it was looked at last.
func (c *clock) look() {
	now, running := c.read()
	if c.looked {
		c.ahead += now.Sub(c.now) - (running - c.running)
		if c.ahead.Abs() <= evidence.Skew {
			c.ahead = 0
		} else {
			c.stepped, c.at = c.ahead, running
		}
	}
	c.now, c.running, c.looked = now, running, true
}

// before reports whether a step is to be recorded before an event, and from when the clock stepped to the time of the event. An
// event that was made a moment ago, or by the clock of before, is given a time that follows on the last one.
func (c *clock) before(e *evidence.Event, last time.Time) (step bool, from time.Time) {
	at := e.Time.Round(0)
	if c.ahead != 0 && at.Sub(c.now).Abs() > at.Sub(c.now.Add(-c.ahead)).Abs() {
		return false, from // it was made before the step
	}
	if c.ahead != 0 {
		from = at.Add(-c.ahead)
		if from.Before(last) {
			from = last
		}
		c.ahead = 0
		return true, from
	}
	justNow := c.stepped != 0 && c.running-c.at < settled
	late, early := last.Sub(at), at.Sub(c.now)
	switch {
	case late > evidence.Skew && !last.After(c.now.Add(evidence.Skew)) && (late < settled || justNow):
		e.Time = last
	case early > evidence.Skew && justNow:
		e.Time = c.now
	}
	return false, from
}

// again is an entry that is to be sealed anew where a log ends.
func again(e *evidence.Entry, at evidence.Head, first bool) evidence.Event {
	if step, err := e.ClockStep(); first && e.Type == evidence.ClockState && err == nil && step.From.Before(at.Time) {
		return evidence.ClockStep(at.Time, e.Time) // where that is now what it follows on
	}
	return e.Event()
}
