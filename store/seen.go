package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Seen keeps the keys that a scrub has met in a table, on disk because there may be many. It belongs to one scrub and is
// worth nothing after a restart. Has and Add may be called from any goroutine, but not at the same time.
type Seen struct {
	store  *Store
	prefix []byte
	batch  *pebble.Batch
	key    []byte
}

// seenBatch is the size in bytes at which keys are handed to Pebble.
const seenBatch = 4 << 20

// Seen returns an empty set of keys of a table on a member; which tells sets apart that are used at the same time.
func (g *Group) Seen(m cdc.MemberID, t cdc.TableID, which uint8) (*Seen, error) {
	s := &Seen{store: g.store, prefix: append(coverageKey(nil, kindSeen, g.id, m, t), which), batch: g.store.db.NewBatch()}
	return s, s.batch.DeleteRange(s.prefix, after(s.prefix), nil)
}

// Add adds a key.
func (s *Seen) Add(k digest.Key) error {
	s.key = append(append(s.key[:0], s.prefix...), k...)
	if err := s.batch.Set(s.key, nil, nil); err != nil {
		return err
	}
	if s.batch.Len() < seenBatch {
		return nil
	}
	return s.write()
}

func (s *Seen) write() error {
	err := errors.Join(s.batch.Commit(pebble.NoSync), s.batch.Close())
	if err != nil {
		return fmt.Errorf("keep keys in data_dir %s: %w", s.store.dir, err)
	}
	s.batch = s.store.db.NewBatch()
	return nil
}

// Has reports whether a key was added.
func (s *Seen) Has(k digest.Key) (bool, error) {
	if !s.batch.Empty() {
		if err := s.write(); err != nil {
			return false, err
		}
	}
	s.key = append(append(s.key[:0], s.prefix...), k...)
	_, closer, err := s.store.db.Get(s.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, readError(s.store.dir, err)
	}
	return true, closer.Close()
}

// Close forgets all keys.
func (s *Seen) Close() error {
	if err := s.batch.DeleteRange(s.prefix, after(s.prefix), nil); err != nil {
		return err
	}
	return errors.Join(s.batch.Commit(pebble.NoSync), s.batch.Close())
}
