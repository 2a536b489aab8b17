package daemon_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/status"
)

// scrub has all rows read again and waits for the end.
func (w *watch) scrub(tables ...string) {
	w.t.Helper()
	w.scrubOf(align.ScrubRequest{Tables: tables})
}

func (w *watch) scrubOf(want align.ScrubRequest) {
	w.t.Helper()
	g := w.daemon.Groups()[0]
	request, err := g.RequestScrub(w.t.Context(), want)
	if err != nil {
		w.t.Fatal(err)
	}
	w.until("the scrub to end", func() bool {
		for _, r := range g.ScrubRequests() {
			if r.ID == request.ID {
				return r.Finished != nil
			}
		}
		w.t.Fatal("the scrub is not listed")
		return false
	})
}

// silently runs statements on a server of MySQL or MariaDB that its log does not show.
func (w *watch) silently(member string, sql ...string) {
	w.t.Helper()
	w.exec(member, append([]string{"SET sql_log_bin = 0"}, sql...)...)
}

func TestRowsChangedWithoutATraceInTheLogAreFoundByAScrub(t *testing.T) {
	onMySQL97(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.exec("eu-1", rowsOf(1, 3000))
		w.replayed()
		w.start()
		w.inStep()
		w.scrub()
		w.neverDiverged()

		w.silently("us-1",
			"UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12",
			"DELETE FROM items WHERE id = 2000",
			"INSERT INTO items VALUES (9000, 'extra', 1)")
		w.silently("eu-1", "UPDATE items SET price = 99 WHERE id = 500")
		w.scrub("app.items")
		w.finds(
			`us-1 app.items changed silent {"id":10}..{"id":12} {"id":500}..{"id":500}`,
			`us-1 app.items missing silent {"id":2000}..{"id":2000}`,
			`us-1 app.items extra silent {"id":9000}..{"id":9000}`,
			`us-2 app.items changed silent {"id":500}..{"id":500}`,
		)
		if n := w.table("us-1", "app.items").Silent; n != 5 {
			t.Errorf("%d rows of us-1 are counted as changed without a trace, want 5", n)
		}

		w.silently("us-1",
			"UPDATE items SET name = CONCAT('item ', id) WHERE id BETWEEN 10 AND 12",
			"INSERT INTO items VALUES (2000, 'item 2000', 2000 % 7)",
			"DELETE FROM items WHERE id = 9000")
		w.silently("eu-1", "UPDATE items SET price = 500 % 7 WHERE id = 500")
		w.scrub()
		w.finds()
		w.inStep()
		w.checkDigests()
	})
}

func TestAScrubOfARangeReadsThatRangeOnly(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: mysqlTable}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.exec("eu-1", rowsOf(1, 3000))
		w.replayed()
		w.start()
		w.inStep()
		w.silently("us-1", "UPDATE items SET name = 'other' WHERE id IN (10, 1500, 2990)")
		between := func(first, last string) align.ScrubRequest {
			return align.ScrubRequest{Tables: []string{"app.items"}, FirstKey: json.RawMessage(first), LastKey: json.RawMessage(last)}
		}
		w.scrubOf(between(`1500`, `{"id":1500}`))
		w.finds(`us-1 app.items changed silent {"id":1500}..{"id":1500}`)
		w.scrubOf(align.ScrubRequest{Tables: []string{"app.items"}, FirstKey: json.RawMessage(`2990`), Members: []string{"us-1"}})
		w.finds(`us-1 app.items changed silent {"id":1500}..{"id":1500} {"id":2990}..{"id":2990}`)
		w.scrub()
		w.finds(`us-1 app.items changed silent {"id":10}..{"id":10} {"id":1500}..{"id":1500} {"id":2990}..{"id":2990}`)

		two := between(`1`, `2`)
		two.Tables = append(two.Tables, "app.items")
		for want, request := range map[string]align.ScrubRequest{
			"the last key comes before the first": between(`20`, `10`),
			"is not an integer":                   between(`"abc"`, `10`),
			"key lacks column":                    between(`{"nosuch":1}`, `10`),
			"name that, and no other":             two,
		} {
			if _, err := w.daemon.Groups()[0].RequestScrub(t.Context(), request); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v to %v: %v, want: %s", string(request.FirstKey), string(request.LastKey), err, want)
			}
		}
	})
}

const cascadingTables = `CREATE TABLE parents (id bigint PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE children (id bigint PRIMARY KEY, parent bigint, CONSTRAINT fk_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE) ENGINE=InnoDB;`

// A cascade deletes rows on every server, and where InnoDB carries it out no log shows it.
func TestRowsThatACascadeDeletedOnAllMembersDoNotDiffer(t *testing.T) {
	onMariaDB(t, cluster.Options{Schema: cascadingTables}, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		w.exec("eu-1", "INSERT INTO parents VALUES (1), (2), (3)", "INSERT INTO children VALUES (10, 1), (11, 1), (20, 2), (30, 3)")
		w.replayed()
		w.start()
		w.inStep()
		w.exec("eu-1", "DELETE FROM parents WHERE id = 1")
		w.replayed()
		w.scrub()
		for _, member := range []string{"eu-1", "us-1", "us-2"} { // what was not as the log says is read once more after the scrub
			w.until("lockstep to keep 2 children of "+member, func() bool { return w.table(member, "app.children").Rows == 2 })
		}
		w.inStep()
		w.neverDiverged()
		w.silently("us-2", "DELETE FROM children WHERE id = 30")
		w.scrub()
		w.finds(`us-2 app.children missing silent {"id":30}..{"id":30}`)
	})
}

func TestSoakOfScrubsOfPostgreSQLUnderLoad(t *testing.T) {
	needSoak(t)
	c := startCluster(t, cluster.Options{Schema: load.Schema, LagBudget: 10 * time.Second})
	if err := load.Fill(t.Context(), c.DSN("eu-1")); err != nil {
		t.Fatal(err)
	}
	w := startWatch(t, c)
	w.inStep()
	writing := load.Start(t.Context(), c.DSN("eu-1"), load.Options{Clients: 2, Pause: 5 * time.Millisecond, Seed: 3})
	for range 3 {
		w.scrub()
	}
	if err := writing.Stop(); err != nil {
		t.Fatal(err)
	}
	w.replayed()
	w.inStep()
	w.neverDiverged()
	w.checkDigests()
	for _, m := range w.daemon.Groups()[0].Status().Members {
		for _, table := range m.Tables {
			if table.Silent > 0 || table.VerifiedAt.IsZero() || table.Verdict != status.InStep {
				t.Errorf("%s %s: %d silent changes, verified at %v, %s", m.Name, table.Table, table.Silent, table.VerifiedAt, table.Verdict)
			}
		}
	}
}
