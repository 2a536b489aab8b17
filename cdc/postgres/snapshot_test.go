package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestSnapshot(t *testing.T) {
	eachVersion(t, func(t *testing.T, s servers) {
		each(t, s, map[string]func(*testing.T, servers){
			"scan and stream digest every type alike":            everyType,
			"transaction in the synchronous wait is on one side": synchronousWait,
			"least privilege suffices":                           leastPrivilege,
		})
		once(t, s, map[string]func(*testing.T, servers){
			"cut divides transactions exactly":                exactCut,
			"partitions are read, heirs are not":              heirs,
			"table that was rewritten since is refused":       rewritten,
			"tables are not locked longer than they are read": unlocked,
		})
	})
}

// rows reads a table in a new snapshot: digests by key as JSON, and the cut.
func (m *member) rows(name string) (map[string]digest.Row, cdc.LSN) {
	m.t.Helper()
	snapshot, err := m.Snapshot(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	defer snapshot.Close()
	return m.rowsIn(snapshot, name), snapshot.Cut()
}

func (m *member) rowsIn(snapshot cdc.Snapshot, name string) map[string]digest.Row {
	m.t.Helper()
	table, epoch := m.table(name)
	rows := map[string]digest.Row{}
	err := snapshot.Rows(m.t.Context(), table, epoch, func(k digest.Key, r *digest.Row) error {
		text, err := epoch.Shape.KeyJSON(k)
		rows[string(text)] = digest.Row{Digest: r.Digest, Columns: append([]digest.ColumnDigest(nil), r.Columns...)}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return rows
}

const typesSchema = `
CREATE TYPE mood AS ENUM ('sad', 'ok, "fine"');
CREATE TYPE pair AS (a int, b timestamptz);
CREATE DOMAIN positive AS numeric(10, 2) CHECK (value > 0);
CREATE DOMAIN moody AS mood;
CREATE TABLE types (id int PRIMARY KEY, i2 int2, i8 int8, n numeric, f4 float4, f8 float8, t text, v varchar(20), c char(6),
  b bytea, u uuid, d date, tm time, tz timetz, ts timestamp, tstz timestamptz, j json, jb jsonb, bo bool, e mood, dom positive, dm moody,
  ia int[], ta text[], ea mood[], tsa timestamptz[], r int4range, tr tstzrange, ip inet, cd cidr, iv interval, p pair, bi bit(5), vb varbit,
  m money, x xml, o oid, nm name, pt point, tv tsvector, "Odd ""name" text, g int GENERATED ALWAYS AS (id + 1) STORED)`

var typesRows = []string{
	`1, 32767, 9223372036854775807, 'NaN', 'Infinity', '-Infinity', E'tab\t line\n back\\slash \r\b\f\v \\N', '', 'ab', '\x00ff0a', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
	 '0044-03-15 BC', '24:00:00', '18:04:56.789+05:30', '0044-03-15 01:02:03 BC', 'infinity', ' {"b": 1, "a":1.50, "a": 2}', '{"b": 1, "a":1.50}', true, 'sad', 1.50, 'sad',
	 '{{1,2},{3,NULL}}', ARRAY['a,b', 'c"d', NULL, '', E'\\'], '{sad}', ARRAY['2024-02-29 18:04:56.789+05:30'::timestamptz], '[1,5)', '[2024-01-01 00:00+05:30,)', '10.0.0.1/8', '10.0.0.0/8',
	 '1 year 2 mons 3 days 04:05:06.7', '(1,"2024-02-29 18:04:56+05:30")', B'10101', B'1', '1234.50', '<a b="c"/>', 1, 'name', '(0.1,1.1)', 'a:1 b:2', 'odd'`,
	`2, -32768, -9223372036854775808, '-0.00', 'NaN', '-0', '', NULL, '', '', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12',
	 'infinity', '00:00', '00:00:00+00', '-infinity', '2024-02-29 18:04:56.123456+05:30', 'null', 'null', false, 'ok, "fine"', 12345678.90, 'ok, "fine"',
	 '{}', '{}', '{"ok, \"fine\""}', '{}', 'empty', 'empty', '::1', '::1/128', '-1 days +02:03:00', '(,)', B'00000', B'', '-0.5', '', 4294967295, '', '(NaN,Infinity)', '', ''`,
	`3, 0, 0, '1e100', '0.1', '0.30000000000000004', '\N', 'ä€😀', 'ä', '\x5c4e', '00000000-0000-0000-0000-000000000000',
	 '10000-01-01', '12:00:00.000001', '23:59:59.999999-12', '10000-01-01', '0001-01-01 00:00:00+00 BC', '[1.0]', '{"x": [1e2, "ä", {"y": null}]}', NULL, NULL, NULL, NULL,
	 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '30 days', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL`,
	`4, 1, 1, '0.000000000000000000001', '1.17549435e-38', '4.9e-324', repeat('long', 3000), 'x', 'x', decode(repeat('ab', 5000), 'hex'), NULL,
	 NULL, NULL, NULL, NULL, '1999-12-31 23:59:59.9+00', json_build_object('k', repeat('z', 9000)), jsonb_build_object('k', repeat('z', 9000)), NULL, NULL, NULL, NULL,
	 array_agg(i), NULL, NULL, NULL, NULL, NULL, NULL, NULL, '1 mon', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM generate_series(1, 3000) i`,
}

func everyType(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, typesSchema)
	for _, drift := range []string{"datestyle = 'SQL, DMY'", "extra_float_digits = -3", "timezone = 'Asia/Kolkata'", "intervalstyle = 'iso_8601'",
		"bytea_output = 'escape'", "xmlbinary = 'hex'", "search_path = 'public'", "default_transaction_isolation = 'serializable'"} {
		dbtest.ExecT(t, db, "ALTER DATABASE "+db.Database+" SET "+drift, "ALTER ROLE postgres IN DATABASE "+db.Database+" SET "+drift)
	}
	m := watch(t, db)
	m.start()
	for _, row := range typesRows {
		m.exec("SET datestyle = 'ISO, YMD'; INSERT INTO public.types SELECT " + row)
	}
	m.exec("UPDATE public.types SET i2 = 7") // leaves what is stored out of line alone
	known := map[string]digest.Row{}
	for _, transaction := range m.caughtUp() {
		if len(transaction.Touched) != 0 {
			t.Errorf("touched: %+v", transaction.Touched)
		}
		for _, c := range transaction.Changes {
			key := m.line(cdc.Change{Table: c.Table, Epoch: c.Epoch, Key: c.Key})
			row := c.Row
			if row.Partial != nil {
				var err error
				if row, err = testHasher.Complete(row.Partial, known[key].Columns); err != nil {
					t.Fatal(err)
				}
			}
			known[key] = row
		}
	}
	read, _ := m.rows("public.types")
	scanned := map[string]digest.Row{}
	for key, row := range read {
		scanned[" public.types "+key] = digest.Row{Digest: row.Digest, Columns: row.Columns}
	}
	if len(known) != len(typesRows) {
		t.Errorf("%d rows in the stream, want %d", len(known), len(typesRows))
	}
	if diff := cmp.Diff(known, scanned); diff != "" {
		t.Error(diff)
	}
}

// exactCut takes snapshots while transactions commit on several connections, and holds each against the stream.
func exactCut(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id bigserial PRIMARY KEY, note text)"))
	m.start()
	const each = 60 // transactions beside each snapshot: the table stays small however slow the machine is
	granted := make(chan struct{}, each)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			conn, err := m.Conn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.Background())
			for range granted {
				if _, err := conn.Exec(t.Context(), "INSERT INTO a (note) VALUES ('x'), ('y')"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	snapshots := map[cdc.LSN]map[string]digest.Row{}
	times := 4
	if soak {
		times = 8
	}
	for range times {
		for len(granted) < each {
			granted <- struct{}{}
		}
		rows, cut := m.rows("public.a")
		snapshots[cut] = rows
	}
	close(granted)
	writers.Wait()
	m.agrees(snapshots, m.caughtUp())
}

// agrees holds snapshots of public.a, which is only inserted into, against the stream.
func (m *member) agrees(snapshots map[cdc.LSN]map[string]digest.Row, transactions []*cdc.Transaction) {
	m.t.Helper()
	want := map[string]digest.Row{}
	for _, cut := range slices.Sorted(maps.Keys(snapshots)) {
		for len(transactions) > 0 && transactions[0].Commit < cut {
			for _, c := range transactions[0].Changes {
				want[strings.TrimPrefix(m.line(cdc.Change{Table: c.Table, Epoch: c.Epoch, Key: c.Key}), " public.a ")] = c.Row
			}
			transactions = transactions[1:]
		}
		same := func(a, b digest.Row) bool { return a.Digest == b.Digest && slices.Equal(a.Columns, b.Columns) }
		if rows := snapshots[cut]; !maps.EqualFunc(want, rows, same) {
			m.t.Errorf("at %v the snapshot has %d rows, the stream %d: %s", cut, len(rows), len(want), cmp.Diff(want, rows))
		}
	}
}

// synchronousWait has a transaction that is committed in the log, and decoded, and not visible: it waits for a standby
// that does not exist.
func synchronousWait(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY)"))
	m.start()
	release := m.hang("INSERT INTO a VALUES (1)")
	m.exec("INSERT INTO a VALUES (2)")
	if got := m.script(m.caughtUp()); len(got) != 2 {
		t.Fatalf("decoded %v, want both", got)
	}
	if visible, err := dbtest.Value[int64](t.Context(), m.Server, "SELECT sum(id)::int8 FROM a"); err != nil || visible != 2 {
		t.Fatalf("visible: %v, %v", visible, err)
	}
	m.snapshot = 500 * time.Millisecond
	snapshots := map[cdc.LSN]map[string]digest.Row{}
	if snapshot, err := m.Snapshot(t.Context()); err == nil {
		snapshots[snapshot.Cut()] = m.rowsIn(snapshot, "public.a")
		snapshot.Close()
	} else if !strings.Contains(err.Error(), "it waits for the end of all running transactions") {
		t.Error(err)
	}
	m.snapshot = time.Minute
	go release() // while the snapshot is waited for
	rows, cut := m.rows("public.a")
	snapshots[cut] = rows
	m.agrees(snapshots, m.caughtUp())
}

// hang commits a statement on a connection of its own, and returns when the commit waits for a standby. release, which may
// be called from any goroutine, ends the wait.
func (m *member) hang(statement string) (release func()) {
	m.t.Helper()
	conn, err := m.Conn(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	pid := conn.PgConn().PID()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.Exec(m.t.Context(), "SET synchronous_commit = on; "+statement)
		hangUp(conn)
	}()
	release = func() {
		_ = m.Exec(context.Background(), fmt.Sprintf("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'", pid))
		<-ended
	}
	m.t.Cleanup(release)
	err = dbtest.WaitFor(m.t.Context(), "a commit to hang", func(ctx context.Context) (bool, error) {
		return dbtest.Value[bool](ctx, m.Server, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')", int32(pid))
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return release
}

func heirs(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `
		CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
		CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
		CREATE TABLE p21 PARTITION OF p2 DEFAULT;
		CREATE TABLE i (id int PRIMARY KEY); CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (i);
		INSERT INTO p VALUES (1), (11); INSERT INTO i VALUES (1); INSERT INTO heir VALUES (2)`))
	if rows, _ := m.rows("public.p"); len(rows) != 2 {
		t.Errorf("%v", rows)
	}
	if rows, _ := m.rows("public.i"); len(rows) != 1 {
		t.Errorf("%v", rows)
	}
	if rows, _ := m.rows("public.heir"); len(rows) != 1 {
		t.Errorf("%v", rows)
	}
}

func rewritten(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (1);
		CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1); CREATE TABLE c (id int PRIMARY KEY); INSERT INTO c VALUES (1)`))
	snapshot, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	m.exec("ALTER TABLE a ALTER n TYPE text", "TRUNCATE b", "ALTER TABLE c ADD n int DEFAULT 5")
	for name, words := range map[string]string{"public.a": "truncated or rewritten", "public.b": "truncated or rewritten", "public.c": "definition has changed"} {
		table, epoch := m.table(name)
		err := snapshot.Rows(t.Context(), table, epoch, func(digest.Key, *digest.Row) error { return nil })
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want one about %q", name, err, words)
		}
	}
}

func unlocked(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE TABLE b (id int PRIMARY KEY)`))
	snapshot, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	m.rowsIn(snapshot, "public.a")
	m.exec("SET lock_timeout = '2s'; DROP TABLE a")
	m.exec("INSERT INTO b VALUES (1)")
	if rows := m.rowsIn(snapshot, "public.b"); len(rows) != 0 {
		t.Errorf("a later row is in the snapshot: %v", rows)
	}
}

