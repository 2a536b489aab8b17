package verify

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// story is what the entries tell, held against itself.
type story struct {
	partial   bool             // it does not begin with the log, or the log goes on with the story of one before
	started   bool             // a start is in it
	carried   int              // divergences that were opened before it
	covered   map[string]cover // by group, since the last start
	intervals int
	opened    map[string]uint64 // divergences that are open, and the entries that say so
	resolved  int
	total     int
	gaps      map[[3]string]uint64 // by group, member and table
	cadence   error
	counts    error
}

// cover is when a group was last covered.
type cover struct {
	at    time.Time
	every time.Duration
}

// leeway is how much later than its interval a coverage may be.
const leeway = time.Minute

func (s *story) take(e *evidence.Entry) {
	if s.covered == nil {
		s.covered, s.opened, s.gaps = make(map[string]cover), make(map[string]uint64), make(map[[3]string]uint64)
	}
	switch e.Type {
	case evidence.LogStart:
		var d evidence.LogStartData
		s.partial = s.partial || e.Seq == 0 && !s.unreadable(e, &d) && d.Previous != nil
	case evidence.Start:
		s.start(e)
	case evidence.Stop:
		for group := range s.covered {
			s.due(e, group)
		}
		clear(s.covered)
	case evidence.ClockState:
		s.stepped(e)
	case evidence.Coverage:
		s.coverage(e)
	case evidence.DivergenceOpen, evidence.DivergenceUpdate, evidence.DivergenceResolve:
		s.divergence(e)
	case evidence.GapOpen, evidence.GapClose:
		s.gap(e)
	}
}

func (s *story) start(e *evidence.Entry) {
	var d evidence.StartData
	if s.unreadable(e, &d) {
		return
	}
	s.started = true
	clear(s.covered)
	clear(s.gaps) // those of the time before end here; what is still one is stated again
	for _, g := range d.Groups {
		s.covered[g.Name] = cover{e.Time, time.Duration(g.Every * float64(time.Second))}
	}
}

// stepped moves what coverage is held against along with the clock.
func (s *story) stepped(e *evidence.Entry) {
	step, err := e.ClockStep()
	if err != nil {
		s.wrong(e, "cannot be read: %v", err)
		return
	}
	for group, c := range s.covered {
		c.at = c.at.Add(step.By())
		s.covered[group] = c
	}
}

// due finds a group that should have been covered before an entry.
func (s *story) due(e *evidence.Entry, group string) {
	c := s.covered[group]
	if late := e.Time.Sub(c.at) - c.every; c.every > 0 && late > c.every/2+leeway && s.cadence == nil {
		s.cadence = fmt.Errorf("entry %d: group %s was last covered at %s, and is to be every %v: coverage is missing before it",
			e.Seq, group, c.at.Format(time.RFC3339), c.every)
	}
}

func (s *story) coverage(e *evidence.Entry) {
	var d evidence.CoverageData
	if s.unreadable(e, &d) {
		return
	}
	if _, known := s.covered[e.Group]; !known && (s.started || !s.partial) && s.cadence == nil {
		s.cadence = fmt.Errorf("entry %d covers group %s, which no start tells of", e.Seq, e.Group)
	}
	s.due(e, e.Group)
	s.covered[e.Group] = cover{e.Time, time.Duration(d.Every * float64(time.Second))}
	s.intervals++
}

func (s *story) divergence(e *evidence.Entry) {
	var d evidence.DivergenceData
	if s.unreadable(e, &d) {
		return
	}
	_, open := s.opened[d.ID]
	if e.Type == evidence.DivergenceOpen {
		if open {
			s.wrong(e, "opens divergence %s, which is open", d.ID)
		}
		s.opened[d.ID] = e.Seq
		s.total++
		return
	}
	if !open && s.partial {
		s.carried++
	} else if !open {
		s.wrong(e, "is about divergence %s, which is not open", d.ID)
	}
	if e.Type == evidence.DivergenceUpdate {
		s.opened[d.ID] = e.Seq
		return
	}
	delete(s.opened, d.ID)
	s.resolved++
}

func (s *story) gap(e *evidence.Entry) {
	var d evidence.GapData
	if s.unreadable(e, &d) {
		return
	}
	key := [3]string{e.Group, d.Member, d.Table}
	_, open := s.gaps[key]
	if e.Type == evidence.GapOpen { // one that is open is stated again when its group is opened anew
		s.gaps[key] = e.Seq
		return
	}
	if !open && !s.partial {
		s.wrong(e, "closes a gap of %s on %s that is not open", d.Table, d.Member)
	}
	delete(s.gaps, key)
}

func (s *story) unreadable(e *evidence.Entry, into any) bool {
	if err := json.Unmarshal(e.Data, into); err != nil {
		s.wrong(e, "cannot be read: %v", err)
		return true
	}
	return false
}

func (s *story) wrong(e *evidence.Entry, format string, args ...any) {
	if s.counts == nil {
		s.counts = fmt.Errorf("entry %d (%s) %s", e.Seq, e.Type, fmt.Sprintf(format, args...))
	}
}

func (s *story) sums() string {
	opened := fmt.Sprintf("%d divergences opened", s.total)
	if s.carried > 0 {
		opened += fmt.Sprintf(" + %d before", s.carried)
	}
	return fmt.Sprintf("%s = %d resolved + %d open; %d gaps open", opened, s.resolved, len(s.opened), len(s.gaps))
}

// checks tells what was found in the entries, of which those behind a break in the chain were not looked at.
func (s *story) checks(r *Result, chain error) {
	if chain != nil {
		unknown := errors.New("cannot be said of entries that do not follow on one another")
		s.cadence, s.counts = cmp.Or(s.cadence, unknown), cmp.Or(s.counts, unknown)
	}
	r.check("coverage has no holes while lockstep ran", fmt.Sprintf("%d entries of coverage", s.intervals), s.cadence)
	r.check("counts agree", s.sums(), s.counts)
}
