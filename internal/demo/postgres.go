package demo

import (
	"context"
	"fmt"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
)

// postgres is the stage on PostgreSQL.
type postgres struct{ *cluster.Cluster }

var postgresDialect = dialect{
	schema: "public", literal: "quote_nullable", hash: "md5(%s)",
	cast:      "eu-1 publishes, us-1 and us-2 subscribe",
	tampering: "a trigger on us-1 changes account %d while it is replayed",
	skipping:  "ALTER SUBSCRIPTION … SKIP of an UPDATE of accounts %d to %d",
	pausing:   "ALTER SUBSCRIPTION … DISABLE on us-2 while the load goes on",
	paused:    "paused subscriber",
}

func (postgres) dialect() *dialect { return &postgresDialect }

// tamper makes a trigger that was meant for somebody else: it fires while rows are replayed, and then only.
func (s postgres) tamper(ctx context.Context, member string, account int) error {
	err := s.Exec(ctx, member,
		`CREATE FUNCTION tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.owner := NEW.owner || '!'; RETURN NEW; END $$`,
		fmt.Sprintf(`CREATE TRIGGER tamper BEFORE UPDATE ON accounts FOR EACH ROW WHEN (NEW.id = %d) EXECUTE FUNCTION tamper()`, account),
		`ALTER TABLE accounts ENABLE REPLICA TRIGGER tamper`)
	if err != nil {
		return err
	}
	return s.Exec(ctx, "eu-1", tampered(account))
}

func (s postgres) untamper(ctx context.Context, member string) error {
	return s.Exec(ctx, member, "DROP TRIGGER tamper ON accounts")
}

// tampered is the UPDATE that a member makes another one of.
func tampered(account int) string {
	return fmt.Sprintf("UPDATE accounts SET balance = 777 WHERE id = %d", account)
}
