package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Group is what the store keeps of one replication group. It implements [align.State]: writes gather in a batch, which
// Commit makes durable as a whole. It is owned by the goroutine that owns the group's ledger.
type Group struct {
	store   *Store
	id      uint16
	batch   *pebble.Batch // what was written since the last commit, but rows that are
	rows    *overlay      // here, which are newer
	key     []byte        // scratch
	end     []byte        // scratch
	closer  func() error
	pending map[align.Space]uint64 // next number of a waiting change
	// findings names the findings that are not resolved, by number. The ledger counts anew after a restart, so numbers
	// cannot be the names of what is kept for good.
	findings map[uint64]string
	events   []evidence.Event // recorded with the next commit
	news     bool             // divergences opened or resolved since the last commit
}

var _ align.State = (*Group)(nil)

// Group opens the part of the store that belongs to the named group.
func (s *Store) Group(name string) (*Group, error) {
	n, err := s.number(nameOfGroup, 0, name)
	if err != nil {
		return nil, fmt.Errorf("store group %s: %w", name, err)
	}
	return &Group{
		store: s, id: uint16(n), batch: s.db.NewIndexedBatch(), rows: newOverlay(),
		pending: make(map[align.Space]uint64), findings: make(map[uint64]string),
	}, nil
}

// MemberID returns the number of a member.
func (g *Group) MemberID(name string) (cdc.MemberID, error) {
	n, err := g.store.number(nameOfMember, g.id, name)
	return cdc.MemberID(n), err
}

// Uncommitted returns the size in bytes of what has been written since the last Commit.
func (g *Group) Uncommitted() int { return g.batch.Len() + g.rows.size() }

// Commit makes all that was written since the last Commit durable, or none of it. It returns once it is on disk.
func (g *Group) Commit() error {
	if err := g.release(); err != nil {
		return err
	}
	if g.batch.Empty() && g.rows.size() == 0 && len(g.events) == 0 {
		return nil
	}
	all := g.store.db.NewBatchWithSize(g.Uncommitted() + 1024)
	err := errors.Join(all.Apply(g.batch, nil), g.rows.writeTo(all))
	if err == nil {
		err = g.store.commitWith(all, g.events)
		g.events = nil
	}
	if err != nil {
		return fmt.Errorf("commit to data_dir %s: %w", g.store.dir, errors.Join(err, all.Close()))
	}
	if err := errors.Join(all.Close(), g.batch.Close()); err != nil {
		return err
	}
	g.batch = g.store.db.NewIndexedBatch()
	if g.news {
		g.news = false
		g.store.news.Add(1)
	}
	return nil
}

// spill moves rows to where they can be iterated over and dropped.
func (g *Group) spill() error { return g.rows.writeTo(g.batch) }

func (g *Group) putRow(key, row []byte, deleted bool) error {
	g.rows.put(key, row, deleted)
	if g.rows.size() < maxOverlay {
		return nil
	}
	return g.spill()
}

// Close drops what was not committed.
func (g *Group) Close() error { return errors.Join(g.release(), g.batch.Close()) }

func (g *Group) release() error {
	if g.closer == nil {
		return nil
	}
	err := g.closer()
	g.closer = nil
	return err
}

func (g *Group) get(key []byte) ([]byte, error) {
	if err := g.release(); err != nil {
		return nil, err
	}
	v, closer, err := g.batch.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(g.store.dir, err)
	}
	g.closer = closer.Close
	return v, nil
}

func (g *Group) set(key, value []byte) error { return g.batch.Set(key, value, nil) }
func (g *Group) delete(key []byte) error     { return g.batch.Delete(key, nil) }

func (g *Group) setJSON(key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return g.set(key, b)
}

func (g *Group) deletePrefix(prefix []byte) error {
	return g.batch.DeleteRange(prefix, after(prefix), nil)
}

func (g *Group) rowKey(at align.Space, key digest.Key) []byte {
	g.key = append(spaceKey(g.key[:0], kindRow, g.id, at), key...)
	return g.key
}

// Row implements [align.State].
func (g *Group) Row(at align.Space, key digest.Key) ([]byte, error) {
	k := g.rowKey(at, key)
	if row, known := g.rows.get(k); known {
		return row, nil
	}
	return g.get(k)
}

// SetRow implements [align.State].
func (g *Group) SetRow(at align.Space, key digest.Key, row []byte) error {
	return g.putRow(g.rowKey(at, key), row, false)
}

// DeleteRow implements [align.State].
func (g *Group) DeleteRow(at align.Space, key digest.Key) error {
	return g.putRow(g.rowKey(at, key), nil, true)
}

// Rows implements [align.State].
func (g *Group) Rows(at align.Space, from, to digest.Key, yield func(digest.Key, []byte) (bool, error)) error {
	if err := g.spill(); err != nil {
		return err
	}
	return g.span(g.batch, spaceKey(nil, kindRow, g.id, at), from, to, yield)
}

