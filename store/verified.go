package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

func (g *Group) verifiedKey(m cdc.MemberID, t cdc.TableID, after digest.Key) []byte {
	g.key = append(coverageKey(g.key[:0], kindVerified, g.id, m, t), after...)
	return g.key
}

// SetVerified implements [align.State]. The value is the time in nanoseconds of Unix, 0 for never, and the position.
func (g *Group) SetVerified(m cdc.MemberID, t cdc.TableID, v align.Verified) error {
	nanos := int64(0)
	if !v.At.IsZero() {
		nanos = v.At.UnixNano()
	}
	g.end = binary.BigEndian.AppendUint64(g.end[:0], uint64(nanos))
	g.end = binary.BigEndian.AppendUint64(g.end, uint64(v.Position))
	return g.set(g.verifiedKey(m, t, v.After), g.end)
}

// DeleteVerified implements [align.State].
func (g *Group) DeleteVerified(m cdc.MemberID, t cdc.TableID, after digest.Key) error {
	return g.delete(g.verifiedKey(m, t, after))
}

// DropVerified implements [align.State].
func (g *Group) DropVerified(m cdc.MemberID, t cdc.TableID) error {
	return g.deletePrefix(coverageKey(nil, kindVerified, g.id, m, t))
}

func (g *Group) verified(m cdc.MemberID, t cdc.TableID) ([]align.Verified, error) {
	var list []align.Verified
	err := each(g.batch, coverageKey(nil, kindVerified, g.id, m, t), func(rest, value []byte) error {
		if len(value) != 16 {
			return damaged(g.store.dir, errors.New("a record of verified rows does not have 16 bytes"))
		}
		v := align.Verified{Position: cdc.LSN(binary.BigEndian.Uint64(value[8:]))}
		if nanos := int64(binary.BigEndian.Uint64(value)); nanos != 0 {
			v.At = time.Unix(0, nanos)
		}
		if len(rest) > 0 {
			v.After = slices.Clone(rest)
		}
		list = append(list, v)
		return nil
	})
	return list, readError(g.store.dir, err)
}
