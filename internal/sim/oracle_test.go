package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// The bounds within which lockstep must know. A verdict may be as old as half a second, a question takes a quarter.
const (
	// patience is how long lockstep may say "in step" of a row that differs, or of a server that it does not hear.
	patience = budget + 2*time.Second
	// alertWithin is how long a difference may be there before it is a divergence, or in doubt.
	alertWithin = budget + 8*time.Second
	// silentWithin is the same of a change without a trace, which only a scrub sees.
	silentWithin = 2*scrubEvery + 30*time.Second
	// unseenWithin is the same of what can only be seen in the catalog.
	unseenWithin = 30 * time.Second
	// suspectsWithin is how long rows may be under suspicion on servers that answer: another one is waited for half as long.
	suspectsWithin = time.Minute
	// memoryOf is how long a difference that is over may still be told of where nothing is amiss.
	memoryOf = budget + 3*time.Second
)

type rowAt struct {
	member, table string
	key           int
}

type tableAt struct{ member, table string }

// difference is a row that a member has otherwise than it must.
type difference struct {
	kind  finding.Kind
	since time.Time // in whatever way
}

// past is a difference that is over.
type past struct {
	difference
	until time.Time
}

// oracle knows the true rows of every server at every moment.
type oracle struct {
	w         *world
	differ    map[rowAt]difference
	was       map[rowAt][]past
	unknown   map[tableAt]time.Time   // since when it cannot be said what a member must have
	knownAt   map[tableAt]time.Time   // since when it can
	traceless map[rowAt]time.Time     // when the row was last changed without a trace, there or on the reference
	alike     map[rowAt]time.Time     // when a row of the reference was last changed so on all servers, where it had been the same
	ahead     map[rowAt]time.Time     // when the reference last had a row yet to replay that a member had
	obscured  map[tableAt]time.Time   // until when the table's log was incomplete
	ill       map[string]time.Time    // when something was last wrong with a server, or with lockstep ("")
	out       map[string]time.Time    // when a member or a table was taken out of the configuration
	doubted   map[tableAt]time.Time   // when lockstep last said that it does not know
	said      map[tableAt]string      // the verdict and its reason as last said, for the trace
	seen      map[tableAt]sight       // what differs, as it was found last
	waited    map[tableAt]time.Time   // when a member last had transactions yet to replay, so that what was found before could stand
	misled    map[tableAt]time.Time   // when what brings a table last looked as if it were from the reference, and was not
	doubtful  map[tableAt]time.Time   // since when lockstep has said so all the time
	suspected map[tableAt]time.Time   // since when rows have been under suspicion all the time
	begun     map[tableAt][]time.Time // comparisons, of the reference that is now
	referred  time.Time               // since when there is that reference
	halted    map[string]time.Time    // when replication of a server last stood still
	mute      map[string]time.Time    // since when a server does not say how far it is
	scrubs    time.Time               // since when rows are read again, if they are
	scanned   map[string]bool         // members that were only scanned once
	sparse    map[string]bool         // tables that had no row index once

	mu      sync.Mutex
	notices []noticed // guarded by mu
	deaf    bool      // lockstep was killed; guarded by mu
	open    map[string]finding.Divergence
	born    time.Time // when lockstep was started
}

type noticed struct {
	at time.Time
	d  finding.Divergence
}

func newOracle(w *world) *oracle {
	return &oracle{
		w: w, differ: make(map[rowAt]difference), was: make(map[rowAt][]past), unknown: make(map[tableAt]time.Time),
		knownAt: make(map[tableAt]time.Time), traceless: make(map[rowAt]time.Time), alike: make(map[rowAt]time.Time), ahead: make(map[rowAt]time.Time), obscured: make(map[tableAt]time.Time),
		ill: make(map[string]time.Time), doubted: make(map[tableAt]time.Time), said: make(map[tableAt]string), waited: make(map[tableAt]time.Time), seen: make(map[tableAt]sight), misled: make(map[tableAt]time.Time), doubtful: make(map[tableAt]time.Time), suspected: make(map[tableAt]time.Time), begun: make(map[tableAt][]time.Time), scanned: make(map[string]bool), sparse: make(map[string]bool), mute: make(map[string]time.Time), halted: make(map[string]time.Time), out: make(map[string]time.Time), open: make(map[string]finding.Divergence),
	}
}

