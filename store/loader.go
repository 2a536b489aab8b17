package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Loader fills a space with the rows of a scan, beside the group's batches: until the ledger has been told of them they
// do not count. It may be used from a goroutine of its own.
type Loader struct {
	group *Group
	at    align.Space
	batch *pebble.Batch
	key   []byte
}

// loaderBatch is the size in bytes at which a Loader hands rows to Pebble. A batch of more than half a memtable is sorted and
// written as it is; smaller ones would go through the memtable row by row, which took a third of the time of a first read.
const loaderBatch = 20 << 20

// Loader returns a Loader for a space. What an earlier Loader left there is dropped, unless this one goes on with it.
func (g *Group) Loader(at align.Space, goOn bool) (*Loader, error) {
	l := &Loader{group: g, at: at, batch: g.store.db.NewBatch()}
	if goOn {
		return l, nil
	}
	prefix := spaceKey(nil, kindRow, g.id, at)
	return l, l.batch.DeleteRange(prefix, after(prefix), nil)
}

// Add stores a row. Rows come in any order.
func (l *Loader) Add(key digest.Key, row []byte) error {
	l.key = append(spaceKey(l.key[:0], kindRow, l.group.id, l.at), key...)
	if err := l.batch.Set(l.key, row, nil); err != nil {
		return err
	}
	if l.batch.Len() < loaderBatch {
		return nil
	}
	return l.write(pebble.NoSync)
}

func (l *Loader) write(sync *pebble.WriteOptions) error {
	if err := l.batch.Commit(sync); err != nil {
		return fmt.Errorf("load rows into data_dir %s: %w", l.group.store.dir, err)
	}
	if err := l.batch.Close(); err != nil {
		return err
	}
	l.batch = l.group.store.db.NewBatch()
	return nil
}

// Flush hands over the rows so far: they are durable once a later commit of the group is.
func (l *Loader) Flush() error { return l.write(pebble.NoSync) }

// Close makes the rows durable.
func (l *Loader) Close() error {
	return errors.Join(l.write(pebble.Sync), l.batch.Close())
}

// Sum sums the rows by the ranges that boundaries cut. With nil boundaries it cuts the ranges itself, every rangeRows
// rows, and returns them.
func (l *Loader) Sum(boundaries []digest.Key, cut bool, rangeRows int64) ([]digest.Key, []merkle.Sum, error) {
	cutter := align.NewCutter(rangeRows)
	summer := align.NewSummer(boundaries)
	var sums []merkle.Sum
	if cut {
		sums = make([]merkle.Sum, 1)
	}
	err := l.group.span(l.group.store.db, spaceKey(nil, kindRow, l.group.id, l.at), nil, nil, func(k digest.Key, row []byte) (bool, error) {
		d, err := digest.RowDigest(row)
		if err != nil {
			return false, damaged(l.group.store.dir, err)
		}
		if !cut {
			summer.Add(k, d)
			return true, nil
		}
		if cutter.Add(k) {
			sums = append(sums, merkle.Sum{})
		}
		sums[len(sums)-1] = sums[len(sums)-1].Add(merkle.Of(d))
		return true, nil
	})
	if cut {
		return cutter.Boundaries, sums, err
	}
	return boundaries, summer.Sums(), err
}
