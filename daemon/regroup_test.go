package daemon_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/preflight"
	"github.com/lockstep-cdc/lockstep/status"
)

func TestReloadsWithMistakesInMembersOnPostgreSQL(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: load.Schema, LagBudget: 10 * time.Second})
	reloadsWithMistakes(t, c, "public", c.DSN)
}

func TestReloadsWithMistakesInMembers(t *testing.T) {
	needSoak(t)
	o := cluster.Options{Schema: load.MySQLSchema, LagBudget: 10 * time.Second}
	onMariaDB(t, o, func(t *testing.T, _ *watch, c *cluster.MySQLCluster) { reloadsWithMistakes(t, c, "app", c.DSN) })
}

// A member comes by the dsn of another one: it took that one's slot, and if it was before it in the configuration its right to be
// watched, so that nothing could be said of the group; what was written until that was put right was a hole. The reference is taken
// out, which nobody has named: a replica took its place, and kept it once the reference was back.
func reloadsWithMistakes(t *testing.T, c servers, schema string, dsn func(member string) string) {
	if err := load.FillShare(t.Context(), dsn("eu-1"), 5); err != nil {
		t.Fatal(err)
	}
	s := supervise(t, configured{c, func(g *config.Group) { slices.Reverse(g.Members) }})
	s.inStep()
	opens, reads := s.opens.now(), s.reads.now()
	// reloaded has the configuration of a member be another one; nil: it is taken out.
	reloaded := func(member string, change func(*config.Member)) {
		t.Helper()
		next := s.changed(func(c *config.Config) {
			g := &c.Groups[0]
			if change == nil {
				g.Members = slices.DeleteFunc(g.Members, func(m config.Member) bool { return m.Name == member })
				return
			}
			change(g.Member(member))
		})
		if err := s.reload(next); err != nil {
			t.Fatal(err)
		}
	}
	goesOn := func(what string, members ...string) {
		t.Helper()
		for _, member := range members {
			if now := s.opens.now()[member]; now != opens[member] {
				t.Errorf("%s: the stream of %s was opened %d times more", what, member, now-opens[member])
			}
			at := member + " " + schema + ".accounts"
			if now := s.reads.now()[at]; now != reads[at] {
				t.Errorf("%s: %s was read %d times more", what, at, now-reads[at])
			}
			if now := s.table(member, schema+".accounts"); now.Verdict != status.InStep && now.Verdict != status.Lagging {
				t.Errorf("%s: %s is %s: %s", what, at, now.Verdict, now.Reason)
			}
		}
	}
	putRight := func() {
		t.Helper()
		if err := s.reload(s.c.Configuration()); err != nil {
			t.Fatal(err)
		}
		s.inStep()
		if now := s.daemon.Groups()[0].Status().Reference; now != "eu-1" {
			t.Fatalf("the reference is %s", now)
		}
	}
	for _, other := range []string{"eu-1", "us-2"} {
		what := "us-1 comes by the dsn of " + other
		reloaded("us-1", func(m *config.Member) { m.DSN = dsn(other) })
		s.until("the member to be refused", func() bool { return strings.Contains(s.member("shop", "us-1").Trouble, "same server") })
		s.exec("eu-1", "UPDATE accounts SET balance = balance + 1 WHERE id = 3")
		s.replayed()
		goesOn(what, "us-2", "eu-1")
		putRight()
		goesOn(what, "us-2", "eu-1")
		for at, n := range s.reads.now() {
			if reads[at] != n {
				t.Errorf("%s: %s was read anew", what, at)
			}
		}
	}

	reloaded("us-1", func(m *config.Member) { m.Name, m.DSN = "us-9", dsn("eu-1") })
	s.until("the new name to be refused", func() bool { return strings.Contains(s.member("shop", "us-9").Trouble, "same server") })
	goesOn("us-9 comes by the dsn of eu-1", "us-2", "eu-1")
	putRight()
	goesOn("us-9 comes by the dsn of eu-1", "us-2", "eu-1")

	opens, reads = s.opens.now(), s.reads.now()
	reloaded("eu-1", func(m *config.Member) { m.DSN = dsn("us-2") }) // the one that has not changed is not refused, and is no reference
	s.until("the reference to be refused", func() bool { return strings.Contains(s.member("shop", "eu-1").Trouble, "same server") })
	if g := s.daemon.Groups()[0].Status(); g.Reference != "eu-1" || s.member("shop", "us-2").Trouble != "" {
		t.Errorf("the reference is %s, and us-2 in trouble: %s", g.Reference, s.member("shop", "us-2").Trouble)
	}
	putRight()
	for _, member := range []string{"us-1", "us-2"} {
		if now := s.opens.now()[member]; now != opens[member] {
			t.Errorf("eu-1 comes by the dsn of us-2: the stream of %s was opened %d times more", member, now-opens[member])
		}
	}
	for at, n := range s.reads.now() {
		if reads[at] != n {
			t.Errorf("eu-1 comes by the dsn of us-2: %s was read anew", at)
		}
	}
	finds := func(want string) { // as check and diff do
		t.Helper()
		g := s.changed(func(c *config.Config) {
			if want == "" {
				c.Groups[0].Members = c.Groups[0].Members[:2]
			}
		}).Groups[0]
		r, err := daemon.OpenReaders(t.Context(), &g, nil, nil)
		if (want == "") != errors.Is(err, preflight.ErrNoReference) || err == nil && r.Reference != want {
			t.Errorf("the reference is %v, %v; want %q", r, err, want)
		}
		if err == nil {
			r.Close()
		}
	}
	finds("eu-1")
	finds("")
	before := s.drops.now()["eu-1"]
	reloaded("eu-1", nil)
	s.until("nobody to be the reference", func() bool {
		m := s.member("shop", "us-1")
		return m.State == status.Unverified && strings.Contains(m.Trouble, "which member is the reference is not known") && strings.Contains(m.Trouble, "`reference`")
	})
	if now := s.daemon.Groups()[0].Status().Reference; now != "" {
		t.Errorf("the reference is %s", now)
	}
	if said := s.drops.now()["eu-1"]; schema == "public" && said != before+1 {
		t.Errorf("it was said %d times how the slot of eu-1 is dropped, want once", said-before)
	}
	putRight()
	for at, n := range s.reads.now() {
		if reads[at] != n {
			t.Errorf("%s was read anew once the reference was back", at)
		}
	}
	s.neverDiverged()

	s.stop() // the same at a start
	right := s.c
	s = supervise(t, configured{right, func(g *config.Group) { g.Member("us-1").DSN = dsn("eu-1") }})
	s.c = right
	s.until("the member to be refused", func() bool { return strings.Contains(s.member("shop", "us-1").Trouble, "same server") })
	putRight()
	if now := s.reads.now(); len(now) > 0 {
		t.Errorf("at a start with a mistake were read %v", now)
	}
	s.neverDiverged()
	s.exec("us-1", "UPDATE accounts SET balance = 77 WHERE id = 3")
	s.finds(`us-1 ` + schema + `.accounts changed errant_transaction {"id":3}..{"id":3}`)
}
