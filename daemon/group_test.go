package daemon_test

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
)

// Members say who they are in any order. Whose servers are the same, or nobody's standby, does not depend on it.
func TestWhichMemberIsRefusedDoesNotDependOnWhoAnswersFirst(t *testing.T) {
	members := []config.Member{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	primary, other := cdc.Server{SystemID: "1", Database: "d"}, cdc.Server{SystemID: "2", Database: "d"}
	standby := func(of string) cdc.Server { return cdc.Server{SystemID: of, Database: "d", Standby: true} }
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for name, c := range map[string]struct {
		servers [3]cdc.Server
		refused [3]bool
	}{
		"all others":          {[3]cdc.Server{primary, other, standby("2")}, [3]bool{}},
		"one twice":           {[3]cdc.Server{primary, other, primary}, [3]bool{false, false, true}},
		"a standby of nobody": {[3]cdc.Server{primary, standby("3"), other}, [3]bool{false, true, false}},
		"two of them":         {[3]cdc.Server{standby("3"), primary, standby("4")}, [3]bool{true, false, true}},
	} {
		for _, order := range orders {
			g := daemon.Entering(&config.Group{Name: "shop", Members: members})
			for range 2 { // who was entered by mistake is asked again
				for _, i := range order {
					_ = g.Enter(members[i].Name, c.servers[i])
				}
			}
			for i, m := range members {
				err := g.Enter(m.Name, c.servers[i])
				if err == nil {
					err = g.Orphan(m.Name)
				}
				if (err != nil) != c.refused[i] {
					t.Errorf("%s, in the order %v: %s is refused for %v", name, order, m.Name, err)
				}
			}
		}
	}
}
