package diff

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
)

// goods is the table that is compared.
const goods = "public.goods"

func put(key, v int) cdctest.Change { return cdctest.Put(goods, key, cdctest.Row{"v": v}) }

func remove(key int) cdctest.Change { return cdctest.Delete(goods, key) }

// group is a reference and members that replay its log late.
type group struct {
	*cdctest.Cluster
	ref     *member
	members []*member
}

// member is a server, and what tests change of its answers.
type member struct {
	*cdctest.Server
	lane string // by which it follows the reference
	lag  time.Duration
	// behind is by how many transactions it stays behind at most.
	behind   int
	table    func(t *cdc.Table)
	progress func(p *cdc.Progress)
	read     func(rows int) error // called after each read; may fail it
}

func newGroup(engine cdctest.Engine, seed uint64, rows map[int]int) *group {
	g := &group{Cluster: cdctest.NewCluster(engine, seed)}
	g.ref = g.server("eu-1")
	var all []cdctest.Change
	for k, v := range rows {
		all = append(all, put(k, v))
	}
	g.ref.Write(all...)
	return g
}

func (g *group) server(name string) *member {
	m := &member{Server: g.Server(name), lag: 5 * time.Millisecond}
	m.CreateTable(goods, cdctest.Int("v"))
	return m
}

// member adds a member that has all rows that the reference has now.
func (g *group) member() *member {
	m := g.server(fmt.Sprintf("us-%d", len(g.members)+1))
	m.Seed(g.ref.Server)
	if m.lane = cdc.GTIDLane; g.Engine == cdctest.Postgres {
		m.lane = m.Subscribe(g.ref.Server, "slot_"+m.Name, goods)
	} else {
		m.Follow(g.ref.Server)
	}
	g.members = append(g.members, m)
	return m
}

// title is what messages call the way from the reference to a member.
func (g *group) title(m *member) string {
	if g.Engine == cdctest.Postgres {
		return fmt.Sprintf("subscription %q", m.lane)
	}
	return "replication"
}

// at is where a member is.
func (g *group) at(m *member) cdc.TxSet {
	if g.Engine == cdctest.Postgres {
		return cdc.Everything(m.End())
	}
	return m.Executed()
}

// replays replays the log of the reference on a member until ctx ends: it keeps up, but stays behind by what was written
// last, now by more and now by less.
func (g *group) replays(m *member) func(ctx context.Context) { return g.followsOf(g.ref, m) }

// followsOf is the same of another server's log.
func (g *group) followsOf(source, m *member) func(ctx context.Context) {
	random := rand.New(rand.NewPCG(uint64(len(g.members)), 3))
	return func(ctx context.Context) {
		for sleep(ctx, max(m.lag, time.Millisecond)) == nil {
			n, _ := m.InFlight(source.Server, goods)
			for n -= random.IntN(m.behind + 1); n > 0 && m.Replay(m.lane, cdctest.Rightly, random); n-- {
			}
		}
	}
}

// asked is a member as it is read: its log is not.
type asked struct {
	*cdctest.Source
	of *member
}

func (a asked) Tables(ctx context.Context, match func(string) bool) ([]cdc.Table, error) {
	list, err := a.Source.Tables(ctx, match)
	for i := range list {
		if a.of.table != nil {
			a.of.table(&list[i])
		}
	}
	return list, err
}

func (a asked) Progress(ctx context.Context) (cdc.Progress, error) {
	p, err := a.Source.Progress(ctx)
	if a.of.progress != nil {
		a.of.progress(&p)
	}
	return p, err
}

func (a asked) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	n := 0
	v, err := a.Source.Read(ctx, t, e, p, func(k digest.Key, r *digest.Row) error { n++; return yield(k, r) })
	if err == nil && a.of.read != nil {
		err = a.of.read(n)
	}
	return v, err
}

// options compare the group's table.
func (g *group) options(members ...*member) Options {
	hasher := digest.NewHasher([32]byte{1})
	ask := func(m *member) Member {
		x := m.Source(hasher)
		x.ScanOnly = true
		return Member{m.Name, asked{x, m}}
	}
	ids := 0
	o := Options{
		Group: "shop", Reference: ask(g.ref),
		Match:   func(string) bool { return true },
		Exclude: func(string) []string { return nil },
		Budget:  func(string) time.Duration { return time.Second },
		NewID:   func(time.Time) string { ids++; return fmt.Sprint(ids) },
	}
	for _, m := range members {
		o.Members = append(o.Members, ask(m))
	}
	return o
}

func run(t *testing.T, o Options) *Report {
	t.Helper()
	r, err := New(o).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found lists the keys of a result's divergences: key and kind.
func found(r Result) []string {
	var list []string
	for _, d := range r.Divergences {
		for _, x := range d.Ranges {
			first, last := number(x.First), number(x.Last)
			if first == last {
				list = append(list, fmt.Sprintf("%d %s", first, d.Kind))
			} else {
				list = append(list, fmt.Sprintf("%d-%d %s", first, last, d.Kind))
			}
		}
	}
	return list
}

func number(text json.RawMessage) int {
	var key struct{ ID int }
	if err := json.Unmarshal(text, &key); err != nil {
		panic(err)
	}
	return key.ID
}
