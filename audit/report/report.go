// Package report derives from the entries of an audit log what auditors read: how much of the time what was covered, what was
// found, how long it lived. The same entries give the same bytes, so that a report can be derived again and compared.
package report

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// Period is what a report is about.
type Period struct {
	Origin string    `json:"origin"`          // of the log
	Group  string    `json:"group,omitempty"` // empty: all
	From   time.Time `json:"from"`
	To     time.Time `json:"to"` // exclusive
}

// Report is what entries tell of a period.
type Report struct {
	Period
	First       uint64                `json:"first_entry"`
	Last        uint64                `json:"last_entry"`
	Counts      map[evidence.Type]int `json:"entries_by_type"`
	Runs        []Run                 `json:"runs"`
	Members     []*Member             `json:"members"`
	Divergences []*Divergence         `json:"divergences"`
	Gaps        []*Gap                `json:"gaps"`
	Changes     []Change              `json:"changes"`
	Coverage    []Row                 `json:"-"`

	members map[[2]string]*Member
	byID    map[string]*Divergence
	gaps    map[[3]string]*Gap
	run     *Run
	clock   clock
	before  time.Time // of the entry before
	now     time.Time // of the entry, as the clock would have it that was never set
}

// Run is a time for which lockstep ran.
type Run struct {
	Seq     uint64    `json:"entry"` // of its start; that of the first entry if it began before
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Config  string    `json:"config_sha256,omitempty"`
	Version string    `json:"lockstep,omitempty"`
	Ended   string    `json:"ended"` // stopped; killed, if no stop was recorded; or running

	began, ended time.Time // as the clock would have it that was never set
}

// Member is what was covered of one member.
type Member struct {
	Group     string            `json:"group"`
	Name      string            `json:"member"`
	Role      string            `json:"role"`
	Intervals int               `json:"intervals"` // records of coverage
	Expected  int               `json:"expected"`  // as many as there were to be while lockstep ran
	Tables    map[string]*Table `json:"tables"`
	Every     time.Duration     `json:"-"`

	last time.Time       // of its coverage; zero: there is none to be
	seen map[string]bool // tables in the parts of a record of coverage that have come
}

// Table is what was known of one table on one member.
type Table struct {
	Seen       int           `json:"seen"`       // in records of coverage
	InStep     int           `json:"in_step"`    // or lagging within the budget
	AsExpected int           `json:"expected"`   // different as was expected
	Known      time.Duration `json:"known_ns"`   // for how long it was known whether it is the same as the reference's
	Unknown    time.Duration `json:"unknown_ns"` // and for how long not, while lockstep ran
	Last       string        `json:"last_verdict"`
	Rows       int64         `json:"rows"`

	known stretches
}

// Row is a table in a record of coverage.
type Row struct {
	Seq    uint64
	Time   time.Time
	Group  string
	Member evidence.CoverageData
	Table  evidence.TableData
}

// Change is one of the configuration or of what is watched.
type Change struct {
	Seq  uint64    `json:"entry"`
	Time time.Time `json:"time"`
	What string    `json:"what"`
}

// Divergence is one that was open in the period.
type Divergence struct {
	evidence.DivergenceData
	Group    string `json:"group"`
	Opened   uint64 `json:"opened_entry"` // only if OpenedIn
	Resolved uint64 `json:"resolved_entry,omitempty"`
	OpenedIn bool   `json:"opened_in_period"`
	// ToldAt is when a receiver first took an alert about it.
	ToldAt *time.Time `json:"told_at,omitempty"`
	Told   uint64     `json:"told_entry,omitempty"`
	// Acknowledged is what was last said of who has taken it on.
	Acknowledged      *evidence.AcknowledgeData `json:"acknowledged,omitempty"`
	AcknowledgedEntry uint64                    `json:"acknowledged_entry,omitempty"`

	// As the clock would have it that was never set.
	begun, confirmed, resolved time.Time
}

// Detected is how long after its commit, or else after it was first seen, a divergence was raised.
func (d *Divergence) Detected() time.Duration { return max(d.confirmed.Sub(d.begun), 0) }

// Lived is how long a divergence was open; 0: it still is.
func (d *Divergence) Lived() time.Duration {
	if d.ResolvedAt == nil {
		return 0
	}
	return max(d.resolved.Sub(d.confirmed), 0)
}

// Gap is a time for which it could not be known whether a table is the same.
type Gap struct {
	evidence.GapData
	Group  string `json:"group"`
	Opened uint64 `json:"opened_entry"`
	Closed uint64 `json:"closed_entry,omitempty"`
	Ended  string `json:"ended"` // closed; with the run; or open
}

