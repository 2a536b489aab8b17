package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// secretFile holds the key of all row digests.
const secretFile = "digest.key"

// loadSecret reads the key, or makes it if the store is new. A store whose key is gone is refused: with another key
// every row would seem to differ.
func (s *Store) loadSecret(fs vfs.FS) error {
	path := fs.PathJoin(s.dir, secretFile)
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		used, err := s.used()
		if err != nil {
			return err
		}
		if used {
			return fmt.Errorf("data_dir %s: %s is missing: restore it from the backup that the directory came from, or move the directory away; lockstep then reads all members anew", s.dir, secretFile)
		}
		return s.makeSecret(fs, path)
	}
	if err != nil {
		return fmt.Errorf("data_dir %s: %w", s.dir, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || len(b) != len(s.secret) {
		return fmt.Errorf("data_dir %s: %s has %d bytes, not %d: restore it from a backup (%w)", s.dir, secretFile, len(b), len(s.secret), err)
	}
	copy(s.secret[:], b)
	return nil
}

func (s *Store) used() (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindName}, UpperBound: []byte{kindName + 1}})
	if err != nil {
		return false, err
	}
	used := it.First()
	return used, it.Close()
}

func (s *Store) makeSecret(fs vfs.FS, path string) error {
	if _, err := rand.Read(s.secret[:]); err != nil {
		return err
	}
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("data_dir %s: %w", s.dir, err)
	}
	if fs == vfs.Default {
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
	}
	if _, err = f.Write(s.secret[:]); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("data_dir %s: %w", s.dir, err)
	}
	dir, err := fs.OpenDir(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
