package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/digest"
)

// columnType is the type by which a column is printed: a domain is resolved to what it is based on.
type columnType struct {
	digest.PostgresType
	// detail is what else changes the text of old rows without a row being written: the labels of an enum, which can be
	// renamed, and the number of a composite's attributes.
	detail string
}

// catalogType is a row of pg_type.
type catalogType struct {
	oid          uint32
	schema, name string
	kind         string // typtype: b, c, d, e, m, p, r
	base         uint32 // of a domain
	element      uint32 // of an array
	varlena      bool
	detail       string
}

// Types of the rows of tables are left out: there is one for each table, and nobody has a column of it.
const typesQuery = `
SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typbasetype,
	CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END, t.typlen = -1,
	coalesce((SELECT string_agg(e.enumlabel, E'\n' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
		c.relnatts::text, '')
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
LEFT JOIN pg_catalog.pg_type element ON element.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_catalog.pg_class rowtype ON rowtype.oid = element.typrelid
WHERE (t.typrelid = 0 OR c.oid IS NOT NULL) AND (rowtype.oid IS NULL OR rowtype.relkind = 'c')`

// loadTypes reads the types that columns may have.
func loadTypes(ctx context.Context, conn *pgx.Conn) (map[uint32]columnType, error) {
	rows, err := conn.Query(ctx, typesQuery)
	if err != nil {
		return nil, fmt.Errorf("read pg_type: %w", err)
	}
	catalog := map[uint32]catalogType{}
	var t catalogType
	_, err = pgx.ForEachRow(rows, []any{&t.oid, &t.schema, &t.name, &t.kind, &t.base, &t.element, &t.varlena, &t.detail}, func() error {
		catalog[t.oid] = t
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read pg_type: %w", err)
	}
	types := make(map[uint32]columnType, len(catalog))
	for oid, t := range catalog {
		types[oid] = t.resolve(catalog)
	}
	return types, nil
}

// resolve follows domains to their base, and names an array of a user's type after its element.
func (t catalogType) resolve(catalog map[uint32]catalogType) columnType {
	for t.kind == "d" {
		base, ok := catalog[t.base]
		if !ok {
			break // a domain over the row of a table: left as it is
		}
		t = base
	}
	resolved := columnType{
		PostgresType: digest.PostgresType{Schema: t.schema, Name: t.name, Enum: t.kind == "e", Toastable: t.varlena},
		detail:       t.detail,
	}
	if element, ok := catalog[t.element]; ok && t.element != 0 && element.schema != "pg_catalog" {
		resolved.Schema, resolved.Name = element.schema, element.name+"[]"
		resolved.detail = element.resolve(catalog).detail
	}
	return resolved
}
