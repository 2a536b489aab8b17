package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/store"
)

// stretch is a part of a real server's stream: what pgoutput made of a mixed load, and the rows from before it.
type stretch struct {
	source *Source
	tables []cdc.Table
	epochs []cdc.Epoch
	rows   map[cdc.TableID][][2][]byte // key and stored row
	author [][]byte                    // messages as the publisher's stream has them
	replay [][]byte                    // the same with an Origin after each Begin, as a subscriber's has them
}

func record(b *testing.B) *stretch {
	b.Helper()
	server := dbtest.StartT(b, dbtest.Need(b, dbtest.PG15), dbtest.Options{Database: "app"})
	ctx := b.Context()
	dbtest.ExecT(b, server, load.Schema, "CREATE PUBLICATION lockstep_bench FOR TABLE accounts, orders, stock")
	fatal(b, load.Fill(ctx, server.DSN("app")))
	source, err := New(Options{Group: "bench", Member: "eu-1", DSN: server.DSN("app"), Slot: "lockstep_bench", Publication: "lockstep_bench"}, testHasher)
	fatal(b, err)
	b.Cleanup(source.Close)
	c := &stretch{source: source, rows: make(map[cdc.TableID][][2][]byte)}
	c.tables, err = source.Tables(ctx, func(string) bool { return true })
	fatal(b, err)
	for i, t := range c.tables {
		shape := digest.Shape{Table: t.Name, Columns: t.Columns}
		for _, k := range t.Key {
			for n, column := range t.Columns {
				if column.Name == k {
					shape.Key = append(shape.Key, n)
				}
			}
		}
		c.epochs = append(c.epochs, cdc.Epoch{Table: cdc.TableID(i + 1), Number: 1, Shape: shape})
		source.SetEpoch(t, c.epochs[i])
	}
	dbtest.ExecT(b, server, "SELECT pg_create_logical_replication_slot('lockstep_bench', 'pgoutput')")
	snapshot, err := source.Snapshot(ctx)
	fatal(b, err)
	for i, t := range c.tables {
		fatal(b, snapshot.Rows(ctx, t, c.epochs[i], func(k digest.Key, r *digest.Row) error {
			id := c.epochs[i].Table
			c.rows[id] = append(c.rows[id], [2][]byte{append([]byte(nil), k...), digest.AppendRow(nil, r)})
			return nil
		}))
	}
	snapshot.Close()
	writing := load.Start(ctx, server.DSN("app"), load.Options{Seed: 1})
	fatal(b, dbtest.WaitFor(ctx, "the load to write", func(context.Context) (bool, error) { return writing.Counts().Rows.Load() > 40_000, nil }))
	fatal(b, writing.Stop())
	fatal(b, source.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		types, err := loadTypes(ctx, conn)
		source.setTypes(types)
		return err
	}))
	messages, err := dbtest.Rows[[]byte](ctx, server, "SELECT data FROM pg_logical_slot_get_binary_changes('lockstep_bench', NULL, NULL, 'proto_version', '1', 'publication_names', 'lockstep_bench')")
	fatal(b, err)
	c.author = messages
	c.replay = withOrigins(messages)
	return c
}

func fatal(b *testing.B, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}

// withOrigins makes of a publisher's messages those of a subscriber that replays it.
func withOrigins(messages [][]byte) [][]byte {
	var out [][]byte
	begin := 0
	for _, m := range messages {
		out = append(out, m)
		switch m[0] {
		case 'B':
			out = append(out, nil)
			begin = len(out) - 1
		case 'C': // flags, commit LSN, end LSN, time
			origin := append([]byte{'O'}, m[10:18]...)
			out[begin] = append(origin, "pg_1\x00"...)
		}
	}
	return out
}

