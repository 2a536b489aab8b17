package digest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/minio/highwayhash"
)

// Hasher makes digests with a secret key: without the key a digest says nothing about a row, and rows cannot be forged
// whose digests cancel out. All members of a group use the same key. A Hasher may be used by many goroutines at once.
type Hasher struct {
	key [32]byte
}

// NewHasher returns the hasher with the given key.
func NewHasher(key [32]byte) *Hasher { return &Hasher{key: key} }

// sum is HighwayHash-128.
func (h *Hasher) sum(b []byte) Digest {
	return highwayhash.Sum128(b, h.key[:])
}

// Complete returns the whole row that p is a part of. The values that p leaves out did not change, so their digests are
// taken from stored: the Columns of the row before. The result is what an [Encoder] makes of the same row if all its
// values are sent.
//
// An error means that the row before is not the one that the server updated, or was encoded under another shape.
func (h *Hasher) Complete(p *Partial, stored []ColumnDigest) (Row, error) {
	encoding := bytes.Clone(p.Encoding)
	columns := make([]ColumnDigest, 0, len(p.Columns)+len(p.Holes))
	columns = append(columns, p.Columns...)
	for _, hole := range p.Holes {
		i := slices.IndexFunc(stored, func(c ColumnDigest) bool { return c.Column == hole.Column })
		if i < 0 {
			return Row{}, fmt.Errorf("column %q was left out of an update as unchanged, but the row before has no digest of it", hole.Name)
		}
		copy(encoding[hole.Offset:hole.Offset+len(Digest{})], stored[i].Digest[:])
		columns = append(columns, stored[i])
	}
	slices.SortFunc(columns, func(a, b ColumnDigest) int { return cmp.Compare(a.Column, b.Column) })
	return Row{Digest: h.sum(encoding), Columns: columns}, nil
}
