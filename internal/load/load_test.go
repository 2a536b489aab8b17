package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// group is a server that is written to and one that replicates it.
type group struct {
	dsn      string
	caughtUp func(context.Context) error
	rows     func(t *testing.T, member int, query string) []string
	literal  string // the function that spells any value
}

// TestOnEachEngine runs the tests of the load on a group of each, which starts once; each of them finds the tables empty.
func TestOnEachEngine(t *testing.T) {
	onEachEngine(t, func(t *testing.T, g group) {
		for _, c := range []struct {
			name string
			test func(*testing.T, group)
		}{
			{"replica has the same rows after a load of many clients", replicaHasTheSameRows},
			{"every kind of work is done", everyKindOfWorkIsDone},
			{"what is taken back is not counted", whatIsTakenBackIsNotCounted},
			{"deadlocks and taken keys are conflicts", deadlocksAndTakenKeysAreConflicts},
		} {
			t.Run(c.name, func(t *testing.T) {
				g.fill(t)
				c.test(t, g)
			})
		}
	})
}

const share = 10 // of the rows one in so many is enough here

// fill leaves the tables as a load finds them.
func (g group) fill(t *testing.T) {
	t.Helper()
	conn, err := dialectOf(g.dsn).connect(t.Context(), g.dsn)
	fatal(t, err)
	defer conn.close(t.Context())
	for _, table := range []string{"accounts", "orders", "stock"} {
		_, err := conn.exec(t.Context(), "DELETE FROM "+table)
		fatal(t, err)
	}
	fatal(t, FillShare(t.Context(), g.dsn, share))
}

func onEachEngine(t *testing.T, test func(*testing.T, group)) {
	t.Run(dbtest.PG15.String(), func(t *testing.T) {
		g := dbtest.GroupT(t, dbtest.Need(t, dbtest.PG15), 1, Schema, dbtest.Options{})
		test(t, group{dsn: g.Publisher.DSN("app"), caughtUp: g.WaitCaughtUp, literal: "quote_nullable", rows: func(t *testing.T, member int, query string) []string {
			rows, err := dbtest.Rows[string](t.Context(), g.Members()[member], query)
			fatal(t, err)
			return rows
		}})
	})
	for _, f := range []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97} {
		t.Run(f.String(), func(t *testing.T) {
			g := dbtest.MySQLGroupT(t, dbtest.NeedMySQL(t, f), 1, MySQLSchema, dbtest.Options{})
			test(t, group{dsn: g.Primary.DSN("app"), caughtUp: g.WaitCaughtUp, literal: "QUOTE", rows: func(t *testing.T, member int, query string) []string {
				rows, err := dbtest.MySQLRows[string](t.Context(), g.Members()[member], query)
				fatal(t, err)
				return rows
			}})
		})
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contents lists all rows that a member has.
func (g group) contents(t *testing.T, member int) []string {
	var all []string
	for table, columns := range map[string][]string{
		"accounts": {"id", "owner", "balance", "seen"},
		"orders":   {"id", "account", "state", "note", "details"},
		"stock":    {"warehouse", "item", "quantity", "checked"},
	} {
		var values []string
		for _, c := range columns {
			values = append(values, fmt.Sprintf("%s(%s)", g.literal, c))
		}
		all = append(all, g.rows(t, member, fmt.Sprintf("SELECT CONCAT_WS(', ', '%s', %s) FROM %s", table, strings.Join(values, ", "), table))...)
	}
	slices.Sort(all)
	return all
}

func replicaHasTheSameRows(t *testing.T, g group) {
	l := Start(t.Context(), g.dsn, Options{Clients: 6, Seed: 3, Pause: time.Millisecond, Large: 100})
	err := dbtest.WaitFor(t.Context(), "transactions", func(context.Context) (bool, error) {
		return l.Counts().Transactions.Load() > 600, nil
	})
	fatal(t, err)
	fatal(t, l.Stop())
	fatal(t, g.caughtUp(t.Context()))
	primary, replica := g.contents(t, 0), g.contents(t, 1)
	if diff := cmp.Diff(primary, replica); diff != "" {
		t.Errorf("(-primary +replica)\n%.2000s", diff)
	}
	if n := l.Counts(); n.RolledBack.Load() == 0 || n.Rows.Load() < n.Transactions.Load() || len(primary) < accounts/share/2 {
		t.Errorf("%d transactions, %d rolled back, %d rows written, %d there", n.Transactions.Load(), n.RolledBack.Load(), n.Rows.Load(), len(primary))
	}
}

// tally counts the rows that each statement has written.
type tally struct {
	session
	rows map[string]int64
	ran  map[string]int
}

func (s *tally) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	rows, err := s.session.exec(ctx, sql, args...)
	s.rows[sql] += rows
	s.ran[sql]++
	return rows, err
}

