package scan

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func TestWindowsAreReadAsTheyAreWritten(t *testing.T) {
	tests := []struct{ text, want, problem string }{
		{"22:00-06:00", "22:00-06:00", ""},
		{"00:00-24:00", "00:00-24:00", ""},
		{"Sat-Sun 00:00-24:00", "Sun,Sat 00:00-24:00", ""},
		{"Fri-Mon 22:30-04:15", "Sun,Mon,Fri,Sat 22:30-04:15", ""},
		{"Mon,Wed-Thu  01:00-05:00", "Mon,Wed,Thu 01:00-05:00", ""},
		{"Sun-Sat 01:00-05:00", "01:00-05:00", ""},
		{"Sat 22:00-06:00", "Sat 22:00-06:00", ""},
		{"", "", `"" has no beginning and end`},
		{"Sat", "", `"Sat" has no beginning and end`},
		{"22-6", "", `"22" is not a time of day`},
		{"22:00-6:00", "", `"6:00" is not a time of day`},
		{"22:00-+6:00", "", `"+6:00" is not a time of day`},
		{"22:60-23:00", "", `"22:60" is not a time of day`},
		{"22:00-24:01", "", `"24:01" is not a time of day`},
		{"24:00-06:00", "", `"24:00-06:00" begins at 24:00 or ends at 00:00`},
		{"22:00-00:00", "", `"22:00-00:00" begins at 24:00 or ends at 00:00`},
		{"06:00-06:00", "", `"06:00-06:00" ends when it begins`},
		{"sat 00:00-24:00", "", `"sat" is not a day of the week`},
		{"Sat-Son 00:00-24:00", "", `"Sat-Son" is not a day of the week`},
		{"Sat, Sun 00:00-24:00", "", `"Sun 00:00" is not a time of day`},
	}
	for _, test := range tests {
		w, err := ParseWindow(test.text)
		if test.problem != "" {
			if err == nil || err.Error() != test.problem {
				t.Errorf("%q: error %v, want %s", test.text, err, test.problem)
			}
			continue
		}
		if err != nil || w.String() != test.want {
			t.Errorf("%q: %v, %v", test.text, w, err)
		}
	}
}

func windows(t *testing.T, texts ...string) (ws Windows) {
	t.Helper()
	for _, text := range texts {
		w, err := ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, w)
	}
	return ws
}

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWindowsOpenByTheClockOnTheWall(t *testing.T) {
	const layout = "2006-01-02 15:04 MST"
	berlin := zone(t, "Europe/Berlin")
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.In(berlin)
	}
	tests := []struct {
		name, windows, now, next string
		open                     time.Duration // within the 24 hours from now
	}{
		{"before", "22:00-06:00", "2026-11-23T12:00:00Z", "2026-11-23 22:00 CET", 8 * time.Hour},
		{"inside", "22:00-06:00", "2026-11-23T23:30:00Z", "2026-11-24 00:30 CET", 8 * time.Hour},
		{"seconds before the end", "22:00-06:00", "2026-11-23T04:59:59Z", "2026-11-23 05:59 CET", 8 * time.Hour},
		{"the end is outside", "22:00-06:00", "2026-11-23T05:00:00Z", "2026-11-23 22:00 CET", 8 * time.Hour},
		{"a day of the week", "Sat 01:00-02:00", "2026-11-23T12:00:00Z", "2026-11-28 01:00 CET", 0},
		{"over midnight into a day that is not listed", "Sun 22:00-06:00", "2026-11-23T02:00:00Z", "2026-11-23 03:00 CET", 3 * time.Hour},
		{"not into a listed day from one that is not", "Mon 22:00-06:00", "2026-11-23T02:00:00Z", "2026-11-23 22:00 CET", 5 * time.Hour},
		{"the hour that spring leaves out", "Sun 02:00-03:00", "2026-03-28T12:00:00Z", "2026-04-05 02:00 CEST", 0},
		{"half of it is left", "02:30-03:30", "2026-03-28T23:00:00Z", "2026-03-29 03:00 CEST", 30 * time.Minute},
		{"the hour that autumn has twice", "02:00-03:00", "2026-10-24T12:00:00Z", "2026-10-25 02:00 CEST", 2 * time.Hour},
	}
	for _, test := range tests {
		ws, now := windows(t, test.windows), at(test.now)
		next := ws.Next(now)
		if got := next.Format(layout); got != test.next || !ws.Open(next) || ws.Open(now) != next.Equal(now) {
			t.Errorf("%s: next at %s, want %s; open now: %t", test.name, got, test.next, ws.Open(now))
		}
		if got := ws.Within(now, now.Add(24*time.Hour)); got != test.open {
			t.Errorf("%s: open for %v of a day, want %v", test.name, got, test.open)
		}
	}
}

