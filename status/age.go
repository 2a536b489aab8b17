package status

import (
	"fmt"
	"time"
)

// MaxAge is for how long what was said of a group holds. Its loop says it anew twice a second; a large transaction, or a disk
// that is slow for a moment, holds it up for a second or two. A proxy that asks every few seconds takes a replica out at the
// question after that.
const MaxAge = 5 * time.Second

// Clocks is a moment by two clocks: the one on the wall, which can be set and goes on while the machine sleeps, and one that
// only runs. Where they disagree nobody knows how long ago something was.
type Clocks struct {
	Wall    time.Time
	Running time.Duration
}

// Jumped reports whether the clock on the wall went another way than the one that only runs, by so much that what was true then
// may be older than anybody thinks.
func (c Clocks) Jumped(then Clocks) bool {
	return (c.Wall.Sub(then.Wall) - (c.Running - then.Running)).Abs() > MaxAge
}

// AsOf is what can be said of the group now, of which g was said then. What may be too old is unverified. looping says that the
// group's loop is to come round: between its opening and its first round it is not.
func (g *Group) AsOf(now Clocks, looping bool) *Group {
	s := *g
	running := now.Running - g.Said.Running
	s.Age = Seconds(max(running, now.Wall.Sub(g.Said.Wall)))
	if s.Looping = looping; looping {
		s.Still = running
	}
	switch {
	case now.Jumped(g.Said):
		s.Stale = "the clock of lockstep's machine was set, or the machine slept, since this was said"
	case running > MaxAge:
		s.Stale = fmt.Sprintf("this was said %s ago; lockstep's loop for the group has not come round since", running.Round(time.Second))
	default:
		return &s
	}
	s.Members = make([]Member, len(g.Members))
	for i, m := range g.Members {
		m.Tables = make([]Table, len(g.Members[i].Tables))
		for j, t := range g.Members[i].Tables {
			m.Tables[j] = t.doubted(s.Stale)
		}
		s.Members[i] = m
	}
	s.Complete()
	return &s
}

// doubted is the table as it is while what was said of it need not be true any more.
func (t Table) doubted(why string) Table {
	ranges := make(map[Verdict]int64)
	for verdict, n := range t.Ranges {
		ranges[Worse(verdict, Unverified)] += n
	}
	t.Ranges, t.Verdict = ranges, Worse(t.Verdict, Unverified)
	if t.Reason == "" {
		t.Reason = why
	}
	return t
}
