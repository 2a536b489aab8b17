package preflight

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Ties are what a member says of whom it replicates from, and of what others may replicate from it by.
type Ties struct {
	Member   string
	Server   cdc.Server
	ScanOnly bool // its log is not read, so it cannot be the reference
	Lanes    []cdc.Lane
	Slots    map[string]cdc.TxSet // as the author; see [cdc.Source]
}

// replicates reports whether the member replicates from anybody, as far as it lets us see.
func (t *Ties) replicates() bool {
	return t.Server.Standby || slices.ContainsFunc(t.Lanes, func(l cdc.Lane) bool { return l.Slot != "" || l.Hidden })
}

// from reports whether the member replicates from another one. A physical standby goes by its primary's name.
func (t *Ties) from(o *Ties) bool {
	if t.Server.Standby {
		return !o.Server.Standby && o.Server.SystemID == t.Server.SystemID
	}
	return slices.ContainsFunc(t.Lanes, func(l cdc.Lane) bool {
		_, has := o.Slots[l.Slot]
		return has && l.Slot != ""
	})
}

// ErrNoReference is for a group of which nobody can say by how its members replicate which one the others are to be held against.
var ErrNoReference = errors.New("the members' replication does not say it")

// Reference finds the member that the others are to be held against, and says why: it replicates from nobody, and others from it. If
// there is none, it is the only one that may be one: that replicates from nobody, or from no member and others from it, as where the
// publisher of the publisher is no member. Where there are several of the kind, or none, it is an error: a replica is never taken for
// the reference because nobody else is there. The proofs are of members that say that they are the same server.
func Reference(members []Ties, proofs Proofs) (name, why string, err error) {
	var sure, likely []string
	roll := Roll{Proofs: proofs}
	reasons := make(map[string]string)
	for i := range members {
		m := &members[i]
		if err := roll.Add(m.Member, m.Server); err != nil {
			return "", "", err
		}
		followers, below := m.among(members)
		switch {
		case !m.eligible():
		case m.heads(followers):
			sure = append(sure, m.Member)
			reasons[m.Member] = asHead(followers)
		case !m.replicates():
			likely = append(likely, m.Member)
			reasons[m.Member] = "it alone replicates from nobody"
		case !below && len(followers) > 0:
			likely = append(likely, m.Member)
			reasons[m.Member] = replicate(followers) + " from it, and it from no member"
		}
	}
	may := sure
	if len(sure) == 0 {
		may = likely
	}
	switch len(may) {
	case 1:
		return may[0], reasons[may[0]], nil
	case 0:
		return "", "", fmt.Errorf("%w: each member replicates from elsewhere, is only scanned, or does not let lockstep see how it replicates", ErrNoReference)
	}
	return "", "", fmt.Errorf("%w: %s do not replicate from one another", ErrNoReference, and(may))
}

// Successor finds the member to which the role of the reference went, among some of the members: it alone replicates from nobody, and others from
// it. Of one that is not among them, as it does not answer, nothing is known, so no replica is taken for the reference here. The name is
// empty if there is none.
func Successor(members []Ties) (name, why string) {
	for i := range members {
		m := &members[i]
		followers, _ := m.among(members)
		if !m.eligible() || !m.heads(followers) {
			continue
		}
		if name != "" {
			return "", ""
		}
		name, why = m.Member, asHead(followers)
	}
	return name, why
}

// eligible reports whether a member can be a reference at all.
func (t *Ties) eligible() bool { return !t.ScanOnly && !t.Server.Standby }

// heads reports whether others follow a member that replicates from nobody.
func (t *Ties) heads(followers []string) bool { return !t.replicates() && len(followers) > 0 }

func asHead(followers []string) string { return replicate(followers) + " from it, and it from nobody" }

// among names the members that replicate from this one, and says whether it replicates from any.
func (t *Ties) among(members []Ties) (followers []string, below bool) {
	for i := range members {
		o := &members[i]
		if o.Member == t.Member {
			continue
		}
		if o.from(t) {
			followers = append(followers, o.Member)
		}
		below = below || t.from(o)
	}
	return followers, below
}

func replicate(names []string) string {
	if len(names) == 1 {
		return names[0] + " replicates"
	}
	return and(names) + " replicate"
}

func and(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
