package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"lockstep/align"
)

// Notification is one item of the outbox.
type Notification struct {
	Number     uint64           `json:"number"` // order, and with the divergence's id what makes it unique
	Divergence align.Divergence `json:"divergence"`
}

// Notify implements [align.State]: the news becomes part of the batch that makes the divergence durable.
func (g *Group) Notify(f *align.Finding) error {
	g.news = true
	if !g.Receivers {
		return nil
	}
	n := g.store.outbox.Add(1)
	b, err := json.Marshal(Notification{Number: n, Divergence: f.Divergence})
	if err != nil {
		return err
	}
	return g.set(outboxKey(n), b)
}

func outboxKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{kindOutbox}, n) }

// News counts the commits since the start that opened or resolved divergences. It may be called from any goroutine.
func (s *Store) News() uint64 { return s.news.Load() }

// NextNotification returns the oldest notification that was not delivered, or nil.
func (s *Store) NextNotification() (*Notification, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindOutbox}, UpperBound: []byte{kindOutbox + 1}})
	if err != nil {
		return nil, err
	}
	if !it.First() {
		return nil, readError(s.dir, errors.Join(it.Error(), it.Close()))
	}
	n := &Notification{}
	if err := json.Unmarshal(it.Value(), n); err != nil {
		return nil, errors.Join(damaged(s.dir, fmt.Errorf("outbox: %w", err)), it.Close())
	}
	return n, it.Close()
}

// Delivered takes a notification out of the outbox.
func (s *Store) Delivered(n *Notification) error {
	return s.db.Delete(outboxKey(n.Number), pebble.Sync)
}

// Waiting counts the notifications that were not delivered.
func (s *Store) Waiting() (n int, err error) {
	err = s.each([]byte{kindOutbox}, func(_, _ []byte) error {
		n++
		return nil
	})
	return n, err
}

// loadOutbox finds the number that the next notification gets. Numbers of delivered ones may be given again after a
// restart; together with the divergence's id and state they still name one notification.
func (s *Store) loadOutbox(vfs.FS) error {
	return s.each([]byte{kindOutbox}, func(rest, _ []byte) error {
		s.outbox.Store(binary.BigEndian.Uint64(rest))
		return nil
	})
}
