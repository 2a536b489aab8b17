package store_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/store"
)

func TestMain(m *testing.M) {
	if lockHolder() || brokenDisk() {
		return
	}
	os.Exit(m.Run())
}

const dir = "data"

// open opens a store on fs; nil is the disk. The test closes it.
func open(t testing.TB, fs vfs.FS) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{FS: fs, Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func group(t testing.TB, s *store.Store, name string) *store.Group {
	t.Helper()
	g, err := s.Group(name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// end closes a group and its store.
func end(t testing.TB, g *store.Group, s *store.Store) {
	t.Helper()
	must(t, g.Close())
	must(t, s.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reopened runs check on the group as it is after a restart.
func reopened(t *testing.T, fs vfs.FS, check func(*store.Store, *store.Group)) {
	t.Helper()
	s := open(t, fs)
	g := group(t, s, "shop")
	check(s, g)
	end(t, g, s)
}

var space = align.Space{Member: 1, Table: 2, Generation: 3}

func key(n int) digest.Key { return fmt.Appendf(nil, "%08d", n) }

func hash(n int) digest.Digest {
	d := digest.Digest{15: 1}
	copy(d[:], fmt.Sprintf("%08d", n))
	return d
}

func row(n int) []byte { return digest.AppendRow(nil, &digest.Row{Digest: hash(n)}) }

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)

func findingOf(number int, state string) *finding.Finding {
	id := fmt.Sprintf("01J%023d", number)
	f := &finding.Finding{Number: uint64(number), Member: 1, Table: 2, Confirmed: true, Divergence: finding.Divergence{
		ID: id, Group: "shop", Table: "public.orders", Member: "us-1", Reference: "eu-1", State: state, Kind: finding.Changed, Cause: finding.CauseApply,
		Ranges:    []finding.Range{{First: []byte(`{"id":1}`), Last: []byte(`{"id":2}`), Changed: 2}},
		Keys:      2,
		Positions: map[string]string{"us-1": "0/10"},
		FirstSeen: noon, ConfirmedAt: noon, LagBudget: "10s",
		IntroducedBy: &finding.Introduced{Transaction: "0/15261D0", CommittedAt: noon},
	}}
	if state == finding.Resolved {
		f.Divergence.ResolvedAt = &noon
	}
	return f
}

func rows(t testing.TB, g *store.Group, at align.Space) []string {
	t.Helper()
	var list []string
	must(t, g.Rows(at, nil, nil, func(k digest.Key, v []byte) (bool, error) {
		list = append(list, fmt.Sprintf("%s=%x", k, v[:8]))
		return true, nil
	}))
	return list
}

func memberAt(p cdc.LSN) *align.MemberRecord {
	return &align.MemberRecord{Position: cdc.Position{LSN: p, Shown: cdc.Everything(p)}, Lanes: map[string]*align.LaneRecord{}}
}
