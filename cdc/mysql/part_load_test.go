package mysql

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestPartsAgreeWithTheStream(t *testing.T) { partsAgree(t) }

func TestSoakOfPartsAgreeWithTheStream(t *testing.T) {
	if !soak {
		t.Skip("make soak runs it: it takes minutes")
	}
	for n := range 25 {
		t.Run(fmt.Sprint(n), partsAgree)
	}
}

// soak is set for runs of hours.
var soak = dbtest.Soaking()

// rounds is how often something is done while others write: a sixth of n, unless there is time for all.
func rounds(n int) int {
	if soak {
		return n
	}
	return (n + 5) / 6
}

func partsAgree(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"a part shows what is before its cut and nothing after it has settled": partsDivide,
		"so it does of distributed transactions":                               partsDivideXA,
		"so does a snapshot":                                                   snapshotsDivideXA,
		"a part is of one moment":                                              oneMoment,
		"a part brought up to date is that part of the table":                  partsUpToDate,
		"so it is of a table that no view shows":                               partsUpToDateMyISAM,
		"pages in the server's order hold each row that stays":                 pagesUnderLoad,
	})
}

// seen is what was read, and in which view.
type seen struct {
	cdc.Part
	cdc.View
	rows state
	last digest.Key // that came
	full bool       // as many rows came as were asked for
}

// read reads a part of the follower's table.
func (f *follower) read(p cdc.Part) seen {
	f.t.Helper()
	s := seen{Part: p, rows: state{}}
	shown := f.streamed().position.LSN
	var err error
	s.View, err = f.Read(f.t.Context(), f.table, f.epoch, p, func(k digest.Key, r *digest.Row) error {
		if _, twice := s.rows[string(k)]; twice {
			f.t.Errorf("key %x comes twice", k)
		}
		s.rows[string(k)], s.last = r.Digest, slices.Clone(k)
		return nil
	})
	if err != nil {
		f.t.Error(err)
	}
	s.full = p.Limit > 0 && len(s.rows) == p.Limit
	if s.Cut < shown || s.Settled < s.Cut {
		f.t.Errorf("a view from %v to %v of what is shown up to %v", s.Cut, s.Settled, shown)
	}
	return s
}

// checkDivided holds reads of the last rows against transactions that insert rows.
func (f *follower) checkDivided(reads []seen) {
	f.t.Helper()
	transactions := f.all()
	for _, s := range reads {
		before, after := 0, 0
		for _, transaction := range transactions {
			for _, c := range transaction.Changes {
				if c.Key.Compare(s.After) <= 0 {
					continue
				}
				_, has := s.rows[string(c.Key)]
				if transaction.Commit < s.Cut && !has {
					before++
				}
				if transaction.Commit >= s.Settled && has {
					after++
				}
			}
		}
		if before+after > 0 {
			f.t.Errorf("of a view from %v to %v, %d rows before it are missing, and %d are there that were written after it", s.Cut, s.Settled, before, after)
		}
	}
	if len(transactions) < 100 {
		f.t.Errorf("only %d transactions were written", len(transactions))
	}
}

func partsDivide(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.parted (k int PRIMARY KEY, n int)")
	f, in := follow(t, server, "app", "parted"), &inserts{table: "parted"}
	var reads []seen
	while(t, server, 4, in.pair, func() {
		for range rounds(40) {
			reads = append(reads, f.read(in.lastRows(f)))
		}
	})
	f.checkDivided(reads)
}

// partsDivideXA is about views that are taken while XA COMMIT is in the log and its rows cannot be seen yet, as MariaDB has
// it: a place of a consistent view behind XA COMMIT does not mean that the view shows it.
func partsDivideXA(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.distributed (k int PRIMARY KEY, n int)")
	f, in := follow(t, server, "app", "distributed"), &inserts{table: "distributed"}
	var reads []seen
	while(t, server, 4, in.ofAllKinds, func() {
		for range rounds(150) {
			reads = append(reads, f.read(in.lastRows(f)))
		}
	})
	f.checkDivided(reads)
}

// inserts are transactions of two rows each, whose keys ascend. So what is new is in one small part, however much there is.
type inserts struct {
	table string
	rows  atomic.Int64
}

// lastRows is a part that has what is written from now on, and what may not have ended yet.
func (in *inserts) lastRows(f *follower) cdc.Part {
	return cdc.Part{After: keyOf(f.t, f.table, fmt.Sprintf(`{"k":%d}`, in.rows.Load()-400))}
}

func (in *inserts) pair(writer, n int) string {
	k := in.rows.Add(2)
	return fmt.Sprintf("INSERT INTO app.%s VALUES (%d, 1), (%d, 1)", in.table, k, k+1)
}

