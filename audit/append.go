package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// never is longer than lockstep runs: the library asks for a time where there is to be none.
const never = 100 * 365 * 24 * time.Hour

// appender writes a tiled log, entry behind entry.
//
// The library gathers entries in a queue, and has them written when it is full, or by a timer. The timer has a goroutine of
// its own, so what was given before it fired can be overtaken by what was given after. Hence no queue of ours is ever ended
// by a timer: it has room for exactly the entries that are given, and the last one of them has all of it written.
type appender struct {
	driver   tessera.Driver
	key      *key
	one      *tessera.Appender // a queue for one entry; it signs the checkpoints
	shutdown func(context.Context) error
	reader   tessera.LogReader
	ctx      context.Context // of what the library does beside; its end is that of the appender
	cancel   context.CancelFunc
	given    func() // for tests: after each entry that was given to a queue; nil: nothing
}

func newAppender(ctx context.Context, folder string, k *key, interval time.Duration) (*appender, error) {
	a := &appender{key: k}
	a.ctx, a.cancel = context.WithCancel(ctx)
	err := a.open(folder, interval)
	if err != nil {
		a.cancel()
		return nil, fmt.Errorf("audit log %s: %w", folder, err)
	}
	return a, nil
}

func (a *appender) open(folder string, interval time.Duration) (err error) {
	if a.driver, err = posix.New(a.ctx, posix.Config{Path: folder}); err != nil {
		return err
	}
	options := a.queue(1).WithCheckpointInterval(interval).WithCheckpointRepublishInterval(max(5*time.Minute, interval))
	a.one, a.shutdown, a.reader, err = tessera.NewAppender(a.ctx, a.driver, options)
	return err
}

// queue has room for n entries.
func (a *appender) queue(n int) *tessera.AppendOptions {
	return tessera.NewAppendOptions().WithCheckpointSigner(a.key.signer).WithBatching(uint(n), never)
}

// append adds entries behind next others. An [orderError] says that they are elsewhere in the log. After another error, the
// first of them may be in it.
func (a *appender) append(ctx context.Context, next uint64, entries [][]byte) error {
	for i, e := range entries {
		if len(e) > evidence.MaxSize { // which a queue would not take, and then never be full
			return fmt.Errorf("entry %d has %d bytes, more than %d", next+uint64(i), len(e), evidence.MaxSize)
		}
	}
	// The last one goes by itself: its queue is the one that is closed with all that it has taken in a checkpoint.
	last := len(entries) - 1
	if err := a.together(ctx, next, entries[:last]); err != nil {
		return err
	}
	return a.flush(ctx, a.one, next+uint64(last), entries[last:])
}

// together adds entries in one go, by a queue of their own.
func (a *appender) together(ctx context.Context, next uint64, entries [][]byte) error {
	switch len(entries) {
	case 0:
		return nil
	case 1:
		return a.flush(ctx, a.one, next, entries)
	}
	own, cancel := context.WithCancel(a.ctx)
	defer cancel()
	options := a.queue(len(entries)).WithCheckpointInterval(never).WithCheckpointRepublishInterval(0).WithGarbageCollectionInterval(0)
	queue, _, _, err := tessera.NewAppender(own, a.driver, options)
	if err != nil {
		return err
	}
	return a.flush(ctx, queue, next, entries)
}

// flush gives entries to a queue that they fill, and waits until they are in the log, or until the appender ends: what is in
// a queue then is never said to be in the log.
func (a *appender) flush(ctx context.Context, queue *tessera.Appender, next uint64, entries [][]byte) error {
	done := make(chan error, 1)
	go func() { done <- a.add(ctx, queue, next, entries) }()
	select {
	case err := <-done:
		return err
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
}

func (a *appender) add(ctx context.Context, queue *tessera.Appender, next uint64, entries [][]byte) error {
	futures := make([]tessera.IndexFuture, len(entries))
	for i, e := range entries {
		futures[i] = queue.Add(ctx, tessera.NewEntry(e))
		if a.given != nil {
			a.given()
		}
	}
	for i, f := range futures {
		index, err := f()
		if err != nil {
			return err
		}
		if want := next + uint64(i); index.Index != want {
			return &orderError{want: want, got: index.Index}
		}
	}
	return nil
}

// orderError says that the log has an entry elsewhere than at its number, and so can never be verified again.
type orderError struct{ want, got uint64 }

func (e *orderError) Error() string {
	return fmt.Sprintf("entry %d became number %d of the log", e.want, e.got)
}
