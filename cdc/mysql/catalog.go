package mysql

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Server implements [cdc.Source]. It asks by a connection of its own: one from before stays with the server that it was made to, wherever
// the address leads now. A server_id can be changed while the server runs, so it is nobody's identity.
func (s *Source) Server(ctx context.Context) (cdc.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	c, err := s.open(ctx)
	if err != nil {
		return cdc.Server{}, s.wrap(err)
	}
	defer c.hangUp()
	id, err := c.identify(ctx)
	if err != nil {
		return cdc.Server{}, s.wrap(err)
	}
	if before := s.identity.Swap(&id); before != nil && *before != id {
		s.era.Add(1)
	}
	return cdc.Server{SystemID: id, Version: c.version.String()}, nil
}

// identify asks which server this is.
func (c *session) identify(ctx context.Context) (string, error) {
	query := "SELECT @@server_uuid"
	if c.version.mariadb {
		query = "SELECT CONCAT(@@hostname, ':', @@port, @@datadir)"
	}
	id, err := c.one(ctx, query, 1)
	if err != nil {
		return "", fmt.Errorf("identify server: %w", err)
	}
	return id.at(0), nil
}

// known opens a session with the server that the member has said to be, if it was asked.
func (s *Source) known(ctx context.Context) (*session, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	known := s.identity.Load()
	if known == nil {
		return c, nil
	}
	id, err := c.identify(ctx)
	if err == nil && id != *known {
		err = fmt.Errorf("another server answers than before: %s, was %s", id, *known)
	}
	if err != nil {
		c.hangUp()
		return nil, err
	}
	return c, nil
}

// definition is one table as the catalog defines it: all that is needed to decode its rows and to read them.
type definition struct {
	schema, table string // as the server writes them
	name          string // qualified, as lockstep calls it
	kind          string // TABLE_TYPE
	engine        string
	columns       []columnDefinition // in the order in which row images have them
	key           []keyPart          // the primary key
	rows          int64              // an estimate
	cascades      []string           // the foreign keys that change its rows without a trace, for people
	version       string             // of cdc.Table
}

// columnDefinition is one column of a table, generated and invisible ones included.
type columnDefinition struct {
	name      string // folded: the server compares the names of columns without case
	as        string // as the server writes it
	kind      digest.MySQLType
	collation string
	nullable  bool
	generated string // the expression
}

// keyPart is one column of a primary key.
type keyPart struct {
	column     string // folded
	prefix     bool   // only the first characters count
	descending bool
}

// consistent reports whether reads of the table belong to the view of their transaction. Those of other engines show
// what is there.
func (d *definition) consistent() bool {
	return strings.EqualFold(d.engine, "InnoDB") || strings.EqualFold(d.engine, "RocksDB")
}

// column returns the column of a folded name, or nil.
func (d *definition) column(name string) *columnDefinition {
	for i := range d.columns {
		if d.columns[i].name == name {
			return &d.columns[i]
		}
	}
	return nil
}

// scope is a condition on TABLE_SCHEMA and TABLE_NAME.
type scope string

// everywhere leaves out what the server keeps for itself.
const everywhere scope = "TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')"

func only(r relation) scope {
	return scope("TABLE_SCHEMA = " + quoteText(r.schema) + " AND TABLE_NAME = " + quoteText(r.table))
}

// Views, sequences and temporary tables are not of these types.
const tablesQuery = `
SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS FROM information_schema.TABLES
WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND %s`

const columnsQuery = `
SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, EXTRA,
  GENERATION_EXPRESSION
FROM information_schema.COLUMNS WHERE %s
ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION`

const keysQuery = `
SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, SUB_PART IS NOT NULL, COLLATION = 'D'
FROM information_schema.STATISTICS WHERE INDEX_NAME = 'PRIMARY' AND %s
ORDER BY TABLE_SCHEMA, TABLE_NAME, SEQ_IN_INDEX`

// relation names a table as the server does.
type relation struct{ schema, table string }

// catalogView is what was read of the catalog for one answer of Tables.
type catalogView struct {
	scope  scope
	fold   bool // names of tables are compared without case
	tables map[relation]*definition
	log    logFilters
}

