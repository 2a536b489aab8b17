package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// action is something that can happen. do returns false if it cannot happen now.
type action struct {
	name   string
	weight int
	do     func(w *world, r *rand.Rand) bool
}

// late is the weight of an action that only seeds draw which are times, as those are that no run before has had: what the others draw
// stays what it was. lateWeight is what it counts there.
const late, lateWeight = 0, 2

// weighs is how often the action is drawn by a seed.
func (a *action) weighs(seed uint64) int {
	if a.weight == late && seed > 1<<32 {
		return lateWeight
	}
	return a.weight
}

// actions are all that is drawn, with how often. The run prints how often each was; a test fails when one never is.
var actions = []action{
	// Applications.
	{"write", 60, func(w *world, r *rand.Rand) bool { return w.write(w.writer(), r, 1+r.IntN(4)) }},
	{"write much", 3, func(w *world, r *rand.Rand) bool { return w.write(w.writer(), r, 60) }},
	{"swap keys", 3, swapKeys},
	{"truncate", 1, func(w *world, r *rand.Rand) bool { w.writer().Write(cdctest.Truncate(anyTable(r))); return true }},
	{"empty transaction", 2, func(w *world, r *rand.Rand) bool { w.writer().Write(); return true }},
	{"commit that waits for a synchronous standby", 4, hiddenWrite},
	{"noise", 3, func(w *world, r *rand.Rand) bool { w.anyServer(r).Noise(); return true }},
	{"update a part of a row", 8, partialUpdate},
	// Replication that goes wrong.
	{"errant write", 5, func(w *world, r *rand.Rand) bool { return w.write(w.follower(r), r, 1+r.IntN(3)) }},
	{"many errant writes", 1, manyErrant},
	{"many short errant writes", 1, manyShortErrant},
	{"replay wrongly", 6, replayWrongly},
	{"write what heals", 6, heal},
	{"pause replication", 4, pause},
	{"resume replication", 6, resume},
	{"silent change", 4, silently},
	{"silent change on the reference", 1, func(w *world, r *rand.Rand) bool { return w.silent(w.ref(), r) }},
	// Definitions.
	{"add column on one", 1, func(w *world, r *rand.Rand) bool { return w.addColumn(w.anyServer(r), r) }},
	{"add column on all", 1, addColumns},
	{"drop column on one", 1, func(w *world, r *rand.Rand) bool {
		w.touchSchema()
		w.follower(r).DropColumn(anyTable(r), "extra")
		return true
	}},
	{"drop column on all", 1, dropColumns},
	{"alter column on one", 1, alterColumn},
	{"rewrite", 1, func(w *world, r *rand.Rand) bool { w.anyServer(r).Rewrite(anyTable(r)); return true }},
	{"unpublish for a moment", 2, unpublish},
	// Logs.
	{"purge", 1, purge},
	{"copy disk", 3, func(w *world, r *rand.Rand) bool { s := w.anyServer(r); w.copies[s.Name] = s.Copy(); return true }},
	{"set back to a copy", 2, setBack},
	{"reset log and seed", 1, resetLog},
	{"log off for a while", 1, logOff},
	{"log on", 2, logOn},
	{"promote", 1, promote},
	// The way there.
	{"cut", 4, func(w *world, r *rand.Rand) bool { w.anyServer(r).Cut(); return true }},
	{"break", 5, breakServer},
	{"mend", 8, mend},
	{"clock jumps", 1, func(w *world, r *rand.Rand) bool {
		w.anyServer(r).Skew(time.Duration(r.IntN(48)-24) * time.Hour)
		return true
	}},
	// Lanes.
	{"move a table to another lane", 1, moveTable},
	{"double a table", 1, doubleTable},
	{"initial copy", 1, func(w *world, r *rand.Rand) bool { return copyInitially(w, r, 0) }},
	{"disable lane", 2, disableLane},
	{"enable lanes", 3, enableLanes},
	// lockstep itself.
	{"crash", 4, func(w *world, r *rand.Rand) bool { w.crash(r); return true }},
	{"crash at a later write", 4, func(w *world, r *rand.Rand) bool {
		w.share = r.IntN(101)
		w.fuse.Store(1 + r.Int64N(400))
		return true
	}},
	{"restart", 2, func(w *world, r *rand.Rand) bool { w.restart(w.plan.clone()); return true }},
	{"member out", 1, memberOut},
	{"member in", 2, memberIn},
	{"table out", 1, tableOut},
	{"table in", 2, tableIn},
	{"another reference", 1, anotherReference},
	{"scan only", 1, scanOnly},
	{"row index off or on", 1, sparse},
	{"scrub asked for", 3, askScrub},
	{"receiver away", 2, func(w *world, r *rand.Rand) bool { w.told.away.Store(!w.told.away.Load()); return true }},
	{"acknowledge", 1, acknowledge},
	{"wait", 1, func(w *world, r *rand.Rand) bool { w.run(time.Duration(r.IntN(10)) * time.Second); return true }},
	{"connect to a member anew", 1, connectAnew},
	{"silent change everywhere", 1, silentlyEverywhere},
	// Later ones come here and take their weight from the one before, so that what seeds draw stays what it was: those that
	// mutants meet first are known to kill them.
	{"subscribe anew", 1, subscribeAnew},
	{"long initial copy", 1, func(w *world, r *rand.Rand) bool { return copyInitially(w, r, unseenWithin+5*time.Second) }},
	{"row that differs in other ways", 1, differOtherwise},
	{"a replica as the reference", 1, replicaAsReference},
	// There is no weight left to take.
	{"a table goes and comes back", late, tableGoes},
}

