package sim

// mutant is a fault planted in the product: in file, the text old, which is there once, becomes text.
type mutant struct {
	name, file, old, text string
	// effect is what goes wrong by it.
	effect string
	// lives, for one that the simulation is known not to kill, is why, and what would kill it.
	lives string
}

// mutants are faults of the kinds that were made once, or nearly: something is forgotten, judged or acknowledged too early,
// kept for ever, trusted for too long.
var mutants = []mutant{
	// Rows follow the stream.
	{
		name: "changes after the third of a transaction are forgotten", file: "align/apply.go",
		old:    "for i := range tx.Changes {",
		text:   "for i := range tx.Changes[:min(len(tx.Changes), 3)] {",
		effect: "rows that are kept are not those of the server",
	},
	{
		name: "a replay is judged before the reference has shown it", file: "align/apply.go",
		old:    "return l.ref.provenAt.After(came)",
		text:   "return true",
		effect: "what was replayed rightly looks errant",
	},
	{
		name: "what a log that is gone had is waited for", file: "align/apply.go",
		old:    "return l.ref.provenAt.After(came)",
		text:   "return tx.Lane == cdc.GTIDLane && l.ref.provenAt.After(came)",
		effect: "a subscription whose publisher was set back is late for ever",
	},
	{
		name: "a change of an earlier epoch is taken at its word", file: "align/apply.go",
		old:    "case ch.Epoch != t.record.Epoch.Number:",
		text:   "case false:",
		effect: "it is lost between two readings, or counts by columns that are not there",
	},
	{
		name: "TRUNCATE is ignored", file: "align/apply.go",
		old:    "return l.truncate(t, c, fx)",
		text:   "return nil",
		effect: "rows that are gone stay",
	},
	{
		name: "the old row of a key that moved stays", file: "align/apply.go",
		old:    "return l.replaceRow(t, c, ch.OldKey, before, nil, fx)",
		text:   "_ = before\n\treturn nil",
		effect: "a row that is gone stays",
	},
	{
		name: "an unjournaled change of the reference is not noted while it is read", file: "align/apply.go",
		old:    "ch *cdc.Change) error {\n\tif m == l.ref {\n\t\tt.record.Unjournaled.Add(tx.ID)",
		text:   "ch *cdc.Change) error {\n\tif m == l.ref {\n\t\t_ = tx.ID",
		effect: "a comparison begins while a change that nobody knows is in flight",
	},
	{
		name: "an unjournaled change whose rows are not known is not noted", file: "align/apply.go",
		old:    "reason string) error {\n\tif m == l.ref {\n\t\tt.record.Unjournaled.Add(tx.ID)",
		text:   "reason string) error {\n\tif m == l.ref {\n\t\t_ = tx.ID",
		effect: "a comparison begins while a change that nobody knows is in flight",
	},
	{
		name: "a lane is to be awaited for what another log of the reference had", file: "align/scan.go",
		old:    "t.record.Unjournaled = cdc.TxSet{} // what is in it may be of a log that the reference does not have any more",
		text:   "_ = t",
		effect: "the table is never compared again",
	},
	{
		name: "what is in flight is not unjournaled when the reference is read anew", file: "align/scan.go",
		old:    "l.unjournaled(t)\n\t\tt.record.Forgotten",
		text:   "t.record.Forgotten",
		effect: "a comparison begins while changes that were forgotten are in flight",
	},
	// What is in flight.
	{
		name: "a row in flight must be what it will be", file: "align/journal.go",
		old:    "return c.Before, true",
		text:   "return c.After, true",
		effect: "lag looks like a difference",
	},
	{
		name: "what has arrived stays in flight", file: "align/replay.go",
		old:    "share{ch.delta(), 1}.negative())",
		text:   "share{ch.delta(), 1})",
		effect: "residuals are not zero",
	},
	{
		name: "a skipped transaction is not judged", file: "align/replay.go",
		old:    "if err := l.pass(m, ln, f, nil, why); err != nil {",
		text:   "if err := l.release(f); why.tx == \"\" || err != nil {",
		effect: "its rows stay in flight",
	},
	{
		name: "an errant transaction is not judged", file: "align/replay.go",
		old:    "\treturn l.judgeEffects(m, fx, why)\n}\n\n// trim",
		text:   "\treturn nil\n}\n\n// trim",
		effect: "rows that only the member wrote go unnoticed, or their cause does",
	},
	{
		name: "a lane that was lost is compared on", file: "align/replay.go",
		old:    "l.unjournaled(t)\n\t\t\tif err := l.unverify(t, m, reason); err != nil {",
		text:   "l.unjournaled(t)\n\t\t\tif err := error(nil); err != nil && reason != \"\" {",
		effect: "what was dropped from the journal looks like a difference",
	},
	{
		name: "what a lost lane missed counts as journaled", file: "align/lanes.go",
		old:    "if t.coverage[m.id].Lane == ln.Name {\n\t\t\tl.unjournaled(t)",
		text:   "if t.coverage[m.id].Lane == ln.Name {\n\t\t\t_ = t",
		effect: "a comparison begins while a change that nobody knows is in flight",
	},
	{
		name: "a lane is kept for ever", file: "align/lanes.go",
		old:    "if seen[name] {",
		text:   "if seen[name] || ln != nil {",
		effect: "the journal fills with what nobody will replay",
	},
	{
		name: "a table that changed lanes is not read anew", file: "align/lanes.go",
		old:    "case name != c.Lane:",
		text:   "case name != c.Lane && c.Lane == \"\":",
		effect: "how far the old lane is decides what must have arrived by the new one",
	},
	{
		name: "a table that is copied anew is compared on", file: "align/lanes.go",
		old:    "case hold != \"\":",
		text:   "case false:",
		effect: "half a copy looks like a difference",
	},
	{
		name: "a member that has replayed less than before goes on", file: "align/lanes.go",
		old:    "said && now.Behind(ln.record.Said) {",
		text:   "said && now.IsZero() && ln == nil {",
		effect: "a server that was set back is taken for what it was",
	},
	{
		name: "how far lanes were outlives a hole in the member's log", file: "align/scan.go",
		old:    "ln.known, *ln.record = false, LaneRecord{}",
		text:   "ln.known = false",
		effect: "a restored server is held to have what it had",
	},
	{
		name: "how far lanes were outlives the reference's log", file: "align/scan.go",
		old:    "ln.record.Applied, ln.record.Lost, m.dirty = cdc.TxSet{}, cdc.TxSet{}, true",
		text:   "ln.record.Lost, m.dirty = cdc.TxSet{}, true",
		effect: "positions of a log that is gone are held against those of another",
	},
	{
		name: "that a lane is lost is known until the next start only", file: "align/state.go",
		old:    "`json:\"lost,omitzero\"`",
		text:   "`json:\"-\"`",
		effect: "what was in no journal while a lane was lost is told as a divergence",
	},
	{
		name: "lateness is what changes a row in the end", file: "align/stale.go",
		old:    "f.Live = max(f.Live, 1)",
		text:   "_ = f",
		effect: "a member that lacks what changes nothing is told ten times a second",
	},
	{
		name: "rows read may be ahead of the reference's stream", file: "align/residual.go",
		old:    "return !l.ref.shown().Covers(seen) && !l.ref.provenAt.After(c.liveAt)",
		text:   "return seen.IsZero() && false",
		effect: "rows that the reference has written and not shown look like differences",
		lives:  "they are not when both sides have shown all that they had at the end of the budget: with both faults its kept history dies",
	},
	{
		name: "what is read late is not waited for", file: "align/findings.go",
		old:    "return l.ref.provenAt.Before(over) || l.members[f.Member].provenAt.Before(over)",
		text:   "return l.ref.provenAt.Before(over) && over.IsZero()",
		effect: "a difference that is over is told of, because the log that shows it is read late",
	},
	{
		name: "a member that is only scanned may have had what it does not log", file: "align/apply.go",
		old:    "m.record.Started == nil || m.scanOnly",
		text:   "m.record.Started == nil",
		effect: "what it has replayed stays in flight to it for ever",
	},
	{
		name: "rows count before the member was heard from again", file: "align/residual.go",
		old:    "c.Phase == Live && m.provenAt.After(c.liveAt)",
		text:   "c.Phase == Live",
		effect: "rows that its stream will never show look like differences",
		lives:  "it was when both sides have shown all that they had at the end of the budget: with both faults the kept history of rows read while the stream is shut dies",
	},
	// Scans.
	{
		name: "what the stream showed after the cut is dropped", file: "align/baseline.go",
		old:    "if p.Commit < scan.Cut ||",
		text:   "if p.Commit >= scan.Cut ||",
		effect: "rows are those of when the scan began",
	},
	{
		name: "a table is live before its view has settled", file: "align/baseline.go",
		old:    "m.record.Position.LSN < max(scan.Cut, scan.Settled)",
		text:   "m.record.Position.LSN < scan.Cut",
		effect: "rows are ahead of the stream",
	},
	{
		name: "a comparison begins without a look at the rows", file: "align/residual.go",
		old:    "suspect := c.divergent[start]; !suspect && l.unexplained(t, c, i).IsZero() {",
		text:   "suspect := c.divergent[start]; suspect || !suspect {",
		effect: "what differed before is never found",
	},
	// What differs.
	{
		name: "known differences are not taken off the residual", file: "align/judge.go",
		old:    "c.addDivergent(start, d.share())\n\treturn",
		text:   "return",
		effect: "residuals are not zero",
	},
	{
		name: "keys that differ are not kept", file: "align/judge.go",
		old:    "return l.state.SetDivergentKey(m.id, c.space.Table, key, d)",
		text:   "return nil",
		effect: "a divergence has no rows",
	},
	{
		name: "a row that is as it must be again stays divergent", file: "align/judge.go",
		old:    "return l.heal(m, t, c, key)",
		text:   "return nil",
		effect: "a divergence never ends",
	},
	{
		name: "a row that comes to differ in another way stays where it was", file: "align/judge.go",
		old:    "case before != nil && before.Kind == d.Kind:",
		text:   "case before != nil:",
		effect: "a divergence is of the wrong kind",
	},
	{
		name: "the lag budget is ignored", file: "align/findings.go",
		old:    "< l.opt.Budget(f.Divergence.Table) {\n\t\treturn nil",
		text:   "< 0 {\n\t\treturn nil",
		effect: "people are told of what is over in a moment",
		lives:  "people are told only once both sides have shown all that they had when the budget was over, which is later: it takes both faults",
	},
	{
		name: "what only scans see is told without another look", file: "align/findings.go",
		old:    "!l.unchecked(f) && !l.unconfirmed(f)",
		text:   "!l.unchecked(f)",
		effect: "rows that agree again are told to differ",
	},
	{
		name: "a suspicion is as old as the first of its keys", file: "align/findings.go",
		old:    "if younger, err := l.rejuvenate(f); younger || err != nil || !l.certain(f) {",
		text:   "if err := error(nil); err != nil || !l.certain(f) {",
		effect: "keys that come and go, each in time, become a divergence",
	},
	{
		name: "a divergence is told before definitions were read", file: "align/findings.go",
		old:    "!l.unchecked(f) && !l.unconfirmed(f)",
		text:   "!l.unconfirmed(f)",
		effect: "a table that left a publication looks like one that differs",
	},
	{
		name: "a divergence is told before the member said what brings the table", file: "align/findings.go",
		old:    "return l.undefinedSince(f) || l.unassigned(f)",
		text:   "return l.undefinedSince(f)",
		effect: "what a subscription brings that nobody knows yet looks errant",
		lives:  "an answer from after the budget, which people are told after, says that too: with both faults the kept history of another lane dies",
	},
	{
		name: "a divergence is over when its rows differ in another way", file: "align/findings.go",
		old:    "if l.goesOn(f) {",
		text:   "if false {",
		effect: "people are told that it is over when it is not",
	},
	{
		name: "that a server's log was off is forgotten once it is on", file: "monitor/follow.go",
		old:    "if from.LSN != 0 && cdc.IsUnlogged(err) {",
		text:   "if false {",
		effect: "what was written meanwhile is never seen",
	},
	{
		name: "what a server that was started does not show was passed over", file: "align/replay.go",
		old:    "} else if m.mayHaveHad(f.ID) {",
		text:   "} else if false {",
		effect: "rows that were replayed without being logged are told to be skipped",
	},
	{
		name: "a member that is only scanned is compared before it has what is not journaled", file: "align/residual.go",
		old:    " && l.scannable(t, m) && l.journaled(t, m, c) {",
		text:   " && l.scannable(t, m) {",
		effect: "it is in step however late it is",
	},
	{
		name: "a suspicion from before a table was read anew is as old as it was", file: "align/findings.go",
		old:    "\tl.restart(f)\n",
		text:   "",
		effect: "people are told of what is over in a moment",
	},
	{
		name: "a row that differs in another way has its budget anew", file: "align/findings.go",
		old:    "d.Seen = before.Seen",
		text:   "_ = before",
		effect: "a row that keeps differing in other ways is never told of",
	},
	{
		name: "a divergence waits for the first way only in which its rows differ now", file: "align/findings.go",
		old:    "for _, f := range l.findings.Bequeath(f, now) {",
		text:   "for _, f := range []*finding.Finding(nil) {",
		effect: "people are told that it is over when it is not",
	},
	{
		name: "a divergence is resolved with one row left", file: "align/findings.go",
		old:    "case f.Live == 0:",
		text:   "case f.Live == 0 || f.Live == 1 && f.Confirmed && f.Divergence.Keys > 1:",
		effect: "people are told that it is over when it is not",
	},
	{
		name: "rows of a divergence are not counted after a start", file: "align/ledger.go",
		old:    "f.Live++\n\t\t\t\t}\n\t\t\t\treturn true, nil",
		text:   "f.Changed = true\n\t\t\t\t}\n\t\t\t\treturn true, nil",
		effect: "a restart resolves what is open",
	},
	{
		name: "nobody is told that it is over", file: "align/findings.go",
		old:    "f.Resolve(l.now)\n\treturn l.announce(f)",
		text:   "f.Resolve(l.now)\n\treturn l.state.SetFinding(f)",
		effect: "an alert fires for ever",
	},
	{
		name: "the ranges of a divergence are never found anew", file: "align/findings.go",
		old:    "case l.outdated(f):",
		text:   "case f.Confirmed && l.outdated(f) && f.Live < 0:",
		effect: "a divergence names rows that do not differ, and not those that do",
	},
	{
		name: "rows between two keys do not part their ranges", file: "align/findings.go",
		old:    "between = true",
		text:   "between = false",
		effect: "a divergence names rows that do not differ",
	},
	{
		name: "what is overdue is not told", file: "align/stale.go",
		old:    "case late.keys > 0:",
		text:   "case late.keys < 0:",
		effect: "replication that stands still is called lag",
	},
	{
		name: "what was overdue stays so", file: "align/stale.go",
		old:    "case late.keys == 0 && f != nil:\n\t\t\t\tf.Live = 0",
		text:   "case late.keys == 0 && f != nil:",
		effect: "a member that has caught up is stale",
	},
	// Trust.
	{
		name: "a member need not be heard", file: "align/status.go",
		old:    "case l.now.Sub(m.provenAt) > patience:",
		text:   "case l.now.Sub(m.provenAt) > patience && t == nil:",
		effect: "what was true is called true now",
	},
	{
		name: "the reference need not be heard", file: "align/status.go",
		old:    "case l.now.Sub(l.ref.provenAt) > patience:",
		text:   "case l.now.Sub(l.ref.provenAt) > patience && t == nil:",
		effect: "what was true is called true now",
	},
	{
		name: "rows that nobody has read again are vouched for", file: "align/status.go",
		old:    "case every == 0 || l.now.Sub(at) <= 2*every:",
		text:   "case every >= 0:",
		effect: "a change without a trace may be called in step for ever",
	},
	{
		name: "a member's word is taken before its stream has got there", file: "monitor/run.go",
		old:    "if c == nil || g.ledger.Position(f.id) < c.progress.Barrier {",
		text:   "if c == nil {",
		effect: "what is still to come looks skipped",
	},
	{
		name: "a hole in the log is ignored", file: "monitor/follow.go",
		old:    "gap = hole.Error()",
		text:   "_ = hole.Error()",
		effect: "what was in it is never seen",
	},
	{
		name: "a log that ends before where it did is read on", file: "monitor/follow.go",
		old:    "if end := c.progress.End; end < shown && !f.ScanOnly {",
		text:   "if end := c.progress.End; end < shown && f.ScanOnly {",
		effect: "a stream that shows nothing is waited for",
	},
	// Definitions.
	{
		name: "a definition that leaves the columns as they are is no news", file: "align/scan.go",
		old:    "return l.unverify(t, l.members[on], \"its definition changed\")",
		text:   "return nil",
		effect: "what was not published, or rewritten, is never read",
	},
	{
		name: "who did not answer has its definitions confirmed", file: "monitor/catalog.go",
		old:    "g.ledger.Defined(id, f.definedAt)",
		text:   "g.ledger.Defined(id, time.Now())",
		effect: "a table that left a publication looks like one that differs",
	},
	{
		name: "the reference's definition is used for a member's", file: "monitor/catalog.go",
		old:    "Table: g.feeds[m].defined[name]}",
		text:   "Table: g.feeds[g.ref].defined[name]}",
		effect: "a column that the member lacks is compared",
	},
	// What is kept, and forgotten.
	{
		name: "what is in flight is not kept", file: "align/flush.go",
		old:    "if len(f.lanes) > 0 {",
		text:   "if len(f.lanes) > 0 && f.Parts > 0 {",
		effect: "after a restart lag looks like a difference",
	},
	{
		name: "a member that is not watched any more is not forgotten", file: "align/ledger.go",
		old:    "if _, watched := l.opt.Members[id]; watched {",
		text:   "if _, watched := l.opt.Members[id]; watched || saved.Members != nil {",
		effect: "what it had when it left counts when it comes back",
	},
	{
		name: "keys that differ outlive a member that is forgotten", file: "store/group.go",
		old:    "case ofMember, ofCoverage, ofSpace:",
		text:   "case ofMember, ofSpace:",
		effect: "its rows differ by what was before it left",
	},
	{
		name: "keys that differ outlive another reference", file: "store/keys.go",
		old:    `{first: kindKey, scope: ofCoverage, rest: "key",`,
		text:   `{first: kindKey, stays: true, scope: ofCoverage, rest: "key",`,
		effect: "rows differ that nobody is told of",
		lives:  "the tables are forgotten as well, and one without a record begins with another key, which drops them: it takes a rare history, it died once, of the 153rd",
	},
	{
		name: "tables outlive another reference", file: "store/keys.go",
		old:    `{first: kindTable, scope: ofTable,`,
		text:   `{first: kindTable, stays: true, scope: ofTable,`,
		effect: "a member is compared that was not read",
	},
	{
		name: "a member that was only scanned before is taken as it was", file: "align/ledger.go",
		old:    "return m.record.ScanOnly != l.opt.ScanOnly[m.id]",
		text:   "return m.record.ScanOnly != l.opt.ScanOnly[m.id] && m == nil",
		effect: "rows that were never kept are compared",
	},
	{
		name: "the log may be forgotten before it is kept", file: "monitor/run.go",
		old:    "g.ledger.Advance(f.id, e)",
		text:   "g.ledger.Advance(f.id, e)\n\t\tf.Source.Durable(e.Position)",
		effect: "after a crash the log has a hole",
	},
	{
		name: "positions are kept and rows are not", file: "store/group.go",
		old:    "errors.Join(all.Apply(g.batch, nil), g.rows.writeTo(all))",
		text:   "errors.Join(all.Apply(g.batch, nil))",
		effect: "after a crash rows are those of an earlier time",
	},
	{
		name: "people are told before it is kept", file: "monitor/run.go",
		old:    "g.recorder.record(g.state, &n.Divergence)",
		text:   "g.recorder.record(g.state, &n.Divergence)\n\t\tg.tell(n.Divergence)",
		effect: "after a crash they were told of what never was",
	},
	// Reading rows again.
	{
		name: "a scrub finds nothing", file: "align/watch.go",
		old:    "list = append(list, Mismatch{r, w.moved(s.View, r.Key)})",
		text:   "_ = r",
		effect: "a change without a trace is never found",
	},
	{
		name: "a watch notes nothing", file: "align/apply.go",
		old:    "l.note(m, tx, fx.list)",
		text:   "_ = l.note",
		effect: "what the stream does while rows are read looks like a change without a trace",
	},
	{
		name: "a row that moved on is set back to what was read", file: "align/silent.go",
		old:    "if r.Moved || c.Phase != Live {",
		text:   "if c.Phase != Live {",
		effect: "rows that are kept are not those of the server",
		lives:  "the row was changed without a trace, so the oracle holds nothing against what is said of it until it must have been found again",
	},
	{
		name: "suspicions are never settled", file: "align/silent.go",
		old:    "c.Suspects, t.dirty = slices.DeleteFunc(c.Suspects, settled), true",
		text:   "_ = settled",
		effect: "nothing is said of the table any more",
	},
	{
		name: "a part that was read stands for all", file: "monitor/rolling.go",
		old:    "return s.group.ledger.Verified(p.epoch.Table, s.feed.id, v, covered.Through)",
		text:   "return s.group.ledger.Verified(p.epoch.Table, s.feed.id, v, nil)",
		effect: "the rest of the table is not read again",
		lives:  "no table has more rows than one chunk, which is 100 at least: tables of some hundreds of rows would kill it",
	},
	{
		name: "rows of a member that is only scanned are compared at any time", file: "monitor/scrub.go",
		old:    "caughtUp := func() bool { return g.ledger.CaughtUp(p.epoch.Table, f.id, mark) }",
		text:   "caughtUp := func() bool { return true || g.ledger.CaughtUp(p.epoch.Table, f.id, mark) }",
		effect: "lag looks like a difference",
	},
	{
		name: "rows of a member that is only scanned never heal", file: "align/scanonly.go",
		old:    "if differ[string(r.Key)] || c.keys == 0 {",
		text:   "if differ[string(r.Key)] || c.keys >= 0 {",
		effect: "a divergence never ends",
	},
	{
		name: "a range that differs is not read for its rows", file: "align/sparse.go",
		old:    "differ || !l.unexplained(t, c, i).IsZero() {",
		text:   "differ {",
		effect: "of a table without a row index nothing is ever found",
	},
	{
		name: "what happens to rows while a range is read is forgotten", file: "align/sparse.go",
		old:    "digests[k] = states[len(states)-1].after",
		text:   "digests[k] = states[0].before",
		effect: "rows that are kept are not those of the server",
	},
	{
		name: "MySQL's replicas are held to replay in order", file: "cdc/cdc.go",
		old:    "return len(id.Source) < uuidLength }",
		text:   "return len(id.Source) <= uuidLength }",
		effect: "what is replayed later looks skipped",
	},
}
