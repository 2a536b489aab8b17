package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// snapshot reads rows, without a lock on them and without stopping anybody.
//
// Both servers write a transaction to the log, from where our stream may show it, before they make it visible: between
// the two it may wait for a semi-synchronous replica. So there are two ways to know what a read has seen.
//
// MariaDB tells the place in the log at which a consistent snapshot was taken: nothing after it is in the view, and all
// before it, but for distributed transactions: those it logs as committed a moment before they are (see xaview.go). So it
// has to be a place by which all is visible that the stream has shown, which is the cut.
//
// MySQL tells no such thing. But it counts a transaction into gtid_executed after it is visible, so once gtid_executed
// has all that the stream has shown, every read shows that too, and perhaps more: what its log has at the time after the
// read (see Settled).
//
// Each table is read in a view of its own that is no older than the cut: by one statement on MariaDB, in chunks of the
// primary key's order on MySQL, each in a short view. A view that is held keeps the server from cleaning up, and on
// MariaDB whoever wants to alter a table that was read in it waits, and all others behind.
type snapshot struct {
	source  *Source
	conn    *session
	cut     cdc.LSN
	settled cdc.LSN   // nothing that was read is of later, unless loose
	loose   bool      // what was read may be of as late as now
	ended   []endedXA // distributed transactions before the cut that may not be visible yet
}

// Snapshot implements [cdc.Source].
func (s *Source) Snapshot(ctx context.Context) (cdc.Snapshot, error) {
	at := s.streamed()
	if !at.began {
		return nil, s.wrap(fmt.Errorf("open snapshot: %w", cdc.ErrNotStreaming))
	}
	c, err := s.open(ctx)
	if err != nil {
		return nil, s.wrap(err)
	}
	v := &snapshot{source: s, conn: c}
	if err = v.await(ctx, at); err == nil {
		err = v.closeView(ctx)
	}
	if err != nil {
		c.hangUp()
		return nil, s.wrap(fmt.Errorf("open snapshot: %w", err))
	}
	return v, nil
}

// await waits until all can be read that the stream has shown, and makes that the cut. On MariaDB it leaves a view open.
func (v *snapshot) await(ctx context.Context, at place) error {
	v.cut, v.settled = at.position.LSN, at.position.LSN
	take := v.visible
	if v.conn.version.mariadb {
		take, v.ended = v.take, v.source.unseen()
	}
	return v.source.waitFor(ctx, func() (bool, error) { return take(ctx, at) })
}

// waitFor asks until the answer is yes.
func (s *Source) waitFor(ctx context.Context, visible func() (bool, error)) error {
	timeout := time.After(s.visible)
	for {
		if ok, err := visible(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout:
			return fmt.Errorf("transactions that the log has are not visible to readers after %v: they may wait for a semi-synchronous replica; see that it answers", s.visible)
		case <-time.After(s.poll):
		}
	}
}

// openView begins a transaction on MariaDB that shows all of the log before the place that it returns, but for distributed
// transactions, and nothing after. The file is empty if the server keeps no log.
func (c *session) openView(ctx context.Context) (file string, at cdc.LSN, err error) {
	if err := c.exec(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
		return "", 0, err
	}
	rows, err := c.query(ctx, "SHOW STATUS LIKE 'binlog_snapshot_%'")
	if err != nil {
		return "", 0, err
	}
	var offset string
	for _, r := range rows {
		switch strings.ToLower(r.at(0)) {
		case "binlog_snapshot_file":
			file = r.at(1)
		case "binlog_snapshot_position":
			offset = r.at(1)
		}
	}
	if file != "" {
		at, err = logPlace(file, offset)
	}
	return file, at, err
}

// openView begins a view of which the place is known.
func (v *snapshot) openView(ctx context.Context) (file string, at cdc.LSN, err error) {
	if file, at, err = v.conn.openView(ctx); err == nil && file == "" {
		err = errNoLog
	}
	return file, at, err
}

