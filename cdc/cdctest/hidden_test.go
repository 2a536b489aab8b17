package cdctest

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

// reads returns how many rows of table a a reader sees.
func reads(t *testing.T, x *Source, p cdc.Part) (keys []int) {
	t.Helper()
	tables, err := x.Tables(t.Context(), func(name string) bool { return name == "a" })
	must(t, err)
	e := cdc.Epoch{Table: 1, Number: 1, Shape: digest.Shape{Columns: tables[0].Columns, Key: []int{0}}}
	_, err = x.Read(t.Context(), tables[0], e, p, func(k digest.Key, _ *digest.Row) error {
		n, err := number(e.Shape, k)
		keys = append(keys, n)
		return err
	})
	must(t, err)
	return keys
}

func inBubble(t *testing.T, test func(t *testing.T, author, follower *Server, lane string)) {
	for _, engine := range Engines {
		t.Run(string(engine), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := NewCluster(engine, 1)
				author, follower := c.Server("author"), c.Server("follower")
				author.CreateTable("a", Int("v"))
				follower.CreateTable("a", Int("v"))
				lane := cdc.GTIDLane
				if engine == Postgres {
					lane = follower.Subscribe(author, "sub", "a")
				} else {
					follower.Follow(author)
				}
				test(t, author, follower, lane)
			})
		})
	}
}

// As part_test.go of cdc/postgres and snapshot_test.go of cdc/mysql have it of servers.
func TestHiddenCommitIsOnFollowersBeforeReadersOfItsServerSeeIt(t *testing.T) {
	inBubble(t, func(t *testing.T, author, follower *Server, lane string) {
		x, y := author.Source(digest.NewHasher([32]byte{})), follower.Source(digest.NewHasher([32]byte{}))
		x.ScanOnly, y.ScanOnly = true, true
		author.Write(Put("a", 1, Row{"v": 1}))
		before, err := x.Visible(t.Context())
		must(t, err)
		id := author.WriteHidden(time.Second, Put("a", 1, Row{"v": 2}), Put("a", 2, Row{"v": 2}))
		if !author.Write(Put("a", 2, Row{"v": 3})).IsZero() {
			t.Error("a locked row is written to")
		}
		author.Write(Put("a", 3, Row{"v": 3}))
		for follower.Replay(lane, Rightly, rand.New(rand.NewPCG(1, 1))) {
		}
		after := []int{1} // in the order of the log
		if author.cluster.Engine == Postgres {
			after = []int{1, 3}
		}
		if got := reads(t, x, cdc.Part{}); !slices.Equal(got, after) {
			t.Errorf("readers of the author see %v, want %v", got, after)
		}
		if got := reads(t, y, cdc.Part{}); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("readers of the follower see %v", got)
		}
		visible, err := x.Visible(t.Context())
		must(t, err)
		if visible.Contains(id) || !visible.Covers(before) {
			t.Errorf("visible is %v, and was %v before", visible, before)
		}
		written, err := x.Written(t.Context())
		must(t, err)
		if written.Contains(id) == (author.cluster.Engine == MySQL) {
			t.Errorf("written is %v", written)
		}
		<-time.After(2 * time.Second)
		if got := reads(t, x, cdc.Part{}); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("readers of the author see %v in the end", got)
		}
		if visible, err = x.Visible(t.Context()); err != nil || !visible.Contains(id) {
			t.Errorf("visible is %v in the end, %v", visible, err)
		}
	})
}

func TestReadWaitsForWhatTheStreamHasShown(t *testing.T) {
	inBubble(t, func(t *testing.T, author, _ *Server, _ string) {
		x := author.Source(digest.NewHasher([32]byte{}))
		from, err := x.Prepare(t.Context(), cdc.Position{})
		must(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- x.Stream(ctx, from, func(cdc.Event) error { return nil }) }()
		author.WriteHidden(time.Minute/2, Put("a", 1, Row{"v": 1}))
		<-time.After(time.Second)
		began := time.Now()
		if got := reads(t, x, cdc.Part{}); !slices.Equal(got, []int{1}) {
			t.Errorf("it reads %v", got)
		}
		snapshot, err := x.Snapshot(t.Context())
		must(t, err)
		snapshot.Close()
		if waited := time.Since(began); waited < 20*time.Second {
			t.Errorf("it waited %v", waited)
		}
		author.WriteHidden(2*time.Minute, Put("a", 2, Row{"v": 1}))
		<-time.After(time.Second)
		if _, err := x.Snapshot(t.Context()); !errors.Is(err, errUnseen) {
			t.Errorf("a snapshot waits without end: %v", err)
		}
		author.Promote() // a restart
		if got := maps.Collect(maps.All(author.visibleRows(author.tables["a"]))); len(got) != 2 {
			t.Errorf("after a restart readers see %v", got)
		}
		cancel(nil)
		<-done
	})
}

func TestPartsFollowTheOrderOfTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T, author, _ *Server, _ string) {
		author.Sort("a", Descending)
		for _, key := range []int{1, 2, 4, 5} {
			author.Write(Put("a", key, Row{"v": 1}))
		}
		x := author.Source(digest.NewHasher([32]byte{}))
		x.ScanOnly = true
		shape := digest.Shape{Columns: []digest.Column{Int("id"), Int("v")}, Key: []int{0}}
		at := func(text string) digest.Key {
			k, err := shape.ParseKey([]byte(text))
			must(t, err)
			return k
		}
		if got := reads(t, x, cdc.Part{After: at(`{"id":5}`), Through: at(`{"id":3}`)}); !slices.Equal(got, []int{4}) {
			t.Errorf("after 5 and through 3 are %v", got)
		}
		if got := reads(t, x, cdc.Part{Limit: 3}); !slices.Equal(got, []int{5, 4, 2}) {
			t.Errorf("the first three are %v", got)
		}
	})
}
