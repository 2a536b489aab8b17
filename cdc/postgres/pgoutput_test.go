package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

var update = flag.Bool("update", false, "capture testdata/pgoutput.hex from a server and write testdata/pgoutput.golden anew")

const captureSchema = `
CREATE DOMAIN small AS int;
CREATE TABLE orders (id int, part text, note text, n small, PRIMARY KEY (part, id));
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
CREATE TABLE full_rows (id int PRIMARY KEY, note text);
ALTER TABLE full_rows REPLICA IDENTITY FULL;
CREATE TABLE other (id int PRIMARY KEY)`

var captureWrites = []string{
	"INSERT INTO orders VALUES (1, 'a', 'note', 5), (2, 'a', NULL, NULL)",
	"UPDATE orders SET n = 6 WHERE id = 1",
	"UPDATE orders SET id = 3 WHERE id = 2",
	"DELETE FROM orders WHERE id = 3",
	"INSERT INTO orders VALUES (4, 'b', repeat('wide', 600), 1)",
	"UPDATE orders SET n = 2 WHERE id = 4",
	"INSERT INTO full_rows VALUES (1, 'x')",
	"UPDATE full_rows SET note = 'y'",
	"UPDATE full_rows SET id = 2",
	"DELETE FROM full_rows",
	"INSERT INTO other VALUES (1)",
	"SELECT pg_logical_emit_message(true, 'prefix', 'content')",
	"BEGIN; INSERT INTO other VALUES (2); TRUNCATE orders, other CASCADE; INSERT INTO orders VALUES (5, 'c', '', 0); COMMIT",
	`BEGIN; SELECT pg_replication_origin_create('author'); SELECT pg_replication_origin_session_setup('author');
		SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2026-02-03 04:05:06.789+00'); INSERT INTO orders VALUES (6, 'd', '', 0); COMMIT`,
	"ALTER TABLE full_rows ALTER note TYPE int USING 1; INSERT INTO full_rows VALUES (3, 3)",
}

// capturedTypes are those of the captured tables that are built in; the domain is told by a Type message.
var capturedTypes = map[uint32]columnType{
	23: {PostgresType: digest.PostgresType{Schema: "pg_catalog", Name: "int4"}},
	25: {PostgresType: digest.PostgresType{Schema: "pg_catalog", Name: "text", Toastable: true}},
}

func capturedList() *watchlist {
	list := newWatchlist().withTypes(capturedTypes)
	orders := cdc.Table{
		Name: "public.orders", Leaves: []string{"public.orders"}, Key: []string{"part", "id"},
		Columns: []digest.Column{{Name: "id", Class: digest.Int}, {Name: "n", Class: digest.Int},
			{Name: "note", Class: digest.Text, Wide: true}, {Name: "part", Class: digest.Text, Wide: true}},
	}
	full := cdc.Table{
		Name: "public.full_rows", Leaves: []string{"public.full_rows"}, Key: []string{"id"},
		Columns: []digest.Column{{Name: "id", Class: digest.Int}, {Name: "note", Class: digest.Text, Wide: true}},
	}
	return list.with(orders, epochOf(orders, 1, 1)).with(full, epochOf(full, 2, 1))
}

func captured(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/pgoutput.hex")
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]byte
	for _, line := range strings.Fields(string(text)) {
		message, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, message)
	}
	return messages
}

