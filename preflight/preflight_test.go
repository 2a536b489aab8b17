package preflight_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

func TestScriptHoldsWhatSQLMendsAndTheRestAsComments(t *testing.T) {
	r := preflight.Report{
		Member: "eu-1\nDROP TABLE x", Client: "psql", Preamble: "SET search_path = '';\n",
		Checks: []preflight.Check{
			{Subject: "version", State: preflight.OK, Detail: "17", SQL: "never;"},
			{Subject: "table a\nb", Detail: "has no primary key", Hint: "add\none"},
			{Subject: "wal_level", State: preflight.Warn, Detail: "replica", SQL: "ALTER SYSTEM SET wal_level = 'logical';", Restart: true},
		},
	}
	want := `-- makes member eu-1 DROP TABLE x ready for lockstep; run it with psql
SET search_path = '';

-- table a b has no primary key; by hand: add one

-- wal_level: replica
ALTER SYSTEM SET wal_level = 'logical';

-- then restart the server
`
	if diff := cmp.Diff(want, r.SQL()); diff != "" {
		t.Error(diff)
	}
}

func TestForgottenStateIsAFailure(t *testing.T) {
	if s := (preflight.Check{}).State; s.String() != "fail" {
		t.Errorf("the zero state is %v", s)
	}
}

// report is of a member that answered, whose tables are given as name: column class, the first the key.
func report(member, server string, tables ...preflight.Table) *preflight.Report {
	return &preflight.Report{Member: member, Server: server, Named: "server", Tables: tables, Whole: true}
}

func table(name, key string, columns ...preflight.Column) preflight.Table {
	return preflight.Table{Name: name, Key: []string{key}, Columns: columns}
}

func column(name string, class digest.Class) preflight.Column {
	return preflight.Column{Column: digest.Column{Name: name, Class: class}, Shown: class.String()}
}

