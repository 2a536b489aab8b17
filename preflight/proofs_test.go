package preflight_test

import (
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// A server and its copy say the same of themselves. They were taken for one server, and neither could be watched beside the other; by
// their word alone a server could have been watched as two.
func TestServersAreToldApartByProofAndByNothingElse(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	c := cdctest.NewCluster(cdctest.MariaDB, 1)
	one, other := c.Server("one"), c.Server("other")
	open := func(s *cdctest.Server) cdc.Source { return s.Source(digest.NewHasher([32]byte{})) }
	is := func(id string) cdc.Server { return cdc.Server{SystemID: id} }
	for name, x := range map[string]struct {
		a, b         cdc.Server
		beside, deaf *cdctest.Server // the second member's server; what cannot be asked
		want         string
	}{
		"a server under two names":    {is("mariadb-0:3306/data/"), is("mariadb-0:3306/data/"), one, nil, "are the same server"},
		"a server and its copy":       {is("mariadb-0:3306/data/"), is("mariadb-0:3306/data/"), other, nil, ""},
		"the first does not answer":   {is("mariadb-0:3306/data/"), is("mariadb-0:3306/data/"), other, one, "is not known"},
		"the second does not answer":  {is("mariadb-0:3306/data/"), is("mariadb-0:3306/data/"), other, other, "is not known"},
		"servers with one uuid":       {is(uuid), is(uuid), other, nil, "auto.cnf"},
		"servers that say so":         {is("a"), is("b"), other, nil, "were not asked"}, // and need not be
		"two databases of one server": {cdc.Server{SystemID: "7", Database: "a"}, cdc.Server{SystemID: "7", Database: "b"}, one, nil, "were not asked"},
		"a standby of the other":      {is("7"), cdc.Server{SystemID: "7", Standby: true}, other, nil, "were not asked"},
	} {
		if x.deaf != nil {
			x.deaf.Break(cdctest.Faults{Refuse: true})
		}
		claims := []preflight.Claim{{Member: "eu-1", Server: x.a, Beacons: open(one)}, {Member: "us-1", Server: x.b, Beacons: open(x.beside)}}
		proofs := preflight.ProveAll(t.Context(), claims)
		err := proofs.Twins("us-1", "eu-1")
		if (x.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
		var roll preflight.Roll
		roll.Proofs = proofs
		refused := roll.Add("eu-1", x.a)
		if refused == nil {
			refused = roll.Add("us-1", x.b)
		}
		if apart := x.want == "" || x.want == "were not asked"; apart != (refused == nil) {
			t.Errorf("%s: together they are refused by %v", name, refused)
		}
		for _, s := range []*cdctest.Server{one, other} {
			s.Break(cdctest.Faults{})
		}
	}
}
