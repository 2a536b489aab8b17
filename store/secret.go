package store

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// secretFile holds the key of all row digests.
const secretFile = "digest.key"

const wayBack = "restore it from the backup that the directory came from, or move the directory away; lockstep then reads all members anew"

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
			return fmt.Errorf("data_dir %s: %s is missing: %s", s.dir, secretFile, wayBack)
		}
		if err := s.makeSecret(fs, path); err != nil {
			return err
		}
		return s.checkSecret()
	}
	if err != nil {
		return fmt.Errorf("data_dir %s: %w", s.dir, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("data_dir %s: %s: %w", s.dir, secretFile, err)
	}
	if len(b) != len(s.secret) {
		return fmt.Errorf("data_dir %s: %s has %d bytes, not %d: %s", s.dir, secretFile, len(b), len(s.secret), wayBack)
	}
	copy(s.secret[:], b)
	return s.checkSecret()
}

// checkSecret holds the key against its fingerprint, by which the store knows the one that its digests were made with. With
// another one nearly all rows would be taken for changed without a trace when they are read again.
func (s *Store) checkSecret() error {
	print := sha256.Sum256(append([]byte("lockstep digest.key\n"), s.secret[:]...))
	known, closer, err := s.db.Get([]byte{kindSecret})
	if errors.Is(err, pebble.ErrNotFound) {
		return s.db.Set([]byte{kindSecret}, print[:], pebble.Sync)
	}
	if err != nil {
		return readError(s.dir, err)
	}
	defer closer.Close()
	if !bytes.Equal(known, print[:]) {
		return fmt.Errorf("data_dir %s: %s is not the key that its digests were made with: %s", s.dir, secretFile, wayBack)
	}
	return nil
}

func (s *Store) used() (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindName}, UpperBound: []byte{kindName + 1}})
	if err != nil {
		return false, err
	}
	used := it.First()
	return used, readError(s.dir, errors.Join(it.Error(), it.Close()))
}

// makeSecret writes the key beside its place and moves it there, so that a crash leaves the whole key or none.
func (s *Store) makeSecret(fs vfs.FS, path string) error {
	rand.Read(s.secret[:]) // never fails: crypto/rand
	err := s.writeSecret(fs, path+".new")
	if err == nil {
		err = fs.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(fs, s.dir)
	}
	if full(err) {
		return refusal(s.dir, err)
	}
	if err != nil {
		return fmt.Errorf("data_dir %s: make %s: %w", s.dir, secretFile, err)
	}
	return nil
}

func (s *Store) writeSecret(fs vfs.FS, path string) error {
	f, err := createPrivate(fs, path)
	if err != nil {
		return err
	}
	if _, err = f.Write(bytes.Clone(s.secret[:])); err == nil { // a vfs.File may change what it is given
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

type syncWriter interface {
	io.WriteCloser
	Sync() error
}

// createPrivate creates a file that nobody but its owner can ever open, where the file system has owners.
func createPrivate(fs vfs.FS, path string) (syncWriter, error) {
	if fs != vfs.Default {
		return fs.Create(path, vfs.WriteCategoryUnspecified)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func syncDir(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
