package diff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// side is one server of the comparison.
type side struct {
	name   string
	reader cdc.Member
	server cdc.Server
	tables map[string]cdc.Table
	pace   pacer
	rows   atomic.Int64 // that were read
}

func newSide(m Member, rowsPerSecond int) *side {
	return &side{name: m.Name, reader: m.Reader, pace: pacer{perSecond: rowsPerSecond}}
}

// confirmed asks what each reader of the side's log has replayed; nothing of a standby, whose log nobody reads.
func (s *side) confirmed(ctx context.Context) (map[string]cdc.TxSet, error) {
	if s.server.Standby {
		return nil, nil
	}
	return s.reader.Confirmed(ctx)
}

// read reads part of a table, no faster than allowed.
func (s *side) read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, digest.Digest) error) error {
	n := 0
	_, err := s.reader.Read(ctx, t, e, p, func(k digest.Key, r *digest.Row) error {
		n++
		s.rows.Add(1)
		return yield(k, r.Digest)
	})
	return errors.Join(err, s.pace.wait(ctx, n))
}

// meet asks all members who they are and what tables they have.
func (c *Comparison) meet(ctx context.Context) error {
	sides := append([]*side{c.ref}, c.members...)
	errs := make([]error, len(sides))
	var asking sync.WaitGroup
	for i, s := range sides {
		asking.Go(func() { errs[i] = s.meet(ctx, c.opt.Match) })
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		unreachable := slices.ContainsFunc(errs, func(err error) bool { return err != nil && !cdc.IsSetup(err) })
		return &Error{Err: err, Unreachable: unreachable}
	}
	if c.ref.server.Standby {
		return &Error{Err: fmt.Errorf("the reference %s is a physical standby: make its primary the reference", c.ref.name), Usage: true}
	}
	return c.tellApart(ctx, sides)
}

// tellApart refuses a server that may be compared with itself, and a standby of another server than the reference.
func (c *Comparison) tellApart(ctx context.Context, sides []*side) error {
	var claims []preflight.Claim
	for _, s := range sides {
		claims = append(claims, preflight.Claim{Member: s.name, Server: s.server, Beacons: s.reader})
	}
	roll := preflight.Roll{Proofs: preflight.ProveAll(ctx, claims)}
	for _, s := range sides {
		if err := roll.Add(s.name, s.server); err != nil {
			return &Error{Err: err, Usage: errors.Is(err, preflight.ErrOne)}
		}
		if s.server.Standby && (s.server.SystemID != c.ref.server.SystemID || s.server.Database != c.ref.server.Database) {
			return &Error{Err: fmt.Errorf("member %s is a physical standby of another server than the reference %s, or its dsn names another database", s.name, c.ref.name), Usage: true}
		}
	}
	return nil
}

func (s *side) meet(ctx context.Context, match func(string) bool) error {
	var err error
	if s.server, err = s.reader.Server(ctx); err != nil {
		return err
	}
	tables, err := s.reader.Tables(ctx, match)
	s.tables = make(map[string]cdc.Table, len(tables))
	for _, t := range tables {
		s.tables[t.Name] = t
	}
	return err
}

// Tables asks all members which tables they have, of those that would be compared.
func (c *Comparison) Tables(ctx context.Context) ([]string, error) {
	if err := c.meet(ctx); err != nil {
		return nil, err
	}
	return c.tableNames(), nil
}

// tableNames are the tables that any side has.
func (c *Comparison) tableNames() []string {
	names := maps.Clone(c.ref.tables)
	for _, m := range c.members {
		maps.Copy(names, m.tables)
	}
	return slices.Sorted(maps.Keys(names))
}

// pacer keeps reads to so many rows a second.
type pacer struct {
	perSecond int // 0: as fast as it goes
	mu        sync.Mutex
	free      time.Time // guarded by mu: when the next may be read
}

// wait returns once n rows that were just read have taken as long as they must.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.perSecond <= 0 || n == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.perSecond))
	pause := p.free.Sub(now)
	p.mu.Unlock()
	return sleep(ctx, pause)
}

// sleep returns after d, or with the reason when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
