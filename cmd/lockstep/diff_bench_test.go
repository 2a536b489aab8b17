package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

const (
	millionRows = `INSERT INTO items SELECT i, i % 50000, 'state ' || i % 4, (i % 100000) / 100.0, md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 1000000) i`
	millionSQL  = `INSERT INTO items WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
		SELECT i, i % 50000, CONCAT('state ', i % 4), (i % 100000) / 100.0, CONCAT(MD5(i), MD5(i + 1)) FROM n`
	millionTable = `CREATE TABLE items (id bigint PRIMARY KEY, customer bigint, state varchar(20), amount numeric(12,2), address varchar(100));`
)

// BenchmarkDiff compares a table of a million rows of about 160 bytes on a primary and one replica, of which three differ. It reports the
// median of seconds.
func BenchmarkDiff(b *testing.B) {
	o := func() cluster.Options {
		return cluster.Options{Schema: millionTable, Subscribers: 1, DataDir: b.TempDir(), Server: dbtest.Options{Below: dbtest.MemoryDir()}}
	}
	b.Run("PostgreSQL 15", func(b *testing.B) {
		o := o()
		o.Install = dbtest.Need(b, dbtest.PG15)
		c, err := cluster.Start(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		compareMillion(b, c.YAML, c, millionRows)
	})
	b.Run("MariaDB 10.11", func(b *testing.B) {
		c, err := cluster.StartMySQL(b.Context(), dbtest.NeedMySQL(b, dbtest.MariaDB1011), o())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		compareMillion(b, c.YAML, c, "SET SESSION max_recursive_iterations = 10000000; "+millionSQL)
	})
}

func compareMillion(b *testing.B, yaml string, c interface {
	Exec(ctx context.Context, member string, statements ...string) error
	WaitCaughtUp(ctx context.Context) error
}, fill string) {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(c.Exec(b.Context(), "eu-1", strings.Split(fill, "; ")...))
	must(c.WaitCaughtUp(b.Context()))
	must(c.Exec(b.Context(), "us-1", "DELETE FROM items WHERE id = 500000", "UPDATE items SET customer = 1 WHERE id IN (10, 999999)"))
	file := writeFile(b, "lockstep.yaml", yaml)
	var took []float64
	for b.Loop() {
		began := time.Now()
		var out, errs strings.Builder
		if code := execute(b.Context(), []string{"diff", "-c", file, "-o", "json"}, &out, &errs); code != exitDiverged || !strings.Contains(out.String(), "500000") {
			b.Fatalf("exit code %d, %s%s", code, out.String(), errs.String())
		}
		took = append(took, time.Since(began).Seconds())
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "s/diff")
}
