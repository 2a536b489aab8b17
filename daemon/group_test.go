package daemon_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
)

// Members that were asked who they are say it again by another connection, in any order, and several times. Whose server it is does not
// depend on it: it is that of who was watched as it, and who came by it anew is refused, wherever in the configuration they are. Who says
// the same of itself and is another server, a copy, is refused only if that cannot be proven.
func TestWhichMemberIsRefusedDoesNotDependOnWhoAnswersFirst(t *testing.T) {
	names := []string{"a", "b", "c"}
	members := []config.Member{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	server := func(id string) cdc.Server { return cdc.Server{SystemID: id, Database: "d"} }
	standby := func(of string) cdc.Server { return cdc.Server{SystemID: of, Database: "d", Standby: true} }
	type servers = map[string]cdc.Server
	were := servers{"a": server("1"), "b": server("2"), "c": server("3")}
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for name, c := range map[string]struct {
		say, were servers
		silent    string // does not answer
		refused   string
		copies    bool   // who says the same is another server
		deaf      string // its server says who it is, and cannot be told from another
	}{
		"all others":                          {say: servers{"a": server("1"), "b": server("2"), "c": standby("2")}},
		"one twice":                           {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, refused: "c"},
		"a standby of nobody":                 {say: servers{"a": server("1"), "b": standby("3"), "c": server("2")}, refused: "b"},
		"two of them":                         {say: servers{"a": standby("3"), "b": server("1"), "c": standby("4")}, refused: "a c"},
		"an earlier one comes by a later's":   {say: servers{"a": server("3"), "b": server("2"), "c": server("3")}, were: were, refused: "a"},
		"a later one comes by an earlier's":   {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, were: were, refused: "c"},
		"a new one comes by another's":        {say: servers{"a": server("2"), "b": server("2"), "c": server("3")}, were: servers{"b": server("2"), "c": server("3")}, refused: "a"},
		"two are exchanged":                   {say: servers{"a": server("3"), "b": server("2"), "c": server("1")}, were: were},
		"each comes by the next one's":        {say: servers{"a": server("2"), "b": server("3"), "c": server("1")}, were: were},
		"one takes over from who has left it": {say: servers{"a": server("2"), "b": server("4"), "c": server("3")}, were: were},
		"its owner does not answer":           {say: servers{"a": server("3"), "b": server("2")}, were: were, silent: "c", refused: "a"},
		"both were it":                        {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, were: servers{"a": server("1"), "c": server("1")}, refused: "c"},
		"a copy":                              {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, copies: true},
		"a copy, and a copy of that":          {say: servers{"a": server("1"), "b": server("1"), "c": server("1")}, copies: true},
		"a copy of who was here before":       {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, were: servers{"c": server("1")}, copies: true},
		"a copy that cannot be asked":         {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, copies: true, deaf: "c", refused: "c"},
		"a copy of who cannot be asked":       {say: servers{"a": server("1"), "b": server("2"), "c": server("1")}, copies: true, deaf: "a", refused: "c"},
		"a copy of who does not answer":       {say: servers{"a": server("1"), "b": server("2")}, were: servers{"a": server("1"), "c": server("1")}, copies: true, silent: "c"},
		"its standby was promoted":            {say: servers{"a": server("1"), "b": server("2"), "c": standby("1")}, were: servers{"a": standby("1"), "b": server("2"), "c": server("1")}},
	} {
		for _, order := range orders {
			sources, real := make(map[string]cdc.Source), cdctest.NewCluster(cdctest.Postgres, 1)
			behind := make(map[string]*cdctest.Server)
			for _, m := range names {
				which := c.say[m].SystemID
				if c.copies || c.say[m].Standby {
					which = "that of " + m
				}
				if behind[which] == nil {
					behind[which] = real.Server(which)
				}
				behind[which].Break(cdctest.Faults{Refuse: m == c.deaf})
				sources[m] = behind[which].Source(nil)
			}
			g := daemon.Entering(&config.Group{Name: "shop", Members: members}, c.say, maps.Clone(c.were), sources)
			for range 2 {
				for _, i := range order {
					if names[i] != c.silent {
						_ = g.Enter(t.Context(), names[i], c.say[names[i]])
					}
				}
			}
			var refused []string
			for _, m := range names {
				if m == c.silent {
					continue
				}
				err := g.Enter(t.Context(), m, c.say[m])
				if err == nil {
					err = g.Orphan(m)
				}
				if err != nil {
					refused = append(refused, m)
				}
			}
			if got := strings.Join(refused, " "); got != c.refused {
				t.Errorf("%s, in the order %v: refused are %q, want %q", name, order, got, c.refused)
			}
		}
	}
}
