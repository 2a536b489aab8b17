package mysql

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// same are values that are shown as they are written.
func same(kind string, values ...string) valueTable {
	t := valueTable{kind: kind}
	for _, v := range values {
		t.values = append(t.values, valueCase{v, v})
	}
	return t
}

// quotedAlike are values that are shown in double quotes where SQL has single ones.
func quotedAlike(kind string, values ...string) valueTable {
	t := valueTable{kind: kind}
	for _, v := range values {
		t.values = append(t.values, valueCase{"'" + v + "'", `"` + v + `"`})
	}
	return t
}

func cases(kind string, pairs ...string) valueTable {
	t := valueTable{kind: kind}
	for i := 0; i < len(pairs); i += 2 {
		t.values = append(t.values, valueCase{pairs[i], pairs[i+1]})
	}
	return t
}

// computed are values that the server makes.
func computed(kind string, values ...string) valueTable {
	t := valueTable{kind: kind, computed: true}
	for _, v := range values {
		t.values = append(t.values, valueCase{"DEFAULT", v})
	}
	return t
}

// unshown are values that are only held against what SELECT gives.
func unshown(kind string, values ...string) valueTable {
	t := valueTable{kind: kind}
	for _, v := range values {
		t.values = append(t.values, valueCase{sql: v})
	}
	return t
}

func withLabels(t valueTable) valueTable {
	t.labels = true
	return t
}

func tables(lists ...[]valueTable) (all []valueTable) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

var valueTables = tables(numberTables, timeTables, textTables, labelTables, bytesTables)

var nines = strings.Repeat("9", 65)

var numberTables = []valueTable{
	same("tinyint", "0", "1", "-1", "127", "-128"),
	same("tinyint unsigned", "0", "128", "255"),
	same("smallint", "-32768", "32767"),
	same("smallint unsigned", "65535"),
	same("mediumint", "-8388608", "8388607", "-1"),
	same("mediumint unsigned", "8388608", "16777215"),
	same("int", "-2147483648", "2147483647"),
	same("int unsigned", "2147483648", "4294967295"),
	same("int(5) zerofill", "42", "4294967295"),
	same("bigint", "-9223372036854775808", "9223372036854775807", "-1"),
	same("bigint unsigned", "9223372036854775808", "18446744073709551615", "0"),
	same("year", "0", "1901", "2024", "2155"),
	cases("bit(1)", "b'0'", "0", "b'1'", "1"),
	same("bit(10)", "0", "255", "256", "1023"),
	same("bit(64)", "0", "1", "9223372036854775808", "18446744073709551615"),
	cases("decimal(10,2)", "0", "0", "-0.0", "0", "1.5", "1.5", "12.50", "12.5", "-99999999.99", "-99999999.99", "0.01", "0.01", "-0.01", "-0.01", "100", "100"),
	cases("decimal(65,30)", nines[:35]+"."+nines[:30], nines[:35]+"."+nines[:30], "-"+nines[:35]+"."+nines[:30], "-"+nines[:35]+"."+nines[:30],
		"0."+strings.Repeat("0", 29)+"1", "1e-30", "-1", "-1"),
	same("decimal(65,0)", nines, "-"+nines, "1", "1000000000", "999999999", "-1000000001"),
	same("decimal(30,30)", "0."+nines[:30], "-0.1", "0.000000001", "-0.000000000999999999000000001"),
	same("decimal(18,9)", "123456789.123456789", "-1.000000001", "0.1"),
	same("decimal(5,0)", "-99999", "12345"),
	same("decimal(9,9)", "0.999999999", "-0.000000001"),
	same("decimal(20,10) unsigned", "9999999999.9999999999", "0"),
	same("decimal(3,1)", "-0.1", "99.9"),
	cases("float", "0.1", "0.10000000149011612", "-0e0", "0", "1e-45", "1.401298464324817e-45", "3.4028234e38", "3.4028234663852886e+38", "16777217", "1.6777216e+07",
		"1/3e0", "0.3333333432674408"),
	cases("float(7,3)", "1.2345", "1.2339999675750732"),
	cases("float unsigned", "0.5", "0.5"),
	cases("double", "0.1", "0.1", "-0e0", "0", "4.9406564584124654e-324", "5e-324", "1.7976931348623157e308", "1.7976931348623157e+308", "1/3e0", "0.3333333333333333"),
	same("double(10,3)", "1.25", "-1.125"),
}

