package monitor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// readCatalog asks a member for its tables' definitions, of which not every change leaves a trace in a stream. One that does not
// answer keeps the definitions that it had; while it has none, it is asked again soon. Members are asked each by itself: one
// that hangs is not what the others wait for.
func (g *Group) readCatalog(ctx context.Context, f *feed) (next time.Duration, err error) {
	began := time.Now()
	said, err := g.askTables(ctx, f)
	f.asked.Store(&began)
	if err != nil {
		if !f.isDecodable() {
			next = catalogRetry
		}
		return next, err
	}
	return 0, g.do(ctx, func() error {
		said.asked = began
		f.answer = said
		return nil
	})
}

// askTables asks a member for its tables, and for those that it lacks; and before it is known, who it is.
func (g *Group) askTables(ctx context.Context, f *feed) (*answer, error) {
	source, err := f.source()
	if err != nil {
		if _, err := g.meet(ctx, f); err != nil {
			return nil, err
		}
		source = f.Source
	}
	tables, err := source.Tables(ctx, g.opt().Match)
	if err != nil {
		return nil, err
	}
	said := &answer{tables: tables}
	return said, g.askGone(ctx, source, said)
}

// answer is what a member said of its tables, and when it was asked.
type answer struct {
	tables []cdc.Table
	absence
	asked time.Time
}

// takeCatalogs tells the ledger of what members have answered. At first, and after a change of what is watched, it waits a little for
// all of them to have been asked: how a table's rows are kept is up to the definitions of all.
func (g *Group) takeCatalogs() error {
	answered, asked := false, true
	for _, f := range g.feeds {
		at := f.asked.Load()
		answered, asked = answered || f.answer != nil, asked && at != nil && !at.Before(g.changed)
	}
	if !answered || !asked && time.Since(g.changed) < catalogPatience {
		return nil
	}
	for _, f := range g.feeds {
		if f.answer != nil {
			g.take(f)
		}
	}
	if err := g.define(); err != nil || g.feeds[g.ref].defined == nil {
		return err
	}
	for id, f := range g.feeds {
		if f.defined != nil {
			g.ledger.Defined(id, f.definedAt)
		}
	}
	return nil
}

// take keeps a member's definitions. With the epochs that were known before its stream can be decoded: it must not begin
// earlier, for what it shows of a table without an epoch is passed over.
func (g *Group) take(f *feed) {
	first := f.defined == nil
	f.said, f.absence, f.definedAt, f.answer = f.answer.tables, f.answer.absence, f.answer.asked, nil
	g.judge(f)
	if !first {
		return
	}
	g.decode(f)
	close(f.decodable)
}

// decode has what a member's stream shows of its tables be decoded by the epochs that are known.
func (g *Group) decode(f *feed) {
	for _, epoch := range g.ledger.Epochs() {
		if t, exists := f.defined[epoch.Shape.Table]; exists && t.Problem == "" {
			f.Source.SetEpoch(t, epoch)
		}
	}
}

// judge says which of the tables that a member has named are watched, and whether they can be.
func (g *Group) judge(f *feed) {
	f.defined = make(map[string]cdc.Table, len(f.said))
	for _, t := range f.said {
		if g.opt().Match(t.Name) {
			f.defined[t.Name] = Watchable(t, g.scrubEvery(t.Name), !g.sparse(t.Name))
		}
	}
}

// hasSaid reports whether a member has said how it defines a table, or that it has none: since that is watched it may not have been
// asked.
func (g *Group) hasSaid(f *feed, table string) bool {
	_, exists := f.defined[table]
	return exists || f.defined != nil && !f.definedAt.Before(g.changed)
}

// Watchable returns a table with the problem that it has for being watched in the way that it is to be, if it has one.
func Watchable(t cdc.Table, scrubEvery time.Duration, rowIndex bool) cdc.Table {
	return judgeSparse(judgeHidden(t, scrubEvery), !rowIndex)
}

// judgeHidden refuses a table whose log leaves out changes, unless its rows are read again.
func judgeHidden(t cdc.Table, every time.Duration) cdc.Table {
	if t.Problem == "" && t.Hides != "" && every == 0 {
		t.Problem, t.Hint = "its log leaves out "+t.Hides, "turn scrub on, so that its rows are read again, or exclude the table"
	}
	return t
}

// judgeSparse refuses a table without a row index of which ranges cannot be read.
func judgeSparse(t cdc.Table, sparse bool) cdc.Table {
	if t.Problem == "" && sparse && t.Order != cdc.KeyOrder {
		t.Problem = "its row_index is off, but ranges of its rows cannot be read: the server does not order its primary key by its bytes"
		t.Hint = "remove row_index"
	}
	return t
}

// redefineKnown takes in what is new while the reference has not answered yet: which tables there are cannot be said then,
// but that a definition is another one can.
func (g *Group) redefineKnown() error {
	for name, id := range g.tables {
		versions := make(map[cdc.MemberID]string)
		for m, f := range g.feeds {
			versions[m] = f.defined[name].Version
		}
		if err := g.redefined(id, name, versions); err != nil {
			return err
		}
	}
	for _, f := range g.feeds {
		g.decode(f) // it may have a table that it had not when its stream began
	}
	return nil
}

