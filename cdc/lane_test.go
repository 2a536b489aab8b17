package cdc_test

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Columns that a subscription's publication leaves out were told to differ in all rows.
func TestWhatALaneLeavesOutIsSaid(t *testing.T) {
	table := cdc.Table{Publications: map[string]cdc.Carried{
		"some": {Columns: []string{"a", "b"}}, "rows": {Without: "rows that are not (id > 5)", Columns: []string{"b"}}, "inserts": {Without: "updates"}, "whole": {},
	}}
	for _, c := range []struct {
		publications, excluded []string
		want                   string
	}{
		{[]string{"some"}, nil, `publication "some" leaves out columns "a", "b": name them in exclude_columns`},
		{[]string{"some"}, []string{"b"}, `publication "some" leaves out column "a": name it in exclude_columns`},
		{[]string{"some"}, []string{"b", "a"}, ""},
		{[]string{"rows"}, []string{"b"}, `publication "rows" leaves out rows that are not (id > 5)`},
		{[]string{"rows"}, nil, `publication "rows" leaves out rows that are not (id > 5)`},
		{[]string{"some", "whole"}, nil, ""},
		{[]string{"inserts", "other"}, nil, `publication "inserts" leaves out updates`},
		{[]string{"other"}, nil, ""},
	} {
		if got := (cdc.Lane{Publications: c.publications}).LeavesOut(table, c.excluded); got != c.want {
			t.Errorf("%q without %q: %q, want %q", c.publications, c.excluded, got, c.want)
		}
	}
}