// fractions are tables of times with a fraction of so many digits.
func fractions(kind string, values ...string) (all []valueTable) {
	for digits := range 7 {
		t := valueTable{kind: fmt.Sprintf("%s(%d) NULL", kind, digits)}
		for _, v := range values {
			sql, fraction, _ := strings.Cut(v, ".")
			if fraction = strings.TrimRight(fraction[:min(digits, len(fraction))], "0"); fraction != "" {
				sql += "." + fraction
			}
			t.values = append(t.values, valueCase{"'" + sql + "'", `"` + shownTime(kind, sql) + `"`})
		}
		all = append(all, t)
	}
	return all
}

// shownTime is a time as we show it.
func shownTime(kind, sql string) string {
	switch kind {
	case "datetime":
		return strings.Replace(sql, " ", "T", 1)
	case "timestamp":
		return strings.Replace(sql, " ", "T", 1) + "Z"
	case "time":
		if strings.Trim(sql, "-0:.") == "" {
			return "00:00:00"
		}
	}
	return sql
}

var timeTables = tables([]valueTable{
	quotedAlike("date", "0000-00-00", "2024-00-15", "2024-01-00", "2024-02-29", "2024-02-30", "2023-02-29", "9999-12-31", "1000-01-01", "0001-01-01", "1969-12-31",
		"1970-01-01", "0000-01-01", "0000-02-29", "1900-02-28"),
	// The session's zone is UTC, so the hour that summer time skips elsewhere is there.
	quotedAlike("time", "00:00:00", "-00:00:01", "838:59:59", "-838:59:59", "10:00:00", "100:00:00"),
}, fractions("time", "00:00:00", "10:00:00.000", "-00:00:00.123456", "-00:00:01.5", "838:59:58.999999", "-838:59:58.999999", "838:59:59", "00:00:00.000001", "12:34:56.789",
	"-12:34:56.1", "-00:00:01.000001", "-10:00:00"),
	fractions("datetime", "0000-00-00 00:00:00", "2024-02-29 18:04:56.789012", "9999-12-31 23:59:59.999999", "1000-01-01 00:00:00", "2024-00-00 10:11:12.5", "2024-02-30 00:00:00.000001",
		"1969-12-31 23:59:59.9", "0001-01-01 00:00:00", "2024-03-31 02:30:00"),
	fractions("timestamp", "0000-00-00 00:00:00", "1970-01-01 00:00:01", "1970-01-01 00:00:01.000001", "2038-01-19 03:14:07.999999", "2024-10-27 01:30:00.120000", "2024-03-31 02:30:00.5"))

