package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// carrierFacts is one publication of one table, or of a partition of one.
type carrierFacts struct {
	Table, Publication, Without string
	Columns                     []string
}

var carriersQuery = `
SELECT ` + qualifiedOf("t.schemaname", "t.tablename") + `, p.pubname::text, concat_ws(' and ',
  CASE WHEN NOT p.pubinsert THEN 'inserts' END, CASE WHEN NOT p.pubupdate THEN 'updates' END,
  CASE WHEN NOT p.pubdelete THEN 'deletes' END, 'rows that are not ' || t.rowfilter),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    AND NOT a.attname = ANY (t.attnames) ORDER BY a.attname)
FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_tables t USING (pubname)
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename`

// carriers returns the tables with the publications that carry them, and little else.
func carriers(ctx context.Context, conn *pgx.Conn, facts []tableFacts) ([]cdc.Table, error) {
	tables := make([]cdc.Table, len(facts))
	for i, t := range facts {
		tables[i] = cdc.Table{Name: t.Name, Leaves: t.leafNames()}
	}
	return tables, readCarriers(ctx, conn, tables)
}

// readCarriers notes which publications carry the tables, and what of them they leave out. A publication counts for a
// table if it carries the table or one of its partitions; the first that leaves something out speaks for all.
func readCarriers(ctx context.Context, conn *pgx.Conn, tables []cdc.Table) error {
	facts, err := collect[carrierFacts](ctx, conn, carriersQuery)
	if err != nil {
		return fmt.Errorf("read publications: %w", err)
	}
	owner := make(map[string]*cdc.Table)
	for i := range tables {
		t := &tables[i]
		t.Publications = make(map[string]cdc.Carried)
		owner[t.Name] = t
		for _, leaf := range t.Leaves {
			owner[leaf] = t
		}
	}
	for _, f := range facts {
		if t := owner[f.Table]; t != nil {
			if c := t.Publications[f.Publication]; c.Without == "" && len(c.Columns) == 0 {
				t.Publications[f.Publication] = cdc.Carried{Without: f.Without, Columns: f.Columns}
			}
		}
	}
	return nil
}
