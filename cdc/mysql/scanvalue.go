package mysql

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strconv"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Values as the binary protocol has them: numbers are numbers, all else is text, in the column's own character set as our
// sessions are set (see pinned.go). Each must digest as the same value in a row image does.

var (
	errScanned   = errors.New("was given by the server as a value of another type")
	errScanTime  = errors.New("was given by the server as a date or time that cannot be read")
	errScanValue = errors.New("was given by the server as a text that cannot be read")
)

// scan gives the encoder a value of the column that a SELECT returned. What it returns names the column.
func (d *columnDefinition) scan(e *digest.Encoder, target int, v *wire.FieldValue) error {
	if v.Type == wire.FieldValueTypeNull {
		e.Null(target)
		return nil
	}
	var err error
	switch v.Type {
	case wire.FieldValueTypeSigned, wire.FieldValueTypeUnsigned, wire.FieldValueTypeFloat:
		err = d.scanNumber(e, target, v)
	default:
		err = d.scanText(e, target, v.AsString())
	}
	return d.wrong(err)
}

// wrong names the column that an error is about, unless the encoder has done so.
func (d *columnDefinition) wrong(err error) error {
	var named *namedError
	if err == nil || errors.As(err, &named) {
		return err
	}
	return &scanError{column: d.name, err: err}
}

type scanError struct {
	column string
	err    error
}

func (e *scanError) Error() string { return "column " + strconv.Quote(e.column) + " " + e.err.Error() }
func (e *scanError) Unwrap() error { return e.err }

func (d *columnDefinition) scanNumber(e *digest.Encoder, target int, v *wire.FieldValue) error {
	switch d.kind.DataType {
	case "enum", "set":
		if v.Type == wire.FieldValueTypeUnsigned {
			return d.scanLabels(e, target, v.AsUint64())
		}
	case "tinyint", "smallint", "mediumint", "int", "bigint", "year":
		switch v.Type {
		case wire.FieldValueTypeSigned:
			e.Int(target, v.AsInt64())
			return nil
		case wire.FieldValueTypeUnsigned:
			e.Uint(target, v.AsUint64())
			return nil
		}
	case "float", "double":
		if v.Type == wire.FieldValueTypeFloat {
			e.Float(target, v.AsFloat64())
			return nil
		}
	}
	return errScanned
}

func (d *columnDefinition) scanText(e *digest.Encoder, target int, v []byte) error {
	switch d.kind.DataType {
	case "bit":
		if len(v) > 8 {
			return errScanValue
		}
		e.Uint(target, bigEndian(v))
	case "decimal":
		return named(e.Decimal(target, v))
	case "char":
		return scanString(e, target, d.kind.Charset, v, true)
	case "varchar", "tinytext", "text", "mediumtext", "longtext":
		return scanString(e, target, d.kind.Charset, v, false)
	case "enum":
		return d.scanEnum(e, target, v)
	case "set":
		return d.scanSet(e, target, v)
	case "json":
		return named(e.JSON(target, v))
	case "uuid":
		return scanUUID(e, target, v)
	case digest.TypeINET4, digest.TypeINET6:
		return scanAddress(e, target, v, d.kind.DataType == digest.TypeINET6)
	case "date", "datetime", "timestamp":
		return scanMoment(e, target, d.kind.DataType, v)
	case "time":
		return scanTime(e, target, v)
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		e.Bytes(target, v)
	default:
		return d.scanOther(e, target, v)
	}
	return nil
}

// named marks an error of the encoder's.
func named(err error) error {
	if err == nil {
		return nil
	}
	return &namedError{err}
}

// scanString is for text; a CHAR comes without its blanks unless the session's sql_mode has PAD_CHAR_TO_FULL_LENGTH.
func scanString(e *digest.Encoder, target int, charsetName string, v []byte, padded bool) error {
	in := charsetOf(charsetName)
	if padded && in != otherCharset {
		v = trimBlanks(v)
	}
	switch in {
	case utf8Charset:
		e.Text(target, v)
	case latin1Charset:
		e.TextFrom(target, func(dst []byte) []byte { return appendLatin1(dst, v) })
	default:
		e.Bytes(target, v)
	}
	return nil
}

// scanOther is for the types that are left: those of numbers, which do not come as text, those whose values are bytes, and
// those that lockstep cannot read.
func (d *columnDefinition) scanOther(e *digest.Encoder, target int, v []byte) error {
	switch digest.MySQLColumn("", d.kind).Class {
	case digest.Bytes:
		e.Bytes(target, v)
		return nil
	case digest.Verbatim:
		return errUnknownType
	}
	return errScanned
}

// selected is what a SELECT asks for to have the column's values: of an enum or a set that has an empty label the number, for what
// the server prints tells nothing apart there.
func (d *columnDefinition) selected() string {
	name := quoteName(d.as)
	if d.kind.DataType != "enum" && d.kind.DataType != "set" {
		return name
	}
	if labels, err := parseLabels(d.kind.ColumnType); err != nil || !slices.Contains(labels, "") {
		return name
	}
	return "CAST(" + name + " AS UNSIGNED)"
}

