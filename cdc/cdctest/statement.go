package cdctest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Statement writes a change as a statement of SQL of the engine, for a table of the suite by that name.
func (c Change) Statement(e Engine, table string) string {
	switch {
	case c.Truncate:
		return "TRUNCATE TABLE " + table
	case c.Delete:
		return fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, c.Key)
	}
	var columns, values, set []string
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		columns, values = append(columns, name), append(values, literal(name, c.Set[name]))
		set = append(set, name+" = "+literal(name, c.Set[name]))
	}
	if c.From != 0 {
		return fmt.Sprintf("UPDATE %s SET %s WHERE id = %d", table, strings.Join(append(set, fmt.Sprintf("id = %d", c.Key)), ", "), c.From)
	}
	if len(set) == 0 {
		set = []string{"id = " + fmt.Sprint(c.Key)}
	}
	otherwise := "ON CONFLICT (id) DO UPDATE SET "
	if e != Postgres {
		otherwise = "ON DUPLICATE KEY UPDATE "
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) %s%s", table, strings.Join(append(columns, "id"), ", "),
		strings.Join(append(values, fmt.Sprint(c.Key)), ", "), otherwise, strings.Join(set, ", "))
}

// literal writes a value; texts are so long that PostgreSQL keeps them apart from their row.
func literal(column string, v int) string {
	if column == "note" {
		return "'" + strings.Repeat(fmt.Sprintf("%024d", v), 125) + "'"
	}
	return fmt.Sprint(v)
}
