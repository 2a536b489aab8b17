package sim

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
)

// step is one drawn action. Its random numbers are its own, so that taking a step out of a history leaves the others as
// they are.
type step struct {
	action int
	seed   uint64
	pause  time.Duration // after it
	// inPlace has a change of what is watched be one of lockstep as it runs. Otherwise it is started anew.
	inPlace bool
}

// inPlace is what such a step has behind its name.
const inPlace = " in place"

// history is a world, made from a seed, and what happens in it.
type history struct {
	seed  uint64
	steps []step
}

// String is the form in which a history is kept: what parseHistory reads.
func (h history) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", h.seed)
	for _, s := range h.steps {
		name := actions[s.action].name
		if s.inPlace {
			name += inPlace
		}
		fmt.Fprintf(&b, "%d %v %s\n", s.seed, s.pause, name)
	}
	return b.String()
}

// parseHistory reads what String writes; lines that begin with # are the story.
func parseHistory(text string) (h history, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		first, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || first == "#":
			continue
		case first == "seed":
			h.seed, err = strconv.ParseUint(rest, 10, 64)
		default:
			var s step
			pause, name, _ := strings.Cut(rest, " ")
			name, s.inPlace = strings.CutSuffix(name, inPlace)
			if s.seed, err = strconv.ParseUint(first, 10, 64); err == nil {
				s.pause, err = time.ParseDuration(pause)
			}
			if s.action = slices.IndexFunc(actions, func(a action) bool { return a.name == name }); s.action < 0 {
				err = fmt.Errorf("no action is called %q", name)
			}
			h.steps = append(h.steps, s)
		}
		if err != nil {
			return h, fmt.Errorf("history: line %q: %w", line, err)
		}
	}
	return h, nil
}

// draw makes a history of so many steps.
func draw(seed uint64, n int) history {
	r := rand.New(rand.NewPCG(seed, 2))
	total := 0
	for _, a := range actions {
		total += a.weighs(seed)
	}
	steps := make([]step, n)
	for i := range steps {
		at := r.IntN(total)
		for k, a := range actions {
			if at -= a.weighs(seed); at < 0 {
				steps[i].action = k
				break
			}
		}
		steps[i].seed = r.Uint64()
		steps[i].inPlace = changesPlan[actions[steps[i].action].name] && steps[i].seed%2 == 1
		steps[i].pause = pauses[r.IntN(len(pauses))]
	}
	return history{seed, steps}
}

var pauses = []time.Duration{0, 0, beat, beat, 2 * beat, 5 * beat, 20 * beat, 60 * beat}

// result is what a history came to.
type result struct {
	failed  []string
	drawn   map[string]int
	crashes int
	steps   int
	lived   time.Duration // of virtual time
}

// play carries out a history, in a bubble.
func play(ctx context.Context, h history, out io.Writer) result {
	w := newWorld(ctx, h.seed, out)
	began := time.Now()
	warm := rand.New(rand.NewPCG(h.seed, 3))
	if w.most > fewKeys {
		var load []cdctest.Change
		for key := range w.most {
			load = append(load, cdctest.Put(tableNames[1], key+1, cdctest.Row{"v": key}))
		}
		w.writer().Write(load...)
	}
	for range 12 {
		w.write(w.writer(), warm, 3)
	}
	w.start()
	w.run(5 * time.Second)
	for _, s := range h.steps {
		if len(w.failed) > 0 {
			break
		}
		a := &actions[s.action]
		w.trace.say("", "* "+a.name, "")
		w.inPlace = s.inPlace
		if a.do(w, rand.New(rand.NewPCG(s.seed, 4))) {
			w.drawn[a.name]++
			if s.inPlace {
				w.drawn[a.name+inPlace]++
			}
		}
		w.run(s.pause)
	}
	if len(w.failed) == 0 {
		w.calm()
	}
	w.close()
	return result{w.failed, w.drawn, w.crashes, len(h.steps), time.Since(began)}
}

// settle lets time pass until all that lockstep says has been right for a while, but no longer than within. It returns what is
// amiss then. A patient world takes all of the time.
func (w *world) settle(within time.Duration) []string {
	const while = 5 * time.Second
	end, right := time.Now().Add(within), time.Now()
	for {
		w.run(min(time.Second, time.Until(end)))
		now, amiss := time.Now(), w.oracle.amiss()
		if len(amiss) > 0 {
			right = now
		}
		if !now.Before(end) || len(w.failed) > 0 || now.Sub(right) >= while && !w.patient {
			return amiss
		}
	}
}

