package monitor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// absence is what a member said of those watched tables that it did not list.
type absence struct {
	gone  []string // that it surely has not
	doubt string   // why that is not sure of others
}

// askGone asks a member whether the watched tables that it did not list are gone, which it then says for sure or not at all.
func (g *Group) askGone(ctx context.Context, source cdc.Source, said *answer) error {
	var missing []string
	err := g.do(ctx, func() error {
		for name := range g.tables {
			if !slices.ContainsFunc(said.tables, func(t cdc.Table) bool { return t.Name == name }) {
				missing = append(missing, name)
			}
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	slices.Sort(missing)
	if said.gone, said.doubt, err = source.Gone(ctx, missing); err != nil {
		said.gone, said.doubt = nil, "it could not be asked: "+err.Error()
	}
	return nil
}

// dropGone forgets the watched tables that are gone on all members. Of others that the reference has not, it says what keeps them.
func (g *Group) dropGone() error {
	ref := g.feeds[g.ref]
	for name, id := range g.tables {
		if _, exists := ref.defined[name]; exists {
			delete(g.lost, name)
			continue
		}
		if g.lost[name].IsZero() {
			g.lost[name] = ref.definedAt
			g.askCatalogs()
		}
		kept := g.keptBy(name)
		if kept == "" {
			g.log.Info("table is gone on all members, and is not watched any more", "table", name)
			if err := g.forgetTable(name, "the table is gone on all members"); err != nil {
				return err
			}
			continue
		}
		if err := g.ledger.SetProblem(id, g.ref, "it does not exist on "+ref.Name+kept); err != nil {
			return err
		}
	}
	return nil
}

// keptBy says what keeps a table that the reference has not from being forgotten, and what to do; nothing if it is surely gone on all
// members. What a replica said before the reference was found without it does not count: it may have been made there since.
func (g *Group) keptBy(name string) string {
	if g.opt().Named != nil && g.opt().Named(name) {
		return ", and tables.include names it: make it there, or take it out of tables.include"
	}
	var kept []string
	for _, m := range g.order {
		f := g.feeds[m]
		_, has := f.defined[name]
		switch {
		case f.defined == nil || f.definedAt.Before(g.lost[name]):
			kept = append(kept, fmt.Sprintf("; %s has not said since whether it has it", f.Name))
		case has:
			kept = append(kept, fmt.Sprintf("; it is still on %s: drop it there, make it on %s, or exclude it", f.Name, g.feeds[g.ref].Name))
		case !slices.Contains(f.gone, name) && f.doubt != "":
			kept = append(kept, fmt.Sprintf("; whether it is gone on %s is not sure: %s; or exclude it", f.Name, strings.TrimSuffix(f.doubt, ";")))
		case !slices.Contains(f.gone, name): // it was made again since
			kept = append(kept, fmt.Sprintf("; %s has not said yet whether it is gone there", f.Name))
		}
	}
	return strings.Join(kept, "")
}
