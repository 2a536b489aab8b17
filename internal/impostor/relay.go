package impostor

import (
	"math"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// Relay leads the connections by the DSN that it returns to the server of another one, and from when lead is called to that of a third,
// as a name or an address does that is taken over. Those that were made before stay where they are.
func Relay(t *testing.T, dsn string) (through string, leadTo func(dsn string)) {
	t.Helper()
	host := func(dsn string) *string {
		t.Helper()
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		return &u.Host
	}
	var target atomic.Pointer[string]
	target.Store(host(dsn))
	s := Serve(t, func(conn net.Conn) { lead(conn, *target.Load(), math.MaxInt64, false) })
	return strings.Replace(dsn, *host(dsn), s.Address, 1), func(dsn string) { target.Store(host(dsn)) }
}
