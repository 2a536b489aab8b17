package daemon_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
)

// A reference that subscribes itself shows what it has replayed with the end that the transaction had in the log of its own
// publisher. Its subscribers mark the same transaction with the end that it has in the reference's log. While it went by the
// former name it was in flight for ever, or for none, and a false alarm.
func TestAReferenceThatIsASubscriberItselfRaisesNoAlarm(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable})
	w := &watch{t: t, c: configured{c, func(g *config.Group) {
		g.Members = slices.DeleteFunc(g.Members, func(m config.Member) bool { return m.Name == "eu-1" })
		g.Reference = "us-1"
	}}}
	w.exec("us-2", "DROP SUBSCRIPTION app_1")
	w.exec("us-1", "CREATE PUBLICATION onward FOR ALL TABLES")
	w.exec("us-2", fmt.Sprintf("CREATE SUBSCRIPTION onward CONNECTION '%s' PUBLICATION onward", c.Member("us-1").DSN(cluster.Database)))
	for range 4 { // so that the positions of the publisher's log are far ahead of the reference's
		w.exec("eu-1", "CREATE TABLE spare (id int)", "DROP TABLE spare", "SELECT pg_switch_wal()")
	}
	w.start()
	w.exec("eu-1", items(1, 100))
	w.until("the rows to arrive at the end", func() bool { return w.table("us-2", "public.items").Rows == 100 })
	w.exec("eu-1", "UPDATE items SET price = 9 WHERE id <= 50", "DELETE FROM items WHERE id > 90")
	w.until("all to be replayed", func() bool { return w.table("us-2", "public.items").Rows == 90 })
	w.inStep()
	w.exec("us-2", "UPDATE items SET price = 1 WHERE id = 7")
	w.finds(`us-2 public.items changed errant_transaction {"id":7}..{"id":7}`)
	w.exec("eu-1", "UPDATE items SET price = 3 WHERE id = 7")
	w.finds()
	for _, d := range w.divergences() {
		if s := summary(d); s != `us-2 public.items changed errant_transaction {"id":7}..{"id":7}` {
			t.Errorf("false alarm: %s (%s)", s, d.Detail)
		}
	}
}
