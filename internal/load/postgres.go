package load

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Schema is what the load writes to on PostgreSQL: a key of one integer, one with wide values, one composite with text.
const Schema = `
CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL, balance numeric(14,2) NOT NULL, seen timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders (id bigint PRIMARY KEY, account bigint NOT NULL, state text NOT NULL, note text, details jsonb);
CREATE TABLE stock (warehouse text, item integer, quantity integer NOT NULL, checked date, PRIMARY KEY (warehouse, item));
`

func fillPostgres(share int) []string {
	return []string{
		fmt.Sprintf("INSERT INTO accounts SELECT n, 'owner ' || n, n %% 1000 FROM generate_series(1, %d) n", accounts/2/share),
		fmt.Sprintf("INSERT INTO accounts SELECT n, 'reserved ' || n, 100 FROM generate_series(%d, %d) n", ReservedFrom, ReservedTo-1),
		fmt.Sprintf(`INSERT INTO orders SELECT n, n, 'new', repeat(md5(n::text), 1 + n %% 120), jsonb_build_object('n', n)
			FROM generate_series(1, %d) n`, orders/4/share),
		fmt.Sprintf("INSERT INTO stock SELECT 'w' || (1 + n / 200), 1 + n %% 200, 10 FROM generate_series(0, %d) n", 20*200/share-1),
	}
}

var postgresDialect = dialect{
	connect:       connectPostgres,
	conflict:      conflictOnPostgres,
	fill:          fillPostgres,
	upsertAccount: `INSERT INTO accounts VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance`,
	raiseBalance:  `UPDATE accounts SET balance = balance + 1, seen = clock_timestamp() WHERE id = $1`,
	deleteAccount: `DELETE FROM accounts WHERE id = $1`,
	moveAccount:   `UPDATE accounts SET id = $1 WHERE id = $2 AND NOT EXISTS (SELECT FROM accounts WHERE id = $1)`,
	setState:      `UPDATE orders SET state = $1 WHERE id = $2`,
	upsertOrder: `INSERT INTO orders VALUES ($1, $2, 'new', $3, jsonb_build_object('lines', $4::int))
		ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note`,
	deleteOrder: `DELETE FROM orders WHERE id = $1`,
	upsertStock: `INSERT INTO stock VALUES ($1, $2, $3, NULL)
		ON CONFLICT (warehouse, item) DO UPDATE SET quantity = EXCLUDED.quantity, checked = CURRENT_DATE`,
	raiseBalances: `UPDATE accounts SET balance = balance + 1
		WHERE id IN (SELECT id FROM accounts WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3 FOR UPDATE)`,
	insertOrders: `INSERT INTO orders SELECT n, 1, 'bulk', NULL, NULL FROM generate_series($1::bigint, $2::bigint) n ON CONFLICT (id) DO NOTHING`,
	deleteOrders: `DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE)`,
}

type postgresSession struct{ conn *pgx.Conn }

func connectPostgres(ctx context.Context, dsn string) (session, error) {
	conn, err := pgx.Connect(ctx, dsn)
	return postgresSession{conn}, err
}

func (s postgresSession) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := s.conn.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (s postgresSession) close(ctx context.Context) {
	_ = s.conn.Close(context.WithoutCancel(ctx)) // all that matters was committed
}

// conflictOnPostgres knows deadlocks, keys that two clients wanted, and what would break the order of transactions.
func conflictOnPostgres(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{"40P01", "23505", "40001"}, pg.Code)
}