var textTables = []valueTable{
	cases("char(10) CHARACTER SET utf8mb4", "''", `""`, "'a'", `"a"`, "'a  '", `"a"`, "'é'", `"é"`, "'😀'", `"😀"`, "'  a'", `"  a"`, `'\0a\n'`, `"\u0000a\n"`, "'ABC'", `"ABC"`),
	cases("char(255) CHARACTER SET utf8mb4", "REPEAT('😀', 255)", `"`+strings.Repeat("😀", 255)+`"`, "'x'", `"x"`),
	cases("char(100) CHARACTER SET utf8mb3", "REPEAT('é', 100)", `"`+strings.Repeat("é", 100)+`"`, "'x '", `"x"`),
	cases("char(5) CHARACTER SET latin1", "'é'", `"é"`, "'a '", `"a"`, "'€'", `"€"`),
	cases("char(5) CHARACTER SET ascii", "'a'", `"a"`),
	cases("varchar(10) CHARACTER SET utf8mb4", "''", `""`, "'a  '", `"a  "`, "'é'", `"é"`),
	cases("varchar(255) CHARACTER SET latin1", "CONVERT(X'"+highBytes()+"' USING latin1)", `"`+highText()+`"`, "''", `""`),
	cases("varchar(300) CHARACTER SET latin1", "'é'", `"é"`),
	cases("varchar(300) CHARACTER SET utf8mb4", "REPEAT('é', 300)", `"`+strings.Repeat("é", 300)+`"`),
	cases("varchar(63) CHARACTER SET utf8mb4", "REPEAT('é', 63)", `"`+strings.Repeat("é", 63)+`"`),
	cases("varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'Aa'", `"Aa"`),
	cases("varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "'Aa'", `"Aa"`),
	cases("varchar(10) CHARACTER SET utf8mb3 COLLATE utf8mb3_unicode_ci", "'Aa'", `"Aa"`),
	cases("tinytext", "REPEAT('a', 255)", `"`+strings.Repeat("a", 255)+`"`, "''", `""`),
	cases("text", "REPEAT('é', 30000)", `"`+strings.Repeat("é", 30000)+`"`),
	cases("mediumtext", "REPEAT('a', 70000)", `"`+strings.Repeat("a", 70000)+`"`),
	cases("longtext CHARACTER SET latin1", "'naïve  '", `"naïve  "`),
	cases("varchar(10) CHARACTER SET gbk", "'中文'", `"\\xd6d0cec4"`, "'a '", `"\\x6120"`),
	cases("char(10) CHARACTER SET gbk", "'中文 '", `"\\xd6d0cec4"`),
	cases("char(10) CHARACTER SET ucs2", "'aé '", `"\\x006100e9"`, "''", `"\\x"`),
	cases("text CHARACTER SET utf16", "'a😀'", `"\\x0061d83dde00"`),
	cases("varchar(10) CHARACTER SET utf32", "'a'", `"\\x00000061"`),
	cases("varchar(10) CHARACTER SET cp1251", "'Ж'", `"\\xc6"`),
}

// highBytes are all bytes from 80 on, in hexadecimal.
func highBytes() string {
	var b strings.Builder
	for c := 0x80; c <= 0xff; c++ {
		fmt.Fprintf(&b, "%02x", c)
	}
	return b.String()
}

// highText are the characters of highBytes: what Windows-1252 has, and where it has nothing, the control characters of
// ISO 8859-1.
func highText() string {
	text := "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"
	for r := '\u00a0'; r <= '\u00ff'; r++ {
		text += string(r)
	}
	return text
}

// manyLabels are so many labels: l1, l2, ...
func manyLabels(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("'l%02d'", i+1))
	}
	return strings.Join(list, ",")
}

// odd are labels with all that is special in the text of a type.
const odd = `'a,b', 'it''s', 'back\\slash', 'new\nline', '', '(', ')', '"', 'tab\t', '\0zero', 'é', ' unsigned'`

// noLabelShown is an enum's number 0 in a key.
const noLabelShown = `{"bytes":"\\xff"}`

