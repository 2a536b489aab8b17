package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/digest"
)

// plan says how the row images of a table become values of a shape. It belongs to one description of the table in the log,
// and is never changed.
type plan struct {
	table   string
	columns []planColumn // as the images have them
}

// planColumn says how the value of one column is found and read.
type planColumn struct {
	name   string
	target int // its index in the shape; -1: it is not compared

	// A value has size bytes, or as many as the number in prefix bytes before it says.
	size, prefix int
	read         valueReader

	// What the reader needs.
	width            int // of bytes that are padded
	precision, scale int // of a decimal
	digits           int // of a fraction of seconds
	labels           labels
	inflated         valueReader // of a value that was compressed
}

// newPlan fits the description of a table in the log to its definition in the catalog and to a shape. If they do not fit,
// it returns why: the table was altered between the two, or has a column that lockstep cannot read.
//
// The log tells nothing of signs, names, labels and character sets unless binlog_row_metadata says so. What it does not
// tell is taken from the catalog; what it does has to agree.
func newPlan(d *definition, m *tableMap, shape digest.Shape) (p *plan, reason string) {
	if reason := compareNames(d, m); reason != "" {
		return nil, reason
	}
	if reason := compareKeys(d, m); reason != "" {
		return nil, reason
	}
	p = &plan{table: d.name, columns: make([]planColumn, len(m.columns))}
	for i := range m.columns {
		have, told, c := &d.columns[i], &m.columns[i], &p.columns[i]
		if reason := compareColumn(m, told, have); reason != "" {
			return nil, reason
		}
		*c = planColumn{name: have.name}
		if err := c.layout(told, have); err != nil {
			return nil, fmt.Sprintf("column %q %v", have.name, err)
		}
		c.target = slices.IndexFunc(shape.Columns, func(s digest.Column) bool { return s.Name == have.name })
		if c.target < 0 {
			continue
		}
		if want := shape.Columns[c.target]; !digest.MySQLColumn(have.name, have.kind).Comparable(want) {
			return nil, fmt.Sprintf("column %q changed from %s to %s", have.name, strings.TrimSpace(want.Class.String()+" "+want.Type), have.kind.ColumnType)
		}
		if err := c.choose(told, have); err != nil {
			return nil, fmt.Sprintf("column %q %v", have.name, err)
		}
	}
	for _, want := range shape.Columns {
		if d.column(want.Name) == nil {
			return nil, fmt.Sprintf("column %q was dropped or renamed", want.Name)
		}
	}
	return p, ""
}

// compareNames finds out whether the log and the catalog have the same columns.
func compareNames(d *definition, m *tableMap) string {
	if m.names {
		for _, c := range m.columns {
			if d.column(foldColumn(c.name)) == nil {
				return fmt.Sprintf("column %q was added", foldColumn(c.name))
			}
		}
		for _, c := range d.columns {
			if !slices.ContainsFunc(m.columns, func(t mappedColumn) bool { return foldColumn(t.name) == c.name }) {
				return fmt.Sprintf("column %q was dropped", c.name)
			}
		}
	}
	if len(m.columns) != len(d.columns) {
		return fmt.Sprintf("it has %d columns in the log, %d in the catalog", len(m.columns), len(d.columns))
	}
	if m.names {
		for i := range m.columns {
			if name := foldColumn(m.columns[i].name); name != d.columns[i].name {
				return fmt.Sprintf("column %q was moved", name)
			}
		}
	}
	return ""
}

// compareKeys finds out whether the log and the catalog have the same primary key. The log has numbers of columns, which may be of
// another definition than the catalog's.
func compareKeys(d *definition, m *tableMap) string {
	same := len(m.key) == len(d.key)
	var told []string
	for i, k := range m.key {
		name := fmt.Sprintf("column %d", k.column+1)
		if k.column < len(d.columns) {
			name = d.columns[k.column].name
		}
		same = same && d.key[i].column == name && d.key[i].prefix == k.prefix
		told = append(told, name)
	}
	if same || m.key == nil { // not told
		return ""
	}
	return fmt.Sprintf("its primary key is (%s) in the log, not what it was", strings.Join(told, ", "))
}

