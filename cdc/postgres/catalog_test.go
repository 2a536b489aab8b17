package postgres

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestCatalog(t *testing.T) {
	eachVersion(t, func(t *testing.T, s servers) {
		each(t, s, map[string]func(*testing.T, servers){
			"columns have the classes of their types":      columnsHaveClasses,
			"problems are named and mended by their hints": problemsAreMended,
			"version changes with what is published":       versionFollowsPublication,
			"server says who it is":                        whoItIs,
		})
		once(t, s, map[string]func(*testing.T, servers){
			"version stays the same unless something changed": versionStays,
			"table that somebody locks delays no question":    lockedTable,
			"tables whose names joined are one text are two":  dottedNames,
			"columns that a publication leaves out are told":  columnLists,
			"a table that is closed to us is not gone":        closedIsNotGone,
		})
	})
}

// columnLists has publications of others leave columns out.
func columnLists(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TABLE t (id int PRIMARY KEY, a int, gone int, b int, g int GENERATED ALWAYS AS (id) STORED); ALTER TABLE t DROP gone;
		CREATE TABLE p (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT;
		CREATE PUBLICATION part FOR TABLE t (id, a), p1 (id); CREATE PUBLICATION few FOR TABLE t (id) WHERE (id > 5); CREATE PUBLICATION whole FOR TABLE t, p`))
	for name, want := range map[string]map[string]cdc.Carried{
		"public.t": {"part": {Columns: []string{"b"}}, "few": {Without: "rows that are not (id > 5)", Columns: []string{"a", "b"}}, "whole": {}, "lockstep_shop": {}},
		"public.p": {"part": {Columns: []string{"n"}}, "whole": {}, "lockstep_shop": {}},
	} {
		table, _ := m.table(name)
		if diff := cmp.Diff(want, table.Publications, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// closedIsNotGone asks for a table whose schema and rows are closed to us, and for what is there no more.
func closedIsNotGone(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, `CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY); CREATE TABLE v (id int PRIMARY KEY)`)
	role := "blind_" + db.Database
	dbtest.ExecT(t, db, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { _ = db.Exec(context.Background(), "DROP ROLE "+role) })
	source := gauged(t, db, role)
	gone, doubt, err := source.Gone(t.Context(), []string{"closed.t", "public.t", "public.u", "public.v", "never.t"})
	if want := []string{"public.t", "public.u", "never.t"}; err != nil || doubt != "" || !slices.Equal(gone, want) {
		t.Errorf("%q are gone (%q, %v), and not %q", gone, doubt, err, want)
	}
}

// dottedNames has tables that were taken for one: schema and table, with a dot between, are the same text.
func dottedNames(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, `CREATE SCHEMA "a.b"; CREATE SCHEMA a; CREATE SCHEMA """a";
		CREATE TABLE "a.b".c (id int PRIMARY KEY, n int); CREATE TABLE a."b.c" (id int PRIMARY KEY, n text);
		CREATE TABLE """a"."b"".c" (id int PRIMARY KEY); CREATE SCHEMA "p.q"; CREATE TABLE "p.q".root (id int PRIMARY KEY) PARTITION BY LIST (id);
		CREATE TABLE "p.q"."leaf.of" PARTITION OF "p.q".root DEFAULT`)
	m := watch(t, db)
	names := []string{`"""a".b".c`, `"a.b".c`, `"p.q".root`, `a.b.c`}
	for _, table := range m.tables {
		if table.Problem != "" {
			t.Errorf("%s: %s", table.Name, table.Problem)
		}
	}
	m.streaming()
	m.exec(`INSERT INTO "a.b".c VALUES (1, 1)`, `INSERT INTO a."b.c" VALUES (2, 'x'), (3, 'y')`, `INSERT INTO """a"."b"".c" VALUES (4)`, `INSERT INTO "p.q".root VALUES (5)`)
	want := []string{`insert "a.b".c {"id":1}`, `insert a.b.c {"id":2}`, `insert a.b.c {"id":3}`, `insert """a".b".c {"id":4}`, `insert "p.q".root {"id":5}`}
	if diff := cmp.Diff(want, m.script(m.caughtUp())); diff != "" {
		t.Error(diff)
	}
	for i, rows := range []int{1, 1, 1, 2} {
		inParts, _ := m.part(names[i], cdc.Part{Limit: 10})
		whole, _ := m.rows(names[i])
		if len(inParts) != rows || len(whole) != rows {
			t.Errorf("of %s were read %d rows in parts and %d at once, want %d", names[i], len(inParts), len(whole), rows)
		}
	}
	o := checkOptions(db, "postgres")
	m.exec("DROP PUBLICATION lockstep_shop")
	runPsql(t, db, runCheck(t, o, checkPrefix("")).SQL())
	if bad := notOK(runCheck(t, o, checkPrefix(""))); slices.ContainsFunc(bad, func(l string) bool { return !strings.Contains(l, "max_slot_wal_keep_size") }) {
		t.Errorf("after the SQL of its checks: %q", bad)
	}
}

