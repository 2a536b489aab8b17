package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// What files of a log, and proofs, may take at most. They come from others, and are read before it is known whether they
// are what they must be.
const (
	mostCheckpoint = 64 << 10 // with many cosignatures
	mostTile       = layout.TileWidth * 32
	mostBundle     = layout.EntryBundleWidth * (2 + evidence.MaxSize)
	mostReply      = 1 << 20 // of an authority, with all its certificates
	mostProof      = 16 << 20
)

func newResult(by note.Verifier) *Result {
	return &Result{Origin: by.Name(), Counts: make(map[evidence.Type]uint)}
}

// openFile opens a file that must be one, and no device or pipe, which might never end.
func openFile(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	return f, info.Size(), err
}

// readFile reads a file of a length that is known to be enough.
func readFile(path string, most int64) ([]byte, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that it may have", path, size, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// folder is a log as plain files. Like [client.FileFetcher], but no file is longer than it may be.
type folder struct{ root string }

func (f folder) read(name string, most int64) ([]byte, error) {
	return readFile(filepath.Join(f.root, filepath.FromSlash(name)), most)
}

// ReadCheckpoint reads the last one.
func (f folder) ReadCheckpoint(context.Context) ([]byte, error) {
	return f.read(layout.CheckpointPath, mostCheckpoint)
}

// ReadTile reads a tile of hashes.
func (f folder) ReadTile(_ context.Context, level, index uint64, p uint8) ([]byte, error) {
	return f.whole(p, mostTile, func(p uint8) string { return layout.TilePath(level, index, p) })
}

// ReadEntryBundle reads a file of entries.
func (f folder) ReadEntryBundle(_ context.Context, index uint64, p uint8) ([]byte, error) {
	return f.whole(p, mostBundle, func(p uint8) string { return layout.EntriesPath(index, p) })
}

// whole reads a partial file, or the whole one that has taken its place.
func (f folder) whole(p uint8, most int64, name func(p uint8) string) ([]byte, error) {
	b, err := f.read(name(p), most)
	if p > 0 && errors.Is(err, fs.ErrNotExist) {
		return f.read(name(0), most)
	}
	return b, err
}

// within reads a folder of the log. One that is missing has nothing in it.
func (f folder) within(name string) (map[string][]byte, error) {
	list, err := os.ReadDir(filepath.Join(f.root, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, entry := range list {
		path := path.Join(name, entry.Name())
		if files[path], err = f.read(path, mostReply); err != nil {
			return nil, err
		}
	}
	return files, nil
}
