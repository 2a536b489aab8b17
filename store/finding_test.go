package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/store"
)

func divergences(t *testing.T, g *store.Group) []string {
	t.Helper()
	var list []string
	must(t, g.Divergences(func(d *finding.Divergence) bool {
		list = append(list, d.ID[len(d.ID)-1:]+" "+d.State)
		return true
	}))
	return list
}

func TestFindingsComeBackUnlessTheyAreResolved(t *testing.T) {
	suspected := findingOf(2, finding.Open)
	suspected.Confirmed = false
	later(t, func(g *store.Group) {
		for _, f := range []*finding.Finding{findingOf(1, finding.Open), suspected, findingOf(3, finding.Resolved), findingOf(4, finding.Open)} {
			must(t, g.SetFinding(f))
		}
		must(t, g.DeleteFinding(4))
		must(t, g.DeleteFinding(77))
	}, func(g *store.Group) {
		if diff := cmp.Diff([]*finding.Finding{findingOf(1, finding.Open), suspected}, load(t, g).Findings, cmpopts.IgnoreUnexported(finding.Finding{})); diff != "" {
			t.Error(diff)
		}
		if got, want := divergences(t, g), []string{"3 resolved", "1 open"}; !slices.Equal(got, want) {
			t.Errorf("divergences are %q, want %q", got, want)
		}
		must(t, g.DeleteFinding(2))
		if got := load(t, g).Findings; len(got) != 1 {
			t.Errorf("%d findings are left, want 1", len(got))
		}
	})
}

// The ledger counts findings from the last open one, so after a restart it gives the numbers of resolved ones again.
// Those were the names that findings were kept under: the first new divergence wrote over the history.
func TestNewFindingDoesNotReplaceAResolvedOneOfItsNumber(t *testing.T) {
	later(t, func(g *store.Group) {
		must(t, g.SetFinding(findingOf(1, finding.Open)))
		must(t, g.SetFinding(findingOf(1, finding.Resolved)))
	}, func(g *store.Group) {
		load(t, g)
		again := findingOf(2, finding.Open)
		again.Number = 1
		must(t, g.SetFinding(again))
		must(t, g.Commit())
		if got, want := divergences(t, g), []string{"2 open", "1 resolved"}; !slices.Equal(got, want) {
			t.Errorf("divergences are %q, want %q", got, want)
		}
		must(t, g.DeleteFinding(1))
		must(t, g.Commit())
		if got, want := divergences(t, g), []string{"1 resolved"}; !slices.Equal(got, want) {
			t.Errorf("divergences are %q, want %q", got, want)
		}
	})
}

func TestDivergencesEndWhenTheCallerHasEnough(t *testing.T) {
	later(t, func(g *store.Group) {
		for n := range 5 {
			must(t, g.SetFinding(findingOf(n, finding.Open)))
		}
	}, func(g *store.Group) {
		seen := 0
		must(t, g.Divergences(func(*finding.Divergence) bool { seen++; return seen < 2 }))
		if seen != 2 {
			t.Errorf("%d divergences were shown, want 2", seen)
		}
	})
}

func TestPruneForgetsTheOldestResolvedDivergences(t *testing.T) {
	reopened(t, vfs.NewMem(), func(_ *store.Store, g *store.Group) {
		must(t, g.SetFinding(findingOf(0, finding.Open)))
		for n := range store.KeepResolved + 2 {
			must(t, g.SetFinding(&finding.Finding{Number: uint64(n + 1), Confirmed: true, Divergence: finding.Divergence{
				ID: fmt.Sprintf("01J%023d", n+1), State: finding.Resolved,
			}}))
		}
		must(t, g.Prune())
		must(t, g.Commit())
		count, last := 0, ""
		must(t, g.Divergences(func(d *finding.Divergence) bool { count, last = count+1, d.State; return true }))
		if count != store.KeepResolved+1 || last != finding.Open {
			t.Errorf("%d divergences are left, the oldest %s, want %d and open", count, last, store.KeepResolved+1)
		}
	})
}

func TestAnotherReferenceIsKnownToWhoLoads(t *testing.T) {
	later(t, func(g *store.Group) {
		must(t, g.SetReference("eu"))
	}, func(g *store.Group) {
		id, err := g.MemberID("eu")
		must(t, err)
		if saved := load(t, g); saved.Reference != id {
			t.Errorf("the reference is %d, want %d", saved.Reference, id)
		}
		must(t, g.SetReference("us"))
		if name, err := g.Reference(); err != nil || name != "us" {
			t.Errorf("the reference is %q, %v", name, err)
		}
	})
}

func TestWatchedNamesMembersThatWereRead(t *testing.T) {
	later(t, func(g *store.Group) {
		id, err := g.MemberID("eu")
		must(t, err)
		_, err = g.MemberID("us")
		must(t, err)
		must(t, g.SetMember(id, memberAt(5)))
		id, err = g.MemberID("standby")
		must(t, err)
		must(t, g.SetMember(id, &align.MemberRecord{ScanOnly: true}))
	}, func(g *store.Group) {
		got, err := g.Watched()
		if err != nil || len(got) != 2 || got["eu"].Server != memberAt(5).Server || got["eu"].ScanOnly || !got["standby"].ScanOnly {
			t.Errorf("watched are %v, %v", got, err)
		}
	})
}
