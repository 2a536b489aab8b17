package align_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/store"
)

// stepped counts the rows of table 1 that a ledger has its state step over, those that were deleted and are not swept away
// yet among them.
type stepped struct {
	*store.Group
	keys  []string // of all rows that the table has ever had
	steps int
}

func (s *stepped) Rows(at align.Space, from, to digest.Key, yield func(digest.Key, []byte) (bool, error)) error {
	first, _ := slices.BinarySearch(s.keys, string(from))
	last := len(s.keys)
	if to != nil {
		last, _ = slices.BinarySearch(s.keys, string(to))
	}
	s.steps += last - first
	return s.Group.Rows(at, from, to, yield)
}

func (s *stepped) Row(at align.Space, k digest.Key) ([]byte, error) {
	s.steps++
	return s.Group.Row(at, k)
}

// transaction does the same to rows from up to, not including, to, as both members show it.
func (g *benchGroup) transaction(op cdc.Op, from, to int) [2]*cdc.Transaction {
	var changes []cdc.Change
	for n := from; n < to; n++ {
		ch := cdc.Change{Table: 1, Op: op, Epoch: 1, Key: keyOf(1, n)}
		if op != cdc.Delete {
			ch.Row.Digest = digestOf(1, n, 1)
		}
		changes = append(changes, ch)
	}
	if op == cdc.Truncate {
		changes = []cdc.Change{{Table: 1, Op: op, Epoch: 1}}
	}
	g.end += 1000
	end := g.end
	tx := cdc.Transaction{ID: cdc.TxID{Seq: uint64(end)}, Commit: end - 1, End: end, CommitTime: time.UnixMicro(int64(end)), Changes: changes}
	replayed := tx
	replayed.Lane = "pg_1"
	return [2]*cdc.Transaction{&tx, &replayed}
}

func (g *benchGroup) apply(txs [2]*cdc.Transaction) {
	must(g.b, g.ledger.Apply(refID, eventOf(txs[0])))
	must(g.b, g.ledger.Apply(oneLane, eventOf(txs[1])))
}

// A table of which all rows were deleted, or filled, in one transaction took quadratic time: with each range that starved,
// all rows of all ranges that had starved before it were read again; 400,000 rows took 37 seconds. What is done for a row that
// changes must not depend on how many do.
func TestCuttingAnewIsNoMoreWorkThanWasChanged(t *testing.T) {
	const most = 8 // steps a row and member: it is looked up when it changes, and read when its range is split
	for _, c := range []struct {
		name     string
		had, has int // rows
		lags     bool
	}{
		{name: "all rows are deleted", had: 4_000},
		{name: "all rows are deleted, and are not yet on the replica", had: 4_000, lags: true},
		{name: "nine of ten rows are deleted", had: 4_000, has: 400},
		{name: "rows are added", had: 100, has: 4_000},
		{name: "rows are added that are not yet on the replica", had: 100, has: 4_000, lags: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newBenchGroupOf(t, c.had, 50)
			op, from, to := cdc.Delete, c.has, c.had
			if c.has > c.had {
				op, from, to = cdc.Insert, c.had, c.has
			}
			txs := g.transaction(op, from, to)
			for n := range max(c.had, c.has) {
				g.state.keys = append(g.state.keys, string(keyOf(1, n)))
			}
			g.state.steps = 0
			must(t, g.ledger.Apply(refID, eventOf(txs[0])))
			if !c.lags {
				must(t, g.ledger.Apply(oneLane, eventOf(txs[1])))
			}
			g.commit()
			if per := float64(g.state.steps) / float64(2*(to-from)); per > most {
				t.Errorf("%.1f steps a row that changed, want at most %d", per, most)
			} else {
				t.Logf("%.1f steps a row that changed", per)
			}
			if c.lags {
				must(t, g.ledger.Apply(oneLane, eventOf(txs[1])))
				g.commit()
			}
			for _, m := range g.ledger.Status(false) {
				if s := m.Tables[0]; s.Rows != int64(c.has) || s.DivergentKeys != 0 {
					t.Errorf("%s: %d rows, %d that differ; want %d and none", m.Name, s.Rows, s.DivergentKeys, c.has)
				}
			}
		})
	}
}

// BenchmarkEmptied empties a table on both members in one transaction, and takes the time of the flush after it.
func BenchmarkEmptied(b *testing.B) {
	for _, op := range []cdc.Op{cdc.Delete, cdc.Truncate} {
		for _, rows := range []int{50_000, 100_000, 200_000, 400_000} {
			b.Run(fmt.Sprintf("%s/rows-%d", map[cdc.Op]string{cdc.Delete: "deleted", cdc.Truncate: "truncated"}[op], rows), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					g := newBenchGroup(b, rows)
					b.StartTimer()
					began := time.Now()
					g.apply(g.transaction(op, 0, rows))
					b.ReportMetric(time.Since(began).Seconds(), "s/apply")
					began = time.Now()
					must(b, g.ledger.Flush())
					b.ReportMetric(time.Since(began).Seconds(), "s/flush")
					must(b, g.group.Commit())
				}
			})
		}
	}
}
