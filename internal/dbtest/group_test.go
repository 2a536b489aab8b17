package dbtest

import (
	"os"
	"slices"
	"testing"
)

const items = "CREATE TABLE items (id int PRIMARY KEY, name text)"

func TestGroupReplicatesToEverySubscriber(t *testing.T) {
	each(t, func(t *testing.T, install Install) {
		g := GroupT(t, install, 2, items, again)
		ExecT(t, g.Publisher, "INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 1000) i", "DELETE FROM items WHERE id = 7")
		if err := g.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, s := range g.Subscribers {
			if n, err := Value[int64](t.Context(), s, "SELECT count(*) FROM items"); err != nil || n != 999 {
				t.Errorf("subscriber %d: %d rows, %v; want 999", i, n, err)
			}
		}
	})
}

func TestSubscriberGoesOnAfterThePublisherWasKilled(t *testing.T) {
	g := GroupT(t, Need(t, PG15), 1, items, again)
	ExecT(t, g.Publisher, "INSERT INTO items VALUES (1, 'before')")
	if err := g.Publisher.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.Publisher.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	ExecT(t, g.Publisher, "INSERT INTO items VALUES (2, 'after')")
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := Value[int64](t.Context(), g.Subscribers[0], "SELECT count(*) FROM items"); err != nil || n != 2 {
		t.Errorf("%d rows, %v; want 2", n, err)
	}
}

func TestGroupWithAWrongSchemaLeavesNothingRunning(t *testing.T) {
	install, before := Need(t, PG15), children(t)
	if _, err := NewGroup(t.Context(), install, 1, "CREATE TABEL", Options{}); err == nil {
		t.Fatal("a syntax error was accepted")
	}
	if now := children(t); !slices.Equal(now, before) {
		t.Errorf("processes %v are left, before there were %v", now, before)
	}
}

// children are the servers that run: those that may be used again do.
func children(t *testing.T) []int {
	t.Helper()
	pids, err := childrenOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func TestStandbyReplaysAndCanBePromoted(t *testing.T) {
	each(t, func(t *testing.T, install Install) {
		primary := StartT(t, install, Options{Database: "app"})
		ExecT(t, primary, items, "INSERT INTO items VALUES (1, 'before the backup')")
		standby := StandbyT(t, primary, Options{})
		ExecT(t, primary, "INSERT INTO items VALUES (2, 'streamed')")
		if err := WaitReplayed(t.Context(), primary, standby.StandbyName()); err != nil {
			t.Fatal(err)
		}
		names, err := Rows[string](t.Context(), standby, "SELECT name FROM items ORDER BY id")
		if err != nil || len(names) != 2 || names[1] != "streamed" {
			t.Errorf("the standby has %q, %v", names, err)
		}
		if identifier(t, primary) != identifier(t, standby) {
			t.Error("primary and standby differ in their system identifier")
		}
		if err := primary.Kill(); err != nil {
			t.Fatal(err)
		}
		ExecT(t, standby, "SELECT pg_promote()", "INSERT INTO items VALUES (3, 'after the promotion')")
	})
}
