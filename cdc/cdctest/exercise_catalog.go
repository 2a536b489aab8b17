package cdctest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

func identity(t *testing.T, s Subject) {
	author, follower := follow(t, s, s.Author), follow(t, s, s.Follower)
	ask := func(x *tail) cdc.Server {
		server, err := x.source.Server(bounded(t))
		must(t, err)
		return server
	}
	before, other := ask(author), ask(follower)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	author.reopen()
	if now := ask(author); now != before || now.SystemID == "" || now.Version == "" || now.Standby {
		t.Errorf("the server is %+v, and was %+v", now, before)
	}
	if other.SystemID == before.SystemID {
		t.Errorf("two servers are %+v", other)
	}
}

func beacon(t *testing.T, s Subject) {
	open := func(d Driver) cdc.Source {
		source, err := d.Open(digest.NewHasher([32]byte{}))
		must(t, err)
		t.Cleanup(source.Close)
		_, err = source.Server(bounded(t))
		must(t, err)
		return source
	}
	one, again, other := open(s.Author), open(s.Author), open(s.Follower)
	sees := func(source cdc.Source, b cdc.Beacon) bool {
		seen, err := source.Sees(bounded(t), b)
		must(t, err)
		return seen
	}
	light := func(source cdc.Source) (cdc.Beacon, func(context.Context) error) {
		b := cdc.NewBeacon()
		quench, err := source.Light(bounded(t), b)
		must(t, err)
		return b, quench
	}
	apart := func(a, b cdc.Source) bool {
		apart, err := cdc.Apart(bounded(t), a, b)
		must(t, err)
		return apart
	}
	lit, quench := light(one)
	unlit, second := light(other)
	for _, source := range []cdc.Source{one, again} {
		if !sees(source, lit) || sees(source, unlit) || sees(source, cdc.NewBeacon()) {
			t.Errorf("on the author are seen: its own %v, the follower's %v", sees(source, lit), sees(source, unlit))
		}
	}
	if sees(other, lit) || !sees(other, unlit) {
		t.Errorf("on the follower are seen: the author's %v, its own %v", sees(other, lit), sees(other, unlit))
	}
	must(t, second(bounded(t)))
	must(t, quench(bounded(t)))
	eventually(t, "a beacon to be gone that was quenched", func(ctx context.Context) (bool, error) {
		seen, err := again.Sees(ctx, lit)
		return !seen, err
	})
	lit, quench = light(one)
	must(t, s.Author.Cut(t.Context()))
	eventually(t, "a beacon to be gone whose connection was cut", func(ctx context.Context) (bool, error) {
		seen, err := again.Sees(ctx, lit)
		return !seen, err
	})
	if err := quench(bounded(t)); err == nil {
		t.Error("a beacon whose connection was cut burned until it was quenched")
	}
	if apart(one, again) || apart(one, one) || !apart(one, other) || !apart(other, again) {
		t.Error("servers are not told apart")
	}
}

func definition(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}))
	x.reopen()
	again := x.definitions()
	for _, name := range watched {
		table := x.tables[name]
		var columns []string
		for _, c := range table.Columns {
			columns = append(columns, c.Name)
			if wide := c.Name == "note" && s.Engine == Postgres; c.Wide != wide {
				t.Errorf("%s is wide: %v", c.Name, c.Wide)
			}
		}
		if !slices.Equal(columns, []string{"id", "note", "v"}) || !slices.Equal(table.Key, []string{"id"}) || table.Problem != "" || len(table.Leaves) == 0 {
			t.Errorf("%+v", table)
		}
		if table.Order != cdc.KeyOrder {
			t.Errorf("the order of %s is %v: a number orders as its key does", name, table.Order)
		}
		if now := again[name]; now.Version != table.Version || table.Version == "" || !slices.Equal(now.Columns, table.Columns) {
			t.Errorf("%+v was %+v", now, table)
		}
	}
	follower := follow(t, s, s.Follower)
	for _, name := range watched {
		for i, c := range follower.tables[name].Columns {
			if !c.Comparable(x.tables[name].Columns[i]) {
				t.Errorf("%+v of the follower is %+v of the author", c, x.tables[name].Columns[i])
			}
		}
	}
}

func gone(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	const never = "never.there"
	names := []string{never}
	for _, name := range watched {
		names = append(names, x.tables[name].Name)
	}
	if is, doubt, err := x.source.Gone(bounded(t), names); err != nil || doubt != "" || !slices.Equal(is, []string{never}) {
		t.Errorf("of %q, %q are gone (%q, %v)", names, is, doubt, err)
	}
}

