package cdc

import "slices"

// Upstream is from which servers one with GTIDs replicates, directly or by way of others. The zero Upstream is none.
type Upstream struct {
	servers map[string]bool // by id
	// open says that from one of them it is not known whom it replicates from: it is not watched, or has not said yet.
	open bool
}

// UpstreamOf works out from whom a server replicates, by what it and others say of themselves.
func UpstreamOf(p Progress, others []Progress) Upstream {
	u := Upstream{servers: make(map[string]bool)}
	for next := slices.Clone(p.Follows); len(next) > 0; {
		id := next[0]
		if next = next[1:]; u.servers[id] || id == p.Self {
			continue
		}
		at := slices.IndexFunc(others, func(o Progress) bool { return o.Self == id && id != "" })
		if at < 0 {
			u.open = true
		} else {
			next = append(next, others[at].Follows...)
		}
		if id != "" {
			u.servers[id] = true
		}
	}
	return u
}

// Promoted returns what servers say of themselves without what they have left over from before they were promoted: replication that stands
// still, by which nothing comes any more. That of the reference is left over once anybody replicates from it, that of another server
// once those that it followed replicate from it.
func Promoted(servers []Progress, reference string) []Progress {
	list := slices.Clone(servers)
	for i, p := range servers {
		if p.Self == "" || p.replicates() {
			continue
		}
		list[i].Follows = slices.DeleteFunc(slices.Clone(p.Follows), func(id string) bool {
			if p.Self == reference {
				return slices.ContainsFunc(servers, func(o Progress) bool { return o.Self != p.Self && slices.Contains(o.Follows, p.Self) })
			}
			return reaches(servers, p.Self, id)
		})
	}
	return list
}

// replicates reports whether replication with GTIDs goes on.
func (p Progress) replicates() bool {
	return slices.ContainsFunc(p.Lanes, func(ln Lane) bool { return ln.Name == GTIDLane && ln.Enabled })
}

// reaches reports whether what is on one server comes to another, directly or by way of others, by replication that goes on.
func reaches(servers []Progress, from, to string) bool {
	seen := make(map[string]bool)
	for next := []string{to}; len(next) > 0; {
		id := next[0]
		next = next[1:]
		at := slices.IndexFunc(servers, func(o Progress) bool { return o.Self == id })
		if id == from {
			return true
		}
		if seen[id] || at < 0 || !servers[at].replicates() {
			continue
		}
		seen[id] = true
		next = append(next, servers[at].Follows...)
	}
	return false
}

// Brings reports whether a server that has some transactions may get those that another one wrote: it replicates from that, or, where
// not all are known from which it does, such have come to it before.
func (u Upstream) Brings(author string, has TxSet) bool {
	return u.servers[author] || u.open && !has.WrittenBy(author).IsZero()
}

// Reaches reports whether replication may bring to a server, whose upstream is u and which has some transactions, what another one wrote
// and the reference has. A reference that is a replica itself may have what comes to those only that replicate from it.
func (u Upstream) Reaches(to, ref Progress, author string, has TxSet) bool {
	if len(ref.Follows) == 0 || to.Self == "" || to.Self == author {
		return true
	}
	return u.Brings(author, has) || u.servers[ref.Self]
}

// Coming returns which of some transactions a server may have yet to replay that has others: the author of each is upstream of it.
func (u Upstream) Coming(set, has TxSet) TxSet {
	return set.Without(has).OfAuthors(func(author string) bool { return u.Brings(author, has) })
}

// Follows reports whether a server is among those from which is replicated.
func (u Upstream) Follows(id string) bool { return u.servers[id] }