// changesPlan are those that change what lockstep watches, with the same reference: half of them in place.
var changesPlan = map[string]bool{
	"member out": true, "member in": true, "table out": true, "table in": true, "scan only": true, "row index off or on": true,
}

func anyTable(r *rand.Rand) string { return tableNames[r.IntN(len(tableNames))] }

func (w *world) anyServer(r *rand.Rand) *cdctest.Server { return w.servers[r.IntN(len(w.servers))] }

// follower is a server that replicates from the one that applications write to.
func (w *world) follower(r *rand.Rand) *cdctest.Server {
	for {
		if s := w.anyServer(r); s != w.writer() {
			return s
		}
	}
}

// held is a server that lockstep holds against the reference.
func (w *world) held(r *rand.Rand) *cdctest.Server {
	for {
		if s := w.anyServer(r); s != w.ref() {
			return s
		}
	}
}

// write has an application write a transaction.
func (w *world) write(s *cdctest.Server, r *rand.Rand, n int) bool {
	var changes []cdctest.Change
	table := anyTable(r)
	for range n {
		if r.IntN(4) == 0 {
			table = anyTable(r)
		}
		key := w.anyKey(table, r)
		switch r.IntN(8) {
		case 0:
			changes = append(changes, cdctest.Delete(table, key))
		case 1:
			changes = append(changes, cdctest.Move(table, key, w.anyKey(table, r), cdctest.Row{"v": w.value()}))
		default:
			set := cdctest.Row{"v": w.value()}
			if r.IntN(3) == 0 || s.Row(table, key) == nil {
				set["note"] = w.value()
			}
			if slices.Contains(s.Columns(table), "extra") && r.IntN(2) == 0 {
				set["extra"] = w.value()
			}
			changes = append(changes, cdctest.Put(table, key, set))
		}
	}
	id := s.Write(changes...)
	w.trace.say(s.Name, "writes "+id.String(), fmt.Sprint(brief(changes)))
	return true
}

func brief(changes []cdctest.Change) string {
	text := ""
	for i, c := range changes {
		if i == 4 {
			return text + "…"
		}
		switch {
		case c.Truncate:
			text += fmt.Sprintf(" truncate %s", c.Table)
		case c.Delete:
			text += fmt.Sprintf(" -%s/%d", c.Table, c.Key)
		case c.From != 0:
			text += fmt.Sprintf(" %s/%d>%d", c.Table, c.From, c.Key)
		default:
			text += fmt.Sprintf(" %s/%d=%v", c.Table, c.Key, c.Set)
		}
	}
	return text
}

