package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestSnapshots(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"without a stream there is none":                      unstreamed,
		"table that was altered since is refused":             altered,
		"table that is altered while it is read is refused":   alteredMeanwhile,
		"tables are not locked longer than they are read":     notLocked,
		"view ends where the log did":                         settles,
		"what the stream has shown is waited for":             awaited,
		"an idle server that has rotated its log has a view":  idle,
		"the privilege to read rows is asked for":             mayNotRead,
		"the end of a context ends a scan":                    cancelled,
		"columns that are not compared are not read":          narrowed,
		"an error of the receiver ends a scan and is told on": refusedRow,
	})
}

// streaming says that the stream has been yielded up to the end of the log as it is now.
func streaming(t *testing.T, s *Source) {
	t.Helper()
	p, err := s.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.begin(cdc.Position{LSN: p.Barrier, Shown: p.Applied[cdc.GTIDLane], Last: p.Applied[cdc.GTIDLane]})
}

// view opens a snapshot that ends with the test.
func view(t *testing.T, s *Source) cdc.Snapshot {
	t.Helper()
	v, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// scanned reads the keys of a table.
func scanned(t *testing.T, v cdc.Snapshot, table cdc.Table) ([]string, error) {
	t.Helper()
	epoch := epochOf(table)
	keys := []string{}
	err := v.Rows(t.Context(), table, epoch, func(k digest.Key, _ *digest.Row) error {
		text, err := epoch.Shape.KeyJSON(k)
		keys = append(keys, string(text))
		return err
	})
	slices.Sort(keys)
	return keys, err
}

func unstreamed(t *testing.T, server *dbtest.MySQLServer) {
	if _, err := probe(t, server, "").Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "its stream has not begun yet") {
		t.Errorf("%v", err)
	}
}

func altered(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE altered")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		run(t, server, fmt.Sprintf("CREATE TABLE altered.%s (id int PRIMARY KEY, n int); INSERT INTO altered.%s VALUES (1, 1)", name, name))
	}
	s := probe(t, server, "")
	tables := catalog(t, s, "altered")
	streaming(t, s)
	v := view(t, s)
	run(t, server, "ALTER TABLE altered.a MODIFY n bigint", "ALTER TABLE altered.b ADD x int DEFAULT 5", "TRUNCATE altered.c", "DROP TABLE altered.d", "ALTER TABLE altered.e ENGINE = InnoDB")
	want := map[string]string{"a": "definition has changed", "b": "definition has changed", "d": "does not exist"}
	if !server.Install.Flavour.MariaDB() {
		want["d"] = "definition has changed"
	}
	for name, table := range tables {
		keys, err := scanned(t, v, table)
		if words := want[name]; words != "" && (err == nil || !strings.Contains(err.Error(), words)) || words == "" && err != nil {
			t.Errorf("%s: %v, want one about %q", name, err, words)
		}
		if err == nil && (name == "c") != (len(keys) == 0) {
			t.Errorf("%s: %v", name, keys)
		}
	}
	old := tables["e"]
	old.Version = "forgotten"
	if _, err := scanned(t, v, old); err == nil || !strings.Contains(err.Error(), "definition has changed") {
		t.Errorf("%v", err)
	}
}

