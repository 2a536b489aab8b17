package demo

import (
	"context"
	"fmt"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
)

// mysql is the stage on MySQL, whose replicas fire no triggers for rows that they apply.
type mysql struct{ *cluster.MySQLCluster }

var mysqlDialect = dialect{
	schema: cluster.Database, literal: "QUOTE", hash: "SHA2(%s, 256)",
	cast:      "eu-1 is the primary, us-1 and us-2 replicate it by GTID",
	tampering: "us-1 has another row under the GTID of an UPDATE of account %d",
	skipping:  "us-1 has an empty transaction under the GTID of an UPDATE of accounts %d to %d",
	pausing:   "STOP REPLICA SQL_THREAD on us-2 while the load goes on",
	paused:    "paused replica",
}

func (mysql) dialect() *dialect { return &mysqlDialect }

// tamper is a repair by hand gone wrong: somebody applies a transaction himself, under its own GTID, and not quite as it
// was.
func (s mysql) tamper(ctx context.Context, member string, account int) error {
	return s.Forge(ctx, member, tampered(account),
		fmt.Sprintf("UPDATE accounts SET balance = 777, owner = CONCAT(owner, '!') WHERE id = %d", account))
}

func (mysql) untamper(context.Context, string) error { return nil } // it was one transaction only

// mariadb is the stage on MariaDB.
type mariadb struct{ *cluster.MySQLCluster }

var mariadbDialect = dialect{
	schema: cluster.Database, literal: "QUOTE", hash: "SHA2(%s, 256)",
	cast:      "eu-1 is the primary, us-1 and us-2 replicate it by GTID",
	tampering: "a trigger on us-1 changes account %d while it is replayed",
	skipping:  "us-1 passes over an UPDATE of accounts %d to %d by sql_slave_skip_counter",
	pausing:   "STOP SLAVE SQL_THREAD on us-2 while the load goes on",
	paused:    "paused replica",
}

func (mariadb) dialect() *dialect { return &mariadbDialect }

// tamper makes a trigger, and has the replica fire triggers for rows that it applies.
func (s mariadb) tamper(ctx context.Context, member string, account int) error {
	err := s.runTriggers(ctx, member, "YES",
		fmt.Sprintf("CREATE TRIGGER tamper BEFORE UPDATE ON accounts FOR EACH ROW SET NEW.owner = IF(NEW.id = %d, CONCAT(NEW.owner, '!'), NEW.owner)", account))
	if err != nil {
		return err
	}
	return s.Exec(ctx, "eu-1", tampered(account))
}

func (s mariadb) untamper(ctx context.Context, member string) error {
	return s.runTriggers(ctx, member, "NO", "DROP TRIGGER tamper")
}

// runTriggers changes what can be changed only while nothing is applied, and the trigger with it.
func (s mariadb) runTriggers(ctx context.Context, member, value, trigger string) error {
	if err := s.Pause(ctx, member); err != nil {
		return err
	}
	if err := s.Exec(ctx, member, "SET GLOBAL slave_run_triggers_for_rbr = "+value, trigger); err != nil {
		return err
	}
	return s.Resume(ctx, member)
}
