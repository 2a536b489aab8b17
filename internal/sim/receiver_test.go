package sim

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/lockstep-cdc/lockstep/alerts"
)

// receiver is whoever is told of divergences.
type receiver struct {
	dead atomic.Bool // lockstep's process was killed: nothing of it gets here
	away atomic.Bool

	mu     sync.Mutex
	firing map[tableAt]bool // guarded by mu
	about  map[string]bool  // divergences that it was ever told of; guarded by mu
}

func newReceiver() *receiver {
	return &receiver{firing: make(map[tableAt]bool), about: make(map[string]bool)}
}

var errAway = errors.New("service unavailable")

// Tell implements [alerts.Channel].
func (r *receiver) Tell(_ context.Context, news []alerts.News) error {
	if r.dead.Load() || r.away.Load() {
		return errAway
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range news {
		at := tableAt{n.Labels["member"], n.Labels["table"]}
		if n.Firing() {
			r.firing[at] = true
		} else {
			delete(r.firing, at)
		}
		for _, id := range n.About {
			r.about[id] = true
		}
	}
	return nil
}

// Most implements [alerts.Channel].
func (r *receiver) Most() int { return 50 }

// Past implements [alerts.Channel].
func (r *receiver) Past() bool { return true }

// Kind implements [alerts.Channel].
func (r *receiver) Kind() string { return "webhook" }

// fires are the tables of which it was told that they differ, and not that this is over.
func (r *receiver) fires() map[tableAt]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.firing)
}
