package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
)

// folder holds a log.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

// state is a log as of a checkpoint. The zero state is that before the first one.
type state struct {
	checkpoint []byte
	size       uint64 // entries
	root       []byte
}

// state reads the checkpoint of a log.
func (f folder) state() (state, error) {
	raw, err := os.ReadFile(f.path(checkpoint))
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, fmt.Errorf("audit mirror: there is no log in %s yet: lockstep signs its first checkpoint some seconds after its start: %w", f, err)
	}
	if err != nil {
		return state{}, fmt.Errorf("audit mirror: %w", err)
	}
	s, err := parse(raw)
	if err != nil {
		return state{}, fmt.Errorf("audit mirror: %s is damaged: restore it from a backup: %w", f.path(checkpoint), err)
	}
	return s, nil
}

// parse reads a checkpoint (https://c2sp.org/tlog-checkpoint). Its signatures are the auditor's to verify.
func parse(raw []byte) (state, error) {
	var c log.Checkpoint
	if _, err := c.Unmarshal(raw); err != nil {
		return state{}, err
	}
	return state{raw, c.Size, c.Hash}, nil
}

// read returns a piece. Where the log has grown, and has cleaned up since, it is the beginning of a wider one.
func (f folder) read(p piece) ([]byte, error) {
	for wider := p; ; wider.width++ { // 255 is followed by 0, which is full
		raw, err := os.ReadFile(f.path(wider.name()))
		if errors.Is(err, fs.ErrNotExist) && wider.width != 0 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("audit mirror: the log lacks a part: restore it from a backup: %w", err)
		}
		if raw, err = p.beginning(raw); err != nil {
			return nil, fmt.Errorf("audit mirror: %s is damaged: restore it from a backup: %w", f.path(wider.name()), err)
		}
		return raw, nil
	}
}

// length is how many bytes a piece has; -1: that cannot be said without reading.
func (f folder) length(p piece) int64 {
	if p.level != entries {
		return int64(p.count() * rfc6962.DefaultHasher.Size())
	}
	info, err := os.Stat(f.path(p.name()))
	if err != nil {
		return -1
	}
	return info.Size()
}

// root is that of the first entries, by the hashes in the log's tiles.
func (f folder) root(ctx context.Context, size uint64) ([]byte, error) {
	hashes, err := client.FetchRangeNodes(ctx, size, func(_ context.Context, level, index uint64, width uint8) ([]byte, error) {
		return f.read(piece{level: int(level), index: index, width: width})
	})
	if err != nil {
		return nil, err
	}
	trees := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	tree, err := trees.NewRange(0, size, hashes)
	if err != nil {
		return nil, fmt.Errorf("audit mirror: log in %s: %w", f, err)
	}
	return tree.GetRootHash(nil)
}
