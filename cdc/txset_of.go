package cdc

import (
	"cmp"
)

// WrittenBy returns the transactions of s that were first written on a server: of MySQL's by its UUID, of MariaDB's by its
// server id. PostgreSQL's ids do not tell.
func (s TxSet) WrittenBy(server string) TxSet {
	return s.OfAuthors(func(author string) bool { return author == server && server != "" })
}

// OfAuthors returns the transactions of s that some servers wrote first, which are named as in [TxID.Author].
func (s TxSet) OfAuthors(keep func(author string) bool) TxSet {
	var some TxSet
	for source, spans := range s.spans {
		if keep((TxID{Source: source}).Author()) {
			some.AddSet(TxSet{map[string][]span{source: spans}})
		}
	}
	return some
}

// OfDomains returns the transactions of s that are of some of MariaDB's domains.
func (s TxSet) OfDomains(keep func(domain string) bool) TxSet {
	var some TxSet
	for source, spans := range s.spans {
		if domain := (TxID{Source: source}).Domain(); domain != "" && keep(domain) {
			some.AddSet(TxSet{map[string][]span{source: spans}})
		}
	}
	return some
}

// LastOf returns the highest number of one of MariaDB's domains; 0 if there is none.
func (s TxSet) LastOf(domain string) uint64 {
	last := uint64(0)
	for source, spans := range s.spans {
		if domainOf(source) == domain {
			last = max(last, spans[len(spans)-1].last)
		}
	}
	return last
}

// after returns what is in s without all that has a lower number than a position of its domain.
func (s TxSet) after(position TxSet) TxSet {
	var rest TxSet
	for source, spans := range s.spans {
		through := uint64(0)
		if (TxID{Source: source}).sequential() {
			through = position.LastOf(domainOf(source))
		}
		for _, x := range spans {
			rest.add(source, span{max(x.first, through+1), x.last})
		}
	}
	return rest
}

// Latest returns, of MariaDB's ids, the highest of each domain, and all others as they are. A member may lack ids of
// servers that wrote long ago, which its backup was taken after; domains are replayed in order, so who has the highest has
// all of s.
func (s TxSet) Latest() TxSet {
	highest := map[string]uint64{}
	each := func(yield func(source, domain string, last uint64)) {
		for source, spans := range s.spans {
			domain := cmp.Or(TxID{Source: source}.Domain(), source)
			yield(source, domain, spans[len(spans)-1].last)
		}
	}
	each(func(_, domain string, last uint64) { highest[domain] = max(highest[domain], last) })
	var latest TxSet
	each(func(source, domain string, last uint64) {
		if last == highest[domain] {
			latest.AddSet(TxSet{map[string][]span{source: s.spans[source]}})
		}
	})
	return latest
}
