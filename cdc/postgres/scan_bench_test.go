package postgres

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/store"
)

const scanRows = 1_000_000

// benchTable has the columns of an ordinary table of orders; a row has about 160 bytes.
const benchTable = `CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, state text NOT NULL,
	amount numeric(12,2) NOT NULL, note text, address text NOT NULL, placed timestamptz NOT NULL);
INSERT INTO orders SELECT i, i % 50000, (ARRAY['new','paid','sent','done'])[i % 4 + 1], (i % 100000) / 100.0,
	CASE WHEN i % 3 = 0 THEN 'note of order ' || i END, md5(i::text) || md5((i + 1)::text), '2026-01-01'::timestamptz + i * interval '1 second'
FROM generate_series(1, 1000000) i`

// BenchmarkBaseline reads a table of a million rows as a first read does, down to the sums of its ranges in a store on
// disk, and beside it, in turns, has the server print it in its fastest form to nobody. Both have the server to
// themselves. It reports the medians, and the share of the rate that is left.
func BenchmarkBaseline(b *testing.B) {
	server := dbtest.StartT(b, dbtest.Need(b, dbtest.PG15), dbtest.Options{Database: "app"})
	ctx := b.Context()
	dbtest.ExecT(b, server, benchTable, "VACUUM (FREEZE, ANALYZE) orders", "CREATE PUBLICATION lockstep_bench FOR TABLE orders")
	source, err := New(Options{Group: "bench", Member: "eu-1", DSN: server.DSN("app"), Slot: "lockstep_bench", Publication: "lockstep_bench"}, testHasher)
	fatal(b, err)
	b.Cleanup(source.Close)
	tables, err := source.Tables(ctx, func(string) bool { return true })
	fatal(b, err)
	epoch := cdc.Epoch{Table: 1, Number: 1, Shape: digest.Shape{Table: tables[0].Name, Columns: tables[0].Columns, Key: []int{0}}}
	source.SetEpoch(tables[0], epoch)
	st, err := store.Open(b.TempDir(), store.Options{})
	fatal(b, err)
	b.Cleanup(func() { fatal(b, st.Close()) })
	group, err := st.Group("bench")
	fatal(b, err)
	conn, err := server.Conn(ctx)
	fatal(b, err)
	b.Cleanup(func() { _ = conn.Close(context.Background()) })

	var copies, baselines []float64
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		_, err := conn.PgConn().CopyTo(ctx, io.Discard, "COPY orders TO STDOUT (FORMAT binary)")
		fatal(b, err)
		copies = append(copies, scanRows/time.Since(began).Seconds())
		began = time.Now()
		fatal(b, baseline(ctx, source, group, align.Space{Member: 1, Table: 1, Generation: uint32(n + 1)}, tables[0], epoch))
		baselines = append(baselines, scanRows/time.Since(began).Seconds())
	}
	b.ReportMetric(median(copies), "copied-rows/s")
	b.ReportMetric(median(baselines), "read-rows/s")
	b.ReportMetric(median(baselines)/median(copies), "of-copy")
}

func baseline(ctx context.Context, source *Source, group *store.Group, at align.Space, t cdc.Table, e cdc.Epoch) error {
	snapshot, err := source.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	loader, err := group.Loader(at, false)
	if err != nil {
		return err
	}
	var row []byte
	err = snapshot.Rows(ctx, t, e, func(k digest.Key, r *digest.Row) error {
		row = digest.AppendRow(row[:0], r)
		return loader.Add(k, row)
	})
	if err != nil {
		return err
	}
	if err := loader.Close(); err != nil {
		return err
	}
	_, _, err = loader.Sum(nil, true, 1000)
	return err
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
