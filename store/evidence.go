package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// chain gives events their place in the audit log. Whoever has it locked commits what it has placed before he lets go, so
// that entries become durable in their order, and each with the change that it records.
type chain struct {
	mu    sync.Mutex
	head  evidence.Head
	on    bool // events are kept
	clock clock
}

func entryKey(seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte{kindEntry}, seq) }

// KeepEvidence has events kept from now on, until they are forgotten, and returns where the chain goes on. It is to be
// called before groups are opened.
func (s *Store) KeepEvidence() (evidence.Head, error) {
	s.chain.mu.Lock()
	defer s.chain.mu.Unlock()
	_, err := s.loadChain()
	s.chain.on = err == nil
	s.chain.clock.look()
	return s.chain.head, err
}

// PauseEvidence has events not kept from now on. If any were before, that is remembered.
func (s *Store) PauseEvidence() error {
	s.chain.mu.Lock()
	defer s.chain.mu.Unlock()
	there, err := s.loadChain()
	if err != nil || !there || s.chain.head.Paused {
		return err
	}
	head := s.chain.head
	head.Paused = true
	batch := s.db.NewBatch()
	defer batch.Close()
	return s.advance(batch, head)
}

// loadChain reads where the chain goes on, and reports whether there is one.
func (s *Store) loadChain() (bool, error) {
	v, closer, err := s.db.Get([]byte{kindChain})
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, readError(s.dir, err)
	}
	defer closer.Close()
	if err := parseJSON("head of the evidence", v, &s.chain.head); err != nil {
		return false, damaged(s.dir, err)
	}
	return true, nil
}

// Record keeps an event with the group's next commit.
func (g *Group) Record(e evidence.Event) { g.events = append(g.events, e) }

// Record keeps events of lockstep as a whole.
func (s *Store) Record(events ...evidence.Event) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	return s.commitWith(batch, events)
}

// RecordStart keeps the events of a start, which is remembered in the same batch.
func (s *Store) RecordStart(start []byte, events ...evidence.Event) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	if err := batch.Set([]byte{kindChain, lastStart}, start, nil); err != nil {
		return err
	}
	return s.commitWith(batch, events)
}

// LastStart returns what was remembered of the last start; nil: nothing was.
func (s *Store) LastStart() (start []byte, err error) {
	err = s.each([]byte{kindChain, lastStart}, func(_, v []byte) error {
		start = bytes.Clone(v)
		return nil
	})
	return start, err
}

// commitWith commits a batch with events that have happened.
func (s *Store) commitWith(batch *pebble.Batch, events []evidence.Event) error {
	if len(events) == 0 {
		return batch.Commit(pebble.Sync)
	}
	s.chain.mu.Lock()
	defer s.chain.mu.Unlock()
	if !s.chain.on {
		return batch.Commit(pebble.Sync)
	}
	s.chain.clock.look()
	head := s.chain.head
	for _, e := range events {
		if step, from := s.chain.clock.before(&e, head.Time); step {
			var err error
			if head, err = place(batch, head, evidence.ClockStep(from, e.Time)); err != nil {
				return err
			}
		}
		var err error
		if head, err = place(batch, head, e); err != nil {
			return err
		}
	}
	return s.advance(batch, head)
}

// place seals an event. A step of the clock that nothing else has told of is recorded before it.
func place(batch *pebble.Batch, head evidence.Head, e evidence.Event) (evidence.Head, error) {
	events := []evidence.Event{e}
	if e.Type != evidence.ClockState && head.Time.Sub(e.Time) > evidence.Skew {
		events = []evidence.Event{evidence.ClockStep(head.Time, e.Time), e}
	}
	for _, e := range events {
		sealed, next, err := head.Seal(e)
		if err == nil {
			err = batch.Set(entryKey(head.Next), sealed, nil)
		}
		if err != nil {
			return head, err
		}
		head = next
	}
	for _, f := range e.Files {
		if err := batch.Set(append([]byte{kindFile}, f.Name...), f.Content, nil); err != nil {
			return head, err
		}
	}
	return head, nil
}

// EvidenceFiles yields the files that came with events, until it is told that they are kept elsewhere.
func (s *Store) EvidenceFiles(yield func(evidence.File) error) error {
	return s.each([]byte{kindFile}, func(name, content []byte) error {
		return yield(evidence.File{Name: string(name), Content: content})
	})
}

// ForgetEvidenceFiles drops files that are kept elsewhere.
func (s *Store) ForgetEvidenceFiles(names []string) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	for _, name := range names {
		if err := batch.Delete(append([]byte{kindFile}, name...), nil); err != nil {
			return err
		}
	}
	return batch.Commit(pebble.NoSync)
}

// advance commits a batch and the new end of the chain.
func (s *Store) advance(batch *pebble.Batch, head evidence.Head) error {
	v, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if err := errors.Join(batch.Set([]byte{kindChain}, v, nil), batch.Commit(pebble.Sync)); err != nil {
		return err
	}
	s.chain.head = head
	return nil
}

// Evidence yields the kept entries in their order until yield returns false. It may be called from any goroutine.
func (s *Store) Evidence(yield func(seq uint64, sealed []byte) bool) error {
	err := s.each([]byte{kindEntry}, func(seq, sealed []byte) error {
		if !yield(binary.BigEndian.Uint64(seq), bytes.Clone(sealed)) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("no more are wanted")

// ForgetEvidence drops the entries before seq: they are in the log.
func (s *Store) ForgetEvidence(seq uint64) error {
	return s.db.DeleteRange(entryKey(0), entryKey(seq), pebble.NoSync)
}

// Continue moves the chain to where a log ends. First is recorded there, then what is kept already, anew.
func (s *Store) Continue(at evidence.Head, first evidence.Event) error {
	s.chain.mu.Lock()
	defer s.chain.mu.Unlock()
	var events []evidence.Event
	err := s.Evidence(func(_ uint64, sealed []byte) bool {
		e, err := evidence.Parse(sealed)
		if err != nil {
			events = append(events, evidence.Event{Type: evidence.LogStart, Time: first.Time, Data: map[string]any{"lost": err.Error()}})
			return true
		}
		events = append(events, again(e, at, len(events) == 0))
		return true
	})
	if err != nil {
		return err
	}
	if at.Next == 0 && len(events) > 0 && events[0].Time.Before(first.Time) {
		first.Time = events[0].Time // no clock has stepped: it begins with what was kept for it
	}
	events = append([]evidence.Event{first}, events...)
	batch := s.db.NewBatch()
	defer batch.Close()
	if err := batch.DeleteRange([]byte{kindEntry}, after([]byte{kindEntry}), nil); err != nil {
		return err
	}
	head := at
	for _, e := range events {
		if head, err = place(batch, head, e); err != nil {
			return fmt.Errorf("continue the evidence: %w", err)
		}
	}
	return s.advance(batch, head)
}
