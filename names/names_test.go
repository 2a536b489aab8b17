package names_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/names"
)

var there = names.Groups{
	{Name: "shop", Members: []string{"eu-1", "us-1"}, Tables: []string{"app.orders", "app.users", "app.order_lines"}},
	{Name: "crm", Members: []string{"eu-1", "ap-1"}, Tables: []string{"public.accounts"}},
}

func TestANameThatIsNotThereIsAnErrorWithTheNearest(t *testing.T) {
	for _, c := range []struct {
		wanted names.Wanted
		says   string
	}{
		{names.Wanted{}, ""},
		{names.Wanted{Group: "shop", Members: []string{"us-1", "eu-1"}, Tables: []string{"app.users"}}, ""},
		{names.Wanted{Members: []string{"ap-1"}, Tables: []string{"public.accounts", "app.users"}}, ""},
		{names.Wanted{Group: "shp"}, "no group shp; nearest: shop"},
		{names.Wanted{Group: "billing"}, "no group billing; there are crm, shop"},
		{names.Wanted{Group: "shop", Members: []string{"us-1", "us1"}}, "no member us1 in group shop; nearest: us-1"},
		{names.Wanted{Group: "shop", Members: []string{"ap-1"}}, "no member ap-1 in group shop; nearest: eu-1"},
		{names.Wanted{Members: []string{"AP-1"}}, "no member AP-1; nearest: ap-1"},
		{names.Wanted{Group: "shop", Tables: []string{"app.ordrs"}}, "no table app.ordrs in group shop; nearest: app.orders"},
		{names.Wanted{Group: "shop", Tables: []string{"orders"}}, "no table orders in group shop; nearest: app.orders"},
		{names.Wanted{Group: "shop", Tables: []string{"App.Orders"}}, "no table App.Orders in group shop; nearest: app.orders"},
		{names.Wanted{Tables: []string{"other.thing"}}, "no table other.thing; there are app.order_lines, app.orders, app.users, public.accounts"},
		{names.Wanted{Group: "shop", Tables: []string{"a b"}}, `no table "a b" in group shop; there are app.order_lines, app.orders, app.users`},
		{names.Wanted{Group: "shop", Tables: []string{""}}, `no table "" in group shop; there are app.order_lines, app.orders, app.users`},
	} {
		err := there.Check(c.wanted)
		if said := fmt.Sprint(err); err == nil && c.says != "" || err != nil && said != c.says {
			t.Errorf("%+v: %q, want %q", c.wanted, said, c.says)
		}
		if unknown := (*names.Unknown)(nil); err != nil && !errors.As(err, &unknown) {
			t.Errorf("%v is a %T", err, err)
		}
	}
}

// A group that is still being opened has said of no table whether it is there.
func TestOfAGroupWhoseTablesAreNotKnownAnyTableMayBeThere(t *testing.T) {
	g := names.Groups{there[0], {Name: "new", Members: []string{"a"}}}
	if err := g.Check(names.Wanted{Tables: []string{"app.ordrs"}}); err != nil {
		t.Error(err)
	}
	if err := g.Check(names.Wanted{Group: "shop", Tables: []string{"app.ordrs"}}); err == nil {
		t.Error("the group's tables are known")
	}
	g[1].Tables = []string{}
	if err := g.Check(names.Wanted{Group: "new", Tables: []string{"app.orders"}}); err == nil || err.Error() != "no table app.orders in group new; there is none" {
		t.Error(err)
	}
}

func TestAnIDMayBeCutAsLongAsItIsTheOnlyOne(t *testing.T) {
	ids := []string{"01M83CBN4Q", "01M83CBN4R", "01M854J5KH", "01M8"}
	for _, c := range []struct{ text, id, says string }{
		{"01M83CBN4Q", "01M83CBN4Q", ""},
		{"01m854", "01M854J5KH", ""},
		{"01M8", "01M8", ""}, // it is whole, though others begin so
		{"01M83", "", "several divergences begin with 01M83: 01M83CBN4Q, 01M83CBN4R; write more of the one"},
		{"01M855", "", "no divergence 01M855; nearest: 01M854J5KH"},
		{"nobody's", "", "no divergence nobody's; there are 01M83CBN4Q, 01M83CBN4R, 01M854J5KH, 01M8"},
	} {
		id, err := names.Complete("divergence", c.text, ids)
		if id != c.id || err == nil && c.says != "" || err != nil && err.Error() != c.says {
			t.Errorf("%s: %q, %v, want %q, %q", c.text, id, err, c.id, c.says)
		}
	}
	if _, err := names.Complete("divergence", "01M8", nil); err == nil || err.Error() != "no divergence 01M8; there is none" {
		t.Error(err)
	}
}

func TestMessagesDoNotListThousands(t *testing.T) {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("public.partition_%03d", i))
	}
	said := names.Check("table", "nothing.like.that", "", many).Error()
	if len(said) > 300 || !strings.HasSuffix(said, ", public.partition_009, and 990 more") {
		t.Error(said)
	}
}

func TestNearestIsWhatATypingErrorMakesOfAName(t *testing.T) {
	keys := []string{"lag_budget", "groups", "listen", "on"}
	for name, want := range map[string]string{"lag_budgt": "lag_budget", "lagBudget": "lag_budget", "group": "groups", "lis": "", "xx": "", "x": "", strings.Repeat("x", 1<<16): ""} {
		if got := names.Nearest(name, keys); got != want {
			t.Errorf("%.20s: %q, want %q", name, got, want)
		}
	}
}
