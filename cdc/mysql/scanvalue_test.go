package mysql

import (
	"fmt"
	"strings"
	"testing"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// What a server gives is held against its log in values_test.go. Here is what no server should give.
func TestScannedValueThatCannotBeReadIsAnError(t *testing.T) {
	for kind, texts := range map[string][]string{
		"date":      {"", "2024-1-1", "2024-01-01 00:00:00", "2024/01/01", "20x4-01-01", "2024-13-01", "2024-01-32", "-024-01-01"},
		"datetime":  {"2024-01-01", "2024-01-01 24:00:00", "2024-01-01 00:00", "2024-01-01 00:00:00.", "2024-01-01 00:00:00.1234567", "2024-01-01 00:00:00.x", "2024-01-01T00:00:00", "2024-01-01 00:00:00 "},
		"timestamp": {"2024-01-01", "2024-01-01 00:00:00+00", "2024-01-01 1:00:00"},
		"time":      {"", "-", "10:00", "1:00:00", "1000:00:00", "10:00:00:00", "--10:00:00", "10:0x:00"},
		"uuid":      {"", "6b1f6d8e3b1c4f0e9a537a6f0c2d1e4b", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4x", "6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b0", "6b1f6d8e-3b1c-4f0e-9a53------------b"},
		"inet4":     {"", "1.2.3", "1.2.3.4.5", "::1"},
		"inet6":     {"1.2.3.4", "fe80::1%eth0", "g::"},
		"decimal":   {"", "x", "1,5"},
		"json":      {"", "{", "nul"},
		"bit":       {"123456789"},
		"int":       {"1"},
		"double":    {"1.5"},
		"xmltype":   {"<a/>"},
	} {
		for _, text := range texts {
			if err := scanOne(kind, text, wire.FieldValueTypeString); err == nil || !strings.Contains(err.Error(), `column "v"`) && !strings.Contains(err.Error(), "range") {
				t.Errorf("%s %q: error is %v", kind, text, err)
			} else if len(text) > 3 && strings.Contains(err.Error(), text) {
				t.Errorf("%s: the error quotes the value: %v", kind, err)
			}
		}
	}
	for _, kind := range []string{"decimal", "varchar", "date", "float"} {
		if err := scanOne(kind, "", wire.FieldValueTypeUnsigned); err == nil {
			t.Errorf("%s was given as a number", kind)
		}
	}
}

// scanOne scans a value into a row of its own.
func scanOne(kind, text string, how wire.FieldValueType) error {
	d := &columnDefinition{name: "v", kind: digest.MySQLType{DataType: kind, ColumnType: kind, Charset: "utf8mb4"}}
	shape := digest.Shape{Table: "t", Columns: []digest.Column{{Name: "id", Class: digest.Int}, digest.MySQLColumn("v", d.kind)}, Key: []int{0}}
	e, err := digest.NewEncoder(scanHasher, shape)
	if err != nil {
		return err
	}
	e.Reset()
	e.Int(0, 1)
	v := wire.NewFieldValue(how, 0, []byte(text))
	if err := d.scan(e, 1, &v); err != nil {
		if e.Row(new(digest.Row)) == nil {
			return fmt.Errorf("a row was made after %w", err)
		}
		return err
	}
	return e.Row(new(digest.Row))
}

// What a server prints of an empty label is nothing, so that columns with one are read by their numbers, wherever rows are read.
func TestColumnsWithAnEmptyLabelAreReadByNumber(t *testing.T) {
	for kind, want := range map[string]string{
		"enum('a','b')": "`v`", "set('a','b')": "`v`", "varchar(10)": "`v`",
		"enum('a','')": "CAST(`v` AS UNSIGNED)", "set('','a')": "CAST(`v` AS UNSIGNED)",
	} {
		d := definedAs(catalogType(kind, "utf8mb4"))
		d.columns[1].as = "v"
		s := &Source{hasher: scanHasher}
		r, err := s.rowReader(d, cdc.Epoch{Shape: shapeOf(d)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(r.pager.from, want) || strings.Contains(r.pager.from, "CAST") != strings.Contains(want, "CAST") {
			t.Errorf("%s is read by %s", kind, r.pager.from)
		}
	}
}