// ofAllKinds has two of four writers write distributed transactions.
func (in *inserts) ofAllKinds(writer, n int) string {
	switch {
	case writer < 2 && n%2 == 1:
		return "DO SLEEP(0.002)" // others are to come between
	case writer < 2:
		return in.pair(writer, n)
	}
	xid := fmt.Sprintf("'%s %d', '%d'", in.table, writer, n/5)
	switch n % 5 {
	case 0:
		return "XA START " + xid
	case 1:
		return in.pair(writer, n)
	}
	return []string{"XA END ", "XA PREPARE ", "XA COMMIT "}[n%5-2] + xid
}

func snapshotsDivideXA(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.distributed_too (k int PRIMARY KEY, n int)")
	f, in := follow(t, server, "app", "distributed_too"), &inserts{table: "distributed_too"}
	var reads []seen
	while(t, server, 4, in.ofAllKinds, func() {
		for range rounds(60) {
			s := f.scan()
			reads = append(reads, seen{View: cdc.View{Cut: s.cut, Settled: s.settled}, rows: s.state})
		}
	})
	f.checkDivided(reads)
}

// oneMoment has transactions that change two rows far apart.
func oneMoment(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.twins (k int PRIMARY KEY, n int)", "INSERT INTO app.twins SELECT n, 0 FROM ("+counted(200)+") c")
	f := follow(t, server, "app", "twins")
	var reads []seen
	while(t, server, 3, func(writer, n int) string {
		return fmt.Sprintf("UPDATE app.twins SET n = %d WHERE k IN (%d, %d)", 3*n+writer, writer, 180+writer)
	}, func() {
		for i := range rounds(60) {
			p := cdc.Part{}
			if i%2 == 1 {
				for _, k := range []int{0, 1, 2, 180, 181, 182} {
					p.Keys = append(p.Keys, keyOf(t, f.table, fmt.Sprintf(`{"k":%d}`, k)))
				}
			}
			reads = append(reads, f.read(p))
		}
	})
	wrote := map[string]cdc.TxID{} // by key and digest
	for _, transaction := range f.all() {
		for _, c := range transaction.Changes {
			wrote[string(c.Key)+string(c.Row.Digest[:])] = transaction.ID
		}
	}
	for _, s := range reads {
		for writer := range 3 {
			var by []cdc.TxID
			for _, k := range []int{writer, 180 + writer} {
				key := keyOf(t, f.table, fmt.Sprintf(`{"k":%d}`, k))
				d, has := s.rows[string(key)]
				if !has {
					t.Fatalf("row %d is missing", k)
				}
				by = append(by, wrote[string(key)+string(d[:])])
			}
			if by[0] != by[1] {
				t.Errorf("a part shows what %v did to one row, and %v to the other", by[0], by[1])
			}
		}
	}
	if len(wrote) < 100 {
		t.Errorf("only %d changes", len(wrote))
	}
}

func partsUpToDate(t *testing.T, server *dbtest.MySQLServer) {
	partsBroughtUpToDate(t, server, "parts", "InnoDB")
}

func partsUpToDateMyISAM(t *testing.T, server *dbtest.MySQLServer) {
	partsBroughtUpToDate(t, server, "parts_isam", "MyISAM")
}

// partsBroughtUpToDate has rows inserted, updated, deleted and moved, within parts and from one to another, while parts and
// certain keys are read. Each read, with all changes in its part from its cut on, must be what that part is in the end.
func partsBroughtUpToDate(t *testing.T, server *dbtest.MySQLServer, name, engine string) {
	run(t, server, fmt.Sprintf("CREATE TABLE app.%s (i int, j varbinary(5), n int, PRIMARY KEY (i, j)) ENGINE = %s", name, engine))
	f := follow(t, server, "app", name)
	if f.table.Order != cdc.KeyOrder {
		t.Fatalf("order %v", f.table.Order)
	}
	key := func() digest.Key {
		return keyOf(t, f.table, fmt.Sprintf(`{"i":%d,"j":"\\x%x"}`, rand.IntN(60), []string{"a", "b", ""}[rand.IntN(3)]))
	}
	var reads []seen
	while(t, server, 3, func(writer, n int) string { return moves(name, n) }, func() {
		for i := range rounds(90) {
			p := cdc.Part{After: key(), Through: key()}
			switch i % 3 {
			case 1:
				p.Limit = 1 + rand.IntN(20)
			case 2:
				p = cdc.Part{Keys: []digest.Key{key(), key(), key(), key(), key()}}
			}
			reads = append(reads, f.read(p))
		}
	})
	transactions, want := f.all(), f.read(cdc.Part{}).rows
	for _, s := range reads {
		for _, transaction := range transactions {
			for _, c := range transaction.Changes {
				if transaction.Commit >= s.Cut {
					s.rows.apply(c)
				}
			}
		}
		if diff := cmp.Diff(s.within(want), s.within(s.rows)); diff != "" {
			t.Errorf("a part from %v to %v, brought up to date: %s", s.Cut, s.Settled, diff)
		}
	}
	if len(want) < 10 || len(transactions) < 100 {
		t.Errorf("%d rows after %d transactions", len(want), len(transactions))
	}
}