func TestNoWindowsAreAlwaysOpen(t *testing.T) {
	now := time.Unix(1e9, 0)
	var ws Windows
	if !ws.Open(now) || !ws.Next(now).Equal(now) || ws.Within(now, now.Add(time.Hour)) != time.Hour || ws.Within(now, now.Add(-1)) != 0 {
		t.Error("no windows are not always open")
	}
	if never := (Windows{{From: 60, To: 120}}); !never.Next(now).IsZero() || never.closed(now).For != patience {
		t.Error("a window without days opens")
	}
}

// TestWindowsAgreeWithLookingEveryMinute holds what is computed from edges against a look at each minute, in zones that
// change their clocks by an hour, by half an hour, and not at all.
func TestWindowsAgreeWithLookingEveryMinute(t *testing.T) {
	zones := []*time.Location{zone(t, "America/New_York"), zone(t, "Australia/Lord_Howe"), time.UTC}
	starts := []string{"2026-03-07T20:00:00Z", "2026-04-04T10:00:00Z", "2026-10-03T12:00:00Z", "2026-10-31T20:00:00Z"}
	rapid.Check(t, func(t *rapid.T) {
		start, _ := time.Parse(time.RFC3339, rapid.SampledFrom(starts).Draw(t, "start"))
		now := start.Add(time.Duration(rapid.IntRange(0, 24*3600).Draw(t, "seconds")) * time.Second).In(rapid.SampledFrom(zones).Draw(t, "zone"))
		ws := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Window {
			w := Window{From: rapid.IntRange(0, day-1).Draw(t, "from"), To: rapid.IntRange(1, day).Draw(t, "to")}
			for d := range w.Days {
				w.Days[d] = rapid.IntRange(0, 3).Draw(t, "day") > 0
			}
			return w
		}), 1, 3).Draw(t, "windows")
		until := now.Add(time.Duration(rapid.IntRange(0, 48*60).Draw(t, "minutes")) * time.Minute)
		next, open := time.Time{}, time.Duration(0)
		for at := now; at.Before(until); {
			then := at.Truncate(time.Minute).Add(time.Minute)
			if Windows(ws).Open(at) {
				open += then.Sub(at)
				if then.After(until) {
					open -= then.Sub(until)
				}
				if next.IsZero() {
					next = at
				}
			}
			at = then
		}
		if got := Windows(ws).Within(now, until); got != open {
			t.Fatalf("%v from %v to %v: open for %v, want %v", ws, now, until, got, open)
		}
		if got := Windows(ws).Next(now); !next.IsZero() && !got.Equal(next) || next.IsZero() && !got.IsZero() && got.Before(until) {
			t.Fatalf("%v at %v: next %v, want %v", ws, now, got, next)
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	for _, seed := range []string{"22:00-06:00", "Sat-Sun 00:00-24:00", "Mon,Wed-Fri 01:30-05:00", "-", " - "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") && !strings.Contains(text, "\n") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if again, err := ParseWindow(w.String()); err != nil || again != w {
			t.Errorf("%q is %v, which is read as %v, %v", text, w, again, err)
		}
		if (Windows{w}).Next(time.Unix(1e9, 0).UTC()).IsZero() {
			t.Errorf("%q never opens", text)
		}
	})
}
