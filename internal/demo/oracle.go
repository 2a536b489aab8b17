package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lockstep/align"
	"lockstep/internal/dbtest"
	"lockstep/internal/load"
)

// keyColumns of the load's tables.
var keyColumns = map[string][]string{
	"public.accounts": {"id"},
	"public.orders":   {"id"},
	"public.stock":    {"item", "warehouse"}, // sorted, as keyText spells them
}

// keyOrder are the columns of each primary key in its order.
var keyOrder = map[string][]string{
	"public.accounts": {"id"},
	"public.orders":   {"id"},
	"public.stock":    {"warehouse", "item"},
}

// keySQL spells a row's key as keyText does.
func keySQL(table string) string {
	var parts []string
	for _, c := range keyColumns[table] {
		parts = append(parts, fmt.Sprintf(`'"%s":' || to_json(%s)`, c, c))
	}
	return "'{' || " + strings.Join(parts, " || ',' || ") + " || '}'"
}

// contents returns, by key, a hash of each row of a table.
func contents(ctx context.Context, s *dbtest.Server, table string) (map[string]string, error) {
	rows, err := dbtest.Rows[string](ctx, s, fmt.Sprintf("SELECT %s || ' ' || md5(t::text) FROM %s t", keySQL(table), table))
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]string, len(rows))
	for _, r := range rows {
		key, hash := r[:len(r)-33], r[len(r)-32:]
		byKey[key] = hash
	}
	return byKey, nil
}

// differences lists the keys of a table that differ between the publisher and a member, by asking both.
func (d *demo) differences(ctx context.Context, member, table string) ([]string, error) {
	a, err := contents(ctx, d.cluster.publisher(), table)
	if err != nil {
		return nil, err
	}
	b, err := contents(ctx, d.cluster.member(member), table)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool)
	for k, v := range a {
		if b[k] != v {
			keys[k] = true
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys[k] = true
		}
	}
	return slices.Sorted(maps.Keys(keys)), nil
}

// missed lists what a paused member has not received: all that differs but for the rows that the load leaves alone.
func (d *demo) missed(ctx context.Context, member string) ([]expectation, error) {
	reserved := make(map[string]bool)
	for _, k := range accounts(load.ReservedFrom, load.ReservedTo+1000) {
		reserved[k] = true
	}
	var list []expectation
	for _, table := range slices.Sorted(maps.Keys(keyColumns)) {
		keys, err := d.differences(ctx, member, table)
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(keys, func(k string) bool { return table == "public.accounts" && reserved[k] })
		if len(keys) > 0 {
			list = append(list, expectation{table, align.Stale, align.CauseUnknown, keys})
		}
	}
	return list, nil
}

// verifySame asks the servers whether everything is the same in the end, whatever lockstep says.
func (d *demo) verifySame(ctx context.Context) error {
	d.load.Hold()
	defer d.load.Resume()
	if err := d.cluster.group.WaitCaughtUp(ctx); err != nil {
		return err
	}
	for _, member := range names[1:] {
		for table := range keyColumns {
			keys, err := d.differences(ctx, member, table)
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				return fmt.Errorf("%d rows of %s still differ on %s after healing, such as %s", len(keys), table, member, keys[0])
			}
		}
	}
	return nil
}

// keysOf lists the keys that exist in the ranges of a divergence, on either side, by asking both servers.
func (d *demo) keysOf(ctx context.Context, v align.Divergence) (map[string]bool, error) {
	keys := make(map[string]bool)
	columns := keyOrder[v.Table]
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c
		if c == "warehouse" {
			row[i] += ` COLLATE "C"` // the order of lockstep's keys
		}
	}
	bound := func(side string) string {
		var parts []string
		for _, c := range columns {
			part := fmt.Sprintf("($1::jsonb->'%s'->>'%s')", side, c)
			if c != "warehouse" {
				part += "::bigint"
			}
			parts = append(parts, part)
		}
		return "(" + strings.Join(parts, ",") + ")"
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE (%s) BETWEEN %s AND %s", keySQL(v.Table), v.Table, strings.Join(row, ","), bound("first"), bound("last"))
	query = strings.Replace(query, "BETWEEN "+bound("first")+" AND "+bound("last"), ">= "+bound("first")+" AND ("+strings.Join(row, ",")+") <= "+bound("last"), 1)
	for _, r := range v.Ranges {
		arg := fmt.Sprintf(`{"first":%s,"last":%s}`, r.First, r.Last)
		for _, name := range []string{names[0], v.Member} {
			found, err := dbtest.Rows[string](ctx, d.cluster.member(name), query, arg)
			if err != nil {
				return nil, err
			}
			for _, k := range found {
				keys[k] = true
			}
		}
	}
	return keys, nil
}