// Tables implements [cdc.Source].
func (s *Source) Tables(ctx context.Context, match func(name string) bool) ([]cdc.Table, error) {
	var tables []cdc.Table
	err := s.ask(ctx, func(ctx context.Context, c *session) error {
		view, err := s.readCatalog(ctx, c, match)
		if err != nil {
			return err
		}
		s.fold.Store(view.fold)
		found := make([]*definition, 0, len(view.tables))
		for _, d := range view.tables {
			found = append(found, d)
		}
		slices.SortFunc(found, func(a, b *definition) int {
			return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.schema, b.schema))
		})
		tables = make([]cdc.Table, len(found))
		for i, d := range found {
			tables[i] = view.describe(d)
		}
		s.define(match, found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tables, nil
}

// readCatalog reads all tables that match, by one query for each kind of thing, however many tables there are.
func (s *Source) readCatalog(ctx context.Context, c *session, match func(name string) bool) (*catalogView, error) {
	v := &catalogView{scope: everywhere, tables: map[relation]*definition{}}
	lower, err := c.one(ctx, "SELECT @@lower_case_table_names", 1)
	if err != nil {
		return nil, err
	}
	v.fold = lower.at(0) != "0"
	if err := v.readDefinitions(ctx, c, match); err != nil {
		return nil, err
	}
	if err := v.readForeignKeys(ctx, c); err != nil {
		return nil, err
	}
	if !s.options.ScanOnly {
		v.log, err = readLogFilters(ctx, c)
	}
	return v, err
}

// unchanged makes sure that the table is defined as d.
func (c *session) unchanged(ctx context.Context, d *definition) error {
	at := relation{d.schema, d.table}
	v := &catalogView{scope: only(at), tables: map[relation]*definition{}}
	if err := v.readDefinitions(ctx, c, func(string) bool { return true }); err != nil {
		return err
	}
	if now := v.tables[at]; now == nil || now.hash() != d.version {
		return errRedefined
	}
	return nil
}

// readDefinitions reads what tables are made of.
func (v *catalogView) readDefinitions(ctx context.Context, c *session, match func(name string) bool) error {
	rows, err := c.query(ctx, fmt.Sprintf(tablesQuery, v.scope))
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	for _, r := range rows {
		d := &definition{schema: r.at(0), table: r.at(1), name: qualified(r.at(0), r.at(1), v.fold), kind: r.at(2), engine: r.at(3), rows: -1}
		if n, err := strconv.ParseInt(r.at(4), 10, 64); err == nil {
			d.rows = n
		}
		if match(d.name) {
			v.tables[relation{d.schema, d.table}] = d
		}
	}
	if err := v.readColumns(ctx, c); err != nil {
		return err
	}
	return v.readKeys(ctx, c)
}

// qualified is what lockstep calls a table.
func qualified(schema, table string, fold bool) string {
	name := schema + "." + table
	if fold {
		name = strings.ToLower(name)
	}
	return name
}

func (v *catalogView) readColumns(ctx context.Context, c *session) error {
	rows, err := c.query(ctx, fmt.Sprintf(columnsQuery, v.scope))
	if err != nil {
		return fmt.Errorf("read columns: %w", err)
	}
	for _, r := range rows {
		d := v.tables[relation{r.at(0), r.at(1)}]
		if d == nil {
			continue
		}
		column := columnDefinition{
			name:      foldColumn(r.at(2)),
			as:        r.at(2),
			kind:      digest.MySQLType{DataType: strings.ToLower(r.at(3)), ColumnType: r.at(4), Charset: r.at(5)},
			collation: r.at(6),
			nullable:  r.at(7) == "YES",
		}
		if !strings.Contains(column.kind.ColumnType, "'") { // no label of an enum
			column.kind.Unsigned = strings.Contains(column.kind.ColumnType, " unsigned")
		}
		if extra := strings.ToUpper(r.at(8)); strings.Contains(extra, "VIRTUAL") || strings.Contains(extra, "STORED") || strings.Contains(extra, "PERSISTENT") {
			column.generated = extra + " " + r.at(9)
		}
		d.columns = append(d.columns, column)
	}
	return nil
}

// foldColumn gives the name of a column the case that all members share.
func foldColumn(name string) string { return strings.ToLower(name) }

func (v *catalogView) readKeys(ctx context.Context, c *session) error {
	rows, err := c.query(ctx, fmt.Sprintf(keysQuery, v.scope))
	if err != nil {
		return fmt.Errorf("read primary keys: %w", err)
	}
	for _, r := range rows {
		if d := v.tables[relation{r.at(0), r.at(1)}]; d != nil {
			d.key = append(d.key, keyPart{column: foldColumn(r.at(2)), prefix: r.at(3) == "1", descending: r.at(4) == "1"})
		}
	}
	return nil
}

// describe makes of a definition what the other packages know of a table.
func (v *catalogView) describe(d *definition) cdc.Table {
	t := cdc.Table{Name: d.name, Leaves: []string{d.name}, Rows: d.rows}
	for _, c := range d.columns {
		t.Columns = append(t.Columns, digest.MySQLColumn(c.name, c.kind))
	}
	slices.SortFunc(t.Columns, func(a, b digest.Column) int { return cmp.Compare(a.Name, b.Name) })
	for _, k := range d.key {
		t.Key = append(t.Key, k.column)
	}
	d.version = d.hash()
	t.Version, t.Order = d.version, d.order()
	if len(d.cascades) > 0 {
		t.Hides = "changes made by " + strings.Join(d.cascades, ", ")
	}
	t.Problem, t.Hint = v.judge(d, t)
	return t
}

// hash is over what shapes rows. It leaves out what changes by itself (AUTO_INCREMENT, statistics) and what no row shows
// (indexes, defaults, partitions).
func (d *definition) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n", d.kind, strings.ToLower(d.engine))
	for _, c := range d.columns {
		fmt.Fprintf(h, "%q %q %q %q %t %q\n", c.name, c.kind.ColumnType, c.kind.Charset, c.collation, c.nullable, c.generated)
	}
	for _, k := range d.key {
		fmt.Fprintf(h, "%q %t\n", k.column, k.prefix)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// keptDefinitions is how many definitions of a table are remembered: the ledger may still work with the last but one.
const keptDefinitions = 4

// define remembers the definitions of tables, of all that match.
func (s *Source) define(match func(name string) bool, found []*definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = slices.DeleteFunc(s.listed, match)
	for _, d := range found {
		s.listed = append(s.listed, d.name)
		kept := slices.DeleteFunc(s.definitions[d.name], func(o *definition) bool { return o.version == d.version })
		if len(kept) == keptDefinitions {
			kept = kept[1:]
		}
		s.definitions[d.name] = append(kept, d)
	}
}

// definition returns what t was made of, or nil if that is long ago.
func (s *Source) definition(t cdc.Table) *definition {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.definitions[t.Name] {
		if d.version == t.Version {
			return d
		}
	}
	return nil
}
