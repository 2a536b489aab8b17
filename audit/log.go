// Package audit keeps the record of what lockstep has watched and found so that it can be checked by somebody who trusts
// neither lockstep nor who runs it: a transparency log, of which nothing can be changed or taken away without that showing.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/lockstep-cdc/lockstep/duty"
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
	options Options
	key     *key // of the start before, by which the log is known
	next    *key // that signs from now on; nil: the same
	kept    Kept
	base    context.Context // of Open, without its end: what is in hand is ended in order

	// Owned by who opens the log, then by Run, then by Close.
	end              evidence.Head // of the log: where its next entry goes
	unsure           bool          // the log may hold more than that: an entry was not taken
	successor        *succession   // that is to take its place; nil: none
	fresh, succeeded bool          // it began when it was opened, in the place of another
	pruned           time.Time
	measured         time.Time
	began            time.Time // the log; zero: not known yet

	// Who works beside the log holds turn for reading, so that no other log takes its place meanwhile.
	turn sync.RWMutex
	tree *appender

	mu     sync.Mutex // guards what follows
	size   uint64     // entries
	failed string     // why it did not get the next one; empty: it did
	aside  int        // logs that were put aside
	space  Space

	stamps, copies, witnesses Outcome

	writing                      *duty.Duty
	stamping, copying, cosigning *duty.Duty // nil: it is not done
}

// Status is how it goes with a log.
type Status struct {
	Origin       string
	Size         uint64    // entries
	CheckpointAt time.Time // when its last checkpoint was signed
	Failed       string    // why the log does not get its entries; empty: it does
	Aside        int       // logs that were put aside, since they could not be gone on with, and are there still
	Space        Space
	Stamps       *Outcome // of time-stamping checkpoints; nil: they are not
	Copies       *Outcome // of copying the log; nil: it is not
	Witnesses    *Outcome // of having it cosigned; nil: it is not
	Duties       []duty.Runs
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
	l := &Log{options: o, key: k, next: o.nextKey(), kept: kept, base: context.WithoutCancel(ctx)}
	l.setDuties()
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
	if err == nil {
		err = l.countAside()
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

func (l *Log) open() (err error) {
	key := l.key
	if l.next != nil {
		key = l.next
	}
	l.tree, err = newAppender(l.base, l.folder(), key, l.options.Interval)
	return err
}

func (l *Log) folder() string { return filepath.Join(l.options.Dir, tiles) }

// close ends the log's writer; entries that were added are in a checkpoint then.
func (l *Log) close() error {
	ctx, cancel := context.WithTimeout(l.base, 10*time.Second+2*l.options.Interval)
	defer cancel()
	err := l.tree.shutdown(ctx)
	l.tree.cancel()
	if err != nil {
		return fmt.Errorf("audit log %s: %w", l.folder(), err)
	}
	return l.remember()
}

// Run brings kept entries into the log until ctx ends; Close those that are left.
func (l *Log) Run(ctx context.Context) error { return l.run(ctx, l.writing) }

// write brings those that are kept now into the log.
func (l *Log) write(ctx context.Context) error {
	if err := l.copy(ctx); err != nil {
		return err
	}
	return l.measure(ctx, time.Now())
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
	if l.successor != nil {
		return 0, l.takePlace()
	}
	if l.unsure {
		if err := l.reread(ctx); err != nil {
			return 0, err
		}
	}
	entries, end, err := l.waiting()
	var order *evidence.OrderError
	if errors.As(err, &order) {
		return 0, l.succeed("what is to be recorded does not follow on it: " + err.Error())
	}
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	l.unsure = true
	err = l.tree.append(ctx, l.end.Next, entries)
	var misplaced *orderError
	if errors.As(err, &misplaced) {
		return 0, l.succeed("it is out of order: " + err.Error())
	}
	if err != nil {
		return 0, err
	}
	l.unsure = false
	l.took(end)
	return len(entries), l.kept.ForgetEvidence(end.Next)
}

// waiting returns the first of the kept entries that are to go into the log, which follow on it, and where it ends then.
func (l *Log) waiting() (entries [][]byte, end evidence.Head, err error) {
	end = l.end
	var wrong error
	err = l.kept.Evidence(func(seq uint64, sealed []byte) bool {
		if seq < end.Next {
			return true
		}
		var next evidence.Head
		if _, next, wrong = end.Follow(sealed); wrong != nil {
			return false
		}
		entries, end = append(entries, sealed), next
		return len(entries) < batch
	})
	return entries, end, errors.Join(err, wrong)
}

// reread has the log go on where it ends, which after an error may be behind some of the entries that it did not take.
func (l *Log) reread(ctx context.Context) error {
	end, err := l.follow(ctx, l.end)
	var order *evidence.OrderError
	if errors.As(err, &order) {
		return l.succeed("it is out of order: " + err.Error())
	}
	if err != nil {
		return err
	}
	l.unsure = false
	l.took(end)
	return nil
}

func (l *Log) took(end evidence.Head) {
	l.end = end
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size = end.Next
}

// Fresh reports whether the log began when it was opened: nothing is in it of what was before. It is to be asked before Run.
func (l *Log) Fresh() bool { return l.fresh }

// Succeeds reports whether a fresh log took the place of another one, whose story it goes on with.
func (l *Log) Succeeds() bool { return l.succeeded }

// Status may be called from any goroutine.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Origin: l.key.signer.Name(), Size: l.size, Failed: l.failed, Space: l.space, Aside: l.aside, Duties: l.runs()}
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
