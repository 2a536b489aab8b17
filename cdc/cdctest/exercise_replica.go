package cdctest

import (
	"context"
	"slices"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// pair reads both servers' logs.
func pair(t *testing.T, s Subject) (author, follower *tail) {
	t.Helper()
	must(t, s.CaughtUp(t.Context()))
	return follow(t, s, s.Author), follow(t, s, s.Follower)
}

func (x *tail) progress() cdc.Progress {
	x.t.Helper()
	p, err := x.source.Progress(bounded(x.t))
	must(x.t, err)
	return p
}

func laneNames(p cdc.Progress) (names []string) {
	for _, l := range p.Lanes {
		names = append(names, l.Name)
	}
	return names
}

func replayed(t *testing.T, s Subject) {
	author, follower := pair(t, s)
	write(t, s.Author, Put("a", 1, Row{"v": 1, "note": 1}), Put("b", 1, Row{"v": 1}), Put("a", 2, Row{"v": 2, "note": 2}))
	write(t, s.Author, Put("a", 1, Row{"v": 3}), Move("a", 2, 3, nil), Delete("b", 1))
	write(t, s.Author, Truncate("b"))
	write(t, s.Author, Put("b", 1, Row{"note": 2}))
	must(t, s.CaughtUp(t.Context()))
	theirs, mine := author.read(), follower.read()
	if a, b := author.script(theirs), follower.script(mine); !slices.Equal(a, b) || len(a) != 4 {
		t.Fatalf("the author shows %q, the follower %q", a, b)
	}
	lanes := laneNames(follower.progress())
	for i, tx := range mine {
		if tx.ID != theirs[i].ID || !tx.CommitTime.Equal(theirs[i].CommitTime) {
			t.Errorf("%v of %v is %v of %v on the follower", theirs[i].ID, theirs[i].CommitTime, tx.ID, tx.CommitTime)
		}
		if !slices.Contains(lanes, tx.Lane) || len(lanes) != 1 {
			t.Errorf("%v came by %q, of %q", tx.ID, tx.Lane, lanes)
		}
	}
	author.same()
	follower.same()
	if diff := author.rows.diff(follower.rows); diff != "" {
		t.Errorf("author and follower differ: %s", diff)
	}
}

func errant(t *testing.T, s Subject) {
	author, follower := pair(t, s)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	must(t, s.CaughtUp(t.Context()))
	author.want("insert a 1")
	follower.want("insert a 1")
	before := follower.progress()
	write(t, s.Follower, Put("a", 2, Row{"v": 1}))
	tx := follower.want("insert a 2")[0]
	after := follower.progress()
	if s.Engine == Postgres {
		if tx.Lane != "" || tx.ID.Seq != uint64(tx.End) {
			t.Errorf("%+v", tx)
		}
		return
	}
	if author.at.Shown.Contains(tx.ID) || before.Applied[tx.Lane].Contains(tx.ID) || !after.Applied[tx.Lane].Contains(tx.ID) {
		t.Errorf("%v is in %v of the author; it was not in %v, and is in %v", tx.ID, author.at.Shown, before.Applied, after.Applied)
	}
	write(t, s.Author, Put("a", 3, Row{"v": 1}))
	must(t, s.CaughtUp(t.Context()))
	if other := author.want("insert a 3")[0]; other.ID == tx.ID {
		t.Errorf("two transactions are %v", tx.ID)
	}
}

func stopped(t *testing.T, s Subject) {
	author, follower := pair(t, s)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	must(t, s.CaughtUp(t.Context()))
	author.want("insert a 1")
	follower.want("insert a 1")
	must(t, s.Replicate(t.Context(), false))
	eventually(t, "the lane to be stopped", func(ctx context.Context) (bool, error) {
		p, err := follower.source.Progress(ctx)
		return err == nil && len(p.Lanes) == 1 && !p.Lanes[0].Enabled, err
	})
	write(t, s.Author, Put("a", 2, Row{"v": 1}))
	inFlight := author.want("insert a 2")[0].ID
	p := follower.progress()
	if p.Applied[p.Lanes[0].Name].Contains(inFlight) {
		t.Errorf("%v is in flight, and in %v", inFlight, p.Applied)
	}
	follower.want()
	must(t, s.Replicate(t.Context(), true))
	must(t, s.CaughtUp(t.Context()))
	if got := follower.want("insert a 2")[0].ID; got != inFlight {
		t.Errorf("%v came as %v", inFlight, got)
	}
	p = follower.progress()
	if !p.Applied[p.Lanes[0].Name].Contains(inFlight) || !p.Lanes[0].Enabled || p.Lanes[0].Problem != "" {
		t.Errorf("%v is replayed, and the follower says %+v", inFlight, p)
	}
	for _, name := range watched {
		if hold, carried := p.Lanes[0].Tables[s.Follower.Name(name)]; !carried || hold != "" {
			t.Errorf("%s is not brought by %+v", name, p.Lanes[0])
		}
	}
}

// barrier asks for progress while transactions are replayed.
func barrier(t *testing.T, s Subject) {
	author, follower := pair(t, s)
	write(t, s.Author, Put("a", 1000, Row{"v": 1}))
	must(t, s.CaughtUp(t.Context()))
	stop := writing(t, s.Author)
	var asked []cdc.Progress
	shown := make(map[cdc.LSN]map[cdc.TxID]bool)
	all := make(map[cdc.TxID]bool)
	for range 6 {
		p := follower.progress()
		transactions, err := follower.readTo(p.Barrier)
		must(t, err)
		for _, tx := range transactions {
			if tx.Lane != "" {
				all[tx.ID] = true
			}
		}
		shown[p.Barrier] = make(map[cdc.TxID]bool)
		for id := range all {
			shown[p.Barrier][id] = true
		}
		asked = append(asked, p)
	}
	stop()
	must(t, s.CaughtUp(t.Context()))
	asked = append(asked, follower.progress())
	for _, tx := range follower.read() {
		all[tx.ID] = true
	}
	shown[asked[len(asked)-1].Barrier] = all
	counted := 0
	for _, tx := range author.read() {
		for _, p := range asked {
			if !p.Applied[p.Lanes[0].Name].Contains(tx.ID) {
				continue
			}
			if counted++; !shown[p.Barrier][tx.ID] {
				t.Errorf("%v is counted as replayed, and is not in the stream up to %v", tx.ID, p.Barrier)
			}
		}
	}
	if counted == 0 {
		t.Error("nothing was counted as replayed")
	}
	if diff := author.rows.diff(follower.rows); diff != "" {
		t.Errorf("author and follower differ: %s", diff)
	}
}

func confirmed(t *testing.T, s Subject) {
	author, follower := pair(t, s)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	must(t, s.CaughtUp(t.Context()))
	id := author.want("insert a 1")[0].ID
	p := follower.progress()
	if len(p.Lanes) != 1 || p.Lanes[0].Title == "" {
		t.Fatalf("%+v", p)
	}
	eventually(t, "the author to know what its follower has", func(ctx context.Context) (bool, error) {
		slots, err := author.source.Confirmed(ctx)
		has, known := slots[p.Lanes[0].Slot]
		if err == nil && !known {
			t.Fatalf("the lane reads by %q, the author has %v", p.Lanes[0].Slot, slots)
		}
		return s.Engine != Postgres || has.Contains(id), err
	})
	said := author.progress()
	lanes := said.Lanes
	if s.Engine != Postgres { // where it has one, by which nothing comes
		if said.Self != id.Author() || len(said.Follows) > 0 || !slices.Equal(p.Follows, []string{said.Self}) {
			t.Errorf("the author of %v is %q and follows %q, its follower follows %q", id, said.Self, said.Follows, p.Follows)
		}
		lanes = slices.DeleteFunc(lanes, func(ln cdc.Lane) bool {
			return ln.Name == cdc.GTIDLane && ln.Slot == "" && !ln.Enabled && ln.Problem != ""
		})
	}
	if len(lanes) != 0 {
		t.Errorf("the author has lanes: %+v", lanes)
	}
}

func written(t *testing.T, s Subject) {
	author, follower := pair(t, s)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	must(t, s.CaughtUp(t.Context()))
	author.read()
	follower.read()
	for _, x := range []*tail{author, follower} {
		tx := transactionsOf(x.events)[0]
		id := tx.ID
		if s.Engine == Postgres {
			id.Seq = uint64(tx.End) // both are in terms of the member's own log
		}
		member := x.source.(cdc.Member)
		has, err := member.Written(bounded(t))
		must(t, err)
		if !has.Contains(id) {
			t.Errorf("%v is in the log, and not in %v", id, has)
		}
		eventually(t, "a transaction to be visible", func(ctx context.Context) (bool, error) {
			shows, err := member.Visible(ctx)
			return shows.Contains(id), err
		})
	}
}
