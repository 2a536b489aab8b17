package align_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/store"
)

// benchGroup is a ledger on disk with one table, live and compared on a reference and one replica.
type benchGroup struct {
	b      testing.TB
	group  *store.Group
	state  *stepped
	ledger *align.Ledger
	end    cdc.LSN
}

func newBenchGroup(b testing.TB, rows int) *benchGroup { return newBenchGroupOf(b, rows, 0) }

// newBenchGroupOf aims at rangeRows rows a range; 0: at as many as usual.
func newBenchGroupOf(b testing.TB, rows int, rangeRows int64) *benchGroup {
	st, err := store.Open(b.TempDir(), store.Options{})
	must(b, err)
	g, err := st.Group("bench")
	must(b, err)
	b.Cleanup(func() {
		must(b, g.Close())
		must(b, st.Close())
	})
	ids := make(map[cdc.MemberID]string)
	for _, name := range []string{"ref", "one"} {
		id, err := g.MemberID(name)
		must(b, err)
		ids[id] = name
	}
	saved, err := g.Load()
	must(b, err)
	state := &stepped{Group: g}
	l, err := align.Load(align.Options{
		Group: "bench", Members: ids, Reference: refID, Budget: func(string) time.Duration { return time.Minute },
		Hasher: digest.NewHasher([32]byte{}), NewID: func(time.Time) string { return "x" },
		RangeRows: rangeRows,
	}, state, saved)
	must(b, err)
	bg := &benchGroup{b: b, group: g, state: state, ledger: l, end: 10}
	bg.live(rows)
	return bg
}

func must(b testing.TB, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}

// live reads the table on both sides, as a baseline does.
func (g *benchGroup) live(rows int) {
	must(g.b, g.ledger.SetEpoch(cdc.Epoch{Table: 1, Number: 1, Shape: shapeOf(1)}, map[cdc.MemberID]string{}, "new"))
	for _, id := range []cdc.MemberID{refID, oneLane} {
		must(g.b, g.ledger.Unverify(id, cdc.Position{LSN: g.end, Shown: cdc.Everything(g.end)}, cdc.Server{SystemID: fmt.Sprint(id)}, "new"))
		lanes := []cdc.Lane{{Name: "pg_1", Slot: "s", Enabled: true, Tables: map[string]string{"public.t1": ""}}}
		must(g.b, g.ledger.Progress(id, time.Now(), cdc.Progress{Applied: map[string]cdc.TxSet{"pg_1": cdc.Everything(g.end)}, Lanes: lanes}, map[string]cdc.TxSet{"s": cdc.Everything(g.end)}))
		at := g.ledger.Wanted(id)[0].At
		g.ledger.Scanning(at)
		loader, err := g.group.Loader(at, false)
		must(g.b, err)
		var row []byte
		for n := range rows {
			row = digest.AppendRow(row[:0], &digest.Row{Digest: digestOf(1, n, 1)})
			must(g.b, loader.Add(keyOf(1, n), row))
		}
		must(g.b, loader.Close())
		bounds, _ := g.ledger.Freeze(at)
		bounds, sums, err := loader.Sum(bounds, bounds == nil, g.ledger.RangeRows())
		must(g.b, err)
		must(g.b, g.ledger.Loaded(at, 0, bounds, sums))
		_, err = g.ledger.Replay()
		must(g.b, err)
		must(g.b, g.ledger.Progress(id, time.Now(), cdc.Progress{Applied: map[string]cdc.TxSet{"pg_1": cdc.Everything(g.end)}, Lanes: lanes}, map[string]cdc.TxSet{"s": cdc.Everything(g.end)}))
	}
	must(g.b, g.ledger.Tick())
	g.commit()
}

func (g *benchGroup) commit() {
	must(g.b, g.ledger.Flush())
	must(g.b, g.group.Commit())
}

// updates makes n transactions of size rows each, spread over the table, as both members show them, with before-images
// or without.
func updates(n, size, rows int, images bool) [][2]*cdc.Transaction {
	now := make(map[int]digest.Digest)
	list := make([][2]*cdc.Transaction, n)
	end := cdc.LSN(100)
	for i := range list {
		end += 10
		var changes []cdc.Change
		for j := range size {
			key := (i*size + j) * 7919 % rows
			var seed [16]byte
			binary.BigEndian.PutUint64(seed[:], uint64(i))
			binary.BigEndian.PutUint64(seed[8:], uint64(j))
			sum := sha256.Sum256(seed[:])
			ch := cdc.Change{Table: 1, Op: cdc.Update, Epoch: 1, Key: keyOf(1, key), Row: digest.Row{Digest: digest.Digest(sum[:16])}}
			if images {
				var known bool
				if ch.Before, known = now[key]; !known {
					ch.Before = digestOf(1, key, 1)
				}
				ch.HasBefore, now[key] = true, ch.Row.Digest
			}
			changes = append(changes, ch)
		}
		at := time.UnixMicro(int64(end))
		list[i][0] = &cdc.Transaction{ID: cdc.TxID{Seq: uint64(end)}, Commit: end - 1, End: end, CommitTime: at, Changes: changes}
		list[i][1] = &cdc.Transaction{ID: cdc.TxID{Seq: uint64(end)}, Lane: "pg_1", Commit: end - 1, End: end, CommitTime: at, Changes: changes}
	}
	return list
}

func eventOf(tx *cdc.Transaction) cdc.Event {
	return cdc.Event{Position: tx.End, Through: cdc.TxID{Seq: uint64(tx.End)}, Transaction: tx}
}

// BenchmarkApply applies row changes of both members to a store on disk, judged and committed; an operation is one row
// change of one member. "floor" is what Pebble takes to write and sync the same rows without reading or judging any.
func BenchmarkApply(b *testing.B) {
	const rows = 200_000
	for n := range 6 {
		size, images := []int{1, 100, 10_000}[n%3], n >= 3
		b.Run(fmt.Sprintf("ours/before-images-%t/rows-per-transaction-%d", images, size), func(b *testing.B) {
			g := newBenchGroup(b, rows)
			txs := updates((b.N/2+size-1)/size, size, rows, images)
			b.ReportAllocs()
			b.ResetTimer()
			for _, tx := range txs {
				must(b, g.ledger.Apply(refID, eventOf(tx[0])))
				must(b, g.ledger.Apply(oneLane, eventOf(tx[1])))
				if g.group.Uncommitted() > 4<<20 {
					g.commit()
				}
			}
			g.commit()
		})
	}
	b.Run("floor", func(b *testing.B) {
		g := newBenchGroup(b, 1)
		txs := updates((b.N+99)/100, 100, rows, false)
		at := align.Space{Member: 9, Table: 9, Generation: 9}
		b.ReportAllocs()
		b.ResetTimer()
		for _, tx := range txs {
			for _, c := range tx[0].Changes {
				must(b, g.group.SetRow(at, c.Key, c.Row.Digest[:]))
			}
			if g.group.Uncommitted() > 4<<20 {
				must(b, g.group.Commit())
			}
		}
		must(b, g.group.Commit())
	})
}
