package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestStream(t *testing.T) {
	eachVersion(t, func(t *testing.T, s servers) {
		each(t, s, map[string]func(*testing.T, servers){
			"origin names the publisher's transaction by its end": originIsTheEnd,
			"initial copy has a lane of its own":                  initialCopy,
			"every kind of change is decoded":                     changes,
			"unchanged wide values are told":                      unchangedWide,
			"partitions are folded into their table":              partitions,
			"large transaction comes whole":                       largeTransaction,
			"schema change touches its table":                     schemaChange,
		})
		once(t, s, map[string]func(*testing.T, servers){
			"rolled back savepoints leave nothing":         savepoints,
			"table without a shape is touched":             tableWithoutShape,
			"idle table advances while others are written": idleTable,
			"slow receiver is not thrown out":              slowReceiver,
			"busy server answers before it is given up":    busyServer,
			"yield's error ends the stream":                yieldFails,
			"dropped publication needs its operator":       droppedPublication,
			"renewed publication is a gap":                 renewedPublication,
		})
		if s.all {
			alone(t, s, dbtest.Options{Conf: publisherConf}, map[string]func(*testing.T, servers){
				"no flipped bit moves the position or makes up a transaction": flippedBits,
				"what no commit follows is not waited for":                    tidied,
			})
		}
	})
}

func originIsTheEnd(t *testing.T, s servers) {
	const schema = "CREATE TABLE orders (id int PRIMARY KEY, note text)"
	p, r := watch(t, newDatabase(t, s.publisher, schema)), watch(t, newDatabase(t, s.subscriber, schema))
	r.exec(fmt.Sprintf("CREATE SUBSCRIPTION sub_%s CONNECTION '%s' PUBLICATION lockstep_shop WITH (copy_data = false)", p.Database, p.DSN("")))
	t.Cleanup(func() { _ = r.Exec(context.Background(), "DROP SUBSCRIPTION sub_"+p.Database) })
	p.start()
	r.start()
	p.exec("INSERT INTO orders VALUES (1, 'a')", "UPDATE orders SET note = 'b'")
	if err := dbtest.WaitReplayed(t.Context(), p.Server, "sub_"+p.Database); err != nil {
		t.Fatal(err)
	}
	r.exec("INSERT INTO orders VALUES (99, 'local')")
	author, replica := p.caughtUp(), r.caughtUp()
	if len(author) != 2 || len(replica) != 3 {
		t.Fatalf("%d transactions on the publisher and %d on the subscriber, want 2 and 3", len(author), len(replica))
	}
	progress, err := r.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(progress.Lanes) != 1 || progress.Lanes[0].Problem != "" || !progress.Lanes[0].Enabled {
		t.Fatalf("lanes %+v", progress.Lanes)
	}
	lane := progress.Lanes[0].Name
	for i, a := range author {
		b := replica[i]
		if a.Lane != "" || a.ID.Seq != uint64(a.End) {
			t.Errorf("the author's transaction has lane %q and id %v, end %v", a.Lane, a.ID, a.End)
		}
		if b.Lane != lane || b.ID != a.ID || !b.CommitTime.Equal(a.CommitTime) || b.End == a.End {
			t.Errorf("the replica's transaction is %v in lane %q at %v, want %v in %q at %v", b.ID, b.Lane, b.CommitTime, a.ID, lane, a.CommitTime)
		}
		if diff := cmp.Diff(a.Changes, b.Changes); diff != "" {
			t.Error(diff)
		}
	}
	if local := replica[2]; local.Lane != "" || local.ID.Seq != uint64(local.End) {
		t.Errorf("a local write has lane %q and id %v, want its own end %v", local.Lane, local.ID, local.End)
	}
	if got, want := progress.Applied[lane], cdc.Everything(author[1].End); !got.Covers(want) {
		t.Errorf("applied up to %v, want %v at least", got, want)
	}
	confirmed, err := p.Confirmed(t.Context())
	if err != nil || confirmed[progress.Lanes[0].Slot].IsZero() {
		t.Errorf("slot %q of the subscription is confirmed at %v, %v", progress.Lanes[0].Slot, confirmed, err)
	}
	laneTrouble(t, p, r)
}

