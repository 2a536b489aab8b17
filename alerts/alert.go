package alerts

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/finding"
)

// The alerts that lockstep raises by itself.
const (
	DivergedAlert = "LockstepDiverged" // rows differ
	StaleAlert    = "LockstepStale"    // transactions have not arrived within the lag budget
	MoreAlert     = "LockstepDivergedMore"
	// WatchdogAlert always fires. Who is not told of it any more knows that alerts do not arrive.
	WatchdogAlert = "LockstepWatchdog"
)

// Bounds on what one alert says: receivers take a message whole, and people read the first lines.
const (
	maxAlertRanges = 20
	maxAlertBytes  = 8 << 10
	// maxTables is how many tables of one member have alerts of their own; the others share one.
	maxTables = 50
)

// alert is all that is open of one table on one member, or was until a moment ago.
type alert struct {
	name, group, member, table string
	open                       []*finding.Divergence // the oldest first
	resolved                   []*finding.Divergence
}

// alertKey is what makes two alerts the same one.
type alertKey struct{ group, member, table, name string }

// gather makes one alert of all divergences of a table on a member. Of those that are resolved it takes in the ones that
// were since the given time.
func gather(each func(func(*finding.Divergence) bool) error, since time.Time) ([]*alert, error) {
	byKey := make(map[alertKey]*alert)
	err := each(func(d *finding.Divergence) bool {
		if d.ResolvedAt != nil && d.ResolvedAt.Before(since) {
			return true
		}
		k := alertKey{d.Group, d.Member, d.Table, DivergedAlert}
		if d.Kind == finding.Stale {
			k.name = StaleAlert
		}
		a := byKey[k]
		if a == nil {
			a = &alert{name: k.name, group: k.group, member: k.member, table: k.table}
			byKey[k] = a
		}
		if d.State == finding.Open {
			a.open = append(a.open, d)
		} else {
			a.resolved = append(a.resolved, d)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	list := slices.Collect(maps.Values(byKey))
	for _, a := range list {
		oldestFirst(a.open)
		oldestFirst(a.resolved)
	}
	slices.SortFunc(list, func(x, y *alert) int {
		return cmp.Or(x.starts().Compare(y.starts()), strings.Compare(x.group, y.group), strings.Compare(x.member, y.member), strings.Compare(x.table, y.table))
	})
	return list, nil
}

func oldestFirst(list []*finding.Divergence) {
	slices.SortFunc(list, func(x, y *finding.Divergence) int {
		return cmp.Or(x.ConfirmedAt.Compare(y.ConfirmedAt), strings.Compare(x.ID, y.ID))
	})
}

// firing reports whether something is open.
func (a *alert) firing() bool { return len(a.open) > 0 }

func (a *alert) starts() time.Time {
	if a.firing() {
		return a.open[0].ConfirmedAt
	}
	return a.resolved[0].ConfirmedAt
}

// ended is when the last divergence of an alert that does not fire was resolved.
func (a *alert) ended() (at time.Time) {
	for _, d := range a.resolved {
		if d.ResolvedAt.After(at) {
			at = *d.ResolvedAt
		}
	}
	return at
}

// last is what was open from when the alert fired for the last time. The resolved ones before, of which receivers may have been told
// long ago, say nothing of how it ended.
func (a *alert) last() []*finding.Divergence {
	if a.firing() {
		return a.open
	}
	from, until := 0, time.Time{}
	for i, d := range a.resolved {
		if d.ConfirmedAt.After(until) {
			from = i
		}
		if d.ResolvedAt.After(until) {
			until = *d.ResolvedAt
		}
	}
	return a.resolved[from:]
}

// about lists what the alert tells of.
func (a *alert) about() []*finding.Divergence {
	if a.firing() {
		return a.open
	}
	return a.resolved
}

// Alert is what receivers are told, in the terms of Alertmanager.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Starts      time.Time         `json:"starts"`
	Ends        time.Time         `json:"ends,omitzero"` // zero while it fires
	URL         string            `json:"url,omitempty"`
	About       []string          `json:"about"` // ids of divergences

	lost []string // those of About that ended although their rows may differ still
}

// Firing reports whether what the alert is about is still open.
func (a *Alert) Firing() bool { return a.Ends.IsZero() }

// forget says that the alert does not end because its rows are the same.
func (a *Alert) forget() {
	a.Annotations["outcome"] = string(finding.Forgotten)
	a.Annotations["summary"] = "Rows of a replica that differed from its reference are not watched any more. They may differ still."
}

func (a *Alert) lostOneOf(about []string) bool {
	return slices.ContainsFunc(about, func(id string) bool { return slices.Contains(a.lost, id) })
}

func (a *Alert) forgotten() bool { return a.Annotations["outcome"] == string(finding.Forgotten) }

// key is what makes two alerts the same one: their labels.
func (a *Alert) key() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		fmt.Fprintf(&b, "%q=%q,", k, a.Labels[k])
	}
	return b.String()
}

