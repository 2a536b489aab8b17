package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Upstream is where a member has what it replays from.
type Upstream struct {
	ID    string // one of the Feeds of the server that it is; empty: not known
	Named string // as people name that server
}

// Copies reports whether the member replays what another server has written.
func (r *Report) Copies() bool { return len(r.Upstreams) > 0 }

// follows reports whether the member replays from another one.
func (r *Report) follows(other *Report) bool {
	return r != other && slices.ContainsFunc(r.Upstreams, func(u Upstream) bool { return u.ID != "" && slices.Contains(other.Feeds, u.ID) })
}

// Followers are the members that were seen to replay from one, directly.
func Followers(reports []*Report, member string) (names []string) {
	i := slices.IndexFunc(reports, func(r *Report) bool { return r.Member == member })
	for _, r := range reports {
		if i >= 0 && r.follows(reports[i]) {
			names = append(names, r.Member)
		}
	}
	return names
}

// Unseen reports whether it is not known of all members what they replay from.
func Unseen(reports []*Report) bool {
	return slices.ContainsFunc(reports, func(r *Report) bool { return r.Unseen || !r.Asked() })
}

// TiesOf are the members' ties as far as they were seen.
func TiesOf(reports []*Report, scanOnly func(member string) bool) []Ties {
	ties := make([]Ties, len(reports))
	for i, r := range reports {
		t := Ties{Member: r.Member, Server: cdc.Server{SystemID: cmp.Or(r.Server, r.Member), Standby: r.Standby}, ScanOnly: scanOnly(r.Member), Slots: r.slots()}
		for _, u := range r.Upstreams {
			t.Lanes = append(t.Lanes, cdc.Lane{Slot: u.ID, Hidden: u.ID == ""})
		}
		if r.Unseen || !r.Asked() {
			t.Lanes = append(t.Lanes, cdc.Lane{Hidden: true})
		}
		ties[i] = t
	}
	return ties
}

// slots are the names by which the member's replicas know it.
func (r *Report) slots() map[string]cdc.TxSet {
	slots := make(map[string]cdc.TxSet)
	for _, id := range r.Feeds {
		slots[id] = cdc.TxSet{}
	}
	return slots
}

// Strays finds members that replay from a server which is not among the members.
// Nothing is said where that is not known of all; it is not to be called where a member did not answer.
func Strays(reports []*Report, reference string) (checks []Check) {
	if Unseen(reports) {
		return nil
	}
	for _, r := range reports {
		origin := func(other *Report) bool { return r.follows(other) || !r.Direct && r != other && !other.Copies() }
		unknown := func(u Upstream) bool { return u.ID == "" }
		if r.Member == reference || !r.Copies() || slices.ContainsFunc(r.Upstreams, unknown) || slices.ContainsFunc(reports, origin) {
			continue
		}
		var from []string
		for _, u := range r.Upstreams {
			from = append(from, u.Named)
		}
		checks = append(checks, Check{
			Subject: "members", About: r.Member, Detail: fmt.Sprintf("%s replicates from %s, which is not among the members", r.Member, strings.Join(from, " and from ")),
			Hint: "name that server too: replicas are held against the server that they replicate from",
		})
	}
	return checks
}
