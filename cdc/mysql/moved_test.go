package mysql

import (
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/impostor"
)

// The address of a server leads to another one, while connections to the first are open. The second one's log was read as the first's:
// nobody asked the connection by which it came. Who the server is was asked by a connection to the first, for as long as that was open.
func TestAddressThatLeadsToAnotherServer(t *testing.T) {
	t.Parallel()
	for _, flavour := range flavours {
		t.Run(flavour.String(), func(t *testing.T) {
			t.Parallel()
			install := dbtest.NeedMySQL(t, flavour)
			first, second := dbtest.StartMySQLT(t, install, anew), dbtest.StartMySQLT(t, install, anew)
			dsn, lead := impostor.Relay(t, first.DSN(""))
			s, err := New(Options{Member: "m", DSN: dsn}, scanHasher)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			before, err := s.Server(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			start, err := s.Prepare(t.Context(), cdc.Position{})
			if err != nil {
				t.Fatal(err)
			}
			lead(second.DSN(""))
			run(t, second, "CREATE TABLE moved (id INT PRIMARY KEY)")
			err = s.Stream(t.Context(), start, func(e cdc.Event) error {
				t.Fatalf("the other server shows %+v", e)
				return nil
			})
			if err == nil || cdc.IsGap(err) || !strings.Contains(err.Error(), "another server answers than before") {
				t.Errorf("the stream ends with %v", err)
			}
			known, err := s.Confirmed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			now, err := s.Server(t.Context())
			if err != nil || now.SystemID == before.SystemID {
				t.Errorf("the server is %v, and was %v; %v", now, before, err)
			}
			anew, err := s.Confirmed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for id := range anew {
				if _, same := known[id]; same {
					t.Errorf("once the other server has said who it is, the first is asked still")
				}
			}
		})
	}
}
