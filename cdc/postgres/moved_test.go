package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/impostor"
)

// The address of a server leads to another one, while connections to the first are open. Once the second has said who it is, a slot is
// to be made there; it was the first one's that was dropped and made again, by a connection from before.
func TestAddressThatLeadsToAnotherServer(t *testing.T) {
	oneVersion(t, func(t *testing.T, s servers) {
		first := newDatabase(t, s.publisher, oneTable)
		second := *s.subscriber
		second.Database = first.Database
		createDatabase(t, &second)
		publishAll(t, &second, oneTable)
		o := optionsOf(first)
		var lead func(string)
		o.DSN, lead = impostor.Relay(t, o.DSN)
		source, err := New(o, testHasher)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			source.Close()
			dropSlots(t, first)
			dropSlots(t, &second)
			if err := s.subscriber.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+second.Database+" WITH (FORCE)"); err != nil {
				t.Error(err)
			}
		})
		hello := func() cdc.Server {
			t.Helper()
			server, err := source.Server(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return server
		}
		made := func(on *dbtest.Server) string {
			t.Helper()
			at, err := dbtest.Rows[string](t.Context(), on, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '"+o.Slot+"'")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(at, " ")
		}
		before := hello()
		if _, err := source.Prepare(t.Context(), cdc.Position{}); err != nil {
			t.Fatal(err)
		}
		slot := made(first)
		dbtest.ExecT(t, first, "INSERT INTO a VALUES (1)")
		lead(second.DSN(""))
		if now := hello(); now.SystemID == before.SystemID {
			t.Errorf("the server is %v, and was %v", now, before)
		}
		if _, err := source.Prepare(t.Context(), cdc.Position{}); err != nil {
			t.Fatal(err)
		}
		if now := made(first); now != slot {
			t.Errorf("the first server's slot was at %s, and is at %s", slot, now)
		}
		if made(&second) == "" {
			t.Error("the second server has no slot")
		}
	})
}
