package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// engines are those that log the changes of their rows, and have rows of their own.
var engines = []string{"innodb", "rocksdb", "myisam", "aria"}

// judge returns the first thing that keeps a table from being watched, and what mends it.
func (v *catalogView) judge(d *definition, t cdc.Table) (problem, hint string) {
	name := quoteName(d.schema, d.table)
	switch {
	case strings.Contains(d.schema, ".") || strings.Contains(d.table, "."):
		return "has a dot in its name, which lockstep cannot tell from the one between schema and table", "rename it, or exclude it"
	case d.kind == "SYSTEM VERSIONED":
		return "is system-versioned: its log shows rows of the past like rows of now", "exclude it"
	case d.engine == "":
		return "cannot be opened by the server", fmt.Sprintf("CHECK TABLE %s;", name)
	case !slices.Contains(engines, strings.ToLower(d.engine)):
		return fmt.Sprintf("is of engine %s, whose rows the log does not tell", d.engine), fmt.Sprintf("exclude it, or ALTER TABLE %s ENGINE = InnoDB;", name)
	case len(d.columns) == 0:
		return "shows none of its columns to us", "grant SELECT on the whole table"
	case len(d.key) == 0:
		return "has no primary key", fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (...);", name)
	case !v.log.has(d.schema):
		return fmt.Sprintf("is kept out of the log (%s)", v.log), "exclude it, or change that setting"
	}
	if i := slices.IndexFunc(d.key, func(k keyPart) bool { return k.prefix }); i >= 0 {
		return fmt.Sprintf("has a primary key of which only the start of column %q counts", d.key[i].column), "give it a primary key of whole columns, or exclude it"
	}
	return judgeKey(t)
}

// judgeKey asks the digests whether they can make keys of the table.
func judgeKey(t cdc.Table) (problem, hint string) {
	shape := digest.Shape{Table: t.Name, Columns: t.Columns}
	for _, name := range t.Key {
		shape.Key = append(shape.Key, slices.IndexFunc(t.Columns, func(c digest.Column) bool { return c.Name == name }))
	}
	if _, err := digest.NewEncoder(digest.NewHasher([32]byte{}), shape); err != nil {
		return strings.TrimPrefix(err.Error(), "table "+t.Name+": "), "give it a primary key of other columns, or exclude it"
	}
	return "", ""
}

// logFilters say which schemas the server logs changes of. In row format the schema of the table counts
// (https://dev.mysql.com/doc/refman/9.0/en/replication-rules-db-options.html).
type logFilters struct{ do, ignore []string }

func readLogFilters(ctx context.Context, c *session) (logFilters, error) {
	status, err := readLogStatus(ctx, c)
	if err != nil {
		return logFilters{}, err
	}
	return logFilters{do: list(status.text("Binlog_Do_DB")), ignore: list(status.text("Binlog_Ignore_DB"))}, nil
}

// has reports whether changes of a schema's tables are logged.
func (f logFilters) has(schema string) bool {
	if len(f.do) > 0 {
		return slices.Contains(f.do, schema)
	}
	return !slices.Contains(f.ignore, schema)
}

func (f logFilters) String() string {
	if len(f.do) > 0 {
		return "binlog_do_db=" + strings.Join(f.do, ",")
	}
	return "binlog_ignore_db=" + strings.Join(f.ignore, ",")
}

// list splits what the server shows of a filter.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
