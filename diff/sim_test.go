package diff

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/status"
)

// history is one seeded run: an application that writes, members that lag, and rows that somebody changed on a member.
type history struct {
	random *rand.Rand
	group  *group
	order  func(a, b int) int // that the reference has
	// tampered are keys that the application leaves alone, by member, with how they differ.
	tampered []map[int]finding.Kind
}

const (
	keySpace = 400
	quietKey = 100_000 // from here on the application writes nothing
)

func newHistory(seed uint64) *history {
	h := &history{random: rand.New(rand.NewPCG(seed, 1))}
	rows := map[int]int{}
	for k := 1; k <= keySpace; k += 1 + h.random.IntN(3) {
		rows[k] = 1 + h.random.IntN(3)
	}
	for k := quietKey; k < quietKey+200; k += 1 + h.random.IntN(3) {
		rows[k] = 1
	}
	h.group = newGroup(cdctest.Engines[seed%3], seed, rows)
	h.order = h.sort(h.group.ref)
	for range 1 + h.random.IntN(2) {
		m := h.group.member()
		h.sort(m)
		m.lag = time.Duration(1+h.random.IntN(60)) * time.Millisecond
		m.behind = h.random.IntN(10)
		h.tampered = append(h.tampered, h.tamper(m))
	}
	return h
}

// sort gives a server one of the orders of keys that there are.
func (h *history) sort(m *member) func(a, b int) int {
	orders := []func(a, b int) int{cdctest.Scrambled("a"), cdctest.Scrambled("b"), cdctest.Descending}
	switch i := h.random.IntN(len(orders) + 2); i {
	case len(orders):
		m.Unsort(goods)
	case len(orders) + 1:
	default:
		m.Sort(goods, orders[i])
		return orders[i]
	}
	return cmp.Compare[int]
}

// tamper makes a few rows differ that the application does not write.
func (h *history) tamper(m *member) map[int]finding.Kind {
	made := map[int]finding.Kind{}
	for range h.random.IntN(6) {
		k := quietKey + h.random.IntN(200)
		switch {
		case h.group.ref.Row(goods, k) == nil:
			m.Silently(put(k, 7))
			made[k] = finding.Extra
		case h.random.IntN(2) == 0:
			m.Silently(remove(k))
			made[k] = finding.Missing
		default:
			m.Silently(put(k, 9))
			made[k] = finding.Changed
		}
	}
	return made
}

// write is the application: it inserts, updates, deletes, moves keys, and turns some rows there and back all the time.
func (h *history) write(ctx context.Context, random *rand.Rand) {
	pace := time.Duration(2000+random.IntN(8000)) * time.Microsecond
	ref := h.group.ref
	for n := 0; sleep(ctx, time.Duration(1+random.Int64N(int64(pace)))) == nil; n++ {
		key, v := 1+random.IntN(keySpace), random.IntN(4)
		changes := []cdctest.Change{put(key, v)}
		switch random.IntN(4) {
		case 0: // there and back
			changes = []cdctest.Change{put(1+random.IntN(4), 1+n%2)}
		case 1:
			changes = []cdctest.Change{cdctest.Move(goods, key, 1+random.IntN(keySpace), cdctest.Row{"v": 2})}
		default:
			if v == 0 {
				changes = []cdctest.Change{remove(key)}
			}
		}
		if random.IntN(20) == 0 { // its readers see it late, as one that waits for a synchronous replica
			ref.WriteHidden(time.Duration(random.IntN(80))*time.Millisecond, changes...)
		} else {
			ref.Write(changes...)
		}
	}
}

// check runs the comparison while all of that goes on, and holds what it says against what was done.
func (h *history) check(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var going sync.WaitGroup
	random := rand.New(rand.NewPCG(h.random.Uint64(), 2)) // of the writer alone
	going.Go(func() { h.write(ctx, random) })
	us := h.group.members
	for _, m := range us {
		replays := h.group.replays(m)
		going.Go(func() { replays(ctx) })
	}
	o := h.group.options(us...)
	o.PartRows = 1 + h.random.IntN(50)
	o.Budget = func(string) time.Duration { return time.Minute }
	report := run(t, o)
	stop()
	going.Wait()
	if len(report.Results) != len(us) {
		t.Fatalf("%d results, want %d", len(report.Results), len(us))
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
	keys := append(h.group.ref.Keys(goods), h.group.members[member].Keys(goods)...)
	slices.Sort(keys)
	return slices.DeleteFunc(slices.Compact(keys), func(k int) bool { return h.order(k, first) < 0 || h.order(k, last) > 0 })
}

func (h *history) checkVerdict(t *testing.T, r Result, differ int) {
	switch {
	case differ > 0 && r.Verdict != status.Diverged:
		t.Errorf("%s: verdict %s although %d keys differ", r.Member, r.Verdict, differ)
	case differ == 0 && r.Verdict != status.InStep && (r.Verdict != status.Unverified || r.Reason == ""):
		t.Errorf("%s: verdict %s (%s) although no key differs", r.Member, r.Verdict, r.Reason)
	case r.Parts == 0 || r.From[r.Member] == "" || r.To["eu-1"] == "":
		t.Errorf("%s: it is not said what was read: %+v", r.Member, r)
	}
}

func TestNoRowIsAccusedThatLagsAndNoneIsMissedThatDiffers(t *testing.T) {
	seeds := 15
	if testing.Short() {
		seeds = 5
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { newHistory(seed).check(t) })
		})
	}
}

// A chain of intervals in the reference's order leaves no row of the member out, whatever order that has its rows in.
func TestRowsOnlyTheMemberHasAreFoundInAnyOrder(t *testing.T) {
	for seed := range 20 {
		bubble.Test(t, func(t *testing.T) {
			rows, want := equal(100), []string{}
			for k := 7; k <= 100; k += 7 {
				delete(rows, k)
			}
			g := newGroup(cdctest.Postgres, uint64(seed), rows)
			g.ref.Sort(goods, cdctest.Scrambled(fmt.Sprint("r", seed)))
			us := g.member()
			us.Sort(goods, cdctest.Scrambled(fmt.Sprint("m", seed)))
			for k := 7; k <= 100; k += 7 {
				us.Silently(put(k, 1))
				want = append(want, fmt.Sprintf("%d extra", k))
			}
			o := g.options(us)
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
