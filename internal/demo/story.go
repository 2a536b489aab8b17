package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"lockstep/align"
	"lockstep/internal/dbtest"
	"lockstep/internal/load"
)

// injection is one difference made on purpose, and what lockstep is to say of it.
type injection struct {
	name   string
	member string
	about  string
	want   []expectation
	inject func(context.Context) error
	heal   func(context.Context) error
	// settle, if set, is called before the answer is judged, and its keys are what must be found.
	settle func(context.Context) ([]expectation, error)
	after  func() // called when the answer was judged

	found map[string]bool // ids of the divergences
}

// expectation is one table's part of an injection.
type expectation struct {
	table string
	kind  align.Kind
	cause align.Cause
	keys  []string
}

func account(id int) string { return fmt.Sprintf(`{"id":%d}`, id) }

func accounts(from, to int) []string {
	var keys []string
	for id := from; id <= to; id++ {
		keys = append(keys, account(id))
	}
	return keys
}

func want(table string, kind align.Kind, cause align.Cause, keys ...string) expectation {
	return expectation{"public." + table, kind, cause, keys}
}

// story lists the injections in their order.
func (d *demo) story() []*injection {
	const r = load.ReservedFrom
	list := []*injection{
		d.tampered(r),
		{
			name: "deleted row", member: "us-2", about: fmt.Sprintf("DELETE of account %d on us-2 itself", r+10),
			want:   []expectation{want("accounts", align.Missing, align.CauseErrant, account(r+10))},
			inject: d.local("us-2", fmt.Sprintf("DELETE FROM accounts WHERE id = %d", r+10)),
		},
		{
			name: "extra row", member: "us-1", about: fmt.Sprintf("INSERT of account %d on us-1 itself", load.ReservedTo+500),
			want:   []expectation{want("accounts", align.Extra, align.CauseErrant, account(load.ReservedTo+500))},
			inject: d.local("us-1", fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'nobody', 1)", load.ReservedTo+500)),
		},
		{
			name: "burst", member: "us-2", about: fmt.Sprintf("UPDATE of accounts %d to %d on us-2 itself", r+100, r+199),
			want:   []expectation{want("accounts", align.Changed, align.CauseErrant, accounts(r+100, r+199)...)},
			inject: d.local("us-2", fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id BETWEEN %d AND %d", r+100, r+199)),
		},
		{
			name: "errant transaction", member: "us-1", about: "one transaction over two tables, committed on us-1",
			want: []expectation{
				want("accounts", align.Changed, align.CauseErrant, account(r+300)),
				want("accounts", align.Missing, align.CauseErrant, account(r+301)),
				want("stock", align.Extra, align.CauseErrant, `{"item":1,"warehouse":"zz"}`),
			},
			inject: d.local("us-1",
				fmt.Sprintf("UPDATE accounts SET owner = 'somebody else' WHERE id = %d", r+300),
				fmt.Sprintf("DELETE FROM accounts WHERE id = %d", r+301),
				"INSERT INTO stock VALUES ('zz', 1, 1)"),
		},
		d.skipped(r+400, r+402),
	}
	for _, in := range list {
		if in.heal == nil {
			in.heal = d.copyFromPublisher(in)
		}
	}
	return append(list, d.paused())
}

// local returns a function that commits statements on a member as one transaction.
func (d *demo) local(member string, statements ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		sql := "BEGIN;" + strings.Join(statements, ";") + ";COMMIT"
		return d.cluster.Member(member).Exec(ctx, sql)
	}
}

// tampered is a row that us-1 changes while it replays: a trigger meant for somebody else.
func (d *demo) tampered(id int) *injection {
	return &injection{
		name: "changed row", member: "us-1", about: fmt.Sprintf("a trigger on us-1 changes account %d while it is replayed", id),
		want: []expectation{want("accounts", align.Changed, align.CauseApply, account(id))},
		inject: func(ctx context.Context) error {
			us1 := d.cluster.Member("us-1")
			err := us1.Exec(ctx,
				`CREATE FUNCTION tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.owner := NEW.owner || '!'; RETURN NEW; END $$`,
				fmt.Sprintf(`CREATE TRIGGER tamper BEFORE UPDATE ON accounts FOR EACH ROW WHEN (NEW.id = %d) EXECUTE FUNCTION tamper()`, id),
				`ALTER TABLE accounts ENABLE REPLICA TRIGGER tamper`)
			if err != nil {
				return err
			}
			return d.cluster.Publisher.Exec(ctx, fmt.Sprintf("UPDATE accounts SET balance = 777 WHERE id = %d", id))
		},
		heal: func(ctx context.Context) error {
			if err := d.cluster.Member("us-1").Exec(ctx, "DROP TRIGGER tamper ON accounts"); err != nil {
				return err
			}
			return d.cluster.Publisher.Exec(ctx, fmt.Sprintf("UPDATE accounts SET balance = 778, owner = 'healed' WHERE id = %d", id))
		},
	}
}

