package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
)

// writer carries out random transactions, one after the other.
type writer struct {
	*dialect
	session session
	rnd     *rand.Rand
	large   int
	rows    int64 // written by the transaction
}

// transaction reports whether it was committed; one in twelve is not, nor is one that another client got in the way of.
func (w *writer) transaction(ctx context.Context) (committed bool, err error) {
	w.rows = 0
	if err := w.exec(ctx, "BEGIN"); err != nil {
		return false, err
	}
	err = w.work(ctx)
	if err == nil && w.rnd.IntN(12) > 0 {
		if err = w.exec(ctx, "COMMIT"); err == nil {
			return true, nil
		}
	}
	w.rows = 0
	if err != nil && w.conflict(err) {
		err = nil
	}
	_, failed := w.session.exec(ctx, "ROLLBACK")
	return false, errors.Join(err, failed)
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
	rows, err := w.session.exec(ctx, sql, args...)
	w.rows += rows
	return err
}

func (w *writer) account() int { return 1 + w.rnd.IntN(accounts) }
func (w *writer) order() int   { return 1 + w.rnd.IntN(orders) }

// one writes a row or a few.
func (w *writer) one(ctx context.Context) error {
	switch w.rnd.IntN(10) {
	case 0, 1:
		return w.exec(ctx, w.upsertAccount, w.account(), w.words(3), w.rnd.IntN(100_000))
	case 2, 3:
		return w.exec(ctx, w.raiseBalance, w.account())
	case 4:
		return w.exec(ctx, w.deleteAccount, w.account())
	case 5:
		return w.exec(ctx, w.moveAccount, w.account(), w.account())
	case 6:
		return w.exec(ctx, w.setState, w.words(1), w.order())
	case 7:
		return w.exec(ctx, w.upsertOrder, w.order(), w.account(), w.words(w.rnd.IntN(800)), w.rnd.IntN(50))
	case 8:
		return w.exec(ctx, w.deleteOrder, w.order())
	}
	return w.exec(ctx, w.upsertStock, "w"+strconv.Itoa(w.rnd.IntN(40)), w.rnd.IntN(300), w.rnd.IntN(1000))
}

// bulk writes many rows at once, in the order of their keys so that clients do not lock each other out.
func (w *writer) bulk(ctx context.Context, rows int) error {
	switch w.rnd.IntN(3) {
	case 0:
		return w.exec(ctx, w.raiseBalances, w.account(), accounts, rows)
	case 1:
		from := 10*orders + w.account()
		return w.exec(ctx, w.insertOrders, from, from+rows-1)
	}
	return w.exec(ctx, w.deleteOrders, 10*orders, rows)
}

// savepoint takes part of the transaction back, in one case of two.
func (w *writer) savepoint(ctx context.Context) error {
	if err := w.one(ctx); err != nil {
		return err
	}
	if err := w.exec(ctx, "SAVEPOINT part"); err != nil {
		return err
	}
	before := w.rows
	if err := w.one(ctx); err != nil {
		return err // with the savepoint: a deadlock may have ended the whole transaction
	}
	end := "RELEASE SAVEPOINT part"
	if w.rnd.IntN(2) == 0 {
		w.rows, end = before, "ROLLBACK TO SAVEPOINT part"
	}
	if err := w.exec(ctx, end); err != nil {
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