// notice is told of each divergence that opens or resolves, once it is durable.
func (o *oracle) notice(d finding.Divergence) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.deaf {
		o.notices = append(o.notices, noticed{time.Now(), d})
	}
}

func (o *oracle) killed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deaf = true
	o.ill[""] = time.Now()
}

func (o *oracle) started() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deaf, o.born = false, time.Now()
	o.ill[""] = time.Now()
}

// changed notes what lockstep watches in another way from now on.
func (o *oracle) changed(before, p plan) {
	for _, s := range o.w.servers {
		was, is := slices.Contains(before.members, s.Name), slices.Contains(p.members, s.Name)
		if was != is || slices.Contains(before.scanOnly, s.Name) != slices.Contains(p.scanOnly, s.Name) {
			o.ill[s.Name] = time.Now()
		}
	}
}

// look brings what is true up to now and holds what lockstep says against it.
func (o *oracle) look() {
	now := time.Now()
	o.see(now)
	o.mu.Lock()
	notices := o.notices
	o.notices = nil
	o.mu.Unlock()
	for _, n := range notices {
		o.hear(n)
	}
	if s := o.w.status(); s != nil && now.Sub(s.At) < time.Second {
		o.judge(now, s)
	}
}

// see finds out which rows differ.
func (o *oracle) see(now time.Time) {
	ref, changes := o.w.ref(), o.w.cluster.Changes()
	for _, t := range o.w.plan.sparse {
		o.sparse[t] = true
	}
	for _, s := range o.w.servers {
		if s.Broken() || s.Logless() {
			o.ill[s.Name] = now
		}
		if (s != ref || s.Replicates()) && (s.Disabled() || s.Stuck() != "" || o.w.pauses(s)) {
			o.halted[s.Name] = now
		}
		o.listen(now, s)
		if s == ref || !slices.Contains(o.w.plan.members, s.Name) {
			continue
		}
		for _, t := range tableNames {
			at := tableAt{s.Name, t}
			x, looked := o.seen[at]
			if !looked || x.changes != changes || x.ref != ref {
				x = sight{changes: changes, ref: ref}
				x.differ, x.known = s.Differences(ref, t, nil)
				x.ahead = s.Before(ref, t)
				x.inFlight, x.first = s.InFlight(ref, t)
				o.seen[at] = x
			}
			if !x.known {
				delete(o.knownAt, at)
				if s.Namesake(ref, t) {
					o.misled[at] = now
					delete(o.unknown, at)
				} else if o.unknown[at].IsZero() {
					o.unknown[at] = now
				}
			} else if o.knownAt[at].IsZero() {
				delete(o.unknown, at)
				o.knownAt[at] = now
			}
			for key := range x.ahead {
				o.ahead[rowAt{s.Name, t, key}] = now
			}
			o.compare(now, s.Name, t, x.differ)
		}
	}
}

// sight is what differs of a table while nothing changes any server.
type sight struct {
	changes int
	ref     *cdctest.Server
	differ  map[int]cdctest.Difference
	ahead   map[int]bool
	known   bool

	inFlight int       // transactions of the reference's
	first    time.Time // when the first of them was written
}

// inFlight returns how many transactions of the reference's that change a table a member has yet to go through, and when the first was written.
func (o *oracle) inFlight(at tableAt) (n int, first time.Time) {
	if x, looked := o.seen[at]; looked && x.changes == o.w.cluster.Changes() && x.ref == o.w.ref() {
		return x.inFlight, x.first
	}
	return o.w.server(at.member).InFlight(o.w.ref(), at.table)
}

func (o *oracle) compare(now time.Time, member, table string, differ map[int]cdctest.Difference) {
	for at, d := range o.differ {
		if at.member != member || at.table != table {
			continue
		}
		if x, still := differ[at.key]; !still || kindOf(x) != d.kind {
			o.was[at] = append(o.was[at], past{d, now})
			if delete(o.differ, at); still {
				o.differ[at] = difference{kindOf(x), d.since}
			}
		}
	}
	for key, x := range differ {
		at := rowAt{member, table, key}
		if _, known := o.differ[at]; !known {
			o.differ[at] = difference{kindOf(x), now}
		}
	}
}