// span yields the keys from prefix+from up to, not including, prefix+to, or all with the prefix if to is nil.
func (g *Group) span(r pebble.Reader, prefix []byte, from, to digest.Key, yield func(digest.Key, []byte) (bool, error)) error {
	lower := slices.Concat(prefix, from)
	upper := after(prefix)
	if to != nil {
		upper = slices.Concat(prefix, to)
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for more := it.First(); more; more = it.Next() {
		wanted, err := yield(digest.Key(it.Key()[len(prefix):]), it.Value())
		if err != nil || !wanted {
			return errors.Join(err, it.Close())
		}
	}
	return readError(g.store.dir, errors.Join(it.Error(), it.Close()))
}

// DropRows implements [align.State].
func (g *Group) DropRows(at align.Space) error {
	if err := g.spill(); err != nil {
		return err
	}
	return g.deletePrefix(spaceKey(nil, kindRow, g.id, at))
}

// DropSpace implements [align.State].
func (g *Group) DropSpace(at align.Space) error {
	delete(g.pending, at)
	if err := g.spill(); err != nil {
		return err
	}
	for _, k := range keyKinds {
		if k.scope != ofSpace {
			continue
		}
		if err := g.deletePrefix(spaceKey(nil, k.first, g.id, at)); err != nil {
			return err
		}
	}
	return nil
}

// DropMember implements [align.State].
func (g *Group) DropMember(m cdc.MemberID) error {
	maps.DeleteFunc(g.pending, func(at align.Space, _ uint64) bool { return at.Member == m })
	err := g.spill()
	for _, k := range keyKinds {
		switch k.scope {
		case ofStore, ofGroup, ofTable: // not of a member
		case ofMember, ofCoverage, ofSpace:
			err = errors.Join(err, g.deletePrefix(memberKey(nil, k.first, g.id, m)))
		}
	}
	return err
}

// DropTable implements [align.State].
func (g *Group) DropTable(t cdc.TableID) error {
	maps.DeleteFunc(g.pending, func(at align.Space, _ uint64) bool { return at.Table == t })
	if err := g.spill(); err != nil {
		return err
	}
	members, err := g.members()
	if err != nil {
		return err
	}
	for _, k := range keyKinds {
		switch k.scope {
		case ofStore, ofGroup, ofMember: // not of a table
		case ofTable:
			err = errors.Join(err, g.deletePrefix(tableKey(nil, k.first, g.id, t)))
		case ofCoverage, ofSpace:
			for _, m := range members {
				err = errors.Join(err, g.deletePrefix(coverageKey(nil, k.first, g.id, m, t)))
			}
		}
	}
	return err
}

// members are all that the group has ever had.
func (g *Group) members() (list []cdc.MemberID, err error) {
	err = g.store.each(binary.BigEndian.AppendUint16([]byte{kindName, nameOfMember}, g.id), func(_, number []byte) error {
		list = append(list, cdc.MemberID(binary.BigEndian.Uint32(number)))
		return nil
	})
	return list, err
}

func (g *Group) sumKey(at align.Space, start digest.Key) []byte {
	g.key = append(spaceKey(g.key[:0], kindSum, g.id, at), start...)
	return g.key
}

// SetSum implements [align.State].
func (g *Group) SetSum(at align.Space, start digest.Key, s merkle.Sum) error {
	g.end = s.AppendBinary(g.end[:0])
	return g.set(g.sumKey(at, start), g.end)
}

// DeleteSum implements [align.State].
func (g *Group) DeleteSum(at align.Space, start digest.Key) error {
	return g.delete(g.sumKey(at, start))
}

// SetBoundary implements [align.State].
func (g *Group) SetBoundary(t cdc.TableID, start digest.Key) error {
	return g.set(append(tableKey(nil, kindBoundary, g.id, t), start...), nil)
}

// DeleteBoundary implements [align.State].
func (g *Group) DeleteBoundary(t cdc.TableID, start digest.Key) error {
	return g.delete(append(tableKey(nil, kindBoundary, g.id, t), start...))
}

// DropBoundaries implements [align.State].
func (g *Group) DropBoundaries(t cdc.TableID) error {
	return g.deletePrefix(tableKey(nil, kindBoundary, g.id, t))
}

// AppendPending implements [align.State].
func (g *Group) AppendPending(at align.Space, p *align.Pending) error {
	n, known := g.pending[at]
	if !known {
		var err error
		if n, err = g.nextPending(at); err != nil {
			return err
		}
	}
	g.pending[at] = n + 1
	key := binary.BigEndian.AppendUint64(spaceKey(nil, kindPending, g.id, at), n)
	return g.set(key, appendPending(nil, p))
}

// nextPending returns the number after the last waiting change that an earlier run left in a space.
func (g *Group) nextPending(at align.Space) (next uint64, err error) {
	err = each(g.batch, spaceKey(nil, kindPending, g.id, at), func(rest, _ []byte) error {
		next = binary.BigEndian.Uint64(rest) + 1
		return nil
	})
	return next, readError(g.store.dir, err)
}

// TakePending implements [align.State].
func (g *Group) TakePending(at align.Space, limit int, yield func(*align.Pending) error) (bool, error) {
	var taken []*align.Pending
	var keys [][]byte
	prefix := spaceKey(nil, kindPending, g.id, at)
	more := false
	err := g.span(g.batch, prefix, nil, nil, func(k digest.Key, v []byte) (bool, error) {
		if len(taken) == limit {
			more = true
			return false, nil
		}
		p, err := parsePending(v, at.Table)
		if err != nil {
			return false, damaged(g.store.dir, err)
		}
		taken, keys = append(taken, p), append(keys, slices.Concat(prefix, k))
		return true, nil
	})
	if err != nil {
		return false, err
	}
	for i, p := range taken {
		if err := g.delete(keys[i]); err != nil {
			return false, err
		}
		if err := yield(p); err != nil {
			return false, err
		}
	}
	return more, nil
}

func (g *Group) inFlightKey(end cdc.LSN, part int) []byte {
	key := binary.BigEndian.AppendUint64(groupKey(g.key[:0], kindInFlight, g.id), uint64(end))
	g.key = binary.BigEndian.AppendUint32(key, uint32(part))
	return g.key
}

// SetInFlight implements [align.State].
func (g *Group) SetInFlight(f *align.InFlight) error {
	f.Parts = 0
	for changes := range slices.Chunk(f.Changes, partChanges) {
		g.end = appendInFlight(g.end[:0], f, changes)
		if err := g.set(g.inFlightKey(f.End, f.Parts), g.end); err != nil {
			return err
		}
		f.Parts++
	}
	return nil
}

// DeleteInFlight implements [align.State].
func (g *Group) DeleteInFlight(f *align.InFlight) error {
	for part := range f.Parts {
		if err := g.delete(g.inFlightKey(f.End, part)); err != nil {
			return err
		}
	}
	f.Parts = 0
	return nil
}

func (g *Group) divergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key) []byte {
	g.key = append(coverageKey(g.key[:0], kindKey, g.id, m, t), key...)
	return g.key
}

