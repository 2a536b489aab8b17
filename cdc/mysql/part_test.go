package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestParts(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"of any size have each row once, in order":        pages,
		"so they have of tables without transactions":     pagesOfMyISAM,
		"of certain keys are the rows that have them":     keysAlone,
		"of many keys are read off the index":             manyKeys,
		"of a key that the column cannot have":            impossibleKeys,
		"of what is defined otherwise now are refused":    redefinedParts,
		"are not read before the stream has begun":        unstreamedParts,
		"are waited for until they show what is streamed": awaitedParts,
		"are read by sessions that are kept":              keptSessions,
		"are waited for until XA COMMIT is done":          awaitedXA,
		"that nobody wants any more end":                  unwantedParts,
	})
}

// rowOf is a row as a part shows it.
type rowOf struct {
	key    string // as JSON
	bytes  digest.Key
	digest digest.Digest
}

// part reads a part of a table.
func part(t *testing.T, s *Source, table cdc.Table, p cdc.Part) (rows []rowOf) {
	t.Helper()
	epoch := epochOf(table)
	_, err := s.Read(t.Context(), table, epoch, p, func(k digest.Key, r *digest.Row) error {
		text, err := epoch.Shape.KeyJSON(k)
		rows = append(rows, rowOf{string(text), slices.Clone(k), r.Digest})
		return err
	})
	if err != nil {
		t.Fatalf("%s: %+v: %v", table.Name, p, err)
	}
	return rows
}

var rowsAlike = cmp.AllowUnexported(rowOf{})

func pages(t *testing.T, server *dbtest.MySQLServer) { pagesOf(t, server, "paged", "InnoDB", 2) }

func pagesOfMyISAM(t *testing.T, server *dbtest.MySQLServer) {
	pagesOf(t, server, "paged_isam", "MyISAM", 2)
}

// pagesOf reads tables in pages of these sizes; `make soak` in others, too.
func pagesOf(t *testing.T, server *dbtest.MySQLServer, schema, engine string, sizes ...int) {
	if soak {
		sizes = []int{1, 2, 3, 7}
	}
	makeKeyTables(t, server, schema, engine)
	s := probe(t, server, "")
	tables := catalog(t, s, schema)
	streaming(t, s)
	for _, k := range keyTables {
		if !k.has(server, engine) {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			table := tables[k.name]
			all := part(t, s, table, cdc.Part{})
			if len(all) != strings.Count(k.rows, "(") {
				t.Fatalf("%d rows of %s", len(all), k.rows)
			}
			if table.Order == cdc.Unordered {
				refusesParts(t, s, table, all[0].bytes)
				return
			}
			if table.Order == cdc.KeyOrder && !slices.IsSortedFunc(all, func(a, b rowOf) int { return bytes.Compare(a.bytes, b.bytes) }) {
				t.Errorf("the server's order is not that of the keys: %v", all)
			}
			for _, size := range sizes {
				if diff := cmp.Diff(all, inPages(t, s, table, size), rowsAlike); diff != "" {
					t.Errorf("in pages of %d rows: %s", size, diff)
				}
			}
			if engine == "InnoDB" || soak { // the statements are the same
				between(t, s, table, all)
			}
		})
	}
}

