package postgres

import (
	"errors"
	"strings"
	"testing"
)

// The driver tries an address with TLS and without, and told of both: dial tcp 127.0.0.1:1: connect: connection refused, twice, each
// behind the address.
func TestACauseIsToldOnce(t *testing.T) {
	t.Parallel()
	o := Options{Member: "m", DSN: "postgres://u@127.0.0.1:1/db?sslmode=prefer"}
	_, err := o.connect(t.Context(), false)
	const want = "member m: dial tcp 127.0.0.1:1: connect: connection refused"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := o.Check(t.Context(), func(string) bool { return true }); err == nil || err.Error() != want {
		t.Errorf("check: %v, want %s", err, want)
	}
	two := errors.Join(errors.New("a:1: no"), errors.New("b:1: no"))
	if got := strings.Join(causes(two), "; "); got != "a:1: no; b:1: no" {
		t.Errorf("%q", got)
	}
}