// compareColumn finds out whether what the log tells of a column is what the catalog does, but for its type.
func compareColumn(m *tableMap, told *mappedColumn, have *columnDefinition) string {
	if m.signedness && integers[have.kind.DataType] != 0 && told.unsigned != have.kind.Unsigned {
		return fmt.Sprintf("column %q changed its sign: it was %s", have.name, have.kind.ColumnType)
	}
	if in := collationCharset(told.collation); in != "" && in != charsetName(have) {
		return fmt.Sprintf("column %q changed from character set %s to %s", have.name, charsetName(have), in)
	}
	return ""
}

// charsetName is the character set of a column; bytes have the one that is called binary.
func charsetName(c *columnDefinition) string {
	switch c.kind.Charset {
	case "":
		return "binary"
	case "utf8":
		return "utf8mb3"
	}
	return c.kind.Charset
}

// collationCharset is the character set that a collation belongs to, or empty for one whose number we do not know.
func collationCharset(id uint64) string {
	if id > 1024 && id < 2048 { // MariaDB's without padding
		id -= 1024
	}
	switch {
	case id == 63:
		return "binary"
	case id == 45, id == 46, id >= 224 && id <= 247, id >= 255 && id <= 323, id >= 2304 && id < 2560:
		return "utf8mb4"
	case id == 33, id == 76, id == 83, id >= 192 && id <= 215, id == 223, id >= 2048 && id < 2304:
		return "utf8mb3"
	case id == 5, id == 8, id == 15, id == 31, id >= 47 && id <= 49, id == 94:
		return "latin1"
	case id == 11, id == 65:
		return "ascii"
	}
	return ""
}

var errUnknownType = errors.New("is of a type that lockstep cannot read; exclude it, or convert it")

// layoutError is about a column that the log has as another type than the catalog.
type layoutError struct {
	was string
	is  *mappedColumn
}

func (e *layoutError) Error() string {
	return fmt.Sprintf("changed: it was %s, the log has %v", e.was, e.is)
}