// capture writes what a real server sends.
func capture(t *testing.T) {
	s := dbtest.StartT(t, dbtest.Need(t, dbtest.PG18), dbtest.Options{})
	db := newDatabase(t, s, captureSchema)
	m := watch(t, db)
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.exec(captureWrites...)
	end, err := dbtest.Value[string](t.Context(), db, "SELECT pg_current_wal_lsn()::text")
	if err != nil {
		t.Fatal(err)
	}
	last, err := cdc.ParseLSN(end)
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := m.startReplication(t.Context(), &overlap{from: from})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var text strings.Builder
	for {
		received, err := conn.PgConn().ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, ok := received.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		wal := data.Data[25:]
		fmt.Fprintln(&text, hex.EncodeToString(wal))
		var decoded message
		if err := decoded.decode(wal); err != nil {
			t.Fatal(err)
		}
		if decoded.kind == kindCommit && decoded.commit.TransactionEndLSN >= last {
			break
		}
	}
	if err := os.WriteFile("testdata/pgoutput.hex", []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCapturedStreamIsDecoded(t *testing.T) {
	if *update {
		capture(t)
	}
	list := capturedList()
	a := newAssembler(testHasher, func() *watchlist { return list })
	var text strings.Builder
	for _, m := range captured(t) {
		e, committed, err := a.feed(m)
		if err != nil {
			t.Fatal(err)
		}
		if committed {
			printEvent(&text, list, e)
		}
	}
	const golden = "testdata/pgoutput.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Error(diff)
	}
}

func printEvent(w *strings.Builder, list *watchlist, e cdc.Event) {
	if e.Transaction == nil {
		fmt.Fprintf(w, "position %v\n", e.Position)
		return
	}
	t := e.Transaction
	fmt.Fprintf(w, "transaction %v lane %q commit %v end %v at %s\n", t.ID, t.Lane, t.Commit, t.End, t.CommitTime.Format("2006-01-02T15:04:05.999999Z07:00"))
	for _, c := range t.Changes {
		shape := list.ids[c.Table].epoch.Shape
		fmt.Fprintf(w, "  %s %s", opNames[c.Op], shape.Table)
		for _, k := range []digest.Key{c.OldKey, c.Key} {
			if len(k) > 0 {
				text, err := shape.KeyJSON(k)
				fmt.Fprintf(w, " %s%v", text, strings.Trim(fmt.Sprint(err), "<nil>"))
			}
		}
		switch {
		case c.Row.Partial != nil:
			fmt.Fprintf(w, " without %s", c.Row.Partial.Holes[0].Name)
		case !c.Row.Digest.IsZero():
			fmt.Fprintf(w, " %v", c.Row.Digest)
		}
		fmt.Fprintln(w)
	}
	for _, touched := range t.Touched {
		name := "an unknown table"
		if known := list.ids[touched.Table]; known != nil {
			name = known.table.Name
		}
		fmt.Fprintf(w, "  touched %s: %s\n", name, touched.Reason)
	}
}

func TestEveryShortOrLongMessageIsAnError(t *testing.T) {
	var m message
	for _, whole := range captured(t) {
		for n := range whole {
			if err := m.decode(whole[:n]); err == nil {
				t.Errorf("%d of %d bytes of %x are a message", n, len(whole), whole)
			}
		}
		if err := m.decode(append(bytes.Clone(whole), 0)); err == nil {
			t.Errorf("a byte more than %x is a message", whole)
		}
	}
}

func TestMessagesThatWeDidNotAskForAreErrors(t *testing.T) {
	for _, kind := range []byte("MSEcAbPKrp\x00\xff") {
		if err := new(message).decode([]byte{kind, 0, 0, 0, 0}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("0x%02x", kind)) {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

func TestStreamOutOfOrderIsAnError(t *testing.T) {
	messages := captured(t)
	list := capturedList()
	for name, order := range map[string][]int{
		"begin in a transaction":    {0, 0},
		"row before its begin":      {1, 2, 3},
		"row of unknown relation":   {0, 3},
		"commit before its begin":   {len(messages) - 1},
		"commit of another's begin": {0, len(messages) - 1},
	} {
		a := newAssembler(testHasher, func() *watchlist { return list })
		var err error
		for _, i := range order {
			if err == nil {
				_, _, err = a.feed(messages[i])
			}
		}
		if err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

func TestUndecodableValueTouchesItsTableOnly(t *testing.T) {
	list := capturedList()
	a := newAssembler(testHasher, func() *watchlist { return list })
	relation := append([]byte("R\x00\x00\x00\x07public\x00full_rows\x00d\x00\x02"), "\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff\x00note\x00\x00\x00\x00\x19\xff\xff\xff\xff"...)
	begin := append([]byte("B"), make([]byte, 20)...)
	row := []byte("I\x00\x00\x00\x07N\x00\x02t\x00\x00\x00\x06secrett\x00\x00\x00\x01x")
	good := []byte("I\x00\x00\x00\x07N\x00\x02t\x00\x00\x00\x016t\x00\x00\x00\x01x")
	commit := append([]byte("C"), make([]byte, 25)...)
	var event cdc.Event
	for _, m := range [][]byte{begin, relation, row, good, row, commit} {
		var err error
		if event, _, err = a.feed(m); err != nil {
			t.Fatal(err)
		}
	}
	got := event.Transaction
	if len(got.Changes) != 1 || len(got.Touched) != 1 || !strings.Contains(got.Touched[0].Reason, `"id"`) || strings.Contains(got.Touched[0].Reason, "secret") {
		t.Errorf("%+v", got)
	}
}

// A decoder that panics for a table puts that one in doubt, and says so; others are decoded on.
func TestPanicOfADecoderTouchesItsTableOnly(t *testing.T) {
	list := capturedList()
	a := newAssembler(testHasher, func() *watchlist { return list })
	columns := "\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff\x00note\x00\x00\x00\x00\x19\xff\xff\xff\xff"
	broken := append([]byte("R\x00\x00\x00\x07public\x00full_rows\x00d\x00\x02"), columns...)
	other := append([]byte("R\x00\x00\x00\x08public\x00other\x00d\x00\x02"), columns...)
	w := *list.tables["public.full_rows"]
	w.epoch.Table = 77
	list.tables["public.other"] = &w
	begin := append([]byte("B"), make([]byte, 20)...)
	row := []byte("I\x00\x00\x00\x07N\x00\x02t\x00\x00\x00\x016t\x00\x00\x00\x01x")
	others := []byte("I\x00\x00\x00\x08N\x00\x02t\x00\x00\x00\x016t\x00\x00\x00\x01x")
	commit := append([]byte("C"), make([]byte, 25)...)
	var event cdc.Event
	for i, m := range [][]byte{begin, broken, other, row, row, others, commit} {
		var err error
		if event, _, err = a.feed(m); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			a.relations[7].binding.columns = nil
		}
	}
	got := event.Transaction
	if len(got.Touched) != 1 || got.Touched[0].Fault == nil || !strings.Contains(got.Touched[0].Reason, "index out of range") {
		t.Fatalf("touched are %+v", got.Touched)
	}
	if n := len(got.Changes); n != 2 || got.Changes[n-1].Table != 77 {
		t.Errorf("%d changes, %+v", n, got.Changes)
	}
}

// FuzzAssembler takes its input apart into messages, each after a byte for its length.
func FuzzAssembler(f *testing.F) {
	var whole []byte
	for _, m := range captured(f) {
		if len(m) < 256 {
			whole = append(append(whole, byte(len(m))), m...)
			f.Add(append([]byte{byte(len(m))}, m...))
		}
	}
	f.Add(whole)
	list := capturedList()
	f.Fuzz(func(t *testing.T, b []byte) {
		a := newAssembler(testHasher, func() *watchlist { return list })
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			e, _, _ := a.feed(b[1 : 1+n]) // an error or not, never a panic
			if tx := e.Transaction; tx != nil {
				for _, touched := range tx.Touched {
					if touched.Fault != nil {
						t.Fatal(touched.Reason)
					}
				}
			}
			b = b[1+n:]
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	// Descriptions are sent once per connection; what comes all the time is the rest.
	messages := slices.DeleteFunc(captured(b), func(m []byte) bool { return m[0] == kindRelation || m[0] == kindType })
	size := 0
	for _, m := range messages {
		size += len(m)
	}
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(size))
		b.ReportAllocs()
		var m message
		for b.Loop() {
			for _, data := range messages {
				if err := m.decode(data); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("pglogrepl", func(b *testing.B) {
		b.SetBytes(int64(size))
		b.ReportAllocs()
		for b.Loop() {
			for _, data := range messages {
				if _, err := pglogrepl.Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkTransaction decodes and digests a transaction of 1,000 rows, as it is read from a server.
func BenchmarkTransaction(b *testing.B) {
	messages := captured(b)
	list := capturedList()
	a := newAssembler(testHasher, func() *watchlist { return list })
	var begin, insert, commit []byte
	for _, m := range messages {
		switch {
		case m[0] == kindRelation || m[0] == kindType:
			if _, _, err := a.feed(m); err != nil {
				b.Fatal(err)
			}
		case m[0] == kindBegin && begin == nil:
			begin = m
		case m[0] == kindInsert && insert == nil:
			insert = m
		case m[0] == kindCommit && commit == nil:
			commit = m
		}
	}
	b.ReportAllocs()
	const rows = 1000
	for b.Loop() {
		var event cdc.Event
		for i := range rows + 2 {
			m := insert
			switch i {
			case 0:
				m = begin
			case rows + 1:
				m = commit
			}
			var err error
			if event, _, err = a.feed(m); err != nil {
				b.Fatal(err)
			}
		}
		if len(event.Transaction.Changes) != rows {
			b.Fatal(len(event.Transaction.Changes), event.Transaction.Touched)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
