// Package store keeps positions, row and range digests, the in-flight journal, divergences and what receivers were told in Pebble.
//
// What a group's stream has changed and how far the stream was read become durable in one batch, so that after a crash
// every stream goes on exactly where the digests are.
package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Format is the version of the layout in keys.go, and of the records, that this program writes. 2: positions are sets of
// transaction ids.
const Format = 2

// Store is an open data directory. Its methods may be called from any goroutine.
type Store struct {
	db     *pebble.DB
	dir    string
	secret [32]byte
	chain  chain
	news   atomic.Uint64 // commits that opened or resolved divergences
	naming sync.Mutex    // held while a name is given a number: groups that start side by side would be given the same one
}

// Options say how a Store is opened. The zero value keeps it on disk with a 64 MiB cache and half that to gather writes.
type Options struct {
	FS    vfs.FS // nil: the disk
	Cache int64  // bytes; 0: 64 MiB
	// Fatal is called, from any goroutine, when the disk refuses a write, while the store is opened too, or shows damage where
	// no caller waits for the answer. It must not return. nil: it prints the error and ends the process with code 3.
	Fatal func(error)
	// Clock is what it is by the clock of the host, and for how long that runs, whatever the clock shows. nil: the host's.
	Clock func() (now time.Time, running time.Duration)
}

// Open opens the store in dir and makes it at the first start. What the disk refuses meanwhile is as fatal as later.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Cache == 0 {
		o.Cache = 64 << 20
	}
	d := newDisk(dir, o)
	s, err := d.open(o)
	if full(err) {
		d.fatal(err)
	}
	return s, err
}

func (d *disk) open(o Options) (*Store, error) {
	if o.FS == vfs.Default {
		if err := os.MkdirAll(d.dir, 0o700); full(err) {
			return nil, refusal(d.dir, err)
		} else if err != nil {
			return nil, fmt.Errorf("data_dir %s: %w: choose a directory that lockstep may write to", d.dir, err)
		}
	}
	db, err := pebble.Open(o.FS.PathJoin(d.dir, "db"), pebbleOptions(d, o))
	if err != nil {
		return nil, openError(d.dir, err)
	}
	s := &Store{db: db, dir: d.dir}
	if s.chain.clock.read = o.Clock; o.Clock == nil {
		s.chain.clock.read = hostClock()
	}
	for _, load := range []func(vfs.FS) error{s.checkFormat, s.checkNames, s.loadSecret} {
		if err := load(o.FS); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return s, nil
}

func pebbleOptions(d *disk, o Options) *pebble.Options {
	opts := &pebble.Options{
		FS:                    &d.guard,
		CacheSize:             o.Cache,
		MemTableSize:          uint64(o.Cache) / 2,
		L0CompactionThreshold: 4,
		FormatMajorVersion:    pebble.FormatNewest,
		Logger:                d,
		EventListener:         d.listener(),
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return opts
}

func (s *Store) checkFormat(vfs.FS) error {
	v, closer, err := s.db.Get([]byte{kindFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		return s.db.Set([]byte{kindFormat}, binary.BigEndian.AppendUint32(nil, Format), pebble.Sync)
	}
	if err != nil {
		return readError(s.dir, err)
	}
	defer closer.Close()
	if len(v) != 4 {
		return damaged(s.dir, fmt.Errorf("its format version has %d bytes, not 4", len(v)))
	}
	has := binary.BigEndian.Uint32(v)
	if has == 0 {
		return damaged(s.dir, errors.New("its format version is 0"))
	}
	if has > Format {
		return fmt.Errorf("data_dir %s was written by a newer lockstep (format %d, this one knows up to %d): run that version, or give this one a directory of its own", s.dir, has, Format)
	}
	if has < Format {
		return fmt.Errorf("data_dir %s was written by an older lockstep (format %d, this one writes %d): give this one an empty directory; it reads all tables anew", s.dir, has, Format)
	}
	return nil
}

// Secret returns the key of all row digests. It is made at the first start and kept in the file digest.key, which only
// the owner can read; it is part of a backup, for without it nothing that is kept can be compared.
func (s *Store) Secret() [32]byte { return s.secret }

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

// checkNames refuses what two of one kind share a number of: they have written over each other's rows, and nothing that is kept of either
// can be trusted.
func (s *Store) checkNames(vfs.FS) error {
	names := make(map[string]string) // by kind, group and number
	return s.each([]byte{kindName}, func(rest, number []byte) error {
		if len(rest) < 3 || len(number) != 4 {
			return damaged(s.dir, fmt.Errorf("a name has %d bytes and its number %d", len(rest), len(number)))
		}
		at, name := string(rest[:3])+string(number), string(rest[3:])
		if other, taken := names[at]; taken {
			return damaged(s.dir, fmt.Errorf("%s and %s are kept as one", other, name))
		}
		names[at] = name
		return nil
	})
}

// Number returns the number of a name of the given kind within a group, giving it one at first use.
func (s *Store) number(kind byte, group uint16, name string) (uint32, error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	prefix := binary.BigEndian.AppendUint16([]byte{kindName, kind}, group)
	key := append(prefix[:len(prefix):len(prefix)], name...)
	if v, closer, err := s.db.Get(key); err == nil {
		defer closer.Close()
		return binary.BigEndian.Uint32(v), nil
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return 0, readError(s.dir, err)
	}
	next := uint32(1)
	err := s.each(prefix, func(_, v []byte) error {
		next = max(next, binary.BigEndian.Uint32(v)+1)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return next, s.db.Set(key, binary.BigEndian.AppendUint32(nil, next), pebble.Sync)
}

// each yields all keys that begin with prefix, without it, and their values, in order.
func (s *Store) each(prefix []byte, yield func(rest, value []byte) error) error {
	return readError(s.dir, each(s.db, prefix, yield))
}

func each(r pebble.Reader, prefix []byte, yield func(rest, value []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := yield(it.Key()[len(prefix):], it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// DiskBytes returns the disk space that the store takes.
func (s *Store) DiskBytes() uint64 { return s.db.Metrics().DiskSpaceUsage() }

func parseJSON(what string, b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// TableID returns the number of a table.
func (g *Group) TableID(name string) (cdc.TableID, error) {
	n, err := g.store.number(nameOfTable, g.id, name)
	return cdc.TableID(n), err
}
