package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera/client"

	"github.com/lockstep-cdc/lockstep/audit/durable"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// bundleSize is how many entries a file of the log holds.
const bundleSize = 256

// follow reads the entries from a head on to the end of the log, each of which must follow on the one before, and returns
// the end. An [evidence.OrderError] says that one does not: the log can never be verified again.
func (l *Log) follow(ctx context.Context, at evidence.Head) (evidence.Head, error) {
	size, err := l.tree.reader.IntegratedSize(ctx)
	if err != nil {
		return at, fmt.Errorf("audit log %s: %w", l.folder(), err)
	}
	for at.Next < size {
		entries, err := l.bundle(ctx, at.Next/bundleSize, size)
		if err != nil {
			return at, err
		}
		first := int(at.Next % bundleSize)
		if first >= len(entries) {
			return at, fmt.Errorf("audit log %s: entry %d is not where it must be", l.folder(), at.Next)
		}
		for _, sealed := range entries[first:] {
			if _, at, err = at.Follow(sealed); err != nil {
				return at, err
			}
		}
	}
	return at, nil
}

func (l *Log) bundle(ctx context.Context, index, size uint64) ([][]byte, error) {
	b, err := client.GetEntryBundle(ctx, l.tree.reader.ReadEntryBundle, index, size)
	if err != nil {
		return nil, fmt.Errorf("audit log %s: entries from %d on: %w", l.folder(), index*bundleSize, err)
	}
	return b.Entries, nil
}

func (l *Log) entry(ctx context.Context, index, size uint64) ([]byte, error) {
	entries, err := l.bundle(ctx, index/bundleSize, size)
	if err != nil {
		return nil, err
	}
	if at := index % bundleSize; at < uint64(len(entries)) {
		return entries[at], nil
	}
	return nil, fmt.Errorf("audit log %s: entry %d is not where it must be", l.folder(), index)
}

// followed is the file that says up to where the log was read by [Log.follow], so that no start reads all of it again.
func (l *Log) followed() string { return filepath.Join(l.options.Dir, "log.followed") }

// remember keeps that the log is in order up to its end.
func (l *Log) remember() error {
	text, err := json.Marshal(l.end)
	if err == nil {
		err = durable.WriteFile(l.followed(), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// known returns up to where the log was found to be in order before, if it still has the entry that was its last one then.
func (l *Log) known(ctx context.Context) evidence.Head {
	var head evidence.Head
	text, err := os.ReadFile(l.followed())
	if err != nil || json.Unmarshal(text, &head) != nil || head.Next == 0 {
		return evidence.Head{}
	}
	size, err := l.tree.reader.IntegratedSize(ctx)
	if err != nil || size < head.Next {
		return evidence.Head{}
	}
	if last, err := l.entry(ctx, head.Next-1, size); err != nil || head.Prev != sha256.Sum256(last) {
		return evidence.Head{}
	}
	return head
}

// meet has the kept entries go on where the log ends, in whichever way the two have come apart: a crash between adding and
// forgetting, or one of them restored from a backup.
func (l *Log) meet(ctx context.Context, head evidence.Head) error {
	end, err := l.follow(ctx, l.known(ctx))
	if err != nil {
		return l.succeed("it cannot be gone on with: " + err.Error())
	}
	l.took(end)
	if err := l.remember(); err != nil {
		return err
	}
	if head.Paused {
		return l.succeed("the audit log was switched off for a time")
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
		return l.succeed(fmt.Sprintf("it ends before entry %d, and entries from there to %d were in it", end.Next, oldest-1))
	case !follows:
		return l.succeed(evidence.Span(0, end.Next) + " of it are not followed by what was recorded")
	}
	return l.kept.ForgetEvidence(end.Next)
}

// succession is what a new log says of the one whose place it takes.
type succession struct {
	reason     string
	checkpoint []byte // the last one
	aside      string // where the old one goes
}

// succeed puts the log aside and has a new one take its place, which says so and names the last checkpoint of the one before.
func (l *Log) succeed(reason string) error {
	last, err := l.checkpoint()
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	l.successor = &succession{reason, last, fmt.Sprintf("%s.%s", l.folder(), time.Now().UTC().Format(asideLayout))}
	return l.takePlace()
}

// takePlace carries a succession out, or goes on where it failed before.
func (l *Log) takePlace() error {
	l.turn.Lock()
	defer l.turn.Unlock()
	s := l.successor
	l.tree.cancel() // not a shutdown, which would write once more
	if _, err := os.Stat(s.aside); err != nil {
		if err := os.Rename(l.folder(), s.aside); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		l.options.Logger.Error("the audit log was put aside; a new one begins", "reason", s.reason, "old", s.aside)
	}
	if err := l.open(); err != nil {
		return err
	}
	l.took(evidence.Head{})
	l.unsure, l.began = false, time.Time{}
	first := l.started(map[string]any{"reason": s.reason, "checkpoint": string(s.checkpoint), "folder": filepath.Base(s.aside)})
	if err := l.kept.Continue(evidence.Head{}, first); err != nil {
		return err
	}
	l.successor = nil
	l.fresh, l.succeeded = true, true
	return l.countAside()
}

// asideLayout is of the time that the name of a log ends with that was put aside.
const asideLayout = "20060102T150405.000000"

func (l *Log) countAside() error {
	list, err := filepath.Glob(l.folder() + ".[0-9]*T*")
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside = len(list)
	return nil
}

// started is the entry that tells where a log, or a part of it, comes from. previous is nil at the very first start.
func (l *Log) started(previous map[string]any) evidence.Event {
	data := evidence.LogStartData{Origin: l.key.signer.Name(), Key: l.key.public, Lockstep: l.options.Version, Previous: previous}
	return evidence.Event{Type: evidence.LogStart, Time: time.Now(), Data: data}
}