// tell words alerts. If more than maxTables tables of a member differ at once, those that came last share one alert.
func tell(list []*alert, to links) []*Alert {
	var out []*Alert
	type member struct{ group, member, name string }
	tables := make(map[member]int)
	more := make(map[member][]*alert)
	for _, a := range list {
		m := member{a.group, a.member, a.name}
		if a.firing() {
			if tables[m]++; tables[m] > maxTables {
				more[m] = append(more[m], a)
				continue
			}
		}
		out = append(out, a.told(to))
	}
	for _, m := range slices.SortedFunc(maps.Keys(more), func(x, y member) int {
		return cmp.Or(strings.Compare(x.group, y.group), strings.Compare(x.member, y.member), strings.Compare(x.name, y.name))
	}) {
		out = append(out, toldOfMore(more[m], to))
	}
	return out
}

func severity(name string) string {
	if name == StaleAlert {
		return "warning"
	}
	return "critical"
}

func (a *alert) told(to links) *Alert {
	about := a.about()
	t := &Alert{
		Labels: map[string]string{
			"alertname": a.name, "severity": severity(a.name), "group": a.group, "member": a.member, "table": a.table,
		},
		Starts: a.starts(),
		URL:    to.divergences(a.group, a.member, a.table),
		About:  ids(about),
	}
	if !a.firing() {
		t.Ends = a.ended()
	}
	first := about[0]
	t.Annotations = map[string]string{
		"summary":     "Rows of a replica differ from its reference.",
		"description": describe(a, about),
		"key_ranges":  keyRanges(about),
		"first_seen":  first.FirstSeen.UTC().Format(time.RFC3339),
		"divergences": bounded(t.About, " "),
		"positions":   positions(first.Positions),
		"runbook_url": to.runbook(a.name),
	}
	if a.name == StaleAlert {
		t.Annotations["summary"] = "A replica has not replayed transactions within the lag budget."
	}
	if tx := transactions(about); len(tx) > 0 {
		t.Annotations["transactions"] = bounded(tx, " ")
	}
	if who := acknowledged(about); len(who) > 0 {
		t.Annotations["acknowledged"] = bounded(who, "\n")
	}
	for _, d := range about {
		if d.Outcome == finding.Forgotten {
			t.lost = append(t.lost, d.ID)
		}
	}
	if t.lostOneOf(ids(a.last())) {
		t.forget()
	}
	return t
}

// describe says in one sentence a kind what differs.
func describe(a *alert, about []*finding.Divergence) string {
	var lines []string
	for _, d := range about {
		rows := "rows"
		if d.Keys == 1 {
			rows = "row"
		}
		line := fmt.Sprintf("%s: %d %s of %s on %s, cause %s", d.Kind, d.Keys, rows, a.table, a.member, d.Cause)
		if d.Detail != "" {
			line += " (" + d.Detail + ")"
		}
		lines = append(lines, line)
	}
	return bounded(lines, "\n")
}

