package mysql

import (
	"errors"
	"fmt"

	wire "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// columnType is the type of a column as the log numbers it (enum_field_types in the servers' source).
type columnType = byte

// Types that only MariaDB has (COMPRESSED columns) and that the driver has no name for.
const (
	typeBlobCompressed    columnType = 140
	typeVarcharCompressed columnType = 141
)

// tableMap is what a TABLE_MAP_EVENT says of a table
// (https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Table__map__event.html):
//
//	table id 6 | flags 2 | length 1, schema, 0 | length 1, table, 0 | columns, packed | type of each, 1 |
//	length, packed; metadata by type, 0 to 2 each | bitmap of the nullable | optional: type 1, length, packed; value
type tableMap struct {
	schema, table string
	columns       []mappedColumn

	// What the server says beyond that is set by binlog_row_metadata, anew by each server and session.
	signedness bool // whether numbers have a sign is told
	names      bool // the columns' names are told
	labels     bool // the labels of all enums and sets are told
	key        []mappedKey
}

// mappedKey is one column of the primary key.
type mappedKey struct {
	column int
	prefix bool // only the first characters count
}

// mappedColumn is one column, in the order of the row images.
type mappedColumn struct {
	kind      columnType // of a CHAR, ENUM or SET what it really is
	meta      uint16     // of a CHAR or BINARY its width in bytes, else as it stands
	nullable  bool
	unsigned  bool
	name      string
	collation uint64   // 0: not told
	labels    []string // in the column's character set
}

// mostColumns is how many columns a table may have, with room to spare: the servers allow 4096.
const mostColumns = 1 << 16

// parseTableMap reads the body of a TABLE_MAP_EVENT. The result shares nothing with it.
func parseTableMap(body []byte, idSize int) (*tableMap, error) {
	c := cursor{rest: body}
	c.take(idSize + 2)
	m := &tableMap{schema: string(c.take(int(c.byte())))}
	c.byte()
	m.table = string(c.take(int(c.byte())))
	c.byte()
	n := c.packed()
	if n > mostColumns {
		return nil, fmt.Errorf("table map of %s.%s has %d columns", m.schema, m.table, n)
	}
	types := c.take(int(n))
	meta := cursor{rest: c.take(c.length())}
	nullable := c.take((int(n) + 7) / 8)
	if c.short {
		return nil, fmt.Errorf("table map of %s.%s: %w", m.schema, m.table, errShort)
	}
	m.columns = make([]mappedColumn, n)
	for i, t := range types {
		m.columns[i] = meta.column(t)
		m.columns[i].nullable = nullable[i/8]>>(i%8)&1 != 0
	}
	if meta.short || len(meta.rest) > 0 {
		return nil, fmt.Errorf("table map of %s.%s: metadata do not fit the types % x", m.schema, m.table, types)
	}
	if err := m.optional(c); err != nil {
		return nil, fmt.Errorf("table map of %s.%s: %w", m.schema, m.table, err)
	}
	return m, nil
}

// column reads the metadata of a column.
//
// A STRING is what CHAR, BINARY, ENUM and SET are sent as: the real type is in the first byte, and two bits of a width
// above 255 are in it too, flipped.
func (c *cursor) column(t columnType) mappedColumn {
	m := mappedColumn{kind: t}
	switch t {
	case wire.MYSQL_TYPE_STRING:
		real, width := c.byte(), uint16(c.byte())
		if real&0x30 != 0x30 {
			width |= uint16(real&0x30^0x30) << 4
			real |= 0x30
		}
		m.kind, m.meta = real, width
	case wire.MYSQL_TYPE_NEWDECIMAL:
		m.meta = uint16(c.byte())<<8 | uint16(c.byte())
	case wire.MYSQL_TYPE_VAR_STRING, wire.MYSQL_TYPE_VARCHAR, typeVarcharCompressed, wire.MYSQL_TYPE_BIT,
		wire.MYSQL_TYPE_ENUM, wire.MYSQL_TYPE_SET:
		m.meta = c.uint16()
	case wire.MYSQL_TYPE_BLOB, typeBlobCompressed, wire.MYSQL_TYPE_DOUBLE, wire.MYSQL_TYPE_FLOAT, wire.MYSQL_TYPE_GEOMETRY,
		wire.MYSQL_TYPE_VECTOR, wire.MYSQL_TYPE_JSON, wire.MYSQL_TYPE_TIME2, wire.MYSQL_TYPE_DATETIME2, wire.MYSQL_TYPE_TIMESTAMP2:
		m.meta = uint16(c.byte())
	}
	return m
}

// optional reads the fields at the end. Those that lockstep does not know are gone over.
func (m *tableMap) optional(c cursor) error {
	for len(c.rest) > 0 {
		kind := c.byte()
		value := cursor{rest: c.take(c.length())}
		if c.short {
			return errShort
		}
		m.field(kind, &value)
		if value.short {
			return fmt.Errorf("optional field %d does not fit the columns", kind)
		}
	}
	return nil
}

func (m *tableMap) field(kind byte, value *cursor) {
	switch kind {
	case replication.TABLE_MAP_OPT_META_SIGNEDNESS:
		m.signedness = true
		m.signs(value)
	case replication.TABLE_MAP_OPT_META_COLUMN_NAME:
		m.names = true
		for i := range m.columns {
			m.columns[i].name = string(value.take(value.length()))
		}
	case replication.TABLE_MAP_OPT_META_DEFAULT_CHARSET:
		m.defaultCollation(value, mappedColumn.text)
	case replication.TABLE_MAP_OPT_META_COLUMN_CHARSET:
		m.collations(value, mappedColumn.text)
	case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_DEFAULT_CHARSET:
		m.defaultCollation(value, mappedColumn.labelled)
	case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_COLUMN_CHARSET:
		m.collations(value, mappedColumn.labelled)
	case replication.TABLE_MAP_OPT_META_ENUM_STR_VALUE:
		m.labels = true
		m.labelsOf(value, wire.MYSQL_TYPE_ENUM)
	case replication.TABLE_MAP_OPT_META_SET_STR_VALUE:
		m.labels = true
		m.labelsOf(value, wire.MYSQL_TYPE_SET)
	case replication.TABLE_MAP_OPT_META_SIMPLE_PRIMARY_KEY, replication.TABLE_MAP_OPT_META_PRIMARY_KEY_WITH_PREFIX:
		m.primaryKey(value, kind == replication.TABLE_MAP_OPT_META_PRIMARY_KEY_WITH_PREFIX)
	}
}

// primaryKey reads the numbers of the key's columns, in the key's order; if some are prefixes, each with its length, which is 0
// for a whole column.
func (m *tableMap) primaryKey(value *cursor, prefixes bool) {
	for len(value.rest) > 0 {
		column := value.packed()
		if column >= uint64(len(m.columns)) {
			value.short = true
			return
		}
		k := mappedKey{column: int(column)}
		if prefixes {
			k.prefix = value.packed() > 0
		}
		m.key = append(m.key, k)
	}
}

// number reports whether the column has a bit among the signs.
func (c mappedColumn) number() bool {
	switch c.kind {
	case wire.MYSQL_TYPE_TINY, wire.MYSQL_TYPE_SHORT, wire.MYSQL_TYPE_INT24, wire.MYSQL_TYPE_LONG, wire.MYSQL_TYPE_LONGLONG,
		wire.MYSQL_TYPE_DECIMAL, wire.MYSQL_TYPE_NEWDECIMAL, wire.MYSQL_TYPE_FLOAT, wire.MYSQL_TYPE_DOUBLE, wire.MYSQL_TYPE_YEAR:
		return true
	}
	return false
}

// text reports whether the column has a collation among those of text; bytes have the collation "binary".
func (c mappedColumn) text() bool {
	switch c.kind {
	case wire.MYSQL_TYPE_STRING, wire.MYSQL_TYPE_VAR_STRING, wire.MYSQL_TYPE_VARCHAR, wire.MYSQL_TYPE_BLOB, typeVarcharCompressed,
		typeBlobCompressed:
		return true
	}
	return false
}

func (c mappedColumn) labelled() bool {
	return c.kind == wire.MYSQL_TYPE_ENUM || c.kind == wire.MYSQL_TYPE_SET
}

// signs reads a bit for each number, the highest first.
func (m *tableMap) signs(value *cursor) {
	n := 0
	for i := range m.columns {
		if !m.columns[i].number() {
			continue
		}
		if n/8 >= len(value.rest) {
			value.short = true
			return
		}
		m.columns[i].unsigned = value.rest[n/8]>>(7-n%8)&1 != 0
		n++
	}
}

// defaultCollation reads the collation of all columns of a sort, and then pairs of a number among them and a collation for
// those that have another. On MariaDB geometries count among them, so the numbers are off if there are any: then all but
// the catalog is silent.
func (m *tableMap) defaultCollation(value *cursor, sort func(mappedColumn) bool) {
	if m.geometries() {
		return
	}
	all := value.packed()
	others := map[uint64]uint64{}
	for len(value.rest) > 0 {
		at := value.packed()
		others[at] = value.packed()
	}
	n := uint64(0)
	for i := range m.columns {
		if !sort(m.columns[i]) {
			continue
		}
		m.columns[i].collation = all
		if other, ok := others[n]; ok {
			m.columns[i].collation = other
		}
		n++
	}
}

// collations reads a collation for each column of a sort.
func (m *tableMap) collations(value *cursor, sort func(mappedColumn) bool) {
	if m.geometries() {
		return
	}
	for i := range m.columns {
		if sort(m.columns[i]) {
			m.columns[i].collation = value.packed()
		}
	}
}

func (m *tableMap) geometries() bool {
	for i := range m.columns {
		if m.columns[i].kind == wire.MYSQL_TYPE_GEOMETRY {
			return true
		}
	}
	return false
}

// labelsOf reads for each column of a type the number of labels, and the labels.
func (m *tableMap) labelsOf(value *cursor, kind columnType) {
	for i := range m.columns {
		if m.columns[i].kind != kind {
			continue
		}
		n := value.length()
		if n > len(value.rest) {
			value.short = true
			return
		}
		labels := make([]string, n)
		for j := range labels {
			labels[j] = string(value.take(value.length()))
		}
		m.columns[i].labels = labels
	}
}

var errShort = errors.New("it ends too early")

// cursor takes bytes apart. After the first read that does not fit, all reads give zeros, and short tells.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.short, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return uint16(b[0]) | uint16(b[1])<<8
	}
	return 0
}

// packed reads a length-encoded integer.
func (c *cursor) packed() uint64 {
	switch first := c.byte(); first {
	default:
		return uint64(first)
	case 0xfb:
		c.short, c.rest = true, nil
	case 0xfc:
		return littleEndian(c.take(2))
	case 0xfd:
		return littleEndian(c.take(3))
	case 0xfe:
		return littleEndian(c.take(8))
	case 0xff:
		c.short, c.rest = true, nil
	}
	return 0
}

// length reads a length-encoded length; one that is larger than all there is fits nothing.
func (c *cursor) length() int {
	n := c.packed()
	if n > uint64(len(c.rest)) {
		c.short, c.rest = true, nil
		return 0
	}
	return int(n)
}
