package config

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// DefaultCanaryEvery is what a canary gets that says nothing else.
const DefaultCanaryEvery = time.Hour

// Canary is a table into which lockstep writes rows that differ, to measure how long it takes until they are found.
type Canary struct {
	Table   string        // schema.table, of plain names; empty: there is none
	Every   time.Duration // between two such rows on a member
	Members []string      // into which they are written; empty: all that replay and whose log is read
}

// Into reports whether rows are written into the member.
func (c Canary) Into(m Member) bool {
	return c.Table != "" && !m.ScanOnly && (len(c.Members) == 0 || slices.Contains(c.Members, m.Name))
}

// canaryTable is a name that needs no quotes on any engine: it becomes part of the only statements that write.
var canaryTable = regexp.MustCompile(`^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$`)

func decodeCanary(n node, g *Group) Canary {
	f := n.fields("table", "every", "members")
	c := Canary{Table: f["table"].text(), Members: f["members"].texts()}
	if !n.present() {
		return Canary{}
	}
	f["table"].require("name a table that holds nothing else, such as public.lockstep_canary")
	if c.Table != "" && !canaryTable.MatchString(c.Table) {
		f["table"].fail(fmt.Sprintf("%q is not usable", c.Table), "write schema.table, of lower-case letters, digits and _")
	} else if c.Table != "" && !g.Tables.Match(c.Table) {
		f["table"].fail(fmt.Sprintf("%s is not watched", c.Table), "add it to tables.include")
	}
	c.Every = f["every"].interval(DefaultCanaryEvery)
	for _, name := range c.Members {
		switch m := g.Member(name); {
		case m == nil:
			f["members"].fail(fmt.Sprintf("%q is no member of the group", name), "name its members")
		case m.ScanOnly || name == g.Reference:
			f["members"].fail(fmt.Sprintf("%q is no replica whose log is read", name), "name members that replay, and that are not scan_only")
		}
	}
	if len(c.Members) == 0 && g.Engine != Postgres {
		n.fail("names no members", "list in members the replicas that will never be promoted: with GTIDs each canary is an errant transaction")
	}
	return c
}

// expected is what a canary brings about.
func (c Canary) expected() Expected {
	return Expected{Members: c.Members, Tables: []string{c.Table}, Kinds: []string{"extra"}}
}
