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

// onEachEngine runs a test on all that are installed here.
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

func TestReplicaHasTheSameRowsAfterALoadOfManyClients(t *testing.T) {
	onEachEngine(t, func(t *testing.T, g group) {
		fatal(t, Fill(t.Context(), g.dsn))
		l := Start(t.Context(), g.dsn, Options{Clients: 6, Seed: 3, Large: 100})
		err := dbtest.WaitFor(t.Context(), "transactions", func(context.Context) (bool, error) {
			return l.Counts().Transactions.Load() > 1500, nil
		})
		fatal(t, err)
		fatal(t, l.Stop())
		fatal(t, g.caughtUp(t.Context()))
		primary, replica := g.contents(t, 0), g.contents(t, 1)
		if diff := cmp.Diff(primary, replica); diff != "" {
			t.Errorf("(-primary +replica)\n%.2000s", diff)
		}
		if n := l.Counts(); n.RolledBack.Load() == 0 || n.Rows.Load() < n.Transactions.Load() || len(primary) < accounts/2 {
			t.Errorf("%d transactions, %d rolled back, %d rows written, %d there", n.Transactions.Load(), n.RolledBack.Load(), n.Rows.Load(), len(primary))
		}
	})
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

func TestEveryKindOfWorkIsDone(t *testing.T) {
	onEachEngine(t, func(t *testing.T, g group) {
		fatal(t, Fill(t.Context(), g.dsn))
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
	})
}

func TestWhatIsTakenBackIsNotCounted(t *testing.T) {
	onEachEngine(t, func(t *testing.T, g group) {
		fatal(t, Fill(t.Context(), g.dsn))
		before := g.contents(t, 0)
		d := dialectOf(g.dsn)
		conn, err := d.connect(t.Context(), g.dsn)
		fatal(t, err)
		defer conn.close(t.Context())
		w := &writer{dialect: d, session: conn, rnd: rand.New(rand.NewPCG(1, 1)), large: 100}
		for {
			committed, err := w.transaction(t.Context())
			fatal(t, err)
			if committed {
				before = g.contents(t, 0)
				continue
			}
			if diff := cmp.Diff(before, g.contents(t, 0)); diff != "" || w.rows != 0 {
				t.Errorf("%d rows counted; (-before +after)\n%.2000s", w.rows, diff)
			}
			return
		}
	})
}

// Two clients that lock each other out: one of them is refused, and that is no error of the load.
func TestDeadlocksAndTakenKeysAreConflicts(t *testing.T) {
	onEachEngine(t, func(t *testing.T, g group) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		fatal(t, Fill(ctx, g.dsn))
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
	})
}

func TestDialectGoesByTheScheme(t *testing.T) {
	if dialectOf("mysql://root@127.0.0.1:1/app") != &mysqlDialect || dialectOf("postgres://127.0.0.1/app") != &postgresDialect {
		t.Error("an engine has the other one's dialect")
	}
}