func refusesParts(t *testing.T, s *Source, table cdc.Table, k digest.Key) {
	for _, p := range []cdc.Part{{After: k}, {Through: k}, {Limit: 1}, {Keys: []digest.Key{k}}} {
		_, err := s.Read(t.Context(), table, epochOf(table), p, func(digest.Key, *digest.Row) error { return nil })
		if !errors.Is(err, errUnordered) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// inPages reads a table page by page.
func inPages(t *testing.T, s *Source, table cdc.Table, size int) (all []rowOf) {
	t.Helper()
	var after digest.Key
	for {
		page := part(t, s, table, cdc.Part{After: after, Limit: size})
		if all = append(all, page...); len(page) < size {
			return all
		}
		after = page[size-1].bytes
	}
}

// between reads what is between two rows of a table: each and the next one, and what is up to one of them, which has a
// condition less. Pages begin behind each row and have no end; `make soak` reads between any two, and both ends.
func between(t *testing.T, s *Source, table cdc.Table, all []rowOf) {
	t.Helper()
	for i := -1; i < len(all); i++ {
		for j := max(i, 0); j <= len(all); j++ {
			if !soak && (i < 0 && j != 1 || i >= 0 && j != i+1) {
				continue
			}
			p, want := cdc.Part{}, all[i+1:]
			if i >= 0 {
				p.After = all[i].bytes
			}
			if j < len(all) {
				p.Through, want = all[j].bytes, all[i+1:j+1]
			}
			got := part(t, s, table, p)
			if diff := cmp.Diff(want, got, rowsAlike); diff != "" && len(want)+len(got) > 0 {
				t.Fatalf("between %d and %d: %s", i, j, diff)
			}
		}
	}
}

// keysAlone asks for keys: one, some, all, and some that no row has.
func keysAlone(t *testing.T, server *dbtest.MySQLServer) {
	makeKeyTables(t, server, "wanted", "InnoDB")
	s := probe(t, server, "")
	tables := catalog(t, s, "wanted")
	streaming(t, s)
	byKey := func(a, b rowOf) int { return bytes.Compare(a.bytes, b.bytes) }
	for _, k := range keyTables {
		table := tables[k.name]
		if !k.has(server, "InnoDB") || table.Order == cdc.Unordered {
			continue
		}
		all := part(t, s, table, cdc.Part{})
		slices.SortFunc(all, byKey)
		var keys []digest.Key
		for i, r := range all {
			if i == 0 || soak { // those of the others are asked for together
				if diff := cmp.Diff([]rowOf{r}, part(t, s, table, cdc.Part{Keys: []digest.Key{r.bytes}, Limit: 0, After: r.bytes}), rowsAlike); diff != "" {
					t.Errorf("%s: %s", k.name, diff)
				}
			}
			keys = append(keys, r.bytes, r.bytes)
		}
		got := part(t, s, table, cdc.Part{Keys: keys})
		slices.SortFunc(got, byKey)
		if diff := cmp.Diff(all, got, rowsAlike); diff != "" {
			t.Errorf("%s: %s", k.name, diff)
		}
		if got := part(t, s, table, cdc.Part{Keys: []digest.Key{}}); got != nil {
			t.Errorf("%s: no keys are %v", k.name, got)
		}
		run(t, server, "DELETE FROM wanted."+k.name)
		if got := part(t, s, table, cdc.Part{Keys: keys}); got != nil {
			t.Errorf("%s: %v of rows that were deleted", k.name, got)
		}
	}
	run(t, server, "CREATE TABLE wanted.folded (k varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY)",
		"INSERT INTO wanted.folded VALUES ('ABC'), ('other')")
	table := catalog(t, s, "wanted")["folded"]
	got := part(t, s, table, cdc.Part{Keys: []digest.Key{keyOf(t, table, `{"k":"abc"}`), keyOf(t, table, `{"k":"äbc "}`), keyOf(t, table, `{"k":"none"}`)}})
	if len(got) != 1 || got[0].key != `{"k":"ABC"}` {
		t.Errorf("%v", got)
	}
}

// manyKeys counts what the server looks at, for a key of one column and for one of three.
func manyKeys(t *testing.T, server *dbtest.MySQLServer) {
	const wanted, times = 2000, 10
	run(t, server, "CREATE TABLE app.many (a int PRIMARY KEY)", "CREATE TABLE app.many_parts (a int, b varchar(10), c int, PRIMARY KEY (a, b, c))")
	for i := range times {
		var ones, threes []string
		for j := range wanted {
			n := i*wanted + j
			ones, threes = append(ones, fmt.Sprintf("(%d)", n)), append(threes, fmt.Sprintf("(%d, 'x%d', %d)", n%100, n%7, n))
		}
		run(t, server, "INSERT INTO app.many VALUES "+strings.Join(ones, ","), "INSERT INTO app.many_parts VALUES "+strings.Join(threes, ","))
	}
	s := probe(t, server, "")
	tables := catalog(t, s, "app")
	for _, name := range []string{"many", "many_parts"} {
		table := tables[name]
		var keys []digest.Key
		for i := range wanted {
			n := i * times
			text := fmt.Sprintf(`{"a":%d}`, n)
			if name == "many_parts" {
				text = fmt.Sprintf(`{"a":%d,"b":"x%d","c":%d}`, n%100, n%7, n)
			}
			keys = append(keys, keyOf(t, table, text))
		}
		err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
			n := 0
			r, err := s.rowReader(s.definition(table), epochOf(table), func(digest.Key, *digest.Row) error { n++; return nil })
			if err != nil {
				return err
			}
			before, err := handlerReads(ctx, c)
			if err != nil {
				return err
			}
			if err := r.read(ctx, c, cdc.Part{Keys: keys}); err != nil {
				return err
			}
			after, err := handlerReads(ctx, c)
			if n != wanted || after-before > 2*wanted+100 {
				t.Errorf("%s: %d rows were looked at for %d keys, which have %d rows", name, after-before, wanted, n)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// impossibleKeys have a value that no row of the column can have, though another member's may.
func impossibleKeys(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE narrow; CREATE TABLE narrow.latin (k varchar(10) CHARACTER SET latin1 PRIMARY KEY); INSERT INTO narrow.latin VALUES ('a'), (_utf8mb4'é')",
		"CREATE TABLE narrow.bytes (k tinyint unsigned PRIMARY KEY); INSERT INTO narrow.bytes VALUES (0), (255)")
	s := probe(t, server, "")
	tables := catalog(t, s, "narrow")
	streaming(t, s)
	latin, tiny := tables["latin"], tables["bytes"]
	foreign := keyOf(t, latin, `{"k":"中"}`)
	if got := part(t, s, latin, cdc.Part{Keys: []digest.Key{foreign, keyOf(t, latin, `{"k":"é"}`)}}); len(got) != 1 || got[0].key != `{"k":"é"}` {
		t.Errorf("%v", got)
	}
	if got := part(t, s, latin, cdc.Part{Keys: []digest.Key{foreign}}); got != nil {
		t.Errorf("%v", got)
	}
	_, err := s.Read(t.Context(), latin, epochOf(latin), cdc.Part{After: foreign}, func(digest.Key, *digest.Row) error { return nil })
	if !errors.Is(err, errNoValue) {
		t.Errorf("a bound that cannot be written: %v", err)
	}
	_, err = s.Read(t.Context(), latin, epochOf(latin), cdc.Part{Keys: []digest.Key{{1, 2, 3}}}, func(digest.Key, *digest.Row) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "key is damaged") {
		t.Errorf("a key that is none: %v", err)
	}
	// Numbers that are out of range are before or behind all that are not.
	for _, test := range []struct{ after, through string }{{`{"k":-1}`, `{"k":256}`}, {`{"k":-300}`, `{"k":18446744073709551615}`}} {
		if got := part(t, s, tiny, cdc.Part{After: keyOf(t, tiny, test.after), Through: keyOf(t, tiny, test.through)}); len(got) != 2 {
			t.Errorf("from %s through %s: %v", test.after, test.through, got)
		}
		if got := part(t, s, tiny, cdc.Part{Keys: []digest.Key{keyOf(t, tiny, test.after), keyOf(t, tiny, test.through)}}); got != nil {
			t.Errorf("%v", got)
		}
	}
}

func redefinedParts(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE redefined")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		run(t, server, fmt.Sprintf("CREATE TABLE redefined.%s (id int PRIMARY KEY, n int); INSERT INTO redefined.%s VALUES (1, 1)", name, name))
	}
	s := probe(t, server, "")
	tables := catalog(t, s, "redefined")
	streaming(t, s)
	run(t, server, "ALTER TABLE redefined.a MODIFY n bigint", "ALTER TABLE redefined.b DROP n", "DROP TABLE redefined.c", "ALTER TABLE redefined.d ADD KEY (n)", "TRUNCATE redefined.e")
	want := map[string]string{"a": "definition has changed", "b": "definition has changed", "c": "does not exist", "d": "", "e": ""}
	for _, scanOnly := range []bool{false, true} {
		s.options.ScanOnly = scanOnly
		for name, words := range want {
			table := tables[name]
			_, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{}, func(digest.Key, *digest.Row) error { return nil })
			if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
				t.Errorf("%s: %v, want one about %q", name, err, words)
			}
		}
	}
	old := tables["d"]
	old.Version = "forgotten"
	if _, err := s.Read(t.Context(), old, epochOf(old), cdc.Part{}, nil); !errors.Is(err, errRedefined) {
		t.Errorf("%v", err)
	}
}

func unstreamedParts(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.early (id int PRIMARY KEY)", "INSERT INTO app.early VALUES (1)")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["early"]
	if _, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{}, nil); !errors.Is(err, cdc.ErrNotStreaming) {
		t.Errorf("%v", err)
	}
	s.options.ScanOnly = true
	if rows := part(t, s, table, cdc.Part{}); len(rows) != 1 {
		t.Errorf("%v", rows)
	}
}

