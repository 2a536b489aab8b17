package digest

import "errors"

// MySQLType names the type of a column as MySQL and MariaDB do in information_schema.COLUMNS.
type MySQLType struct {
	DataType   string // DATA_TYPE, in lower case: bigint
	ColumnType string // COLUMN_TYPE: bigint(20) unsigned, enum('a','b')
	Charset    string // CHARACTER_SET_NAME; empty for types without one
	Unsigned   bool
}

// The types of class Bytes that have a form of their own, so that columns of them are not comparable with others.
const (
	TypeINET4    = "inet4"    // 4 bytes
	TypeINET6    = "inet6"    // 16 bytes
	TypeGeometry = "geometry" // SRID in 4 bytes LE, then WKB
	TypeVector   = "vector"   // floats in 4 bytes LE
)

// mysqlClasses are the types that lockstep can decode.
var mysqlClasses = map[string]Class{
	"tinyint": Int, "smallint": Int, "mediumint": Int, "int": Int, "bigint": Int, "year": Int, "bit": Int,
	"decimal": Decimal,
	"float":   Float, "double": Float,
	"char": Text, "varchar": Text, "tinytext": Text, "text": Text, "mediumtext": Text, "longtext": Text, "enum": Text, "set": Text,
	"binary": Bytes, "varbinary": Bytes, "tinyblob": Bytes, "blob": Bytes, "mediumblob": Bytes, "longblob": Bytes,
	"uuid": UUID, TypeINET4: Bytes, TypeINET6: Bytes,
	"date": Date, "time": Time, "datetime": Timestamp, "timestamp": Instant,
	"json":       JSON, // of MySQL; MariaDB's is a longtext
	TypeGeometry: Bytes, "point": Bytes, "linestring": Bytes, "polygon": Bytes, "multipoint": Bytes, "multilinestring": Bytes,
	"multipolygon": Bytes, "geometrycollection": Bytes, "geomcollection": Bytes, TypeVector: Bytes,
}

// mysqlCharsets are those whose bytes are UTF-8 already, or can be turned into it: MySQL's latin1 is Windows-1252.
var mysqlCharsets = map[string]bool{"utf8mb4": true, "utf8mb3": true, "utf8": true, "ascii": true, "latin1": true}

// MySQLColumn returns the column of the given name and type. A type that lockstep does not know is Verbatim under the
// name of the type: nothing can be compared with it but itself, and no decoder gives values of it.
//
// Text in a character set that is not known is compared as bytes, and with columns of the same character set only. The
// labels of an enum or a set are text whatever its character set. No column is wide: row images are whole.
func MySQLColumn(name string, t MySQLType) Column {
	c := Column{Name: name, Class: mysqlClasses[t.DataType]}
	switch {
	case c.Class == 0:
		c.Class, c.Type = Verbatim, "mysql "+t.DataType
	case t.DataType == "enum" || t.DataType == "set":
	case c.Class == Text && !mysqlCharsets[t.Charset]:
		c.Class, c.Type = Bytes, "charset "+t.Charset
	case t.DataType == "char":
		c.Type = TypeBPChar
	case t.DataType == "float":
		c.Type = TypeFloat4
	case c.Class == Bytes:
		c.Type = mysqlForms[t.DataType]
	}
	return c
}

// mysqlForms are the forms of bytes. A column for points alone holds the same bytes as one for any geometry.
var mysqlForms = map[string]string{
	TypeINET4: TypeINET4, TypeINET6: TypeINET6, TypeVector: TypeVector,
	TypeGeometry: TypeGeometry, "point": TypeGeometry, "linestring": TypeGeometry, "polygon": TypeGeometry, "multipoint": TypeGeometry,
	"multilinestring": TypeGeometry, "multipolygon": TypeGeometry, "geometrycollection": TypeGeometry, "geomcollection": TypeGeometry,
}

// A date that MySQL keeps though no calendar has it: 0000-00-00, 2024-00-15, 2024-02-30.
//
//	+----+------------+-------+-----+
//	| 02 | year, 2 B  | month | day |   before all days, in the order of MySQL
//	+----+------------+-------+-----+
const irregularDate = 0x02

