package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// Server implements [cdc.Source]. Only a replication connection tells the timeline at once after a promotion.
func (s *Source) Server(ctx context.Context) (cdc.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	conn, err := s.login(ctx, true)
	if err != nil {
		return cdc.Server{}, s.wrap(err)
	}
	defer hangUp(conn)
	is, err := pglogrepl.IdentifySystem(ctx, conn.PgConn())
	if err != nil {
		return cdc.Server{}, s.wrap(fmt.Errorf("identify system: %w", err))
	}
	recovery, err := simpleQuery(ctx, conn.PgConn(), "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil || len(recovery) != 1 {
		return cdc.Server{}, s.wrap(fmt.Errorf("ask whether the server is a standby: %w", err))
	}
	standby := string(recovery[0][0]) == "t"
	s.standby.Store(standby)
	server := cdc.Server{
		Standby:  standby,
		SystemID: is.SystemID,
		Timeline: is.Timeline,
		Database: is.DBName,
		Version:  conn.PgConn().ParameterStatus("server_version"),
	}
	if before := s.identity.Swap(&server); before != nil && before.SystemID != server.SystemID {
		s.era.Add(1)
	}
	return server, nil
}

// attribute is a column of one relation of a table.
type attribute struct {
	Relation uint32
	Name     string
	Type     uint32
	Movable  bool // its values may be stored out of line, if the type allows
	Bytewise bool // it is text that is ordered by its bytes, or no text
}

// Texts come as UTF-8, whose bytes are in the order of Unicode, as LATIN1's are; of a database in SQL_ASCII they come as they
// are. Others have orders of their own.
const attributesQuery = `
SELECT attrelid, attname::text, atttypid, attstorage <> 'p',
  attcollation = 0 OR pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII', 'LATIN1') AND EXISTS (SELECT FROM pg_catalog.pg_collation c WHERE c.oid = attcollation AND (
    c.collprovider = 'c' AND c.collcollate IN ('C', 'POSIX') OR
    c.collprovider = 'd' AND EXISTS (SELECT FROM pg_catalog.pg_database d
      WHERE d.datname = current_database() AND d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX'))))
FROM pg_catalog.pg_attribute
WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`

// revision is what of a relation changes with its definition.
type revision struct {
	Relation uint32
	Text     string
	Rows     int64
}

// The xmin of pg_attribute tells a column from another one of the same name and type that took its place. Those of our
// publication and of what puts the relation into it tell that it was altered, and perhaps put back since: what was written
// meanwhile is not in the stream. A row of a catalog keeps its xmin when it is frozen.
const revisionsQuery = `
SELECT c.oid,
  coalesce((SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.xmin), ',' ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '') || ' ' ||
  coalesce((SELECT i.indkey::text FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), '') || ' ' ||
  coalesce((SELECT concat_ws(' ', p.oid, p.xmin,
      (SELECT string_agg(concat_ws(' ', r.oid, r.xmin), ',' ORDER BY r.oid) FROM pg_catalog.pg_publication_rel r
        WHERE r.prpubid = p.oid AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid)))),
      (SELECT string_agg(concat_ws(' ', n.oid, n.xmin), ',' ORDER BY n.oid) FROM pg_catalog.pg_publication_namespace n
        WHERE n.pnpubid = p.oid AND n.pnnspid IN (SELECT o.relnamespace FROM pg_catalog.pg_class o
          WHERE o.oid = c.oid OR o.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid)))))
    FROM pg_catalog.pg_publication p WHERE p.pubname = $2), ''),
  c.reltuples::bigint
FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)`

// catalogView is what was read of the catalog for one answer of Tables.
type catalogView struct {
	options     Options
	server      serverFacts
	publication *publicationFacts
	scanOnly    bool
	types       map[uint32]columnType
	attributes  map[uint32][]attribute
	revisions   map[uint32]revision
}

