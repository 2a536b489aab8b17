// Package audit keeps the record of what lockstep has watched and found so that it can be checked by somebody who trusts
// neither lockstep nor who runs it: a transparency log, of which nothing can be changed or taken away without that showing.
package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"k8s.io/klog/v2"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// Kept is where entries are until they are in the log.
type Kept interface {
	KeepEvidence() (evidence.Head, error)
	Record(events ...evidence.Event) error
	// Evidence yields the kept entries in their order.
	Evidence(yield func(seq uint64, sealed []byte) bool) error
	// ForgetEvidence drops the entries before seq.
	ForgetEvidence(seq uint64) error
	// EvidenceFiles yields the files that came with entries; ForgetEvidenceFiles drops some.
	EvidenceFiles(yield func(evidence.File) error) error
	ForgetEvidenceFiles(names []string) error
	// Continue moves the chain to a head; first is recorded there, and then what is kept.
	Continue(at evidence.Head, first evidence.Event) error
}

// Options say how a log is written.
type Options struct {
	Dir    string // made at the first start
	Origin string // name of the log, part of its key; empty: that which it has, or by the host's name
	// Interval is the time between two checkpoints, at least 100ms; 0: 5s. What it covers is on disk before.
	Interval time.Duration
	Version  string // of lockstep
	// Trees is for how long the trees are kept that ranges are proven from, at least; 0: none is kept.
	Trees     time.Duration
	Stamps    Stamps
	Copies    Copies
	Witnesses Witnesses
	Logger    *slog.Logger
}

// Log writes the audit log of one lockstep.
type Log struct {
	options  Options
	key      *key // of the start before, by which the log is known
	next     *key // that signs from now on; nil: the same
	kept     Kept
	base     context.Context // of Open, without its end: what is in hand is ended in order
	add      tessera.AddFn
	shutdown func(context.Context) error
	reader   tessera.LogReader
	cancel   context.CancelFunc

	mu     sync.Mutex
	size   uint64 // index of the entry that the log gets next
	pruned time.Time
	failed string // why it did not get it; empty: it did

	measured time.Time // by Run
	began    time.Time // the log; by Run
	space    Space

	stamps, copies, witnesses Outcome

	fresh bool // it began when it was opened
}

// Status is how it goes with a log.
type Status struct {
	Origin       string
	Size         uint64    // entries
	CheckpointAt time.Time // when its last checkpoint was signed
	Failed       string    // why the log does not get its entries; empty: it does
	Space        Space
	Stamps       *Outcome // of time-stamping checkpoints; nil: they are not
	Copies       *Outcome // of copying the log; nil: it is not
	Witnesses    *Outcome // of having it cosigned; nil: it is not
}

// batch is how many entries are added at once.
const batch = 256

// quiet keeps the library's own log lines off the standard error.
var quiet sync.Once

