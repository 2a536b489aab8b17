package status

import (
	"encoding/json"
	"math"
	"time"
)

// Time is a moment, or null in JSON where it is zero.
type Time struct{ time.Time }

// MarshalJSON implements [json.Marshaler]. The promoted UnmarshalJSON leaves null zero.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.UTC().MarshalJSON()
}

// Seconds is a time that is a number of seconds in JSON.
type Seconds time.Duration

// Seconds returns it as a number.
func (s Seconds) Seconds() float64 { return time.Duration(s).Seconds() }

// MarshalJSON implements [json.Marshaler].
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(s.Seconds()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var seconds float64
	err := json.Unmarshal(b, &seconds)
	*s = Seconds(math.Round(seconds * float64(time.Second)))
	return err
}
