package mysql

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// unlogged are settings by which a replica has nothing of what it replays in a log of its own, or all. What it has applied
// MySQL tells alike in the last two, MariaDB in the first two: the others are left to `make soak`.
var unlogged = []struct {
	name           string
	mariadb, mysql map[string]string
	soak           dbtest.Flavour
}{
	{"no log", map[string]string{"skip_log_bin": "1"}, map[string]string{"skip_log_bin": "1"}, ""},
	{"a log of its own writes only", map[string]string{"log_slave_updates": "OFF"}, map[string]string{"log_replica_updates": "OFF"}, dbtest.MariaDB1011},
	{"a log of all", nil, nil, dbtest.MySQL97}, // as internal/dbtest has it
}

// manyAppliers are the options of a server that applies by several workers, each as soon as it can.
func manyAppliers(install dbtest.MySQLInstall, mariadb, mysql map[string]string) dbtest.Options {
	o := anew
	o.Conf = map[string]string{"replica_parallel_workers": "4", "replica_preserve_commit_order": "OFF"}
	if install.Flavour.MariaDB() {
		o.Conf, mysql = map[string]string{"slave_parallel_threads": "4", "slave_parallel_mode": "optimistic"}, mariadb
	}
	maps.Copy(o.Conf, mysql)
	return o
}

// scannedReplica is a replica whose log is not read, and its primary.
func scannedReplica(t *testing.T, install dbtest.MySQLInstall, mariadb, mysql map[string]string, schema string) (*dbtest.MySQLGroup, *Source) {
	t.Helper()
	primary := dbtest.StartMySQLT(t, install, anew)
	replica := dbtest.StartMySQLT(t, install, manyAppliers(install, mariadb, mysql))
	g := &dbtest.MySQLGroup{Primary: primary, Replicas: []*dbtest.MySQLServer{replica}}
	err := errors.Join(replica.Follow(t.Context(), primary), g.GrantLockstep(t.Context(), "pw"))
	if err == nil {
		err = primary.Exec(t.Context(), schema)
	}
	if err := errors.Join(err, g.WaitCaughtUp(t.Context())); err != nil {
		t.Fatal(err)
	}
	s := probe(t, replica, "")
	s.options.ScanOnly = true
	return g, s
}

// TestReplicaWithoutLogShowsWhatItSaysItHasApplied reads the rows of replicas again and again while they apply. What a
// replica had applied before a read, the read must show.
func TestReplicaWithoutLogShowsWhatItSaysItHasApplied(t *testing.T) {
	for _, f := range flavours {
		for _, u := range unlogged {
			if u.soak == f && !soak {
				continue
			}
			t.Run(fmt.Sprintf("%v with %s", f, u.name), func(t *testing.T) {
				t.Parallel()
				g, s := scannedReplica(t, dbtest.NeedMySQL(t, f), u.mariadb, u.mysql, "CREATE TABLE inserted (k int PRIMARY KEY, n int)")
				showsApplied(t, g, s)
			})
		}
	}
}

func showsApplied(t *testing.T, g *dbtest.MySQLGroup, s *Source) {
	f, in := follow(t, g.Primary, "app", "inserted"), &inserts{table: "inserted"}
	table := catalog(t, s, "app")["inserted"]
	type read struct {
		after   digest.Key
		applied cdc.TxSet
		rows    map[string]bool
	}
	var reads []read
	while(t, g.Primary, 4, in.ofAllKinds, func() {
		for range rounds(40) {
			part := in.lastRows(f)
			p, err := s.Progress(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			r := read{part.After, p.Applied[cdc.GTIDLane], map[string]bool{}}
			view, err := s.Read(t.Context(), table, epochOf(table), part, func(k digest.Key, _ *digest.Row) error {
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
				if c.Key.Compare(r.after) <= 0 {
					continue
				}
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

func TestReplicaWithoutLogIsFitToBeScanned(t *testing.T) {
	checkEach(t, func(t *testing.T, install dbtest.MySQLInstall) {
		mariadb := install.Flavour.MariaDB()
		g, s := scannedReplica(t, install, unlogged[0].mariadb, unlogged[0].mysql, "CREATE TABLE orders (id INT PRIMARY KEY)")
		replica, sees := g.Replicas[0], "REPLICATION CLIENT"
		if mariadb {
			sees = "SLAVE MONITOR"
		}
		run(t, replica, "CREATE USER scanner@'%'", "GRANT SELECT ON app.* TO scanner@'%'")
		o, match := checkOptions(replica, "scanner"), checkPrefix("app.")
		o.ScanOnly = true
		lacking := []string{"fail account: 'scanner'@'%' lacks " + sees}
		if diff := cmp.Diff(lacking, notOK(runCheck(t, o, match))); diff != "" {
			t.Errorf("without the right to see replication: %s", diff)
		}
		run(t, replica, "GRANT "+sees+" ON *.* TO scanner@'%'")
		r := runCheck(t, o, match)
		if diff := cmp.Diff([]string(nil), notOK(r)); diff != "" {
			t.Errorf("%s", diff)
		}
		if c := checkOf(t, r, "log_bin"); c.Detail != "OFF; the log is not read, rows are scanned" {
			t.Errorf("%+v", c)
		}
		o.ScanOnly = false
		if lines := strings.Join(notOK(runCheck(t, o, match)), "\n"); !strings.Contains(lines, "fail log_bin: OFF") {
			t.Errorf("as a member whose log is read: %s", lines)
		}
		s.options.ScanOnly = false
		if _, err := s.Tables(t.Context(), match); !cdc.IsSetup(err) {
			t.Errorf("as a member whose log is read: %v", err)
		}
	})
}

// TestPreparedTransactionsOfMariaDBKeepItFromSayingWhatCanBeRead is about a server of its own and a replica that has
// transactions which may be in the log as committed.
func TestPreparedTransactionsOfMariaDBKeepItFromSayingWhatCanBeRead(t *testing.T) {
	g, s := scannedReplica(t, dbtest.NeedMySQL(t, dbtest.MariaDB1011), nil, nil, "CREATE TABLE a (id INT PRIMARY KEY)")
	primary := probe(t, g.Primary, "")
	primary.options.ScanOnly = true
	applied := func(s *Source) cdc.TxSet {
		t.Helper()
		p, err := s.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p.Applied[cdc.GTIDLane]
	}
	before := applied(primary)
	if before.IsZero() || !applied(s).Covers(before) {
		t.Errorf("the primary shows %v, its replica %v", before, applied(s))
	}
	run(t, g.Primary, "XA START 'held'; INSERT INTO app.a VALUES (1); XA END 'held'; XA PREPARE 'held'")
	if _, err := primary.Progress(t.Context()); !errors.Is(err, errPreparedXA) {
		t.Errorf("%v", err)
	}
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := applied(s); !got.Covers(before) {
		t.Errorf("a replica that has something prepared shows %v", got)
	}
	run(t, g.Primary, "XA COMMIT 'held'")
	if err := g.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := applied(primary); before.Covers(after) || !applied(s).Covers(after) {
		t.Errorf("the primary shows %v after %v, its replica %v", after, before, applied(s))
	}
}
