package report_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/evidence"
)

func at(m float64) time.Time { return noon.Add(time.Duration(m * float64(time.Minute))) }

func begins(m float64) evidence.Event {
	g := evidence.GroupData{Name: "shop", Reference: "eu", Members: []evidence.MemberData{{Name: "eu"}, {Name: "us"}}, Every: 600}
	return evidence.Event{Type: evidence.Start, Time: at(m), Data: evidence.StartData{Groups: []evidence.GroupData{g}}}
}

func stops(m float64) evidence.Event {
	return evidence.Event{Type: evidence.Stop, Time: at(m), Data: struct{}{}}
}

// covers is coverage of a member of a table, or of none if there is no verdict.
func covers(m float64, member, verdict string) evidence.Event {
	d := evidence.CoverageData{Member: member, Role: "replica", Every: 600, Tables: []evidence.TableData{}}
	if member == "eu" {
		d.Role = "reference"
	}
	if verdict != "" {
		d.Tables = append(d.Tables, evidence.TableData{Table: "public.t", Verdict: verdict})
	}
	return evidence.Event{Type: evidence.Coverage, Group: "shop", Time: at(m), Data: d}
}

// all is coverage of both members each ten minutes.
func all(eu, us string) (events []evidence.Event) {
	for m := 0.5; m < 60; m += 10 {
		events = append(events, covers(m, "eu", eu), covers(m, "us", us))
	}
	return events
}

func gap(m float64, member string, since, until float64) evidence.Event {
	d := evidence.GapData{Member: member, Table: "public.t", Reason: "gone", Since: at(since)}
	if until == 0 {
		return evidence.Event{Type: evidence.GapOpen, Group: "shop", Time: at(m), Data: d}
	}
	d.Until = at(until)
	return evidence.Event{Type: evidence.GapClose, Group: "shop", Time: at(m), Data: d}
}

func hour(events ...[]evidence.Event) (list []evidence.Event) {
	list = append(list, begins(0))
	for m := 0.0; m < 60; m += 0.25 {
		for _, some := range events {
			for _, e := range some {
				if !e.Time.Before(at(m)) && e.Time.Before(at(m+0.25)) {
					list = append(list, e)
				}
			}
		}
	}
	return append(list, stops(60))
}

// A table of a replica is known about while records say so, of it and of the reference. Where there are no records, or they say
// that it is unverified, nothing is known, whether a gap was recorded or not.
func TestWhatIsNotRecordedAsKnownIsUnknown(t *testing.T) {
	some := func(list []evidence.Event, keep func(i int) bool) (left []evidence.Event) {
		for i, e := range list {
			if keep(i) {
				left = append(left, e)
			}
		}
		return left
	}
	for name, c := range map[string]struct {
		events []evidence.Event
		want   float64 // minutes
	}{
		"all is well":                           {hour(all("in_step", "in_step")), 60},
		"lagging is known":                      {hour(all("in_step", "lagging")), 60},
		"what differs as expected is known":     {hour(all("in_step", "expected")), 60},
		"what differs is known":                 {hour(all("in_step", "diverged")), 60},
		"the reference could not be watched":    {hour(all("unverified", "in_step")), 0},
		"neither could":                         {hour(all("unverified", "unverified")), 0},
		"the replica could not be watched":      {hour(all("in_step", "unverified")), 0},
		"no table of the replica was known":     {hour(all("in_step", "")), 0},
		"no table of the reference was known":   {hour(all("", "in_step")), 0},
		"no table at all":                       {hour(all("", "")), 0},
		"no coverage":                           {hour(), 0},
		"no coverage of the replica":            {hour(some(all("in_step", "in_step"), func(i int) bool { return i%2 == 0 })), 0},
		"no coverage of the reference":          {hour(some(all("in_step", "in_step"), func(i int) bool { return i%2 == 1 })), 0},
		"none after the first":                  {hour(all("in_step", "in_step")[:2]), 16.5},
		"none from the reference after that":    {hour(some(all("in_step", "in_step"), func(i int) bool { return i%2 == 1 || i == 0 })), 16.5},
		"none in the middle":                    {hour(some(all("in_step", "in_step"), func(i int) bool { return i < 2 || i >= 8 })), 16.5 + 19.5},
		"a gap of the replica":                  {hour(all("in_step", "in_step"), []evidence.Event{gap(23, "us", 22, 0), gap(30, "us", 22, 30)}), 52},
		"a gap of the reference":                {hour(all("in_step", "in_step"), []evidence.Event{gap(23, "eu", 22, 0), gap(30, "eu", 22, 30)}), 52},
		"gaps of both, one over the other":      {hour(all("in_step", "in_step"), []evidence.Event{gap(23, "eu", 22, 0), gap(25, "us", 24, 0), gap(30, "eu", 22, 30), gap(34, "us", 24, 34)}), 48},
		"a gap that is open at the end":         {hour(all("in_step", "in_step"), []evidence.Event{gap(46, "us", 45, 0)}), 45},
		"a gap from the start on":               {hour(all("in_step", "in_step"), []evidence.Event{gap(0.25, "us", 0, 0), gap(20, "us", 0, 20)}), 40},
		"a gap over a record":                   {hour(all("in_step", "in_step"), []evidence.Event{gap(21, "us", 19, 0), gap(30, "us", 19, 30)}), 49},
		"seen for the first time in the middle": {hour(some(all("in_step", "in_step"), func(i int) bool { return i%2 == 0 || i > 6 })), 60 - 30.5},
		"a member that was killed":              {append(hour(all("in_step", "in_step"))[:7], begins(40), covers(40.5, "eu", "in_step"), covers(40.5, "us", "in_step"), stops(60)), 20.5 + 16.5},
	} {
		t.Run(name, func(t *testing.T) {
			r := derived(t, report.Period{}, c.events...)
			files := filesOf(t, r)
			want := time.Duration(c.want * float64(time.Minute))
			var us *report.Member
			for _, m := range r.Members {
				if m.Name == "us" {
					us = m
				}
			}
			if us == nil {
				t.Fatal("nothing is said of the replica")
			}
			known := time.Duration(0)
			if table := us.Tables["public.t"]; table != nil {
				if known = table.Known; table.Known+table.Unknown != r.Ran() {
					t.Errorf("known for %v and unknown for %v of %v", table.Known, table.Unknown, r.Ran())
				}
			}
			if known != want {
				t.Errorf("known for %v, want %v", known, want)
			}
			if share := fmt.Sprintf("%.2f %%", float64(int(c.want/60*10000))/100); c.want < 60 && !contains(files["report.html"], share) {
				t.Errorf("the page does not say %s", share)
			}
		})
	}
}
