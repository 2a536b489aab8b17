package store_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/store"
)

// later runs write, commits, restarts, and runs check.
func later(t *testing.T, write func(*store.Group), check func(*store.Group)) {
	t.Helper()
	fs := vfs.NewMem()
	reopened(t, fs, func(_ *store.Store, g *store.Group) {
		write(g)
		must(t, g.Commit())
	})
	reopened(t, fs, func(_ *store.Store, g *store.Group) { check(g) })
}

func load(t *testing.T, g *store.Group) align.Saved {
	t.Helper()
	saved, err := g.Load()
	must(t, err)
	return saved
}

func TestRowsComeBackInOrder(t *testing.T) {
	later(t, func(g *store.Group) {
		for _, n := range []int{3, 1, 2, 5, 4} {
			must(t, g.SetRow(space, key(n), row(n)))
		}
		must(t, g.SetRow(space, nil, row(9))) // the key of no columns is a key
		must(t, g.DeleteRow(space, key(4)))
	}, func(g *store.Group) {
		var got []string
		must(t, g.Rows(space, key(1), key(5), func(k digest.Key, _ []byte) (bool, error) {
			got = append(got, string(k))
			return true, nil
		}))
		if want := []string{"00000001", "00000002", "00000003"}; !slices.Equal(got, want) {
			t.Errorf("rows from 1 to 5 are %q, want %q", got, want)
		}
		if all := rows(t, g, space); len(all) != 5 {
			t.Errorf("rows are %q, want five", all)
		}
		if v, err := g.Row(space, key(2)); err != nil || !slices.Equal(v, row(2)) {
			t.Errorf("row 2 is %x, %v", v, err)
		}
		if v, err := g.Row(space, key(4)); err != nil || v != nil {
			t.Errorf("the deleted row is %x, %v", v, err)
		}
	})
}

func TestWritesAreReadBackBeforeTheyAreCommitted(t *testing.T) {
	reopened(t, vfs.NewMem(), func(_ *store.Store, g *store.Group) {
		must(t, g.SetRow(space, key(1), row(1)))
		must(t, g.SetRow(space, key(2), row(2)))
		must(t, g.DeleteRow(space, key(2)))
		if got := rows(t, g, space); len(got) != 1 {
			t.Errorf("rows are %q, want one", got)
		}
		must(t, g.DropSpace(space))
		must(t, g.SetRow(space, key(3), row(3)))
		if got := rows(t, g, space); len(got) != 1 || got[0][:8] != "00000003" {
			t.Errorf("rows after the space was dropped are %q, want row 3", got)
		}
	})
}

func TestSpacesDoNotTouchEachOther(t *testing.T) {
	near := []align.Space{space, {Member: 1, Table: 2, Generation: 4}, {Member: 1, Table: 3, Generation: 3}, {Member: 2, Table: 2, Generation: 3}, {Member: 1, Table: 2, Generation: 1<<32 - 1}}
	later(t, func(g *store.Group) {
		for _, at := range near {
			must(t, g.SetRow(at, key(1), row(1)))
			must(t, g.SetSum(at, nil, merkle.Of(hash(1))))
			must(t, g.AppendPending(at, &align.Pending{Commit: 1, Change: cdc.Change{Op: cdc.Delete, Key: key(1)}}))
		}
		must(t, g.DropSpace(space))
	}, func(g *store.Group) {
		saved := load(t, g)
		for _, at := range near {
			kept := 1
			if at == space {
				kept = 0
			}
			sum, err := saved.Sum(at, nil)
			must(t, err)
			pending := 0
			_, err = g.TakePending(at, 10, func(*align.Pending) error { pending++; return nil })
			must(t, err)
			if got := rows(t, g, at); len(got) != kept || int(sum.Rows) != kept || pending != kept {
				t.Errorf("%+v holds rows %q, sum %v, %d waiting changes, want %d of each", at, got, sum, pending, kept)
			}
		}
	})
}

func TestSumsAndBoundariesComeBack(t *testing.T) {
	later(t, func(g *store.Group) {
		for _, n := range []int{2, 1, 3, 4} {
			must(t, g.SetBoundary(2, key(n)))
			must(t, g.SetSum(space, key(n), merkle.Sum{Hi: 1, Lo: uint64(n), Rows: -int64(n)}))
		}
		must(t, g.SetBoundary(3, key(7)))
		must(t, g.DeleteBoundary(2, key(4)))
		must(t, g.DeleteSum(space, key(4)))
		must(t, g.SetBoundary(4, key(1)))
		must(t, g.DropBoundaries(4))
	}, func(g *store.Group) {
		saved := load(t, g)
		for table, want := range map[cdc.TableID][]digest.Key{2: {key(1), key(2), key(3)}, 3: {key(7)}, 4: nil} {
			got, err := saved.Boundaries(table)
			if err != nil || !cmp.Equal(got, want) {
				t.Errorf("boundaries of table %d are %q, %v, want %q", table, got, err, want)
			}
		}
		for n, want := range map[int]merkle.Sum{1: {Hi: 1, Lo: 1, Rows: -1}, 3: {Hi: 1, Lo: 3, Rows: -3}, 4: {}, 9: {}} {
			if got, err := saved.Sum(space, key(n)); err != nil || got != want {
				t.Errorf("sum of range %d is %v, %v, want %v", n, got, err, want)
			}
		}
	})
}

