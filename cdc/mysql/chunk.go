package mysql

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"lockstep/cdc"
	"lockstep/digest"
)

// The number of rows of a chunk: at first, and the bounds within which the time that chunks take moves it.
const (
	firstChunk = 1000
	minChunk   = 100
	maxChunk   = 100_000
)

// pageable reports whether the order of the key's values, and how a value is written in a statement, are known without
// doubt. An enum is ordered by its numbers and compared by its labels, a year of 0 to 69 is another one when written, and
// what a floating-point number is written as need not be read as that number.
func (d *definition) pageable() bool {
	return !slices.ContainsFunc(d.key, func(k keyPart) bool {
		c := d.column(k.column)
		return c == nil || literals[c.kind.DataType] == nil
	})
}

// chunks reads a table in the order of its primary key. A chunk begins after the last key of the one before, so a key
// comes once; of a row whose key moved meanwhile both keys may come, and the stream tells which one is right.
func (v *snapshot) chunks(ctx context.Context, d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) error {
	r, err := v.reader(d, e, yield)
	if err != nil {
		return err
	}
	p := newPager(d, r.list, e.Shape)
	limit, after := v.source.firstChunk, ""
	for {
		n, began := 0, time.Now()
		var last []wire.FieldValue
		err := v.conn.stream(ctx, p.statement(after, limit), func(values []wire.FieldValue) error {
			n++
			last = values
			return r.row(values)
		})
		if err != nil || n < limit {
			return err
		}
		if after, err = p.after(last); err != nil {
			return err
		}
		limit = nextChunk(limit, v.source.chunk, time.Since(began))
	}
}

// nextChunk changes the number of rows so that a chunk takes about the time it should.
func nextChunk(rows int, aim, took time.Duration) int {
	factor := min(max(float64(aim)/float64(max(took, time.Microsecond)), 0.5), 2)
	return min(max(int(float64(rows)*factor), min(minChunk, rows)), max(maxChunk, rows))
}

// pager makes the statements that read one chunk after another.
type pager struct {
	from, order string
	parts       []pagePart
}

// pagePart is one column of the key.
type pagePart struct {
	name    string // quoted
	compare string // what comes after it in the key's order
	at      int    // in the list of columns
	column  *columnDefinition
}

func newPager(d *definition, list string, shape digest.Shape) *pager {
	p := &pager{from: "SELECT " + list + " FROM " + quoteName(d.schema, d.table) + " FORCE INDEX (PRIMARY)"}
	var order []string
	for _, k := range d.key {
		part := pagePart{
			column: d.column(k.column), compare: " > ",
			at: slices.IndexFunc(shape.Columns, func(c digest.Column) bool { return c.Name == k.column }),
		}
		part.name = quoteName(part.column.as)
		direction := ""
		if k.descending {
			part.compare, direction = " < ", " DESC"
		}
		p.parts, order = append(p.parts, part), append(order, part.name+direction)
	}
	p.order = " ORDER BY " + strings.Join(order, ", ")
	return p
}

func (p *pager) statement(after string, limit int) string {
	return p.from + after + p.order + " LIMIT " + strconv.Itoa(limit)
}

// after says in SQL: behind the row with these values. Of a key (a, b) that is a > x OR (a = x AND b > y), which the
// server reads off the index from there on; of (a, b) > (x, y) it would go through the whole index.
func (p *pager) after(values []wire.FieldValue) (string, error) {
	var ways []string
	same := ""
	for _, part := range p.parts {
		value, err := literals[part.column.kind.DataType](part.column, &values[part.at])
		if err != nil {
			return "", fmt.Errorf("key column %q: %w", part.column.name, err)
		}
		ways = append(ways, "("+same+part.name+part.compare+value+")")
		same += part.name + " = " + value + " AND "
	}
	return " WHERE " + strings.Join(ways, " OR "), nil
}

// literals write a value of a key column, by type, so that the server reads exactly that value.
var literals = map[string]func(*columnDefinition, *wire.FieldValue) (string, error){
	"tinyint": integerLiteral, "smallint": integerLiteral, "mediumint": integerLiteral, "int": integerLiteral, "bigint": integerLiteral,
	"bit":     bitLiteral,
	"decimal": decimalLiteral,
	"char":    textLiteral, "varchar": textLiteral,
	"binary": bytesLiteral, "varbinary": bytesLiteral,
	"date": dateLiteral, "datetime": momentLiteral, "timestamp": momentLiteral, "time": timeLiteral,
}

func integerLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) {
	switch v.Type {
	case wire.FieldValueTypeSigned:
		return strconv.FormatInt(v.AsInt64(), 10), nil
	case wire.FieldValueTypeUnsigned:
		return strconv.FormatUint(v.AsUint64(), 10), nil
	}
	return "", errLiteral
}

func bitLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) {
	bits := v.AsString()
	if v.Type != wire.FieldValueTypeString || len(bits) == 0 || len(bits) > 8 {
		return "", errLiteral
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(append(make([]byte, 8-len(bits)), bits...)), 10), nil
}

// decimalLiteral needs no type beside it: digits with a point are a DECIMAL, never a DOUBLE.
func decimalLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) { return plain(v, "-.") }

// textLiteral gives the bytes in the column's character set, and the collation by which the key is ordered.
func textLiteral(c *columnDefinition, v *wire.FieldValue) (string, error) {
	bytes, err := bytesLiteral(c, v)
	return "CONVERT(" + bytes + " USING " + c.kind.Charset + ") COLLATE " + c.collation, err
}

func bytesLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) {
	if v.Type != wire.FieldValueTypeString {
		return "", errLiteral
	}
	return "X'" + hex.EncodeToString(v.AsString()) + "'", nil
}

// A DATE'...' cannot be zero or partial, a CAST can.
func dateLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) {
	text, err := plain(v, "-")
	return "CAST('" + text + "' AS DATE)", err
}

func momentLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) {
	text, err := plain(v, "-:. ")
	return "CAST('" + text + "' AS DATETIME(6))", err
}

func timeLiteral(_ *columnDefinition, v *wire.FieldValue) (string, error) {
	text, err := plain(v, "-:.")
	return "CAST('" + text + "' AS TIME(6))", err
}

var errLiteral = errors.New("the server gave a value of another type")

// plain returns a text of digits and of the other characters given.
func plain(v *wire.FieldValue, others string) (string, error) {
	text := string(v.AsString())
	if v.Type != wire.FieldValueTypeString || text == "" || strings.Trim(text, "0123456789"+others) != "" {
		return "", errLiteral
	}
	return text, nil
}