// Derive tells what entries, which follow on one another, say of a period.
func Derive(p Period, entries []*evidence.Entry) (*Report, error) {
	r := &Report{
		Period: p, Counts: make(map[evidence.Type]int),
		members: make(map[[2]string]*Member), byID: make(map[string]*Divergence), gaps: make(map[[3]string]*Gap),
	}
	for i, e := range entries {
		before := r.now
		if err := r.clock.take(e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
		r.now = r.clock.steady(e.Time)
		if i == 0 {
			r.First = e.Seq
			r.running(Run{Seq: e.Seq, From: e.Time})
		}
		r.Last = e.Seq
		r.Counts[e.Type]++
		if err := r.take(e, before); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
		if e.Type != evidence.ClockState {
			r.before = e.Time
		}
	}
	r.ends(r.before, r.now, "running")
	r.sum()
	return r, nil
}

func (r *Report) running(run Run) {
	run.began = r.now
	r.Runs = append(r.Runs, run)
	r.run = &r.Runs[len(r.Runs)-1]
}

// ends ends the run: what was a gap then is one up to there. The time is given as the clock had it, and as it would have been
// on one that was never set.
func (r *Report) ends(at, now time.Time, how string) {
	if r.run == nil {
		return
	}
	r.run.To, r.run.ended, r.run.Ended = at, now, how
	r.run = nil
	for _, g := range r.gaps {
		g.Until, g.Ended = at, "with the run"
		if how == "running" {
			g.Ended = "open"
		}
	}
	clear(r.gaps)
	for _, m := range r.Members {
		m.until(now)
		m.last = time.Time{}
		for _, t := range m.Tables {
			t.known.lost(now, m.due())
			t.known.touched = false
		}
	}
}

// until counts the records that were to be there since the last one.
func (m *Member) until(at time.Time) {
	if m.Every > 0 && !m.last.IsZero() {
		m.Expected += int((at.Sub(m.last) - m.Every/2) / m.Every)
	}
}

// take takes an entry. Before is when the one before was, by a clock that was never set.
func (r *Report) take(e *evidence.Entry, before time.Time) error {
	if r.Group != "" && e.Group != "" && e.Group != r.Group {
		return nil
	}
	switch e.Type {
	case evidence.Start:
		return r.start(e, before)
	case evidence.Stop:
		r.ends(e.Time, r.now, "stopped")
	case evidence.Coverage:
		return r.cover(e)
	case evidence.DivergenceOpen, evidence.DivergenceUpdate, evidence.DivergenceResolve:
		return r.divergence(e)
	case evidence.AlertDelivered:
		return r.delivered(e)
	case evidence.GapOpen, evidence.GapClose:
		return r.gap(e)
	case evidence.Acknowledge:
		return r.acknowledge(e)
	case evidence.ConfigChange, evidence.ScopeChange, evidence.SilenceChange, evidence.ClockState:
		return r.change(e)
	}
	return nil
}

func (r *Report) start(e *evidence.Entry, before time.Time) error {
	var d evidence.StartData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	if r.First == e.Seq {
		r.Runs, r.run = nil, nil
	}
	r.ends(r.before, before, "killed")
	r.running(Run{Seq: e.Seq, From: e.Time, Config: d.Config, Version: d.Lockstep})
	for _, g := range d.Groups {
		if r.Group != "" && g.Name != r.Group {
			continue
		}
		for _, configured := range g.Members { // whether there will be any coverage of it or not
			m := r.member(g.Name, configured.Name)
			if m.Role == "" && configured.Name == g.Reference {
				m.Role = "reference"
			}
			m.Every, m.last = time.Duration(g.Every*float64(time.Second)), r.now
		}
	}
	return nil
}

func (r *Report) change(e *evidence.Entry) error {
	add := func(format string, args ...any) {
		r.Changes = append(r.Changes, Change{e.Seq, e.Time, fmt.Sprintf(format, args...)})
	}
	if e.Type == evidence.ClockState {
		step, err := e.ClockStep()
		add("the clock of the monitor's host stepped %v: somebody set it, or the host slept", step)
		return err
	}
	if e.Type == evidence.ConfigChange {
		var d evidence.ConfigChangeData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return err
		}
		add("configuration file of SHA-256 %s in place of %s", d.To, d.From)
		return nil
	}
	if e.Type == evidence.SilenceChange {
		var d evidence.SilenceChangeData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return err
		}
		of := ""
		if e.Group != "" {
			of = "group " + e.Group + ": "
		}
		add("%s%v", of, d)
		return nil
	}
	var d evidence.ScopeChangeData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	for _, line := range d.Removed {
		add("not any more: %s", line)
	}
	for _, line := range d.Added {
		add("new: %s", line)
	}
	return nil
}

// acknowledge notes who has taken a divergence on, if it was opened or resolved in the period.
func (r *Report) acknowledge(e *evidence.Entry) error {
	var data evidence.AcknowledgeData
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	if d := r.byID[data.ID]; d != nil {
		d.Acknowledged, d.AcknowledgedEntry = &data, e.Seq
	}
	return nil
}

func (r *Report) member(group, name string) *Member {
	key := [2]string{group, name}
	m := r.members[key]
	if m == nil {
		m = &Member{Group: group, Name: name, Tables: make(map[string]*Table)}
		r.members[key], r.Members = m, append(r.Members, m)
	}
	return m
}

func (m *Member) table(name string) *Table {
	t := m.Tables[name]
	if t == nil {
		t = &Table{}
		m.Tables[name] = t
	}
	return t
}

