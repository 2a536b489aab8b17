package daemon_test

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
)

// withoutRowIndex are servers of which no digests of rows are kept of some tables.
type withoutRowIndex struct {
	servers
	tables []string
}

func (s withoutRowIndex) Configuration() *config.Config {
	return configured{s.servers, func(g *config.Group) {
		for _, name := range s.tables {
			g.Tables.Overrides = append(g.Tables.Overrides, config.Override{Table: name, NoRowIndex: true})
		}
	}}.Configuration()
}

// What differs is found with its keys, its transaction and its cause although no rows are kept.
func TestDifferencesInATableWithoutARowIndexAreFoundWithTheirKeys(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.c = withoutRowIndex{c, []string{"app.items"}}
		w.exec("eu-1", rowsOf(1, 3000))
		w.replayed()
		w.silently("us-1", "DELETE FROM items WHERE id = 2000")
		w.start()
		w.finds(`us-1 app.items missing preexisting {"id":2000}..{"id":2000}`)
		w.exec("us-1", "INSERT INTO items VALUES (2000, 'item 2000', 2000 % 7)")
		w.finds()

		w.exec("us-2", "INSERT INTO items VALUES (9000, 'extra', 1)", "UPDATE items SET price = 99 WHERE id IN (5, 6)")
		w.finds(
			`us-2 app.items extra errant_transaction {"id":9000}..{"id":9000}`,
			`us-2 app.items changed errant_transaction {"id":5}..{"id":6}`,
		)
		for _, d := range w.open() {
			if d.IntroducedBy == nil {
				t.Errorf("%s names no transaction", summary(d))
			}
		}
		w.exec("us-2", "DELETE FROM items WHERE id = 9000")
		w.exec("eu-1", "UPDATE items SET price = 98 WHERE id IN (5, 6)")
		w.finds()
		w.replayed()
		w.inStep()

		w.silently("us-1",
			"UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12",
			"INSERT INTO items VALUES (9100, 'extra', 1)")
		w.silently("eu-1", "UPDATE items SET price = 99 WHERE id = 1500")
		w.scrub()
		w.finds(
			`us-1 app.items changed silent {"id":10}..{"id":12} {"id":1500}..{"id":1500}`,
			`us-1 app.items extra silent {"id":9100}..{"id":9100}`,
			`us-2 app.items changed silent {"id":1500}..{"id":1500}`,
		)
		w.stop()
		w.start()
		w.exec("eu-1", "UPDATE items SET name = 'healed', price = 5 WHERE id IN (10, 11, 12, 1500)", "DELETE FROM items WHERE id = 9100")
		w.exec("us-1", "DELETE FROM items WHERE id = 9100")
		w.finds()
		w.replayed()
		w.inStep()
		w.checkDigests()
	})
}