func columnsHaveClasses(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN d AS text; CREATE DOMAIN dd AS d; CREATE DOMAIN dm AS mood;
		CREATE TYPE pair AS (a int); CREATE SCHEMA other; CREATE TYPE other.thing AS RANGE (subtype = int);
		CREATE TABLE t (b int, a int, c mood, e dd, f mood[], g pair, h other.thing, i int[], j dm, gone int, k char(3), l real, m text, n numeric, o jsonb,
			p int GENERATED ALWAYS AS (a) STORED, PRIMARY KEY (b, a));
		ALTER TABLE t DROP gone, ALTER m SET STORAGE PLAIN; INSERT INTO t (a, b) SELECT 1, i FROM generate_series(1, 10) i; ANALYZE t`))
	got := m.tables[0]
	want := []digest.Column{
		{Name: "a", Class: digest.Int}, {Name: "b", Class: digest.Int}, {Name: "c", Class: digest.Text},
		{Name: "e", Class: digest.Text, Wide: true}, {Name: "f", Class: digest.Verbatim, Type: "public.mood[]", Wide: true},
		{Name: "g", Class: digest.Verbatim, Type: "public.pair", Wide: true}, {Name: "h", Class: digest.Verbatim, Type: "other.thing", Wide: true},
		{Name: "i", Class: digest.Verbatim, Type: "int4[]", Wide: true}, {Name: "j", Class: digest.Text},
		{Name: "k", Class: digest.Text, Type: "bpchar", Wide: true}, {Name: "l", Class: digest.Float, Type: "float4"},
		{Name: "m", Class: digest.Text}, {Name: "n", Class: digest.Decimal, Wide: true}, {Name: "o", Class: digest.JSON, Wide: true},
	}
	if diff := cmp.Diff(want, got.Columns); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b", "a"}, got.Key); diff != "" || got.Rows != 10 || got.Problem != "" {
		t.Errorf("%s %+v", diff, got)
	}
}

func problemsAreMended(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, `
		CREATE TABLE ok (id int PRIMARY KEY);
		CREATE TABLE nokey (id int);
		CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
		CREATE TABLE jkey (id jsonb PRIMARY KEY);
		CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE byindex (id int PRIMARY KEY, u int NOT NULL UNIQUE); ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_u_key;
		CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
		CREATE TABLE missing (id int PRIMARY KEY);
		CREATE TABLE filtered (id int PRIMARY KEY);
		CREATE TABLE listed (id int PRIMARY KEY, n int);
		CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
		CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (10) TO (20)`)
	dbtest.ExecT(t, db, "DROP PUBLICATION lockstep_shop",
		`CREATE PUBLICATION lockstep_shop FOR TABLE ok, filtered WHERE (id > 0), listed (id), part1 WITH (publish = 'insert, update, delete')`)
	m := watch(t, db)
	problems := func() map[string]string {
		got := map[string]string{}
		for _, table := range m.tables {
			if got[strings.TrimPrefix(table.Name, "public.")] = table.Problem; (table.Problem == "") != (table.Hint == "") {
				t.Errorf("%s has the problem %q and the hint %q", table.Name, table.Problem, table.Hint)
			}
		}
		return got
	}
	const operations = `publication "lockstep_shop" does not publish every operation of every partition`
	want := map[string]string{
		"ok": operations, "nokey": "has no primary key", "late": "its primary key is deferrable, replication cannot use it",
		"jkey":     `column "id" is json, which has no order and cannot be part of a key`,
		"nothing":  "has REPLICA IDENTITY NOTHING, updates and deletes do not show their row",
		"byindex":  "has REPLICA IDENTITY USING INDEX public.byindex_u_key, which is not the primary key",
		"unlogged": "is unlogged, its rows are not in the WAL",
		"missing":  `"public"."missing" is not in publication "lockstep_shop"`,
		"filtered": `"public"."filtered" has a row filter or a column list in publication "lockstep_shop"`,
		"listed":   `"public"."listed" has a row filter or a column list in publication "lockstep_shop"`,
		"part":     `"public"."part2" is not in publication "lockstep_shop"`,
	}
	if diff := cmp.Diff(want, problems()); diff != "" {
		t.Error(diff)
	}
	for _, table := range m.tables {
		switch strings.TrimPrefix(table.Name, "public.") {
		case "ok", "missing", "filtered", "listed", "part":
			m.exec(table.Hint)
		}
	}
	m.learn(2)
	for _, name := range []string{"ok", "missing", "filtered", "listed", "part"} {
		if got := problems()[name]; got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	m.exec("ALTER PUBLICATION lockstep_shop SET (publish_via_partition_root = true)")
	m.learn(3)
	if got := problems()["part"]; got != operations {
		t.Error(got)
	}
	m.exec("DROP PUBLICATION lockstep_shop")
	m.learn(4)
	if got := problems()["ok"]; got != `publication "lockstep_shop" does not exist` {
		t.Error(got)
	}
}

func versionStays(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); INSERT INTO t VALUES (1, 1)`))
	version := func(name string) string {
		m.learn(1)
		table, _ := m.table(name)
		return table.Version
	}
	before := version("public.t")
	m.exec("INSERT INTO t VALUES (2, 2)", "ANALYZE t", "VACUUM FREEZE t", "VACUUM FULL t", "CREATE INDEX ON t (n)", "REINDEX TABLE t", "TRUNCATE t")
	if version("public.t") != before {
		t.Error("the version changed although the definition did not")
	}
	parts := version("public.p")
	m.exec("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)")
	if version("public.p") == parts {
		t.Error("a new partition left the version as it was")
	}
	m.exec("ALTER TABLE t DROP n; ALTER TABLE t ADD n int")
	if version("public.t") == before {
		t.Error("a column that took another's place left the version as it was")
	}
}