// group returns a ledger on disk in which the captured tables are live and compared.
func (c *stretch) group(b *testing.B) (*store.Group, *align.Ledger, func()) {
	b.Helper()
	st, err := store.Open(b.TempDir(), store.Options{})
	fatal(b, err)
	g, err := st.Group("bench")
	fatal(b, err)
	names := make(map[cdc.MemberID]string)
	for _, name := range []string{"eu-1", "us-1"} {
		id, err := g.MemberID(name)
		fatal(b, err)
		names[id] = name
	}
	saved, err := g.Load()
	fatal(b, err)
	l, err := align.Load(align.Options{
		Group: "bench", Members: names, Reference: 1, Budget: func(string) time.Duration { return time.Hour },
		Hasher: testHasher, NewID: func(time.Time) string { return "x" },
	}, g, saved)
	fatal(b, err)
	lane := cdc.Lane{Name: "pg_1", Slot: "s", Enabled: true, Tables: make(map[string]string)}
	for _, e := range c.epochs {
		lane.Tables[e.Shape.Table] = ""
		fatal(b, l.SetEpoch(e, map[cdc.MemberID]string{}, "new"))
	}
	for _, id := range []cdc.MemberID{1, 2} {
		fatal(b, l.Unverify(id, at(1), cdc.Server{SystemID: fmt.Sprint(id)}, "new"))
		said := cdc.Progress{Applied: map[string]cdc.TxSet{"pg_1": cdc.Everything(1)}, Lanes: []cdc.Lane{lane}}
		fatal(b, l.Progress(id, time.Now(), said, map[string]cdc.TxSet{"s": cdc.Everything(1)}))
		for _, due := range l.Wanted(id) {
			space := due.At
			l.Scanning(space)
			c.fill(b, g, l, space)
		}
		_, err := l.Replay()
		fatal(b, err)
	}
	fatal(b, l.Tick())
	fatal(b, l.Flush())
	fatal(b, g.Commit())
	return g, l, func() {
		fatal(b, g.Close())
		fatal(b, st.Close())
	}
}

func (c *stretch) fill(b *testing.B, g *store.Group, l *align.Ledger, at align.Space) {
	loader, err := g.Loader(at, false)
	fatal(b, err)
	for _, row := range c.rows[at.Table] {
		fatal(b, loader.Add(row[0], row[1]))
	}
	fatal(b, loader.Close())
	bounds, _ := l.Freeze(at)
	bounds, sums, err := loader.Sum(bounds, bounds == nil, l.RangeRows())
	fatal(b, err)
	fatal(b, l.Loaded(at, 0, bounds, sums))
}

// BenchmarkWholePath takes a publisher's and a subscriber's stream of the same mixed load from bytes to a committed,
// compared store: decode, digest, apply, judge, commit. "decode-and-digest" is the part that is not the store's. An
// operation is the whole capture; rows/s counts the row changes of both streams.
func BenchmarkWholePath(b *testing.B) {
	c := record(b)
	run := func(b *testing.B, apply func(id cdc.MemberID, tx *cdc.Transaction)) int {
		rows := 0
		streams := [][][]byte{c.author, c.replay}
		assemblers := []*assembler{newAssembler(testHasher, c.source.list.Load), newAssembler(testHasher, c.source.list.Load)}
		for at := [2]int{}; at[0] < len(c.author) || at[1] < len(c.replay); {
			for i := range streams { // a transaction of one, then of the other
				for at[i] < len(streams[i]) {
					event, committed, err := assemblers[i].feed(streams[i][at[i]])
					fatal(b, err)
					at[i]++
					if !committed {
						continue
					}
					if event.Transaction != nil {
						rows += len(event.Transaction.Changes)
						apply(cdc.MemberID(i+1), event.Transaction)
					}
					break
				}
			}
		}
		return rows
	}
	b.Run("decode-and-digest", func(b *testing.B) {
		rows := 0
		for b.Loop() {
			rows += run(b, func(cdc.MemberID, *cdc.Transaction) {})
		}
		b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("whole", func(b *testing.B) {
		rows := 0
		for range b.N {
			b.StopTimer()
			g, l, closeAll := c.group(b)
			b.StartTimer()
			rows += run(b, func(id cdc.MemberID, tx *cdc.Transaction) {
				if !l.Ready(id, tx, time.Time{}) {
					b.Fatalf("transaction %v is not ready", tx.ID)
				}
				fatal(b, l.Apply(id, cdc.Event{Position: tx.End, Through: cdc.TxID{Seq: uint64(tx.End)}, Transaction: tx}))
				if g.Uncommitted() > 4<<20 {
					fatal(b, l.Flush())
					fatal(b, g.Commit())
				}
			})
			fatal(b, l.Flush())
			fatal(b, g.Commit())
			b.StopTimer()
			for _, m := range l.Status(false) {
				for _, t := range m.Tables {
					if !t.Live || t.DivergentKeys != 0 {
						b.Fatalf("%s %s: %s, %d keys differ", m.Name, t.Table, t.Reason, t.DivergentKeys)
					}
				}
			}
			closeAll()
			b.StartTimer()
		}
		b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	})
}
