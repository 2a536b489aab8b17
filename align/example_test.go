package align_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/store"
)

// A ledger is given what each server's log shows, and says which rows differ at the same transaction. A replica that has
// yet to replay a transaction does not differ; one that has replayed it to another row does, at once.
func ExampleLedger() {
	const primary, replica cdc.MemberID = 1, 2
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	kept, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	check(err)
	defer kept.Close()
	group, err := kept.Group("shop")
	check(err)
	defer group.Close()
	saved, err := group.Load()
	check(err)
	ledger, err := align.Load(align.Options{
		Group: "shop", Members: map[cdc.MemberID]string{primary: "eu", replica: "us"}, Reference: primary,
		Budget: func(string) time.Duration { return time.Minute }, NewID: func(time.Time) string { return "1" },
	}, group, saved)
	check(err)

	// Both servers have an empty table at position 100, and a subscription from one to the other.
	const start cdc.LSN = 100
	shape := digest.Shape{Table: "public.orders", Columns: []digest.Column{{Name: "id", Class: digest.Int}}, Key: []int{0}}
	check(ledger.SetEpoch(cdc.Epoch{Table: 1, Number: 1, Shape: shape}, nil, "new"))
	for _, m := range []cdc.MemberID{primary, replica} {
		check(ledger.Unverify(m, cdc.Position{LSN: start, Shown: cdc.Everything(start)}, cdc.Server{SystemID: fmt.Sprint(m)}, "new"))
		progress(ledger, m, start)
		at := ledger.Wanted(m)[0].At
		ledger.Scanning(at)
		boundaries, _ := ledger.Freeze(at)
		check(ledger.Loaded(at, start, boundaries, align.NewSummer(boundaries).Sums()))
		_, err := ledger.Replay()
		check(err)
		progress(ledger, m, start)
	}

	tell := func() {
		check(ledger.Tick())
		m := ledger.Status(false)[1]
		fmt.Printf("%s: %d rows, %d differ\n", m.Name, m.Tables[0].Rows, m.Tables[0].DivergentKeys)
	}
	insert := func(m cdc.MemberID, lane string, row digest.Digest) {
		key, err := shape.ParseKey([]byte(`{"id":7}`))
		check(err)
		const end = start + 10
		check(ledger.Apply(m, cdc.Event{Position: end, Through: cdc.TxID{Seq: uint64(end)}, Transaction: &cdc.Transaction{
			ID: cdc.TxID{Seq: uint64(end)}, Lane: lane, Commit: end - 1, End: end,
			Changes: []cdc.Change{{Table: 1, Op: cdc.Insert, Epoch: 1, Key: key, Row: digest.Row{Digest: row}}},
		}}))
	}
	tell()
	insert(primary, "", digest.Digest{1})
	tell() // it has yet to come
	insert(replica, "pg_1", digest.Digest{2})
	tell()
	check(ledger.Flush())
	check(group.Commit()) // only now are the positions durable
	// Output:
	// us: 0 rows, 0 differ
	// us: 0 rows, 0 differ
	// us: 1 rows, 1 differ
}

// progress says how far the lane from primary to replica is, as servers do when they are asked.
func progress(l *align.Ledger, m cdc.MemberID, at cdc.LSN) {
	lanes := []cdc.Lane{{Name: "pg_1", Slot: "s", Enabled: true, Tables: map[string]string{"public.orders": ""}}}
	applied := map[string]cdc.TxSet{"pg_1": cdc.Everything(at)}
	check(l.Progress(m, time.Now(), cdc.Progress{Applied: applied, Lanes: lanes}, map[string]cdc.TxSet{"s": cdc.Everything(at)}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
