package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// publicationFacts is lockstep's publication on one member.
type publicationFacts struct {
	AllTables, Insert, Update, Delete, Truncate, ViaRoot bool
	tables                                               []publishedFacts
	roots                                                []string // partitioned tables that it names, by themselves or with their schema
}

// publishedFacts is a relation that a publication publishes.
type publishedFacts struct {
	Schema, Name string
	Narrowed     bool // by a row filter or a column list
}

const publicationQuery = `
SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
FROM pg_catalog.pg_publication WHERE pubname = $1`

// A partition that is published by its root takes filter and columns from there. Only pg_publication_tables can tell what
// is published; pg_publication_rel tells what was written.
const publishedQuery = `
SELECT t.schemaname::text, t.tablename::text,
  t.rowfilter IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
    JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
    WHERE p.pubname = t.pubname AND r.prattrs IS NOT NULL
      AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid))))
FROM pg_catalog.pg_publication_tables t
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class c ON c.relname = t.tablename AND c.relnamespace = n.oid
WHERE t.pubname = $1 ORDER BY 1, 2`

// A partition that is made later is published if its root is.
var publishedRootsQuery = `
SELECT ` + qualifiedSQL("n", "c") + ` FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_publication p ON p.pubname = $1
WHERE c.relkind = 'p' AND (EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
  OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = n.oid))`

// readPublication returns nil if there is none.
func readPublication(ctx context.Context, conn *pgx.Conn, name string) (*publicationFacts, error) {
	var p publicationFacts
	err := conn.QueryRow(ctx, publicationQuery, name).Scan(&p.AllTables, &p.Insert, &p.Update, &p.Delete, &p.Truncate, &p.ViaRoot)
	if err == pgx.ErrNoRows {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	if p.tables, err = collect[publishedFacts](ctx, conn, publishedQuery, name); err != nil {
		return nil, fmt.Errorf("read tables of publication %q: %w", name, err)
	}
	rows, err := conn.Query(ctx, publishedRootsQuery, name)
	if err == nil {
		p.roots, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, fmt.Errorf("read tables of publication %q: %w", name, err)
	}
	return &p, nil
}

// publicationOptions say that everything is published, under the names of the relations that hold the rows: of a root,
// TRUNCATE of one partition would leave no trace.
const publicationOptions = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"

// judgePublication holds the publication against the tables that match. Tables that are unfit are left out of it, and
// named by checks of their own.
func judgePublication(name string, p *publicationFacts, s serverFacts, tables []tableFacts) []preflight.Check {
	subject := "publication " + name
	wanted := slices.DeleteFunc(slices.Clone(tables), func(t tableFacts) bool { return t.unfit(s) != "" })
	switch {
	case p == nil:
		return []preflight.Check{{Subject: subject, Detail: "does not exist", SQL: joinSQL(createPublication(name), setTables(name, wanted))}}
	case p.AllTables:
		return []preflight.Check{{Subject: subject, Detail: "is FOR ALL TABLES, which breaks updates of tables without a primary key",
			SQL: joinSQL("DROP PUBLICATION IF EXISTS "+quoteName(name)+";", createPublication(name), setTables(name, wanted))}}
	}
	checks := []preflight.Check{judgePublished(subject, name, p, wanted)}
	if !p.Insert || !p.Update || !p.Delete || !p.Truncate || p.ViaRoot {
		checks = append(checks, preflight.Check{Subject: subject, Detail: "does not publish every operation of every partition",
			SQL: fmt.Sprintf("ALTER PUBLICATION %s SET (%s);", quoteName(name), publicationOptions)})
	}
	return checks
}

func judgePublished(subject, name string, p *publicationFacts, wanted []tableFacts) preflight.Check {
	published := map[string]bool{} // and whether narrowed
	for _, t := range p.tables {
		published[qualified(t.Schema, t.Name)] = t.Narrowed
	}
	var missing, narrowed, single []string
	count := 0
	for _, t := range wanted {
		for _, r := range t.leaves() {
			full := r.qualified()
			part, there := published[full]
			switch {
			case !there:
				missing = append(missing, full)
			case part:
				narrowed = append(narrowed, full)
			}
			delete(published, full)
			count++
		}
		if t.partitioned() && !slices.Contains(p.roots, t.Name) {
			single = append(single, t.Name)
		}
	}
	var surplus []string
	for full := range published {
		surplus = append(surplus, full)
	}
	slices.Sort(surplus)
	c := preflight.Check{Subject: subject, State: preflight.OK, Detail: fmt.Sprintf("publishes %d tables and partitions", count)}
	var wrong []string
	for _, w := range []struct {
		what  string
		names []string
	}{{"lacks ", missing}, {"has a row filter or column list for ", narrowed}, {"publishes more than it should: ", surplus}} {
		if len(w.names) > 0 {
			wrong = append(wrong, w.what+preflight.SomeOf("tables", w.names))
		}
	}
	switch {
	case len(wrong) > 0:
		c.State, c.Detail, c.SQL = preflight.Fail, strings.Join(wrong, "; "), setTables(name, wanted)
	case len(single) > 0:
		c.State, c.SQL = preflight.Warn, setTables(name, wanted)
		c.Detail = "has partitions of " + preflight.SomeOf("tables", single) + " one by one: those that are made later are not in it"
	}
	return c
}

// createPublication is a DO block since CREATE PUBLICATION knows no IF NOT EXISTS.
func createPublication(name string) string {
	create := fmt.Sprintf("CREATE PUBLICATION %s WITH (%s)", quoteName(name), publicationOptions)
	return doBlock(fmt.Sprintf("IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = %s) THEN\n    %s;\n  END IF;",
		quoteText(name), create))
}

// setTables replaces the whole list, filters and column lists too, so it may run any number of times. ONLY keeps tables
// that inherit from a listed one out; of a partitioned one the root, which comes first, stands for all partitions that there will be.
func setTables(name string, tables []tableFacts) string {
	if len(tables) == 0 {
		return ""
	}
	lines := make([]string, len(tables))
	for i, t := range tables {
		lines[i] = "\n  ONLY " + quoteName(t.Relations[0].Schema, t.Relations[0].Name)
	}
	return fmt.Sprintf("ALTER PUBLICATION %s SET TABLE%s;", quoteName(name), strings.Join(lines, ","))
}

func joinSQL(statements ...string) string {
	return strings.Join(slices.DeleteFunc(statements, func(s string) bool { return s == "" }), "\n")
}
