package store

import (
	"bytes"
	"encoding/binary"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// News counts the commits since the start that opened or resolved divergences. It may be called from any goroutine.
func (s *Store) News() uint64 { return s.news.Load() }

// Notify implements [align.State]: receivers are told of what is committed.
func (g *Group) Notify() { g.news = true }

func toldKey(receiver, alert string) []byte {
	k := binary.BigEndian.AppendUint16([]byte{kindTold}, uint16(len(receiver)))
	return append(append(k, receiver...), alert...)
}

// Told returns what a receiver was told, by alert. It may be called from any goroutine.
func (s *Store) Told(receiver string) (map[string][]byte, error) {
	told := make(map[string][]byte)
	err := s.each(toldKey(receiver, ""), func(alert, v []byte) error {
		told[string(alert)] = bytes.Clone(v)
		return nil
	})
	return told, err
}

// SetTold makes what a receiver was told durable, with events; nil takes an alert out. It may be called from any goroutine.
func (s *Store) SetTold(receiver string, changes map[string][]byte, events ...evidence.Event) error {
	batch := s.db.NewBatch()
	defer batch.Close()
	for alert, v := range changes {
		var err error
		if v == nil {
			err = batch.Delete(toldKey(receiver, alert), nil)
		} else {
			err = batch.Set(toldKey(receiver, alert), v, nil)
		}
		if err != nil {
			return err
		}
	}
	return s.commitWith(batch, events)
}
