package scan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Windows are the times of the week at which scans may run. None at all: always.
type Windows []Window

// Window is a time of the day on some days of the week, by the clock on the wall: where it is put forward for the summer,
// a window from 02:00 to 03:00 does not open on that day, and where it is put back that one is open for two hours.
type Window struct {
	Days     [7]bool // by [time.Weekday]: those on which it begins
	From, To int     // minutes since midnight, 0 to 1440; To at or before From is on the next day
}

const day = 24 * 60 // minutes

var (
	dayNames = [7]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	everyDay = [7]bool{true, true, true, true, true, true, true}
)

// ParseWindow reads 22:00-06:00, or with days Sat-Sun 00:00-24:00, or Mon,Wed-Fri 01:30-05:00. A window that ends at or
// before its beginning goes on into the next day, which need not be among the days.
func ParseWindow(text string) (Window, error) {
	w := Window{Days: everyDay}
	days, hours, both := strings.Cut(strings.TrimSpace(text), " ")
	if !both {
		days, hours = "", days
	}
	from, to, ok := strings.Cut(strings.TrimSpace(hours), "-")
	if !ok {
		return Window{}, fmt.Errorf("%q has no beginning and end", text)
	}
	var err error
	if w.From, err = parseMinute(from); err != nil {
		return Window{}, err
	}
	if w.To, err = parseMinute(to); err != nil {
		return Window{}, err
	}
	if w.From == day || w.To == 0 {
		return Window{}, fmt.Errorf("%q begins at 24:00 or ends at 00:00", text)
	}
	if w.From == w.To {
		return Window{}, fmt.Errorf("%q ends when it begins", text)
	}
	if both {
		w.Days, err = parseDays(days)
	}
	return w, err
}

// parseMinute reads hh:mm.
func parseMinute(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, errHour := strconv.ParseUint(hour, 10, 8)
	m, errMinute := strconv.ParseUint(minute, 10, 8)
	at := int(h)*60 + int(m)
	if !ok || len(hour) != 2 || len(minute) != 2 || errHour != nil || errMinute != nil || m > 59 || at > day {
		return 0, fmt.Errorf("%q is not a time of day", text)
	}
	return at, nil
}

func parseDays(text string) (days [7]bool, err error) {
	for span := range strings.SplitSeq(text, ",") {
		first, last, several := strings.Cut(span, "-")
		if !several {
			last = first
		}
		from, to := slices.Index(dayNames[:], first), slices.Index(dayNames[:], last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("%q is not a day of the week", span)
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

// String writes the window as [ParseWindow] reads it.
func (w Window) String() string {
	hours := fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
	if w.Days == everyDay {
		return hours
	}
	var days []string
	for d, on := range w.Days {
		if on {
			days = append(days, dayNames[d])
		}
	}
	return strings.Join(days, ",") + " " + hours
}

// open reports whether the window holds a minute of a day.
func (w Window) open(on time.Weekday, minute int) bool {
	today, yesterday := w.Days[on], w.Days[(on+6)%7]
	if w.From < w.To {
		return today && minute >= w.From && minute < w.To
	}
	return today && minute >= w.From || yesterday && minute < w.To
}

// Open reports whether scans may run at that time, in the time's own location.
func (ws Windows) Open(now time.Time) bool {
	on, minute := now.Weekday(), now.Hour()*60+now.Minute()
	return len(ws) == 0 || slices.ContainsFunc(ws, func(w Window) bool { return w.open(on, minute) })
}

// horizon is in how many days a window opens at the latest: one that a change of the clock leaves out opens a week later.
const horizon = 15

// Next is when scans may run next: now, if they may. The zero time: never, which only windows without days are.
func (ws Windows) Next(now time.Time) time.Time {
	end := now.AddDate(0, 0, horizon)
	for at := now; at.Before(end); at = ws.edge(at) {
		if ws.Open(at) {
			return at
		}
	}
	return time.Time{}
}

// patience is the longest wait for a window before the clock is looked at again: it may have been set.
const patience = 10 * time.Minute

// closed is the pause until a window opens.
func (ws Windows) closed(now time.Time) Pause {
	next := ws.Next(now)
	if next.IsZero() {
		return Pause{For: patience, Reason: OutsideWindow, Detail: "no window ever opens"}
	}
	return Pause{For: min(next.Sub(now), patience), Reason: OutsideWindow, Detail: "the next window opens on " + next.Format("Monday at 15:04")}
}

// Within adds up for how long scans may run between two times.
func (ws Windows) Within(from, to time.Time) time.Duration {
	if len(ws) == 0 {
		return max(to.Sub(from), 0)
	}
	var sum time.Duration
	for at := from; at.Before(to); {
		next := ws.edge(at)
		if next.After(to) {
			next = to
		}
		if ws.Open(at) {
			sum += next.Sub(at)
		}
		at = next
	}
	return sum
}

// edge is the next time after now at which a window may open or close, midnight, or the time at which the clock is
// changed: until then it runs evenly.
func (ws Windows) edge(now time.Time) time.Time {
	past := time.Duration(now.Second())*time.Second + time.Duration(now.Nanosecond()) // of this minute
	minute := now.Hour()*60 + now.Minute()
	next := day
	for _, w := range ws {
		for _, m := range []int{w.From, w.To} {
			if m > minute {
				next = min(next, m)
			}
		}
	}
	at := now.Add(time.Duration(next-minute)*time.Minute - past)
	if _, change := now.ZoneBounds(); !change.IsZero() && change.Before(at) {
		return change
	}
	return at
}
