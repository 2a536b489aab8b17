package preflight

import (
	"fmt"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Roll is which servers the members of a group are. The zero Roll is empty.
type Roll struct{ entries []entry }

type entry struct {
	member string
	server cdc.Server
}

// Add enters a member. It refuses one that is the same server and database as another: they could never differ. A physical
// standby, which goes by its primary's name, is another server.
func (r *Roll) Add(member string, s cdc.Server) error {
	if other := r.find(s); other != "" && !s.Standby {
		return Twins(other, member, true)
	}
	r.entries = append(r.entries, entry{member, s})
	return nil
}

// find returns the member that is a server and no standby of it; empty: none is.
func (r *Roll) find(s cdc.Server) string {
	i := slices.IndexFunc(r.entries, func(e entry) bool {
		return !e.server.Standby && e.server.SystemID == s.SystemID && e.server.Database == s.Database
	})
	if i < 0 {
		return ""
	}
	return r.entries[i].member
}

// Same reports whether two members would be one server and database. A physical standby, which goes by its primary's name, is another
// server; the zero Server is nobody's.
func Same(a, b cdc.Server) bool {
	return a.SystemID != "" && !a.Standby && !b.Standby && a.SystemID == b.SystemID && a.Database == b.Database
}

// Twins refuses a member that is the same server as another one, or as that was when it was last watched, if it does not say now who it is.
func Twins(owner, member string, says bool) error {
	if !says {
		return fmt.Errorf("member %s is the server and database that member %s was when it was last watched, which does not answer now: correct the dsn of one", member, owner)
	}
	return fmt.Errorf("members %s and %s are the same server and database, which always agrees with itself: correct the dsn of one", owner, member)
}

// Orphan returns a member that is a physical standby of a server which is no member; empty: none is.
func (r *Roll) Orphan() string {
	for _, e := range r.entries {
		if e.server.Standby && r.find(e.server) == "" {
			return e.member
		}
	}
	return ""
}
