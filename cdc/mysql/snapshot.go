package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"lockstep/cdc"
	"lockstep/digest"
)

// snapshot reads rows, without a lock on them and without stopping anybody.
//
// Both servers write a transaction to the log, from where our stream may show it, before they make it visible: between
// the two it may wait for a semi-synchronous replica. So there are two ways to know what a read has seen.
//
// MariaDB tells the place in the log at which a consistent snapshot was taken: all before it is in the view, nothing
// after. The cut is the first such place by which all is visible that the stream has shown.
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
	settled cdc.LSN // nothing that was read is of later, unless loose
	loose   bool    // what was read may be of as late as now
}

// errNotStreaming is for a snapshot whose rows nobody could bring up to date.
var errNotStreaming = errors.New("its stream has not begun yet")

// Snapshot implements [cdc.Source].
func (s *Source) Snapshot(ctx context.Context) (cdc.Snapshot, error) {
	at := s.streamed()
	if !at.began {
		return nil, s.wrap(fmt.Errorf("open snapshot: %w", errNotStreaming))
	}
	c, err := s.open(ctx)
	if err != nil {
		return nil, s.wrap(err)
	}
	v := &snapshot{source: s, conn: c, cut: at.position.LSN, settled: at.position.LSN}
	take := v.visible
	if c.version.mariadb {
		take = v.take
	}
	if err = s.waitFor(ctx, func() (bool, error) { return take(ctx, at) }); err != nil {
		c.hangUp()
		return nil, s.wrap(fmt.Errorf("open snapshot: %w", err))
	}
	return v, nil
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

// openView begins a transaction on MariaDB that shows all of the log before the place that it returns, and nothing after.
func (v *snapshot) openView(ctx context.Context) (file, offset string, err error) {
	if err := v.conn.exec(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
		return "", "", err
	}
	rows, err := v.conn.query(ctx, "SHOW STATUS LIKE 'binlog_snapshot_%'")
	if err != nil {
		return "", "", err
	}
	for _, r := range rows {
		switch strings.ToLower(r.at(0)) {
		case "binlog_snapshot_file":
			file = r.at(1)
		case "binlog_snapshot_position":
			offset = r.at(1)
		}
	}
	if file == "" {
		return "", "", &cdc.SetupError{Problem: "the server writes no binary log", Hint: "set log_bin in its configuration and restart it"}
	}
	return file, offset, nil
}

// take looks whether a view on MariaDB shows all that the stream has shown, and if so, makes its place the cut.
func (v *snapshot) take(ctx context.Context, at place) (ok bool, err error) {
	file, offset, err := v.openView(ctx)
	if err != nil {
		return false, err
	}
	if v.cut, err = logPlace(file, offset); err != nil {
		return false, err
	}
	v.settled = v.cut
	if ok = v.cut >= at.committed; !ok {
		// The stream may be past what the server has written for itself since.
		rows, err := v.conn.query(ctx, fmt.Sprintf("SELECT BINLOG_GTID_POS(%s, %s)", quoteText(file), offset))
		if err != nil {
			return false, err
		}
		shown, err := cdc.ParseTxSet(rows[0].at(0))
		if err != nil {
			return false, err
		}
		ok = shown.Covers(at.position.Tip())
	}
	return ok, v.conn.exec(ctx, "ROLLBACK")
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
	read := v.inChunks
	if v.conn.version.mariadb {
		read = v.inView
	}
	err := read(ctx, d, e, yield)
	switch errorCode(err) {
	case errTableChanged:
		err = errRewritten
	case errNoSuchTable:
		err = errors.New("the table does not exist")
	}
	err = v.conn.missingRight(err, "SELECT", quoteName(d.schema, d.table))
	if err != nil {
		return v.source.wrap(fmt.Errorf("read table %s: %w", t.Name, err))
	}
	return nil
}

var (
	errRedefined = errors.New("the table's definition has changed since it was last looked at")
	errRewritten = errors.New("the table was truncated or rewritten since the snapshot was taken; a new snapshot shows it as it is")
)

// inView reads a table of MariaDB.
func (v *snapshot) inView(ctx context.Context, d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	file, offset, err := v.openView(ctx)
	if err != nil {
		return err
	}
	at, err := logPlace(file, offset)
	if err != nil {
		return err
	}
	v.settled = max(v.settled, at)
	if err = v.inOpenView(ctx, d, e, yield); !v.conn.broken {
		err = errors.Join(err, v.conn.exec(ctx, "ROLLBACK"))
	}
	return err
}

// inOpenView first has the server keep the table from being altered until the view is closed.
func (v *snapshot) inOpenView(ctx context.Context, d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	if err := v.conn.exec(ctx, "SELECT 1 FROM "+quoteName(d.schema, d.table)+" LIMIT 0"); err != nil {
		return err
	}
	if err := v.unchanged(ctx, d); err != nil {
		return err
	}
	if d.consistent() {
		return v.whole(ctx, d, e, yield)
	}
	v.loose = true // no part of the view, and nobody can write to it while a statement reads it
	if d.pageable() {
		return v.chunks(ctx, d, e, yield)
	}
	return v.whole(ctx, d, e, yield)
}

// inChunks reads a table of MySQL. Nothing keeps the table from being altered in between: that shows in the stream, and
// here if the definition is another one at the end.
func (v *snapshot) inChunks(ctx context.Context, d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	if err := v.unchanged(ctx, d); err != nil {
		return err
	}
	read := v.chunks
	if !d.pageable() {
		read = v.whole
	}
	if err := read(ctx, d, e, yield); err != nil {
		return err
	}
	return v.unchanged(ctx, d)
}

// unchanged makes sure that the table is defined as d.
func (v *snapshot) unchanged(ctx context.Context, d *definition) error {
	return v.source.ask(ctx, func(ctx context.Context, c *session) error {
		now, err := readCatalog(ctx, c, only(relation{d.schema, d.table}), func(name string) bool { return name == d.name })
		if err != nil {
			return err
		}
		if now := now.tables[relation{d.schema, d.table}]; now == nil || now.hash() != d.version {
			return errRedefined
		}
		return nil
	})
}

// whole reads a table by one statement.
func (v *snapshot) whole(ctx context.Context, d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	r, err := v.reader(d, e, yield)
	if err != nil {
		return err
	}
	return v.conn.stream(ctx, "SELECT "+r.list+" FROM "+quoteName(d.schema, d.table), r.row)
}

// rowReader makes digests of rows as the binary protocol has them.
type rowReader struct {
	list    string // of columns to select, in the order of the shape
	columns []*columnDefinition
	encoder *digest.Encoder
	yield   func(digest.Key, *digest.Row) error
	key     digest.Key
	digest  digest.Row
}

func (v *snapshot) reader(d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) (*rowReader, error) {
	encoder, err := digest.NewEncoder(v.source.hasher, e.Shape)
	if err != nil {
		return nil, err
	}
	r := &rowReader{encoder: encoder, yield: yield}
	var names []string
	for _, c := range e.Shape.Columns {
		column := d.column(c.Name)
		if column == nil {
			return nil, fmt.Errorf("column %q does not exist", c.Name)
		}
		names = append(names, quoteName(column.as))
		r.columns = append(r.columns, column)
	}
	r.list = strings.Join(names, ", ")
	return r, nil
}

func (r *rowReader) row(values []wire.FieldValue) (err error) {
	r.encoder.Reset()
	for i := range values {
		if err := r.columns[i].scan(r.encoder, i, &values[i]); err != nil {
			return err
		}
	}
	if r.key, err = r.encoder.AppendKey(r.key[:0]); err != nil {
		return err
	}
	if err := r.encoder.Row(&r.digest); err != nil {
		return err
	}
	return r.yield(r.key, &r.digest)
}
