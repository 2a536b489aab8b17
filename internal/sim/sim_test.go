package sim

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func number64(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

func one(t *testing.T, seed uint64, steps []step, out *bytes.Buffer) (r result) {
	synctest.Test(t, func(t *testing.T) { r = play(t.Context(), seed, steps, out) })
	return r
}

func TestHistories(t *testing.T) {
	first, n := number64("SEED", 1), number64("N", 0)
	length := int(number64("STEPS", 60))
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			began := time.Now()
			var out bytes.Buffer
			r := one(t, seed, draw(seed, length), &out)
			t.Logf("seed %d: %v in %v", seed, r, time.Since(began).Round(time.Millisecond))
			for _, f := range r.failed {
				t.Errorf("seed %d: %s", seed, f)
			}
			if len(r.failed) > 0 && os.Getenv("TRACE") != "" {
				t.Logf("%s", out.String())
			}
		})
	}
}
