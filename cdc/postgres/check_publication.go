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
	return &p, nil
}

// publicationOptions say that everything is published, under the names of the relations that hold the rows: of a root,
// TRUNCATE of one partition would leave no trace.
const publicationOptions = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"

// judgePublication holds the publication against the tables that match. Tables that are unfit are left out of it, and
// named by checks of their own.
func judgePublication(name string, p *publicationFacts, s serverFacts, tables []tableFacts) []preflight.Check {
	subject := "publication " + name
	var wanted []relationFacts
	for _, t := range tables {
		if t.unfit(s) == "" {
			wanted = append(wanted, t.leaves()...)
		}
	}
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

func judgePublished(subject, name string, p *publicationFacts, wanted []relationFacts) preflight.Check {
	published := map[string]bool{} // and whether narrowed
	for _, t := range p.tables {
		published[qualified(t.Schema, t.Name)] = t.Narrowed
	}
	var missing, narrowed []string
	for _, r := range wanted {
		full := r.qualified()
		part, there := published[full]
		switch {
		case !there:
			missing = append(missing, full)
		case part:
			narrowed = append(narrowed, full)
		}
		delete(published, full)
	}
	var surplus []string
	for full := range published {
		surplus = append(surplus, full)
	}
	slices.Sort(surplus)
	c := preflight.Check{Subject: subject, State: preflight.OK, Detail: fmt.Sprintf("publishes %d tables and partitions", len(wanted))}
	var wrong []string
	for _, w := range []struct {
		what  string
		names []string
	}{{"lacks ", missing}, {"has a row filter or column list for ", narrowed}, {"publishes more than it should: ", surplus}} {
		if len(w.names) > 0 {
			wrong = append(wrong, w.what+preflight.SomeOf("tables", w.names))
		}
	}
	if len(wrong) > 0 {
		c.State, c.Detail, c.SQL = preflight.Fail, strings.Join(wrong, "; "), setTables(name, wanted)
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
// that inherit from a listed one out.
func setTables(name string, relations []relationFacts) string {
	if len(relations) == 0 {
		return ""
	}
	lines := make([]string, len(relations))
	for i, r := range relations {
		lines[i] = "\n  ONLY " + quoteName(r.Schema, r.Name)
	}
	return fmt.Sprintf("ALTER PUBLICATION %s SET TABLE%s;", quoteName(name), strings.Join(lines, ","))
}

func joinSQL(statements ...string) string {
	return strings.Join(slices.DeleteFunc(statements, func(s string) bool { return s == "" }), "\n")
}
