package monitor_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// The replica is promoted and becomes the reference, and the old primary its replica: all tables were read anew on both. What differed on one
// differs on the other now, and is the same divergence; what the old primary wrote last, and nobody has replayed, is found by its transaction.
func TestARoleChangeReadsNothingAgain(t *testing.T) {
	for _, engine := range cdctest.Engines {
		if engine == cdctest.Postgres {
			continue // a subscription that is made anew has its tables read anew
		}
		t.Run(string(engine), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := watch(t, engine, func(string, string) error { return nil }, nil)
				defer func() { w.end() }()
				for _, table := range watchedTables {
					w.write(table, 1, 1)
				}
				rest(30 * time.Second)
				skipped := w.a.Write(cdctest.Put(watchedTables[0], 3, cdctest.Row{"v": 5}))
				w.b.Replay(cdc.GTIDLane, cdctest.Skipped, rand.New(rand.NewPCG(1, 1)))
				rest(10 * time.Second)
				id, read := w.open(t, "b missing skipped_transaction "+skipped.String()), w.log.count("reading table")
				lost := w.a.Write(cdctest.Put(watchedTables[1], 2, cdctest.Row{"v": 7}))
				rest(time.Second)
				w.end()
				w.b.Follow(nil)
				w.a.Follow(w.b)
				w.start(t, func(o *monitor.Options) { o.Reference = "b" })
				rest(10 * time.Second)
				w.is(t, "a", watchedTables[0], status.Diverged, "")
				w.is(t, "a", watchedTables[1], status.Diverged, "")
				w.is(t, "a", watchedTables[2], status.InStep, "")
				if now := w.open(t, "a extra errant_transaction "+skipped.String()); now != id {
					t.Errorf("what differed is told of as %s, and was as %s", now, id)
				}
				w.open(t, "a extra errant_transaction "+lost.String())
				if n := w.log.count("reading table") - read; n > 0 {
					t.Errorf("tables were read %d times more", n)
				}
			})
		})
	}
}

// open returns the id of the divergence that is open of that kind, which there must be.
func (w *watching) open(t *testing.T, want string) (id string) {
	t.Helper()
	var all []string
	err := w.Divergences(func(d *finding.Divergence) bool {
		text := d.Member + " " + string(d.Kind) + " " + string(d.Cause)
		if d.IntroducedBy != nil {
			text += " " + d.IntroducedBy.Transaction
		}
		if all = append(all, text); d.State == finding.Open && text == want {
			id = d.ID
		}
		return true
	})
	if err != nil || id == "" {
		t.Errorf("open are %q, %v, want %s", all, err, want)
	}
	return id
}
