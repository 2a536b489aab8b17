package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

func checkConfig(dsn string) (*pgx.ConnConfig, error) { return Options{DSN: dsn}.config() }

func groupLines(reports []*preflight.Report, excluded ...string) []string {
	r := &preflight.Report{Checks: preflight.Group(reports, nil, "", func(string) []string { return excluded })}
	return notOK(r)
}

func TestOneDatabaseUnderTwoNamesIsFound(t *testing.T) {
	t.Parallel()
	server := publisherOf(t, dbtest.Need(t, dbtest.PG15))
	s, other := newDatabase(t, server, "CREATE TABLE t (id int PRIMARY KEY)"), newDatabase(t, server, "")
	a, b := checkOptions(s, "postgres"), checkOptions(s, "postgres")
	a.Member, b.Member = "eu-1", "us-1"
	match := checkPrefix("public.")
	reports := []*preflight.Report{runCheck(t, a, match), runCheck(t, b, match)}
	same := `database "` + s.Database + `" of the same server`
	if diff := cmp.Diff([]string{"fail members: eu-1 and us-1 say that they are the same " + same + ", as a copy does, too; whether they are two is not known: they were not asked"},
		groupLines(reports)); diff != "" {
		t.Error(diff)
	}
	var claims []preflight.Claim
	for _, o := range []Options{a, b} {
		source, err := New(o, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		is, err := source.Server(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, preflight.Claim{Member: o.Member, Server: is, Beacons: source})
	}
	twice := &preflight.Report{Checks: preflight.SameServer(reports, preflight.ProveAll(t.Context(), claims))}
	if diff := cmp.Diff([]string{"fail members: eu-1 and us-1 are the same " + same}, notOK(twice)); diff != "" {
		t.Error(diff)
	}
	b.DSN = other.DSN("")
	reports[1] = runCheck(t, b, match)
	if diff := cmp.Diff([]string{`fail table public.t: is on eu-1 and missing on us-1`}, groupLines(reports)); diff != "" {
		t.Error(diff)
	}
}

func TestDefinitionsThatDifferAreFound(t *testing.T) {
	t.Parallel()
	server := publisherOf(t, dbtest.Need(t, dbtest.PG15))
	s := newDatabase(t, server, "CREATE DOMAIN money_amount AS numeric(10,2); "+
		"CREATE TABLE t (id int PRIMARY KEY, same varchar(5), moved timestamp, ours int, dom money_amount)")
	other := newDatabase(t, server, "CREATE TABLE t (id bigint, same text, moved timestamptz, theirs int, dom numeric, PRIMARY KEY (id, theirs))")
	a, b := checkOptions(s, "postgres"), checkOptions(s, "postgres")
	a.Member, b.Member = "eu-1", "us-1"
	b.DSN = other.DSN("")
	match := checkPrefix("public.")
	reports := []*preflight.Report{runCheck(t, a, match), runCheck(t, b, match)}
	want := []string{
		"fail table public.t: primary key is (id) on eu-1 and (id, theirs) on us-1",
		"fail table public.t: column moved is timestamp without time zone on eu-1 and timestamp with time zone on us-1",
		"warn table public.t: column ours is on eu-1 and missing on us-1",
		"warn table public.t: column theirs is on us-1 and missing on eu-1",
	}
	if diff := cmp.Diff(want, groupLines(reports)); diff != "" {
		t.Error(diff)
	}
	want = []string{
		"fail table public.t: primary key is (id) on eu-1 and (id, theirs) on us-1",
		"fail table public.t: column theirs is excluded and part of the primary key",
		"fail table public.t: column id is excluded and part of the primary key",
		"warn table public.t: has no column nosuch, which is excluded",
	}
	if diff := cmp.Diff(want, groupLines(reports, "moved", "ours", "theirs", "id", "nosuch")); diff != "" {
		t.Error(diff)
	}
}

// Of a member that is only scanned nobody asks for its subscriptions: that it has none is not known.
func TestWhatAMemberThatIsOnlyScannedReplaysFromIsNotSeen(t *testing.T) {
	t.Parallel()
	s := newDatabase(t, publisherOf(t, dbtest.Need(t, dbtest.PG15)), "CREATE TABLE t (id int PRIMARY KEY)")
	o := checkOptions(s, "postgres")
	for _, scanned := range []bool{false, true} {
		o.ScanOnly = scanned
		if r := runCheck(t, o, checkPrefix("public.")); r.Unseen != scanned || !r.Asked() {
			t.Errorf("scan_only %v: unseen %v", scanned, r.Unseen)
		}
	}
}