// mustSettle is settle where nothing may be amiss at the end.
func (w *world) mustSettle(within time.Duration) {
	amiss := w.settle(within)
	if len(w.failed) > 0 {
		return
	}
	for _, text := range amiss {
		w.fail("at the end %s", text)
	}
}

// calm lets everything come to rest, holds what lockstep says against what is, heals all, and does so again.
func (w *world) calm() {
	w.trace.say("", "* calm", "")
	for _, s := range w.servers {
		s.Break(cdctest.Faults{})
		w.logOn(s)
		for _, lane := range s.Lanes() {
			s.Enable(lane, s != w.writer()) // servers that follow one another never come to rest
		}
	}
	clear(w.paused)
	clear(w.bad)
	if w.writer() != w.ref() {
		w.run(25 * time.Second) // what stays wrong shows
		w.trace.say(w.plan.reference, "is what the others follow", "")
		w.promoteReference()
		for _, s := range w.servers {
			w.oracle.obscure(s.Name)
		}
	}
	w.told.away.Store(false)
	w.fuse.Store(0) // a crash that is still to come would come between what is healed and the last look
	p := w.plan.clone()
	p.excluded, p.scrub = nil, true
	if len(p.scanOnly) > 0 {
		p.sparse = nil // the two do not go together, which is said
	}
	p.members = nil
	for _, s := range w.servers {
		p.members = append(p.members, s.Name)
	}
	if !reflect.DeepEqual(p, w.plan) {
		w.restart(p) // otherwise what lockstep has in memory is put to the proof
	}
	w.sameDefinitions()
	w.run(time.Second)
	for _, s := range w.servers {
		switch {
		case s.Stuck() == "":
		case w.cluster.Engine == cdctest.Postgres: // the log has a column that was dropped since: no definition mends that
			w.trace.say(s.Name, "is connected anew", s.Stuck())
			w.connect(s, w.ref())
		default:
			w.trace.say(s.Name, "is seeded anew", s.Stuck())
			s.Reset()
			s.Seed(w.ref())
			s.Follow(w.ref())
			w.oracle.obscure(s.Name)
		}
		for _, t := range tableNames {
			if _, known := w.oracle.knownAt[tableAt{s.Name, t}]; !known && s != w.ref() {
				w.trace.say(s.Name, "is connected anew", "")
				w.connect(s, w.ref())
				break
			}
		}
	}
	w.catchUp()
	w.settle(15 * time.Second)
	// What left no trace is found by the scrub that goes on all the time; it is asked for now.
	w.scrubAll()
	w.mustSettle(silentWithin)
	if len(w.failed) > 0 {
		return
	}
	w.trace.say("", "* all is healed", "")
	for _, s := range w.servers {
		for _, t := range tableNames {
			if s != w.ref() {
				w.healTable(s, t)
			}
		}
	}
	w.mustSettle(alertWithin + 2*toldAgain)
	for at := range w.oracle.differ {
		w.fail("row %v cannot be healed: that is a fault of the simulation", at)
	}
}

// catchUp waits for servers that have much to replay, as long as they come on.
func (w *world) catchUp() {
	for before, now := math.MaxInt, w.behind(); now > 0 && now < before; before, now = now, w.behind() {
		w.run(5 * time.Second)
	}
}

// behind counts what is in flight to all servers.
func (w *world) behind() (n int) {
	for _, s := range w.servers {
		for _, t := range tableNames {
			inFlight, _ := s.InFlight(w.ref(), t)
			n += inFlight
		}
	}
	return n
}

// sameDefinitions gives all servers the columns of the reference. What is so already is left alone: a table that is defined
// anew is read anew, and what was wrong with it until then would not come out.
func (w *world) sameDefinitions() {
	for _, t := range tableNames {
		for _, s := range w.servers {
			is, changed := s.Definition(t), false
			if is.Problem != "" {
				s.Publish(t)
				changed = true
			}
			for _, want := range w.ref().Definition(t).Columns {
				switch at := slices.IndexFunc(is.Columns, func(c digest.Column) bool { return c.Name == want.Name }); {
				case at < 0:
					s.AddColumn(t, want)
				case !want.Comparable(is.Columns[at]):
					s.AlterColumn(t, want)
				default:
					continue
				}
				changed = true
			}
			if changed {
				w.touchSchema()
			}
		}
	}
}

func (w *world) scrubAll() { askScrubAll(w) }
