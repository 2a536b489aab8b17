package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// writer carries out one random transaction.
type writer struct {
	tx    pgx.Tx
	rnd   *rand.Rand
	large int
	rows  int64
}

// work draws how large the transaction is and what it does.
func (w *writer) work(ctx context.Context) error {
	if w.rnd.IntN(w.large/2) == 0 { // the larger, the rarer: they write as many rows as all others
		return w.bulk(ctx, w.large)
	}
	switch n := w.rnd.IntN(1000); {
	case n < 10:
		return w.bulk(ctx, 200)
	case n < 60:
		return w.savepoint(ctx)
	}
	for range 1 + w.rnd.IntN(4) {
		if err := w.one(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) exec(ctx context.Context, sql string, args ...any) error {
	tag, err := w.tx.Exec(ctx, sql, args...)
	w.rows += tag.RowsAffected()
	return err
}

func (w *writer) account() int { return 1 + w.rnd.IntN(accounts) }
func (w *writer) order() int   { return 1 + w.rnd.IntN(orders) }

// one writes a row or a few.
func (w *writer) one(ctx context.Context) error {
	switch w.rnd.IntN(10) {
	case 0, 1:
		return w.exec(ctx, `INSERT INTO accounts VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance`,
			w.account(), w.words(3), w.rnd.IntN(100_000))
	case 2, 3:
		return w.exec(ctx, `UPDATE accounts SET balance = balance + 1, seen = clock_timestamp() WHERE id = $1`, w.account())
	case 4:
		return w.exec(ctx, `DELETE FROM accounts WHERE id = $1`, w.account())
	case 5: // the key moves
		return w.exec(ctx, `UPDATE accounts SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM accounts WHERE id = $2)`, w.account(), w.account())
	case 6: // leaves the wide column alone
		return w.exec(ctx, `UPDATE orders SET state = $2 WHERE id = $1`, w.order(), w.words(1))
	case 7:
		return w.exec(ctx, `INSERT INTO orders VALUES ($1, $2, 'new', $3, jsonb_build_object('lines', $4::int)) ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note`,
			w.order(), w.account(), w.words(w.rnd.IntN(800)), w.rnd.IntN(50))
	case 8:
		return w.exec(ctx, `DELETE FROM orders WHERE id = $1`, w.order())
	}
	return w.exec(ctx, `INSERT INTO stock VALUES ($1, $2, $3, NULL) ON CONFLICT (warehouse, item) DO UPDATE SET quantity = EXCLUDED.quantity, checked = CURRENT_DATE`,
		"w"+strconv.Itoa(w.rnd.IntN(40)), w.rnd.IntN(300), w.rnd.IntN(1000))
}

// bulk writes many rows at once, in the order of their keys so that clients do not lock each other out.
func (w *writer) bulk(ctx context.Context, rows int) error {
	from := w.account()
	switch w.rnd.IntN(3) {
	case 0:
		return w.exec(ctx, `UPDATE accounts SET balance = balance + 1 WHERE id IN (SELECT id FROM accounts WHERE id >= $1 AND id <= $3 ORDER BY id LIMIT $2 FOR UPDATE)`, from, rows, accounts)
	case 1:
		return w.exec(ctx, `INSERT INTO orders SELECT n, 1, 'bulk', NULL, NULL FROM generate_series($1::bigint, $1 + $2 - 1) n ON CONFLICT (id) DO NOTHING`, 10*orders+from, rows)
	}
	return w.exec(ctx, `DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE)`, 10*orders, rows)
}

// savepoint takes part of the transaction back.
func (w *writer) savepoint(ctx context.Context) error {
	if err := w.one(ctx); err != nil {
		return err
	}
	inner, err := w.tx.Begin(ctx)
	if err != nil {
		return err
	}
	outer := w.tx
	w.tx = inner
	before := w.rows
	err = w.one(ctx)
	w.tx = outer
	if err == nil && w.rnd.IntN(2) == 0 {
		err = inner.Commit(ctx)
	} else {
		w.rows = before
		err = errors.Join(unlessConflict(err), inner.Rollback(ctx))
	}
	if err != nil {
		return err
	}
	return w.one(ctx)
}

// words returns about n words of text that does not compress to nothing.
func (w *writer) words(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(strconv.FormatUint(w.rnd.Uint64(), 36))
		b.WriteByte(' ')
	}
	return b.String()
}

// unlessConflict drops the errors that clients cause each other: deadlocks and keys that both wanted.
func unlessConflict(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "23505" || pg.Code == "25P02" || pg.Code == "40001") || errors.Is(err, pgx.ErrTxCommitRollback) {
		return nil
	}
	return err
}
