package diff

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/finding"
)

// history is one seeded run: an application that writes, members that lag, and rows that somebody changed on a member.
type history struct {
	random *rand.Rand
	group  *memory
	ref    *replica
	us     []*replica
	// tampered are keys that the application leaves alone, by member, with how they differ.
	tampered []map[int]finding.Kind
}

const (
	keySpace = 400
	quietKey = 100_000 // from here on the application writes nothing
)

func newHistory(seed uint64) *history {
	h := &history{random: rand.New(rand.NewPCG(seed, 1))}
	rows := map[int]int64{}
	for k := 1; k <= keySpace; k += 1 + h.random.IntN(3) {
		rows[k] = 1 + h.random.Int64N(3)
	}
	for k := quietKey; k < quietKey+200; k += 1 + h.random.IntN(3) {
		rows[k] = 1
	}
	h.group = newMemory(rows)
	orders := []func(a, b int) int{byNumber, byHash("a"), byHash("b"), func(a, b int) int { return byNumber(b, a) }}
	orderOf := func() (func(a, b int) int, cdc.Order) {
		switch i := h.random.IntN(len(orders) + 1); i {
		case 0:
			return byNumber, cdc.KeyOrder
		case len(orders):
			return byNumber, cdc.Unordered
		default:
			return orders[i], cdc.ServerOrder
		}
	}
	h.ref = h.group.reference(orderOf())
	for range 1 + h.random.IntN(2) {
		m := h.group.replica(orderOf())
		m.lag = time.Duration(1+h.random.IntN(60)) * time.Millisecond
		m.behind = h.random.IntN(10)
		h.us = append(h.us, m)
		h.tampered = append(h.tampered, h.tamper(m))
	}
	return h
}

// tamper makes a few rows differ that the application does not write.
func (h *history) tamper(m *replica) map[int]finding.Kind {
	made := map[int]finding.Kind{}
	for range h.random.IntN(6) {
		k := quietKey + h.random.IntN(200)
		switch _, there := h.group.rows[k]; {
		case !there:
			m.tamper(k, 7)
			made[k] = finding.Extra
		case h.random.IntN(2) == 0:
			m.tamper(k, 0)
			made[k] = finding.Missing
		default:
			m.tamper(k, 9)
			made[k] = finding.Changed
		}
	}
	return made
}

// write is the application: it inserts, updates, deletes, moves keys, and turns some rows there and back all the time.
func (h *history) write(ctx context.Context, random *rand.Rand) {
	pace := time.Duration(200+random.IntN(3000)) * time.Microsecond
	for n := int64(0); sleep(ctx, time.Duration(1+random.Int64N(int64(pace)))) == nil; n++ {
		rows := map[int]int64{1 + random.IntN(keySpace): random.Int64N(4)} // 0 deletes
		switch random.IntN(4) {
		case 0: // there and back
			rows = map[int]int64{1 + random.IntN(4): 1 + n%2}
		case 1: // a key that moves
			from, to := 1+random.IntN(keySpace), 1+random.IntN(keySpace)
			rows = map[int]int64{to: 2, from: 0}
		}
		c := commit{rows: rows}
		if random.IntN(20) == 0 { // its readers see it late, as one that waits for a synchronous replica
			c.hidden = time.Duration(random.IntN(80)) * time.Millisecond
		}
		h.group.commit(c)
	}
}

// check runs the comparison while all of that goes on, and holds what it says against what was done.
func (h *history) check(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var going sync.WaitGroup
	random := rand.New(rand.NewPCG(h.random.Uint64(), 2)) // of the writer alone
	going.Go(func() { h.write(ctx, random) })
	for _, m := range h.us {
		going.Go(func() { m.replay(ctx) })
	}
	o := h.group.options(h.ref, h.us...)
	o.PartRows = 1 + h.random.IntN(50)
	o.Budget = func(string) time.Duration { return time.Minute }
	report := run(t, o)
	stop()
	going.Wait()
	if len(report.Results) != len(h.us) {
		t.Fatalf("%d results, want %d", len(report.Results), len(h.us))
	}
	for i, r := range report.Results {
		got := map[int]finding.Kind{}
		for _, d := range r.Divergences {
			for _, x := range d.Ranges {
				for _, k := range h.between(i, number(x.First), number(x.Last)) {
					if _, differs := h.tampered[i][k]; !differs {
						t.Errorf("%s: key %d is said to be %s and is in step", r.Member, k, d.Kind)
					}
					if d.Kind == h.tampered[i][k] {
						got[k] = d.Kind
					}
				}
			}
		}
		if !maps.Equal(got, h.tampered[i]) {
			t.Errorf("%s (%v): found %v, want %v; %s", r.Member, r.Verdict, got, h.tampered[i], r.Reason)
		}
		if r.Keys != int64(len(h.tampered[i])) {
			t.Errorf("%s: %d keys, want %d", r.Member, r.Keys, len(h.tampered[i]))
		}
		h.checkVerdict(t, r, len(h.tampered[i]))
	}
}

// between lists the keys of rows on either side from first to last, in the reference's order.
func (h *history) between(member, first, last int) []int {
	all := maps.Clone(h.group.rows)
	maps.Copy(all, h.us[member].rows)
	keys := slices.Collect(maps.Keys(all))
	return slices.DeleteFunc(keys, func(k int) bool { return h.ref.order(k, first) < 0 || h.ref.order(k, last) > 0 })
}

func (h *history) checkVerdict(t *testing.T, r Result, differ int) {
	switch {
	case differ > 0 && r.Verdict != align.Diverged:
		t.Errorf("%s: verdict %s although %d keys differ", r.Member, r.Verdict, differ)
	case differ == 0 && r.Verdict != align.InStep && (r.Verdict != align.Unverified || r.Reason == ""):
		t.Errorf("%s: verdict %s (%s) although no key differs", r.Member, r.Verdict, r.Reason)
	case r.Parts == 0 || r.From[r.Member] == "" || r.To["eu-1"] == "":
		t.Errorf("%s: it is not said what was read: %+v", r.Member, r)
	}
}

func TestNoRowIsAccusedThatLagsAndNoneIsMissedThatDiffers(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newHistory(seed).check(t) })
		})
	}
}

// A chain of intervals in the reference's order leaves no row of the member out, whatever order that has its rows in.
func TestRowsOnlyTheMemberHasAreFoundInAnyOrder(t *testing.T) {
	for seed := range 50 {
		synctest.Test(t, func(t *testing.T) {
			rows, want := map[int]int64{}, []string{}
			for k := 1; k <= 100; k++ {
				if k%7 != 0 {
					rows[k] = 1
				}
			}
			g := newMemory(rows)
			ref := g.reference(byHash(fmt.Sprint("r", seed)), cdc.ServerOrder)
			us := g.replica(byHash(fmt.Sprint("m", seed)), cdc.ServerOrder)
			for k := 7; k <= 100; k += 7 {
				us.tamper(k, 1)
				want = append(want, fmt.Sprintf("%d extra", k))
			}
			o := g.options(ref, us)
			o.PartRows = 3
			got := found(run(t, o).Results[0])
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: found %q, want %q", seed, got, want)
			}
		})
	}
}