func kindOf(x cdctest.Difference) finding.Kind {
	switch {
	case x.Actual == nil:
		return finding.Missing
	case x.Expected == nil:
		return finding.Extra
	}
	return finding.Changed
}

// bound is within what time a difference of a row must be known; 0: there is no bound.
func (o *oracle) bound(at rowAt, least time.Duration) time.Duration {
	silent := o.traceless[at]
	if on := o.traceless[rowAt{o.w.plan.reference, at.table, at.key}]; on.After(silent) {
		silent = on
	}
	scanned := slices.Contains(o.w.plan.scanOnly, at.member)
	if scanned || !silent.IsZero() {
		if !o.w.plan.scrub || time.Since(o.scrubs) < silentWithin {
			return 0
		}
		return silentWithin
	}
	for _, who := range []string{at.member, o.w.plan.reference} {
		if until := o.obscured[tableAt{who, at.table}]; !until.IsZero() {
			return unseenWithin
		}
	}
	return least
}

// live says of the tables on members whether lockstep has their rows.
func (w *world) live() map[tableAt]bool {
	live := make(map[tableAt]bool)
	if s := w.status(); s != nil {
		for _, m := range s.Members {
			for _, t := range m.Tables {
				live[tableAt{m.Name, t.Table}] = t.Live
			}
		}
	}
	return live
}

// amissWith reports whether something was amiss with a table on a member a moment ago, by which its rows may have to be read again. One without a
// row index is read again when it is truncated, and where little may be in flight all is that was lost.
func (o *oracle) amissWith(at tableAt) bool {
	const moment, catalogs = 3 * time.Second, 15 * time.Second
	now := time.Now()
	return o.sparse[at.table] || o.w.plan.inFlight > 0 || !o.healthy(now, at.member, moment) || now.Sub(latest(o.obscured[at], o.out[at.member], o.out[at.table], o.born)) < catalogs
}

// judge holds verdicts against the truth.
func (o *oracle) judge(now time.Time, status *status.Group) {
	for _, m := range status.Members {
		if m.Name == o.w.plan.reference || m.Role == "reference" {
			continue
		}
		for _, t := range m.Tables {
			if slices.Contains(tableNames, t.Table) {
				o.judgeTable(now, m, t)
			}
		}
	}
}

func (o *oracle) judgeTable(now time.Time, m status.Member, t status.Table) {
	at := tableAt{m.Name, t.Table}
	good := t.Verdict == status.InStep
	if said := strings.TrimSpace(string(t.Verdict) + " " + t.Reason); o.said[at] != said {
		o.said[at] = said
		o.w.trace.say(m.Name, "is said to be", t.Table+" "+said)
	}
	if t.Reason != "" || t.Verdict == status.Stale { // what was read cannot be confirmed while nothing is replayed
		o.doubted[at] = now
	}
	o.judgeDoubt(now, at, t)
	o.judgeSuspects(now, at, t)
	o.judgeUnheard(now, at, t)
	o.judgeSilent(at, t)
	o.judgeReads(now, at)
	o.judgeKept(at, t)
	o.noteBegun(at, t)
	doubted := latest(o.doubted[at], o.born, t.ComparedAt.Time)
	if since, unknown := o.unknown[at]; unknown && good && now.Sub(since) > unseenWithin {
		o.w.fail("%s %s is in step, though for %v nothing can be said of it", m.Name, t.Table, now.Sub(since))
	}
	if _, known := o.knownAt[at]; !known {
		return
	}
	for row, d := range o.differ {
		if row.member != m.Name || row.table != t.Table {
			continue
		}
		since := latest(d.since, o.knownAt[at])
		age := now.Sub(since)
		if bound := o.bound(row, patience); good && bound > 0 && age > bound {
			o.w.fail("%s %s is in step, though row %d is %s for %v", m.Name, t.Table, row.key, d.kind, age)
		}
		if bound := o.bound(row, alertWithin); t.Verdict == status.Lagging && bound > 0 && min(age, now.Sub(doubted)) > bound {
			o.w.fail("%s %s is lagging, though row %d is %s for %v", m.Name, t.Table, row.key, d.kind, age)
		}
	}
	n, late := o.overdue(at, now)
	if min(late, now.Sub(doubted)) > alertWithin && (good || t.Verdict == status.Lagging) {
		o.w.fail("%s %s is %s, though %d transactions are in flight, the first for %v", m.Name, t.Table, t.Verdict, n, late)
	}
	if n > 0 || o.awaited(m.Name, t.ComparedAt.Time) || len(o.seen[at].ahead) > 0 || o.w.ref().Strayed() {
		o.waited[at] = now
	}
	const ago = 20 * time.Second
	if t.Verdict == status.Diverged && t.Reason == "" && now.Sub(latest(o.waited[at], o.knownAt[at])) > ago && o.healthy(now, m.Name, ago) && !o.anyLately(now, at, ago) && !o.silently(now, at) {
		o.w.fail("%s %s is diverged, though no row differs", m.Name, t.Table)
	}
}

