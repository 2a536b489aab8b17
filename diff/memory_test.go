package diff

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// memory is a group in memory: a reference and members that replay its log late. Its only clock is the bubble's that a
// test runs in (testing/synctest).
type memory struct {
	mu      sync.Mutex // guards all of what follows
	log     []commit   // of the reference, in order
	shown   map[int]bool
	locked  map[int]bool  // keys of commits that are hidden
	rows    map[int]int64 // of the reference's last commit in the log
	visible map[int]int64 // what its readers see
	members []*replica
	read    func(name string, rows int) error // called with each read; may fail it
}

// commit is one transaction: rows by key, 0 for a row that is deleted.
type commit struct {
	rows map[int]int64
	// hidden is how long it is in the log, and on its way, before the reference's readers see it.
	hidden time.Duration
}

// replica is a member of a memory.
type replica struct {
	group *memory
	name  string
	rows  map[int]int64
	done  int           // commits that it has replayed
	lag   time.Duration // between two
	order func(a, b int) int
	table cdc.Table
	// behind is by how many commits it stays behind at most.
	behind int
	lanes  []cdc.Lane
	own    bool // it is the reference itself
}

const memoryTable = "public.goods"

func byNumber(a, b int) int { return cmp.Compare(a, b) }

// byHash is an order that has nothing to do with that of the keys.
func byHash(salt string) func(a, b int) int {
	return func(a, b int) int {
		return cmp.Or(cmp.Compare(hashOf(salt, a), hashOf(salt, b)), cmp.Compare(a, b))
	}
}

func hashOf(salt string, key int) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, salt, key)
	return h.Sum64()
}

func newMemory(rows map[int]int64) *memory {
	g := &memory{rows: maps.Clone(rows), visible: maps.Clone(rows), shown: map[int]bool{}, locked: map[int]bool{}}
	return g
}

func memoryDefinition(order cdc.Order) cdc.Table {
	return cdc.Table{
		Name: memoryTable, Order: order, Key: []string{"id"}, Rows: 100,
		Columns: []digest.Column{{Name: "id", Class: digest.Int}, {Name: "v", Class: digest.Int}},
	}
}

// reference is the reference as a member.
func (g *memory) reference(order func(a, b int) int, o cdc.Order) *replica {
	return &replica{group: g, name: "eu-1", own: true, order: order, table: memoryDefinition(o)}
}

// replica adds a member that has all rows that the reference has now.
func (g *memory) replica(order func(a, b int) int, o cdc.Order) *replica {
	r := &replica{
		group: g, name: fmt.Sprintf("us-%d", len(g.members)+1), rows: maps.Clone(g.rows), done: len(g.log), lag: 5 * time.Millisecond,
		order: order, table: memoryDefinition(o),
		lanes: []cdc.Lane{{Name: "pg_1", Title: `subscription "goods"`, Slot: "slot", Enabled: true, Tables: map[string]string{memoryTable: ""}}},
	}
	r.lanes[0].Slot = "slot_" + r.name
	g.members = append(g.members, r)
	return r
}

// commit writes a transaction to the reference's log.
func (g *memory) commit(c commit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range c.rows {
		if g.locked[k] {
			return // by a commit that is hidden still: its writer would wait
		}
	}
	n := len(g.log)
	g.log = append(g.log, c)
	set(g.rows, c.rows)
	if c.hidden == 0 {
		set(g.visible, c.rows)
		g.shown[n] = true
		return
	}
	for k := range c.rows {
		g.locked[k] = true
	}
	time.AfterFunc(c.hidden, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for k := range c.rows {
			delete(g.locked, k)
		}
		set(g.visible, c.rows)
		g.shown[n] = true
	})
}

func set(rows, to map[int]int64) {
	for k, v := range to {
		if v == 0 {
			delete(rows, k)
			continue
		}
		rows[k] = v
	}
}

// replay replays the log on the member until ctx ends.
func (r *replica) replay(ctx context.Context) {
	for sleep(ctx, max(r.lag, time.Millisecond)) == nil {
		r.group.mu.Lock()
		// It keeps up, but stays behind by what was written last, now by more and now by less.
		for end := len(r.group.log) - rand.IntN(r.behind+1); r.done < end; {
			set(r.rows, r.group.log[r.done].rows)
			r.done++
		}
		r.group.mu.Unlock()
	}
}

// tamper changes a row on the member only.
func (r *replica) tamper(key int, to int64) {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	set(r.rows, map[int]int64{key: to})
}