// awaitedParts has the stream be ahead of what can be read.
func awaitedParts(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.late (id int PRIMARY KEY)", "INSERT INTO app.late VALUES (1)")
	s := probe(t, server, "")
	s.visible = 300 * time.Millisecond
	table := catalog(t, s, "app")["late"]
	streaming(t, s)
	at := s.streamed().position
	next := last(t, at.Shown)
	next.Seq++
	ahead := cdc.Event{Position: at.LSN + 1<<20, Through: next}
	s.yielded(ahead)
	_, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{}, nil)
	if err == nil || !strings.Contains(err.Error(), "are not visible to readers after 300ms") {
		t.Fatalf("%v", err)
	}
	s.visible = time.Minute
	go func() { _ = server.Exec(t.Context(), "INSERT INTO app.late VALUES (2)") }()
	var view cdc.View
	n := 0
	view, err = s.Read(t.Context(), table, epochOf(table), cdc.Part{}, func(digest.Key, *digest.Row) error { n++; return nil })
	if err != nil || n != 2 || view.Cut < ahead.Position || view.Settled < view.Cut {
		t.Errorf("%d rows from %v to %v, %v", n, view.Cut, view.Settled, err)
	}
}

// awaitedXA has the stream show the end of distributed transactions that are still prepared, as it may for a moment on
// MariaDB. Names are of any bytes, and are used again.
func awaitedXA(t *testing.T, server *dbtest.MySQLServer) {
	if !server.Install.Flavour.MariaDB() {
		return // gtid_executed tells
	}
	run(t, server, "CREATE TABLE app.undone (id int PRIMARY KEY)")
	s := probe(t, server, "")
	s.visible = 200 * time.Millisecond
	table := catalog(t, s, "app")["undone"]
	streaming(t, s)
	read := func() (n int, err error) {
		_, err = s.Read(t.Context(), table, epochOf(table), cdc.Part{}, func(digest.Key, *digest.Row) error { n++; return nil })
		return n, err
	}
	for i, xid := range []string{"X'00ff27', X'00', 7", "'plain'", "X'00ff27', X'00', 7"} {
		tokens, err := xidOf(tokenize(xid, dialect{}))
		if err != nil {
			t.Fatal(err)
		}
		s.distributed(tokens, false)
		run(t, server, fmt.Sprintf("XA START %[1]s; INSERT INTO app.undone VALUES (%[2]d); XA END %[1]s; XA PREPARE %[1]s", xid, i))
		if n, err := read(); err != nil || n != i {
			t.Errorf("prepared: %d rows, %v", n, err)
		}
		s.distributed(tokens, true)
		if _, err := read(); err == nil || !strings.Contains(err.Error(), "are not visible to readers") {
			t.Errorf("in the log as committed: %v", err)
		}
		if _, err := s.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "are not visible to readers") {
			t.Errorf("in the log as committed: %v", err)
		}
		run(t, server, "XA COMMIT "+xid)
		if n, err := read(); err != nil || n != i+1 || len(s.ended) != 0 {
			t.Errorf("committed: %d rows, %v; waiting for %v", n, err, s.ended)
		}
	}
}

