package mysql

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lockstep-cdc/lockstep/digest"
)

// A key is written in a statement so that the server reads exactly that key. One that cannot be a key of the column must
// not become another value or NULL on the way: a condition on NULL finds no row, and says nothing.

// errNoValue is about a key that the column cannot have, so that no row has it. Members may define a column otherwise.
var errNoValue = errors.New("cannot have this value")

// literals write a value of a key column, which is given as [digest.Shape.KeyJSON] has it, by type.
var literals = map[string]func(*columnDefinition, json.RawMessage) (string, error){
	"tinyint": numberLiteral, "smallint": numberLiteral, "mediumint": numberLiteral, "int": numberLiteral, "bigint": numberLiteral,
	"bit":     numberLiteral,
	"decimal": decimalLiteral,
	"char":    textLiteral, "varchar": textLiteral,
	"binary": bytesLiteral, "varbinary": bytesLiteral,
	"date": dateLiteral, "datetime": momentLiteral, "timestamp": momentLiteral, "time": timeLiteral,
	"uuid": uuidLiteral, digest.TypeINET4: addressLiteral, digest.TypeINET6: addressLiteral,
}

// keyLiterals writes the columns of a key, in the order of the definition's.
func keyLiterals(columns []*columnDefinition, shape digest.Shape, k digest.Key) ([]string, error) {
	text, err := shape.KeyJSON(k)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	list := make([]string, len(columns))
	for i, c := range columns {
		field, ok := fields[c.name]
		if !ok {
			return nil, fmt.Errorf("column %q is no part of the key's shape", c.name)
		}
		if list[i], err = literals[c.kind.DataType](c, field); err != nil {
			return nil, fmt.Errorf("key column %q %w", c.name, err)
		}
	}
	return list, nil
}

func numberLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	return plain(string(field), "-")
}

// The most digits that a DECIMAL has, and of them behind the point.
const (
	mostDigits   = 65
	mostFraction = 30
)

// decimalLiteral needs no type beside it: digits with a point are a DECIMAL, those with an exponent would be a DOUBLE.
func decimalLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	number, sign := string(field), ""
	if rest, negative := strings.CutPrefix(number, "-"); negative {
		number, sign = rest, "-"
	}
	mantissa, exponent, scientific := strings.Cut(number, "e")
	if !scientific {
		exponent = "0"
	}
	shift, err := strconv.Atoi(exponent)
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if _, unclear := plain(whole+fraction, ""); err != nil || unclear != nil || shift > mostDigits || shift < -mostDigits {
		return "", errNoValue
	}
	whole, fraction = shifted(whole, fraction, shift)
	if len(whole)+len(fraction) > mostDigits || len(fraction) > mostFraction {
		return "", errNoValue
	}
	return strings.TrimSuffix(sign+whole+"."+fraction, "."), nil
}

// shifted moves the point to the right, or to the left if by is negative.
func shifted(whole, fraction string, by int) (string, string) {
	if by >= 0 {
		fraction += strings.Repeat("0", max(by-len(fraction), 0))
		return whole + fraction[:by], fraction[by:]
	}
	whole = strings.Repeat("0", max(1-by-len(whole), 0)) + whole
	return whole[:len(whole)+by], whole[len(whole)+by:] + fraction
}

// textLiteral gives the bytes in the column's character set, and the collation by which the key is ordered. Unlike CONVERT,
// which would give NULL, a server refuses bytes that are none of the character set.
func textLiteral(c *columnDefinition, field json.RawMessage) (string, error) {
	text, err := c.textOf(field)
	if err != nil {
		return "", err
	}
	return "_" + c.kind.Charset + " X'" + hex.EncodeToString(text) + "' COLLATE " + c.collation, nil
}

// textOf returns a text as the column holds it.
func (d *columnDefinition) textOf(field json.RawMessage) ([]byte, error) {
	in := charsetOf(d.kind.Charset)
	if in == otherCharset { // which the key has as bytes
		return bytesOf(field)
	}
	var text string
	if err := json.Unmarshal(field, &text); err != nil || !d.hasCharacters(text) {
		return nil, errNoValue
	}
	if in == latin1Charset {
		return latin1(text)
	}
	return []byte(text), nil
}

// hasCharacters reports whether the column's character set, if it is one of bytes that are UTF-8, has all characters.
func (d *columnDefinition) hasCharacters(text string) bool {
	last := rune(utf8.MaxRune)
	switch d.kind.Charset {
	case "ascii":
		last = utf8.RuneSelf - 1
	case "utf8", "utf8mb3":
		last = 0xffff
	}
	return strings.IndexFunc(text, func(r rune) bool { return r > last }) < 0
}

func bytesLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	b, err := bytesOf(field)
	return "X'" + hex.EncodeToString(b) + "'", err
}

func bytesOf(field json.RawMessage) ([]byte, error) {
	var text string
	if err := json.Unmarshal(field, &text); err != nil {
		return nil, errNoValue
	}
	digits, ok := strings.CutPrefix(text, `\x`)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return nil, errNoValue
	}
	return b, nil
}

// A DATE'...' cannot be zero or partial, a CAST can.
func dateLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	return momentOf(field, "DATE", "-")
}

func momentLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	return momentOf(field, "DATETIME(6)", "-:. ")
}

// momentOf writes a date, or a date and a time. The year has four digits and no sign.
func momentOf(field json.RawMessage, kind, others string) (string, error) {
	text := strings.TrimSuffix(strings.Replace(unquoted(field), "T", " ", 1), "Z")
	if len(text) < len("2024-02-29") || text[0] == '-' || text[4] != '-' {
		return "", errNoValue
	}
	text, err := plain(text, others)
	return "CAST('" + text + "' AS " + kind + ")", err
}

func timeLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	text, err := plain(unquoted(field), "-:.")
	return "CAST('" + text + "' AS TIME(6))", err
}

func uuidLiteral(_ *columnDefinition, field json.RawMessage) (string, error) {
	text, err := plain(unquoted(field), "-abcdef")
	return "CAST('" + text + "' AS UUID)", err
}

// addressLiteral gives the bytes of an address; of another number of bytes the server would make NULL.
func addressLiteral(c *columnDefinition, field json.RawMessage) (string, error) {
	b, err := bytesOf(field)
	if err == nil && len(b) != addressBytes[c.kind.DataType] {
		err = errNoValue
	}
	return "CAST(X'" + hex.EncodeToString(b) + "' AS " + c.kind.DataType + ")", err
}

var addressBytes = map[string]int{digest.TypeINET4: 4, digest.TypeINET6: 16}

// unquoted is the inside of a string that has nothing to escape.
func unquoted(field json.RawMessage) string { return strings.Trim(string(field), `"`) }

// plain makes sure that a text is of digits and of the other characters given.
func plain(text, others string) (string, error) {
	if text == "" || strings.Trim(text, "0123456789"+others) != "" {
		return "", errNoValue
	}
	return text, nil
}
