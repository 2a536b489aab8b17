package preflight_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// ties are those of a member that has a slot of its own name for each who reads from it, and reads by those that are given.
func ties(member string, slots []string, reads ...string) preflight.Ties {
	t := preflight.Ties{Member: member, Server: cdc.Server{SystemID: member}, Slots: make(map[string]cdc.TxSet)}
	for _, s := range slots {
		t.Slots[s] = cdc.TxSet{}
	}
	for _, s := range reads {
		t.Lanes = append(t.Lanes, cdc.Lane{Slot: s, Enabled: true})
	}
	return t
}

// hidden is a member that does not let us see how it replicates.
func hidden(t preflight.Ties) preflight.Ties {
	t.Lanes = []cdc.Lane{{Name: cdc.GTIDLane, Hidden: true}}
	return t
}

func scanOnly(t preflight.Ties) preflight.Ties {
	t.ScanOnly = true
	return t
}

func standbyOf(primary, member string) preflight.Ties {
	return preflight.Ties{Member: member, ScanOnly: true, Server: cdc.Server{SystemID: primary, Standby: true}, Lanes: []cdc.Lane{{Name: cdc.WALLane}}}
}

func TestNoReferenceIsFoundAmongMembersThatAreTheSameServer(t *testing.T) {
	a, b := ties("a", []string{"b"}), ties("b", nil, "b")
	twin := a
	twin.Member = "twin"
	if name, _, err := preflight.Reference([]preflight.Ties{twin, a, b}, nil); err == nil || errors.Is(err, preflight.ErrNoReference) {
		t.Errorf("%q, %v", name, err)
	}
}

// The rule goes by nothing but what members say now, in whatever order they are listed.
func TestReferenceIsWhoOthersReplicateFromAndNeverAReplica(t *testing.T) {
	a, b, c := ties("a", []string{"b", "c"}), ties("b", nil, "b"), ties("c", nil, "c")
	for name, x := range map[string]struct {
		members []preflight.Ties
		want    string // empty: nobody can say
		why     string
	}{
		"a publisher":                        {[]preflight.Ties{a, b, c}, "a", "b and c replicate from it, and it from nobody"},
		"it was taken out":                   {[]preflight.Ties{b, c}, "", ""},
		"one replica is left, and a new one": {[]preflight.Ties{b, ties("d", nil)}, "d", "it alone replicates from nobody"},
		"a server beside them":               {[]preflight.Ties{a, b, ties("d", nil)}, "a", "b replicates from it, and it from nobody"},
		"nobody replicates":                  {[]preflight.Ties{ties("a", nil), ties("b", nil)}, "", ""},
		"a chain":                            {[]preflight.Ties{ties("a", []string{"s"}), ties("b", []string{"t"}, "s"), ties("c", nil, "t")}, "a", "b replicates from it, and it from nobody"},
		"a chain by slots of one name":       {[]preflight.Ties{ties("a", []string{"s"}), ties("b", []string{"s"}, "s"), ties("c", nil, "s")}, "a", "b and c replicate from it, and it from nobody"},
		"a chain without its head":           {[]preflight.Ties{ties("b", []string{"t"}, "s"), ties("c", nil, "t")}, "b", "c replicates from it, and it from no member"},
		"two chains":                         {[]preflight.Ties{a, b, ties("d", []string{"e"}), ties("e", nil, "e")}, "", ""},
		"a chain beside a server":            {[]preflight.Ties{ties("b", []string{"t"}, "s"), ties("c", nil, "t"), ties("d", nil)}, "", ""},
		"by way of a server that is none":    {[]preflight.Ties{ties("a", []string{"x"}), ties("b", nil, "y"), ties("c", nil, "y")}, "a", "it alone replicates from nobody"},
		"a circle":                           {[]preflight.Ties{ties("a", []string{"a"}, "b"), ties("b", []string{"b"}, "a")}, "", ""},
		"a circle, and a replica of it":      {[]preflight.Ties{ties("a", []string{"a"}, "b"), ties("b", []string{"b"}, "a"), ties("c", nil, "a")}, "", ""},
		"a subscription without a slot":      {[]preflight.Ties{ties("a", []string{"b"}, ""), b}, "a", "b replicates from it, and it from nobody"},
		"a standby":                          {[]preflight.Ties{ties("a", nil), standbyOf("a", "s")}, "a", "s replicates from it, and it from nobody"},
		"one is left that may not be seen":   {[]preflight.Ties{hidden(ties("b", nil)), c}, "", ""},
		"a publisher that may not be seen":   {[]preflight.Ties{hidden(a), b, c}, "a", "b and c replicate from it, and it from no member"},
		"standbys only":                      {[]preflight.Ties{standbyOf("a", "s"), standbyOf("a", "t")}, "", ""},
		"the publisher is only scanned":      {[]preflight.Ties{scanOnly(a), b, c}, "", ""},
		"a replica is only scanned":          {[]preflight.Ties{a, scanOnly(b)}, "a", "b replicates from it, and it from nobody"},
	} {
		for range len(x.members) {
			x.members = append(slices.Clone(x.members[1:]), x.members[0])
			got, _, err := preflight.Reference(x.members, nil)
			if got != x.want || (x.want == "") != errors.Is(err, preflight.ErrNoReference) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if _, why, _ := preflight.Reference(x.members, nil); why != x.why {
			t.Errorf("%s: because %q, want %q", name, why, x.why)
		}
	}
}
