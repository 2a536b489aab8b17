package audit_test

import (
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
)

func TestTheSpaceOfALogIsForecast(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		bytes   int64
		age     time.Duration
		unknown bool
		want    int64
	}{
		{1000, time.Hour, false, 0},
		{1000, day, false, 390_000},
		{1000, 39 * day, false, 10_000},
		{1000, 780 * day, false, 1000}, // what is there stays
		{1000, 39 * day, true, 0},
	} {
		if got := audit.Expected(c.bytes, c.age, c.unknown); got != c.want {
			t.Errorf("%d bytes after %v: %d are expected, want %d", c.bytes, c.age, got, c.want)
		}
	}
	d := newDesk(t)
	until(t, "the space to be looked at", func() bool { s := d.log.Status().Space; return s.Bytes > 0 && s.Free > 0 })
}
