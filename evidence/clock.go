package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ClockData tells of a step of the clock of lockstep's host: somebody has set it, or the machine slept.
type ClockData struct {
	From time.Time `json:"from"` // what it would have shown; not known after a start: of the last entry
	To   time.Time `json:"to"`   // what it showed
}

// ClockStep is the event that tells of a step.
func ClockStep(from, to time.Time) Event {
	entry := func(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) } // as entries have it
	return Event{Type: ClockState, Time: to, Data: ClockData{entry(from), entry(to)}}
}

// By is how far the clock stepped, below zero: back.
func (d ClockData) By() time.Duration { return d.To.Sub(d.From) }

const clockLayout = "2006-01-02 15:04:05Z"

func (d ClockData) String() string {
	by, way := d.By(), "forward"
	if by < 0 {
		by, way = -by, "back"
	}
	return fmt.Sprintf("%s by %v, from %s to %s", way, by.Round(time.Millisecond), d.From.UTC().Format(clockLayout), d.To.UTC().Format(clockLayout))
}

// ClockStep is the step that a clock_state tells of.
func (e *Entry) ClockStep() (d ClockData, err error) {
	var data struct {
		ClockData
		Back *int64 `json:"stepped_back_ms"` // as entries had it before they had both times
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return d, err
	}
	switch d = data.ClockData; {
	case data.Back != nil && *data.Back >= 0 && *data.Back < 1<<40:
		return ClockData{e.Time.Add(time.Duration(*data.Back) * time.Millisecond), e.Time}, nil
	case d.From.IsZero() || d.To.IsZero():
		return d, errors.New("it does not say from when to when")
	}
	return d, nil
}