// versionFollowsPublication alters our publication and puts it back: what was written meanwhile is not in the stream, so that
// the table has to be read anew although nothing is to be seen of it any more.
func versionFollowsPublication(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, `CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE o (id int PRIMARY KEY);
		CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
		CREATE SCHEMA deep; CREATE TABLE deep.d (id int PRIMARY KEY)`))
	versions := func() map[string]string {
		m.learn(1)
		all := map[string]string{}
		for _, table := range m.tables {
			all[table.Name] = table.Version
		}
		return all
	}
	const one, other, part, below = "public.t", "public.o", "public.p", "deep.d"
	for _, c := range []struct {
		made     string
		altered  []string
		anew     []string // the tables whose versions change
		likewise []string // and of which that does not matter
	}{
		{"FOR ALL TABLES", []string{"DROP PUBLICATION lockstep_shop", "CREATE PUBLICATION lockstep_shop FOR ALL TABLES"}, []string{one, other, part, below}, nil},
		{"FOR ALL TABLES", []string{"ALTER PUBLICATION lockstep_shop SET (publish = 'insert')", "ALTER PUBLICATION lockstep_shop SET (publish = 'insert, update, delete, truncate')"},
			[]string{one, other, part, below}, nil},
		{"FOR TABLE ONLY t, ONLY o, ONLY p1", []string{"ALTER PUBLICATION lockstep_shop SET TABLE ONLY o, ONLY p1", "ALTER PUBLICATION lockstep_shop SET TABLE ONLY o, ONLY t, ONLY p1"},
			[]string{one}, []string{other, part}},
		{"FOR TABLE t, o, p", []string{"ALTER PUBLICATION lockstep_shop SET TABLE t, o", "ALTER PUBLICATION lockstep_shop SET TABLE t, o, p"}, []string{part}, []string{one, other}},
		{"FOR TABLE t, o", []string{"ALTER PUBLICATION lockstep_shop SET TABLE t WHERE (id > 5), o", "ALTER PUBLICATION lockstep_shop SET TABLE t, o"}, []string{one}, []string{other}},
		{"FOR TABLE t, o", []string{"ALTER PUBLICATION lockstep_shop SET TABLE t (id), o", "ALTER PUBLICATION lockstep_shop SET TABLE t, o"}, []string{one}, []string{other}},
		{"FOR TABLE t, o", []string{"ALTER PUBLICATION lockstep_shop DROP TABLE t", "ALTER PUBLICATION lockstep_shop ADD TABLE t"}, []string{one}, nil},
		{"FOR TABLES IN SCHEMA deep, TABLE t", []string{"ALTER PUBLICATION lockstep_shop DROP TABLES IN SCHEMA deep", "ALTER PUBLICATION lockstep_shop ADD TABLES IN SCHEMA deep"},
			[]string{below}, nil},
	} {
		m.exec("DROP PUBLICATION lockstep_shop", "CREATE PUBLICATION lockstep_shop "+c.made)
		before := versions()
		m.exec("VACUUM FREEZE pg_publication_rel", "VACUUM FREEZE pg_publication", "VACUUM FREEZE pg_publication_namespace")
		if diff := cmp.Diff(before, versions()); diff != "" {
			t.Errorf("%s: versions change although nothing does: %s", c.made, diff)
		}
		m.exec(c.altered...)
		after := versions()
		for name := range before {
			want, either := slices.Contains(c.anew, name), slices.Contains(c.likewise, name)
			if changed := before[name] != after[name]; changed != want && !either {
				t.Errorf("%s, %q: the version of %s changes: %v, want %v", c.made, c.altered, name, changed, want)
			}
		}
	}
}

