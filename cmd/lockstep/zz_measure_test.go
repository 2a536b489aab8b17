package main

import (
	"os"
	"strings"
	"testing"
	"time"
	"fmt"

	"lockstep/internal/cluster"
	"lockstep/internal/dbtest"
)

func TestZZMeasure(t *testing.T) {
	if os.Getenv("MEASURE") == "" { t.Skip() }
	schema := "CREATE TABLE orders (id bigint PRIMARY KEY, a int, b text, c timestamptz, d numeric(12,2));"
	o := diffOptionsOf(t, schema)
	o.Install = dbtest.Need(t, dbtest.PG15)
	c, err := cluster.Start(t.Context(), o)
	if err != nil { t.Fatal(err) }
	defer c.Close()
	fill := "INSERT INTO orders SELECT n, n%100, repeat(md5(n::text),4), now(), n/7.0 FROM generate_series(1,1000000) n"
	if err := c.Exec(t.Context(), "eu-1", fill); err != nil { t.Fatal(err) }
	if err := c.WaitCaughtUp(t.Context()); err != nil { t.Fatal(err) }
	for _, m := range []string{"eu-1","us-1"} { c.Exec(t.Context(), m, "VACUUM ANALYZE orders") }
	d := &diffed{replicated: c, t: t, schema: "public", yaml: c.YAML}
	for i := range 4 {
		if i == 3 { c.Exec(t.Context(), "us-1", "UPDATE orders SET a=a+1 WHERE id % 10000 = 0") }
		began := time.Now()
		code, out, _ := d.diff()
		fmt.Println(code, time.Since(began)); _ = strings.Count
		if i == 3 { fmt.Println(out[:400], out[len(out)-500:]) } else { fmt.Println(out) }
	}
}