func transaction(end cdc.LSN, changes int) *align.InFlight {
	f := &align.InFlight{ID: cdc.TxID{Seq: uint64(end)}, End: end, CommitTime: noon, Seen: noon}
	for n := range changes {
		f.Changes = append(f.Changes, align.RowChange{Table: cdc.TableID(n%3 + 1), Key: key(n), Before: hash(n), After: hash(n + 1)})
	}
	return f
}

func TestInFlightTransactionsComeBackAscendingAndWhole(t *testing.T) {
	want := []*align.InFlight{transaction(10, 1), transaction(20, 3*store.PartChanges+1), transaction(30, store.PartChanges), transaction(1<<40, 2)}
	later(t, func(g *store.Group) {
		for _, f := range slices.Backward(want) {
			must(t, g.SetInFlight(f))
		}
		gone := transaction(25, 2*store.PartChanges)
		must(t, g.SetInFlight(gone))
		must(t, g.DeleteInFlight(gone))
		if gone.Parts != 0 {
			t.Errorf("a transaction that is not kept has %d parts", gone.Parts)
		}
	}, func(g *store.Group) {
		got := load(t, g).InFlight
		for i := range want {
			if len(got) != len(want) || !reflect.DeepEqual(got[i], want[i]) { // go-cmp takes seconds over so many changes
				t.Fatalf("%d transactions come back, or the one that ends at %v is another", len(got), want[i].End)
			}
		}
		loaded := load(t, g).InFlight[1]
		loaded.Changes = loaded.Changes[:1] // the ledger drops what it does not need
		must(t, g.DeleteInFlight(loaded))
		if got := load(t, g).InFlight; len(got) != 3 {
			t.Errorf("%d transactions are left, want 3", len(got))
		}
	})
}

