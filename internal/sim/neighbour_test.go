package sim

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/store"
)

// settledWithin is how long lockstep may not know of servers that nothing happens to whether they are in step.
const settledWithin = 30 * time.Second

// neighbour is another group of the same lockstep. Its members and tables have the same names, and nothing happens to its servers: whatever
// befalls the first group, they are in step.
type neighbour struct {
	w       *world
	random  *rand.Rand
	cluster *cdctest.Cluster
	servers []*cdctest.Server // the first one is the reference
	group   *monitor.Group    // nil while lockstep does not run
	known   time.Time         // when all of it was known last, or lockstep was started
}

func newNeighbour(w *world, seed uint64) *neighbour {
	n := &neighbour{w: w, random: rand.New(rand.NewPCG(seed, 7)), cluster: cdctest.NewCluster(w.cluster.Engine, seed+1)}
	for _, name := range []string{"a", "b"} {
		s := n.cluster.Server(name)
		for _, t := range tableNames {
			s.CreateTable(t, cdctest.Int("v"), cdctest.Wide("note"))
		}
		n.servers = append(n.servers, s)
	}
	if reference, replica := n.servers[0], n.servers[1]; w.cluster.Engine == cdctest.Postgres {
		replica.Subscribe(reference, "sub_b", tableNames...)
	} else {
		replica.Follow(reference)
	}
	return n
}

// open has lockstep watch it too.
func (n *neighbour) open(st *store.Store) error {
	opt := n.w.options(st, plan{reference: "a", scrub: n.w.plan.scrub})
	opt.Name, opt.Logger, opt.OnNotice = "shop_2", slog.New(slog.DiscardHandler), nil
	for _, s := range n.servers {
		x := s.Source(digest.NewHasher(st.Secret()))
		n.w.sources.add(x)
		opt.Members = append(opt.Members, monitor.Member{Name: s.Name, Source: x})
	}
	opened, err := monitor.Open(opt, st)
	n.group, n.known = opened, time.Now()
	return err
}

func (n *neighbour) close() error {
	group := n.group
	n.group = nil
	return group.Close()
}

// live lets a bit of what applications write there be replicated.
func (n *neighbour) live() {
	if n.random.IntN(20) == 0 {
		n.servers[0].Write(cdctest.Put(anyTable(n.random), 1+n.random.IntN(fewKeys), cdctest.Row{"v": n.random.IntN(1000)}))
	}
	for _, s := range n.servers {
		for _, lane := range s.Lanes() {
			s.Replay(lane, cdctest.Rightly, n.random)
		}
	}
}

// look holds what lockstep says of it against what is.
func (n *neighbour) look() {
	if n.group == nil {
		return
	}
	now, said := time.Now(), n.group.Status()
	known := now.Sub(said.At) < time.Second
	for _, m := range said.Members {
		for kind, open := range m.Open {
			if kind != finding.Stale && open > 0 {
				n.w.fail("%d rows of %s of the other group are told to be %s", open, m.Name, kind)
			}
		}
		for _, t := range m.Tables {
			if t.DivergentKeys > 0 || t.Silent > 0 || t.Verdict == status.Diverged {
				n.w.fail("%s %s of the other group is %s, %d keys differ and %d changed without a trace", m.Name, t.Table, t.Verdict, t.DivergentKeys, t.Silent)
			}
			known = known && (t.Verdict == status.InStep || t.Verdict == status.Lagging)
		}
	}
	if known {
		n.known = now
	}
	if now.Sub(n.known) > settledWithin {
		n.w.fail("of the other group not all is known for %v", now.Sub(n.known))
	}
}