// hiddenWrite is a transaction that followers have before readers of the reference see it.
func hiddenWrite(w *world, r *rand.Rand) bool {
	var changes []cdctest.Change
	for range 1 + r.IntN(3) {
		t := anyTable(r)
		changes = append(changes, cdctest.Put(t, w.anyKey(t, r), cdctest.Row{"v": w.value()}))
	}
	id := w.writer().WriteHidden(time.Duration(r.IntN(2000))*time.Millisecond, changes...)
	w.trace.say(w.writer().Name, "writes hidden "+id.String(), brief(changes))
	return !id.IsZero()
}

func swapKeys(w *world, r *rand.Rand) bool {
	t, s := anyTable(r), w.writer()
	keys := s.Keys(t)
	if len(keys) < 2 {
		return false
	}
	a, b := keys[r.IntN(len(keys))], keys[r.IntN(len(keys))]
	if a == b {
		return false
	}
	const aside = 999
	s.Write(cdctest.Move(t, a, aside, nil), cdctest.Move(t, b, a, nil), cdctest.Move(t, aside, b, nil))
	return true
}

func partialUpdate(w *world, r *rand.Rand) bool {
	t, s := anyTable(r), w.writer()
	keys := s.Keys(t)
	if len(keys) == 0 {
		return false
	}
	s.Write(cdctest.Put(t, keys[r.IntN(len(keys))], cdctest.Row{"v": w.value()}))
	return true
}

func manyErrant(w *world, r *rand.Rand) bool {
	s := w.follower(r)
	for range 120 {
		s.Write(cdctest.Put(tableNames[0], 1+r.IntN(30), cdctest.Row{"v": w.value()}))
	}
	return true
}

// manyShortErrant is an application that writes to a follower what is not to be there, and takes each row out again in time:
// more at once than have a finding each.
func manyShortErrant(w *world, r *rand.Rand) bool {
	s, t := w.follower(r), tableNames[0]
	const first, each, rounds, lives = 1000, 4, 120, 30
	for i := range rounds + lives {
		for n := range each {
			if i < rounds {
				s.Write(cdctest.Put(t, first+i*each+n, cdctest.Row{"v": i}))
			}
			if i >= lives {
				s.Write(cdctest.Delete(t, first+(i-lives)*each+n))
			}
		}
		w.run(beat)
	}
	return true
}

// differOtherwise is an application that changes a row on a follower and takes it out again, in turns, for longer than a
// budget.
func differOtherwise(w *world, r *rand.Rand) bool {
	s, t := w.follower(r), anyTable(r)
	keys := w.ref().Keys(t)
	if len(keys) == 0 {
		return false
	}
	key, every := keys[r.IntN(len(keys))], time.Duration(1+r.IntN(10))*beat
	w.trace.say(s.Name, "a row differs in other ways", fmt.Sprintf("%s/%d every %v", t, key, every))
	for range (budget + 12*time.Second) / every / 2 {
		s.Write(cdctest.Put(t, key, cdctest.Row{"v": w.value()}))
		w.run(every)
		s.Write(cdctest.Delete(t, key))
		w.run(every)
	}
	return true
}

func replayWrongly(w *world, r *rand.Rand) bool {
	s := w.follower(r)
	w.bad[s.Name] = cdctest.Fault(1 + r.IntN(5))
	w.trace.say(s.Name, "will replay wrongly", fmt.Sprint(w.bad[s.Name]))
	return true
}

// heal makes rows of a follower what they must be, by writes of its own.
func heal(w *world, r *rand.Rand) bool {
	s, t := w.held(r), anyTable(r)
	differ, _ := s.Differences(w.ref(), t, nil)
	if len(differ) == 0 {
		return false
	}
	w.healTable(s, t)
	return true
}

func (w *world) healTable(s *cdctest.Server, t string) {
	differ, _ := s.Differences(w.ref(), t, nil)
	var changes []cdctest.Change
	for key, d := range differ {
		if d.Actual != nil {
			changes = append(changes, cdctest.Delete(t, key))
		}
		if d.Expected != nil {
			changes = append(changes, cdctest.Put(t, key, d.Expected))
		}
	}
	if len(changes) > 0 {
		w.trace.say(s.Name, "is healed", brief(changes))
		s.Write(changes...)
	}
}

func pause(w *world, r *rand.Rand) bool {
	s := w.follower(r)
	lanes := s.Lanes()
	if len(lanes) == 0 {
		return false
	}
	w.paused[s.Name+lanes[r.IntN(len(lanes))]] = true
	w.trace.say(s.Name, "replication pauses", "")
	return true
}