func (r *Report) cover(e *evidence.Entry) error {
	var d evidence.CoverageData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	m := r.member(e.Group, d.Member)
	if d.Part <= 1 {
		m.become(d.Role, r.now)
		m.Intervals++
		m.until(r.now)
		m.Expected++
		m.Every, m.last, m.seen = time.Duration(d.Every*float64(time.Second)), r.now, make(map[string]bool)
	}
	for _, data := range d.Tables {
		t := m.table(data.Table)
		t.Seen++
		if data.Verdict == "in_step" || data.Verdict == "lagging" {
			t.InStep++
		} else if data.Verdict == "expected" {
			t.AsExpected++
		}
		t.Last, t.Rows = data.Verdict, data.Rows
		r.covered(m, t, [3]string{e.Group, d.Member, data.Table}, &data)
		m.seen[data.Table] = true
		r.Coverage = append(r.Coverage, Row{e.Seq, e.Time, e.Group, d, data})
	}
	if d.Part == d.Parts { // the last
		m.without(r.now)
	}
	return nil
}

func (r *Report) divergence(e *evidence.Entry) error {
	var data evidence.DivergenceData
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	d := r.byID[data.ID]
	if d == nil {
		d = &Divergence{Group: e.Group}
		r.byID[data.ID], r.Divergences = d, append(r.Divergences, d)
		d.begun, d.confirmed = r.clock.then(data.FirstSeen, e.Time), r.clock.then(data.ConfirmedAt, e.Time)
		if data.CommittedAt != nil { // by the server's clock
			if committed := r.clock.then(*data.CommittedAt, e.Time); committed.Before(d.begun) {
				d.begun = committed
			}
		}
	}
	d.DivergenceData = data
	switch e.Type {
	case evidence.DivergenceOpen:
		d.Opened, d.OpenedIn = e.Seq, true
	case evidence.DivergenceResolve:
		d.Resolved = e.Seq
		if data.ResolvedAt != nil {
			d.resolved = r.clock.then(*data.ResolvedAt, e.Time)
		}
	}
	return nil
}

// delivered notes when somebody was first told of a divergence.
func (r *Report) delivered(e *evidence.Entry) error {
	var data evidence.AlertData
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	for _, a := range data.Alerts {
		for _, id := range a.Divergences {
			if d := r.byID[id]; d != nil && d.ToldAt == nil && a.Status == "firing" {
				at := e.Time
				d.ToldAt, d.Told = &at, e.Seq
			}
		}
	}
	return nil
}

func (r *Report) gap(e *evidence.Entry) error {
	var data evidence.GapData
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	key := [3]string{e.Group, data.Member, data.Table}
	g := r.gaps[key]
	if g == nil {
		g = &Gap{GapData: data, Group: e.Group, Opened: e.Seq}
		r.gaps[key], r.Gaps = g, append(r.Gaps, g)
	}
	m := r.member(g.Group, g.Member)
	t := m.table(g.Table)
	t.known.lost(r.clock.then(g.Since, e.Time), m.due())
	t.known.touched = true
	if e.Type == evidence.GapClose {
		g.Until, g.Closed, g.Ended = data.Until, e.Seq, "closed"
		delete(r.gaps, key)
		t.known.holds(r.now, m.due())
	}
	return nil
}

// Ran is for how long of the period lockstep ran.
func (r *Report) Ran() (d time.Duration) {
	for _, run := range r.Runs {
		d += run.ended.Sub(run.began)
	}
	return d
}

// length is that of the period. A time that was only skipped by the clock is none, and one that it showed twice is.
func (r *Report) length() time.Duration { return r.To.Sub(r.From) - r.clock.by }

// Times are the mean and the maximum of durations.
type Times struct{ Mean, Max time.Duration }

// Detection is how long it took to raise what was found.
func (r *Report) Detection() Times {
	return times(r.Divergences, func(d *Divergence) (time.Duration, bool) { return d.Detected(), d.OpenedIn })
}

// Resolution is how long what was resolved had been open, where rows did not differ any more.
func (r *Report) Resolution() Times {
	return times(r.Divergences, func(d *Divergence) (time.Duration, bool) { return d.Lived(), d.Healed() })
}

func times(list []*Divergence, of func(*Divergence) (time.Duration, bool)) (t Times) {
	n := time.Duration(0)
	for _, d := range list {
		if took, counts := of(d); counts && !d.Expected {
			t.Mean, t.Max, n = t.Mean+took, max(t.Max, took), n+1
		}
	}
	if n > 0 {
		t.Mean /= n
	}
	return t
}

// Totals count divergences.
type Totals struct {
	Opened, Resolved, Carried, Open int
	Unhealed                        int // of the resolved ones, of which nothing says that their rows do not differ any more
}

// Totals counts the divergences that are no expected ones. Those opened in the period and those carried into it are as many as
// those resolved and those still open.
func (r *Report) Totals() (t Totals) {
	for _, d := range r.Divergences {
		switch {
		case d.Expected:
			continue
		case d.OpenedIn:
			t.Opened++
		default:
			t.Carried++
		}
		if d.ResolvedAt != nil {
			t.Resolved++
			if !d.Healed() {
				t.Unhealed++
			}
		} else {
			t.Open++
		}
	}
	return t
}
