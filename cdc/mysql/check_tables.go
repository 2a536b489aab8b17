package mysql

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// tableFacts is one table that matches.
type tableFacts struct {
	cdc.Table
	defined *definition
	denied  string // why we may not read it, in the server's words; empty: we may
}

// shown is the table as it is compared with others.
func (t tableFacts) shown() preflight.Table {
	p := preflight.Table{Name: t.Name, Key: t.Key}
	if t.denied == "" && t.Problem != "" {
		p.Unfit = t.Problem
	}
	for _, c := range t.Columns {
		p.Columns = append(p.Columns, preflight.Column{Column: c, Shown: t.defined.column(c.Name).shown()})
	}
	return p
}

// shown is the type as users write it.
func (c *columnDefinition) shown() string {
	if charset := c.kind.Charset; charset != "" && !strings.HasPrefix(charset, "utf8") {
		return c.kind.ColumnType + " CHARACTER SET " + charset
	}
	return c.kind.ColumnType
}

// readTables makes tables of the catalog's definitions. Where we may not read everything anyway, each table is asked: what
// roles and revocations leave of the rights on it, the server knows best.
func (r *report) readTables(ctx context.Context, c *session) ([]tableFacts, error) {
	var tables []tableFacts
	for _, d := range r.view.tables {
		tables = append(tables, tableFacts{Table: r.view.describe(d), defined: d})
	}
	slices.SortFunc(tables, func(a, b tableFacts) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.defined.schema, b.defined.schema))
	})
	if r.account.readsAll {
		return tables, nil
	}
	for i := range tables {
		d := tables[i].defined
		_, err := c.query(ctx, "SELECT * FROM "+quoteName(d.schema, d.table)+" LIMIT 0")
		switch errorCode(err) {
		case errDatabaseDenied, errTableDenied, errColumnDenied:
			tables[i].denied = serverAnswer(err).Message
		default:
			if err != nil && serverAnswer(err) == nil {
				return nil, fmt.Errorf("look at table %s: %w", d.name, err)
			}
		}
	}
	return tables, nil
}

func (r *report) unreadable() []tableFacts {
	return slices.DeleteFunc(slices.Clone(r.tables), func(t tableFacts) bool { return t.denied == "" })
}

func (r *report) judgeTables() []preflight.Check {
	problems, hidden := byReason{}, byReason{}
	good := 0
	for _, t := range r.tables {
		switch {
		case t.denied != "":
		case t.Problem != "":
			problems.add(t.Problem, t.Hint, t)
		default:
			good++
			if t.Hides != "" && !r.scanOnly {
				hidden.add("the log leaves out "+t.Hides+": only a scrub sees them", "leave scrub on for it, or exclude it", t)
			}
		}
	}
	summary := preflight.Check{Subject: "tables", State: preflight.OK, Detail: fmt.Sprintf("%d of %d can be watched as they are", good, len(r.tables))}
	if len(r.tables) == 0 {
		summary.State, summary.Detail = preflight.Fail, "no table matches"
		summary.Hint = "compare tables.include with the names that the server has, schema and letter case too"
		if !r.account.readsAll {
			r.grantAll(&summary)
		}
	}
	return slices.Concat([]preflight.Check{summary}, problems.checks(preflight.Fail), hidden.checks(preflight.Warn))
}

// byReason gathers tables that have the same problem.
type byReason map[string]*affected

type affected struct {
	hint   string
	tables []string
}

// add adds a table; the hint may name it.
func (m byReason) add(reason, hint string, t tableFacts) {
	if m[reason] == nil {
		m[reason] = &affected{hint: hint}
	}
	a := m[reason]
	if a.tables = append(a.tables, t.Name); len(a.tables) > 1 && a.hint != hint {
		a.hint = strings.ReplaceAll(hint, quoteName(t.defined.schema, t.defined.table), "…")
	}
}

func (m byReason) checks(state preflight.State) []preflight.Check {
	var checks []preflight.Check
	for _, reason := range slices.Sorted(maps.Keys(m)) {
		c := preflight.Check{Subject: "tables", State: state, Detail: reason, Hint: m[reason].hint}
		if tables := m[reason].tables; len(tables) == 1 {
			c.Subject = "table " + tables[0]
		} else {
			c.Detail += ": " + preflight.SomeOf("tables", tables)
		}
		checks = append(checks, c)
	}
	return checks
}
