package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// tableFacts is one table that matches, as users name it: partitions are folded into their root.
type tableFacts struct {
	Name       string
	Key        []string // names of the primary key's columns; empty: none that replication can use
	Deferrable bool     // there is a primary key, but it is checked late
	Relations  []relationFacts
	Columns    []columnFacts // sorted by name, generated ones left out
}

// relationFacts is one relation of a table: the table itself, its leaf partitions, or the root above them.
type relationFacts struct {
	OID                   uint32
	Schema, Name          string
	Root                  string // qualified name of the table
	Kind, Persistence     string // pg_class.relkind, relpersistence
	Identity              string // pg_class.relreplident
	IdentityIndex         string // of USING INDEX; empty if it is the primary key's
	HasKey, Deferrable    bool
	Generated             bool // has a generated column
	Select, Usage, Filter bool // may read the relation, may use its schema; row security hides rows from us
}

// qualified names the relation as users read it.
func (r relationFacts) qualified() string { return qualified(r.Schema, r.Name) }

// columnFacts is one column that the stream carries. Types are those of a domain's base.
type columnFacts struct {
	Root, Name       string
	Shown            string // the type as users write it, without a length
	Schema, TypeName string
	Enum             bool
}

// shown is the table as it is compared with others.
func (t tableFacts) shown(s serverFacts) preflight.Table {
	p := preflight.Table{Name: t.Name, Key: t.Key, Unfit: t.unfit(s)}
	for _, c := range t.Columns {
		column := digest.PostgresColumn(c.Name, digest.PostgresType{Schema: c.Schema, Name: c.TypeName, Enum: c.Enum})
		p.Columns = append(p.Columns, preflight.Column{Column: column, Shown: c.Shown})
	}
	return p
}

// keyFacts is one column of a primary key.
type keyFacts struct{ Root, Name string }

// Partitioned roots hold no rows themselves; they are read for the rights on them and for their primary key. An identity
// by an index that was dropped since is as good as none.
var tablesQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, ` + qualifiedSQL("rn", "r") + `,
  c.relkind::text, c.relpersistence::text,
  CASE WHEN c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
    THEN 'n' ELSE c.relreplident::text END,
  coalesce((SELECT i.indexrelid::regclass::text FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND i.indisreplident AND NOT i.indisprimary AND c.relreplident = 'i' LIMIT 1), ''),
  EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid),
  EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate),
  EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''),
  coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), false),
  coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false),
  coalesce(pg_catalog.row_security_active(c.oid), false)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid) ELSE c.oid END
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE (c.relkind IN ('r', 'p') OR c.relkind = 'f' AND c.relispartition) AND r.relpersistence <> 't'
  AND rn.nspname !~ '^pg_' AND rn.nspname <> 'information_schema'
ORDER BY 4, c.relispartition, 2, 3`

var columnsQuery = `
WITH RECURSIVE base (oid, base) AS (
  SELECT oid, oid FROM pg_catalog.pg_type WHERE typtype <> 'd'
  UNION ALL SELECT t.oid, base.base FROM pg_catalog.pg_type t JOIN base ON base.oid = t.typbasetype WHERE t.typtype = 'd')