var labelTables = []valueTable{
	quotedAlike("enum('b', 'a')", "a", "b"),
	cases("enum('x')", "'nothing of it'", noLabelShown, "'x'", `"x"`),
	cases("enum('x', '', 'y')", "'nothing of it'", noLabelShown, "''", `""`, "2", `""`, "'y'", `"y"`),
	cases("enum("+odd+") CHARACTER SET utf8mb4", "1", `"a,b"`, "2", `"it's"`, "3", `"back\\slash"`, "4", `"new\nline"`, "5", `""`, "6", `"("`, "7", `")"`, "8", `"\""`, "9", `"tab\t"`,
		"10", `"\u0000zero"`, "11", `"é"`, "12", `" unsigned"`, "0", noLabelShown),
	cases("enum('é', '€', 'a''b') CHARACTER SET latin1", "'é'", `"é"`, "2", `"€"`, "3", `"a'b"`),
	cases("enum("+manyLabels(300)+")", "'l01'", `"l01"`, "255", `"l255"`, "256", `"l256"`, "300", `"l300"`),
	cases("enum("+manyLabels(255)+")", "255", `"l255"`),
	cases("enum('plain', 'also plain') CHARACTER SET gbk", "'plain'", `"plain"`),
	withLabels(cases("enum('😀', 'why?') CHARACTER SET utf8mb4", "1", `"😀"`, "2", `"why?"`)),
	cases("set('b', 'a', 'c')", "''", `""`, "'b'", `"b"`, "'b,a'", `"a,b"`, "'c,b'", `"b,c"`, "7", `"a,b,c"`),
	cases("set('', 'q', 'w')", "0", `""`, "1", `","`, "2", `"q"`, "3", `",q"`, "6", `"q,w"`, "7", `",q,w"`),
	cases("set('w', '', 'é') CHARACTER SET latin1", "0", `""`, "2", `","`, "7", `",w,é"`),
	cases("set('',"+manyLabels(63)+")", "18446744073709551615", `",`+strings.ReplaceAll(manyLabels(63), "'", "")+`"`, "18446744073709551614", `"`+strings.ReplaceAll(manyLabels(63), "'", "")+`"`),
	cases("set('é', 'a''b', 'c\\\\d') CHARACTER SET latin1", "1", `"é"`, "7", `"a'b,c\\d,é"`),
	cases("set("+manyLabels(9)+")", "'l01,l09'", `"l01,l09"`),
	cases("set("+manyLabels(17)+")", "'l17'", `"l17"`),
	cases("set("+manyLabels(33)+")", "'l33,l32'", `"l32,l33"`),
	cases("set("+manyLabels(64)+")", "'l64,l01'", `"l01,l64"`, "18446744073709551615", `"`+strings.ReplaceAll(manyLabels(64), "'", "")+`"`),
}

var bytesTables = []valueTable{
	cases("binary(4)", "X'0a0b0000'", `"\\x0a0b0000"`, "X'00000000'", `"\\x00000000"`, "X'01'", `"\\x01000000"`, "X'20202020'", `"\\x20202020"`, "''", `"\\x00000000"`),
	cases("binary(255)", "X'01'", `"\\x01`+strings.Repeat("00", 254)+`"`),
	cases("varbinary(10)", "X'6100'", `"\\x6100"`, "''", `"\\x"`, "X'ff00'", `"\\xff00"`, "X'2020'", `"\\x2020"`),
	cases("varbinary(300)", "REPEAT('a', 300)", `"\\x`+strings.Repeat("61", 300)+`"`),
	cases("tinyblob", "X'00'", `"\\x00"`, "''", `"\\x"`),
	cases("blob", "X'ff00'", `"\\xff00"`),
	cases("mediumblob", "REPEAT('b', 70000)", `"\\x`+strings.Repeat("62", 70000)+`"`),
	cases("longblob", "X'00ff'", `"\\x00ff"`),
	unshown("geometry", "ST_GeomFromText('POINT(1 -2.5)')", "ST_GeomFromText('LINESTRING(0 0, 1 1)')", "ST_GeomFromText('POINT(1 2)', 4326)",
		"ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1), POLYGON((0 0, 1 0, 1 1, 0 0)))')"),
	unshown("point", "ST_GeomFromText('POINT(1 2)')"),
	unshown("polygon", "ST_GeomFromText('POLYGON((0 0, 1 0, 1 1, 0 0))')"),
	unshown("geometrycollection", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))')"),
	computed("int GENERATED ALWAYS AS (id * 2) VIRTUAL", "0", "2"),
	computed("varchar(20) CHARACTER SET utf8mb4 GENERATED ALWAYS AS (CONCAT('n', id)) STORED", `"n0"`, `"n1"`),
	same("int INVISIBLE", "7"),
}

