package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// pageable reports whether the order of the key's values, and how a value is written in a statement, are known without
// doubt. An enum is ordered by its numbers and compared by its labels, a year of 0 to 69 is another one when written, and
// what a floating-point number is written as need not be read as that number.
func (d *definition) pageable() bool {
	return len(d.key) > 0 && !slices.ContainsFunc(d.key, func(k keyPart) bool {
		c := d.column(k.column)
		return c == nil || k.prefix || literals[c.kind.DataType] == nil
	})
}

// order says how the server's order of the primary key relates to the order of its digest keys.
func (d *definition) order() cdc.Order {
	if !d.pageable() {
		return cdc.Unordered
	}
	if slices.ContainsFunc(d.key, func(k keyPart) bool { return k.descending || !d.column(k.column).keyOrdered() }) {
		return cdc.ServerOrder
	}
	return cdc.KeyOrder
}

// keyOrdered reports whether the server orders the column's values as digest keys are ordered.
//
// Dates that no calendar has (2024-00-15) are among the others for the server, and before them all in a key. Of those a
// TIMESTAMP can be zero only, which comes first for both. UUIDs of some versions MariaDB orders by time. Text is ordered as its bytes by few collations: most of those
// that end in _bin compare as if the shorter text went on with spaces, so that a tab comes before nothing.
func (d *columnDefinition) keyOrdered() bool {
	switch d.kind.DataType {
	case "date", "datetime", "char", "uuid":
		return false
	case "varchar":
		return bytewise[d.collation]
	}
	return true
}

// bytewise are the collations that order text as the bytes of its UTF-8.
var bytewise = map[string]bool{
	"utf8mb4_0900_bin": true, "utf8mb4_nopad_bin": true, "utf8mb3_nopad_bin": true, "ascii_nopad_bin": true,
}

// pager makes the statements that read parts of a table.
type pager struct {
	from, order string
	shape       digest.Shape
	columns     []*columnDefinition // of the key, in its order; none: the table is read whole only
	names       []string            // theirs, quoted
	descending  []bool
}

// newPager selects a list of columns.
func newPager(d *definition, list string, shape digest.Shape) *pager {
	p := &pager{from: "SELECT " + list + " FROM " + quoteName(d.schema, d.table), shape: shape}
	if !d.pageable() {
		return p
	}
	var order []string
	for _, k := range d.key {
		column := d.column(k.column)
		name, direction := quoteName(column.as), ""
		if k.descending {
			direction = " DESC"
		}
		p.columns, p.names, p.descending = append(p.columns, column), append(p.names, name), append(p.descending, k.descending)
		order = append(order, name+direction)
	}
	p.from += " FORCE INDEX (PRIMARY)"
	p.order = " ORDER BY " + strings.Join(order, ", ")
	return p
}

var errUnordered = errors.New("its primary key is of a type by which parts of it cannot be read")

// statement selects a part; it is empty if no row can be in it.
func (p *pager) statement(part cdc.Part) (string, error) {
	switch {
	case part.Keys != nil:
		return p.keys(part.Keys)
	case len(p.columns) > 0:
	case part.After != nil || part.Through != nil || part.Limit > 0:
		return "", errUnordered
	}
	var bounds []string
	for _, b := range []struct {
		key   digest.Key
		bound func([]string) string
	}{{part.After, p.after}, {part.Through, p.through}} {
		if b.key == nil {
			continue
		}
		values, err := keyLiterals(p.columns, p.shape, b.key)
		if err != nil {
			return "", fmt.Errorf("read from or up to a key: %w", err)
		}
		bounds = append(bounds, "("+b.bound(values)+")")
	}
	statement := p.from
	if len(bounds) > 0 {
		statement += " WHERE " + strings.Join(bounds, " AND ")
	}
	statement += p.order
	if part.Limit > 0 {
		statement += " LIMIT " + strconv.Itoa(part.Limit)
	}
	return statement, nil
}

// after says in SQL: behind the row with these values. Of a key (a, b) that is a > x OR (a = x AND b > y), which the
// server reads off the index from there on; of (a, b) > (x, y) it would go through the whole index.
func (p *pager) after(values []string) string { return p.beyond(values, false) }

// through says: not behind the row with these values.
func (p *pager) through(values []string) string {
	return p.beyond(values, true) + " OR (" + p.equal(values) + ")"
}

// beyond is after, or the same in the other direction.
func (p *pager) beyond(values []string, before bool) string {
	ways := make([]string, len(values))
	for i, value := range values {
		compare := " > "
		if p.descending[i] != before {
			compare = " < "
		}
		way := p.names[i] + compare + value
		if i > 0 {
			way = p.equal(values[:i]) + " AND " + way
		}
		ways[i] = "(" + way + ")"
	}
	return strings.Join(ways, " OR ")
}

// equal says: of these values, of the first columns of the key.
func (p *pager) equal(values []string) string {
	terms := make([]string, len(values))
	for i, value := range values {
		terms[i] = p.names[i] + " = " + value
	}
	return strings.Join(terms, " AND ")
}

// keys selects the rows of certain keys. A key that the table cannot have is left out.
func (p *pager) keys(keys []digest.Key) (string, error) {
	if len(p.columns) == 0 {
		return "", errUnordered
	}
	var ways []string
	for _, k := range keys {
		values, err := keyLiterals(p.columns, p.shape, k)
		switch {
		case errors.Is(err, errNoValue):
		case err != nil:
			return "", fmt.Errorf("read a key: %w", err)
		case len(values) == 1:
			ways = append(ways, values[0])
		default:
			ways = append(ways, "("+p.equal(values)+")")
		}
	}
	if len(ways) == 0 {
		return "", nil
	}
	if len(p.columns) == 1 {
		return p.from + " WHERE " + p.names[0] + " IN (" + strings.Join(ways, ", ") + ")", nil
	}
	return p.from + " WHERE " + strings.Join(ways, " OR "), nil
}