// pauses reports whether a lane of a server does.
func (w *world) pauses(s *cdctest.Server) bool {
	return slices.ContainsFunc(s.Lanes(), func(lane string) bool { return w.paused[s.Name+lane] })
}

func resume(w *world, _ *rand.Rand) bool { clear(w.paused); return true }

func silently(w *world, r *rand.Rand) bool { return w.silent(w.follower(r), r) }

func (w *world) silent(s *cdctest.Server, r *rand.Rand) bool {
	w.silence(s, w.unlogged(r))
	return true
}

// silentlyEverywhere is a change that each server makes by itself, as a foreign key's cascade.
func silentlyEverywhere(w *world, r *rand.Rand) bool {
	c := w.unlogged(r)
	if !c.Delete && r.IntN(2) == 0 {
		c.Set["note"] = w.value()
	}
	if w.oracle.same(c.Table, c.Key) {
		w.oracle.alike[rowAt{w.plan.reference, c.Table, c.Key}] = time.Now()
	}
	for _, s := range w.servers {
		w.silence(s, c)
	}
	return true
}

// unlogged draws a change that leaves no trace in the log.
func (w *world) unlogged(r *rand.Rand) cdctest.Change {
	t := anyTable(r)
	key := w.anyKey(t, r)
	if r.IntN(3) == 0 {
		return cdctest.Delete(t, key)
	}
	return cdctest.Put(t, key, cdctest.Row{"v": w.value()})
}

func (w *world) silence(s *cdctest.Server, c cdctest.Change) {
	w.oracle.traceless[rowAt{s.Name, c.Table, c.Key}] = time.Now()
	s.Silently(c)
	w.trace.say(s.Name, "silent change", fmt.Sprintf("%s/%d", c.Table, c.Key))
}

func (w *world) touchSchema() {
	for _, s := range w.servers {
		for _, t := range tableNames {
			w.oracle.obscured[tableAt{s.Name, t}] = time.Now()
		}
	}
}

func (w *world) addColumn(s *cdctest.Server, r *rand.Rand) bool {
	w.touchSchema()
	s.AddColumn(anyTable(r), cdctest.Int("extra"))
	return true
}

func addColumns(w *world, r *rand.Rand) bool {
	t := anyTable(r)
	w.touchSchema()
	for _, i := range r.Perm(len(w.servers)) {
		w.servers[i].AddColumn(t, cdctest.Int("extra"))
		w.run(time.Duration(r.IntN(400)) * time.Millisecond)
	}
	return true
}

func dropColumns(w *world, r *rand.Rand) bool {
	t := anyTable(r)
	w.touchSchema()
	for _, i := range r.Perm(len(w.servers)) {
		w.servers[i].DropColumn(t, "extra")
		w.run(time.Duration(r.IntN(400)) * time.Millisecond)
	}
	return true
}

// watches reports whether lockstep says anything of a table.
func (w *world) watches(table string) bool {
	return w.group != nil && slices.ContainsFunc(w.group.Status().Members, func(m status.Member) bool {
		return slices.ContainsFunc(m.Tables, func(t status.Table) bool { return t.Table == table })
	})
}