// Tables implements [cdc.Source]. It judges as [Options.Check] does.
func (s *Source) Tables(ctx context.Context, match func(name string) bool) ([]cdc.Table, error) {
	var tables []cdc.Table
	err := s.askBy(ctx, s.definitions, func(ctx context.Context, conn *pgx.Conn) error {
		// From version 16 on the server looks into tables to tell what is published of them.
		return within(ctx, conn, "lock_timeout", s.lock, func() (err error) {
			tables, err = s.readDefinitions(ctx, conn, match)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return tables, nil
}

// Gone implements [cdc.Source]. Who may connect may read the whole of pg_class; it has to be that of the server that was asked who it is.
func (s *Source) Gone(ctx context.Context, names []string) (gone []string, doubt string, err error) {
	err = s.askBy(ctx, s.definitions, func(ctx context.Context, conn *pgx.Conn) error {
		server, err := readServer(ctx, conn, s.options.Slot)
		if err != nil {
			return err
		}
		if was := s.identity.Load(); was != nil && was.SystemID != server.SystemID {
			return errors.New("the address leads to another server")
		}
		there, err := readTables(ctx, conn, func(name string) bool { return slices.Contains(names, name) })
		gone = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return slices.ContainsFunc(there, func(t tableFacts) bool { return t.Name == name })
		})
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return gone, "", nil
}

func (s *Source) readDefinitions(ctx context.Context, conn *pgx.Conn, match func(name string) bool) ([]cdc.Table, error) {
	facts, err := readTables(ctx, conn, match)
	if err != nil {
		return nil, err
	}
	view, err := s.viewCatalog(ctx, conn, facts)
	if err != nil {
		return nil, err
	}
	tables := make([]cdc.Table, len(facts))
	for i, t := range facts {
		tables[i] = view.table(t)
	}
	s.setTypes(view.types)
	return tables, readCarriers(ctx, conn, tables)
}

func (s *Source) viewCatalog(ctx context.Context, conn *pgx.Conn, facts []tableFacts) (*catalogView, error) {
	v := &catalogView{options: s.options, scanOnly: s.scanOnly(), attributes: map[uint32][]attribute{}, revisions: map[uint32]revision{}}
	var relations []uint32
	for _, t := range facts {
		for _, r := range t.Relations {
			relations = append(relations, r.OID)
		}
	}
	var err error
	if v.server, err = readServer(ctx, conn, s.options.Slot); err != nil {
		return nil, err
	}
	if v.publication, err = readPublication(ctx, conn, s.options.Publication); err != nil {
		return nil, err
	}
	if v.types, err = loadTypes(ctx, conn); err != nil {
		return nil, err
	}
	attributes, err := collect[attribute](ctx, conn, attributesQuery, relations)
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	for _, a := range attributes {
		v.attributes[a.Relation] = append(v.attributes[a.Relation], a)
	}
	revisions, err := collect[revision](ctx, conn, revisionsQuery, relations, s.options.Publication)
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	for _, r := range revisions {
		v.revisions[r.Relation] = r
	}
	return v, nil
}

func (v *catalogView) table(t tableFacts) cdc.Table {
	table := cdc.Table{Name: t.Name, Key: t.Key, Columns: v.columns(t), Version: v.version(t), Rows: -1}
	table.Leaves = t.leafNames()
	for _, leaf := range t.leaves() {
		if rows := v.revisions[leaf.OID].Rows; rows >= 0 {
			table.Rows = max(table.Rows, 0) + rows
		}
	}
	table.Order = v.order(t, table)
	table.Problem, table.Hint = v.problem(t, table)
	return table
}

// columns are those of the root; a value may be left out of an update if it may be in any partition.
func (v *catalogView) columns(t tableFacts) []digest.Column {
	movable := map[string]bool{}
	for _, r := range t.leaves() {
		for _, a := range v.attributes[r.OID] {
			movable[a.Name] = movable[a.Name] || a.Movable
		}
	}
	var columns []digest.Column
	for _, a := range v.attributes[t.Relations[0].OID] {
		kind := v.types[a.Type].PostgresType
		kind.Toastable = kind.Toastable && movable[a.Name]
		columns = append(columns, digest.PostgresColumn(a.Name, kind))
	}
	slices.SortFunc(columns, func(a, b digest.Column) int { return cmp.Compare(a.Name, b.Name) })
	return columns
}

func (v *catalogView) version(t tableFacts) string {
	h := sha256.New()
	for _, r := range t.Relations {
		fmt.Fprintf(h, "%d %s\n", r.OID, v.revisions[r.OID].Text)
		for _, a := range v.attributes[r.OID] {
			fmt.Fprintf(h, "%s\n", v.types[a.Type].detail)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// problem returns the first thing that keeps the table from being watched.
func (v *catalogView) problem(t tableFacts, table cdc.Table) (problem, hint string) {
	checks := judgeUsage(v.server, []tableFacts{t})
	checks = append(checks, judgeTable(v.server, t)...)
	checks = append(checks, v.judgeKey(table)...)
	if !v.scanOnly {
		checks = append(checks, v.judgePublished(t)...)
	}
	checks = append(checks, judgeRowSecurity(v.server, []tableFacts{t})...)
	for _, c := range checks {
		if c.State == preflight.Fail {
			return strings.TrimSpace(strings.TrimPrefix(c.Subject, "table "+t.Name) + " " + c.Detail), cmp.Or(c.SQL, c.Hint)
		}
	}
	return "", ""
}

// judgeKey asks the digests whether they can make keys of the table.
func (v *catalogView) judgeKey(t cdc.Table) []preflight.Check {
	if len(t.Key) == 0 {
		return nil
	}
	shape := digest.Shape{Table: t.Name, Columns: t.Columns}
	for _, name := range t.Key {
		shape.Key = append(shape.Key, slices.IndexFunc(t.Columns, func(c digest.Column) bool { return c.Name == name }))
	}
	if _, err := digest.NewEncoder(digest.NewHasher([32]byte{}), shape); err != nil {
		return []preflight.Check{{Detail: strings.TrimPrefix(err.Error(), "table "+t.Name+": "), Hint: "give the table a primary key of other types, or exclude it"}}
	}
	return nil
}

// judgePublished is about one table in lockstep's publication.
func (v *catalogView) judgePublished(t tableFacts) []preflight.Check {
	p, name := v.publication, quoteName(v.options.Publication)
	if p == nil {
		return []preflight.Check{{Detail: fmt.Sprintf("publication %q does not exist", v.options.Publication),
			Hint: fmt.Sprintf("run the SQL that `lockstep check -o sql --member %s` prints", v.options.Member)}}
	}
	var checks []preflight.Check
	for _, r := range t.leaves() {
		i := slices.IndexFunc(p.tables, func(t publishedFacts) bool { return t.Schema == r.Schema && t.Name == r.Name })
		relation := quoteName(r.Schema, r.Name)
		add := fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE ONLY %s;", name, relation)
		if t.partitioned() { // for those of its partitions, too, that are made later
			add = fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE ONLY %s;", name, quoteName(t.Relations[0].Schema, t.Relations[0].Name))
		}
		switch {
		case i < 0 && !p.ViaRoot:
			checks = append(checks, preflight.Check{Detail: fmt.Sprintf("%s is not in publication %q", relation, v.options.Publication), SQL: add})
		case i >= 0 && p.tables[i].Narrowed:
			checks = append(checks, preflight.Check{Detail: fmt.Sprintf("%s has a row filter or a column list in publication %q", relation, v.options.Publication),
				SQL: fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; %s", name, relation, add)})
		}
	}
	if !p.Insert || !p.Update || !p.Delete || !p.Truncate || p.ViaRoot {
		checks = append(checks, preflight.Check{Detail: fmt.Sprintf("publication %q does not publish every operation of every partition", v.options.Publication),
			SQL: fmt.Sprintf("ALTER PUBLICATION %s SET (%s);", name, publicationOptions)})
	}
	return checks
}
