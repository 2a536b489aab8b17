package mysql

import (
	"context"
	"testing"

	"lockstep/cdc"
	"lockstep/internal/dbtest"
)

func TestLabTight(t *testing.T) {
	for _, f := range []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97} {
		for _, u := range unlogged {
			t.Run(f.String()+u.name, func(t *testing.T) {
				g, s := scannedReplica(t, dbtest.NeedMySQL(t, f), u.mariadb, u.mysql, "CREATE TABLE inserted (k int PRIMARY KEY, n int)")
				fo := follow(t, g.Primary, "app", "inserted")
				type read struct {
					applied cdc.TxSet
					rows    map[string]bool
				}
				var reads []read
				while(t, g.Primary, 3, func(w, n int) string { return insertsOfAllKinds(w+2, n) }, func() {
					for range 1500 {
						err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
							a, err := readVisible(ctx, c)
							if err != nil {
								return err
							}
							rows, err := c.query(ctx, "SELECT k FROM app.inserted")
							r := read{a, map[string]bool{}}
							for _, x := range rows {
								r.rows[x.at(0)] = true
							}
							reads = append(reads, r)
							return err
						})
						if err != nil {
							t.Fatal(err)
						}
					}
				})
				txs := fo.all()
				miss, n := 0, 0
				for _, r := range reads {
					for _, tx := range txs {
						if r.applied.Contains(tx.ID) {
							for _, c := range tx.Changes {
								k, _ := fo.epoch.Shape.KeyJSON(c.Key)
								key := string(k[5 : len(k)-1])
								n++
								if !r.rows[key] {
									miss++
								}
							}
						}
					}
				}
				t.Logf("reads %d, txs %d, checked %d missing %d", len(reads), len(txs), n, miss)
			})
		}
	}
}
