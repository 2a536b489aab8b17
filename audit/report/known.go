package report

import (
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// clock brings the times of entries, whose clock may have been set in between, to one that was never set: as the one of the
// first entry would have gone on.
type clock struct {
	by   time.Duration // by how much the clock was set in all
	last evidence.ClockData
}

func (c *clock) take(e *evidence.Entry) error {
	if e.Type != evidence.ClockState {
		return nil
	}
	step, err := e.ClockStep()
	if err != nil {
		return err
	}
	c.by, c.last = c.by+step.By(), step
	return nil
}

// steady is what a clock would show that was never set when that of an entry shows t.
func (c *clock) steady(t time.Time) time.Time { return t.Add(-c.by) }

// then is the same for a time that an entry of the time at tells of, and that may be of before the last step.
func (c *clock) then(t, at time.Time) time.Time {
	forward := c.last.By() > 0 && t.Before(c.last.To)
	back := c.last.By() < 0 && t.After(at.Add(evidence.Skew))
	if forward || back {
		return t.Add(c.last.By() - c.by)
	}
	return c.steady(t)
}

// stretch is a time for which something was known, of a member that was the reference or was not.
type stretch struct {
	from, to  time.Time
	reference bool
}

// stretches are those of a table on a member. That it was known needs a record that says so, and another one in time after it:
// nothing is known because nothing was recorded.
type stretches struct {
	list      []stretch
	reference bool      // it is the reference's
	since     time.Time // it has been known from then on; zero: it is not
	last      time.Time // when a record said so last
	touched   bool      // there was a record of it since the run began
}

// holds notes that a record says that it is known. The next one is due after a time.
func (s *stretches) holds(at time.Time, due time.Duration) {
	if !s.since.IsZero() && at.After(s.last.Add(due)) {
		s.lost(at, due)
	}
	if s.since.IsZero() {
		s.since = at
	}
	s.last, s.touched = at, true
}

// lost notes that it is not known any more, from a time on that may be before the last record.
func (s *stretches) lost(at time.Time, due time.Duration) {
	if s.since.IsZero() {
		for n := len(s.list); n > 0 && s.list[n-1].to.After(at); n = len(s.list) {
			if s.list[n-1].to = at; !at.After(s.list[n-1].from) {
				s.list = s.list[:n-1]
			}
		}
		return
	}
	if latest := s.last.Add(due); at.After(latest) {
		at = latest
	}
	if at.After(s.since) {
		s.list = append(s.list, stretch{s.since, at, s.reference})
	}
	s.since = time.Time{}
}

// joined are stretches in their order, of which none is over another one.
func joined(list []stretch) (all []stretch) {
	slices.SortFunc(list, func(a, b stretch) int { return a.from.Compare(b.from) })
	for _, s := range list {
		if n := len(all); n > 0 && !s.from.After(all[n-1].to) {
			if s.to.After(all[n-1].to) {
				all[n-1].to = s.to
			}
			continue
		}
		all = append(all, s)
	}
	return all
}

// overlap is for how long both were, of stretches in their order.
func overlap(a, b []stretch) (d time.Duration) {
	for len(a) > 0 && len(b) > 0 {
		from, to := a[0].from, a[0].to
		if b[0].from.After(from) {
			from = b[0].from
		}
		if b[0].to.Before(to) {
			to = b[0].to
		}
		d += max(to.Sub(from), 0)
		if a[0].to.After(to) {
			b = b[1:]
		} else {
			a = a[1:]
		}
	}
	return d
}

// due is after which time without a record of coverage a member is not known about any more.
func (m *Member) due() time.Duration { return m.Every + m.Every/2 + time.Minute }

// become notes which role a member has from now on.
func (m *Member) become(role string, now time.Time) {
	if role != m.Role {
		for _, t := range m.Tables {
			t.known.lost(now, m.due())
		}
	}
	m.Role = role
}

// without notes that a record of coverage does not have a member's other tables.
func (m *Member) without(now time.Time) {
	for name, t := range m.Tables {
		if !m.seen[name] {
			t.known.lost(now, m.due())
		}
	}
}

// covered notes what a record of coverage says of a table.
func (r *Report) covered(m *Member, t *Table, key [3]string, data *evidence.TableData) {
	k := &t.known
	k.reference = m.Role == "reference"
	known := slices.Contains([]string{"in_step", "lagging", "expected", "diverged", "stale"}, data.Verdict)
	switch {
	case !known:
		k.lost(r.now, m.due())
	case data.Reason != "" || r.gaps[key] != nil: // something else is not known of it
	case !k.touched && r.run != nil && r.now.Sub(r.run.began) <= m.due():
		k.holds(r.run.began, m.due()) // a gap would have been recorded
		k.holds(r.now, m.due())
	default:
		k.holds(r.now, m.due())
	}
	k.touched = true
}

// sum adds up what was known of each table: of a replica's, while it was known of the reference's too. A table that one
// member of a group has is one that all must have.
func (r *Report) sum() {
	tables, references := make(map[string]map[string]bool), make(map[[2]string][]stretch)
	for _, m := range r.Members {
		if tables[m.Group] == nil {
			tables[m.Group] = make(map[string]bool)
		}
		for name, t := range m.Tables {
			tables[m.Group][name] = true
			for _, s := range t.known.list {
				if key := [2]string{m.Group, name}; s.reference {
					references[key] = append(references[key], s)
				}
			}
		}
	}
	for key, list := range references {
		references[key] = joined(list)
	}
	ran := r.Ran()
	for _, m := range r.Members {
		for name := range tables[m.Group] {
			t := m.table(name)
			t.Known = overlap(joined(t.known.list), references[[2]string{m.Group, name}]) // of the reference's own: itself
			t.Unknown = max(ran-t.Known, 0)
		}
	}
}