// lockedTable asks all that is asked again and again while somebody has a table for himself.
func lockedTable(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE f (id int PRIMARY KEY)"))
	m.exec("CREATE PUBLICATION app FOR TABLE a (id), b, f WHERE (id > 5)")
	m.streaming()
	holder, err := m.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(holder)
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE a, f IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 2)
	go func() { waits <- m.Execute(t.Context(), "public.a", "INSERT INTO public.a VALUES (1)") }() // as a canary
	table, epoch := m.table("public.a")
	go func() {
		_, err := m.Read(t.Context(), table, epoch, cdc.Part{}, func(digest.Key, *digest.Row) error { return nil })
		waits <- err
	}()
	err = dbtest.WaitFor(t.Context(), "both to wait for the lock", func(ctx context.Context) (bool, error) {
		return dbtest.Value[bool](ctx, m.Server, "SELECT count(*) >= 2 FROM pg_locks WHERE NOT granted AND relation = 'a'::regclass")
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := m.Progress(ctx); err != nil {
		t.Errorf("progress: %v", err)
	}
	if _, err := m.Confirmed(ctx); err != nil {
		t.Errorf("slots: %v", err)
	}
	// Newer servers cannot say what is published of a table that is locked; then the question ends before long.
	if tables, err := m.Tables(ctx, func(string) bool { return true }); err != nil && sqlState(err) != "55P03" || err == nil && len(tables) != 3 {
		t.Errorf("definitions: %d tables, %v", len(tables), err)
	}
	if _, err := holder.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-waits; err != nil {
			t.Errorf("once the lock is gone: %v", err)
		}
	}
}

func whoItIs(t *testing.T, s servers) {
	db := newDatabase(t, s.publisher, "")
	m := watch(t, db)
	got, err := m.Source.Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := dbtest.Value[string](t.Context(), db, "SELECT system_identifier::text FROM pg_control_system()")
	if err != nil {
		t.Fatal(err)
	}
	version := got.Version
	if diff := cmp.Diff(cdc.Server{SystemID: id, Timeline: 1, Database: db.Database, Version: version}, got); diff != "" || version == "" {
		t.Error(diff)
	}
}