// laneTrouble makes the replay stumble over the row that is there already, and then stops it.
func laneTrouble(t *testing.T, p, r *member) {
	p.exec("INSERT INTO orders VALUES (99, 'remote')")
	until := func(what string, met func(cdc.Lane) bool) {
		t.Helper()
		err := dbtest.WaitFor(t.Context(), what, func(ctx context.Context) (bool, error) {
			progress, err := r.Progress(ctx)
			return err == nil && met(progress.Lanes[0]), err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	until("the lane to name its problem", func(l cdc.Lane) bool { return l.Problem != "" })
	r.exec("ALTER SUBSCRIPTION sub_" + p.Database + " DISABLE")
	until("the lane to be disabled", func(l cdc.Lane) bool { return !l.Enabled })
}

func initialCopy(t *testing.T, s servers) {
	const schema = "CREATE TABLE orders (id int PRIMARY KEY, note text)"
	p, r := newDatabase(t, s.publisher, schema), watch(t, newDatabase(t, s.subscriber, schema))
	dbtest.ExecT(t, p, "INSERT INTO orders VALUES (1, 'a')")
	r.start()
	r.exec(fmt.Sprintf("CREATE SUBSCRIPTION copy_%s CONNECTION '%s' PUBLICATION lockstep_shop", p.Database, p.DSN("")))
	t.Cleanup(func() { _ = r.Exec(context.Background(), "DROP SUBSCRIPTION copy_"+p.Database) })
	var progress cdc.Progress
	err := dbtest.WaitFor(t.Context(), "the copy to be through", func(ctx context.Context) (ready bool, err error) {
		progress, err = r.Progress(ctx)
		if err != nil || len(progress.Lanes) != 1 {
			return false, err
		}
		reason, there := progress.Lanes[0].Tables["public.orders"]
		if there && reason != "" && reason != "initial copy" {
			return false, errors.New(reason)
		}
		return there && reason == "", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, transaction := range r.caughtUp() {
		if len(transaction.Changes) == 0 {
			continue
		}
		if transaction.ID.Seq != 0 || transaction.Lane == "" || transaction.Lane == progress.Lanes[0].Name {
			t.Errorf("the copy is transaction %v in lane %q, want 0/0 in a lane other than %q", transaction.ID, transaction.Lane, progress.Lanes[0].Name)
		}
		return
	}
	t.Error("the copied row is not in the stream")
}

func changes(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `
		CREATE TABLE a (id int, part text, note text, PRIMARY KEY (part, id));
		CREATE TABLE b (id int PRIMARY KEY, note text);
		ALTER TABLE b REPLICA IDENTITY FULL`))
	m.start()
	m.exec("INSERT INTO a VALUES (1, 'x', NULL)", "UPDATE a SET note = 'n'", "UPDATE a SET id = 2", "DELETE FROM a",
		"INSERT INTO b VALUES (1, 'n')", "UPDATE b SET note = NULL", "UPDATE b SET id = 2", "DELETE FROM b",
		"BEGIN; INSERT INTO a VALUES (3, 'y', ''); TRUNCATE a, b; INSERT INTO b VALUES (4, ''); COMMIT")
	got := m.caughtUp()
	want := []string{
		`insert public.a {"part":"x","id":1}`,
		`update public.a {"part":"x","id":1}`,
		`update public.a {"part":"x","id":1} {"part":"x","id":2}`,
		`delete public.a {"part":"x","id":2}`,
		`insert public.b {"id":1}`, `update public.b {"id":1}`, `update public.b {"id":1} {"id":2}`, `delete public.b {"id":2}`,
		`insert public.a {"part":"y","id":3}`, `truncate public.a`, `truncate public.b`, `insert public.b {"id":4}`,
	}
	if diff := cmp.Diff(want, m.script(got)); diff != "" {
		t.Error(diff)
	}
	if got[0].Changes[0].Row.Digest.IsZero() || !got[3].Changes[0].Row.Digest.IsZero() {
		t.Error("an insert has a digest, a delete has none")
	}
}

func unchangedWide(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `
		CREATE TABLE a (id int PRIMARY KEY, n int, wide text);
		CREATE TABLE f (id int PRIMARY KEY, n int, wide text);
		CREATE TABLE k (wide text PRIMARY KEY, n int);
		ALTER TABLE a ALTER wide SET STORAGE EXTERNAL;
		ALTER TABLE f ALTER wide SET STORAGE EXTERNAL;
		ALTER TABLE k ALTER wide SET STORAGE EXTERNAL;
		ALTER TABLE f REPLICA IDENTITY FULL`))
	m.start()
	m.exec("INSERT INTO a VALUES (1, 1, repeat('x', 5000)), (2, 2, repeat('x', 5000))", "UPDATE a SET n = 2",
		"INSERT INTO f VALUES (1, 1, repeat('x', 5000))", "UPDATE f SET n = 2", "INSERT INTO f VALUES (2, 2, repeat('x', 5000))",
		"INSERT INTO k VALUES (repeat('x', 2500), 1)", "UPDATE k SET n = 2")
	got := m.caughtUp()
	if len(got) != 7 {
		t.Fatalf("%d transactions, want 7: %v", len(got), m.script(got))
	}
	inserted, updated := got[0].Changes[1].Row, got[1].Changes[1].Row
	if updated.Partial == nil {
		t.Fatal("an update that leaves a wide column alone has no partial row")
	}
	whole, err := testHasher.Complete(updated.Partial, inserted.Columns)
	if diff := cmp.Diff(inserted, whole); diff != "" || err != nil {
		t.Error(err, diff)
	}
	full := got[3].Changes[0]
	if full.Row.Partial != nil || full.Row.Digest.IsZero() {
		t.Errorf("REPLICA IDENTITY FULL carries the value in the old row: %+v", full.Row)
	}
	if len(full.Row.Columns) != 1 || full.Row.Columns[0].Digest != got[4].Changes[0].Row.Columns[0].Digest {
		t.Error("the value from the old row has another digest than the same value in an insert")
	}
	if key := got[6].Changes[0]; key.OldKey != nil || key.Key.Compare(got[5].Changes[0].Key) != 0 || key.Row.Partial != nil {
		t.Errorf("a key that is stored out of line: %v", m.script(got[5:]))
	}
}

func partitions(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `
		CREATE TABLE p (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
		CREATE TABLE p2 (note text, gone int, id int NOT NULL);
		ALTER TABLE p2 DROP gone;
		ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)`))
	if diff := cmp.Diff([]string{"public.p1", "public.p2"}, m.tables[0].Leaves); diff != "" || len(m.tables) != 1 {
		t.Fatalf("%s %+v", diff, m.tables)
	}
	m.start()
	m.exec("INSERT INTO p VALUES (1, 'same'), (11, 'same')", "UPDATE p SET id = id + 10 WHERE id = 1 AND false",
		"UPDATE p SET id = 12 WHERE id = 1", "TRUNCATE p2", "TRUNCATE p", "TRUNCATE p1, p2",
		// The partitions without their root; below, the root, as `lockstep check` publishes it.
		"DROP PUBLICATION lockstep_shop; CREATE PUBLICATION lockstep_shop FOR TABLE ONLY p1, ONLY p2")
	want := []string{
		`insert public.p {"id":1}`, `insert public.p {"id":11}`, `delete public.p {"id":1}`, `insert public.p {"id":12}`,
		`touched public.p its partition public.p2 was truncated`, `truncate public.p`, `truncate public.p`,
	}
	if diff := cmp.Diff(want, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
	m.exec("TRUNCATE p", "DROP PUBLICATION lockstep_shop; CREATE PUBLICATION lockstep_shop FOR TABLE p")
	want = append(want, `truncate public.p`)
	if diff := cmp.Diff(want, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
	m.exec("INSERT INTO p VALUES (3, 'same')", "TRUNCATE p1", "TRUNCATE p")
	want = append(want, `insert public.p {"id":3}`, `touched public.p its partition public.p1 was truncated`, `truncate public.p`)
	if diff := cmp.Diff(want, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
}

func savepoints(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.start()
	m.exec("BEGIN; INSERT INTO a VALUES (1); SAVEPOINT s; INSERT INTO a VALUES (2); ROLLBACK TO s; INSERT INTO a VALUES (3); COMMIT",
		"BEGIN; INSERT INTO a VALUES (4); ROLLBACK")
	if diff := cmp.Diff([]string{`insert public.a {"id":1}`, `insert public.a {"id":3}`}, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
}

func largeTransaction(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY, note text)"))
	m.exec("ALTER ROLE postgres IN DATABASE " + m.Database + " SET logical_decoding_work_mem = '64kB'")
	m.start()
	m.exec("INSERT INTO a SELECT i, repeat('x', i % 100) FROM generate_series(1, 3000) i")
	got := m.caughtUp()
	if len(got) != 1 || len(got[0].Changes) != 3000 {
		t.Fatalf("%d transactions", len(got))
	}
	seen := map[string]bool{}
	for _, c := range got[0].Changes {
		seen[m.line(c)] = true
	}
	if len(seen) != 3000 || !seen[`insert public.a {"id":2999}`] {
		t.Errorf("%d keys, want 3000", len(seen))
	}
}

func schemaChange(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TABLE a (id int PRIMARY KEY, note int, other int);
		CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN small AS int; CREATE TABLE e (id int PRIMARY KEY, mood mood)`))
	before := m.tables
	m.streaming() // a stream takes note of the types when it begins
	m.exec("INSERT INTO a VALUES (1, 1, 1)", "ALTER TABLE a ADD extra int DEFAULT 5", "INSERT INTO a VALUES (2, 2, 2, 2)",
		"BEGIN; INSERT INTO a VALUES (3, 3, 3); ALTER TABLE a ALTER note TYPE text; INSERT INTO a VALUES (4, '4', 4); COMMIT",
		"ALTER TABLE a ALTER note TYPE int USING note::int, DROP other", "INSERT INTO a VALUES (5, 5)",
		"ALTER TABLE a ADD other small", "INSERT INTO a VALUES (6, 6, 6, 6)",
		"ALTER TABLE a DROP CONSTRAINT a_pkey, ADD PRIMARY KEY (id, note)", "UPDATE a SET other = 1 WHERE id = 6",
		"INSERT INTO e VALUES (1, 'ok')", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", "CREATE TYPE later AS ENUM ('1')",
		"ALTER TABLE e ALTER mood TYPE later USING '1'", "INSERT INTO e VALUES (2, '1')")
	got := m.caughtUp()
	want := []string{
		`insert public.a {"id":1}`, `insert public.a {"id":2}`, // a column more is not in the shape
		`insert public.a {"id":3}`, `touched public.a column "note" changed from int to text`,
		`touched public.a column "other" was dropped, renamed, or is not published`,
		`insert public.a {"id":6}`, // a domain is what it is based on
		`touched public.a its replica identity is (id, note), not the primary key that it had`,
		`insert public.e {"id":1}`,
		`touched public.e column "mood" now has a type that was not there when the table was last looked at`,
	}
	if diff := cmp.Diff(want, m.script(got)); diff != "" {
		t.Error(diff)
	}
	m.learn(2)
	for i := range before {
		if before[i].Version == m.tables[i].Version {
			t.Errorf("the version of %s is still %s", before[i].Name, before[i].Version)
		}
	}
	m.exec("INSERT INTO e VALUES (3, '1')", "INSERT INTO a VALUES (7, 7, 7, 7)")
	after := m.script(m.caughtUp())
	if diff := cmp.Diff([]string{`insert public.e {"id":3}`, `insert public.a {"id":7,"note":7}`}, after[len(after)-2:]); diff != "" {
		t.Error(diff)
	}
	labels := m.tables[1].Version
	m.exec("ALTER TYPE later RENAME VALUE '1' TO '2'")
	if m.learn(3); m.tables[1].Version == labels {
		t.Error("a renamed label prints old rows otherwise, but the version stayed")
	}
}

func tableWithoutShape(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)"))
	m.SetEpoch(m.tables[0], cdc.Epoch{Table: 1})
	m.start()
	m.exec("CREATE TABLE unknown (id int PRIMARY KEY)", "INSERT INTO unknown VALUES (1)", "INSERT INTO a VALUES (1), (2)", "TRUNCATE a")
	want := []string{"touched an unknown table public.unknown was not known when it changed", "touched public.a", "touched public.a"}
	if diff := cmp.Diff(want, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
	m.SetEpoch(m.tables[0], epochOf(m.tables[0], 1, 1)) // while the stream runs
	m.exec("INSERT INTO a VALUES (3)")
	if got := m.script(m.caughtUp()); got[len(got)-1] != `insert public.a {"id":3}` {
		t.Error(got)
	}
}

func idleTable(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	elsewhere := newDatabase(t, s.publisher, "CREATE TABLE busy (id int)")
	from := m.start()
	dbtest.ExecT(t, elsewhere, "INSERT INTO busy SELECT generate_series(1, 1000)")
	if got := m.caughtUp(); len(got) != 0 {
		t.Errorf("transactions of another database: %v", m.script(got))
	}
	confirmed := func(p cdc.LSN) {
		t.Helper()
		err := dbtest.WaitFor(t.Context(), fmt.Sprintf("%v to be confirmed", p), func(ctx context.Context) (bool, error) {
			slots, err := m.Confirmed(ctx)
			at := slots[m.options.Slot]
			if durable := cdc.Everything(p); !durable.Covers(at) {
				return false, fmt.Errorf("%v is confirmed, %v is durable", at, p)
			}
			return at.Equal(cdc.Everything(p)), err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	confirmed(from)
	m.mu.Lock()
	position := m.events[len(m.events)-1].Position
	m.mu.Unlock()
	m.Durable(position)
	confirmed(position)
	m.Durable(from) // never goes back
	if err := m.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
	confirmed(position)
}

func slowReceiver(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY, note text)"))
	m.exec("ALTER ROLE postgres IN DATABASE " + m.Database + " SET wal_sender_timeout = '1s'")
	m.Source.status = time.Hour // the server's patience counts
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 * buffered {
		m.exec(fmt.Sprintf("INSERT INTO a SELECT i, repeat('x', 1000) FROM generate_series(%d, %d) i", i*300, i*300+299))
	}
	blocked := time.NewTimer(3 * time.Second)
	defer blocked.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rows := 0
	err = m.Stream(ctx, at(from), func(e cdc.Event) error {
		if rows == 0 {
			<-blocked.C
		}
		if e.Transaction != nil {
			rows += len(e.Transaction.Changes)
		}
		if rows == 4*buffered*300 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || rows != 4*buffered*300 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// busyServer wants walsenders to answer us well before we take their silence for a dead connection, whatever the role's settings.
func busyServer(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, oneTable))
	for _, role := range []string{"0", "1h", "30s"} {
		m.exec("ALTER ROLE postgres IN DATABASE " + m.Database + " SET wal_sender_timeout = '" + role + "'")
		conn, err := m.login(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		every, err := m.statusInterval(t.Context(), conn.PgConn())
		if timeout := 4 * every; err != nil || timeout/2+every >= m.silence || timeout < time.Second {
			t.Errorf("with %s: the server waits for %v, we for %v: %v", role, timeout, m.silence, err)
		}
		hangUp(conn)
	}
}

func yieldFails(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.exec("INSERT INTO a VALUES (1)")
	full := errors.New("disk full")
	if err := m.Stream(t.Context(), at(from), func(cdc.Event) error { return full }); !errors.Is(err, full) {
		t.Errorf("the stream ended with %v", err)
	}
	m.stream(from) // nothing was confirmed, and all comes again
	if got := m.script(m.caughtUp()); !slices.Equal(got, []string{`insert public.a {"id":1}`}) {
		t.Error(got)
	}
}

func droppedPublication(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.start()
	m.exec("INSERT INTO a VALUES (1)")
	m.caughtUp()
	m.exec("DROP PUBLICATION lockstep_shop", "INSERT INTO a VALUES (2)")
	if err := m.failure(); !cdc.IsSetup(err) {
		t.Errorf("the stream ended with %v", err)
	}
	if _, err := prepare(t.Context(), m, 0); !cdc.IsSetup(err) {
		t.Errorf("prepare without a publication: %v", err)
	}
}

func renewedPublication(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.exec("DROP PUBLICATION lockstep_shop", "INSERT INTO a VALUES (2)", "CREATE PUBLICATION lockstep_shop FOR ALL TABLES", "INSERT INTO a VALUES (3)")
	m.stream(from)
	if err := m.failure(); !cdc.IsGap(err) {
		t.Errorf("the stream ended with %v", err)
	}
	if _, err := prepare(t.Context(), m, 0); err != nil {
		t.Error(err)
	}
}

// Who reads a page may tidy it up, which is not on disk for a while: a question is not to wait for that. It waits for every
// commit: one that is not on disk yet, and one that is, and that nobody sees yet.
func tidied(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY, v int) WITH (fillfactor = 20); INSERT INTO a SELECT n, 0 FROM generate_series(1, 50) n"))
	writesLate(t, m)
	m.start()
	// tidy has pages read that were written, until that is in the log and not on disk, and looks then, unless others write.
	tidy := func(look func(end, flushed cdc.LSN)) {
		t.Helper()
		err := dbtest.WaitFor(t.Context(), "pages to be tidied up beside nothing else", func(context.Context) (bool, error) {
			m.exec("UPDATE a SET v = v + 1")
			m.progress()
			m.exec("SELECT count(*) FROM a")
			before := logEndOf(t, m)
			if before.written <= before.flushed {
				return false, nil
			}
			p := m.progress()
			if after := logEndOf(t, m); after != before {
				return false, nil
			}
			look(p.Barrier, before.flushed)
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tidy(func(end, flushed cdc.LSN) {
		if end > flushed {
			t.Errorf("the stream is to reach %v, and can show up to %v", end, flushed)
		}
	})
	m.exec("SET synchronous_commit = off", "INSERT INTO a VALUES (100, 1)")
	if written := logEndOf(t, m).written; m.progress().Barrier < written {
		t.Errorf("a commit that is not on disk is not waited for")
	}
	m.exec("UPDATE a SET v = v + 1")
	m.progress()
	m.hang("INSERT INTO a VALUES (101, 1)")
	hidden := logEndOf(t, m).flushed
	m.exec("SELECT count(*) FROM a") // tidies up
	if end := m.progress().Barrier; end < hidden {
		t.Errorf("a commit at %v that waits for a standby is not waited for: up to %v", hidden, end)
	}
}

// writesLate has a server leave in memory what nobody waits for until the test has looked, however slow that is.
func writesLate(t *testing.T, m *member) {
	m.exec("ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
	t.Cleanup(func() {
		if err := m.Exec(context.Background(), "ALTER SYSTEM RESET wal_writer_delay", "SELECT pg_reload_conf()"); err != nil {
			t.Error(err)
		}
	})
}

func logEndOf(t *testing.T, m *member) logEnd {
	t.Helper()
	conn, err := m.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	l, err := readLogEnd(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPageHeaderIsNotWaitedFor(t *testing.T) {
	const page, segment = 8192, 16 << 20
	for _, c := range []struct{ insert, want cdc.LSN }{
		{segment + 40, segment},
		{segment + page + 24, segment + page},
		{segment + page + 40, segment + page + 40},
		{segment + 24, segment + 24},
		{segment + page + 100, segment + page + 100},
	} {
		if got := beforePageHeader(c.insert, page, segment); got != c.want {
			t.Errorf("%v: %v, want %v", c.insert, got, c.want)
		}
	}
}
