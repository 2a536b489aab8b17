package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestRead(t *testing.T) {
	eachVersion(t, func(t *testing.T, s servers) {
		each(t, s, map[string]func(*testing.T, servers){
			"what is shown and not visible yet is waited for":        shownIsVisible,
			"parts agree with the stream while rows change and move": partsUnderLoad,
		})
		once(t, s, map[string]func(*testing.T, servers){
			"parts cover each row once in the order that is told": coverOnce,
			"table that was truncated since is refused":           truncatedPart,
			"texts in other encodings than UTF-8":                 otherEncodings,
		})
		o := dbtest.Options{Conf: publisherConf}
		if s.publisher.Install.CanSetEpoch() {
			o.XIDEpoch = 1
		}
		alone(t, s, o, map[string]func(*testing.T, servers){
			"last transaction of all is shown and not visible yet": lastIsVisible,
		})
	})
}

// streaming starts the stream and waits until it has begun.
func (m *member) streaming() {
	m.t.Helper()
	m.start()
	err := dbtest.WaitFor(m.t.Context(), "the stream to begin", func(context.Context) (bool, error) {
		began, _, _ := m.shown.now()
		return began, nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// part reads part of a table; keys in the order in which they come.
func (m *member) part(name string, p cdc.Part) ([]digest.Key, cdc.View) {
	m.t.Helper()
	table, epoch := m.table(name)
	var keys []digest.Key
	view, err := m.Read(m.t.Context(), table, epoch, p, func(k digest.Key, _ *digest.Row) error {
		keys = append(keys, slices.Clone(k))
		return nil
	})
	if err != nil {
		m.t.Fatalf("read %s: %v", name, err)
	}
	return keys, view
}

var keyTypes = []struct {
	kind   string
	order  cdc.Order
	values []string
}{
	{"bigint", cdc.KeyOrder, []string{"-9223372036854775808", "-1", "0", "1", "9223372036854775807"}},
	{"boolean", cdc.KeyOrder, []string{"false", "true"}},
	{"numeric", cdc.KeyOrder, []string{"-1e30", "-0.5", "0", "0.25", "1.50", "10", "9.99e29"}},
	{"uuid", cdc.KeyOrder, []string{"00000000-0000-0000-0000-000000000000", "7f000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"}},
	{"bytea", cdc.KeyOrder, []string{`\x`, `\x00`, `\x0001`, `\x01`, `\xff`, `\xff00`}},
	{"date", cdc.KeyOrder, []string{"-infinity", "0001-01-01", "1969-12-31", "1970-01-01", "9999-12-31", "infinity"}},
	{"time", cdc.KeyOrder, []string{"00:00:00", "00:00:00.000001", "12:00", "24:00:00"}},
	{"timestamp", cdc.KeyOrder, []string{"-infinity", "0001-01-01 00:00", "1969-12-31 23:59:59.999999", "2024-02-29 12:00", "infinity"}},
	{"timestamptz", cdc.KeyOrder, []string{"-infinity", "1969-12-31 23:59:59.999999+00", "2024-02-29 12:00+05:30", "infinity"}},
	{`text COLLATE "C"`, cdc.KeyOrder, []string{"", " ", "A", "B", "a", "a b", "ab", "a\tb", `a\b`, "o'clock", "ä", "😀"}},
	{`text COLLATE "en-x-icu"`, cdc.ServerOrder, []string{"", " ", "A", "B", "a", "a b", "ab", "o'clock", "ä", "z", "😀"}},
	{"char(4)", cdc.ServerOrder, []string{"", "A", "a", "ab", "b"}},
	{"double precision", cdc.ServerOrder, []string{"-Infinity", "-0.1", "0", "4.9e-324", "0.30000000000000004", "Infinity", "NaN"}},
	{"mood", cdc.ServerOrder, []string{"sad", "ok", "happy"}},
	{"inet", cdc.ServerOrder, []string{"10.0.0.1/8", "10.0.0.0/8", "::1"}},
}

func coverOnce(t *testing.T, s servers) {
	schema := "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');"
	for i, k := range keyTypes {
		schema += fmt.Sprintf("CREATE TABLE t%d (k %s, n int, PRIMARY KEY (k, n));", i, k.kind)
		for _, v := range k.values {
			v = strings.ReplaceAll(v, "'", "''")
			schema += fmt.Sprintf("INSERT INTO t%d VALUES ('%s', 2), ('%s', -1);", i, v, v)
		}
	}
	m := watch(t, newDatabase(t, s.publisher, schema))
	m.streaming()
	for i, k := range keyTypes {
		name := fmt.Sprintf("public.t%d", i)
		if table, _ := m.table(name); table.Order != k.order {
			t.Errorf("%s: order %d, want %d", k.kind, table.Order, k.order)
		}
		all, _ := m.part(name, cdc.Part{Limit: 1000})
		if len(all) != 2*len(k.values) {
			t.Fatalf("%s: %d rows, want %d", k.kind, len(all), 2*len(k.values))
		}
		if k.order == cdc.KeyOrder && !slices.IsSortedFunc(all, func(a, b digest.Key) int { return bytes.Compare(a, b) }) {
			t.Errorf("%s: the server's order is not that of the keys: %x", k.kind, all)
		}
		for limit := 1; limit <= 7; limit++ {
			var read []digest.Key
			var after digest.Key
			for {
				page, _ := m.part(name, cdc.Part{After: after, Limit: limit})
				read = append(read, page...)
				if len(page) < limit {
					break
				}
				after = page[limit-1]
			}
			if !slices.EqualFunc(read, all, func(a, b digest.Key) bool { return bytes.Equal(a, b) }) {
				t.Errorf("%s: pages of %d: %x, want %x", k.kind, limit, read, all)
			}
		}
		middle, _ := m.part(name, cdc.Part{After: all[0], Through: all[2]})
		byKey, _ := m.part(name, cdc.Part{Keys: []digest.Key{all[2], all[1]}})
		if len(middle) != 2 || len(byKey) != 2 {
			t.Errorf("%s: %d rows behind the first up to the third, %d by their keys; want 2", k.kind, len(middle), len(byKey))
		}
	}
}

// shownIsVisible has a transaction that waits for a standby which does not exist: it is decoded, and no reader sees it.
func shownIsVisible(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.start()
	release := m.hang("INSERT INTO a VALUES (1)")
	m.exec("INSERT INTO a VALUES (2)")
	m.waitsForVisible(release, 2)
}

// lastIsVisible has no transaction after the one that waits, so that snapshots do not tell that it is in progress; and
// numbers of transactions that have wrapped around, where that can be had.
func lastIsVisible(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.streaming()
	m.exec("INSERT INTO a VALUES (0)")
	m.waitsForVisible(m.hang("INSERT INTO a VALUES (1)"), 2)
}

// waitsForVisible reads a part of public.a, which must show so many rows, of which one is not visible before release.
func (m *member) waitsForVisible(release func(), want int) {
	t := m.t
	t.Helper()
	if got := m.script(m.caughtUp()); len(got) != want {
		t.Fatalf("decoded %v, want %d", got, want)
	}
	m.visible = 300 * time.Millisecond
	table, epoch := m.table("public.a")
	_, err := m.Read(t.Context(), table, epoch, cdc.Part{}, func(digest.Key, *digest.Row) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "synchronous standby") {
		t.Fatalf("a part is read although a transaction that was shown is not visible: %v", err)
	}
	m.visible = time.Minute
	go release() // while the part waits
	rows, view := m.part("public.a", cdc.Part{})
	if len(rows) != want || view.Settled < view.Cut {
		t.Errorf("%d rows in view %+v, want %d", len(rows), view, want)
	}
}

// partsUnderLoad changes, moves and deletes rows while parts are read: what is read, brought up to date by all that the
// stream shows from the cut on, is what the table is in the end.
func partsUnderLoad(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT i * 10, 0 FROM generate_series(1, 400) i"))
	m.streaming()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	var written atomic.Int64
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				commit := []string{"local", "off"}[i%2] // asynchronous commits are visible before they are on disk
				id := 10 * (1 + (i*7+w*131)%400)
				err := m.Exec(t.Context(), fmt.Sprintf("SET deadlock_timeout = '5ms'; SET synchronous_commit = %s; UPDATE a SET n = n + 1 WHERE id %% 50 = %d; UPDATE a SET id = id + 1 WHERE id = %d; DELETE FROM a WHERE id = %d; INSERT INTO a VALUES (%d, 1) ON CONFLICT DO NOTHING",
					commit, i%5*10, id, id-10, id+5+w))
				switch {
				case err == nil:
					written.Add(1)
				case sqlState(err) != "40P01" && sqlState(err) != "23505": // the writers got in each other's way
					t.Error(err)
					return
				}
			}
		})
	}
	type read struct {
		view          cdc.View
		rows          map[string]digest.Digest
		after, behind digest.Key
	}
	var reads []read
	table, epoch := m.table("public.a")
	for pass := 0; (pass < 3 || written.Load() < 30) && !t.Failed(); pass++ {
		var after digest.Key
		for {
			r := read{rows: map[string]digest.Digest{}, after: after}
			var last digest.Key
			view, err := m.Read(t.Context(), table, epoch, cdc.Part{After: after, Limit: 97}, func(k digest.Key, row *digest.Row) error {
				last = slices.Clone(k)
				r.rows[string(k)] = row.Digest
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			r.view = view
			if len(r.rows) == 97 {
				r.behind = last
			}
			reads = append(reads, r)
			if after = r.behind; after == nil {
				break
			}
		}
	}
	close(stop)
	writers.Wait()
	log := m.caughtUp()
	final := map[string]digest.Digest{}
	if _, err := m.Read(t.Context(), table, epoch, cdc.Part{}, func(k digest.Key, row *digest.Row) error {
		final[string(k)] = row.Digest
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, r := range reads {
		for _, tx := range log {
			if tx.Commit < r.view.Cut {
				continue
			}
			for _, c := range tx.Changes {
				if c.OldKey != nil {
					delete(r.rows, string(c.OldKey))
				}
				if c.Op == cdc.Delete {
					delete(r.rows, string(c.Key))
				} else {
					r.rows[string(c.Key)] = c.Row.Digest
				}
			}
		}
		for k, want := range final {
			in := (r.after == nil || k > string(r.after)) && (r.behind == nil || k <= string(r.behind))
			if got := r.rows[k]; in && got != want {
				t.Errorf("read %d from %v to %v: key %x is %v, want %v", i, r.view.Cut, r.view.Settled, k, got, want)
			}
		}
		for k := range r.rows {
			if _, exists := final[k]; !exists {
				t.Errorf("read %d: key %x is there, and is not in the end", i, k)
			}
		}
	}
}

func truncatedPart(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2)"))
	m.streaming()
	conn, err := m.alive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	if _, err := m.openView(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	m.exec("TRUNCATE a")
	table, epoch := m.table("public.a")
	v := &snapshot{source: m.Source, conn: conn}
	err = v.rows(t.Context(), table, epoch, "", v.kept, func(digest.Key, *digest.Row) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "truncated or rewritten") {
		t.Errorf("a view of before a TRUNCATE is read: %v", err)
	}
}

func TestNumbersOfTransactionsGetTheirEpoch(t *testing.T) {
	const epoch = 1 << 32
	v, err := parseMVCC("8589934600:8589934610:8589934600,8589934605")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		xid   uint32
		wide  uint64
		shows bool
	}{
		{7, 2*epoch + 7, true}, {8, 2*epoch + 8, false}, {9, 2*epoch + 9, true}, {13, 2*epoch + 13, false}, {17, 2*epoch + 17, true},
		{18, 2*epoch + 18, false}, {1000, 2*epoch + 1000, false}, // committed in the log and not ended yet: it waits for a standby
		{epoch - 6, 2*epoch - 6, true},
	} {
		if wide := widen(c.xid, v.xmax); wide != c.wide || v.shows(wide) != c.shows {
			t.Errorf("transaction %d is %d, visible: %v; want %d, %v", c.xid, wide, v.shows(wide), c.wide, c.shows)
		}
	}
	if wide := widen(3, epoch-5); wide != epoch+3 {
		t.Errorf("the third transaction of the next epoch is %d", wide)
	}
	for _, text := range []string{"", "1:2", "x:2:", "1:2:3,y"} {
		if _, err := parseMVCC(text); err == nil {
			t.Errorf("%q is taken for a snapshot", text)
		}
	}
}