// DivergentKey implements [align.State].
func (g *Group) DivergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key) (*align.DivergentKey, error) {
	v, err := g.get(g.divergentKey(m, t, key))
	if err != nil || v == nil {
		return nil, err
	}
	d, err := parseDivergentKey(v)
	if err != nil {
		return nil, damaged(g.store.dir, err)
	}
	return d, nil
}

// SetDivergentKey implements [align.State].
func (g *Group) SetDivergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key, d *align.DivergentKey) error {
	g.end = appendDivergentKey(g.end[:0], d)
	return g.set(g.divergentKey(m, t, key), g.end)
}

// DeleteDivergentKey implements [align.State].
func (g *Group) DeleteDivergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key) error {
	return g.delete(g.divergentKey(m, t, key))
}

// DivergentKeys implements [align.State].
func (g *Group) DivergentKeys(m cdc.MemberID, t cdc.TableID, from, to digest.Key, yield func(digest.Key, *align.DivergentKey) (bool, error)) error {
	return g.span(g.batch, coverageKey(nil, kindKey, g.id, m, t), from, to, func(k digest.Key, v []byte) (bool, error) {
		d, err := parseDivergentKey(v)
		if err != nil {
			return false, damaged(g.store.dir, err)
		}
		return yield(k, d)
	})
}

// SetMember implements [align.State].
func (g *Group) SetMember(m cdc.MemberID, r *align.MemberRecord) error {
	return g.setJSON(memberKey(nil, kindMember, g.id, m), r)
}

// SetTable implements [align.State].
func (g *Group) SetTable(r *align.TableRecord) error {
	return g.setJSON(tableKey(nil, kindTable, g.id, r.Epoch.Table), r)
}

func (g *Group) findingKey(id string) []byte {
	return append(groupKey(nil, kindFinding, g.id), id...)
}

// SetFinding implements [align.State].
func (g *Group) SetFinding(f *finding.Finding) error {
	g.findings[f.Number] = f.Divergence.ID
	if f.Divergence.State == finding.Resolved {
		delete(g.findings, f.Number)
	}
	return g.setJSON(g.findingKey(f.Divergence.ID), f)
}

// DeleteFinding implements [align.State].
func (g *Group) DeleteFinding(number uint64) error {
	id, known := g.findings[number]
	if !known {
		return nil
	}
	delete(g.findings, number)
	return g.delete(g.findingKey(id))
}