var (
	errIrregular = errors.New("has a year, month or day that MySQL does not know")
	errTimeOfDay = errors.New("has a time of day that is out of range")
)

// CivilDate sets a column of class Date to a date of MySQL, whose month and day may be zero and whose months may all
// have 31 days.
func (e *Encoder) CivilDate(col int, year, month, day int) {
	if e.begin(col, Date) && e.civil(col, year, month, day) {
		e.finish(col)
	}
}

// CivilTimestamp sets a column of class Timestamp to a date of MySQL and so many microseconds of the day.
func (e *Encoder) CivilTimestamp(col int, year, month, day int, us int64) {
	e.civilMoment(col, Timestamp, year, month, day, us)
}

// CivilInstant sets a column of class Instant to a date of MySQL and so many microseconds of the day, in UTC. The only date
// that no calendar has is that of the zero timestamp, 0000-00-00 00:00:00.
func (e *Encoder) CivilInstant(col int, year, month, day int, us int64) {
	e.civilMoment(col, Instant, year, month, day, us)
}

func (e *Encoder) civilMoment(col int, class Class, year, month, day int, us int64) {
	if !e.begin(col, class) || !e.civil(col, year, month, day) {
		return
	}
	if us < 0 || us >= dayMicroseconds {
		e.fail(col, errTimeOfDay)
		return
	}
	e.arena = appendInt(e.arena, us)
	e.finish(col)
}

// civil appends a date to the arena.
func (e *Encoder) civil(col int, year, month, day int) bool {
	arena, ok := appendCivil(e.arena, year, month, day)
	if !ok {
		e.fail(col, errIrregular)
		return false
	}
	e.arena = arena
	return true
}

// appendCivil appends the canonical form of a date.
func appendCivil(dst []byte, year, month, day int) ([]byte, bool) {
	if year < 0 || year > 9999 || month < 0 || month > 12 || day < 0 || day > 31 {
		return dst, false
	}
	if days, ok := daysSince1970(year, month, day); ok {
		return appendInt(dst, days), true
	}
	return append(dst, irregularDate, byte(year>>8), byte(year), byte(month), byte(day)), true
}

// cutIrregular reads a date that no calendar has off the start of b.
func cutIrregular(b []byte) (year, month, day int, rest []byte, ok bool) {
	if len(b) < 5 || b[0] != irregularDate {
		return 0, 0, 0, b, false
	}
	year, month, day = int(b[1])<<8|int(b[2]), int(b[3]), int(b[4])
	_, real := daysSince1970(year, month, day)
	return year, month, day, b[5:], !real && year <= 9999 && month <= 12 && day <= 31
}

// DecimalDigits sets a column of class Decimal to a number in ASCII digits, of which so many are before the point.
func (e *Encoder) DecimalDigits(col int, negative bool, digits []byte, whole int) {
	if e.begin(col, Decimal) {
		e.arena = decimalOf(negative, digits, whole).append(e.arena)
		e.finish(col)
	}
}

// decimalOf takes digits without a point.
func decimalOf(negative bool, digits []byte, whole int) number {
	for len(digits) > 0 && digits[0] == '0' {
		digits, whole = digits[1:], whole-1
	}
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	return number{negative: negative, digits: digits, exponent: int64(whole)}
}

// TextFrom sets a column of class Text to what appendTo appends, which need not exist in one piece before.
func (e *Encoder) TextFrom(col int, appendTo func(dst []byte) []byte) {
	if e.begin(col, Text) {
		e.arena = appendTo(e.arena)
		e.finish(col)
	}
}

// PaddedBytes sets a column of class Bytes to v, followed by zeros up to a width.
func (e *Encoder) PaddedBytes(col int, v []byte, width int) {
	if !e.begin(col, Bytes) {
		return
	}
	e.arena = append(e.arena, v...)
	for n := len(v); n < width; n++ {
		e.arena = append(e.arena, 0)
	}
	e.finish(col)
}