SELECT ` + qualifiedSQL("n", "c") + `, a.attname::text, pg_catalog.format_type(b.oid, NULL), bn.nspname::text, b.typname::text, b.typtype = 'e'
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN base ON base.oid = a.atttypid
JOIN pg_catalog.pg_type b ON b.oid = base.base
JOIN pg_catalog.pg_namespace bn ON bn.oid = b.typnamespace
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY 1, a.attname COLLATE "C"`

var keyQuery = `
SELECT ` + qualifiedSQL("n", "c") + `, a.attname::text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE i.indrelid = ANY ($1) AND i.indisprimary AND i.indimmediate AND i.indisvalid AND k.place <= i.indnkeyatts
ORDER BY 1, k.place`

func readTables(ctx context.Context, conn *pgx.Conn, match func(string) bool) ([]tableFacts, error) {
	relations, err := collect[relationFacts](ctx, conn, tablesQuery)
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	var tables []tableFacts
	place := map[string]int{}
	var roots []uint32
	for _, r := range relations {
		if !match(r.Root) {
			continue
		}
		i, known := place[r.Root]
		if !known { // the root comes first
			i = len(tables)
			place[r.Root] = i
			roots = append(roots, r.OID)
			tables = append(tables, tableFacts{Name: r.Root, Deferrable: r.Deferrable})
		}
		tables[i].Relations = append(tables[i].Relations, r)
	}
	columns, err := collect[columnFacts](ctx, conn, columnsQuery, roots)
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	for _, c := range columns {
		t := &tables[place[c.Root]]
		t.Columns = append(t.Columns, c)
	}
	keys, err := collect[keyFacts](ctx, conn, keyQuery, roots)
	if err != nil {
		return nil, fmt.Errorf("read primary keys: %w", err)
	}
	for _, k := range keys {
		t := &tables[place[k.Root]]
		t.Key = append(t.Key, k.Name)
	}
	return tables, nil
}

// collect runs a query whose columns are the fields of T, in their order.
func collect[T any](ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

// leaves are the relations that hold rows.
func (t tableFacts) leaves() []relationFacts {
	return slices.DeleteFunc(slices.Clone(t.Relations), func(r relationFacts) bool { return r.Kind == "p" })
}

// leafNames are the names of those, sorted.
func (t tableFacts) leafNames() (names []string) {
	for _, leaf := range t.leaves() {
		names = append(names, leaf.qualified())
	}
	slices.Sort(names)
	return names
}

// partitioned reports whether the table's rows are in partitions.
func (t tableFacts) partitioned() bool { return t.Relations[0].Kind == "p" }

// unfit says why a publication of the table does harm, or no good: one of a table without identity makes the application's UPDATE
// fail. What the SQL before the publication's mends does not count.
func (t tableFacts) unfit(s serverFacts) string {
	for _, c := range judgeForm(s, t) {
		if c.SQL == "" {
			return c.Detail
		}
	}
	return ""
}

func judgeTables(s serverFacts, tables []tableFacts) []preflight.Check {
	var problems []preflight.Check
	var closed []relationFacts
	good := 0
	for _, t := range tables {
		found, unread := judgeForm(s, t), t.closed()
		if len(found)+len(unread) == 0 {
			good++
		}
		problems, closed = append(problems, found...), append(closed, unread...)
	}
	summary := preflight.Check{Subject: "tables", State: preflight.OK, Detail: fmt.Sprintf("%d of %d can be watched as they are", good, len(tables))}
	if len(tables) == 0 {
		summary.State, summary.Detail = preflight.Fail, "no table matches"
		summary.Hint = "compare tables.include with the names that the server has, schema and letter case too"
	}
	return slices.Concat([]preflight.Check{summary}, judgeUsage(s, tables), judgeReading(s, closed), problems)
}

// judgeReading asks for the right to read what is closed to us, all at once.
func judgeReading(s serverFacts, closed []relationFacts) []preflight.Check {
	if len(closed) == 0 {
		return nil
	}
	var names []string
	for _, r := range closed {
		names = append(names, r.qualified())
	}
	return []preflight.Check{{Subject: "reading rows", Detail: quoteName(s.Role) + " cannot yet read " + preflight.SomeOf("tables", names), SQL: grantSelect(s, closed)}}
}

func grantSelect(s serverFacts, relations []relationFacts) string {
	names := make([]string, len(relations))
	for i, r := range relations {
		names[i] = quoteName(r.Schema, r.Name)
	}
	return fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s;", strings.Join(names, ",\n  "), quoteName(s.Role))
}

// judgeUsage asks for the right to look into schemas, once for each.
func judgeUsage(s serverFacts, tables []tableFacts) []preflight.Check {
	var checks []preflight.Check
	seen := map[string]bool{}
	for _, t := range tables {
		r := t.Relations[0] // by whose name it is read
		if r.Usage || seen[r.Schema] {
			continue
		}
		seen[r.Schema] = true
		checks = append(checks, preflight.Check{
			Subject: "schema " + r.Schema, Detail: quoteName(s.Role) + " may not use it",
			SQL: fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", quoteName(r.Schema), quoteName(s.Role)),
		})
	}
	return checks
}

// judgeTable returns only what is wrong.
func judgeTable(s serverFacts, t tableFacts) []preflight.Check {
	var checks []preflight.Check
	for _, r := range t.closed() {
		checks = append(checks, t.about(r, preflight.Check{Detail: quoteName(s.Role) + " may not read it", SQL: grantSelect(s, []relationFacts{r})}))
	}
	return append(checks, judgeForm(s, t)...)
}

// keyless says why rows have no key by which replication finds them; its zero value that they have one. Of such a table nothing more
// is asked: it has to go.
func (t tableFacts) keyless() preflight.Check {
	switch {
	case t.Deferrable:
		return preflight.Check{Detail: "its primary key is deferrable, replication cannot use it", Hint: "make the key not deferrable, or exclude the table"}
	case len(t.Key) == 0:
		return preflight.Check{Detail: "has no primary key", Hint: "give it one, or exclude the table"}
	}
	return preflight.Check{}
}

// closed is the relation by whose name a table is read, if we may not: of a partitioned one the root. Who may read that may read what is
// in its partitions, those that are made later too.
func (t tableFacts) closed() []relationFacts {
	if t.Relations[0].Select || t.keyless().Detail != "" {
		return nil
	}
	return t.Relations[:1]
}

// about has a check tell of a relation of the table.
func (t tableFacts) about(r relationFacts, c preflight.Check) preflight.Check {
	c.Subject = "table " + t.Name
	if name := r.qualified(); name != t.Name {
		c.Detail = "partition " + name + ": " + c.Detail
	}
	return c
}

// judgeForm returns what is wrong with a table, whoever reads it.
func judgeForm(s serverFacts, t tableFacts) []preflight.Check {
	if c := t.keyless(); c.Detail != "" {
		c.Subject = "table " + t.Name
		return []preflight.Check{c}
	}
	var checks []preflight.Check
	for _, r := range t.leaves() {
		for _, c := range r.judge(s) {
			checks = append(checks, t.about(r, c))
		}
	}
	return checks
}

// judge is about a relation that holds rows.
func (r relationFacts) judge(s serverFacts) []preflight.Check {
	var checks []preflight.Check
	name := quoteName(r.Schema, r.Name)
	switch {
	case r.Kind == "f":
		checks = append(checks, preflight.Check{Detail: "is a foreign table, its rows are not in the WAL", Hint: "detach it, or exclude the table"})
	case r.Persistence == "u":
		checks = append(checks, preflight.Check{Detail: "is unlogged, its rows are not in the WAL",
			Hint: fmt.Sprintf("ALTER TABLE %s SET LOGGED rewrites it; or exclude the table", name)})
	}
	return append(checks, r.judgeIdentity(s, name)...)
}

// judgeIdentity is about what UPDATE and DELETE write to the WAL, for a table that has a primary key.
func (r relationFacts) judgeIdentity(s serverFacts, name string) []preflight.Check {
	mend := fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", name)
	switch {
	case !r.HasKey:
		return []preflight.Check{{Detail: "its primary key is not valid", Hint: "REINDEX it, or exclude the table"}}
	case r.Identity == "n":
		return []preflight.Check{{Detail: "has REPLICA IDENTITY NOTHING, updates and deletes do not show their row", SQL: mend}}
	case r.IdentityIndex != "":
		return []preflight.Check{{Detail: fmt.Sprintf("has REPLICA IDENTITY USING INDEX %s, which is not the primary key", r.IdentityIndex),
			Hint: strings.TrimSuffix(mend, ";") + ", if no other reader of the WAL needs that index"}}
	case r.Identity == "f" && r.Generated && s.Version >= 180000:
		return []preflight.Check{{Detail: "has REPLICA IDENTITY FULL and a generated column: once it is published, the application's UPDATE and DELETE would fail",
			Hint: strings.TrimSuffix(mend, ";") + ", if no other reader of the WAL needs full before-images; or exclude the table"}}
	}
	return nil
}

// judgeRowSecurity is about rows that policies hide from us: the WAL shows them, a SELECT would not.
func judgeRowSecurity(s serverFacts, tables []tableFacts) []preflight.Check {
	var hidden []string
	for _, t := range tables {
		if slices.ContainsFunc(t.Relations, func(r relationFacts) bool { return r.Filter }) {
			hidden = append(hidden, t.Name)
		}
	}
	if len(hidden) == 0 {
		return nil
	}
	role := quoteName(s.Role)
	c := preflight.Check{Subject: "row security", Detail: "policies may hide rows from " + role + " in " + preflight.SomeOf("tables", hidden)}
	s.only(&c, fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", role), "Otherwise exclude these tables")
	return []preflight.Check{c}
}
