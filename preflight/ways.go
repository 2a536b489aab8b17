package preflight

import (
	"fmt"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// ways follows tables on their way from the reference to replicas that can be watched only by a lane of their own: of what none brings
// nothing can be said, and nothing of what one brings a part of.
func ways(reports []*Report, reference string, excluded func(table string) []string) (checks []Check) {
	author := find(reports, reference)
	for _, r := range reports {
		replica := r.Copies()
		if reference != "" {
			replica = r.Member != reference && !r.beside(reports, author)
		}
		if replica && r.Direct && !r.Standby && !r.Unseen {
			checks = append(checks, r.ways(author, excluded)...)
		}
	}
	return checks
}

// find is the report of a member; nil: it did not answer.
func find(reports []*Report, member string) *Report {
	if i := slices.IndexFunc(reports, func(r *Report) bool { return r.Member == member }); i >= 0 {
		return reports[i]
	}
	return nil
}

// ways follows the tables to one replica. An author of nil is not known: then any lane will do.
func (r *Report) ways(author *Report, excluded func(table string) []string) (checks []Check) {
	lanes, published, from := r.Lanes, []Table(nil), ""
	if author != nil {
		lanes, published, from = cdc.OfAuthor(lanes, author.slots()), author.Tables, " from "+author.Member
	}
	var unbrought []string
	for _, t := range r.Tables {
		lane, hold := cdc.Route(lanes, t.Name)
		switch i := slices.IndexFunc(published, func(p Table) bool { return p.Name == t.Name }); {
		case lane == nil && hold == "":
			unbrought = append(unbrought, t.Name)
		case lane != nil && i >= 0:
			whole := cdc.Table{Name: t.Name, Publications: published[i].Publications}
			if left := lane.LeavesOut(whole, excluded(t.Name)); left != "" {
				checks = append(checks, Check{Subject: "table " + t.Name, About: r.Member, Detail: left, Hint: "publish all of it, or exclude what does not travel"})
			}
		}
	}
	if len(unbrought) > 0 {
		checks = append(checks, Check{
			Subject: "subscriptions", State: Warn, About: r.Member,
			Detail: fmt.Sprintf("no subscription of %s brings %s%s: unverified until one does", r.Member, SomeOf("tables", unbrought), from),
			Hint:   "add it to a publication that is subscribed to, then ALTER SUBSCRIPTION … REFRESH PUBLICATION; or exclude it",
		})
	}
	return checks
}

// Beside finds members to which nothing comes from the reference, but from or to another member: watched as they are to be they could never
// be verified. It is not to be called where a member did not answer.
func Beside(reports []*Report, proofs Proofs, reference string, scanOnly func(member string) bool) (checks []Check) {
	author := find(reports, reference)
	if author == nil {
		return nil
	}
	hint := "name the member as the group's `reference` that the others replicate from"
	if better, why, err := Reference(TiesOf(reports, scanOnly), proofs); err == nil && better != reference {
		hint = fmt.Sprintf("name %s as the group's `reference`: %s", better, why)
	}
	for _, r := range reports {
		if r != author && r.beside(reports, author) {
			checks = append(checks, Check{
				Subject: "members", About: r.Member, Hint: hint,
				Detail: fmt.Sprintf("nothing brings the tables from %s, the reference, to %s: it can never be verified", reference, r.Member),
			})
		}
	}
	return checks
}

// beside reports whether a member that can be watched only by lanes from the author has none, and is known to be somebody else's replica
// or publisher. Of one that replicates from no member, and no member from it, it may be that it has yet to be subscribed.
func (r *Report) beside(reports []*Report, author *Report) bool {
	if author == nil || !r.Direct || r.Standby || r.Unseen || r.follows(author) {
		return false
	}
	return slices.ContainsFunc(reports, func(o *Report) bool { return r.follows(o) || o.follows(r) })
}
