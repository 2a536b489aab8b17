package evidence_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// A step of the clock explains that step. An order that was forged is seen all the same.
func TestAStepOfTheClockExplainsNoOtherTimes(t *testing.T) {
	noon := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	at := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	stop := func(at time.Time) evidence.Event {
		return evidence.Event{Type: evidence.Stop, Time: at, Data: struct{}{}}
	}
	step := func(from, to time.Time) evidence.Event { return evidence.ClockStep(from, to) }
	data := func(at time.Time, data any) evidence.Event {
		return evidence.Event{Type: evidence.ClockState, Time: at, Data: data}
	}
	for name, c := range map[string]struct {
		events []evidence.Event
		want   string // nothing: they follow on one another
	}{
		"back":                      {[]evidence.Event{stop(at(9)), step(at(9), at(1)), stop(at(1))}, ""},
		"forward":                   {[]evidence.Event{stop(at(1)), step(at(2), at(9)), stop(at(9))}, ""},
		"as older entries have it":  {[]evidence.Event{stop(at(9)), data(at(1), map[string]any{"stepped_back_ms": 8 * 3600_000}), stop(at(1))}, ""},
		"back without a word":       {[]evidence.Event{stop(at(9)), stop(at(1))}, "no clock_state tells of it"},
		"back further than is told": {[]evidence.Event{stop(at(9)), step(at(9), at(5)), stop(at(1))}, "no clock_state tells of it"},
		"from before the last one":  {[]evidence.Event{stop(at(9)), step(at(5), at(1)), stop(at(1))}, "tells of a step of the clock from 2026-06-01T17:00:00Z, but the entry that it follows is of 2026-06-01T21:00:00Z"},
		"to another time":           {[]evidence.Event{stop(at(9)), data(at(1), evidence.ClockData{From: at(9), To: at(8)}), stop(at(1))}, "and tells of a step of the clock to"},
		"from nowhere":              {[]evidence.Event{stop(at(9)), data(at(1), struct{}{}), stop(at(1))}, "tells of no step of the clock"},
		"by less, as older ones":    {[]evidence.Event{stop(at(9)), data(at(1), map[string]any{"stepped_back_ms": 3600_000}), stop(at(1))}, "tells of a step of the clock from"},
		"by less than nothing":      {[]evidence.Event{stop(at(9)), data(at(1), map[string]any{"stepped_back_ms": -1}), stop(at(1))}, "tells of no step of the clock"},
	} {
		t.Run(name, func(t *testing.T) {
			var head, follows evidence.Head
			var err error
			for _, e := range c.events {
				var sealed []byte
				if sealed, head, err = head.Seal(e); err != nil {
					t.Fatal(err)
				}
				if _, follows, err = follows.Follow(sealed); err != nil {
					break
				}
			}
			var order *evidence.OrderError
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.As(err, &order) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("it says %v, want %q", err, c.want)
			}
		})
	}
}

func TestARangeOfNoEntriesIsNotOne(t *testing.T) {
	for want, span := range map[string][2]uint64{"no entries": {0, 0}, "entry 0": {0, 1}, "entries 0 to 9": {0, 10}, "entry 7": {7, 8}} {
		if got := evidence.Span(span[0], span[1]); got != want {
			t.Errorf("%v is %q, want %q", span, got, want)
		}
	}
	if got := evidence.Span(5, 3); got != "no entries" {
		t.Errorf("it is %q", got)
	}
}