// scanLabels is for a number in place of a text.
func (d *columnDefinition) scanLabels(e *digest.Encoder, target int, n uint64) error {
	text, err := d.labelTexts(&mappedColumn{})
	if err != nil {
		return err
	}
	l := newLabels(text)
	if d.kind.DataType == "set" {
		if !l.has(n) {
			return errNoLabel
		}
		e.TextFrom(target, func(dst []byte) []byte { return l.appendSet(dst, n) })
		return nil
	}
	label, err := l.enum(n)
	if err == nil {
		e.Text(target, label)
	}
	return err
}

// scanEnum is for an enum without an empty label.
func (d *columnDefinition) scanEnum(e *digest.Encoder, target int, v []byte) error {
	text, err := labelText(d.kind.Charset, v)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		text = noLabel
	}
	e.Text(target, text)
	return nil
}

// scanSet puts the labels in order; see [labels.appendSet].
func (d *columnDefinition) scanSet(e *digest.Encoder, target int, v []byte) error {
	text, err := labelText(d.kind.Charset, v)
	if err != nil {
		return err
	}
	if bytes.IndexByte(text, ',') < 0 {
		e.Text(target, text)
		return nil
	}
	list := bytes.Split(text, []byte{','})
	slices.SortFunc(list, bytes.Compare)
	e.Text(target, bytes.Join(list, []byte{','}))
	return nil
}

// scanUUID reads the text of a UUID.
func scanUUID(e *digest.Encoder, target int, v []byte) error {
	var uuid [16]byte
	n := 0
	for i := 0; i < len(v); i++ {
		if v[i] == '-' && (i == 8 || i == 13 || i == 18 || i == 23) {
			continue
		}
		if i+1 == len(v) || n == len(uuid) {
			return errScanValue
		}
		b, err := strconv.ParseUint(string(v[i:i+2]), 16, 8)
		if err != nil {
			return errScanValue
		}
		uuid[n], n, i = byte(b), n+1, i+1
	}
	if n != len(uuid) || len(v) != 36 {
		return errScanValue
	}
	e.UUID(target, uuid)
	return nil
}

// scanAddress reads the text of an address.
func scanAddress(e *digest.Encoder, target int, v []byte, v6 bool) error {
	address, err := netip.ParseAddr(string(v))
	if err != nil || address.Is4() == v6 || address.Zone() != "" {
		return errScanValue
	}
	e.Bytes(target, address.AsSlice())
	return nil
}

// scanMoment reads 2024-02-29, 2024-02-29 18:04:56, 2024-02-29 18:04:56.780000, and what no calendar has.
func scanMoment(e *digest.Encoder, target int, dataType string, v []byte) error {
	if len(v) < 10 || v[4] != '-' || v[7] != '-' {
		return errScanTime
	}
	year, ok1 := digitsOf(v[:4])
	month, ok2 := digitsOf(v[5:7])
	day, ok3 := digitsOf(v[8:10])
	if !ok1 || !ok2 || !ok3 {
		return errScanTime
	}
	if dataType == "date" {
		if len(v) > 10 {
			return errScanTime
		}
		e.CivilDate(target, year, month, day)
		return nil
	}
	if len(v) < 11 || v[10] != ' ' {
		return errScanTime
	}
	us, ok := clockOf(v[11:], 2)
	switch {
	case !ok:
		return errScanTime
	case dataType == "datetime":
		e.CivilTimestamp(target, year, month, day, us)
	default:
		e.CivilInstant(target, year, month, day, us)
	}
	return nil
}

// scanTime reads 18:04:56, -838:59:59.999999.
func scanTime(e *digest.Encoder, target int, v []byte) error {
	text, negative := bytes.CutPrefix(v, []byte{'-'})
	us, ok := clockOf(text, bytes.IndexByte(text, ':'))
	if !ok {
		return errScanTime
	}
	if negative {
		us = -us
	}
	e.Time(target, us)
	return nil
}

// clockOf reads hours of so many digits, minutes and seconds, and perhaps a fraction, as microseconds.
func clockOf(v []byte, hours int) (us int64, ok bool) {
	if hours < 2 || hours > 3 || len(v) < hours+6 || v[hours] != ':' || v[hours+3] != ':' {
		return 0, false
	}
	h, ok1 := digitsOf(v[:hours])
	m, ok2 := digitsOf(v[hours+1 : hours+3])
	s, ok3 := digitsOf(v[hours+4 : hours+6])
	us = int64(h)*hour + int64(m)*minute + int64(s)*second
	fraction := v[hours+6:]
	if len(fraction) == 0 {
		return us, ok1 && ok2 && ok3
	}
	f, ok4 := digitsOf(fraction[1:])
	if fraction[0] != '.' || len(fraction) > 7 {
		return 0, false
	}
	return us + int64(f)*powers[7-len(fraction)], ok1 && ok2 && ok3 && ok4
}

// digitsOf reads digits alone, up to nine.
func digitsOf(v []byte) (n int, ok bool) {
	if len(v) == 0 || len(v) > 9 {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
