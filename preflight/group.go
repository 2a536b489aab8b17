package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// Group compares what the members of a group said of themselves, the columns that are excluded for a table left out.
// Members that did not answer are left out too. An empty reference is not known. The proofs are of members that go by one name.
func Group(reports []*Report, proofs Proofs, reference string, excluded func(table string) []string) []Check {
	checks := append(SameServer(reports, proofs), ways(reports, reference, excluded)...)
	whole := slices.DeleteFunc(slices.Clone(reports), func(r *Report) bool { return !r.Whole })
	if len(whole) < 2 {
		return checks
	}
	if i := slices.IndexFunc(whole, func(r *Report) bool { return r.Member == reference }); i > 0 {
		whole = slices.Concat(whole[i:i+1], whole[:i], whole[i+1:])
	}
	var names []string
	for _, r := range whole {
		for _, t := range r.Tables {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		checks = append(checks, compareTable(name, whole, reference, excluded(name))...)
	}
	return checks
}

// SameServer finds members that are, or may be, one server under two names: they could never differ.
func SameServer(reports []*Report, proofs Proofs) (checks []Check) {
	for i, r := range reports {
		for _, other := range reports[:i] {
			if r.Server == "" || r.Server != other.Server {
				continue
			}
			if c := r.twin(other, proofs.between(other.Member, r.Member)); c.State != OK {
				checks = append(checks, c)
				break
			}
		}
	}
	return checks
}

// twin says what is known of a member that goes by the name of another one.
func (r *Report) twin(other *Report, proof error) Check {
	c := Check{Subject: "members"}
	switch proof {
	case nil:
		c.State = OK
	case ErrOne:
		c.Detail = fmt.Sprintf("%s and %s are the same %s", other.Member, r.Member, r.Named)
		c.Hint = "correct one dsn, or take one of them out"
	case errNamesakes:
		c.Detail = fmt.Sprintf("%s and %s are two servers of one server_uuid, by which the transactions of both are named and replication refuses to run", other.Member, r.Member)
		c.Hint = renameCopy
	default:
		c.Detail = fmt.Sprintf("%s and %s say that they are the same %s, as a copy does, too; whether they are two is not known: %v", other.Member, r.Member, r.Named, proof)
		c.Hint = "see to it that both can be connected to once more"
	}
	return c
}

// compareTable returns only what differs from the first member that has the table: the reference, if that is known and has it.
func compareTable(name string, reports []*Report, reference string, excluded []string) []Check {
	var on, absent []string // members
	var tables []Table      // on those
	for _, r := range reports {
		i := slices.IndexFunc(r.Tables, func(t Table) bool { return t.Name == name })
		if i < 0 {
			absent = append(absent, r.Member)
			continue
		}
		on, tables = append(on, r.Member), append(tables, r.Tables[i])
	}
	var checks []Check
	if len(absent) > 0 {
		checks = append(checks, Check{Detail: fmt.Sprintf("is on %s and missing on %s", strings.Join(on, ", "), strings.Join(absent, ", ")),
			Hint: "make it on " + strings.Join(absent, ", ") + ", or exclude it"})
	}
	for i := 1; i < len(tables); i++ {
		checks = append(checks, compareDefinitions(on[0], tables[0], on[i], tables[i], on[0] == reference, excluded)...)
	}
	checks = append(checks, judgeExcluded(tables, excluded)...)
	for i := range checks {
		checks[i].Subject = "table " + name
	}
	return checks
}

// judgeExcluded refuses to leave out what rows are told apart by, and warns of what is not there: a mistyped name.
func judgeExcluded(tables []Table, excluded []string) []Check {
	var checks []Check
	for _, name := range excluded {
		column := func(c Column) bool { return c.Name == name }
		switch {
		case slices.ContainsFunc(tables, func(t Table) bool { return slices.Contains(t.Key, name) }):
			checks = append(checks, Check{Detail: fmt.Sprintf("column %s is excluded and part of the primary key", name),
				Hint: "take it out of exclude_columns"})
		case !slices.ContainsFunc(tables, func(t Table) bool { return slices.ContainsFunc(t.Columns, column) }):
			checks = append(checks, Check{State: Warn, Detail: fmt.Sprintf("has no column %s, which is excluded", name),
				Hint: "compare exclude_columns with the table's columns"})
		}
	}
	return checks
}

// compareDefinitions wants all columns of a to be in b, if a is the reference's.
func compareDefinitions(where string, a Table, there string, b Table, wanted bool, excluded []string) []Check {
	var checks []Check
	if !slices.Equal(a.Key, b.Key) {
		checks = append(checks, Check{Detail: fmt.Sprintf("primary key is (%s) on %s and (%s) on %s",
			strings.Join(a.Key, ", "), where, strings.Join(b.Key, ", "), there), Hint: "rows need the same key everywhere"})
	}
	types := map[string]Column{}
	for _, c := range b.Columns {
		types[c.Name] = c
	}
	for _, c := range a.Columns {
		other, both := types[c.Name]
		delete(types, c.Name)
		switch {
		case slices.Contains(excluded, c.Name):
		case !both:
			checks = append(checks, oneSided(c.Name, where, there, wanted))
		case !c.Comparable(other.Column):
			checks = append(checks, Check{Detail: fmt.Sprintf("column %s is %s on %s and %s on %s", c.Name, c.Shown, where, other.Shown, there),
				Hint: "give it the same type, or list it in exclude_columns"})
		}
	}
	for _, c := range b.Columns {
		if _, left := types[c.Name]; left && !slices.Contains(excluded, c.Name) {
			checks = append(checks, oneSided(c.Name, there, where, false))
		}
	}
	return checks
}

func oneSided(column, on, missing string, wanted bool) Check {
	c := Check{State: Warn, Detail: fmt.Sprintf("column %s is on %s and missing on %s", column, on, missing), Hint: "it is not compared"}
	if wanted {
		c.State, c.Hint = Fail, fmt.Sprintf("add it on %s, or name it in exclude_columns", missing)
	}
	return c
}
