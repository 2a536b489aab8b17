package cdctest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
)

func order(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}), Put("b", 1, Row{"v": 1}), Put("a", 2, Row{"v": 2, "note": 2}))
	write(t, s.Author, Put("a", 1, Row{"v": 3}), Put("a", 1, Row{"v": 4}), Delete("b", 1))
	write(t, s.Author, Delete("a", 1), Put("a", 1, Row{"v": 5}))
	write(t, s.Author, Put("a", 7, Row{"v": 6}), Delete("a", 7))
	transactions := x.want("insert a 1; insert b 1; insert a 2", "update a 1; update a 1; delete b 1", "delete a 1; insert a 1", "insert a 7; delete a 7")
	for i, tx := range transactions {
		if i > 0 && tx.Commit < transactions[i-1].End {
			t.Errorf("%+v is not after %+v", tx, transactions[i-1])
		}
		if s.Engine == Postgres && (tx.Lane != "" || tx.ID.Seq != uint64(tx.End)) {
			t.Errorf("%+v was first written here", tx)
		}
		for _, c := range tx.Changes {
			if want := s.Engine != Postgres; c.HasBefore != want {
				t.Errorf("%s has a before-image: %v", x.line(c), c.HasBefore)
			}
		}
	}
	x.same()
}

func forms(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}), Put("a", 2, Row{"note": 2}), Put("a", 3, Row{}), Put("a", -4, Row{"v": -4, "note": 0}))
	x.read()
	x.same()
	write(t, s.Author, Put("a", 3, Row{"v": 1 << 30, "note": 3}), Put("a", 1, Row{"note": 1}), Delete("a", 2))
	x.read()
	x.same()
	write(t, s.Author, Put("a", 3, Row{"note": 3}))
	if s.Engine == Postgres { // the log has that it was written; the others' have what changed
		x.want("update a 3")
	} else {
		x.want()
	}
	x.same()
	if len(x.rows) != 3 {
		t.Errorf("%d rows, want 3", len(x.rows))
	}
}

func partial(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1, "note": 1}))
	write(t, s.Author, Put("a", 1, Row{"v": 2}))
	write(t, s.Author, Put("a", 1, Row{"v": 3}), Put("a", 1, Row{"note": 2}), Put("a", 1, Row{"v": 4}))
	write(t, s.Author, Move("a", 1, 2, Row{"v": 5}))
	for _, tx := range x.want("insert a 1", "update a 1", "update a 1; update a 1; update a 1", "update a 2 was 1")[1:] {
		for i, c := range tx.Changes {
			leavesOut := s.Engine == Postgres && !(len(tx.Changes) == 3 && i == 1)
			if got := c.Row.Partial != nil; got != leavesOut {
				t.Errorf("%s leaves something out: %v", x.line(c), got)
			}
		}
	}
	x.same()
}

// moved has rows trade places, by way of a key that is free.
func moved(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1, "note": 1}), Put("a", 2, Row{"v": 2, "note": 2}))
	write(t, s.Author, Move("a", 1, 3, nil))
	write(t, s.Author, Move("a", 3, 9, Row{"v": 7}), Move("a", 2, 3, nil), Move("a", 9, 2, nil))
	x.want("insert a 1; insert a 2", "update a 3 was 1", "update a 9 was 3; update a 3 was 2; update a 2 was 9")
	x.same()
}

func truncated(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}), Put("a", 2, Row{"v": 2}), Put("b", 1, Row{"v": 1}))
	write(t, s.Author, Truncate("a"))
	write(t, s.Author, Truncate("a"))
	write(t, s.Author, Put("a", 2, Row{"v": 3}))
	transactions := x.want("insert a 1; insert a 2; insert b 1", "truncate a", "truncate a", "insert a 2")
	if c := transactions[1].Changes[0]; c.Key != nil || c.OldKey != nil || c.Row.Digest != (cdc.Change{}).Row.Digest || c.HasBefore {
		t.Errorf("%+v", c)
	}
	x.same()
}

