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

// onEachEngine runs a test on all that are installed here.
func onEachEngine(t *testing.T, test func(*testing.T, members)) {
	o := Options{Schema: goods, Subscribers: 1, Server: dbtest.Options{Below: dbtest.MemoryDir()}}
	t.Run(config.Postgres, func(t *testing.T) {
		o.Install, o.DataDir = dbtest.Need(t, dbtest.PG15), t.TempDir()
		c, err := Start(t.Context(), o)
		fatal(t, err)
		t.Cleanup(func() { fatal(t, c.Close()) })
		test(t, c)
	})
	for engine, flavour := range map[string]dbtest.Flavour{config.MariaDB: dbtest.MariaDB1011, config.MySQL: dbtest.MySQL97} {
		t.Run(engine, func(t *testing.T) { test(t, startMySQL(t, flavour, o)) })
	}
}

func startMySQL(t *testing.T, flavour dbtest.Flavour, o Options) *MySQLCluster {
	t.Helper()
	o.DataDir = t.TempDir()
	c, err := StartMySQL(t.Context(), dbtest.NeedMySQL(t, flavour), o)
	fatal(t, err)
	t.Cleanup(func() { fatal(t, c.Close()) })
	return c
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, c members, member string, want ...[]string) {
	t.Helper()
	got, err := c.Query(t.Context(), member, "SELECT id, name FROM goods ORDER BY id")
	fatal(t, err)
	if diff := cmp.Diff(append([][]string{}, want...), append([][]string{}, got...)); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", member, diff)
	}
}

func TestPausedMemberReplaysNothingUntilItResumes(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c members) {
		ctx := t.Context()
		fatal(t, c.Pause(ctx, "us-1"))
		fatal(t, c.Exec(ctx, "eu-1", "INSERT INTO goods VALUES (1, 'late')"))
		has(t, c, "us-1")
		fatal(t, c.Resume(ctx, "us-1"))
		fatal(t, c.WaitCaughtUp(ctx))
		has(t, c, "us-1", []string{"1", "late"})
	})
}

func TestSkippedStatementIsOnTheFirstMemberOnly(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c members) {
		ctx := t.Context()
		fatal(t, c.Exec(ctx, "eu-1", "INSERT INTO goods VALUES (1, 'before')"))
		fatal(t, c.Skip(ctx, "us-1", "INSERT INTO goods VALUES (2, 'skipped')"))
		fatal(t, c.Exec(ctx, "eu-1", "INSERT INTO goods VALUES (3, 'after')"))
		fatal(t, c.WaitCaughtUp(ctx))
		has(t, c, "eu-1", []string{"1", "before"}, []string{"2", "skipped"}, []string{"3", "after"})
		has(t, c, "us-1", []string{"1", "before"}, []string{"3", "after"})
	})
}

func TestConfigurationNamesTheMembersAndTheirTables(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c members) {
		g := c.Configuration().Groups[0]
		if len(g.Members) != 2 || g.Members[0].Name != "eu-1" || g.Members[1].Name != "us-1" {
			t.Errorf("members %+v", g.Members)
		}
		table := "app.goods"
		if g.Engine == config.Postgres {
			table = "public.goods"
		}
		if !strings.HasSuffix(t.Name(), "/"+g.Engine) || !g.Tables.Match(table) {
			t.Errorf("engine %s, tables %+v", g.Engine, g.Tables)
		}
	})
}

func TestForgedTransactionCountsAsAppliedWithOtherRows(t *testing.T) {
	c := startMySQL(t, dbtest.MySQL97, Options{Schema: goods, Subscribers: 1, Server: dbtest.Options{Below: dbtest.MemoryDir()}})
	fatal(t, c.Forge(t.Context(), "us-1", "INSERT INTO goods VALUES (1, 'true')", "INSERT INTO goods VALUES (1, 'false')"))
	fatal(t, c.WaitCaughtUp(t.Context()))
	has(t, c, "eu-1", []string{"1", "true"})
	has(t, c, "us-1", []string{"1", "false"})
	a, err := c.Primary.Executed(t.Context())
	fatal(t, err)
	b, err := c.Member("us-1").Executed(t.Context())
	fatal(t, err)
	if a != b {
		t.Errorf("eu-1 executed %q, us-1 %q", a, b)
	}
}

func TestQueryRefusesNull(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c members) {
		if rows, err := c.Query(t.Context(), "eu-1", "SELECT 1, NULL"); err == nil || !strings.Contains(err.Error(), "NULL in column 2") {
			t.Errorf("got %v, %v", rows, err)
		}
	})
}