func TestDivergentKeysComeBack(t *testing.T) {
	want := map[string]align.DivergentKey{
		string(key(1)): {Finding: 1, Kind: finding.Changed, Expected: hash(1), Actual: hash(2)},
		string(key(2)): {Finding: 1 << 40, Kind: finding.Missing, Expected: hash(3)},
		string(key(3)): {Finding: 2, Kind: finding.Extra, Actual: hash(4)},
	}
	later(t, func(g *store.Group) {
		for k, d := range want {
			must(t, g.SetDivergentKey(1, 2, digest.Key(k), &d))
		}
		must(t, g.SetDivergentKey(1, 2, key(4), &align.DivergentKey{Kind: finding.Extra}))
		must(t, g.DeleteDivergentKey(1, 2, key(4)))
		must(t, g.SetDivergentKey(2, 2, key(5), &align.DivergentKey{Kind: finding.Extra}))
	}, func(g *store.Group) {
		got := make(map[string]align.DivergentKey)
		must(t, g.DivergentKeys(1, 2, nil, nil, func(k digest.Key, d *align.DivergentKey) (bool, error) {
			got[string(k)] = *d
			return true, nil
		}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if d, err := g.DivergentKey(1, 2, key(2)); err != nil || *d != want[string(key(2))] {
			t.Errorf("key 2 is %+v, %v", d, err)
		}
		if d, err := g.DivergentKey(1, 2, key(4)); err != nil || d != nil {
			t.Errorf("the deleted key is %+v, %v", d, err)
		}
	})
}

func pending(n int) *align.Pending {
	p := &align.Pending{Commit: cdc.LSN(n), Change: cdc.Change{Table: space.Table, Op: cdc.Update, Epoch: 1, Key: key(n), Row: digest.Row{Digest: hash(n)}}}
	if n%2 == 0 {
		p.Change.OldKey = key(n + 1)
		p.Change.Row = digest.Row{Partial: &digest.Partial{
			Encoding: make([]byte, 40),
			Holes:    []digest.Hole{{Column: 1, Name: "body", Offset: 4}, {Column: 60000, Name: "note", Offset: 20}},
			Columns:  []digest.ColumnDigest{{Column: 3, Digest: hash(n)}},
		}}
	}
	return p
}

func take(t *testing.T, g *store.Group, limit int) (list []*align.Pending, more bool) {
	t.Helper()
	more, err := g.TakePending(space, limit, func(p *align.Pending) error {
		list = append(list, p)
		return nil
	})
	must(t, err)
	return list, more
}

func TestWaitingChangesAreTakenInOrderOnce(t *testing.T) {
	later(t, func(g *store.Group) {
		for n := range 5 {
			must(t, g.AppendPending(space, pending(n)))
		}
		if got, more := take(t, g, 2); len(got) != 2 || !more {
			t.Errorf("%d were taken, more is %v", len(got), more)
		}
	}, func(g *store.Group) {
		got, more := take(t, g, 3)
		if diff := cmp.Diff([]*align.Pending{pending(2), pending(3), pending(4)}, got, cmpopts.EquateEmpty()); diff != "" || more {
			t.Errorf("more is %v: %s", more, diff)
		}
		if again, more := take(t, g, 3); len(again) != 0 || more {
			t.Errorf("%d changes are taken twice", len(again))
		}
	})
}

// The numbers of waiting changes once began at zero after a restart, over the ones that waited still.
func TestWaitingChangesGoOnAfterARestart(t *testing.T) {
	later(t, func(g *store.Group) {
		must(t, g.AppendPending(space, pending(1)))
		must(t, g.AppendPending(space, pending(3)))
	}, func(g *store.Group) {
		must(t, g.AppendPending(space, pending(5)))
		got, _ := take(t, g, 10)
		if diff := cmp.Diff([]*align.Pending{pending(1), pending(3), pending(5)}, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func txSet(t *testing.T, text string) cdc.TxSet {
	s, err := cdc.ParseTxSet(text)
	must(t, err)
	return s
}

func TestMembersAndTablesComeBack(t *testing.T) {
	member := &align.MemberRecord{
		Server:   cdc.Server{SystemID: "7", Timeline: 2, Database: "shop", Version: "17.1"},
		Position: cdc.Position{LSN: 1 << 40, Shown: txSet(t, uuid+":1-5:9,"+uuid+":nightly:3"), Last: txSet(t, "0-101-11"), Resume: new(txSet(t, uuid+":1-4"))},
		Ahead:    txSet(t, uuid+":7"),
		Lanes:    map[string]*align.LaneRecord{"pg_16394": {Applied: cdc.Everything(99)}, cdc.GTIDLane: {Applied: txSet(t, "0-101-11,1-7-3")}},
	}
	table := &align.TableRecord{
		Epoch: cdc.Epoch{Table: 2, Number: 3, Shape: digest.Shape{
			Table: "public.orders", Key: []int{1},
			Columns: []digest.Column{{Name: "body", Class: digest.Text, Type: digest.TypeBPChar, Wide: true}, {Name: "id", Class: digest.Int}},
		}},
		Unjournaled: cdc.Everything(17), Versions: map[cdc.MemberID]string{1: "a", 65535: "b"},
		Members: map[cdc.MemberID]*align.CoverageRecord{1: {Phase: align.Live, Generation: 4, Lane: "pg_16394", Compared: true, ComparedAt: noon}, 2: {Reason: "not read yet"}},
	}
	later(t, func(g *store.Group) {
		must(t, g.SetMember(1, member))
		must(t, g.SetMember(65535, memberAt(7)))
		must(t, g.SetTable(table))
		must(t, g.SetTable(&align.TableRecord{Epoch: cdc.Epoch{Table: 3}}))
		must(t, g.DropTable(3))
	}, func(g *store.Group) {
		saved := load(t, g)
		if diff := cmp.Diff(map[cdc.MemberID]*align.MemberRecord{1: member, 65535: memberAt(7)}, saved.Members, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]*align.TableRecord{table}, saved.Tables); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNumbersOfNamesStayAndAreNotSharedByGroups(t *testing.T) {
	fs := vfs.NewMem()
	name := func(g *store.Group, member, table string) string {
		m, err := g.MemberID(member)
		must(t, err)
		id, err := g.TableID(table)
		must(t, err)
		return fmt.Sprint(m, id)
	}
	var before []string
	reopened(t, fs, func(s *store.Store, g *store.Group) {
		other := group(t, s, "shop2")
		before = []string{name(g, "eu", "orders"), name(g, "us", "order"), name(g, "eu", "orders"), name(other, "us", "orders")}
		must(t, other.SetRow(space, key(1), row(1)))
		must(t, other.Commit())
		must(t, other.Close())
		if got := rows(t, g, space); len(got) != 0 {
			t.Errorf("one group sees the other's rows %q", got)
		}
	})
	if want := []string{"1 1", "2 2", "1 1", "1 1"}; !slices.Equal(before, want) {
		t.Errorf("numbers are %q, want %q", before, want)
	}
	reopened(t, fs, func(_ *store.Store, g *store.Group) {
		if got := name(g, "us", "order"); got != "2 2" {
			t.Errorf("numbers became %q", got)
		}
	})
}