// redefined first adds a column, which leaves rows readable by the columns that there were: PostgreSQL's parts are.
func redefined(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}), Put("b", 1, Row{"v": 1}))
	x.want("insert a 1; insert b 1")
	for i, change := range []func() error{
		func() error { return s.Author.AddColumn(t.Context(), "a", "extra") },
		func() error { return s.Author.DropColumn(t.Context(), "a", "v") },
	} {
		snapshot, err := x.source.Snapshot(bounded(t))
		must(t, err)
		defer snapshot.Close()
		must(t, change())
		part := func(name string) error {
			has := make(rows)
			_, err := x.source.Read(bounded(t), x.tables[name], x.epochs[name], cdc.Part{}, has.add(x.epochs[name].Table))
			if at := (place{1, string(keyOf(has))}); err == nil && name == "a" && i == 0 && has[at].Digest != x.rows[at].Digest {
				t.Error("the row is another one by the columns that it had")
			}
			return err
		}
		whole := func(name string) error {
			return snapshot.Rows(bounded(t), x.tables[name], x.epochs[name], make(rows).add(x.epochs[name].Table))
		}
		if part("a") == nil && (s.Engine != Postgres || i > 0) {
			t.Error("a part of a table is read by a definition that is no more")
		}
		if whole("a") == nil {
			t.Error("a table is read by a definition that is no more")
		}
		for _, err := range []error{part("b"), whole("b")} {
			if err != nil {
				t.Errorf("another table: %v", err)
			}
		}
		before := x.tables
		x.learn(uint32(2 + i))
		if x.tables["a"].Version == before["a"].Version || x.tables["b"].Version != before["b"].Version {
			t.Errorf("versions were %q, %q and are %q, %q", before["a"].Version, before["b"].Version, x.tables["a"].Version, x.tables["b"].Version)
		}
		x.read()
		if err := part("a"); err != nil {
			t.Errorf("by the new definition: %v", err)
		}
	}
}

// touched changes rows after the table's definition was changed. On PostgreSQL rows that have one more column are still
// decoded by the columns that there were.
func touched(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("a", 1, Row{"v": 1}), Put("b", 1, Row{"v": 1}))
	x.want("insert a 1; insert b 1")
	for i, change := range []func() error{
		func() error { return s.Author.AddColumn(t.Context(), "a", "extra") },
		func() error { return s.Author.DropColumn(t.Context(), "a", "v") },
	} {
		must(t, change())
		write(t, s.Author, Put("a", 1, Row{"note": 2 + i}), Put("b", 1, Row{"v": 2 + i}))
		changes := make(map[string]int)
		transactions := x.read()
		for _, tx := range transactions {
			for _, c := range tx.Changes {
				changes[x.name(c.Table)]++
			}
			for _, touched := range tx.Touched {
				changes["touched "+x.name(touched.Table)]++
				if touched.Reason == "" || x.name(touched.Table) == "b" {
					t.Errorf("touched %+v", touched)
				}
			}
		}
		fits := s.Engine == Postgres && i == 0
		if changes["b"] != 1 || (changes["a"] == 1) != fits || (changes["touched a"] > 0) == fits {
			t.Errorf("%q", x.script(transactions))
		}
		x.learn(uint32(2 + i))
		has := make(rows) // as the ledger does, which reads the table anew
		_, err := x.source.Read(bounded(t), x.tables["a"], x.epochs["a"], cdc.Part{}, has.add(1))
		must(t, err)
		maps.Copy(x.rows, has)
		write(t, s.Author, Put("a", 1, Row{"note": 10 + i}))
		transactions = x.want("update a 1")
		if e := transactions[0].Changes[0].Epoch; e != uint32(2+i) {
			t.Errorf("a change of epoch %d, want %d", e, 2+i)
		}
		x.same()
	}
}

func keyOf(r rows) digest.Key {
	for at := range r {
		return digest.Key(at.key)
	}
	return nil
}

func untold(t *testing.T, s Subject) {
	x := follow(t, s, s.Author)
	write(t, s.Author, Put("elsewhere", 1, Row{"v": 1}), Put("a", 1, Row{"v": 1}))
	transactions := x.read()
	if len(transactions) != 1 || len(transactions[0].Changes) != 1 || x.line(transactions[0].Changes[0]) != "insert a 1" {
		t.Fatalf("%q", x.script(transactions))
	}
	for _, touched := range transactions[0].Touched {
		if touched.Table != 0 {
			t.Errorf("touched %+v", touched)
		}
	}
	e := x.epochs["b"] // known, and not yet to be decoded
	e.Shape, e.Number = digest.Shape{Table: e.Shape.Table}, 0
	x.source.SetEpoch(x.tables["b"], e)
	write(t, s.Author, Put("b", 1, Row{"v": 1}), Put("a", 2, Row{"v": 1}))
	x.want("insert a 2; touched b")
}
