package daemon_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// configured are servers that are watched by another configuration.
type configured struct {
	servers
	change func(*config.Group)
}

func (s configured) Configuration() *config.Config {
	c := *s.servers.Configuration()
	c.Groups = slices.Clone(c.Groups)
	g := &c.Groups[0]
	g.Members, g.Tables.Overrides = slices.Clone(g.Members), slices.Clone(g.Tables.Overrides)
	s.change(g)
	return &c
}

// scrubbedEvery has all rows read again within that time, without anybody asking for it.
func scrubbedEvery(s servers, every time.Duration) servers {
	return configured{s, func(g *config.Group) { g.Scrub.Every = every }}
}

func TestRollingScrubFindsWhatNoLogShows(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.c = scrubbedEvery(c, 2*time.Second)
		w.exec("eu-1", rowsOf(1, 3000))
		w.replayed()
		w.start()
		w.inStep()
		w.silently("us-1", "UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12")
		w.silently("us-2", "DELETE FROM items WHERE id = 2900")
		w.finds(
			`us-1 app.items changed silent {"id":10}..{"id":12}`,
			`us-2 app.items missing silent {"id":2900}..{"id":2900}`,
		)
	})
}

// A replica that writes no log of what it replays shows nothing but its rows.
func TestSoakOfAReplicaWithoutABinlogThatIsScanned(t *testing.T) {
	needSoak(t)
	o := cluster.Options{Schema: load.MySQLSchema, LagBudget: 5 * time.Second}
	onMySQL(t, o, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.c = configured{c, func(g *config.Group) { g.Member("us-2").ScanOnly = true }}
		if err := load.Fill(t.Context(), c.DSN("eu-1")); err != nil {
			t.Fatal(err)
		}
		replica := c.Member("us-2")
		if err := replica.RestartWith(t.Context(), map[string]string{"skip_log_bin": "1"}); err != nil {
			t.Fatal(err)
		}
		if err := replica.WaitReplicating(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.inStep()
		writing := load.Start(t.Context(), c.DSN("eu-1"), load.Options{Clients: 2, Pause: 5 * time.Millisecond, Seed: 8})
		w.scrub()
		if err := writing.Stop(); err != nil {
			t.Fatal(err)
		}
		w.replayed()
		w.inStep()
		w.neverDiverged()

		id := load.ReservedFrom + 3
		w.exec("us-2", fmt.Sprintf("UPDATE accounts SET owner = 'other' WHERE id = %d", id), fmt.Sprintf("DELETE FROM accounts WHERE id = %d", id+5))
		w.scrub()
		w.finds(
			fmt.Sprintf(`us-2 app.accounts changed silent {"id":%d}..{"id":%d}`, id, id),
			fmt.Sprintf(`us-2 app.accounts missing silent {"id":%d}..{"id":%d}`, id+5, id+5),
		)
		w.exec("eu-1", fmt.Sprintf("UPDATE accounts SET owner = 'again' WHERE id = %d", id))
		w.finds(fmt.Sprintf(`us-2 app.accounts missing silent {"id":%d}..{"id":%d}`, id+5, id+5))
	})
}