func TestEndsOfDistributedTransactionsAreNotNotedForEver(t *testing.T) {
	s, err := New(Options{DSN: "mysql://u@h/"}, scanHasher)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 * mostEnded {
		s.distributed(fmt.Sprint(i), true)
	}
	if n := len(s.ended); n > 2*mostEnded || n < mostEnded || s.ended[fmt.Sprint(5*mostEnded-mostEnded)] == 0 {
		t.Errorf("%d are noted", n)
	}
	late := s.unseen()
	for i := range 5 * mostEnded { // each name is used again, and the end of that is not known to be visible
		s.distributed(fmt.Sprint(i), false)
		s.distributed(fmt.Sprint(i), true)
	}
	n := len(s.ended)
	if left := s.stillUnseen(late, nil); len(left) != 0 || len(s.ended) != n {
		t.Errorf("%d are waited for, %d of %d are noted", len(left), len(s.ended), n)
	}
}

// keptSessions counts the sessions that reads leave behind, and has the server end them.
func keptSessions(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.kept (id int PRIMARY KEY)", "INSERT INTO app.kept VALUES (1), (2), (3)")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["kept"]
	streaming(t, s)
	for range 3 {
		part(t, s, table, cdc.Part{Limit: 2})
	}
	if n := len(s.readers.idle); n != 1 {
		t.Fatalf("%d sessions after reads one after the other", n)
	}
	kept := s.readers.idle[0]
	_, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{Keys: []digest.Key{{9}}}, nil)
	if err == nil || len(s.readers.idle) != 1 || s.readers.idle[0] != kept {
		t.Errorf("%v, and the session is gone", err)
	}
	run(t, server, fmt.Sprintf("KILL %d", kept.conn.GetConnectionID()))
	if rows := part(t, s, table, cdc.Part{}); len(rows) != 3 || s.readers.idle[0] == kept {
		t.Errorf("%v by a session that has ended", rows)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if _, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{}, func(digest.Key, *digest.Row) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := len(s.readers.idle); n < 1 || n > mostIdle {
		t.Errorf("%d sessions after reads at once", n)
	}
	s.Close()
	part(t, s, table, cdc.Part{})
	if n := len(s.readers.idle); n != 0 {
		t.Errorf("%d sessions after the end", n)
	}
}

func unwantedParts(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.unwanted_part (id int PRIMARY KEY)", "INSERT INTO app.unwanted_part VALUES (1), (2), (3)")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["unwanted_part"]
	streaming(t, s)
	ours := errors.New("the store is full")
	if _, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{}, func(digest.Key, *digest.Row) error { return ours }); !errors.Is(err, ours) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Read(ctx, table, epochOf(table), cdc.Part{}, func(digest.Key, *digest.Row) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if rows := part(t, s, table, cdc.Part{}); len(rows) != 3 {
		t.Errorf("%v", rows)
	}
}