// define brings the epochs of all tables up to the definitions as last read. The reference says which tables there are.
func (g *Group) define() error {
	if g.feeds[g.ref].defined == nil {
		return g.redefineKnown()
	}
	for name := range g.unwatched {
		if _, exists := g.feeds[g.ref].defined[name]; !exists {
			delete(g.unwatched, name)
		}
	}
	g.noteSurplus()
	for _, name := range slices.Sorted(maps.Keys(g.feeds[g.ref].defined)) {
		if err := g.defineTable(name); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
	}
	return g.dropGone()
}

// dropUnwatched forgets the tables that are excluded now: what streams show of them from here on is passed over, and is not had
// once a table is watched again.
func (g *Group) dropUnwatched() error {
	for name := range g.tables {
		if g.opt().Match(name) {
			continue
		}
		g.log.Info("table is not watched any more", "table", name)
		if err := g.forgetTable(name, "the table is not watched any more"); err != nil {
			return err
		}
	}
	return nil
}

// forgetTable forgets a table, for a reason.
func (g *Group) forgetTable(name, reason string) error {
	id := g.tables[name]
	if err := g.ledger.Drop(id, reason); err != nil {
		return err
	}
	for _, f := range g.feeds {
		if t, exists := f.defined[name]; exists {
			f.Source.SetEpoch(t, cdc.Epoch{Table: id}) // its rows are not decoded any more
		}
		delete(f.later, id)
		delete(f.undrilled, id)
	}
	delete(g.tables, name)
	delete(g.lost, name)
	return nil
}

// noteSurplus says once of each table that only a replica has.
func (g *Group) noteSurplus() {
	for _, m := range g.order {
		f := g.feeds[m]
		for name := range f.defined {
			_, replicated := g.feeds[g.ref].defined[name]
			at := f.Name + " " + name
			if replicated || g.surplus[at] || !g.hasSaid(g.feeds[g.ref], name) {
				continue
			}
			g.surplus[at] = true
			g.log.Warn("table is not on the reference and is not compared", "member", f.Name, "table", name)
		}
	}
}

func (g *Group) defineTable(name string) error {
	id, err := g.state.TableID(name)
	if err != nil {
		return err
	}
	shape, problems := g.shape(name)
	versions := make(map[cdc.MemberID]string)
	for m, f := range g.feeds {
		versions[m] = f.defined[name].Version
	}
	epoch, known := g.ledger.Epochs()[id]
	keepWide(shape, epoch.Shape)
	switch {
	case len(shape.Key) == 0 && !known:
		if g.unwatched[name] != problems[g.ref] {
			g.unwatched[name] = problems[g.ref]
			g.log.Error("table cannot be watched", "member", g.feeds[g.ref].Name, "table", name, "reason", problems[g.ref])
		}
		return nil
	case len(shape.Key) == 0: // the reference's definition is unfit now; the table keeps the shape that it had
	case !known:
		epoch = cdc.Epoch{Table: id, Number: 1, Shape: shape}
		err = g.ledger.SetEpoch(epoch, versions, "not read yet")
	case !sameShape(epoch.Shape, shape):
		g.log.Info("table is defined anew; it is read anew on all members", "table", name)
		epoch = cdc.Epoch{Table: id, Number: epoch.Number + 1, Shape: shape}
		err = g.ledger.SetEpoch(epoch, versions, "its definition changed")
	default:
		err = g.redefined(id, name, versions)
	}
	if err != nil {
		return err
	}
	g.tables[name] = id
	delete(g.unwatched, name)
	for m, f := range g.feeds {
		if !g.hasSaid(f, name) {
			continue // what is known of its rows holds until it says otherwise
		}
		if problems[m] == "" {
			f.Source.SetEpoch(f.defined[name], epoch)
		}
		if err := g.ledger.SetProblem(id, m, problems[m]); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) redefined(id cdc.TableID, name string, versions map[cdc.MemberID]string) error {
	before := g.ledger.Versions(id)
	for _, m := range g.order {
		if versions[m] == "" || before[m] == versions[m] {
			continue
		}
		g.log.Info("table is defined anew; it is read anew", "table", name, "member", g.feeds[m].Name)
		if err := g.ledger.Redefined(id, m, versions[m]); err != nil {
			return err
		}
	}
	return nil
}

func sameShape(a, b digest.Shape) bool {
	return slices.Equal(a.Columns, b.Columns) && slices.Equal(a.Key, b.Key)
}

// shape returns the columns that are compared of a table, and for each member that has said how it defines it what keeps its
// table from being compared, if anything does.
func (g *Group) shape(name string) (digest.Shape, map[cdc.MemberID]string) {
	var others []cdc.Definition
	var ids []cdc.MemberID
	problems := make(map[cdc.MemberID]string)
	for _, m := range g.order {
		if m != g.ref && g.hasSaid(g.feeds[m], name) {
			others, ids = append(others, g.definition(m, name)), append(ids, m)
		}
	}
	shape, problem, each := cdc.SharedShape(name, g.definition(g.ref, name), others, g.opt().Exclude(name))
	problems[g.ref] = problem
	for i, m := range ids {
		problems[m] = each[i]
	}
	return shape, problems
}

// keepWide has columns that were kept track of as wide ones stay so: the member that they are wide on may be out of reach,
// and that is no reason to read the table anew.
func keepWide(s, before digest.Shape) {
	for i := range s.Columns {
		for _, c := range before.Columns {
			if c.Wide && s.Columns[i].Comparable(c) {
				s.Columns[i].Wide = true
			}
		}
	}
}

func (g *Group) definition(m cdc.MemberID, name string) cdc.Definition {
	return cdc.Definition{Member: g.feeds[m].Name, Table: g.feeds[m].defined[name]}
}