// skipped is a transaction of the publisher that an operator lets us-1 skip.
func (d *demo) skipped(from, to int) *injection {
	return &injection{
		name: "skipped transaction", member: "us-1", about: fmt.Sprintf("ALTER SUBSCRIPTION … SKIP of an UPDATE of accounts %d to %d", from, to),
		want: []expectation{want("accounts", align.Changed, align.CauseSkipped, accounts(from, to)...)},
		inject: func(ctx context.Context) error {
			// SKIP is for the next transaction to be replayed only, so nothing else may come before it.
			d.load.Hold()
			defer d.load.Resume()
			if err := d.cluster.WaitCaughtUp(ctx); err != nil {
				return err
			}
			return d.skip(ctx, fmt.Sprintf("UPDATE accounts SET balance = 555 WHERE id BETWEEN %d AND %d", from, to))
		},
	}
}

func (d *demo) skip(ctx context.Context, sql string) error {
	us1, sub := d.cluster.Member("us-1"), pgx.Identifier{d.cluster.Subscription("us-1")}.Sanitize()
	if err := us1.Exec(ctx, "ALTER SUBSCRIPTION "+sub+" DISABLE"); err != nil {
		return err
	}
	// Its worker ends a moment later; until then it would replay what is to be skipped.
	err := d.waitFor(ctx, "the apply worker to end", func(ctx context.Context) (bool, error) {
		return dbtest.Value[bool](ctx, us1, "SELECT bool_and(pid IS NULL) FROM pg_stat_subscription WHERE subname = $1", d.cluster.Subscription("us-1"))
	})
	if err != nil {
		return err
	}
	finish, err := finishOf(ctx, d.cluster.Publisher, sql)
	if err != nil {
		return err
	}
	return us1.Exec(ctx, fmt.Sprintf("ALTER SUBSCRIPTION %s SKIP (lsn = '%s')", sub, finish), "ALTER SUBSCRIPTION "+sub+" ENABLE")
}

// finishOf runs a statement and returns the finish LSN of its transaction, which an operator would read from the
// subscriber's log: it is in the Begin message that logical decoding makes of it.
func finishOf(ctx context.Context, s *dbtest.Server, sql string) (string, error) {
	conn, err := s.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SELECT pg_create_logical_replication_slot('demo_finish', 'pgoutput', true)"); err != nil {
		return "", err
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return "", err
	}
	var begin []byte
	err = conn.QueryRow(ctx, `SELECT data FROM pg_logical_slot_get_binary_changes('demo_finish', NULL, NULL, 'proto_version', '1', 'publication_names', 'app')
		WHERE get_byte(data, 0) = ascii('B') ORDER BY lsn DESC LIMIT 1`).Scan(&begin)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%X/%X", begin[1:5], begin[5:9]), nil
}

// paused is a subscriber that stops replaying; what it misses must be listed, and nothing called wrong.
func (d *demo) paused() *injection {
	sub := func() string { return pgx.Identifier{d.cluster.Subscription("us-2")}.Sanitize() }
	return &injection{
		name: "paused subscriber", member: "us-2", about: "ALTER SUBSCRIPTION … DISABLE on us-2 while the load goes on",
		inject: func(ctx context.Context) error {
			return d.cluster.Member("us-2").Exec(ctx, "ALTER SUBSCRIPTION "+sub()+" DISABLE")
		},
		settle: func(ctx context.Context) ([]expectation, error) {
			// Let it miss something of the load, then hold the load to see what exactly that is.
			if err := sleep(ctx, d.opt.LagBudget); err != nil {
				return nil, err
			}
			d.load.Hold()
			return d.missed(ctx, "us-2")
		},
		after: func() { d.load.Resume() },
		heal: func(ctx context.Context) error {
			return d.cluster.Member("us-2").Exec(ctx, "ALTER SUBSCRIPTION "+sub()+" ENABLE")
		},
	}
}
