package config

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// quotedSchema begins the name of a table of PostgreSQL whose schema has a dot or a quote in its name, the only ones that are quoted.
var quotedSchema = regexp.MustCompile(`^"([^"]|"")*(\.|"")([^"]|"")*"\.`)

// SchemaOf is the schema of a table, as it is in the table's name.
func SchemaOf(table string) string {
	if schema := quotedSchema.FindString(table); schema != "" {
		return strings.TrimSuffix(schema, ".")
	}
	schema, _, _ := strings.Cut(table, ".")
	return schema
}

// Tables says which tables of a group are watched, and what is special about some of them.
type Tables struct {
	Include, Exclude []string // patterns over schema.table
	Overrides        []Override
}

// Override is what differs for one table from the rest of its group.
type Override struct {
	Table          string // qualified name, no pattern
	ExcludeColumns []string
	LagBudget      time.Duration // zero: the group's
	ScrubEvery     time.Duration // zero: the group's; negative: never
	NoRowIndex     bool          // a digest of each row is not kept
}

// Match reports whether the table of that qualified name is watched: some include pattern fits, no exclude pattern does.
//
// A * in a pattern stands for any run of characters and a ? for any one, dots among them: a table may have a dot in its
// name, and public.* that passed over it would be a silent miss. Letters are matched as the server's catalog has them.
func (t Tables) Match(name string) bool {
	fits := func(pattern string) bool { return glob(pattern, name) }
	return slices.ContainsFunc(t.Include, fits) && !slices.ContainsFunc(t.Exclude, fits)
}

// Named reports whether the table of that qualified name is in the list by its own name, and not because a pattern fits.
func (t Tables) Named(name string) bool { return slices.Contains(t.Include, name) }

func (t Tables) override(name string) *Override {
	for i := range t.Overrides {
		if t.Overrides[i].Table == name {
			return &t.Overrides[i]
		}
	}
	return nil
}

// glob matches greedily and goes back to the last star only, which keeps it at O(len(pattern) * len(name)).
func glob(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