// take looks whether a view on MariaDB shows all that the stream has shown, and if so, leaves it open.
func (v *snapshot) take(ctx context.Context, at place) (ok bool, err error) {
	if ok, err = v.committedXA(ctx); !ok {
		return false, err
	}
	file, place, err := v.openView(ctx)
	if err != nil {
		return false, err
	}
	if ok = place >= at.committed; !ok {
		// The stream may be past what the server has written for itself since.
		shown, _, err := v.conn.lastAt(ctx, file, place)
		if err != nil {
			return false, err
		}
		ok = shown.Covers(at.position.Tip())
	}
	if !ok {
		return false, v.closeView(ctx)
	}
	v.settled = max(v.settled, place)
	return true, nil
}

// closeView ends a view on MariaDB, if one is open.
func (v *snapshot) closeView(ctx context.Context) error {
	if !v.conn.version.mariadb || v.conn.broken {
		return nil
	}
	return v.conn.exec(ctx, "ROLLBACK")
}

// visible reports whether on MySQL all that the stream has shown can be read.
func (v *snapshot) visible(ctx context.Context, at place) (bool, error) {
	v.loose = true // from here on: MySQL tells no place
	executed, err := readApplied(ctx, v.conn)
	return err == nil && executed.Covers(at.position.Shown), err
}

// Cut implements [cdc.Snapshot].
func (v *snapshot) Cut() cdc.LSN { return v.cut }

// Settled implements [cdc.Snapshot]. What can be read is in the log already.
func (v *snapshot) Settled(ctx context.Context) (cdc.LSN, error) {
	if !v.loose {
		return v.settled, nil
	}
	end, err := endOfLog(ctx, v.conn)
	return max(end, v.settled), v.source.wrap(err)
}

// Close implements [cdc.Snapshot].
func (v *snapshot) Close() { v.conn.hangUp() }

// Rows implements [cdc.Snapshot].
func (v *snapshot) Rows(ctx context.Context, t cdc.Table, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	d := v.source.definition(t)
	if d == nil {
		return v.source.wrap(fmt.Errorf("read table %s: %w", t.Name, errRedefined))
	}
	r, err := v.source.rowReader(d, e, yield)
	if err == nil && v.conn.version.mariadb {
		err = v.inView(ctx, d, r)
	} else if err == nil {
		err = v.inChunks(ctx, d, r)
	}
	return v.source.readingFailed(v.conn, d, err)
}

var (
	errRedefined = errors.New("the table's definition has changed since it was last looked at")
	errRewritten = errors.New("the table was truncated or rewritten just before it was read; reading again shows it as it is")
)

// readingFailed says what an error is about, in our words.
func (s *Source) readingFailed(c *session, d *definition, err error) error {
	switch errorCode(err) {
	case errTableChanged:
		err = errRewritten
	case errNoSuchTable:
		err = errors.New("the table does not exist")
	}
	if err = c.missingRight(err, "SELECT", quoteName(d.schema, d.table)); err == nil {
		return nil
	}
	return s.wrap(fmt.Errorf("read table %s: %w", d.name, err))
}

// inView reads a table of MariaDB.
func (v *snapshot) inView(ctx context.Context, d *definition, r *rowReader) error {
	_, at, err := v.openView(ctx)
	if err != nil {
		return err
	}
	v.settled = max(v.settled, at)
	return errors.Join(v.inOpenView(ctx, d, r), v.closeView(ctx))
}

// inOpenView first has the server keep the table from being altered until the view is closed.
func (v *snapshot) inOpenView(ctx context.Context, d *definition, r *rowReader) error {
	if err := v.conn.exec(ctx, "SELECT 1 FROM "+quoteName(d.schema, d.table)+" LIMIT 0"); err != nil {
		return err
	}
	if err := v.conn.unchanged(ctx, d); err != nil {
		return err
	}
	if d.consistent() {
		return r.read(ctx, v.conn, cdc.Part{})
	}
	v.loose = true // no part of the view, and nobody can write to it while a statement reads it
	return v.chunks(ctx, r)
}

// inChunks reads a table of MySQL. Nothing keeps the table from being altered in between: that shows in the stream, and
// here if the definition is another one at the end.
func (v *snapshot) inChunks(ctx context.Context, d *definition, r *rowReader) error {
	if err := v.conn.unchanged(ctx, d); err != nil {
		return err
	}
	if err := v.chunks(ctx, r); err != nil {
		return err
	}
	return v.conn.unchanged(ctx, d)
}
