package cluster

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// members is what both kinds of cluster can do.
type members interface {
	Configuration() *config.Config
	Exec(ctx context.Context, member string, statements ...string) error
	Query(ctx context.Context, member, query string) ([][]string, error)
	WaitCaughtUp(ctx context.Context) error
	Pause(ctx context.Context, member string) error
	Resume(ctx context.Context, member string) error
	Skip(ctx context.Context, member, statement string) error
	Close() error
}

const goods = "CREATE TABLE goods (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL)"

// Each kind of cluster is started once; what is done to it comes one after another, with rows of its own.
func TestCluster(t *testing.T) {
	o := Options{Schema: goods, Subscribers: 1, Server: dbtest.Options{Below: dbtest.MemoryDir()}}
	t.Run(config.Postgres, func(t *testing.T) {
		t.Parallel()
		o := o
		o.Install, o.DataDir = dbtest.Need(t, dbtest.PG15), t.TempDir()
		c, err := Start(t.Context(), o)
		fatal(t, err)
		t.Cleanup(func() { fatal(t, c.Close()) })
		exercise(t, config.Postgres, c)
	})
	for engine, flavour := range map[string]dbtest.Flavour{config.MariaDB: dbtest.MariaDB1011, config.MySQL: dbtest.MySQL97} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			o := o
			o.DataDir = t.TempDir()
			c, err := StartMySQL(t.Context(), dbtest.NeedMySQL(t, flavour), o)
			fatal(t, err)
			t.Cleanup(func() { fatal(t, c.Close()) })
			exercise(t, engine, c)
			if engine == config.MySQL {
				t.Run("forged transaction", func(t *testing.T) { forged(t, c) })
			}
		})
	}
}

func exercise(t *testing.T, engine string, c members) {
	t.Run("configuration", func(t *testing.T) { configured(t, engine, c) })
	t.Run("NULL", func(t *testing.T) { refusesNull(t, c) })
	t.Run("pause and resume", func(t *testing.T) { paused(t, c) })
	t.Run("skipped statement", func(t *testing.T) { skipped(t, c) })
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// has checks the rows whose id is of some hundred.
func has(t *testing.T, c members, member, hundred string, want ...[]string) {
	t.Helper()
	got, err := c.Query(t.Context(), member, "SELECT id, name FROM goods WHERE id BETWEEN "+hundred+"00 AND "+hundred+"99 ORDER BY id")
	fatal(t, err)
	if diff := cmp.Diff(append([][]string{}, want...), append([][]string{}, got...)); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", member, diff)
	}
}

// paused: a member that is paused replays nothing until it resumes.
func paused(t *testing.T, c members) {
	ctx := t.Context()
	fatal(t, c.Pause(ctx, "us-1"))
	fatal(t, c.Exec(ctx, "eu-1", "INSERT INTO goods VALUES (101, 'late')"))
	has(t, c, "us-1", "1")
	fatal(t, c.Resume(ctx, "us-1"))
	fatal(t, c.WaitCaughtUp(ctx))
	has(t, c, "us-1", "1", []string{"101", "late"})
}

// skipped: a statement that is skipped is on the first member only.
func skipped(t *testing.T, c members) {
	ctx := t.Context()
	fatal(t, c.Exec(ctx, "eu-1", "INSERT INTO goods VALUES (201, 'before')"))
	fatal(t, c.Skip(ctx, "us-1", "INSERT INTO goods VALUES (202, 'skipped')"))
	fatal(t, c.Exec(ctx, "eu-1", "INSERT INTO goods VALUES (203, 'after')"))
	fatal(t, c.WaitCaughtUp(ctx))
	has(t, c, "eu-1", "2", []string{"201", "before"}, []string{"202", "skipped"}, []string{"203", "after"})
	has(t, c, "us-1", "2", []string{"201", "before"}, []string{"203", "after"})
}

// configured: the configuration names the members and their tables.
func configured(t *testing.T, engine string, c members) {
	g := c.Configuration().Groups[0]
	if len(g.Members) != 2 || g.Members[0].Name != "eu-1" || g.Members[1].Name != "us-1" {
		t.Errorf("members %+v", g.Members)
	}
	table := "app.goods"
	if engine == config.Postgres {
		table = "public.goods"
	}
	if g.Engine != engine || !g.Tables.Match(table) {
		t.Errorf("engine %s, tables %+v", g.Engine, g.Tables)
	}
}

// forged: a transaction that is forged counts as applied, with other rows.
func forged(t *testing.T, c *MySQLCluster) {
	fatal(t, c.Forge(t.Context(), "us-1", "INSERT INTO goods VALUES (301, 'true')", "INSERT INTO goods VALUES (301, 'false')"))
	fatal(t, c.WaitCaughtUp(t.Context()))
	has(t, c, "eu-1", "3", []string{"301", "true"})
	has(t, c, "us-1", "3", []string{"301", "false"})
	a, err := c.Primary.Executed(t.Context())
	fatal(t, err)
	b, err := c.Member("us-1").Executed(t.Context())
	fatal(t, err)
	if a != b {
		t.Errorf("eu-1 executed %q, us-1 %q", a, b)
	}
}

func refusesNull(t *testing.T, c members) {
	if rows, err := c.Query(t.Context(), "eu-1", "SELECT 1, NULL"); err == nil || !strings.Contains(err.Error(), "NULL in column 2") {
		t.Errorf("got %v, %v", rows, err)
	}
}
