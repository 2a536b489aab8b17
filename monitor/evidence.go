package monitor

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/store"
)

// EvidencePlan says what a group records for auditors.
type EvidencePlan struct {
	Every time.Duration // between two records of what each member was known to hold; 0: nothing is recorded
	// Key spells a key that differs, given as JSON.
	Key func(table string, key json.RawMessage) string
	// LeastGap: shorter times of uncertainty are no gap; 0: 10 seconds.
	LeastGap time.Duration
	// NoTrees leaves out the trees that single ranges are proven from.
	NoTrees bool
}

const (
	inlineBytes = 48 << 10 // that the parts of an entry which have no bound may take
	leastGap    = 10 * time.Second
)

// gap is a time for which a table of a member has not been known to be the same.
type gap struct {
	evidence.GapData
	recorded bool
}

// recorder gathers, on the goroutine that owns the ledger, what auditors are to know. It becomes durable with the next commit.
type recorder struct {
	plan    EvidencePlan
	covered time.Time
	gaps    map[[2]string]*gap // by member and table
	told    map[string]telling // by divergence, of those which are open
	trees   map[string]bool    // roots of the trees that were kept with the last coverage
}

// telling is what was recorded last of a divergence.
type telling struct {
	sum [sha256.Size]byte
	at  time.Time
}

// restateEvery is how often an open divergence is recorded though nothing is new about it, so that each report has it.
const restateEvery = 24 * time.Hour

// observe records coverage when it is due, and gaps.
func (g *Group) observe(s *status.Group) {
	r := &g.recorder
	if r.plan.Every == 0 {
		return
	}
	for _, m := range s.Members {
		for _, t := range m.Tables {
			g.observeGap(s.At, m, t)
		}
	}
	if s.At.Sub(r.covered) < r.plan.Every {
		return
	}
	if r.covered.IsZero() && s.At.Sub(g.opened) < min(r.plan.Every, time.Minute) && unknown(s) {
		return // the first one is to have something to say
	}
	r.covered = s.At
	kept := r.trees
	r.trees = make(map[string]bool)
	for _, m := range s.Members {
		g.cover(s.At, m, kept)
	}
	g.recordUpdates(s.At)
}

// recordUpdates records what has become of open divergences since they were recorded last.
func (g *Group) recordUpdates(now time.Time) {
	for d := range g.ledger.Open() {
		t, told := g.recorder.told[d.ID]
		sum := sumOf(d)
		if !told || t.sum == sum && now.Sub(t.at) < restateEvery {
			continue // of one that is not told yet the opening comes first
		}
		g.recorder.told[d.ID] = telling{sum, now}
		g.state.Record(g.recorder.plan.event(evidence.DivergenceUpdate, d, now))
	}
}

// record records that a divergence was opened or resolved.
func (r *recorder) record(state *store.Group, d *finding.Divergence) {
	r.plan.record(state, d)
	if delete(r.told, d.ID); d.State == finding.Open && r.plan.Every > 0 {
		r.told[d.ID] = telling{sumOf(d), time.Now()}
	}
}

// sumOf tells two states of a divergence apart; who has taken it on is recorded by itself.
func sumOf(d *finding.Divergence) [sha256.Size]byte {
	state := *d
	state.Acknowledged = nil
	text, _ := json.Marshal(state) // of strings, numbers and times
	return sha256.Sum256(text)
}

// unknown reports whether there is a member of which nothing is known yet.
func unknown(s *status.Group) bool {
	return slices.ContainsFunc(s.Members, func(m status.Member) bool { return m.ProvenAt.IsZero() })
}

func (g *Group) observeGap(now time.Time, m status.Member, t status.Table) {
	key := [2]string{m.Name, t.Table}
	open := g.recorder.gaps[key]
	switch {
	case t.Reason == "":
		if open == nil {
			return
		}
		delete(g.recorder.gaps, key)
		if open.recorded {
			open.Until = now.UTC()
			g.state.Record(evidence.Event{Type: evidence.GapClose, Group: g.opt().Name, Time: now, Data: open.GapData})
		}
	case open == nil:
		g.recorder.gaps[key] = &gap{GapData: evidence.GapData{Member: m.Name, Table: t.Table, Reason: t.Reason, Since: now.UTC()}}
	case !open.recorded && now.Sub(open.Since) >= max(cmp.Or(g.recorder.plan.LeastGap, leastGap), g.opt().Budget(t.Table)):
		open.recorded, open.Reason = true, t.Reason
		g.state.Record(evidence.Event{Type: evidence.GapOpen, Group: g.opt().Name, Time: now, Data: open.GapData})
	}
}