// overdue returns how many transactions a member has yet to go through that change a table, and for how long that can be known
// of the first.
func (o *oracle) overdue(at tableAt, now time.Time) (n int, late time.Duration) {
	n, first := o.inFlight(at)
	if n == 0 {
		return 0, 0
	}
	known := append(slices.Clone(o.begun[at]), o.knownAt[at], o.born, o.ill[at.member], o.ill[o.w.plan.reference])
	return n, now.Sub(latest(append(known, first)...))
}

// awaited reports whether a member cannot be compared yet since it was read anew, because it has not replayed all that the
// reference had written by then: what was found before stands until it has.
func (o *oracle) awaited(member string, compared time.Time) bool {
	if compared.After(o.ill[member]) {
		return false
	}
	for _, table := range tableNames {
		if n, _ := o.inFlight(tableAt{member, table}); n > 0 {
			return true
		}
	}
	return false
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, func(a, b time.Time) int { return a.Compare(b) })
}

// healthy reports whether nothing was wrong for a time with a member, the reference, and lockstep.
func (o *oracle) healthy(now time.Time, member string, for_ time.Duration) bool {
	for _, who := range []string{member, o.w.plan.reference, ""} {
		if at := o.ill[who]; !at.IsZero() && now.Sub(at) < for_ {
			return false
		}
	}
	return true
}

// silently reports whether a row of a table was changed without a trace, on the member or the reference, that lockstep need
// not have found yet.
func (o *oracle) silently(now time.Time, t tableAt) bool {
	for at, when := range o.traceless {
		if at.table == t.table && (at.member == t.member || at.member == o.w.plan.reference) && o.unknowing(now, when) {
			return true
		}
	}
	return false
}

// unknowing reports whether lockstep need not have found yet what was changed then without a trace.
func (o *oracle) unknowing(now, changed time.Time) bool {
	return !changed.IsZero() && (!o.w.plan.scrub || now.Sub(changed) < silentWithin)
}

// anyLately reports whether any row of a table differs or did a while ago.
func (o *oracle) anyLately(now time.Time, t tableAt, ago time.Duration) bool {
	for at := range o.differ {
		if at.member == t.member && at.table == t.table {
			return true
		}
	}
	for at, list := range o.was {
		if at.member != t.member || at.table != t.table {
			continue
		}
		for _, p := range list {
			if now.Sub(p.until) < ago {
				return true
			}
		}
	}
	return false
}

// hear judges what people were told.
func (o *oracle) hear(n noticed) {
	d := n.d
	o.w.trace.say(d.Member, d.State, fmt.Sprintf("%s %s %s by %v: %s %s", d.Table, d.Kind, d.Cause, introduced(d), spans(d), d.Detail))
	was, known := o.open[d.ID]
	if d.State == finding.Open {
		if known {
			return
		}
		o.open[d.ID] = d
		if d.Kind != finding.Stale {
			o.accuse(n)
		}
		return
	}
	delete(o.open, d.ID)
	switch {
	case !known:
	case d.Kind == finding.Stale:
		o.caughtUp(n)
	default:
		was.Member = n.d.Member // it is told of the other one of two since one of them became the reference
		o.resolve(n, was)
	}
}

