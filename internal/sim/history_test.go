package sim

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
)

// step is one drawn action. Its random numbers are its own, so that taking a step out of a history leaves the others as
// they are.
type step struct {
	action int
	seed   uint64
	pause  time.Duration // after it
}

// draw makes a history of so many steps.
func draw(seed uint64, n int) []step {
	r := rand.New(rand.NewPCG(seed, 2))
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	steps := make([]step, n)
	for i := range steps {
		at := r.IntN(total)
		for k, a := range actions {
			if at -= a.weight; at < 0 {
				steps[i].action = k
				break
			}
		}
		steps[i].seed = r.Uint64()
		steps[i].pause = pauses[r.IntN(len(pauses))]
	}
	return steps
}

var pauses = []time.Duration{0, 0, beat, beat, 2 * beat, 5 * beat, 20 * beat, 60 * beat}

// result is what a history came to.
type result struct {
	failed  []string
	drawn   map[string]int
	crashes int
	lived   time.Duration // of virtual time
}

// play carries out a history, in a bubble.
func play(ctx context.Context, seed uint64, steps []step, out io.Writer) result {
	w := newWorld(ctx, seed, out)
	began := time.Now()
	warm := rand.New(rand.NewPCG(seed, 3))
	for range 12 {
		w.write(w.ref(), warm, 3)
	}
	w.start()
	w.run(5 * time.Second)
	for _, s := range steps {
		if len(w.failed) > 0 {
			break
		}
		a := &actions[s.action]
		w.trace.say("", "* "+a.name, "")
		if a.do(w, rand.New(rand.NewPCG(s.seed, 4))) {
			w.drawn[a.name]++
		}
		w.run(s.pause)
	}
	if len(w.failed) == 0 {
		w.calm()
	}
	w.close()
	return result{w.failed, w.drawn, w.crashes, time.Since(began)}
}

// calm lets everything come to rest, holds what lockstep says against what is, heals all, and does so again.
func (w *world) calm() {
	w.trace.say("", "* calm", "")
	for _, s := range w.servers {
		s.Break(cdctest.Faults{})
		if s.Logless() {
			s.Unlogged(false)
			w.oracle.obscure(s.Name)
		}
		for _, lane := range s.Lanes() {
			s.Enable(lane, true)
		}
	}
	clear(w.paused)
	clear(w.bad)
	w.told.away.Store(false)
	p := w.plan.clone()
	p.excluded, p.scrub = nil, true
	if len(p.scanOnly) > 0 {
		p.sparse = nil // the two do not go together, which is said
	}
	p.members = nil
	for _, s := range w.servers {
		p.members = append(p.members, s.Name)
	}
	w.restart(p)
	w.sameDefinitions()
	w.run(time.Second)
	for _, s := range w.servers {
		if s.Stuck() != "" {
			w.trace.say(s.Name, "is seeded anew", s.Stuck())
			s.Reset()
			s.Seed(w.ref())
			s.Follow(w.ref())
			w.oracle.obscure(s.Name)
		}
		for _, t := range tableNames {
			if _, known := w.oracle.unknown[tableAt{s.Name, t}]; known && s != w.ref() {
				w.trace.say(s.Name, "is connected anew", "")
				w.connect(s, w.ref())
				break
			}
		}
	}
	w.run(15 * time.Second)
	// What left no trace is found by the scrub that goes on all the time; it is asked for now.
	w.scrubAll()
	w.run(silentWithin)
	if len(w.failed) > 0 {
		return
	}
	w.oracle.atEnd()
	w.trace.say("", "* all is healed", "")
	for _, s := range w.servers {
		for _, t := range tableNames {
			if s != w.ref() {
				w.healTable(s, t)
			}
		}
	}
	w.run(alertWithin)
	if len(w.failed) > 0 {
		return
	}
	w.oracle.atEnd()
	for at := range w.oracle.differ {
		w.fail("row %v cannot be healed: that is a fault of the simulation", at)
	}
	if fires := w.told.fires(); len(fires) > 0 {
		w.fail("receivers were not told that it is over: %v", fires)
	}
}

// sameDefinitions gives all servers the columns of the reference.
func (w *world) sameDefinitions() {
	for _, t := range tableNames {
		for _, s := range w.servers {
			s.AlterColumn(t, cdctest.Int("v"))
			s.Publish(t)
			if slices.Contains(w.ref().Columns(t), "extra") {
				s.AddColumn(t, cdctest.Int("extra"))
			}
		}
	}
	w.touchSchema()
}

func (w *world) scrubAll() { askScrubAll(w) }

func (r result) String() string {
	return fmt.Sprintf("%v of virtual time, %d crashes, %d violations", r.lived.Round(time.Second), r.crashes, len(r.failed))
}
