// Package bubble runs tests on virtual time.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// processor counts the bubbles that are held to one processor.
var processor struct {
	sync.Mutex
	bubbles, before int
}

// Test is synctest.Test, held to one processor where the race detector is on. All timers of a bubble share one context of
// the detector, and two goroutines whose timers are due at the same moment may use it at the same moment, which ends the
// process in __tsan::SlotLock (Go 1.26: timer.unlockAndRun, bubble.timers.raceCtx). The detector goes by what happens
// before what, so that it sees as many races on one processor.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raced {
		one()
		defer asBefore()
	}
	synctest.Test(t, f)
}

func one() {
	processor.Lock()
	defer processor.Unlock()
	if processor.bubbles++; processor.bubbles == 1 {
		processor.before = runtime.GOMAXPROCS(1)
	}
}

func asBefore() {
	processor.Lock()
	defer processor.Unlock()
	if processor.bubbles--; processor.bubbles == 0 {
		runtime.GOMAXPROCS(processor.before)
	}
}
