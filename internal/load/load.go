// Package load writes to a database as applications do: many small transactions of every kind, some large ones, some
// that are rolled back. The demo and the tests watch what replication makes of it.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Keys of accounts from ReservedFrom up to, not including, ReservedTo are filled once and left alone, so that a
// difference made there on purpose stays as it was made.
const (
	ReservedFrom = 1_000_000
	ReservedTo   = 1_001_000
	accounts     = 20_000
	orders       = 20_000
)

// Options of a load. The zero value is four clients that write as fast as they can.
type Options struct {
	Clients int
	Seed    uint64
	Pause   time.Duration // between the transactions of one client
	// Large is the number of rows of the largest transactions, one in Large/2; 0 means 2,000.
	Large int
}

// Load is a running load. Its methods may be called from any goroutine.
type Load struct {
	opt   Options
	stop  context.CancelFunc
	work  *errgroup.Group
	gate  sync.RWMutex // clients hold it for reading during each transaction
	count Counts
}

// Counts says what a load has done.
type Counts struct {
	Transactions, RolledBack, Rows atomic.Int64
}

// Fill writes the first rows to a database that has the engine's schema and is named by a URL.
func Fill(ctx context.Context, dsn string) error { return FillShare(ctx, dsn, 1) }

// FillShare is Fill with one in so many of the rows. Those from ReservedFrom on are all there.
func FillShare(ctx context.Context, dsn string, share int) error {
	d := dialectOf(dsn)
	conn, err := d.connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.close(ctx)
	for _, sql := range d.fill(share) {
		if _, err := conn.exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// Start starts the clients against a database that was filled.
func Start(ctx context.Context, dsn string, o Options) *Load {
	if o.Clients == 0 {
		o.Clients = 4
	}
	if o.Large == 0 {
		o.Large = 2000
	}
	ctx, stop := context.WithCancel(ctx)
	l := &Load{opt: o, stop: stop, work: new(errgroup.Group)}
	for n := range o.Clients {
		l.work.Go(func() error { return l.client(ctx, dsn, rand.New(rand.NewPCG(o.Seed, uint64(n)))) })
	}
	return l
}

// Hold returns once no transaction runs; none begins until Resume.
func (l *Load) Hold() { l.gate.Lock() }

// Resume ends a Hold.
func (l *Load) Resume() { l.gate.Unlock() }

// Stop ends the load and returns what went wrong in it, if anything did.
func (l *Load) Stop() error {
	l.stop()
	if err := l.work.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// Counts returns what was done so far.
func (l *Load) Counts() *Counts { return &l.count }

func (l *Load) client(ctx context.Context, dsn string, rnd *rand.Rand) error {
	d := dialectOf(dsn)
	conn, err := d.connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.close(ctx)
	w := &writer{dialect: d, session: conn, rnd: rnd, large: l.opt.Large}
	for {
		if err := l.transaction(ctx, w); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.opt.Pause):
		}
	}
}

// transaction runs one; conflicts between clients are part of life and roll it back.
func (l *Load) transaction(ctx context.Context, w *writer) error {
	l.gate.RLock()
	defer l.gate.RUnlock()
	// A transaction that has begun is let end: what it did must be known to be there or not.
	committed, err := w.transaction(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if !committed {
		l.count.RolledBack.Add(1)
	}
	l.count.Transactions.Add(1)
	l.count.Rows.Add(w.rows)
	return nil
}
