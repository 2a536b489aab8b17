package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// table is one of the load's, as the oracle reads it.
type table struct {
	name     string
	key      []keyColumn // in the order of the primary key
	columns  []string
	literals []string // the columns, each spelled as a literal by the server
}

type keyColumn struct {
	name string
	text bool // else an integer
}

// primaryKeys are those of the load's tables.
var primaryKeys = map[string][]keyColumn{
	"accounts": {{name: "id"}},
	"orders":   {{name: "id"}},
	"stock":    {{name: "warehouse", text: true}, {name: "item"}},
}

// readTables asks eu-1 for the columns of the load's tables.
func (d *demo) readTables(ctx context.Context) error {
	d.tables = make(map[string]table)
	for name, key := range primaryKeys {
		rows, err := d.stage.Query(ctx, "eu-1", fmt.Sprintf(
			"SELECT column_name FROM information_schema.columns WHERE table_schema = '%s' AND table_name = '%s' ORDER BY ordinal_position",
			d.stage.dialect().schema, name))
		if err != nil {
			return err
		}
		t := table{name: name, key: key}
		for _, row := range rows {
			t.columns = append(t.columns, row[0])
			t.literals = append(t.literals, fmt.Sprintf("%s(%s)", d.stage.dialect().literal, row[0]))
		}
		d.tables[name] = t
	}
	return nil
}

// keyColumns lists the primary key for a SELECT.
func (t table) keyColumns() string {
	var names []string
	for _, c := range t.key {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

// where is the condition that a row has one of the keys, which are spelled as the story does.
func (t table) where(keys []string) (string, error) {
	var either []string
	for _, key := range keys {
		parts, err := t.parse([]byte(key))
		if err != nil {
			return "", err
		}
		var all []string
		for i, c := range t.key {
			all = append(all, c.name+" = "+c.sql(parts[i]))
		}
		either = append(either, "("+strings.Join(all, " AND ")+")")
	}
	return strings.Join(either, " OR "), nil
}

// part is one column of a key: an integer or a text, the other one zero.
type part struct {
	number int64
	text   string
}

// compareKeys puts keys in the order of lockstep's: texts by their bytes.
func compareKeys(a, b []part) int {
	return slices.CompareFunc(a, b, func(x, y part) int {
		return cmp.Or(cmp.Compare(x.number, y.number), strings.Compare(x.text, y.text))
	})
}

func (c keyColumn) part(text string) (part, error) {
	if c.text {
		return part{text: text}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return part{number: n}, err
}

func (c keyColumn) sql(p part) string {
	if c.text {
		return "'" + strings.ReplaceAll(p.text, "'", "''") + "'"
	}
	return strconv.FormatInt(p.number, 10)
}

// parse reads a key as lockstep and the story spell it, as a JSON object.
func (t table) parse(key []byte) ([]part, error) {
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(key))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("key %s of %s: %w", key, t.name, err)
	}
	if len(fields) != len(t.key) {
		return nil, fmt.Errorf("key %s of %s has %d columns, want %d", key, t.name, len(fields), len(t.key))
	}
	parts := make([]part, len(t.key))
	for i, c := range t.key {
		var err error
		if parts[i], err = c.part(fmt.Sprint(fields[c.name])); err != nil {
			return nil, fmt.Errorf("key %s of %s: %w", key, t.name, err)
		}
	}
	return parts, nil
}

// parts reads a key from the first columns of a row.
func (t table) parts(row []string) ([]part, error) {
	parts := make([]part, len(t.key))
	for i, c := range t.key {
		var err error
		if parts[i], err = c.part(row[i]); err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", c.name, t.name, err)
		}
	}
	return parts, nil
}

// spell writes a key as the story does: the columns in the order of their names.
func (t table) spell(key []part) (string, error) {
	fields := make(map[string]any)
	for i, c := range t.key {
		if c.text {
			fields[c.name] = key[i].text
			continue
		}
		fields[c.name] = key[i].number
	}
	b, err := json.Marshal(fields)
	return string(b), err
}