func (r *replica) Server(context.Context) (cdc.Server, error) {
	return cdc.Server{SystemID: r.name, Database: "app"}, nil
}

func (r *replica) Tables(_ context.Context, match func(string) bool) ([]cdc.Table, error) {
	if r.table.Name == "" || !match(r.table.Name) {
		return nil, nil
	}
	return []cdc.Table{r.table}, nil
}

func (r *replica) Progress(context.Context) (cdc.Progress, error) {
	return cdc.Progress{Lanes: r.lanes}, nil
}

func (r *replica) Written(context.Context) (cdc.TxSet, error) {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	if r.own {
		return cdc.Everything(cdc.LSN(len(r.group.log) + 1)), nil
	}
	return cdc.Everything(1), nil
}

func (r *replica) Confirmed(context.Context) (map[string]cdc.TxSet, error) {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	confirmed := map[string]cdc.TxSet{}
	if r.own {
		for _, m := range r.group.members {
			confirmed["slot_"+m.name] = cdc.Everything(cdc.LSN(m.done + 1))
		}
	}
	return confirmed, nil
}

func (r *replica) Visible(context.Context) (cdc.TxSet, error) {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	for n := range r.group.log {
		if !r.group.shown[n] {
			return cdc.Everything(cdc.LSN(n + 1)), nil
		}
	}
	return cdc.Everything(cdc.LSN(len(r.group.log) + 1)), nil
}

func (r *replica) Close() {}

// view copies the rows as a reader sees them.
func (r *replica) view() map[int]int64 {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	if r.own {
		return maps.Clone(r.group.visible)
	}
	return maps.Clone(r.rows)
}

func (r *replica) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	if err := sleep(ctx, rand.N(time.Millisecond)); err != nil {
		return cdc.View{}, err
	}
	rows := r.view()
	keys := slices.SortedFunc(maps.Keys(rows), r.order)
	if p.Keys == nil {
		after, through := numberOf(e, p.After), numberOf(e, p.Through)
		keys = slices.DeleteFunc(keys, func(k int) bool {
			return p.After != nil && r.order(k, after) <= 0 || p.Through != nil && r.order(k, through) > 0
		})
		if p.Limit > 0 {
			keys = keys[:min(p.Limit, len(keys))]
		}
	} else {
		wanted := map[int]bool{}
		for _, k := range p.Keys {
			wanted[numberOf(e, k)] = true
		}
		keys = slices.DeleteFunc(keys, func(k int) bool { return !wanted[k] })
	}
	if r.group.read != nil {
		if err := r.group.read(r.name, len(keys)); err != nil {
			return cdc.View{}, err
		}
	}
	for _, k := range keys {
		row := digest.Row{}
		binary.BigEndian.PutUint64(row.Digest[:], uint64(rows[k]))
		if err := yield(keyOf(e, k), &row); err != nil {
			return cdc.View{}, err
		}
	}
	return cdc.View{}, sleep(ctx, rand.N(time.Millisecond))
}

// keyOf is the key with that number: such as {"id":7}.
func keyOf(e cdc.Epoch, k int) digest.Key {
	if key, known := keys.Load(k); known {
		return key.(digest.Key)
	}
	key, err := e.Shape.ParseKey(fmt.Appendf(nil, `{"id":%d}`, k))
	if err != nil {
		panic(err) // the keys are the tests' own
	}
	keys.Store(k, key)
	numbers.Store(string(key), k)
	return key
}

var keys, numbers sync.Map // what keyOf has made, and the way back

func numberOf(_ cdc.Epoch, k digest.Key) int {
	n, _ := numbers.Load(string(k))
	if k == nil {
		return 0
	}
	return n.(int)
}

func number(text json.RawMessage) int {
	var key struct{ ID int }
	if err := json.Unmarshal(text, &key); err != nil {
		panic(err)
	}
	return key.ID
}

// options compare the group's table.
func (g *memory) options(ref *replica, members ...*replica) Options {
	ids := 0
	o := Options{
		Group: "shop", Reference: Member{ref.name, ref},
		Match:   func(string) bool { return true },
		Exclude: func(string) []string { return nil },
		Budget:  func(string) time.Duration { return time.Second },
		NewID:   func(time.Time) string { ids++; return fmt.Sprint(ids) },
	}
	for _, m := range members {
		o.Members = append(o.Members, Member{m.name, m})
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
