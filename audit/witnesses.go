package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera/client"

	"github.com/lockstep-cdc/lockstep/audit/durable"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/audit/witness"
)

// Witnesses say who cosigns checkpoints.
type Witnesses struct {
	Of    []*witness.Client // none: nobody does
	Every time.Duration     // between two cosigned checkpoints of one, at least
}

// Witness has the log's checkpoints cosigned until ctx ends, by all witnesses. The log does not wait for them: one that is
// away must not keep it from being signed.
func (l *Log) Witness(ctx context.Context) error {
	return l.run(ctx, l.cosigning)
}

// cosign has the checkpoint of now cosigned by those who have not yet.
func (l *Log) cosign(ctx context.Context) (done bool, err error) {
	checkpoint, err := l.checkpoint()
	if verify.Claimed(checkpoint) == 0 || err != nil {
		return false, err
	}
	for _, w := range l.options.Witnesses.Of {
		one, failed := l.cosignBy(ctx, w, checkpoint)
		done, err = done || one, errors.Join(err, failed)
	}
	return done, err
}

func (l *Log) cosignBy(ctx context.Context, w *witness.Client, checkpoint []byte) (bool, error) {
	c := verify.Cosigned{Size: verify.Claimed(checkpoint), By: w.Key.ID()}
	path := filepath.Join(l.folder(), filepath.FromSlash(c.Name()))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	cosigned, err := w.Cosign(ctx, checkpoint, func(ctx context.Context, from, to uint64) ([][]byte, error) {
		b, err := client.NewProofBuilder(ctx, to, l.tree.reader.ReadTile)
		if err != nil {
			return nil, err
		}
		return b.ConsistencyProof(ctx, from, to)
	})
	if err != nil {
		return false, err
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		err = durable.WriteFile(path, cosigned, 0o644)
	}
	if err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	return true, nil
}