var mariadbTables = []valueTable{
	cases("uuid", "'6b1f6d8e-3b1c-1f0e-9a53-7a6f0c2d1e4b'", `"6b1f6d8e-3b1c-1f0e-9a53-7a6f0c2d1e4b"`, "'6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e00'", `"6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e00"`,
		"'018bcfe5-6800-7000-8000-000000000000'", `"018bcfe5-6800-7000-8000-000000000000"`, "'00000000-0000-0000-0000-000000000000'", `"00000000-0000-0000-0000-000000000000"`),
	cases("inet4", "'1.2.3.0'", `"\\x01020300"`, "'0.0.0.0'", `"\\x00000000"`, "'255.255.255.255'", `"\\xffffffff"`),
	cases("inet6", "'::'", `"\\x00000000000000000000000000000000"`, "'fe80::1'", `"\\xfe800000000000000000000000000001"`, "'2001:db8::'", `"\\x20010db8000000000000000000000000"`,
		"'::ffff:1.2.3.4'", `"\\x00000000000000000000ffff01020304"`, "'::1.2.3.4'", `"\\x00000000000000000000000001020304"`),
	cases("json", `'{"b": 1.50, "a": [ 1,2 ]}'`, `"{\"b\": 1.50, \"a\": [ 1,2 ]}"`, "'null'", `"null"`),
	cases("varchar(200) COMPRESSED", "REPEAT('ab', 100)", `"`+strings.Repeat("ab", 100)+`"`, "'short'", `"short"`, "''", `""`),
	cases("varchar(255) CHARACTER SET latin1 COMPRESSED", "REPEAT('é', 255)", `"`+strings.Repeat("é", 255)+`"`),
	cases("varchar(254) CHARACTER SET latin1 COMPRESSED", "REPEAT('é', 254)", `"`+strings.Repeat("é", 254)+`"`),
	cases("varchar(1000) CHARACTER SET latin1 COMPRESSED", "REPEAT('é', 1000)", `"`+strings.Repeat("é", 1000)+`"`, "'x'", `"x"`),
	cases("varbinary(300) COMPRESSED", "REPEAT('a', 300)", `"\\x`+strings.Repeat("61", 300)+`"`, "X'00'", `"\\x00"`),
	cases("text COMPRESSED", "REPEAT('ab', 1000)", `"`+strings.Repeat("ab", 1000)+`"`, "''", `""`),
	cases("blob COMPRESSED", "REPEAT('ab', 1000)", `"\\x`+strings.Repeat("6162", 1000)+`"`, "X'00'", `"\\x00"`),
	cases("longblob COMPRESSED", "REPEAT('ab', 40000)", `"\\x`+strings.Repeat("6162", 40000)+`"`),
	cases("varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci", "'Aa'", `"Aa"`),
	cases("varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", "'Aa '", `"Aa "`),
	cases("char(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", "'Aa '", `"Aa"`),
	cases("decimal(65,38)", "0.00000000000000000000000000000000000001", "1e-38", "-99999", "-99999"),
}

var mysqlTables = []valueTable{
	unshown("vector(3)", "STRING_TO_VECTOR('[1,2,-3.5]')"),
	cases("vector", "STRING_TO_VECTOR('[1]')", `"\\x0000803f"`),
	cases("geometrycollection SRID 4326", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))', 4326)", ""),
	unshown("json", jsonDocuments()...),
	same("int, KEY ((v + 1))", "7"),
}