// Open opens the log, makes it at the first start, and has it go on where the kept entries do. A log that does not belong to
// them is put aside, and a new one begins, of which the first entry says so.
func Open(ctx context.Context, o Options, kept Kept) (*Log, error) {
	quiet.Do(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) })
	if o.Interval == 0 {
		o.Interval = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("audit log %s: %w", o.Dir, err)
	}
	k, err := loadKey(o.Dir, o.Origin)
	if err != nil {
		return nil, err
	}
	next, err := nextKey(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{options: o, key: k, next: next, kept: kept, base: context.WithoutCancel(ctx)}
	head, err := kept.KeepEvidence()
	if err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	err = l.meet(ctx, head)
	if err == nil {
		err = l.rotate()
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// rotate records that another key signs from now on, and only then lets go of the one before.
func (l *Log) rotate() error {
	if l.next == nil {
		return nil
	}
	e, err := l.key.handOver(l.next)
	if err != nil {
		return err
	}
	if err := l.kept.Record(e); err != nil {
		return err
	}
	if err := l.next.takeUp(l.options.Dir); err != nil {
		return err
	}
	l.options.Logger.Warn("the audit log is signed by another key from now on: give it to auditors", "key", l.next.public)
	l.key, l.next = l.next, nil
	return nil
}

func (l *Log) open() error {
	ctx, cancel := context.WithCancel(l.base)
	driver, err := posix.New(ctx, posix.Config{Path: l.folder()})
	if err != nil {
		cancel()
		return fmt.Errorf("audit log %s: %w", l.folder(), err)
	}
	key := l.key
	if l.next != nil {
		key = l.next
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(key.signer).
		WithCheckpointInterval(l.options.Interval).
		WithCheckpointRepublishInterval(max(5*time.Minute, l.options.Interval)).
		WithBatching(batch, 20*time.Millisecond)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		cancel()
		return fmt.Errorf("audit log %s: %w", l.folder(), err)
	}
	l.add, l.shutdown, l.reader, l.cancel = appender.Add, shutdown, reader, cancel
	return nil
}

func (l *Log) folder() string { return filepath.Join(l.options.Dir, tiles) }

// close ends the log's writer; entries that were added are in a checkpoint then.
func (l *Log) close() error {
	ctx, cancel := context.WithTimeout(l.base, 10*time.Second+2*l.options.Interval)
	defer cancel()
	err := l.shutdown(ctx)
	l.cancel()
	if err != nil {
		return fmt.Errorf("audit log %s: %w", l.folder(), err)
	}
	return nil
}

// end returns where the log ends.
func (l *Log) end(ctx context.Context) (evidence.Head, error) {
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return evidence.Head{}, fmt.Errorf("audit log %s: %w", l.folder(), err)
	}
	if size == 0 {
		return evidence.Head{}, nil
	}
	last, err := l.entry(ctx, size-1, size)
	if err != nil {
		return evidence.Head{}, err
	}
	e, err := evidence.Parse(last)
	if err != nil {
		return evidence.Head{}, fmt.Errorf("audit log %s: entry %d %w", l.folder(), size-1, err)
	}
	return evidence.Head{Next: size, Prev: sha256.Sum256(last), Time: e.Time}, nil
}

// bundleSize is how many entries a file of the log holds.
const bundleSize = 256

func (l *Log) entry(ctx context.Context, index, size uint64) ([]byte, error) {
	b, err := client.GetEntryBundle(ctx, l.reader.ReadEntryBundle, index/bundleSize, size)
	if err != nil {
		return nil, fmt.Errorf("audit log %s: entry %d: %w", l.folder(), index, err)
	}
	if at := index % bundleSize; at < uint64(len(b.Entries)) {
		return b.Entries[at], nil
	}
	return nil, fmt.Errorf("audit log %s: entry %d is not where it must be", l.folder(), index)
}

// meet has the kept entries go on where the log ends, in whichever way the two have come apart: a crash between adding and
// forgetting, or one of them restored from a backup.
func (l *Log) meet(ctx context.Context, head evidence.Head) error {
	end, err := l.end(ctx)
	if err != nil {
		return l.begin("its end cannot be read: " + err.Error())
	}
	l.size = end.Next
	if head.Paused {
		return l.begin("the audit log was switched off for a time")
	}
	if head.Next == 0 && end.Next == 0 {
		l.fresh = true
		return l.kept.Record(l.started(nil))
	}
	if head.Next < end.Next { // the store is older than the log, which goes on
		return l.kept.Continue(end, l.started(map[string]any{"reason": "the store is older than the log", "store_next": head.Next}))
	}
	oldest, follows := head.Next, head.Next == end.Next && head.Prev == end.Prev
	err = l.kept.Evidence(func(seq uint64, sealed []byte) bool {
		oldest = min(oldest, seq)
		if seq == end.Next {
			_, _, err := end.Follow(sealed)
			follows = err == nil
		}
		return true
	})
	switch {
	case err != nil:
		return err
	case end.Next < oldest:
		return l.begin(fmt.Sprintf("it ends before entry %d, and entries from there to %d were in it", end.Next, oldest-1))
	case !follows:
		return l.begin(fmt.Sprintf("its entry %d is not the one that was recorded", end.Next-1))
	}
	return l.kept.ForgetEvidence(end.Next)
}

// begin puts the log aside and starts a new one, which says so and names the last checkpoint of the one before.
func (l *Log) begin(reason string) error {
	last, err := l.checkpoint()
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	l.cancel() // not a shutdown, which would write once more
	aside := fmt.Sprintf("%s.%s", l.folder(), time.Now().UTC().Format("20060102T150405.000000"))
	if err := os.Rename(l.folder(), aside); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	l.options.Logger.Error("the audit log does not belong to the store; a new one begins", "reason", reason, "old", aside)
	if err := l.open(); err != nil {
		return err
	}
	l.size, l.fresh = 0, true
	return l.kept.Continue(evidence.Head{}, l.started(map[string]any{"reason": reason, "checkpoint": string(last), "folder": filepath.Base(aside)}))
}

// started is the entry that tells where a log, or a part of it, comes from. previous is nil at the very first start.
func (l *Log) started(previous map[string]any) evidence.Event {
	data := evidence.LogStartData{Origin: l.key.signer.Name(), Key: l.key.public, Lockstep: l.options.Version, Previous: previous}
	return evidence.Event{Type: evidence.LogStart, Time: time.Now(), Data: data}
}

const (
	look       = 100 * time.Millisecond // between two looks for entries
	firstRetry = 250 * time.Millisecond
	lastRetry  = time.Minute
)

// Run brings kept entries into the log until ctx ends, and then those that are left.
func (l *Log) Run(ctx context.Context) error {
	retry := firstRetry
	for {
		err := l.copy(ctx)
		if err == nil {
			err = l.measure(ctx, time.Now())
		}
		wait := look
		if err != nil && ctx.Err() == nil {
			l.options.Logger.Error("the audit log does not take entries; they are kept", "err", err.Error(), "retry", retry.String())
			wait, retry = retry, min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Close brings what is still kept into the log and closes it. What cannot be is kept for the next start.
func (l *Log) Close() error {
	ctx, cancel := context.WithTimeout(l.base, 10*time.Second)
	defer cancel()
	err := l.copy(ctx)
	return errors.Join(err, l.close())
}

// copy adds all kept entries to the log and forgets them once they are in it.
func (l *Log) copy(ctx context.Context) error {
	for {
		n, err := l.copySome(ctx)
		if err == nil {
			err = l.copyFiles()
		}
		l.mu.Lock()
		l.failed = ""
		if err != nil {
			l.failed = err.Error()
		}
		l.mu.Unlock()
		if err != nil || n == 0 {
			return err
		}
	}
}

func (l *Log) copySome(ctx context.Context) (int, error) {
	if l.Status().Failed != "" { // some of what was not taken may be there
		size, err := l.reader.IntegratedSize(ctx)
		if err != nil {
			return 0, err
		}
		l.took(size)
	}
	next := l.size
	var entries [][]byte
	err := l.kept.Evidence(func(seq uint64, sealed []byte) bool {
		if seq >= next {
			entries = append(entries, sealed)
		}
		return len(entries) < batch
	})
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	futures := make([]tessera.IndexFuture, len(entries))
	for i, e := range entries {
		futures[i] = l.add(ctx, tessera.NewEntry(e))
	}
	for i, f := range futures {
		index, err := f()
		if err != nil {
			return 0, err
		}
		if want := next + uint64(i); index.Index != want {
			return 0, fmt.Errorf("entry %d became number %d of the log", want, index.Index)
		}
	}
	l.took(next + uint64(len(entries)))
	return len(entries), l.kept.ForgetEvidence(l.size)
}

func (l *Log) took(size uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size = size
}

// Fresh reports whether the log began when it was opened: nothing is in it of what was before.
func (l *Log) Fresh() bool { return l.fresh }

// Status may be called from any goroutine.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Origin: l.key.signer.Name(), Size: l.size, Failed: l.failed, Space: l.space}
	set := func(on bool, o Outcome) *Outcome {
		if !on {
			return nil
		}
		return &o
	}
	s.Stamps = set(l.options.Stamps.URL != "", l.stamps)
	s.Copies = set(l.options.Copies.Endpoint != "", l.copies)
	s.Witnesses = set(len(l.options.Witnesses.Of) > 0, l.witnesses)
	if info, err := os.Stat(filepath.Join(l.folder(), "checkpoint")); err == nil {
		s.CheckpointAt = info.ModTime()
	}
	return s
}
