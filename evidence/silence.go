package evidence

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Setting is one by which less may be told, or later, or to fewer: what is expected to differ, after which time it is told, who
// is told. It holds no secret.
type Setting struct {
	Group  string   `json:"group,omitempty"` // empty: of all
	What   string   `json:"what"`            // as in the configuration
	Values []string `json:"values"`
}

// SilenceChangeData tells that such a setting was changed, as it was and as it is. Both are empty where there was, or is, none.
type SilenceChangeData struct {
	What string   `json:"what"`
	Old  []string `json:"old"`
	New  []string `json:"new"`
}

// told are the settings that a start has too, so that they need no entry where nothing is known from before.
var told = []string{"lag_budget", "tables"}

// SilenceChanges tells of each setting that is not what it was. Where it is not known what was, begins is set, and those are told
// that there are.
func SilenceChanges(before, now []Setting, begins bool, at time.Time) (events []Event) {
	change := func(s Setting, old, values []string) {
		d := SilenceChangeData{What: s.What, Old: bounded(old), New: bounded(values)}
		events = append(events, Event{Type: SilenceChange, Group: s.Group, Time: at, Data: d})
	}
	find := func(list []Setting, s Setting) []string {
		if i := slices.IndexFunc(list, func(other Setting) bool { return other.Group == s.Group && other.What == s.What }); i >= 0 {
			return list[i].Values
		}
		return nil
	}
	for _, s := range now {
		old := find(before, s)
		if !slices.Equal(old, s.Values) && !(begins && slices.Contains(told, s.What)) {
			change(s, old, s.Values)
		}
	}
	for _, s := range before {
		if find(now, s) == nil && len(s.Values) > 0 {
			change(s, s.Values, nil)
		}
	}
	return events
}

// boundBytes is what the values of one side may take, so that both have room in an entry.
const boundBytes = 16 << 10

// bounded are values that have room, and the SHA-256 of all if that is not all of them.
func bounded(values []string) []string {
	list, size := []string{}, 0
	for i, v := range values {
		if size += len(v) + 4; size > boundBytes {
			sum := sha256.Sum256([]byte(strings.Join(values, "\n")))
			return append(list, fmt.Sprintf("and %d more; SHA-256 of all lines: %x", len(values)-i, sum))
		}
		list = append(list, v)
	}
	return list
}

// String tells of a change to people.
func (d SilenceChangeData) String() string {
	side := func(values []string) string {
		if len(values) == 0 {
			return "none"
		}
		return strings.Join(values, "; ")
	}
	return fmt.Sprintf("%s: was %s; is %s", d.What, side(d.Old), side(d.New))
}
