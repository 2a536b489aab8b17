package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// snapshot is a transaction on the view that a replication slot exported when it became consistent. That view is defined
// by the order of the log: a transaction that is committed there but not visible to ordinary queries yet, because it
// waits for a synchronous standby, cannot fall between the two.
type snapshot struct {
	source *Source
	conn   *pgx.Conn
	cut    cdc.LSN
}

// Snapshot implements [cdc.Source].
func (s *Source) Snapshot(ctx context.Context) (cdc.Snapshot, error) {
	exporter, slot, err := s.export(ctx)
	if err != nil {
		return nil, s.wrap(err)
	}
	defer hangUp(exporter) // it drops the temporary slot; the view lives on in the one that took it over
	cut, err := cdc.ParseLSN(slot.ConsistentPoint)
	if err != nil {
		return nil, s.wrap(err)
	}
	conn, err := s.login(ctx, false)
	if err != nil {
		return nil, s.wrap(err)
	}
	for _, statement := range []string{
		// Newer servers can end a long transaction.
		"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'",
		"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
		"SET TRANSACTION SNAPSHOT " + quoteText(slot.SnapshotName),
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			hangUp(conn)
			return nil, s.wrap(fmt.Errorf("open snapshot: %w", err))
		}
	}
	return &snapshot{source: s, conn: conn, cut: cut}, nil
}

// export makes a temporary slot, which waits for the end of all transactions that write. The view that it exports is good
// while its connection does nothing else.
func (s *Source) export(ctx context.Context) (*pgx.Conn, pglogrepl.CreateReplicationSlotResult, error) {
	var slot pglogrepl.CreateReplicationSlotResult
	conn, err := s.login(ctx, true)
	if err != nil {
		return nil, slot, err
	}
	bounded, cancel := context.WithTimeout(ctx, s.snapshot)
	defer cancel()
	name := "lockstep_tmp_" + strings.ToLower(rand.Text())
	slot, err = pglogrepl.CreateReplicationSlot(bounded, conn.PgConn(), name, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Temporary:      true,
		SnapshotAction: "(SNAPSHOT 'export')",
		Mode:           pglogrepl.LogicalReplication,
	})
	if err == nil {
		return conn, slot, nil
	}
	if bounded.Err() != nil && ctx.Err() == nil {
		err = s.blocked(ctx, s.snapshot)
	} else {
		err = s.slotRefused(ctx, err)
	}
	hangUp(conn)
	return nil, slot, err
}

// Cut implements [cdc.Snapshot].
func (v *snapshot) Cut() cdc.LSN { return v.cut }

// Settled implements [cdc.Snapshot]: all rows are of one moment.
func (v *snapshot) Settled(context.Context) (cdc.LSN, error) { return v.cut, nil }

// Close implements [cdc.Snapshot].
func (v *snapshot) Close() { hangUp(v.conn) }

// Rows implements [cdc.Snapshot]. The lock on the table is given back when it is read: whoever waits to alter it, and all
// who wait behind, do so for one table at most.
func (v *snapshot) Rows(ctx context.Context, t cdc.Table, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	if _, err := v.conn.Exec(ctx, "SAVEPOINT lockstep"); err != nil {
		return v.source.wrap(err)
	}
	err := v.rows(ctx, t, e, "", v.unchanged, yield)
	if !v.conn.IsClosed() {
		_, release := v.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT lockstep")
		err = errors.Join(err, release)
	}
	if err != nil {
		return v.source.wrap(fmt.Errorf("read table %s: %w", t.Name, err))
	}
	return nil
}

// rows reads those rows of a table that where selects, after same has found nothing to be wrong with it.
func (v *snapshot) rows(ctx context.Context, t cdc.Table, e cdc.Epoch, where string, same func(context.Context, cdc.Table) error, yield func(digest.Key, *digest.Row) error) error {
	encoder, err := digest.NewEncoder(v.source.hasher, e.Shape)
	if err != nil {
		return err
	}
	from, err := v.lock(ctx, t)
	if err != nil {
		return err
	}
	if err := same(ctx, t); err != nil {
		return err
	}
	columns := make([]string, len(e.Shape.Columns))
	for i, c := range e.Shape.Columns {
		columns[i] = quoteName(c.Name)
	}
	rows := rowReader{encoder: encoder, yield: yield}
	reader := &copyReader{columns: len(columns), row: rows.row}
	query := fmt.Sprintf("COPY (SELECT %s FROM %s%s) TO STDOUT", strings.Join(columns, ", "), from, where)
	if _, err := v.conn.PgConn().CopyTo(ctx, reader, query); err != nil {
		if sqlState(err) == insufficientRight {
			return missingRight(err, fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s;", strings.TrimPrefix(from, "ONLY "), quoteName(v.source.role())))
		}
		return err
	}
	return reader.close()
}

// rootQuery finds a table by the name that users give it.
var rootQuery = `
SELECT n.nspname::text, c.relname::text, c.relkind = 'p'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND ` + qualifiedSQL("n", "c") + ` = $1`

// lock keeps the table as it is while it is read, and returns what to read from: a table that others inherit from is read
// without them, one with partitions through its root.
func (v *snapshot) lock(ctx context.Context, t cdc.Table) (from string, err error) {
	var schema, name string
	var partitioned bool
	err = v.conn.QueryRow(ctx, rootQuery, t.Name).Scan(&schema, &name, &partitioned)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errors.New("the table did not exist at the time of the snapshot")
	}
	if err != nil {
		return "", err
	}
	if from = quoteName(schema, name); !partitioned {
		from = "ONLY " + from
	}
	if _, err = v.conn.Exec(ctx, "LOCK TABLE "+from+" IN ACCESS SHARE MODE"); err != nil {
		return "", missingRight(err, fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s;", quoteName(schema, name), quoteName(v.source.role())))
	}
	return from, nil
}

// rewrittenQuery holds the files that the snapshot knows of against those that are there now. TRUNCATE and a rewriting
// ALTER TABLE make a table look empty to older snapshots
// (https://www.postgresql.org/docs/current/mvcc-caveats.html).
var rewrittenQuery = `
SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE ` + qualifiedSQL("n", "c") + ` = ANY ($1) AND c.relkind = 'r'
  AND c.relfilenode = coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)`

// kept makes sure, with the table locked, that its rows of the time of the snapshot are still there.
func (v *snapshot) kept(ctx context.Context, t cdc.Table) error {
	var same int
	if err := v.conn.QueryRow(ctx, rewrittenQuery, t.Leaves).Scan(&same); err != nil {
		return err
	}
	if same != len(t.Leaves) {
		return errors.New("the table was truncated or rewritten since the snapshot was taken; a new snapshot shows it as it is")
	}
	return nil
}

// unchanged makes sure, beside that, that the table's definition is t.
func (v *snapshot) unchanged(ctx context.Context, t cdc.Table) error {
	if err := v.kept(ctx, t); err != nil {
		return err
	}
	now, err := v.source.Tables(ctx, func(name string) bool { return name == t.Name })
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(now, func(n cdc.Table) bool { return n.Version == t.Version }) {
		return errors.New("the table's definition has changed since it was last looked at")
	}
	return nil
}

// rowReader makes digests of rows as COPY prints them.
type rowReader struct {
	encoder *digest.Encoder
	yield   func(digest.Key, *digest.Row) error
	key     digest.Key
	digest  digest.Row
}

func (r *rowReader) row(fields [][]byte) (err error) {
	r.encoder.Reset()
	for i, text := range fields {
		if text == nil {
			r.encoder.Null(i)
			continue
		}
		if err := r.encoder.PostgresText(i, text); err != nil {
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