// caughtUp checks that a member that is said to be late no more is not.
func (o *oracle) caughtUp(n noticed) {
	if n.d.Outcome == finding.Forgotten {
		return
	}
	at := tableAt{n.d.Member, n.d.Table}
	if awaited, late := o.overdue(at, n.at); late > alertWithin {
		o.w.fail("%s %s is said to have caught up, though %d transactions are in flight, the first for %v", at.member, at.table, awaited, late)
	}
}

func introduced(d finding.Divergence) string {
	if d.IntroducedBy == nil {
		return "nobody"
	}
	return d.IntroducedBy.Transaction
}

func spans(d finding.Divergence) string {
	text := ""
	for _, r := range d.Ranges {
		text += fmt.Sprintf(" %s..%s", r.First, r.Last)
	}
	return text
}

// accuse checks that each row of a divergence really differed, for as long as the budget.
func (o *oracle) accuse(n noticed) {
	d := n.d
	if !n.at.After(o.referred) {
		return // it was told just before there was another reference
	}
	var known time.Duration // for so long it can be said what differs
	if since, can := o.knownAt[tableAt{d.Member, d.Table}]; can {
		known = n.at.Sub(since)
	}
	for _, key := range o.keysOf(d) {
		at := rowAt{d.Member, d.Table, key}
		misled := latest(o.misled[tableAt{d.Member, d.Table}], o.ahead[at])
		if o.mayLookOtherwise(at, n.at) || !misled.IsZero() && n.at.Sub(misled) < memoryOf {
			known = 0 // since when it differs by what lockstep knows is not known here
			continue
		}
		if !o.differed(at, n.at) {
			o.w.fail("false alarm: %s %s row %d is said to be %s (%s)", d.Member, d.Table, key, d.Kind, d.Cause)
			return
		}
	}
	o.judgeCause(d)
	if lasted := o.longest(d, n.at); lasted < budget-beat && known >= budget {
		o.w.fail("early alarm: %s %s is said to be %s (%s), and differed for %v", d.Member, d.Table, d.Kind, d.Cause, lasted)
	}
}