func everyKindOfWorkIsDone(t *testing.T, g group) {
	d := dialectOf(g.dsn)
	conn, err := d.connect(t.Context(), g.dsn)
	fatal(t, err)
	defer conn.close(t.Context())
	s := &tally{conn, map[string]int64{}, map[string]int{}}
	w := &writer{dialect: d, session: s, rnd: rand.New(rand.NewPCG(1, 2)), large: 30}
	for range 400 {
		_, err := w.transaction(t.Context())
		fatal(t, err)
	}
	texts := reflect.ValueOf(*d)
	for i := range texts.NumField() {
		if sql := texts.Field(i); sql.Kind() == reflect.String && s.rows[sql.String()] == 0 {
			t.Errorf("%s wrote nothing: %s", texts.Type().Field(i).Name, sql)
		}
	}
	for _, sql := range []string{"COMMIT", "ROLLBACK", "RELEASE SAVEPOINT part", "ROLLBACK TO SAVEPOINT part"} {
		if s.ran[sql] == 0 {
			t.Errorf("no %s in 400 transactions", sql)
		}
	}
}

// nobody is a session without a server: each statement writes one row.
type nobody struct{}

func (nobody) exec(context.Context, string, ...any) (int64, error) { return 1, nil }
func (nobody) close(context.Context)                               {}

// takesBack returns a seed by which the first transaction is rolled back, after it has written.
func takesBack(t *testing.T, d *dialect) uint64 {
	t.Helper()
	for seed := range uint64(1000) {
		s := &tally{nobody{}, map[string]int64{}, map[string]int{}}
		w := &writer{dialect: d, session: s, rnd: rand.New(rand.NewPCG(1, seed)), large: 100}
		if committed, err := w.transaction(t.Context()); err == nil && !committed && len(s.ran) > 3 {
			return seed
		}
	}
	t.Fatal("no transaction is rolled back")
	return 0
}

func whatIsTakenBackIsNotCounted(t *testing.T, g group) {
	before := g.contents(t, 0)
	d := dialectOf(g.dsn)
	conn, err := d.connect(t.Context(), g.dsn)
	fatal(t, err)
	defer conn.close(t.Context())
	w := &writer{dialect: d, session: conn, rnd: rand.New(rand.NewPCG(1, takesBack(t, d))), large: 100}
	committed, err := w.transaction(t.Context())
	fatal(t, err)
	if diff := cmp.Diff(before, g.contents(t, 0)); diff != "" || w.rows != 0 || committed {
		t.Errorf("committed %t, %d rows counted; (-before +after)\n%.2000s", committed, w.rows, diff)
	}
}

// Two clients that lock each other out: one of them is refused, and that is no error of the load.
func deadlocksAndTakenKeysAreConflicts(t *testing.T, g group) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d := dialectOf(g.dsn)
	var clients [2]session
	for i := range clients {
		var err error
		clients[i], err = d.connect(ctx, g.dsn)
		fatal(t, err)
		defer clients[i].close(ctx)
		_, err = clients[i].exec(ctx, "BEGIN")
		fatal(t, err)
		_, err = clients[i].exec(ctx, d.raiseBalance, 1+i)
		fatal(t, err)
	}
	refusals := make(chan error, 2)
	for i := range clients {
		go func() {
			_, err := clients[i].exec(ctx, d.raiseBalance, 2-i)
			if err != nil { // so that the other one goes on
				_, _ = clients[i].exec(ctx, "ROLLBACK")
			}
			refusals <- err
		}()
	}
	first, second := <-refusals, <-refusals
	if first == nil {
		first, second = second, first
	}
	if first == nil || second != nil || !d.conflict(first) {
		t.Errorf("a deadlock gave %v and %v, want one conflict", first, second)
	}
	_, err := clients[0].exec(ctx, "INSERT INTO stock (warehouse, item, quantity) VALUES ('w1', 1, 1)")
	if err == nil || !d.conflict(err) {
		t.Errorf("a taken key gave %v, want a conflict", err)
	}
	if _, err := clients[1].exec(ctx, "SELEKT"); err == nil || d.conflict(err) {
		t.Errorf("nonsense gave %v, want an error that is no conflict", err)
	}
}

func TestDialectGoesByTheScheme(t *testing.T) {
	if dialectOf("mysql://root@127.0.0.1:1/app") != &mysqlDialect || dialectOf("postgres://127.0.0.1/app") != &postgresDialect {
		t.Error("an engine has the other one's dialect")
	}
}