// jsonDocuments are expressions of SQL for documents with all that JSON of MySQL can hold.
func jsonDocuments() []string {
	documents := []string{
		`'{}'`, `'[]'`, `'null'`, `'true'`, `'false'`, `'""'`, `'"text"'`, `'0'`, `'-1'`, `'32767'`, `'-32768'`, `'32768'`, `'65535'`, `'65536'`, `'-32769'`, `'2147483647'`,
		`'2147483648'`, `'-2147483648'`, `'4294967295'`, `'4294967296'`, `'-2147483649'`, `'9223372036854775807'`, `'-9223372036854775808'`, `'9223372036854775808'`,
		`'18446744073709551615'`, `'18446744073709551616'`, `'1.0'`, `'1.5'`, `'-0.0'`, `'1e100'`, `'1e-300'`, `'0.1'`, `'123456789.123456789'`, `'1.7976931348623157e308'`, `'5e-324'`,
		`'[1, 2, [3, {"a": null}], -1.25]'`, `'{"b": 1, "aa": 2, "a": {"z": [], "y": {}}, "": 3}'`, `'{"a": 1, "a": 2}'`, `'{"é": "ü", "😀": "\\ud83d\\ude00"}'`,
		`'"\\u0000 \\u0001 \\n \\" \\\\ / <>&"'`, `'[true, false, null, 70000, -70000, "x"]'`,
		`JSON_ARRAY(1.50, CAST(-0.001 AS DECIMAL(10,3)), CAST(99999999999999999999999999999999999 AS DECIMAL(65,0)), CAST(0 AS DECIMAL(5,2)))`,
		`JSON_ARRAY(DATE'2015-01-15', TIME'23:24:25', TIME'-838:59:58.123456', TIMESTAMP'2015-01-15 23:24:25', TIMESTAMP'2015-01-15 23:24:25.12', CAST('0000-00-00' AS DATE), TIME'00:00:00')`,
		`JSON_ARRAY(CAST('0000-00-00 00:00:00' AS DATETIME), CAST('2024-00-15' AS DATE), CAST(20150115232425 AS YEAR), UNIX_TIMESTAMP(TIMESTAMP'2015-01-15 23:24:25'))`,
		`JSON_OBJECT('b', b'1010101', 'x', X'00ff', 'blob', CAST(REPEAT('ab', 300) AS BINARY), 'empty', CAST('' AS BINARY), 'g', ST_GeomFromText('POINT(1 2)'))`,
		`JSON_ARRAY(CAST(REPEAT('a', 56) AS BINARY), CAST(REPEAT('a', 57) AS BINARY), CAST(REPEAT('a', 58) AS BINARY), CAST(REPEAT('a', 114) AS BINARY))`,
		`JSON_ARRAY(REPEAT('x', 127), REPEAT('x', 128), REPEAT('x', 16384))`,
		`JSON_OBJECT('big', REPEAT('x', 70000), 'n', 5, 'neg', -5, 'i', 70000, 'u', 4294967295, 't', true, 'a', JSON_ARRAY(1, 70000, '2'))`,
		`CAST(CONCAT('[', REPEAT('1,', 30000), '2]') AS JSON)`,
		`CAST(CONCAT(REPEAT('[', 99), REPEAT(']', 99)) AS JSON)`,
		`CAST(CONCAT(REPEAT('{"b":1,"a":', 90), '0', REPEAT('}', 90)) AS JSON)`,
		`JSON_SET('{"a": "long enough a text to shrink", "b": [1, 2, 3]}', '$.a', 'x')`,
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 { // doubles as the server prints them
		var list []string
		for range 50 {
			if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
				list = append(list, strconv.FormatFloat(f, 'e', -1, 64))
			}
			list = append(list, strconv.FormatFloat(r.NormFloat64()*math.Pow10(r.IntN(40)-20), 'g', r.IntN(17)+1, 64))
		}
		documents = append(documents, "'["+strings.Join(list, ",")+"]'")
	}
	return documents
}
