package mysql

import (
	"fmt"
	"slices"
	"strings"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/digest"
)

// valueReader gives the encoder a value of a row image.
type valueReader func(c *planColumn, e *digest.Encoder, v []byte) error

// choose finds the reader for a column that is compared, and makes sure that the log has it as what the catalog says, so
// far as values depend on it.
func (c *planColumn) choose(told *mappedColumn, have *columnDefinition) error {
	var err error
	fits := true
	switch t := have.kind; t.DataType {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		c.read = readInt
		if t.Unsigned {
			c.read = readUint
		}
		fits = told.is(integerKinds[t.DataType])
	case "year":
		c.read, fits = readYear, told.is(wire.MYSQL_TYPE_YEAR)
	case "bit":
		c.read, fits = readBit, told.is(wire.MYSQL_TYPE_BIT) && int(told.meta>>8)*8+int(told.meta&0xff) == number(t.ColumnType)
	case "decimal":
		c.read, fits = readDecimal, told.is(wire.MYSQL_TYPE_NEWDECIMAL) && strings.HasPrefix(t.ColumnType, told.String())
	case "float":
		c.read, fits = readFloat, told.is(wire.MYSQL_TYPE_FLOAT)
	case "double":
		c.read, fits = readDouble, told.is(wire.MYSQL_TYPE_DOUBLE)
	case "date", "time", "datetime", "timestamp":
		c.read, fits = c.timeReader(told, have)
	case "enum", "set":
		fits, err = c.chooseLabels(told, have)
	case "json":
		c.read, fits = readJSON, told.is(wire.MYSQL_TYPE_JSON)
	default:
		fits, err = c.chooseBytes(told, have)
	}
	if err == nil && !fits {
		err = &layoutError{have.kind.ColumnType, told}
	}
	return err
}

var integerKinds = map[string]columnType{
	"tinyint": wire.MYSQL_TYPE_TINY, "smallint": wire.MYSQL_TYPE_SHORT, "mediumint": wire.MYSQL_TYPE_INT24,
	"int": wire.MYSQL_TYPE_LONG, "bigint": wire.MYSQL_TYPE_LONGLONG,
}

func (m *mappedColumn) is(kinds ...columnType) bool { return slices.Contains(kinds, m.kind) }

// timeReader finds the reader for a type of times; the fraction must be what the catalog says, for it says how values were
// rounded.
func (c *planColumn) timeReader(told *mappedColumn, have *columnDefinition) (read valueReader, fits bool) {
	readings := map[string]map[columnType]valueReader{
		"date":      {wire.MYSQL_TYPE_DATE: readDate, wire.MYSQL_TYPE_NEWDATE: readDate},
		"time":      {wire.MYSQL_TYPE_TIME2: readTime, wire.MYSQL_TYPE_TIME: readOldTime},
		"datetime":  {wire.MYSQL_TYPE_DATETIME2: readDatetime, wire.MYSQL_TYPE_DATETIME: readOldDatetime},
		"timestamp": {wire.MYSQL_TYPE_TIMESTAMP2: readTimestamp, wire.MYSQL_TYPE_TIMESTAMP: readOldTimestamp},
	}
	read, fits = readings[have.kind.DataType][told.kind]
	if c.digits > 0 {
		switch told.kind {
		case wire.MYSQL_TYPE_TIME:
			read = readOldFineTime
		case wire.MYSQL_TYPE_DATETIME:
			read = readOldFineDatetime
		case wire.MYSQL_TYPE_TIMESTAMP:
			read = readOldFineTimestamp
		}
	}
	return read, fits && c.digits == number(have.kind.ColumnType)
}

func (c *planColumn) chooseLabels(told *mappedColumn, have *columnDefinition) (fits bool, err error) {
	kind := columnType(wire.MYSQL_TYPE_ENUM)
	if c.read = readEnum; have.kind.DataType == "set" {
		c.read, kind = readSet, wire.MYSQL_TYPE_SET
	}
	if !told.is(kind) {
		return false, nil
	}
	text, err := have.labelTexts(told)
	if err != nil {
		return false, err
	}
	c.labels = newLabels(text)
	return c.size == labelSize(kind, len(text)), nil
}

// labelSize is how many bytes a value of so many labels takes.
func labelSize(kind columnType, n int) int {
	switch {
	case kind == wire.MYSQL_TYPE_ENUM && n < 256:
		return 1
	case kind == wire.MYSQL_TYPE_ENUM:
		return 2
	case n > 32:
		return 8
	}
	return (n + 7) / 8
}

