package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

var _ cdc.Reader = (*Source)(nil)

// Read implements [cdc.Reader]. The view of a part is made as that of a [snapshot] is, for this part alone.
func (s *Source) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	d := s.definition(t)
	if d == nil {
		return cdc.View{}, s.wrap(fmt.Errorf("read table %s: %w", t.Name, errRedefined))
	}
	r, err := s.rowReader(d, e, yield)
	if err != nil {
		return cdc.View{}, s.wrap(fmt.Errorf("read table %s: %w", t.Name, err))
	}
	c, err := s.reader(ctx)
	if err != nil {
		return cdc.View{}, s.wrap(err)
	}
	read := s.readInView
	if s.options.ScanOnly {
		read = s.readNow
	}
	view, err := read(ctx, c, d, r, p)
	err = s.readingFailed(c, d, err)
	if cdc.IsSetup(err) {
		s.outdate(c)
	}
	s.readers.give(c)
	if err != nil {
		return cdc.View{}, err
	}
	return view, nil
}

// readNow reads a part of a server whose log is not read.
func (s *Source) readNow(ctx context.Context, c *session, d *definition, r *rowReader, p cdc.Part) (cdc.View, error) {
	return cdc.View{}, c.readUnchanged(ctx, d, r, p)
}

// readInView reads a part between two places of the log.
func (s *Source) readInView(ctx context.Context, c *session, d *definition, r *rowReader, p cdc.Part) (cdc.View, error) {
	at := s.streamed()
	if !at.began {
		return cdc.View{}, cdc.ErrNotStreaming
	}
	v := &snapshot{source: s, conn: c}
	if err := v.await(ctx, at); err != nil {
		return cdc.View{}, err
	}
	v.loose = v.loose || !d.consistent()
	err := c.readUnchanged(ctx, d, r, p)
	if err = errors.Join(err, v.closeView(ctx)); err != nil {
		return cdc.View{}, err
	}
	settled, err := v.Settled(ctx)
	return cdc.View{Cut: v.cut, Settled: settled}, err
}

// readUnchanged reads a part, and then makes sure that what it read is what it took it for.
func (c *session) readUnchanged(ctx context.Context, d *definition, r *rowReader, p cdc.Part) error {
	err := r.read(ctx, c, p)
	if c.broken || err != nil && serverAnswer(err) == nil {
		return err
	}
	if changed := c.unchanged(ctx, d); changed != nil && errorCode(err) != errNoSuchTable {
		return changed
	}
	return err
}

// reader returns a session that works, for one call of Read.
func (s *Source) reader(ctx context.Context) (*session, error) {
	for {
		c := s.readers.take()
		if c == nil {
			return s.open(ctx)
		}
		if c.era == s.era.Load() && c.call(ctx, c.conn.Ping) == nil {
			return c, nil
		}
		c.hangUp()
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
	}
}
