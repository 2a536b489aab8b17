package postgres

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// otherEncodings reads tables of databases that are not in UTF8 in parts and by their keys, which must agree with the stream.
func otherEncodings(t *testing.T, s servers) {
	for encoding, order := range map[string]cdc.Order{"KOI8R": cdc.ServerOrder, "LATIN1": cdc.KeyOrder, "SQL_ASCII": cdc.KeyOrder} {
		t.Run(encoding, func(t *testing.T) {
			db := *s.publisher
			db.Database = fmt.Sprintf("shop_%d", databases.Add(1))
			dbtest.ExecT(t, s.publisher, fmt.Sprintf("CREATE DATABASE %s ENCODING '%s' LOCALE 'C' TEMPLATE template0", db.Database, encoding))
			// Bytes above 0x7f in an order that is not that of what they mean.
			row := "convert_from('\\x%02x%02x', getdatabaseencoding())"
			insert := "INSERT INTO t VALUES ('a', 'x')"
			for _, b := range []int{0xc0, 0xc1, 0xd1, 0xd2, 0xf6, 0xff} {
				insert += fmt.Sprintf(", ("+row+", "+row+")", b, 'k', b, b)
			}
			dbtest.ExecT(t, &db, `CREATE TABLE t (k text PRIMARY KEY, v text);`+insert+`;CREATE PUBLICATION lockstep_shop FOR ALL TABLES`)
			m := watch(t, &db)
			m.streaming()
			if table, _ := m.table("public.t"); table.Order != order {
				t.Errorf("order %d, want %d", table.Order, order)
			}
			all, _ := m.part("public.t", cdc.Part{Limit: 1000})
			if len(all) != 7 || order == cdc.KeyOrder && !slices.IsSortedFunc(all, func(a, b digest.Key) int { return bytes.Compare(a, b) }) {
				t.Errorf("%d rows, in the order %x", len(all), all)
			}
			for i := range all {
				if one, _ := m.part("public.t", cdc.Part{Keys: all[i : i+1]}); len(one) != 1 || !bytes.Equal(one[0], all[i]) {
					t.Errorf("by the key %x come %x", all[i], one)
				}
				if rest, _ := m.part("public.t", cdc.Part{After: all[i], Limit: 1000}); len(rest) != len(all)-1-i {
					t.Errorf("after %x come %d rows, want %d", all[i], len(rest), len(all)-1-i)
				}
			}
			m.exec("UPDATE t SET v = 'y'")
			got := m.caughtUp()
			var changed []digest.Key
			for _, c := range got[len(got)-1].Changes {
				changed = append(changed, c.Key)
			}
			slices.SortFunc(changed, func(a, b digest.Key) int { return bytes.Compare(a, b) })
			slices.SortFunc(all, func(a, b digest.Key) int { return bytes.Compare(a, b) })
			if !slices.EqualFunc(changed, all, func(a, b digest.Key) bool { return bytes.Equal(a, b) }) {
				t.Errorf("the stream shows %x, the table has %x", changed, all)
			}
			report := runCheck(t, optionsOf(&db), func(string) bool { return true })
			if !slices.ContainsFunc(report.Checks, func(c preflight.Check) bool { return c.Subject == "encoding" && c.State == preflight.Warn }) {
				t.Errorf("%+v, want a warning of the encoding", report)
			}
		})
	}
}