// keyRanges lists the exact keys that differ, as far as there is room.
func keyRanges(about []*finding.Divergence) string {
	var lines []string
	size, left := 0, int64(0)
	for _, d := range about {
		for _, r := range d.Ranges {
			line := fmt.Sprintf("%s %s..%s", d.Kind, r.First, r.Last)
			if len(lines) == maxAlertRanges || size+len(line) > maxAlertBytes-100 {
				left++
				continue
			}
			size += len(line) + 1
			lines = append(lines, line)
		}
		if d.Truncated {
			left++
		}
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("and at least %d more", left))
	}
	return strings.Join(lines, "\n")
}

func ids(about []*finding.Divergence) (list []string) {
	for _, d := range about {
		list = append(list, d.ID)
	}
	return list
}

// acknowledged lists who has taken what on.
func acknowledged(about []*finding.Divergence) (list []string) {
	for _, d := range about {
		if k := d.Acknowledged; k != nil {
			who := d.ID + ": " + k.By
			if k.Ticket != "" {
				who += ", " + k.Ticket
			}
			who += ", at " + k.At.UTC().Format(time.RFC3339)
			if k.Note != "" {
				who += ": " + k.Note
			}
			list = append(list, who)
		}
	}
	return list
}

func transactions(about []*finding.Divergence) (list []string) {
	for _, d := range about {
		if d.IntroducedBy != nil && d.IntroducedBy.Transaction != "" && !slices.Contains(list, d.IntroducedBy.Transaction) {
			list = append(list, d.IntroducedBy.Transaction)
		}
	}
	return list
}

func positions(at map[string]string) string {
	var list []string
	for _, m := range slices.Sorted(maps.Keys(at)) {
		list = append(list, m+" "+at[m])
	}
	return bounded(list, ", ")
}

// bounded joins as many of the items as there is room for.
func bounded(items []string, by string) string {
	var b strings.Builder
	for i, item := range items {
		if i == maxAlertRanges || b.Len()+len(item) > maxAlertBytes-100 {
			fmt.Fprintf(&b, "%s+%d more", by, len(items)-i)
			break
		}
		if i > 0 {
			b.WriteString(by)
		}
		b.WriteString(item)
	}
	return b.String()
}

func toldOfMore(list []*alert, to links) *Alert {
	first := list[0]
	var names []string
	for _, a := range list {
		names = append(names, a.table)
	}
	return &Alert{
		Labels: map[string]string{
			"alertname": MoreAlert, "severity": severity(first.name), "group": first.group, "member": first.member, "of": first.name,
		},
		Annotations: map[string]string{
			"summary":     "Many tables of a replica differ from its reference at once.",
			"description": fmt.Sprintf("tables of %s that differ, beside the %d that have alerts of their own: %d", first.member, maxTables, len(list)),
			"tables":      bounded(names, " "),
			"runbook_url": to.runbook(first.name),
		},
		Starts: first.starts(),
		URL:    to.divergences(first.group, first.member, ""),
	}
}

// Runbooks is where the project keeps what to do about each alert.
const Runbooks = "https://github.com/lockstep-cdc/lockstep/blob/main/docs/runbooks"

// links are where alerts lead.
type links struct {
	external string // where people reach lockstep; may be empty
	runbooks string // the folder of the runbooks
}

// divergences is where those of a table on a member are listed; an empty table stands for all.
func (l links) divergences(group, member, table string) string {
	if l.external == "" {
		return ""
	}
	about := url.Values{"group": {group}, "member": {member}}
	if table != "" {
		about.Set("table", table)
	}
	return strings.TrimSuffix(l.external, "/") + "/api/v1/divergences?" + about.Encode()
}

// runbook is the page of an alert: the one of the rule that looks at the same in the metrics.
func (l links) runbook(name string) string {
	page := "LockstepRowsDiffer.md"
	if name == StaleAlert {
		page = "LockstepReplicaStale.md"
	}
	return strings.TrimSuffix(l.runbooks, "/") + "/" + page
}
