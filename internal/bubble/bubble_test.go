package bubble_test

import (
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

// Timers of many goroutines that are due at the same moment: on two processors the race detector dies of them in most runs.
func TestTimersDueAtOneMoment(t *testing.T) {
	for range 20 {
		bubble.Test(t, func(t *testing.T) {
			for range 16 {
				go ticking(t)
			}
			time.Sleep(100 * time.Second)
		})
	}
}

// ticking waits for three tickers, all of one period, until the test is over.
func ticking(t *testing.T) {
	a, b, c := time.NewTicker(time.Second), time.NewTicker(time.Second), time.NewTicker(time.Second)
	for {
		select {
		case <-a.C:
		case <-b.C:
		case <-c.C:
		case <-t.Context().Done():
			return
		}
	}
}
