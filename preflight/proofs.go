package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Claim is who a member says that it is, and what it can be held to that by.
type Claim struct {
	Member  string
	Server  cdc.Server
	Beacons cdc.Beacons
}

// Alike reports whether two members say that they are one server and database: they may be, or one may be a copy of the other. A physical
// standby, which goes by its primary's name, is another server; the zero Server is nobody's.
func Alike(a, b cdc.Server) bool {
	return a.SystemID != "" && !a.Standby && !b.Standby && a.SystemID == b.SystemID && a.Database == b.Database
}

// Proofs are what is known of members that are [Alike], by two members: nil of those that were proven to be two servers. Of who is not
// in them nothing is known.
type Proofs map[pair]error

// pair is two members, in the order of their names.
type pair [2]string

func pairOf(a, b string) pair { return pair{min(a, b), max(a, b)} }

// ErrOne is for members that were proven to be one server and database.
var ErrOne = errors.New("the same server and database")

var (
	errNamesakes = errors.New("they are two servers of one server_uuid")
	errUnasked   = errors.New("they were not asked")
)

// proveWithin is how long two members may take to be told apart.
const proveWithin = 10 * time.Second

// Prove tells a member from others that say that they are the same server. It asks nothing of those that do not.
func (p Proofs) Prove(ctx context.Context, c Claim, others ...Claim) {
	for _, o := range others {
		if Alike(c.Server, o.Server) {
			p[pairOf(c.Member, o.Member)] = prove(ctx, c, o)
		}
	}
}

func prove(ctx context.Context, a, b Claim) error {
	ctx, cancel := context.WithTimeout(ctx, proveWithin)
	defer cancel()
	apart, err := cdc.Apart(ctx, a.Beacons, b.Beacons)
	switch {
	case err != nil:
		return err
	case !apart:
		return ErrOne
	case a.Server.Authors():
		return errNamesakes
	}
	return nil
}

// ProveAll tells all members from one another.
func ProveAll(ctx context.Context, claims []Claim) Proofs {
	p := make(Proofs)
	for i, c := range claims {
		p.Prove(ctx, c, claims[:i]...)
	}
	return p
}

// between is nil if two members were proven to be two servers.
func (p Proofs) between(a, b string) error {
	if err, asked := p[pairOf(a, b)]; asked {
		return err
	}
	return errUnasked
}

// Unknown reports whether two members could not be told apart.
func (p Proofs) Unknown(a, b string) bool {
	err := p.between(a, b)
	return err != nil && err != ErrOne && err != errNamesakes
}

// Twins refuses a member that says to be the same server as another one, unless they were proven to be two.
func (p Proofs) Twins(owner, member string) error {
	switch err := p.between(owner, member); err {
	case nil:
		return nil
	case ErrOne:
		return fmt.Errorf("members %s and %s are %w, which always agrees with itself: correct the dsn of one", owner, member, err)
	case errNamesakes:
		return fmt.Errorf("members %s and %s are two servers of one server_uuid, by which the transactions of both are named and replication refuses to run: %s", owner, member, renameCopy)
	default:
		return fmt.Errorf("members %s and %s say that they are the same server and database, as a copy does, too; whether they are two is not known: %w", owner, member, err)
	}
}

// renameCopy has a copy of one of MySQL's servers go by another name.
const renameCopy = "stop the one that is a copy, remove auto.cnf from its data folder, and start it"

// Unanswered refuses a member that is the same server as another one was when it was last watched, which does not say now who it is.
func Unanswered(owner, member string) error {
	return fmt.Errorf("member %s is the server and database that member %s was when it was last watched, which does not answer now, so that nothing tells it from a copy: start that one, or correct the dsn of one", member, owner)
}