// tableGoes has a table dropped on one server after another, for some time on all, and made again. Statements that do so are not in the log.
func tableGoes(w *world, r *rand.Rand) bool {
	t := anyTable(r)
	watched, crashes := w.watches(t), w.crashes
	pass := func(d time.Duration) {
		const look = time.Second / 4
		for ; d > 0; d -= look {
			w.touchSchema()
			gone := w.oracle.absent(t)
			w.run(min(d, look))
			watched = watched && !gone && w.crashes == crashes // which may have lost that it was
			if watched && !w.watches(t) {
				w.fail("%s is not watched any more, though a member has it", t)
			}
		}
	}
	for _, i := range r.Perm(len(w.servers)) {
		w.servers[i].DropTable(t)
		pass(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
	pass(time.Duration(r.IntN(40)) * time.Second)
	for _, i := range r.Perm(len(w.servers)) {
		w.servers[i].CreateTable(t, cdctest.Int("v"), cdctest.Wide("note"))
		pass(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
	return true
}

func alterColumn(w *world, r *rand.Rand) bool {
	w.touchSchema()
	to := cdctest.Int("v")
	if r.IntN(2) == 0 {
		to = cdctest.Wide("v")
	}
	w.anyServer(r).AlterColumn(anyTable(r), to)
	return true
}

func unpublish(w *world, r *rand.Rand) bool {
	s, t := w.anyServer(r), anyTable(r)
	s.Unpublish(t)
	w.oracle.obscured[tableAt{s.Name, t}] = time.Now()
	w.run(time.Duration(r.IntN(300)) * time.Millisecond)
	if r.IntN(2) == 0 {
		w.write(s, r, 3)
	}
	w.run(time.Duration(r.IntN(3000)) * time.Millisecond)
	s.Publish(t)
	return true
}

func purge(w *world, r *rand.Rand) bool {
	s := w.anyServer(r)
	s.Purge()
	w.oracle.obscure(s.Name)
	return true
}

// obscure says that what happened to a server's log cannot be seen in it.
func (o *oracle) obscure(server string) {
	o.ill[server] = time.Now()
	for _, t := range tableNames {
		o.obscured[tableAt{server, t}] = time.Now()
	}
}

func setBack(w *world, r *rand.Rand) bool {
	s := w.anyServer(r)
	d, taken := w.copies[s.Name]
	if !taken {
		return false
	}
	w.trace.say(s.Name, "set back to a copy", "")
	s.Restore(d)
	w.oracle.obscure(s.Name)
	return true
}

// resetLog is a replica that is seeded anew from a dump.
func resetLog(w *world, r *rand.Rand) bool {
	if w.cluster.Engine == cdctest.Postgres {
		return false
	}
	s := w.follower(r)
	w.trace.say(s.Name, "RESET MASTER and seed", "")
	s.Reset()
	s.Seed(w.writer())
	w.oracle.obscure(s.Name)
	return true
}

func logOff(w *world, r *rand.Rand) bool {
	if w.cluster.Engine == cdctest.Postgres {
		return false
	}
	s := w.follower(r)
	w.trace.say(s.Name, "log off", "")
	s.Unlogged(true)
	w.oracle.obscure(s.Name)
	return true
}

func logOn(w *world, _ *rand.Rand) bool {
	if w.cluster.Engine == cdctest.Postgres {
		return false
	}
	for _, s := range w.servers {
		w.logOn(s)
	}
	return true
}

func (w *world) logOn(s *cdctest.Server) {
	if !s.Logless() {
		return
	}
	w.trace.say(s.Name, "log on", "")
	for _, row := range s.Untold() {
		w.oracle.traceless[rowAt{s.Name, row.Table, row.Key}] = time.Now()
	}
	s.Unlogged(false)
	w.oracle.obscure(s.Name)
}

func promote(w *world, r *rand.Rand) bool {
	if w.cluster.Engine != cdctest.Postgres {
		return false
	}
	s := w.anyServer(r)
	s.Promote()
	w.oracle.obscure(s.Name)
	return true
}

func breakServer(w *world, r *rand.Rand) bool {
	s := w.anyServer(r)
	f := []cdctest.Faults{
		{Refuse: true}, {Hang: true}, {Stream: true}, {Catalog: true}, {Progress: true}, {Rows: true},
		{Slow: time.Duration(1+r.IntN(300)) * time.Millisecond},
	}[r.IntN(7)]
	w.trace.say(s.Name, "breaks", fmt.Sprintf("%+v", f))
	s.Break(f)
	return true
}

func mend(w *world, r *rand.Rand) bool {
	for _, s := range w.servers {
		if s.Broken() {
			w.trace.say(s.Name, "mended", "")
			s.Break(cdctest.Faults{})
		}
	}
	return true
}

// lanesOf lists the lanes of a follower of PostgreSQL.
func (w *world) lanesOf(r *rand.Rand) (*cdctest.Server, []string) {
	if w.cluster.Engine != cdctest.Postgres {
		return nil, nil
	}
	s := w.follower(r)
	return s, s.Lanes()
}

func moveTable(w *world, r *rand.Rand) bool {
	s, lanes := w.lanesOf(r)
	if len(lanes) == 0 {
		return false
	}
	t := anyTable(r)
	for _, lane := range lanes {
		s.Carry(lane, t, false, "")
	}
	if r.IntN(2) == 0 {
		w.run(time.Duration(r.IntN(1000)) * time.Millisecond)
	}
	s.Subscribe(w.writer(), fmt.Sprintf("moved_%d", w.value()), t)
	w.trace.say(s.Name, "another lane for", t)
	w.oracle.changedLanes(s.Name)
	return true
}

func (o *oracle) changedLanes(server string) {
	for _, t := range tableNames {
		o.obscured[tableAt{server, t}] = time.Now()
	}
}

func doubleTable(w *world, r *rand.Rand) bool {
	s, lanes := w.lanesOf(r)
	if len(lanes) == 0 {
		return false
	}
	w.oracle.changedLanes(s.Name)
	lane := s.Subscribe(w.writer(), fmt.Sprintf("double_%d", w.value()), anyTable(r))
	w.run(time.Duration(r.IntN(2000)) * time.Millisecond)
	s.Unsubscribe(lane)
	return true
}

// copyInitially has a subscription copy a table anew, which takes so long and a while.
func copyInitially(w *world, r *rand.Rand, long time.Duration) bool {
	s, lanes := w.lanesOf(r)
	if len(lanes) == 0 {
		return false
	}
	t := anyTable(r)
	for _, lane := range lanes {
		if s.Carries(lane, t) {
			w.oracle.changedLanes(s.Name)
			s.Carry(lane, t, true, "initial copy")
			w.run(long + time.Duration(r.IntN(2000))*time.Millisecond)
			s.Carry(lane, t, true, "")
			w.oracle.changedLanes(s.Name)
			return true
		}
	}
	return false
}

// subscribeAnew drops a follower's subscriptions and makes new ones, without a copy: what was in flight never arrives.
func subscribeAnew(w *world, r *rand.Rand) bool {
	s, lanes := w.lanesOf(r)
	if len(lanes) == 0 {
		return false
	}
	w.trace.say(s.Name, "subscribes anew", "")
	w.connect(s, w.writer())
	w.oracle.changedLanes(s.Name)
	return true
}

func disableLane(w *world, r *rand.Rand) bool {
	s := w.follower(r)
	lanes := s.Lanes()
	if len(lanes) == 0 {
		return false
	}
	s.Enable(lanes[r.IntN(len(lanes))], false)
	return true
}

func enableLanes(w *world, _ *rand.Rand) bool {
	for _, s := range w.servers {
		for _, lane := range s.Lanes() {
			s.Enable(lane, true)
		}
	}
	return true
}

func memberOut(w *world, r *rand.Rand) bool {
	p := w.plan.clone()
	s := w.held(r)
	if len(p.members) < 3 {
		return false
	}
	p.members = slices.DeleteFunc(p.members, func(name string) bool { return name == s.Name })
	w.trace.say(s.Name, "taken out", "")
	w.oracle.out[s.Name] = time.Now()
	w.adopt(p)
	return true
}

func memberIn(w *world, _ *rand.Rand) bool {
	p := w.plan.clone()
	for _, s := range w.servers {
		if !slices.Contains(p.members, s.Name) {
			p.members = append(p.members, s.Name)
			w.trace.say(s.Name, "put in", "")
			w.adopt(p)
			return true
		}
	}
	return false
}

func tableOut(w *world, r *rand.Rand) bool {
	p := w.plan.clone()
	if len(p.excluded) > 0 {
		return false
	}
	p.excluded = []string{anyTable(r)}
	w.oracle.out[p.excluded[0]] = time.Now()
	w.adopt(p)
	return true
}

func tableIn(w *world, _ *rand.Rand) bool {
	p := w.plan.clone()
	if len(p.excluded) == 0 {
		return false
	}
	p.excluded = nil
	w.adopt(p)
	return true
}

// anotherReference is a failover that people carried out: the others follow the new one, and lockstep is told.
func anotherReference(w *world, r *rand.Rand) bool {
	s := w.held(r)
	p := w.plan.clone()
	if !slices.Contains(p.members, s.Name) || slices.Contains(p.scanOnly, s.Name) || s.Logless() {
		return false
	}
	p.reference = s.Name
	w.trace.say(s.Name, "is the new reference", "")
	before := w.ref()
	w.plan.reference = s.Name
	w.promoteReference()
	if w.cluster.Engine != cdctest.Postgres && r.IntN(3) == 0 { // its replication was stopped, and not taken away
		s.Follow(before)
		s.Enable(cdc.GTIDLane, false)
	}
	w.refer(p)
	return true
}

// refer has lockstep hold the members against another reference. Of rows that it has it reads none again for it, but where a table comes by
// another subscription.
func (w *world) refer(p plan) {
	w.recover()
	kept := w.live()
	maps.DeleteFunc(kept, func(at tableAt, _ bool) bool { return w.oracle.amissWith(at) })
	w.oracle.newReference()
	w.restart(p)
	now := w.live()
	for at, was := range kept {
		if w.group != nil && w.cluster.Engine != cdctest.Postgres && slices.Contains(p.members, at.member) && was && !now[at] {
			w.fail("%s %s is read again, though only the reference is another one", at.member, at.table)
		}
	}
}

// promoteReference has applications write to the reference, and the others follow it.
func (w *world) promoteReference() {
	w.source = w.plan.reference
	for _, o := range w.servers {
		for _, lane := range o.Lanes() {
			o.Unsubscribe(lane)
		}
		o.Follow(nil)
	}
	for _, o := range w.servers {
		if o != w.writer() {
			w.connect(o, w.writer())
		}
	}
}

// replicaAsReference has lockstep hold the others against a server that replicates itself.
func replicaAsReference(w *world, r *rand.Rand) bool {
	s := w.held(r)
	p := w.plan.clone()
	if w.cluster.Engine == cdctest.Postgres || !slices.Contains(p.members, s.Name) || slices.Contains(p.scanOnly, s.Name) || s.Logless() {
		return false
	}
	p.reference = s.Name
	w.trace.say(s.Name, "is held to be the reference", "")
	w.plan.reference = s.Name
	w.refer(p)
	return true
}

func (o *oracle) newReference() {
	clear(o.differ)
	clear(o.was)
	clear(o.knownAt)
	o.referred = time.Now()
	for _, s := range o.w.servers {
		o.obscure(s.Name)
	}
}

func scanOnly(w *world, r *rand.Rand) bool {
	p := w.plan.clone()
	if len(p.scanOnly) > 0 {
		p.scanOnly = nil
	} else {
		s := w.held(r)
		p.scanOnly = []string{s.Name}
	}
	w.adopt(p)
	return true
}

func sparse(w *world, r *rand.Rand) bool {
	if w.cluster.Engine == cdctest.Postgres {
		return false
	}
	p := w.plan.clone()
	if len(p.sparse) > 0 {
		p.sparse = nil
	} else {
		p.sparse = []string{tableNames[r.IntN(2)]} // the last one's order may be the server's own
	}
	w.adopt(p)
	return true
}

// connectAnew has lockstep connect to one member anew, as when its password is another one.
func connectAnew(w *world, r *rand.Rand) bool {
	if w.recover(); w.group == nil {
		return false
	}
	name := w.plan.members[r.IntN(len(w.plan.members))]
	w.trace.say(name, "is to be connected to anew", "")
	w.members = slices.DeleteFunc(slices.Clone(w.members), func(m monitor.Member) bool { return m.Name == name })
	w.change(w.plan.clone())
	return true
}

func askScrub(w *world, r *rand.Rand) bool {
	if w.group == nil {
		return false
	}
	var want align.ScrubRequest
	if r.IntN(2) == 0 {
		want.Members = []string{w.plan.members[r.IntN(len(w.plan.members))]}
	}
	_, _ = w.group.RequestScrub(w.ctx, want)
	return true
}

func acknowledge(w *world, _ *rand.Rand) bool {
	if w.group == nil {
		return false
	}
	for id := range w.oracle.open {
		_, _ = w.group.Acknowledge(w.ctx, id, finding.Acknowledgement{By: "sre", At: time.Now()})
		return true
	}
	return false
}

func askScrubAll(w *world) {
	if _, err := w.group.RequestScrub(w.ctx, align.ScrubRequest{}); err != nil {
		w.fail("a scrub cannot be asked for: %v", err)
	}
}
