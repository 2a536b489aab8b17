package cdctest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// A snapshot of PostgreSQL is of one moment. On the others each table, and on MySQL each part of it, is read at a moment of
// its own that shows all that the stream has shown; so is a part on all of them. Where that moment is in the log is known on
// MariaDB, and on the others only that it is not after the end that the log has afterwards.

// Read implements [cdc.Reader].
func (x *Source) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	defer x.lock()()
	s := x.server
	if err := x.beginRead(ctx); err != nil {
		return cdc.View{}, err
	}
	if !x.began && !x.ScanOnly {
		return cdc.View{}, cdc.ErrNotStreaming
	}
	v := cdc.View{Cut: x.shown}
	if err := s.linger(ctx, s.reading(5)); err != nil {
		return cdc.View{}, err
	}
	if err := s.awaitVisible(ctx, v.Cut); err != nil {
		return cdc.View{}, err
	}
	rows, err := x.part(t, e, p)
	if err != nil {
		return cdc.View{}, err
	}
	keys, err := x.pick(s.tables[t.Name], e, p, rows)
	if err != nil {
		return cdc.View{}, err
	}
	v.Settled = max(s.end, v.Cut)
	if err := s.linger(ctx, s.reading(5)); err != nil {
		return cdc.View{}, err
	}
	if s.cluster.Engine != MariaDB {
		v.Settled = max(s.end, v.Cut)
	}
	if x.ScanOnly {
		v = cdc.View{}
	}
	if x.history != s.history0 && x.open {
		return v, errors.New("the log went back while rows were read")
	}
	return v, x.yield(e, keys, rows, yield)
}

// reading is how long a step of reading takes, at most so many milliseconds on a server that is not slow.
func (s *Server) reading(most int) time.Duration {
	return time.Duration(1+s.cluster.random.IntN(most)) * max(s.cluster.Sluggish, 1) * time.Millisecond
}

// part copies a table of which a part is to be read. PostgreSQL looks at no more than whether it has the columns, but where
// rows are asked for by their keys.
func (x *Source) part(t cdc.Table, e cdc.Epoch, p cdc.Part) (map[int]Row, error) {
	now := x.server.tables[t.Name]
	if now == nil || x.server.cluster.gtids() || p.Keys != nil || !among(e.Shape, now.columns) {
		return x.rows(t)
	}
	return x.server.visibleRows(now), nil
}

func (x *Source) beginRead(ctx context.Context) error {
	if err := x.gate(ctx); err != nil {
		return err
	}
	if x.server.faults.Rows {
		return errDenied
	}
	return nil
}

// rows copies a table, if it is still defined as it was.
func (x *Source) rows(t cdc.Table) (map[int]Row, error) {
	now := x.server.tables[t.Name]
	if now == nil {
		return nil, fmt.Errorf("table %s does not exist", t.Name)
	}
	if v := x.server.definition(now).Version; v != t.Version {
		return nil, fmt.Errorf("table %s was altered: its version is %s, not %s", t.Name, v, t.Version)
	}
	return x.server.visibleRows(now), nil
}

// yield hands rows over, without the lock.
func (x *Source) yield(e cdc.Epoch, keys []int, rows map[int]Row, yield func(digest.Key, *digest.Row) error) error {
	c, err := newCoder(x.hasher, e.Shape)
	if err != nil {
		return err
	}
	x.server.cluster.mu.Unlock()
	defer x.server.cluster.mu.Lock()
	for _, key := range keys {
		k, err := c.key(key)
		if err != nil {
			return err
		}
		r, err := c.row(key, rows[key], nil)
		if err != nil {
			return err
		}
		if err := yield(k, &r); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is a view of several tables.
type snapshot struct {
	source  *Source
	cut     cdc.LSN
	settled cdc.LSN           // of MySQL nobody knows it
	tables  map[string]*table // of the moment of the cut, on PostgreSQL
	cnx     int
}

// Snapshot implements [cdc.Source].
func (x *Source) Snapshot(ctx context.Context) (cdc.Snapshot, error) {
	defer x.lock()()
	s := x.server
	if err := x.beginRead(ctx); err != nil {
		return nil, err
	}
	v := &snapshot{source: x, cnx: s.connection}
	if s.cluster.gtids() {
		if !x.began {
			return nil, cdc.ErrNotStreaming
		}
		v.cut, v.settled = x.shown, x.shown
		return v, s.awaitVisible(ctx, v.cut)
	}
	// The slot that it comes from waits for all transactions that have not ended.
	if err := s.awaitVisible(ctx, s.end); err != nil {
		return nil, err
	}
	v.cut, v.settled = s.end, s.end
	v.tables = make(map[string]*table)
	for name, t := range s.tables {
		v.tables[name] = t.clone()
	}
	return v, nil
}

// Cut implements [cdc.Snapshot].
func (v *snapshot) Cut() cdc.LSN { return v.cut }

// Settled implements [cdc.Snapshot].
func (v *snapshot) Settled(ctx context.Context) (cdc.LSN, error) {
	defer v.source.lock()()
	s := v.source.server
	if err := v.source.gate(ctx); err != nil {
		return 0, err
	}
	if s.cluster.Engine == MySQL {
		return max(s.end, v.cut), nil
	}
	return v.settled, nil
}

// Rows implements [cdc.Snapshot].
func (v *snapshot) Rows(ctx context.Context, t cdc.Table, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	x := v.source
	defer x.lock()()
	s := x.server
	if err := x.beginRead(ctx); err != nil {
		return err
	}
	if s.connection != v.cnx {
		return errReset
	}
	rows, err := x.rows(t)
	if err != nil {
		return err
	}
	if v.tables != nil {
		then := v.tables[t.Name]
		if then == nil || then.version != s.tables[t.Name].version {
			return fmt.Errorf("table %s was altered", t.Name)
		}
		rows = maps.Clone(then.rows)
	}
	now := s.tables[t.Name]
	v.settled = max(v.settled, v.moment())
	half := -1
	if s.cluster.Engine == MySQL { // in two chunks, each of its own moment
		keys := slices.Sorted(maps.Keys(rows))
		if n := len(keys); n > 1 {
			half = keys[n/2]
		}
	}
	if half >= 0 {
		if err := s.linger(ctx, s.reading(20)); err != nil {
			return err
		}
		later, err := x.rows(t)
		if err != nil {
			return err
		}
		maps.DeleteFunc(rows, func(key int, _ Row) bool { return key >= half })
		for key, row := range later {
			if key >= half {
				rows[key] = row
			}
		}
	}
	if err := s.linger(ctx, s.reading(20)); err != nil {
		return err
	}
	if s.connection != v.cnx {
		return errReset
	}
	keys, err := x.pick(now, e, cdc.Part{}, rows)
	if err != nil {
		return err
	}
	return x.yield(e, keys, rows, yield)
}

// moment is where the rows are from that are read now.
func (v *snapshot) moment() cdc.LSN {
	if v.tables != nil {
		return v.cut
	}
	return v.source.server.end
}

// Close implements [cdc.Snapshot].
func (v *snapshot) Close() {}

var (
	_ cdc.Source = (*Source)(nil)
	_ cdc.Member = (*Source)(nil)
	_ cdc.Gauger = (*Source)(nil)
)