// longest is for how long the row of a divergence that differed longest did so, of what was shown at a time: until it was right
// again, if it is.
func (o *oracle) longest(d finding.Divergence, now time.Time) (longest time.Duration) {
	scanned := slices.Contains(o.w.plan.scanOnly, d.Member)
	for _, key := range o.keysOf(d) {
		at := rowAt{d.Member, d.Table, key}
		since, until := time.Time{}, now
		if x, differs := o.differ[at]; differs {
			since = x.since
		}
		for _, p := range slices.Backward(o.was[at]) {
			if since.IsZero() {
				since, until = p.since, p.until
			}
			// Of a row that is read now and then is not seen that it was right for a moment.
			if scanned || since.Sub(p.until) <= memoryOf {
				since = earlier(since, p.since)
			}
		}
		if !since.IsZero() {
			longest = max(longest, until.Sub(since))
		}
	}
	return longest
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// remembered checks that a group that was started still knows what people were told of.
func (o *oracle) remembered(g *monitor.Group) {
	known := make(map[string]bool)
	if err := g.Divergences(func(d *finding.Divergence) bool { known[d.ID] = true; return true }); err != nil {
		o.w.fail("divergences cannot be read: %v", err)
	}
	told := maps.Clone(o.open)
	o.mu.Lock()
	for _, n := range o.notices { // that were not judged yet
		told[n.d.ID] = n.d
	}
	o.mu.Unlock()
	for id, d := range told {
		if !known[id] && d.State == finding.Open {
			o.w.fail("%s %s: people were told that it is %s, and nothing is known of it any more", d.Member, d.Table, d.Kind)
		}
	}
}

// keysOf lists the keys in the ranges of a divergence that are known to have differed: the ends, and what differs now between
// them. Rows that came between them since are left to the end of the history.
func (o *oracle) keysOf(d finding.Divergence) []int {
	keys := map[int]bool{}
	for _, r := range d.Ranges {
		first, last := number(r.First), number(r.Last)
		keys[first], keys[last] = true, true
		for at := range o.differ {
			if at.member == d.Member && at.table == d.Table && at.key > first && at.key < last {
				keys[at.key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

func number(text json.RawMessage) int {
	var key struct{ ID int }
	if err := json.Unmarshal(text, &key); err != nil {
		panic(err)
	}
	return key.ID
}

// differed reports whether a row differs, or did until so shortly ago that lockstep need not know yet, or may differ by what
// lockstep knows of its table.
func (o *oracle) differed(at rowAt, now time.Time) bool {
	if _, differs := o.differ[at]; differs {
		return true
	}
	ago := memoryOf
	for _, who := range []string{at.member, o.w.plan.reference, ""} {
		if ill := o.ill[who]; !ill.IsZero() && now.Sub(ill) < 30*time.Second {
			ago = time.Hour // what it knew last may be old
		}
	}
	for _, p := range o.was[at] {
		if now.Sub(p.until) < ago {
			return true
		}
	}
	return false
}

// same reports whether a row is, and has been for a while, the same on all servers, with nothing of its table in flight.
func (o *oracle) same(table string, key int) bool {
	if o.w.behind() > 0 {
		return false
	}
	for _, s := range o.w.servers {
		at := rowAt{s.Name, table, key}
		_, differs := o.differ[at]
		if differs || s != o.w.ref() && o.knownAt[tableAt{s.Name, table}].IsZero() || len(o.was[at]) > 0 && time.Since(o.was[at][len(o.was[at])-1].until) < memoryOf {
			return false
		}
	}
	return true
}

// mayLookOtherwise reports whether a row may differ by what lockstep knows, as one side of it was changed without a trace. What
// was changed on both at once is never held against either, but of a table of which no rows are kept: there those of one side may
// be older than those of the other until the next scrub.
func (o *oracle) mayLookOtherwise(at rowAt, now time.Time) bool {
	here, there := o.traceless[at], o.traceless[rowAt{o.w.plan.reference, at.table, at.key}]
	if here.Equal(there) && here.Equal(o.alike[rowAt{o.w.plan.reference, at.table, at.key}]) && !o.sparse[at.table] {
		return false
	}
	return slices.ContainsFunc([]string{at.member, o.w.plan.reference}, func(who string) bool {
		return o.unknowing(now, o.traceless[rowAt{who, at.table, at.key}])
	})
}

// absent reports whether no member has a table, and notes it: it may be forgotten then, which is as good as out.
func (o *oracle) absent(table string) bool {
	for _, name := range o.w.plan.members {
		if slices.Contains(o.w.server(name).Tables(), table) {
			return false
		}
	}
	o.out[table] = time.Now()
	return true
}

// resolve checks that no row of a divergence that is over differs still, all the time since it was told of; and that what is
// said to be forgotten may be.
func (o *oracle) resolve(n noticed, was finding.Divergence) {
	watched := slices.Contains(o.w.plan.members, was.Member) && !slices.Contains(o.w.plan.excluded, was.Table)
	out := latest(o.out[was.Member], o.out[was.Table], o.referred)
	if n.d.Outcome == finding.Forgotten {
		if watched && n.at.Sub(out) > unseenWithin {
			o.w.fail("%s %s: a divergence is said to be forgotten, though it is watched (%s)", was.Member, was.Table, n.d.Detail)
		}
		return
	}
	for _, key := range o.keysOf(was) {
		at := rowAt{was.Member, was.Table, key}
		d, differs := o.differ[at]
		anew := d.since.After(was.ConfirmedAt.Add(-budget)) // it was right in between: what was told of is older than a budget
		if !differs || anew || o.covered(at, n.at) || o.mayLookOtherwise(at, n.at) {
			continue
		}
		o.w.fail("%s %s is said to be resolved, though row %d has been %s since %v ago", was.Member, was.Table, key, d.kind, n.at.Sub(d.since))
		return
	}
}

// covered reports whether another open divergence is about a row: has it among its ranges, or is of rows that differ in a way
// in which that did a moment ago, whose ranges may be found anew in a moment.
func (o *oracle) covered(at rowAt, now time.Time) bool {
	kinds := map[finding.Kind]bool{o.differ[at].kind: true}
	for _, p := range o.was[at] {
		kinds[p.kind] = kinds[p.kind] || now.Sub(p.until) < memoryOf
	}
	for _, d := range o.others() {
		if d.Member != at.member || d.Table != at.table {
			continue
		}
		if kinds[d.Kind] {
			return true
		}
		for _, r := range d.Ranges {
			if number(r.First) <= at.key && at.key <= number(r.Last) {
				return true
			}
		}
	}
	return false
}

// others are the divergences that are open: those that were told of, and those that a crash kept from being told.
func (o *oracle) others() map[string]finding.Divergence {
	all := maps.Clone(o.open)
	if err := o.w.group.Divergences(func(d *finding.Divergence) bool {
		if d.State == finding.Open {
			all[d.ID] = *d
		}
		return true
	}); err != nil {
		o.w.fail("divergences cannot be read: %v", err)
	}
	return all
}

// amiss holds all that is open against all that differs, where nothing happens any more, and says what is not right.
func (o *oracle) amiss() (list []string) {
	w := o.w
	for _, m := range w.status().Members {
		if m.Name != w.plan.reference && (m.InFlight != 0 || m.Behind != 0) {
			list = append(list, fmt.Sprintf("%d changes are said to be in flight to %s, the first for %v", m.InFlight, m.Name, m.Behind))
		}
		errant := w.server(m.Name).Executed().Without(w.ref().Executed())
		counted := m.ErrantCount != nil && *m.ErrantCount == errant.Count() || m.Name == w.plan.reference
		if w.cluster.Engine == cdctest.MySQL && (m.Errant != errant.String() || !counted) {
			list = append(list, fmt.Sprintf("%s is said to have %q which the reference has not, counted rightly: %v, and has %q", m.Name, m.Errant, counted, errant))
		}
		for _, t := range m.Tables {
			at := tableAt{m.Name, t.Table}
			_, known := o.knownAt[at]
			switch {
			case m.Name != w.plan.reference && !known:
				if t.Verdict == status.InStep || t.Verdict == status.Lagging {
					list = append(list, fmt.Sprintf("%s %s is %s, though nothing can be said of it", m.Name, t.Table, t.Verdict))
				}
			case t.Verdict != status.InStep && t.Verdict != status.Diverged:
				list = append(list, fmt.Sprintf("%s %s is %s: %s", m.Name, t.Table, t.Verdict, t.Reason))
			}
		}
	}
	want, got, over := make(map[string]bool), make(map[string]bool), w.told.fires()
	for at, d := range o.differ {
		delete(over, tableAt{at.member, at.table})
		if slices.Contains(w.plan.members, at.member) && !slices.Contains(w.plan.excluded, at.table) && !o.knownAt[tableAt{at.member, at.table}].IsZero() {
			want[fmt.Sprintf("%s %s %d %s", at.member, at.table, at.key, d.kind)] = true
		}
	}
	err := w.group.Divergences(func(d *finding.Divergence) bool {
		if _, known := o.knownAt[tableAt{d.Member, d.Table}]; !known || d.State != finding.Open {
			return true // what is open of a table in doubt stays so
		}
		for _, r := range d.Ranges {
			for key := number(r.First); key <= number(r.Last); key++ {
				x, differs := o.differ[rowAt{d.Member, d.Table, key}]
				if differs && x.kind != d.Kind && key != number(r.First) && key != number(r.Last) {
					continue // a range may hold keys that differ in another way
				}
				if differs || key == number(r.First) || key == number(r.Last) || o.exists(d, key) {
					got[fmt.Sprintf("%s %s %d %s", d.Member, d.Table, key, d.Kind)] = true
				}
			}
		}
		return true
	})
	if err != nil {
		list = append(list, fmt.Sprintf("divergences cannot be read: %v", err))
	}
	if !maps.Equal(want, got) {
		list = append(list, fmt.Sprintf("what differs and what is open are not the same:\n missed %v\n false %v", minus(want, got), minus(got, want)))
	}
	if len(over) > 0 {
		list = append(list, fmt.Sprintf("receivers were not told that it is over: %v", over))
	}
	return list
}

func (o *oracle) exists(d *finding.Divergence, key int) bool {
	return o.w.ref().Row(d.Table, key) != nil || o.w.server(d.Member).Row(d.Table, key) != nil
}

func minus(a, b map[string]bool) []string {
	var rest []string
	for k := range a {
		if !b[k] {
			rest = append(rest, k)
		}
	}
	slices.Sort(rest)
	return rest
}
