package daemon_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// trio is three servers of one engine, of which the second and the third replicate from the first. Many groups share it: each has a
// database of its own.
type trio interface {
	engine() string
	schema(database string) string // of the tables in it
	port(i int) int
	// add makes a group's database, with rows, on all three.
	add(ctx context.Context, database string, rows string) error
	exec(ctx context.Context, i int, database string, statements ...string) error
}

var trioNames = []string{"eu-1", "us-1", "us-2"}

// stranger is a user whom no server knows, which is what they say of a wrong password, too.
const stranger = "stranger"

// dsnOf names a database at an address, which leads to a server of the trio or to somebody else. A server that hangs is given up after
// a second, or where the test has time, as long as by default.
func dsnOf(c trio, user, address, database string) string {
	u := url.URL{Scheme: "mysql", User: url.User(user), Host: address, Path: "/" + database, RawQuery: "insecure_password=allow"}
	timeout := "&timeout=1s"
	if c.engine() == config.Postgres {
		u.Scheme, u.RawQuery, timeout = "postgres", "sslmode=disable", "&connect_timeout=1"
	}
	if !dbtest.Soaking() {
		u.RawQuery += timeout
	}
	return u.String()
}

func addressOf(c trio, i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port(i))) }

type mysqlTrio struct{ *dbtest.MySQLGroup }

func startMySQLTrio(t *testing.T, flavour dbtest.Flavour) trio {
	t.Helper()
	g := dbtest.MySQLGroupT(t, dbtest.NeedMySQL(t, flavour), 2, "", dbtest.Options{Reuse: true})
	if err := g.GrantLockstep(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return mysqlTrio{g}
}

func (c mysqlTrio) engine() string {
	if c.Primary.Install.Flavour.MariaDB() {
		return config.MariaDB
	}
	return config.MySQL
}

func (c mysqlTrio) schema(database string) string { return database }
func (c mysqlTrio) port(i int) int                { return c.Members()[i].Port }

func (c mysqlTrio) add(ctx context.Context, database, rows string) error {
	if err := c.Primary.Exec(ctx, "CREATE DATABASE "+database, "USE "+database, mysqlTable, rows); err != nil {
		return err
	}
	return c.WaitCaughtUp(ctx)
}

func (c mysqlTrio) exec(ctx context.Context, i int, database string, statements ...string) error {
	return c.Members()[i].Exec(ctx, append([]string{"USE " + database}, statements...)...)
}

type postgresTrio []*dbtest.Server

func startPostgresTrio(t *testing.T) trio {
	t.Helper()
	conf := map[string]string{
		"max_connections": "200", "max_wal_senders": "60", "max_replication_slots": "60", "max_worker_processes": "40",
		"max_logical_replication_workers": "30", "max_slot_wal_keep_size": "2GB",
	}
	install := dbtest.Need(t, dbtest.PG15)
	var c postgresTrio
	for range trioNames {
		s := dbtest.StartT(t, install, dbtest.Options{Conf: conf})
		file, err := dbtest.Value[string](t.Context(), s, "SHOW hba_file")
		if err != nil {
			t.Fatal(err)
		}
		dbtest.ExecT(t, s, "CREATE ROLE "+dbtest.LockstepUser+" LOGIN REPLICATION", fmt.Sprintf(`COPY (VALUES
			('host all %s 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust'), ('host replication all 127.0.0.1/32 trust')) TO '%s'`,
			stranger, file), "SELECT pg_reload_conf()")
		c = append(c, s)
	}
	return c
}

func (c postgresTrio) engine() string       { return config.Postgres }
func (c postgresTrio) schema(string) string { return "public" }
func (c postgresTrio) port(i int) int       { return c[i].Port }

// in is a server's database.
func (c postgresTrio) in(i int, database string) *dbtest.Server {
	s := *c[i]
	s.Database = database
	return &s
}

func (c postgresTrio) add(ctx context.Context, database, rows string) error {
	for i, s := range c {
		if err := s.Exec(ctx, "CREATE DATABASE "+database+" STRATEGY file_copy"); err != nil {
			return err
		}
		if err := c.exec(ctx, i, database, oneTable); err != nil {
			return err
		}
	}
	publisher := c.in(0, database)
	if err := dbtest.Publish(ctx, publisher, "app"); err != nil {
		return err
	}
	for i := range c[1:] {
		if err := dbtest.Subscribe(ctx, c.in(i+1, database), fmt.Sprintf("%s_%d", database, i), publisher, "app"); err != nil {
			return err
		}
	}
	if err := publisher.Exec(ctx, rows); err != nil {
		return err
	}
	for i := range c[1:] {
		if err := dbtest.WaitReplayed(ctx, publisher, fmt.Sprintf("%s_%d", database, i)); err != nil {
			return err
		}
	}
	return nil
}

func (c postgresTrio) exec(ctx context.Context, i int, database string, statements ...string) error {
	return c.in(i, database).Exec(ctx, statements...)
}
