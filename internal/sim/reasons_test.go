package sim

import (
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

// What lockstep says beside its verdicts has to be true as well: who is to blame for a difference, that it does not know, how far
// a member is behind.

const (
	// doubtWithin is how long lockstep may say that it does not know, with no reason.
	doubtWithin = 10 * time.Second
	// quietFor is for how long nothing must have been amiss before, for that to be so.
	quietFor = 20 * time.Second
)

// judgeCause holds the cause of a divergence that opens against what servers did: the transaction that is blamed changed
// each of its rows there, and what came about while the table was compared has one.
func (o *oracle) judgeCause(d finding.Divergence) {
	if d.Detail == notCompared && o.referred.IsZero() && len(o.begun[tableAt{d.Member, d.Table}]) < 2 {
		o.w.fail("wrong cause: %s %s is said to have come to be %s while it was not compared, and it was not compared before", d.Member, d.Table, d.Kind)
	}
	if d.Detail == finding.AndLater || o.changedUnseen(d.Member, d.Table) {
		return // it has the rows of others too, or of nobody
	}
	for _, key := range o.ends(d) {
		switch {
		case d.IntroducedBy != nil && !o.guilty(d, key):
			o.w.fail("wrong cause: %s %s row %d is said to be %s by %s (%s), which did not touch it", d.Member, d.Table, key, d.Kind, d.IntroducedBy.Transaction, d.Cause)
			return
		case d.Cause == finding.CauseUnknown && d.Detail == "" && !o.sparse[d.Table]: // who wrote to ranges whose rows were to be read is not kept over a crash
			o.w.fail("no cause: nobody is said to have made %s %s row %d %s while it was compared", d.Member, d.Table, key, d.Kind)
			return
		}
	}
}

// notCompared is what is said of differences that are found when a comparison begins again.
const notCompared = "it came about while the table was not compared"

// noteBegun notes when comparisons began.
func (o *oracle) noteBegun(at tableAt, t status.Table) {
	when := t.ComparedAt.Time
	if when.After(o.referred) && !slices.Contains(o.begun[at], when) {
		o.begun[at] = append(o.begun[at], when)
	}
}

// judgeSilent checks that rows are said to have been changed without a trace only if some were. What is found by reading a member
// whose log is not read counts so, whatever became of it.
func (o *oracle) judgeSilent(at tableAt, t status.Table) {
	if slices.Contains(o.w.plan.scanOnly, at.member) {
		o.scanned[at.member] = true
	}
	if t.Silent == 0 || o.scanned[at.member] || o.changedUnseen(at.member, at.table) {
		return
	}
	o.w.fail("%d rows of %s %s are said to have been changed without a trace, and none was", t.Silent, at.member, at.table)
}

// judgeReads checks that the same is not read again and again.
func (o *oracle) judgeReads(now time.Time, at tableAt) {
	const within = 10 * time.Second
	if o.w.plan.inFlight > 0 {
		return // a lane that is too far behind has its tables read
	}
	for what, often := range map[string]int{wholeTable: 5, oneRange: 50} { // of which there are some
		if n := o.w.trace.readSince(reading{what, at}, now.Add(-within)); n > often && o.healthy(now, at.member, within) {
			o.w.fail("%s %s: %q %d times in %v", at.member, at.table, what, n, within)
		}
	}
}

// judgeKept checks that nothing is said of rows that are kept of a member of which none are.
func (o *oracle) judgeKept(at tableAt, t status.Table) {
	if slices.Contains(o.w.plan.scanOnly, at.member) && (t.Live || t.Rows != 0 || t.Root != "") {
		o.w.fail("%s is only scanned, and %d rows of %s are said to be kept of it", at.member, t.Rows, at.table)
	}
}

// listen notes since when a server has not said how far it is.
func (o *oracle) listen(now time.Time, s *cdctest.Server) {
	if since := o.mute[s.Name]; !s.Mute() {
		delete(o.mute, s.Name)
	} else if since.IsZero() {
		o.mute[s.Name] = now
	}
}

// judgeUnheard checks that nothing is vouched for of a member that is not heard from, or while the reference is not.
func (o *oracle) judgeUnheard(now time.Time, at tableAt, t status.Table) {
	for _, who := range []string{at.member, o.w.plan.reference} {
		since, mute := o.mute[who]
		if mute && now.Sub(since) > patience && (t.Verdict == status.InStep || t.Verdict == status.Lagging) {
			o.w.fail("%s %s is %s, though %s has not been heard for %v", at.member, at.table, t.Verdict, who, now.Sub(since))
		}
	}
}

// guilty reports whether the transaction that is blamed for a difference of a row changed it where it is said to have.
func (o *oracle) guilty(d finding.Divergence, key int) bool {
	tx := d.IntroducedBy.Transaction
	there, here := o.w.ref().Touched(tx, d.Table, key), o.w.server(d.Member).Touched(tx, d.Table, key)
	switch d.Cause {
	case finding.CauseErrant:
		return here
	case finding.CauseSkipped:
		return there
	}
	return here || there
}

// ends lists the keys at the ends of a divergence's ranges.
func (o *oracle) ends(d finding.Divergence) (keys []int) {
	for _, r := range d.Ranges {
		keys = append(keys, number(r.First), number(r.Last))
	}
	return keys
}

// changedUnseen reports whether rows of a table were changed, on a member or the reference, by what their logs do not show.
func (o *oracle) changedUnseen(member, table string) bool {
	for _, who := range []string{member, o.w.plan.reference} {
		if !o.obscured[tableAt{who, table}].IsZero() {
			return true
		}
	}
	for at := range o.traceless {
		if at.table == table && (at.member == member || at.member == o.w.plan.reference) {
			return true
		}
	}
	return false
}

// judgeDoubt checks that lockstep does not go on saying that it does not know while nothing is amiss.
func (o *oracle) judgeDoubt(now time.Time, at tableAt, t status.Table) {
	if t.Reason == "" {
		delete(o.doubtful, at)
		return
	}
	since, doubtful := o.doubtful[at]
	if !doubtful {
		o.doubtful[at] = now
		return
	}
	if now.Sub(since) > doubtWithin && o.quiet(at, since.Add(-quietFor)) {
		o.w.fail("%s %s is said to be in doubt for %v, though nothing is amiss: %s", at.member, at.table, now.Sub(since), t.Reason)
	}
}

// judgeSuspects checks that rows under suspicion are read again, whoever else cannot be read, once the member has all that the reference had.
func (o *oracle) judgeSuspects(now time.Time, at tableAt, t status.Table) {
	since, suspected := o.suspected[at]
	behind, _ := o.inFlight(at)
	switch {
	case t.Suspects == 0 || behind > 0 || latest(o.halted[at.member], o.halted[o.w.plan.reference]).After(since) || !o.healthy(now, at.member, now.Sub(since)):
		delete(o.suspected, at)
		suspected = false
	case suspected && now.Sub(since) > suspectsWithin:
		o.w.fail("%d rows of %s %s are said to be under suspicion for %v", t.Suspects, at.member, at.table, now.Sub(since))
	}
	if !suspected && t.Suspects > 0 {
		o.suspected[at] = now
	}
}

// quiet reports whether nothing has been amiss with a table on a member since a time: lag is not.
func (o *oracle) quiet(at tableAt, since time.Time) bool {
	w := o.w
	if w.plan.inFlight > 0 || slices.Contains(w.plan.scanOnly, at.member) {
		return false
	}
	if known := o.knownAt[at]; known.IsZero() || known.After(since) {
		return false
	}
	for row := range o.traceless {
		if row.table == at.table {
			return false
		}
	}
	for _, member := range w.plan.members { // one whose server hangs delays what is read of the others' definitions
		if !o.ill[member].Before(since) {
			return false
		}
	}
	return latest(
		o.halted[at.member], o.halted[w.plan.reference], o.ill[w.plan.reference], o.ill[""], o.obscured[at], o.obscured[tableAt{w.plan.reference, at.table}],
		o.out[at.member], o.out[at.table],
	).Before(since)
}