// cover records what a member is known to hold, in as many entries as that takes. Of trees that were kept with the coverage
// before it only says that they are needed still.
func (g *Group) cover(now time.Time, m status.Member, kept map[string]bool) {
	d := evidence.CoverageData{
		Member: m.Name, Role: m.Role, Position: m.Position, Lag: m.Behind.Seconds(), ProvenAt: timeOrNull(m.ProvenAt.Time),
		Every: g.recorder.plan.Every.Seconds(), Tables: []evidence.TableData{},
	}
	epochs := g.ledger.Epochs()
	roots := g.tableRoots(m, epochs)
	files := g.trees(m, epochs, roots, kept)
	parts := [][]evidence.TableData{nil}
	size := 0
	for _, t := range m.Tables {
		ranges := make(map[string]int)
		for verdict, n := range t.Ranges {
			ranges[string(verdict)] = int(n)
		}
		data := evidence.TableData{
			Table: t.Table, Verdict: string(t.Verdict), Reason: t.Reason, Rows: t.Rows, Ranges: ranges, Root: roots[t.Table], VerifiedAt: timeOrNull(t.VerifiedAt.Time),
		}
		text, _ := json.Marshal(data) // of strings, numbers and times
		if size += len(text); size > inlineBytes {
			parts, size = append(parts, nil), len(text)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], data)
	}
	for i, tables := range parts {
		if d.Tables = tables; len(parts) > 1 {
			d.Part, d.Parts = i+1, len(parts)
		}
		g.state.Record(evidence.Event{Type: evidence.Coverage, Group: g.opt().Name, Time: now, Data: d, Files: files})
		files = nil
	}
}

// tableRoots are what the coverage has of the trees of a member's tables, by table.
func (g *Group) tableRoots(m status.Member, epochs map[cdc.TableID]cdc.Epoch) map[string]string {
	roots := make(map[string]string)
	for _, t := range m.Tables {
		if root, err := merkle.ParseHash(t.Root); t.Root != "" && err == nil {
			roots[t.Table], _ = evidence.TableRoot(epochs[g.tables[t.Table]].Shape, root) // which is strings and numbers
		}
	}
	return roots
}

// trees are the files with the trees of a member's tables.
func (g *Group) trees(m status.Member, epochs map[cdc.TableID]cdc.Epoch, roots map[string]string, kept map[string]bool) (files []evidence.File) {
	if g.recorder.plan.NoTrees {
		return nil
	}
	for _, t := range m.Tables {
		root := roots[t.Table]
		if root == "" || g.recorder.trees[root] {
			continue
		}
		f := evidence.File{Name: path.Join(evidence.TreesDir, root)}
		if !kept[root] {
			id := g.tables[t.Table]
			tree := evidence.Tree{Shape: epochs[id].Shape, Merkle: merkle.NewTree(g.ledger.RangeDigests(id, m.ID))}
			content, err := tree.AppendBinary(nil)
			if err != nil { // of a shape, which is strings and numbers
				continue
			}
			f.Content = content
		}
		g.recorder.trees[root] = true
		files = append(files, f)
	}
	return files
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}

// record records that a divergence was opened or resolved.
func (p EvidencePlan) record(state *store.Group, d *finding.Divergence) {
	if p.Every == 0 {
		return
	}
	kind := evidence.DivergenceOpen
	if d.State != finding.Open {
		kind = evidence.DivergenceResolve
	}
	state.Record(p.event(kind, d, time.Now()))
}

func (p EvidencePlan) event(kind evidence.Type, d *finding.Divergence, now time.Time) evidence.Event {
	data, files := p.divergence(d)
	return evidence.Event{Type: kind, Group: d.Group, Time: now, Data: data, Files: files}
}

// divergence is what is recorded of a divergence. A list of ranges that has no room in it is a file.
func (p EvidencePlan) divergence(d *finding.Divergence) (evidence.DivergenceData, []evidence.File) {
	data := evidence.DivergenceData{
		ID: d.ID, Table: d.Table, Member: d.Member, Reference: d.Reference, Kind: string(d.Kind), Cause: string(d.Cause), Detail: d.Detail, Expected: d.Expected,
		Keys: d.Keys, Ranges: []evidence.RangeData{}, RangesTotal: len(d.Ranges), Truncated: d.Truncated,
		Positions: d.Positions, FirstSeen: d.FirstSeen.UTC(), ConfirmedAt: d.ConfirmedAt.UTC(), ResolvedAt: d.ResolvedAt,
		Outcome: string(d.Outcome),
	}
	if by := d.IntroducedBy; by != nil {
		data.Transaction, data.CommittedAt = by.Transaction, timeOrNull(by.CommittedAt)
	}
	var all []byte
	size := 0
	for _, r := range d.Ranges {
		bounds := evidence.RangeData{First: p.Key(d.Table, r.First), Last: p.Key(d.Table, r.Last), Changed: r.Changed, Missing: r.Missing, Extra: r.Extra}
		text, _ := json.Marshal(bounds) // of strings and numbers
		all = append(append(all, text...), '\n')
		if size += len(text); size <= inlineBytes {
			data.Ranges = append(data.Ranges, bounds)
		}
	}
	if len(data.Ranges) == len(d.Ranges) {
		return data, nil
	}
	sum := sha256.Sum256(all)
	data.RangesSHA256 = hex.EncodeToString(sum[:])
	return data, []evidence.File{{Name: path.Join(evidence.RangesDir, data.RangesSHA256), Content: all}}
}

// OpenEvents are the events of a kind that tell of the divergences which are open, as of now, the newest first. It may be
// called from any goroutine.
func (g *Group) OpenEvents(kind evidence.Type, now time.Time) (events []evidence.Event, err error) {
	err = g.Divergences(func(v *finding.Divergence) bool {
		if v.State == finding.Open {
			events = append(events, g.opt().Evidence.event(kind, v, now))
		}
		return true
	})
	return events, err
}