func TestMembersAreHeldAgainstEachOther(t *testing.T) {
	id, note := column("id", digest.Int), column("note", digest.Text)
	a := report("a", "1", table("t", "id", id, note), table("only", "id", id))
	b := report("b", "2", table("t", "note", id, column("note", digest.Bytes), column("more", digest.Int)))
	wider := report("w", "7", table("t", "id", id, column("more", digest.Int), note))
	twin := report("twin", "1", table("t", "id", id, note), table("only", "id", id))
	part := &preflight.Report{Member: "part", Server: "5", Direct: true, Upstreams: []preflight.Upstream{{}}, Tables: []preflight.Table{{Name: "only"}, {Name: "t"}}}
	whole := &preflight.Report{Member: "whole", Server: "6", Direct: true, Tables: []preflight.Table{{Name: "t"}}}
	deaf := &preflight.Report{Member: "deaf", Server: "3"}
	for name, c := range map[string]struct {
		reports   []*preflight.Report
		reference string
		excluded  []string
		want      []string
	}{
		"the same twice":                 {[]*preflight.Report{a, twin}, "", nil, []string{"fail members: a and twin say that they are the same server, as a copy does, too; whether they are two is not known: they were not asked"}},
		"no subscription brings a table": {[]*preflight.Report{whole, part}, "", nil, []string{"warn subscriptions: no subscription of part brings 2 tables: only, t: unverified until one does"}},
		"the reference subscribes":       {[]*preflight.Report{whole, part}, "part", nil, []string{"warn subscriptions: no subscription of whole brings t from part: unverified until one does"}},
		"one did not answer":             {[]*preflight.Report{a, deaf}, "", nil, nil},
		"a mistyped column":              {[]*preflight.Report{a, report("c", "4", a.Tables...)}, "", []string{"not"}, []string{"warn table only: has no column not, which is excluded", "warn table t: has no column not, which is excluded"}},
		"the key is excluded":            {[]*preflight.Report{a, report("c", "4", a.Tables[0])}, "", []string{"id"}, []string{"fail table only: is on a and missing on c", "fail table only: column id is excluded and part of the primary key", "fail table t: column id is excluded and part of the primary key"}},
		"definitions differ": {[]*preflight.Report{a, b}, "", nil, []string{
			"fail table only: is on a and missing on b",
			"fail table t: primary key is (id) on a and (note) on b",
			"fail table t: column note is text on a and bytes on b",
			"warn table t: column more is on b and missing on a",
		}},
		"the reference lacks a column":  {[]*preflight.Report{a, wider}, "a", nil, []string{"fail table only: is on a and missing on w", "warn table t: column more is on w and missing on a"}},
		"a replica lacks a column":      {[]*preflight.Report{a, wider}, "w", nil, []string{"fail table only: is on a and missing on w", "fail table t: column more is on w and missing on a"}},
		"it lacks one that is left out": {[]*preflight.Report{a, wider}, "w", []string{"more"}, []string{"fail table only: is on a and missing on w", "warn table only: has no column more, which is excluded"}},
	} {
		var got []string
		for _, check := range preflight.Group(c.reports, nil, c.reference, func(string) []string { return c.excluded }) {
			got = append(got, fmt.Sprintf("%v %s: %s", check.State, check.Subject, check.Detail))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestLongListsAreCutShort(t *testing.T) {
	if got := preflight.SomeOf("tables", []string{"a"}); got != "a" {
		t.Error(got)
	}
	if got := preflight.SomeOf("tables", strings.Split("abcdefg", "")); got != "7 tables: a, b, c, d, e, …" {
		t.Error(got)
	}
}

func TestTheReferenceIsWhatTheOthersReplayFrom(t *testing.T) {
	member := func(name string, direct bool, feeds string, from ...string) *preflight.Report {
		r := &preflight.Report{Member: name, Version: "1", Direct: direct, Feeds: []string{feeds}}
		for _, id := range from {
			r.Upstreams = append(r.Upstreams, preflight.Upstream{ID: id, Named: "server " + id})
		}
		return r
	}
	standby := &preflight.Report{Member: "standby", Version: "1", Standby: true, Feeds: []string{"1"}}
	lost := func(name, from string) string {
		return "fail members: " + name + " replicates from server " + from + ", which is not among the members"
	}
	unseen := member("r1", false, "2")
	unseen.Unseen = true
	for name, c := range map[string]struct {
		reports   []*preflight.Report
		reference string
		want      []string
	}{
		"a publisher that subscribes elsewhere": {[]*preflight.Report{member("us", true, "2", "1"), member("eu", true, "1", "9")}, "eu", nil},
		"two subscribers":                       {[]*preflight.Report{member("us", true, "2", "1"), member("ap", true, "3", "1")}, "", []string{lost("us", "1"), lost("ap", "1")}},
		"another's publisher":                   {[]*preflight.Report{member("us", true, "2", "1"), member("xx", true, "9")}, "xx", []string{lost("us", "1")}},
		"a replica's replica, by GTIDs":         {[]*preflight.Report{member("r2", false, "3", "2"), member("p", false, "1")}, "p", nil},
		"two replicas":                          {[]*preflight.Report{member("r2", false, "3", "1"), member("r1", false, "2", "1")}, "", []string{lost("r2", "1"), lost("r1", "1")}},
		"one that never connected":              {[]*preflight.Report{member("r2", false, "3", ""), member("p", false, "1")}, "p", nil},
		"one that may not be seen yet":          {[]*preflight.Report{member("p", false, "1"), unseen}, "p", nil},
		"no replication":                        {[]*preflight.Report{member("a", true, "1"), member("b", true, "2")}, "", nil},
		"a primary and its standby":             {[]*preflight.Report{standby, member("eu", true, "1")}, "eu", nil},
	} {
		reference, _, _ := preflight.Reference(preflight.TiesOf(c.reports, func(string) bool { return false }), nil)
		var got []string
		for _, check := range preflight.Strays(c.reports, reference) {
			got = append(got, fmt.Sprintf("%v %s: %s", check.State, check.Subject, check.Detail))
		}
		if diff := cmp.Diff(c.want, got); diff != "" || reference != c.reference {
			t.Errorf("%s: reference %q, %s", name, reference, diff)
		}
	}
}

func TestMembersThatNothingOfTheReferenceComesToAreFound(t *testing.T) {
	member := func(name, feeds string, from ...string) *preflight.Report {
		r := &preflight.Report{Member: name, Version: "1", Direct: true, Feeds: []string{feeds}}
		for _, id := range from {
			r.Upstreams = append(r.Upstreams, preflight.Upstream{ID: id})
		}
		return r
	}
	eu, us, ap := member("eu", "1"), member("us", "2", "1"), member("ap", "3", "1")
	gtid := func(r preflight.Report) *preflight.Report { r.Direct = false; return &r }
	standby, scanned := member("standby", "8"), member("scanned", "9")
	standby.Standby, scanned.Unseen = true, true
	const nameEU = "name eu as the group's `reference`: "
	for name, c := range map[string]struct {
		reports   []*preflight.Report
		reference string
		want      []string // members, and the hint that they share
	}{
		"all follow it":               {[]*preflight.Report{eu, us, ap}, "eu", nil},
		"a subscriber is named":       {[]*preflight.Report{eu, us, ap}, "us", []string{"eu", "ap", nameEU + "us and ap replicate from it, and it from nobody"}},
		"a subscriber's subscriber":   {[]*preflight.Report{eu, us, member("xx", "4", "2")}, "eu", []string{"xx", "name the member as the group's `reference` that the others replicate from"}},
		"a middle one":                {[]*preflight.Report{us, member("xx", "4", "2"), eu}, "us", []string{"eu", nameEU + "us replicates from it, and it from nobody"}},
		"standbys and scanned ones":   {[]*preflight.Report{eu, us, standby, scanned}, "eu", nil},
		"one that is not subscribed":  {[]*preflight.Report{eu, us, member("new", "5")}, "eu", nil},
		"replicas by GTIDs":           {[]*preflight.Report{gtid(*eu), gtid(*us), gtid(*ap)}, "us", nil},
		"the reference is not known":  {[]*preflight.Report{eu, us, ap}, "", nil},
		"one that replicates in part": {[]*preflight.Report{eu, us, member("both", "6", "1", "2")}, "eu", nil},
	} {
		var got []string
		hint := ""
		for _, check := range preflight.Beside(c.reports, nil, c.reference, func(string) bool { return false }) {
			got, hint = append(got, check.About), check.Hint
		}
		if hint != "" {
			got = append(got, hint)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