// alteredMeanwhile alters a table after its view has begun: on MySQL between two chunks; on MariaDB before the table is
// opened, for from then on an ALTER TABLE waits.
func alteredMeanwhile(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.moving (id int PRIMARY KEY, n int)", "INSERT INTO app.moving VALUES (1, 1), (2, 2), (3, 3)")
	s := probe(t, server, "")
	s.firstChunk, s.chunk = 1, time.Nanosecond
	table := catalog(t, s, "app")["moving"]
	streaming(t, s)
	v := view(t, s)
	if server.Install.Flavour.MariaDB() {
		for _, statement := range []string{"TRUNCATE app.moving", "ALTER TABLE app.moving ENGINE = InnoDB", "ALTER TABLE app.moving FORCE, ALGORITHM = COPY"} {
			if _, _, err := v.(*snapshot).openView(t.Context()); err != nil {
				t.Fatal(err)
			}
			run(t, server, statement)
			r, err := s.rowReader(s.definition(table), epochOf(table), func(digest.Key, *digest.Row) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			err = v.(*snapshot).inOpenView(t.Context(), s.definition(table), r)
			if errorCode(err) != errTableChanged {
				t.Errorf("%s: %v", statement, err)
			}
		}
		return
	}
	n := 0
	err := v.Rows(t.Context(), table, epochOf(table), func(digest.Key, *digest.Row) error {
		if n++; n == 2 {
			run(t, server, "ALTER TABLE app.moving MODIFY n bigint")
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "definition has changed") || n != 3 {
		t.Errorf("%v after %d rows", err, n)
	}
}

func notLocked(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE locked; CREATE TABLE locked.a (id int PRIMARY KEY); INSERT INTO locked.a VALUES (1); CREATE TABLE locked.b (id int PRIMARY KEY)")
	s := probe(t, server, "")
	tables := catalog(t, s, "locked")
	streaming(t, s)
	v := view(t, s)
	if keys, err := scanned(t, v, tables["a"]); err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	run(t, server, "SET lock_wait_timeout = 5; DROP TABLE locked.a", "INSERT INTO locked.b VALUES (1)")
	if keys, err := scanned(t, v, tables["b"]); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}

func settles(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE ends; CREATE TABLE ends.a (id int PRIMARY KEY); CREATE TABLE ends.m (id int PRIMARY KEY) ENGINE = MyISAM")
	s := probe(t, server, "")
	tables := catalog(t, s, "ends")
	streaming(t, s)
	v := view(t, s)
	end := func() cdc.LSN {
		t.Helper()
		at, err := v.Settled(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	written := func() cdc.LSN {
		t.Helper()
		p, err := s.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p.Barrier
	}
	if end() != v.Cut() || v.Cut() != s.streamed().position.LSN {
		t.Errorf("an idle server's view is from %v to %v, its stream at %v", v.Cut(), end(), s.streamed().position.LSN)
	}
	for _, name := range []string{"a", "m"} {
		run(t, server, "INSERT INTO ends."+name+" VALUES (1)")
		before := written()
		if keys, err := scanned(t, v, tables[name]); err != nil || len(keys) != 1 {
			t.Fatalf("%v, %v", keys, err)
		}
		if end() < before {
			t.Errorf("%s: what was written up to %v was read, and the view ends at %v", name, before, end())
		}
	}
	// Of a view whose place is known, what comes later is no part.
	loose, exact := end(), view(t, s)
	if _, err := scanned(t, exact, tables["a"]); err != nil {
		t.Fatal(err)
	}
	run(t, server, "INSERT INTO ends.a VALUES (2)")
	at, err := exact.Settled(t.Context())
	if err != nil || (at == loose) != server.Install.Flavour.MariaDB() {
		t.Errorf("%v after %v, %v", at, loose, err)
	}
}

// awaited has a transaction that is in the log and that nobody can read yet: it waits for a semi-synchronous replica that
// does not exist.
func awaited(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.awaited (id int PRIMARY KEY)")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["awaited"]
	streaming(t, s)
	on := "SET GLOBAL rpl_semi_sync_master_timeout = 600000, GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC, GLOBAL rpl_semi_sync_master_enabled = ON"
	off := "SET GLOBAL rpl_semi_sync_master_enabled = OFF, GLOBAL rpl_semi_sync_master_timeout = DEFAULT, GLOBAL rpl_semi_sync_master_wait_point = DEFAULT"
	if !server.Install.Flavour.MariaDB() {
		run(t, server, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
		on, off = strings.ReplaceAll(on, "master", "source"), strings.ReplaceAll(off, "master", "source")+"; UNINSTALL PLUGIN rpl_semi_sync_source"
	}
	run(t, server, on)
	t.Cleanup(func() { _ = server.Exec(context.Background(), off) })
	written := make(chan error, 1)
	go func() { written <- server.Exec(t.Context(), "INSERT INTO app.awaited VALUES (1)") }()
	before := s.streamed().position
	err := dbtest.WaitFor(t.Context(), "the transaction to be in the log", func(ctx context.Context) (bool, error) {
		p, err := s.Progress(ctx)
		if err != nil || p.Barrier == before.LSN {
			return false, err
		}
		next := last(t, before.Shown)
		next.Seq++
		s.yielded(cdc.Event{Position: p.Barrier, Through: next}) // as our stream would
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := dbtest.MySQLValue[int64](t.Context(), server, "SELECT COUNT(*) FROM app.awaited"); err != nil || n != 0 {
		t.Fatalf("%d rows can be read, %v", n, err)
	}
	s.visible = 300 * time.Millisecond
	if _, err := s.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "are not visible to readers after 300ms") {
		t.Fatalf("%v", err)
	}
	s.visible = time.Minute
	go func() { _ = server.Exec(t.Context(), off) }() // while the snapshot is waited for
	v := view(t, s)
	if keys, err := scanned(t, v, table); err != nil || len(keys) != 1 || v.Cut() < s.streamed().position.LSN {
		t.Errorf("%v, %v at %v", keys, err, v.Cut())
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// last is the id in a set of one source.
func last(t *testing.T, set cdc.TxSet) cdc.TxID {
	t.Helper()
	text := set.String()
	at := max(strings.LastIndexByte(text, '-'), strings.LastIndexByte(text, ':'))
	source := text[:at]
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		source = text[:i]
	}
	var seq uint64
	if _, err := fmt.Sscan(text[at+1:], &seq); err != nil || strings.Contains(text, ",") {
		t.Fatalf("%q: %v", text, err)
	}
	return cdc.TxID{Source: source, Seq: seq}
}

func idle(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.idle (id int PRIMARY KEY)", "INSERT INTO app.idle VALUES (1)", "FLUSH BINARY LOGS")
	s := probe(t, server, "")
	s.visible = 5 * time.Second
	table := catalog(t, s, "app")["idle"]
	streaming(t, s)
	s.yielded(cdc.Event{Position: s.streamed().position.LSN + 1000}) // of what the server writes for itself
	v := view(t, s)
	if keys, err := scanned(t, v, table); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	s.begin(s.streamed().position) // as after a lost connection
	view(t, s)
	again := probe(t, server, "")
	again.visible = 5 * time.Second
	again.begin(s.streamed().position) // as after a restart of lockstep
	view(t, again)
}

func mayNotRead(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE DATABASE secret; CREATE TABLE secret.a (id int PRIMARY KEY)",
		"SET sql_log_bin = 0; CREATE USER blind@'%' IDENTIFIED BY 'pw'; GRANT SELECT, "+parseVersionOf(server).seeLog()+" ON *.* TO blind@'%'")
	s := probe(t, server, "")
	s.address.user = "blind"
	table := catalog(t, s, "secret")["a"]
	streaming(t, s)
	run(t, server, "SET sql_log_bin = 0; REVOKE SELECT ON *.* FROM blind@'%'; GRANT INSERT ON secret.a TO blind@'%'")
	_, err := scanned(t, view(t, s), table)
	if !cdc.IsSetup(err) || !strings.Contains(err.Error(), "GRANT SELECT ON `secret`.`a` TO 'blind'@'%';") {
		t.Errorf("%v", err)
	}
}

func cancelled(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.endless (id int PRIMARY KEY)", "INSERT INTO app.endless VALUES (1), (2), (3)")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["endless"]
	streaming(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	err := view(t, s).Rows(ctx, table, epochOf(table), func(digest.Key, *digest.Row) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Snapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func narrowed(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.narrow (id int PRIMARY KEY, n int, seen datetime)", "INSERT INTO app.narrow VALUES (1, 1, NOW())")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["narrow"]
	streaming(t, s)
	epoch := epochOf(table)
	epoch.Shape.Columns = slices.DeleteFunc(slices.Clone(epoch.Shape.Columns), func(c digest.Column) bool { return c.Name == "seen" })
	read := func() (rows []digest.Digest) {
		t.Helper()
		err := view(t, s).Rows(t.Context(), table, epoch, func(_ digest.Key, r *digest.Row) error {
			rows = append(rows, r.Digest)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	before := read()
	run(t, server, "UPDATE app.narrow SET seen = '2001-01-01'")
	if diff := cmp.Diff(before, read()); diff != "" || len(before) != 1 {
		t.Errorf("%v: %s", before, diff)
	}
	run(t, server, "UPDATE app.narrow SET n = 2")
	if cmp.Equal(before, read()) {
		t.Error("another row has the same digest")
	}
}

func refusedRow(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.unwanted (id int PRIMARY KEY)", "INSERT INTO app.unwanted VALUES (1), (2), (3)")
	s := probe(t, server, "")
	table := catalog(t, s, "app")["unwanted"]
	streaming(t, s)
	ours := errors.New("the store is full")
	n := 0
	err := view(t, s).Rows(t.Context(), table, epochOf(table), func(digest.Key, *digest.Row) error {
		n++
		return ours
	})
	if !errors.Is(err, ours) || n != 1 {
		t.Errorf("%v after %d rows", err, n)
	}
}
