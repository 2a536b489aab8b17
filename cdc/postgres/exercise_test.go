package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func TestExercise(t *testing.T) {
	oneVersion(t, func(t *testing.T, s servers) {
		var p *subscribed
		t.Cleanup(func() { p.end(t) })
		cdctest.Exercise(t, func(*testing.T) cdctest.Subject {
			if p != nil && p.altered {
				p.end(t)
				p = nil
			}
			if p == nil {
				p = newSubscribed(t, s)
			}
			return p.subject(t)
		})
	})
}

// exerciseTables has notes kept apart from their rows as they are, however well they would compress.
const exerciseTables = `
CREATE TABLE a (id int PRIMARY KEY, v int, note text); ALTER TABLE a ALTER note SET STORAGE EXTERNAL;
CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE elsewhere (LIKE a INCLUDING ALL)`

// subscribed is a database with the suite's tables on both servers, and a subscription from one to the other. Checks have
// it in turn, until one of them alters a table.
type subscribed struct {
	author, follower   *dbtest.Server
	subscription       string
	altered            bool
	authors, followers chan *pgx.Conn // idle sessions of the suite's own
}

func newSubscribed(t *testing.T, s servers) *subscribed {
	t.Helper()
	author := freshDatabase(t, s.publisher, exerciseTables+"; CREATE PUBLICATION app FOR ALL TABLES")
	follower := *s.subscriber
	follower.Database = author.Database
	createDatabase(t, &follower)
	dbtest.ExecT(t, &follower, exerciseTables, "CREATE PUBLICATION lockstep_shop FOR ALL TABLES")
	p := &subscribed{author: author, follower: &follower, subscription: "app_" + author.Database,
		authors: make(chan *pgx.Conn, 4), followers: make(chan *pgx.Conn, 4)}
	if err := dbtest.Subscribe(t.Context(), p.follower, p.subscription, author, "app"); err != nil {
		t.Fatal(err)
	}
	return p
}

// end drops the subscription: that of a table that was altered on one side fails, and is started again five times a second.
func (p *subscribed) end(t *testing.T) {
	if p == nil {
		return
	}
	for len(p.authors)+len(p.followers) > 0 {
		select {
		case conn := <-p.authors:
			hangUp(conn)
		case conn := <-p.followers:
			hangUp(conn)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.follower.Exec(ctx, "DROP SUBSCRIPTION "+p.subscription); err != nil {
		t.Log(err)
	}
	dropSlots(t, p.author)
	dropSlots(t, p.follower)
}

// subject empties the tables.
func (p *subscribed) subject(t *testing.T) cdctest.Subject {
	t.Helper()
	s := cdctest.Subject{
		Engine: cdctest.Postgres, Author: driver{p.author, &p.altered, p.authors}, Follower: driver{p.follower, &p.altered, p.followers},
		Replicate: func(ctx context.Context, on bool) error {
			what := map[bool]string{true: "ENABLE", false: "DISABLE"}[on]
			return p.follower.Exec(ctx, "ALTER SUBSCRIPTION "+p.subscription+" "+what)
		},
		CaughtUp: func(ctx context.Context) error { return dbtest.WaitReplayed(ctx, p.author, p.subscription) },
	}
	dbtest.ExecT(t, p.author, "TRUNCATE a, b, elsewhere")
	if err := s.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// driver drives one database.
type driver struct {
	*dbtest.Server
	altered *bool
	idle    chan *pgx.Conn
}

// run runs statements in one transaction.
func (d driver) run(ctx context.Context, statements string) (err error) {
	var conn *pgx.Conn
	select {
	case conn = <-d.idle:
	default:
		if conn, err = d.Conn(ctx); err != nil {
			return err
		}
	}
	if _, err = conn.Exec(ctx, statements); err != nil {
		hangUp(conn)
		return err
	}
	select {
	case d.idle <- conn:
	default:
		hangUp(conn)
	}
	return nil
}

func (d driver) Name(table string) string { return "public." + table }

func (d driver) Open(h *digest.Hasher) (cdc.Source, error) {
	source, err := New(optionsOf(d.Server), h)
	if err != nil {
		return nil, err
	}
	source.status, source.tick = time.Second, 20*time.Millisecond
	return source, nil
}

func (d driver) Write(ctx context.Context, changes ...cdctest.Change) error {
	var statements []string
	for _, c := range changes {
		statements = append(statements, c.Statement(cdctest.Postgres, c.Table))
	}
	return d.run(ctx, strings.Join(statements, "; "))
}

func (d driver) AddColumn(ctx context.Context, table, column string) error {
	*d.altered = true
	return d.Exec(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s int", table, column))
}

func (d driver) DropColumn(ctx context.Context, table, column string) error {
	*d.altered = true
	return d.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", table, column))
}

func (d driver) Noise(ctx context.Context) error {
	return d.run(ctx, "SELECT pg_logical_emit_message(true, 'noise', 'x')")
}

func (d driver) Cut(ctx context.Context) error {
	return d.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lockstep'")
}

func (d driver) GiveUp(ctx context.Context) error {
	return dbtest.WaitFor(ctx, "the slot to be free", func(ctx context.Context) (bool, error) {
		err := d.Exec(ctx, "SELECT pg_drop_replication_slot('"+optionsOf(d.Server).Slot+"')")
		if sqlState(err) == objectInUse {
			return false, nil
		}
		return err == nil, err
	})
}
