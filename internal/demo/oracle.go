package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lockstep/align"
	"lockstep/internal/dbtest"
	"lockstep/internal/load"
)

// keyOrder are the columns of each primary key in its order.
var keyOrder = map[string][]string{
	"public.accounts": {"id"},
	"public.orders":   {"id"},
	"public.stock":    {"warehouse", "item"},
}

// keySQL spells a row's key as the story does: the columns in the order of their names.
func keySQL(table string) string {
	var parts []string
	for _, c := range slices.Sorted(slices.Values(keyOrder[table])) {
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
	a, err := contents(ctx, d.cluster.Publisher, table)
	if err != nil {
		return nil, err
	}
	b, err := contents(ctx, d.cluster.Member(member), table)
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
	for _, table := range slices.Sorted(maps.Keys(keyOrder)) {
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
	if err := d.cluster.WaitCaughtUp(ctx); err != nil {
		return err
	}
	for _, member := range d.cluster.Names[1:] {
		for table := range keyOrder {
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
	var row, first, last []string
	for _, c := range keyOrder[v.Table] {
		if c == "warehouse" {
			row = append(row, c+` COLLATE "C"`) // the order of lockstep's keys
			first, last = append(first, "r->'first_key'->>'warehouse'"), append(last, "r->'last_key'->>'warehouse'")
			continue
		}
		row = append(row, c)
		first, last = append(first, fmt.Sprintf("(r->'first_key'->>'%s')::bigint", c)), append(last, fmt.Sprintf("(r->'last_key'->>'%s')::bigint", c))
	}
	tuple := func(parts []string) string { return "(" + strings.Join(parts, ", ") + ")" }
	query := fmt.Sprintf("SELECT %s FROM jsonb_array_elements($1) r JOIN %s ON %s >= %s AND %s <= %s",
		keySQL(v.Table), v.Table, tuple(row), tuple(first), tuple(row), tuple(last))
	ranges, err := json.Marshal(v.Ranges)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool)
	for _, name := range []string{d.cluster.Names[0], v.Member} {
		found, err := dbtest.Rows[string](ctx, d.cluster.Member(name), query, string(ranges))
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			keys[k] = true
		}
	}
	return keys, nil
}