func firstStart(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	before := x.want("insert a 1")
	x.reopen()
	start, err := x.source.Prepare(bounded(t), cdc.Position{})
	must(t, err)
	if !start.Shown.Contains(before[0].ID) {
		t.Errorf("%v is not in %v", before[0].ID, start.Shown)
	}
	if s.Engine == MariaDB && start.Last.IsZero() {
		t.Error("MariaDB's position has no last ids")
	}
	x.at = start.Clone()
	write(t, s.Author, Put("a", 2, Row{"v": 1}))
	after := x.want("insert a 2")
	if start.Shown.Contains(after[0].ID) {
		t.Errorf("%v is in %v already", after[0].ID, start.Shown)
	}
	x.same()
}

func keepalive(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	before := x.at.LSN
	must(t, s.Author.Noise(t.Context()))
	p, err := x.source.Progress(bounded(t))
	must(t, err)
	if p.Barrier <= before {
		t.Fatalf("the log ends at %v, as it did", p.Barrier)
	}
	transactions, err := x.readTo(p.Barrier)
	must(t, err)
	for _, tx := range transactions {
		if len(tx.Changes) > 0 {
			t.Errorf("%q", x.script([]*cdc.Transaction{tx}))
		}
	}
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	x.want("insert a 1")
}

// resume goes on from each position in turn, with a new source each time.
func resume(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	first, positions := x.at.Clone(), []cdc.Position{x.at.Clone()}
	for i := range 5 {
		write(t, s.Author, Put("a", i, Row{"v": i}), Put("b", i, Row{"v": i}))
		if i == 2 {
			must(t, s.Author.Noise(t.Context()))
		}
	}
	events := len(x.events)
	x.read()
	at := first
	for _, e := range x.events[events:] {
		at.Pass(e)
		positions = append(positions, at.Clone())
	}
	all := transactionsOf(x.events[events:])
	for _, from := range positions {
		x.reopen()
		x.at, x.rows = from.Clone(), make(rows)
		for _, tx := range all {
			if tx.End <= from.LSN {
				for _, c := range tx.Changes {
					must(t, x.rows.apply(c, true))
				}
			}
		}
		var want []*cdc.Transaction
		for _, tx := range all {
			if tx.End > from.LSN {
				want = append(want, tx)
			}
		}
		if got, want := x.script(x.read()), x.script(want); !slices.Equal(got, want) {
			t.Errorf("after %v: %q, want %q", from.LSN, got, want)
		}
	}
	x.begin().same()
}

func transactionsOf(events []cdc.Event) (all []*cdc.Transaction) {
	for _, e := range events {
		if e.Transaction != nil {
			all = append(all, e.Transaction)
		}
	}
	return all
}

func cut(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	var want []string
	events := len(x.events)
	for round := range 3 {
		for i := range 5 {
			key := 10*round + i
			write(t, s.Author, Put("a", key, Row{"v": i, "note": i}), Put("b", key, Row{"v": i}))
			want = append(want, fmt.Sprintf("insert a %d; insert b %d", key, key))
		}
		ctx, taken := bounded(t), 0
		x.rest()
		from, err := x.source.Prepare(ctx, x.at)
		must(t, err)
		err = x.source.Stream(ctx, from, func(e cdc.Event) error {
			x.take(e)
			if taken++; taken == 2 {
				return s.Author.Cut(ctx)
			}
			return nil
		})
		if err == nil || ctx.Err() != nil || cdc.IsGap(err) || cdc.IsSetup(err) {
			t.Fatalf("the stream ended with: %v", err)
		}
		if round == 1 {
			x.reopen()
		}
	}
	x.read()
	if got := x.script(transactionsOf(x.events[events:])); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	x.same()
}

func durable(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	x.want("insert a 1")
	before := x.at.Clone()
	write(t, s.Author, Put("a", 2, Row{"v": 1}))
	x.want("insert a 2")
	safe, then := x.at.Clone(), maps.Clone(x.rows)
	write(t, s.Author, Put("a", 3, Row{"v": 1}), Put("b", 3, Row{"v": 1}))
	x.source.Durable(safe.LSN)
	x.want("insert a 3; insert b 3")
	must(t, s.Author.Cut(t.Context()))
	x.reopen()
	x.at, x.rows = safe, then
	x.want("insert a 3; insert b 3")
	x.same()
	if s.Engine != Postgres {
		return
	}
	x.reopen()
	if _, err := x.source.Prepare(bounded(t), before); !cdc.IsGap(err) {
		t.Errorf("what was said to be durable is asked for, and the answer is %v", err)
	}
}

