package cdc

import (
	"fmt"
	"slices"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Definition is one member's definition of a table; the zero Table if it has none of that name.
type Definition struct {
	Member string
	Table  Table
}

func (d Definition) exists() bool { return d.Table.Name != "" }

// SharedShape returns the columns of the reference's table without those that are excluded, and what keeps the table from
// being compared, if anything does: on the reference, which leaves no shape, and on each of the others. A column that a
// member lacks, or has of another type, is that member's problem alone: what the others hold is compared in all columns.
func SharedShape(name string, ref Definition, others []Definition, excluded []string) (s digest.Shape, problem string, problems []string) {
	problems = make([]string, len(others))
	switch {
	case !ref.exists():
		return s, "it does not exist on " + ref.Member, problems
	case ref.Table.Problem != "":
		return s, ref.Table.WhyNot(), problems
	}
	columns := slices.DeleteFunc(slices.Clone(ref.Table.Columns), func(c digest.Column) bool { return slices.Contains(excluded, c.Name) })
	s = digest.Shape{Table: name, Columns: columns}
	for _, k := range ref.Table.Key {
		i := slices.IndexFunc(columns, func(c digest.Column) bool { return c.Name == k })
		if i < 0 {
			return digest.Shape{}, fmt.Sprintf("key column %q is excluded", k), problems
		}
		s.Key = append(s.Key, i)
	}
	for i, d := range others {
		if problems[i] = d.unfit(ref); problems[i] != "" {
			continue
		}
		if problems[i] = d.mismatch(columns, ref.Member); problems[i] == "" {
			widen(columns, d.Table.Columns)
		}
	}
	return s, "", problems
}

// WhyNot says why the table cannot be watched on its member, and what mends it; nothing if it can.
func (t Table) WhyNot() string {
	if t.Hint == "" {
		return t.Problem
	}
	return t.Problem + ": " + t.Hint
}

// widen has a column that one member may leave out of an update kept track of on all, so that its rows digest alike.
func widen(columns, others []digest.Column) {
	for i := range columns {
		other, _ := column(others, columns[i].Name)
		columns[i].Wide = columns[i].Wide || other.Wide
	}
}

func (d Definition) unfit(ref Definition) string {
	switch {
	case !d.exists():
		return "it does not exist on " + d.Member
	case d.Table.Problem != "":
		return d.Table.WhyNot()
	case !slices.Equal(d.Table.Key, ref.Table.Key):
		return fmt.Sprintf("its primary key on %s is %q, on the reference %q", d.Member, d.Table.Key, ref.Table.Key)
	}
	return ""
}

func column(columns []digest.Column, name string) (digest.Column, bool) {
	i := slices.IndexFunc(columns, func(c digest.Column) bool { return c.Name == name })
	if i < 0 {
		return digest.Column{}, false
	}
	return columns[i], true
}

// mismatch names a column that the member lacks, or whose values cannot be compared because the members' types are not of
// one class.
func (d Definition) mismatch(columns []digest.Column, ref string) string {
	for _, c := range columns {
		other, found := column(d.Table.Columns, c.Name)
		switch {
		case !found:
			return fmt.Sprintf("column %q of %s is not on %s: add it there, or name it in exclude_columns", c.Name, ref, d.Member)
		case !c.Comparable(other):
			return fmt.Sprintf("column %q is %s %s on %s and %s %s on %s", c.Name, c.Class, c.Type, ref, other.Class, other.Type, d.Member)
		}
	}
	return ""
}