// leastPrivilege runs all of a source as a role that has been granted just what the errors and problems asked for.
func leastPrivilege(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, "CREATE SCHEMA deep; CREATE TABLE deep.a (id int PRIMARY KEY); INSERT INTO deep.a VALUES (1); CREATE POLICY p ON deep.a USING (false)")
	role := "low_" + db.Database
	dbtest.ExecT(t, db, "CREATE ROLE "+role+" LOGIN REPLICATION", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	t.Cleanup(func() { _ = db.Exec(context.Background(), "DROP OWNED BY "+role, "DROP ROLE "+role) })
	m := watch(t, db)
	m.options.DSN = db.DSNFor(role, "")
	m.Source.Close()
	if _, err := m.Source.Server(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := m.Progress(t.Context()); !cdc.IsSetup(err) {
		t.Errorf("%v", err)
	} else {
		_, grants, _ := strings.Cut(err.Error(), ": GRANT")
		m.exec("GRANT" + grants)
	}
	for _, words := range []string{"may not use it", "may not read it"} {
		m.learn(1)
		if problem := m.tables[0].Problem; !strings.Contains(problem, words) {
			t.Fatalf("problem %q, want one about %q", problem, words)
		}
		m.exec(m.tables[0].Hint)
	}
	m.exec("ALTER TABLE deep.a ENABLE ROW LEVEL SECURITY")
	m.learn(1)
	if !strings.Contains(m.tables[0].Problem, "policies") {
		t.Errorf("%+v", m.tables[0])
	}
	snapshot, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	table, epoch := m.table("deep.a")
	if err := snapshot.Rows(t.Context(), table, epoch, func(digest.Key, *digest.Row) error { return nil }); err == nil {
		t.Error("rows that a policy hides are read as if they were not there")
	}
	snapshot.Close()
	m.exec(m.tables[0].Hint)
	m.learn(1)
	if m.tables[0].Problem != "" {
		t.Errorf("%+v", m.tables[0])
	}
	if rows, _ := m.rows("deep.a"); len(rows) != 1 {
		t.Errorf("rows: %v", rows)
	}
	m.start()
	m.exec("INSERT INTO deep.a VALUES (2)")
	if diff := cmp.Diff([]string{`insert deep.a {"id":2}`}, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
	if _, err := m.Confirmed(t.Context()); err != nil {
		t.Error(err)
	}
	m.Durable(1)
	m.end()
	if _, err := prepare(t.Context(), m, 0); err != nil {
		t.Error(err)
	}
}