func gap(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	x.want("insert a 1")
	x.close()
	write(t, s.Author, Put("a", 2, Row{"v": 2}))
	must(t, s.CaughtUp(t.Context()))
	must(t, s.Author.GiveUp(t.Context()))
	write(t, s.Author, Put("a", 3, Row{"v": 3}))
	x.reopen()
	// MariaDB knows it only when it looks for the place.
	if _, err := x.source.Prepare(bounded(t), x.at); !cdc.IsGap(err) && (err != nil || s.Engine != MariaDB) {
		t.Errorf("prepared with: %v", err)
	}
	err := x.source.Stream(bounded(t), x.at, func(e cdc.Event) error {
		if e.Transaction != nil {
			t.Errorf("%+v is shown after a gap", e)
		}
		return nil
	})
	if !cdc.IsGap(err) {
		t.Errorf("streamed with: %v", err)
	}
	start, err := x.source.Prepare(bounded(t), cdc.Position{})
	must(t, err)
	x.at = start
	write(t, s.Author, Put("a", 4, Row{"v": 4}))
	x.want("insert a 4")
}

func backpressure(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	for i := range 3 {
		write(t, s.Author, Put("a", i, Row{"v": i}))
	}
	x.rest()
	entered, release := make(chan struct{}, 10), make(chan struct{})
	ended := make(chan error, 1)
	ctx := bounded(t)
	errFull := errors.New("full")
	go func() {
		ended <- x.source.Stream(ctx, x.at, func(cdc.Event) error {
			entered <- struct{}{}
			<-release
			return errFull
		})
	}()
	<-entered
	if _, err := x.source.Progress(ctx); err != nil {
		t.Errorf("while the receiver is busy: %v", err)
	}
	x.source.SetEpoch(x.tables["a"], x.epochs["a"])
	if _, err := x.source.Read(ctx, x.tables["a"], x.epochs["a"], cdc.Part{}, make(rows).add(1)); err != nil {
		t.Errorf("while the receiver is busy: %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the stream ended while its receiver was busy: %v", err)
	default:
	}
	close(release)
	if err := <-ended; !errors.Is(err, errFull) {
		t.Errorf("the stream ended with %v", err)
	}
	if len(entered) != 0 {
		t.Error("the receiver was called again after its error")
	}
}

func canceled(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	x.want("insert a 1")
	x.rest()
	snapshot, err := x.source.Snapshot(bounded(t))
	must(t, err)
	defer snapshot.Close()
	ctx, cancel := context.WithCancel(t.Context())
	streamed := make(chan error, 1)
	began := make(chan struct{}, 100)
	go func() {
		streamed <- x.source.Stream(ctx, x.at, func(cdc.Event) error { began <- struct{}{}; return nil })
	}()
	must(t, s.Author.Noise(t.Context()))
	<-began
	cancel()
	if err := <-streamed; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
	member := x.source.(cdc.Member)
	for name, call := range map[string]func() error{
		"Server":    func() error { _, err := x.source.Server(ctx); return err },
		"Tables":    func() error { _, err := x.source.Tables(ctx, func(string) bool { return true }); return err },
		"Progress":  func() error { _, err := x.source.Progress(ctx); return err },
		"Confirmed": func() error { _, err := x.source.Confirmed(ctx); return err },
		"Prepare":   func() error { _, err := x.source.Prepare(ctx, x.at); return err },
		"Snapshot":  func() error { _, err := x.source.Snapshot(ctx); return err },
		"Rows":      func() error { return snapshot.Rows(ctx, x.tables["a"], x.epochs["a"], make(rows).add(1)) },
		"Read": func() error {
			_, err := x.source.Read(ctx, x.tables["a"], x.epochs["a"], cdc.Part{}, make(rows).add(1))
			return err
		},
		"Written": func() error { _, err := member.Written(ctx); return err },
		"Visible": func() error { _, err := member.Visible(ctx); return err },
		"Stream":  func() error { return x.source.Stream(ctx, x.at, func(cdc.Event) error { return nil }) },
	} {
		if err := call(); err == nil || cdc.IsGap(err) || cdc.IsSetup(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := x.source.Server(bounded(t)); err != nil {
		t.Errorf("after a call that was ended: %v", err)
	}
	x.read()
	x.same()
}
