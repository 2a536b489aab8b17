package preflight

import (
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Roll is which servers the members of a group are.
type Roll struct {
	Proofs  Proofs // of those that say that they are the same one
	entries []entry
}

type entry struct {
	member string
	server cdc.Server
}

// Add enters a member. It refuses one that may be the same server and database as another: they could never differ.
func (r *Roll) Add(member string, s cdc.Server) error {
	for _, e := range r.entries {
		if !Alike(e.server, s) {
			continue
		}
		if err := r.Proofs.Twins(e.member, member); err != nil {
			return err
		}
	}
	r.entries = append(r.entries, entry{member, s})
	return nil
}

// Orphan returns a member that is a physical standby of a server which is no member; empty: none is. A standby goes by its primary's name.
func (r *Roll) Orphan() string {
	for _, e := range r.entries {
		primary := func(o entry) bool {
			return !o.server.Standby && o.server.SystemID == e.server.SystemID && o.server.Database == e.server.Database
		}
		if e.server.Standby && !slices.ContainsFunc(r.entries, primary) {
			return e.member
		}
	}
	return ""
}
