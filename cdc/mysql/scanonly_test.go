package mysql

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/internal/dbtest"
)

// unlogged are settings by which a replica has nothing of what it replays in a log of its own.
var unlogged = []struct {
	name           string
	mariadb, mysql map[string]string
}{
	{"no log", map[string]string{"skip_log_bin": "1"}, map[string]string{"skip_log_bin": "1"}},
	{"a log of its own writes only", map[string]string{"log_slave_updates": "OFF"}, map[string]string{"log_replica_updates": "OFF"}},
	{"a log of all", map[string]string{"log_slave_updates": "ON"}, map[string]string{"log_replica_updates": "ON"}},
}

// scannedReplica is a replica whose log is not read, and its primary. Several workers apply, each as soon as it can.
func scannedReplica(t *testing.T, install dbtest.MySQLInstall, mariadb, mysql map[string]string, schema string) (*dbtest.MySQLGroup, *Source) {
	t.Helper()
	g := dbtest.MySQLGroupT(t, install, 1, schema, dbtest.Options{})
	if err := g.GrantLockstep(t.Context(), "pw"); err != nil {
		t.Fatal(err)
	}
	conf := map[string]string{"replica_parallel_workers": "4", "replica_preserve_commit_order": "OFF"}
	maps.Copy(conf, mysql)
	if install.Flavour.MariaDB() {
		conf = map[string]string{"slave_parallel_threads": "4", "slave_parallel_mode": "optimistic"}
		maps.Copy(conf, mariadb)
	}
	replica := g.Replicas[0]
	if err := replica.RestartWith(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	if err := replica.WaitReplicating(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := probe(t, replica, "")
	s.options.ScanOnly = true
	return g, s
}

// TestReplicaWithoutLogShowsWhatItSaysItHasApplied reads the rows of replicas again and again while they apply. What a
// replica had applied before a read, the read must show.
func TestReplicaWithoutLogShowsWhatItSaysItHasApplied(t *testing.T) {
	for _, f := range []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97} {
		for _, u := range unlogged {
			t.Run(fmt.Sprintf("%v with %s", f, u.name), func(t *testing.T) {
				g, s := scannedReplica(t, dbtest.NeedMySQL(t, f), u.mariadb, u.mysql, "CREATE TABLE inserted (k int PRIMARY KEY, n int)")
				showsApplied(t, g, s)
			})
		}
	}
}

func showsApplied(t *testing.T, g *dbtest.MySQLGroup, s *Source) {
	f := follow(t, g.Primary, "app", "inserted")
	table := catalog(t, s, "app")["inserted"]
	type read struct {
		applied cdc.TxSet
		rows    map[string]bool
	}
	var reads []read
	while(t, g.Primary, 4, insertsOfAllKinds, func() {
		for range 40 {
			p, err := s.Progress(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			r := read{p.Applied[cdc.GTIDLane], map[string]bool{}}
			view, err := s.Read(t.Context(), table, epochOf(table), cdc.Part{}, func(k digest.Key, _ *digest.Row) error {
				r.rows[string(k)] = true
				return nil
			})
			if err != nil || view != (cdc.View{}) || p.Barrier != 0 {
				t.Errorf("%+v at %v, %v", view, p.Barrier, err)
				return
			}
			reads = append(reads, r)
		}
	})
	transactions := f.all()
	missing, shown := map[string]int{}, 0
	for _, r := range reads {
		for _, transaction := range transactions {
			if !r.applied.Contains(transaction.ID) {
				continue
			}
			for _, c := range transaction.Changes {
				if shown++; !r.rows[string(c.Key)] {
					missing[fmt.Sprintf("%x", c.Key)]++
				}
			}
		}
	}
	if len(missing) > 0 || shown == 0 {
		t.Errorf("of %d rows that were applied, the reads that followed did not show %v", shown, missing)
	}
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := s.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := transactions[len(transactions)-1].ID; !p.Applied[cdc.GTIDLane].Contains(want) || !p.Lanes[0].Enabled {
		t.Errorf("a replica that has caught up has applied %v, not %v: %+v", p.Applied, want, p.Lanes)
	}
}

// insertsOfAllKinds is a statement of a writer: two of four write distributed transactions.
func insertsOfAllKinds(writer, n int) string {
	if writer < 2 {
		if n%2 == 1 {
			return "DO SLEEP(0.002)" // the table is read whole, again and again
		}
		return fmt.Sprintf("INSERT INTO app.inserted VALUES (%d, 1), (%d, 1)", 1_000_000*writer+2*n, 1_000_000*writer+2*n+1)
	}
	switch n % 5 {
	case 0:
		return fmt.Sprintf("XA START 'x%d'", writer)
	case 1:
		return fmt.Sprintf("INSERT INTO app.inserted VALUES (%d, 1), (%d, 1)", 1_000_000*writer+n, 1_000_000*writer+n+1)
	case 2:
		return fmt.Sprintf("XA END 'x%d'", writer)
	case 3:
		return fmt.Sprintf("XA PREPARE 'x%d'", writer)
	}
	return fmt.Sprintf("XA COMMIT 'x%d'", writer)
}

var _ context.Context
