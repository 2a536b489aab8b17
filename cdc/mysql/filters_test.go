package mysql

import "testing"

// Each row is one step of https://dev.mysql.com/doc/refman/9.0/en/replication-rules-table-options.html.
func TestReplicationFiltersKeepTablesOut(t *testing.T) {
	for _, test := range []struct {
		filters     replicaFilters
		table, rule string // the rule that keeps it out; empty: it comes
	}{
		{replicaFilters{}, "shop.orders", ""},
		{replicaFilters{doSchemas: []string{"shop"}}, "shop.orders", ""},
		{replicaFilters{doSchemas: []string{"shop"}}, "bank.orders", "replicate_do_db=shop"},
		{replicaFilters{doSchemas: []string{"shop"}, ignoreSchemas: []string{"shop"}}, "shop.orders", ""},
		{replicaFilters{ignoreSchemas: []string{"log", "tmp"}}, "tmp.a", "replicate_ignore_db=log,tmp"},
		{replicaFilters{ignoreSchemas: []string{"log"}}, "shop.orders", ""},
		{replicaFilters{doTables: []string{"shop.orders"}}, "shop.orders", ""},
		{replicaFilters{doTables: []string{"shop.orders"}}, "shop.items", "replicate_do_table=shop.orders"},
		{replicaFilters{doTables: []string{"shop.a"}, doPatterns: []string{"shop.b%"}}, "shop.bc", ""},
		{replicaFilters{ignoreTables: []string{"shop.orders"}}, "shop.orders", "replicate_ignore_table=shop.orders"},
		{replicaFilters{ignoreTables: []string{"shop.orders"}, doPatterns: []string{"shop.%"}}, "shop.orders", "replicate_ignore_table=shop.orders"},
		{replicaFilters{doPatterns: []string{"shop.%"}}, "bank.a", "replicate_wild_do_table=shop.%"},
		{replicaFilters{doPatterns: []string{"shop.%"}, ignorePatterns: []string{"%.orders"}}, "shop.orders", ""},
		{replicaFilters{ignorePatterns: []string{"sh_p.o%"}}, "shop.orders", "replicate_wild_ignore_table=sh_p.o%"},
		{replicaFilters{ignorePatterns: []string{`a\_b.%`}}, "axb.c", ""},
		{replicaFilters{ignorePatterns: []string{`a\_b.%`}}, "a_b.c", `replicate_wild_ignore_table=a\_b.%`},
		{replicaFilters{doSchemas: []string{"shop"}, ignoreTables: []string{"shop.a"}}, "shop.a", "replicate_ignore_table=shop.a"},
		{replicaFilters{fold: true, ignoreTables: []string{"shop.a"}}, "Shop.A", "replicate_ignore_table=shop.a"},
	} {
		want := ""
		if test.rule != "" {
			want = "the replica leaves it out (" + test.rule + ")"
		}
		if got := test.filters.keepsOut(test.table); got != want {
			t.Errorf("%+v, %s: %q, want %q", test.filters, test.table, got, want)
		}
	}
}

func TestTableThatOneChannelBringsIsNotKeptOut(t *testing.T) {
	only := func(schema string) channel {
		return channel{filters: replicaFilters{doSchemas: []string{schema}}}
	}
	if got := filtered([]channel{only("a"), only("b")}, "b.t"); got != "" {
		t.Errorf("%q", got)
	}
	if got := filtered([]channel{only("a"), only("b")}, "c.t"); got == "" {
		t.Error("no channel brings it, and nothing says so")
	}
}

func TestPatternMatchesAsLikeDoes(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"%", "", true}, {"%", "ab", true}, {"_", "", false}, {"_", "é", true}, {"__", "é", false},
		{"a%c", "abbc", true}, {"a%c", "abb", false}, {`\%`, "%", true}, {`\%`, "a", false}, {`a\`, `a\`, true}, {"%%b", "ab", true},
	} {
		if got := like(test.pattern, test.text); got != test.want {
			t.Errorf("%q like %q: %t", test.text, test.pattern, got)
		}
	}
}

func TestLogFiltersNameSchemas(t *testing.T) {
	for _, test := range []struct {
		filters logFilters
		schema  string
		want    bool
	}{
		{logFilters{}, "a", true},
		{logFilters{do: []string{"a"}}, "a", true},
		{logFilters{do: []string{"a"}}, "b", false},
		{logFilters{ignore: []string{"a"}}, "a", false},
		{logFilters{ignore: []string{"a"}}, "b", true},
		{logFilters{do: []string{"a"}, ignore: []string{"a"}}, "a", true},
	} {
		if got := test.filters.has(test.schema); got != test.want {
			t.Errorf("%v, %s: %t", test.filters, test.schema, got)
		}
	}
}