// labelTexts are the labels of an enum or a set, from the log if that has them, since the catalog cannot show all
// characters. Both must agree, so far as the catalog goes.
func (d *columnDefinition) labelTexts(told *mappedColumn) ([][]byte, error) {
	known, err := parseLabels(d.kind.ColumnType)
	if err != nil {
		return nil, err
	}
	text := make([][]byte, len(known))
	for i, label := range known {
		text[i] = []byte(label)
	}
	if told.labels == nil {
		if !shownWhole[d.kind.Charset] && strings.Contains(strings.Join(known, ""), "?") {
			return nil, errHidden
		}
		return text, foreignLabels(d.kind.Charset, text)
	}
	if len(told.labels) != len(known) {
		return nil, fmt.Errorf("has %d labels in the log, %d in the catalog", len(told.labels), len(known))
	}
	for i, label := range told.labels {
		if text[i], err = labelText(d.kind.Charset, []byte(label)); err != nil {
			return nil, err
		}
		if shown(text[i]) != known[i] {
			return nil, fmt.Errorf("has label %q in the log where the catalog has %q", text[i], known[i])
		}
	}
	return text, nil
}

// foreignLabels fails if the labels cannot be what they are in the column's own character set.
func foreignLabels(charsetName string, text [][]byte) error {
	if charsetOf(charsetName) != otherCharset {
		return nil
	}
	for _, label := range text {
		if _, err := labelText(charsetName, label); err != nil {
			return err
		}
	}
	return nil
}

// shownWhole are the character sets of which the catalog can show all characters.
var shownWhole = map[string]bool{"latin1": true, "ascii": true, "utf8mb3": true, "utf8": true}

// shown is a text as the catalog shows it, in utf8mb3: what is not of three bytes is a question mark.
func shown(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r > 0xffff {
			return '?'
		}
		return r
	}, string(text))
}

// The types that bytes and text of varying length have in the log, the last as a COMPRESSED column of MariaDB.
var (
	varyingKinds = []columnType{wire.MYSQL_TYPE_VARCHAR, wire.MYSQL_TYPE_VAR_STRING, typeVarcharCompressed}
	longKinds    = []columnType{wire.MYSQL_TYPE_BLOB, typeBlobCompressed}
)

// chooseBytes is for types whose values are bytes or text.
func (c *planColumn) chooseBytes(told *mappedColumn, have *columnDefinition) (fits bool, err error) {
	t := have.kind
	switch t.DataType {
	case "char":
		c.read, fits = textReader(t), told.is(wire.MYSQL_TYPE_STRING) && c.declared(told, t)
	case "varchar", "varbinary":
		c.read, fits = textReader(t), told.is(varyingKinds...) && c.declared(told, t)
	case "tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob":
		c.read, fits = textReader(t), told.is(longKinds...) && c.prefix == prefixes[t.DataType]
	case "binary":
		c.read, fits = readBinary, told.is(wire.MYSQL_TYPE_STRING) && c.declared(told, t)
	case "uuid":
		c.read, fits = readUUID, told.is(wire.MYSQL_TYPE_STRING) && c.width == 16
	case digest.TypeINET4:
		c.read, fits = readBinary, told.is(wire.MYSQL_TYPE_STRING) && c.width == 4
	case digest.TypeINET6:
		c.read, fits = readBinary, told.is(wire.MYSQL_TYPE_STRING) && c.width == 16
	case digest.TypeVector:
		c.read, fits = readBytes, told.is(wire.MYSQL_TYPE_VECTOR, wire.MYSQL_TYPE_VARCHAR) // on MySQL, on MariaDB
	default:
		if digest.MySQLColumn("", t).Type != digest.TypeGeometry {
			return false, errUnknownType
		}
		c.read, fits = readBytes, told.is(wire.MYSQL_TYPE_GEOMETRY)
	}
	if told.is(typeVarcharCompressed, typeBlobCompressed) {
		c.read, c.inflated = readCompressed, c.read
	}
	return fits, nil
}

// textReader finds the reader for a character set; bytes have none.
func textReader(t digest.MySQLType) valueReader {
	switch in := charsetOf(t.Charset); {
	case in == utf8Charset && t.DataType == "char":
		return readChar
	case in == utf8Charset:
		return readText
	case in == latin1Charset && t.DataType == "char":
		return readLatin1Char
	case in == latin1Charset:
		return readLatin1
	}
	return readBytes
}

// bytesPerCharacter is the most that a character takes.
var bytesPerCharacter = map[string]int{"utf8mb4": 4, "utf8mb3": 3, "utf8": 3, "latin1": 1, "ascii": 1, "": 1}

// declared reports whether the width in the log is that of the type, so far as we know the character set. COMPRESSED
// columns have a byte more, for how they are compressed.
func (c *planColumn) declared(told *mappedColumn, t digest.MySQLType) bool {
	unit, known := bytesPerCharacter[t.Charset]
	width := number(t.ColumnType) * unit
	if told.is(typeVarcharCompressed) {
		width++
	}
	return !known || c.width == width
}