// within leaves of a table only what belongs to the part that was read. One with fewer rows than its limit was read to its
// end.
func (s seen) within(rows state) state {
	through := s.Through
	if s.full {
		through = s.last
	}
	got := state{}
	for k, d := range rows {
		key := digest.Key(k)
		switch {
		case s.Keys != nil && !slices.ContainsFunc(s.Keys, func(o digest.Key) bool { return o.Compare(key) == 0 }):
		case s.Keys == nil && (s.After != nil && key.Compare(s.After) <= 0 || through != nil && key.Compare(through) > 0):
		default:
			got[k] = d
		}
	}
	return got
}

// moves is a statement that does something to a few of the rows.
func moves(name string, n int) string {
	at := func() string {
		return fmt.Sprintf("i = %d AND j = '%s'", rand.IntN(60), []string{"a", "b", ""}[rand.IntN(3)])
	}
	switch rand.IntN(4) {
	case 0:
		return fmt.Sprintf("REPLACE INTO app.%s VALUES (%d, '%s', %d)", name, rand.IntN(60), []string{"a", "b", ""}[rand.IntN(3)], n)
	case 1:
		return fmt.Sprintf("UPDATE app.%s SET n = n + 1 WHERE %s", name, at())
	case 2:
		return fmt.Sprintf("DELETE FROM app.%s WHERE %s", name, at())
	}
	return fmt.Sprintf("UPDATE IGNORE app.%s SET i = %d, j = '%s' WHERE %s", name, rand.IntN(60), []string{"a", "b", ""}[rand.IntN(3)], at())
}

// pagesUnderLoad reads a table whose order only the server knows, page by page, while half of its rows come, go and move
// across the borders of pages. Those that stay must come once.
func pagesUnderLoad(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.restless (k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n int)")
	const letters = "aBcDeFgHiJ"
	staying := rounds(180)
	for i := range staying {
		run(t, server, fmt.Sprintf("INSERT INTO app.restless VALUES ('%cé%d stays', 0), ('%cE%d moves', 0)", letters[i%10], i, letters[i%10], i))
	}
	f := follow(t, server, "app", "restless")
	if f.table.Order != cdc.ServerOrder {
		t.Fatalf("order %v", f.table.Order)
	}
	while(t, server, 3, func(writer, n int) string {
		i, to := rand.IntN(staying), letters[rand.IntN(10)]
		switch rand.IntN(3) {
		case 0:
			return fmt.Sprintf("DELETE FROM app.restless WHERE k LIKE '_E%d moves'", i)
		case 1:
			return fmt.Sprintf("INSERT IGNORE INTO app.restless VALUES ('%cE%d moves', 1)", to, i)
		}
		return fmt.Sprintf("UPDATE IGNORE app.restless SET k = '%cE%d moves' WHERE k LIKE '_E%d moves'", to, i, i)
	}, func() {
		for size := 1; size <= 7; size += 2 {
			f.restful(size, staying)
		}
	})
}

// restful reads the table of pagesUnderLoad once.
func (f *follower) restful(size, rows int) {
	f.t.Helper()
	staying := map[string]int{}
	var after digest.Key
	for {
		n := 0
		_, err := f.Read(f.t.Context(), f.table, f.epoch, cdc.Part{After: after, Limit: size}, func(k digest.Key, _ *digest.Row) error {
			n++
			after = slices.Clone(k)
			text, err := f.epoch.Shape.KeyJSON(k)
			if key := string(text); len(key) > 8 && key[len(key)-7:] == `stays"}` {
				staying[key]++
			}
			return err
		})
		if err != nil {
			f.t.Error(err)
			return
		}
		if n < size {
			break
		}
	}
	for key, times := range staying {
		if times != 1 {
			f.t.Errorf("in pages of %d, %s comes %d times", size, key, times)
		}
	}
	if len(staying) != rows {
		f.t.Errorf("in pages of %d, %d of %d rows that stay", size, len(staying), rows)
	}
}