// integers are the types of integers, by how many bytes they have.
var integers = map[string]int{"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8}

// prefixes are the types of long values, by how many bytes their length has.
var prefixes = map[string]int{
	"tinytext": 1, "text": 2, "mediumtext": 3, "longtext": 4, "tinyblob": 1, "blob": 2, "mediumblob": 3, "longblob": 4, "json": 4,
}

// String names the type as SQL does, so far as the log tells it.
func (m *mappedColumn) String() string {
	switch m.kind {
	case wire.MYSQL_TYPE_NEWDECIMAL:
		return fmt.Sprintf("decimal(%d,%d)", m.meta>>8, m.meta&0xff)
	case wire.MYSQL_TYPE_BIT:
		return fmt.Sprintf("bit(%d)", int(m.meta>>8)*8+int(m.meta&0xff))
	case wire.MYSQL_TYPE_TIME2, wire.MYSQL_TYPE_DATETIME2, wire.MYSQL_TYPE_TIMESTAMP2:
		return fmt.Sprintf("%s(%d)", kindNames[m.kind], m.meta)
	case wire.MYSQL_TYPE_STRING, wire.MYSQL_TYPE_VARCHAR, wire.MYSQL_TYPE_VAR_STRING:
		return fmt.Sprintf("%s of %d bytes", kindNames[m.kind], m.meta)
	}
	if name := kindNames[m.kind]; name != "" {
		return name
	}
	return fmt.Sprintf("type %d", m.kind)
}

var kindNames = map[columnType]string{
	wire.MYSQL_TYPE_TINY: "tinyint", wire.MYSQL_TYPE_SHORT: "smallint", wire.MYSQL_TYPE_INT24: "mediumint", wire.MYSQL_TYPE_LONG: "int",
	wire.MYSQL_TYPE_LONGLONG: "bigint", wire.MYSQL_TYPE_FLOAT: "float", wire.MYSQL_TYPE_DOUBLE: "double", wire.MYSQL_TYPE_YEAR: "year",
	wire.MYSQL_TYPE_DATE: "date", wire.MYSQL_TYPE_TIME2: "time", wire.MYSQL_TYPE_DATETIME2: "datetime", wire.MYSQL_TYPE_TIMESTAMP2: "timestamp",
	wire.MYSQL_TYPE_STRING: "char or binary", wire.MYSQL_TYPE_VARCHAR: "varchar or varbinary", wire.MYSQL_TYPE_VAR_STRING: "varchar or varbinary",
	wire.MYSQL_TYPE_BLOB: "text or blob", wire.MYSQL_TYPE_JSON: "json", wire.MYSQL_TYPE_ENUM: "enum", wire.MYSQL_TYPE_SET: "set",
	wire.MYSQL_TYPE_GEOMETRY: "geometry", wire.MYSQL_TYPE_VECTOR: "vector",
}

// layout finds out how many bytes a value takes, by what the log says.
func (c *planColumn) layout(told *mappedColumn, have *columnDefinition) error {
	meta := int(told.meta)
	switch told.kind {
	case wire.MYSQL_TYPE_TINY, wire.MYSQL_TYPE_YEAR:
		c.size = 1
	case wire.MYSQL_TYPE_SHORT:
		c.size = 2
	case wire.MYSQL_TYPE_INT24, wire.MYSQL_TYPE_DATE, wire.MYSQL_TYPE_NEWDATE:
		c.size = 3
	case wire.MYSQL_TYPE_LONG, wire.MYSQL_TYPE_FLOAT:
		c.size = 4
	case wire.MYSQL_TYPE_LONGLONG, wire.MYSQL_TYPE_DOUBLE:
		c.size = 8
	case wire.MYSQL_TYPE_NEWDECIMAL:
		c.precision, c.scale = meta>>8, meta&0xff
		if c.precision < 1 || c.precision > maxPrecision || c.scale > c.precision {
			return &layoutError{have.kind.ColumnType, told}
		}
		c.size = decimalSize(c.precision, c.scale)
	case wire.MYSQL_TYPE_BIT:
		if c.size = meta>>8 + (meta&0xff+7)/8; c.size > 8 {
			return &layoutError{have.kind.ColumnType, told}
		}
	case wire.MYSQL_TYPE_ENUM, wire.MYSQL_TYPE_SET:
		if c.size = meta & 0xff; c.size > 8 {
			return &layoutError{have.kind.ColumnType, told}
		}
	case wire.MYSQL_TYPE_STRING, wire.MYSQL_TYPE_VARCHAR, wire.MYSQL_TYPE_VAR_STRING, typeVarcharCompressed:
		c.width, c.prefix = meta, 1
		if meta > 255 {
			c.prefix = 2
		}
	case wire.MYSQL_TYPE_BLOB, typeBlobCompressed, wire.MYSQL_TYPE_JSON, wire.MYSQL_TYPE_GEOMETRY, wire.MYSQL_TYPE_VECTOR:
		c.prefix = meta
		if meta < 1 || meta > 4 {
			return &layoutError{have.kind.ColumnType, told}
		}
	default:
		return c.layoutTime(told, have)
	}
	return nil
}

// layoutTime is layout of times. Of the old ones the log does not tell the fraction.
func (c *planColumn) layoutTime(told *mappedColumn, have *columnDefinition) error {
	c.digits = int(told.meta)
	declared := number(have.kind.ColumnType)
	if declared > 6 || c.digits > 6 {
		return &layoutError{have.kind.ColumnType, told}
	}
	switch told.kind {
	case wire.MYSQL_TYPE_TIMESTAMP2:
		c.size = 4 + fractionSize(c.digits)
	case wire.MYSQL_TYPE_DATETIME2:
		c.size = 5 + fractionSize(c.digits)
	case wire.MYSQL_TYPE_TIME2:
		c.size = 3 + fractionSize(c.digits)
	case wire.MYSQL_TYPE_TIMESTAMP:
		c.digits, c.size = declared, 4+fractionSize(declared)
	case wire.MYSQL_TYPE_DATETIME:
		c.digits, c.size = declared, oldDatetimeSizes[declared]
	case wire.MYSQL_TYPE_TIME:
		c.digits, c.size = declared, oldTimeSizes[declared]
	default:
		return errUnknownType
	}
	return nil
}

// number reads the first number in the parentheses of a type: 3 of time(3), 0 of time.
func number(columnType string) int {
	_, rest, _ := strings.Cut(columnType, "(")
	n, err := strconv.Atoi(rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))])
	if err != nil {
		return 0
	}
	return n
}
