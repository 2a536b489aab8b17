package dbtest

import (
	"fmt"
	"slices"
	"testing"
)

func TestServerThatIsUsedAgainIsAsGoodAsNew(t *testing.T) {
	install, o := Need(t, PG15), Options{Below: MemoryDir(), Reuse: true}
	was := map[int]bool{}
	for round := range 2 {
		g, err := NewGroup(t.Context(), install, 1, "CREATE TABLE items (id int PRIMARY KEY); CREATE ROLE reader; GRANT SELECT ON items TO reader", o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fatal(t, g.Close()) })
		for _, s := range g.Members() {
			if round == 1 && !was[s.Port] {
				t.Errorf("the server on port %d is a new one", s.Port)
			}
			was[s.Port] = true
			if rows, err := Value[int64](t.Context(), s, "SELECT count(*) FROM items"); err != nil || rows != 0 {
				t.Errorf("%d rows, %v", rows, err)
			}
		}
		ExecT(t, g.Publisher, "INSERT INTO items VALUES (1)", "ALTER SYSTEM SET work_mem = '1MB'", "SELECT pg_create_physical_replication_slot('left')")
		fatal(t, g.WaitCaughtUp(t.Context()))
		fatal(t, g.Close())
		fatal(t, g.Close()) // takes it from nobody who has it now
	}
	s, err := Start(t.Context(), install, o)
	fatal(t, err)
	defer s.Close()
	for _, query := range []string{
		"SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace", "SELECT pubname FROM pg_publication", "SELECT slot_name FROM pg_replication_slots",
		"SELECT subname FROM pg_subscription", "SELECT rolname FROM pg_roles WHERE rolname = 'reader'", "SELECT name FROM pg_file_settings WHERE sourcefile LIKE '%auto%'",
	} {
		if left, err := Rows[string](t.Context(), s, query); err != nil || len(left) > 0 {
			t.Errorf("left are %q, %v", left, err)
		}
	}
}

func TestMySQLServerThatIsUsedAgainIsAsGoodAsNew(t *testing.T) {
	for _, flavour := range []Flavour{MariaDB1011, MySQL97} {
		t.Run(flavour.String(), func(t *testing.T) {
			install, o := NeedMySQL(t, flavour), Options{Below: MemoryDir(), Reuse: true}
			var was []int
			for round := range 2 {
				g, err := NewMySQLGroup(t.Context(), install, 1, "", o)
				fatal(t, err)
				t.Cleanup(func() { fatal(t, g.Close()) })
				for _, s := range g.Members() {
					if round == 1 && !slices.Contains(was, s.Port) {
						t.Errorf("the server on port %d is a new one", s.Port)
					}
					was = append(was, s.Port)
					if set, err := s.Executed(t.Context()); err != nil || set != "" {
						t.Errorf("executed is %q, %v", set, err)
					}
				}
				fatal(t, g.GrantLockstep(t.Context(), ""))
				ExecT(t, g.Primary, "CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
				ExecT(t, g.Replicas[0], "CREATE DATABASE other")
				for _, xid := range []string{"'left'", `X'00ff27', 'right''s', 7`} { // locks that keep tables from being dropped
					ExecT(t, g.Primary, fmt.Sprintf("XA START %[1]s; INSERT INTO items VALUES (%[2]d); XA END %[1]s; XA PREPARE %[1]s", xid, 10+len(xid)))
				}
				fatal(t, g.WaitCaughtUp(t.Context()))
				fatal(t, g.Close())
				fatal(t, g.Close())
			}
		})
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
