package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// contents returns, by key, a hash of each row that a member has of a table.
func (d *demo) contents(ctx context.Context, member string, t table) (map[string]string, error) {
	row := fmt.Sprintf(d.stage.dialect().hash, "concat_ws(',', "+strings.Join(t.literals, ", ")+")")
	rows, err := d.stage.Query(ctx, member, fmt.Sprintf("SELECT %s, %s FROM %s", t.keyColumns(), row, t.name))
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]string, len(rows))
	for _, row := range rows {
		parts, err := t.parts(row)
		if err != nil {
			return nil, err
		}
		key, err := t.spell(parts)
		if err != nil {
			return nil, err
		}
		byKey[key] = row[len(t.key)]
	}
	return byKey, nil
}

// differences lists the keys of a table that differ between eu-1 and a member, by asking both.
func (d *demo) differences(ctx context.Context, member string, t table) ([]string, error) {
	a, err := d.contents(ctx, "eu-1", t)
	if err != nil {
		return nil, err
	}
	b, err := d.contents(ctx, member, t)
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
	for _, name := range slices.Sorted(maps.Keys(d.tables)) {
		keys, err := d.differences(ctx, member, d.tables[name])
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(keys, func(k string) bool { return name == "accounts" && reserved[k] })
		if len(keys) > 0 {
			list = append(list, want(name, finding.Stale, finding.CauseUnknown, keys...))
		}
	}
	return list, nil
}

// verifySame asks the servers whether everything is the same in the end, whatever lockstep says.
func (d *demo) verifySame(ctx context.Context) error {
	d.load.Hold()
	defer d.load.Resume()
	if err := d.stage.WaitCaughtUp(ctx); err != nil {
		return err
	}
	for _, member := range []string{"us-1", "us-2"} {
		for name, t := range d.tables {
			keys, err := d.differences(ctx, member, t)
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				return fmt.Errorf("%d rows of %s still differ on %s after healing, such as %s", len(keys), name, member, keys[0])
			}
		}
	}
	return nil
}

// keysOf lists the keys that exist in the ranges of a divergence, on either side, by asking both servers.
func (d *demo) keysOf(ctx context.Context, v finding.Divergence) (map[string]bool, error) {
	t := d.tables[d.bare(v.Table)]
	keys := make(map[string]bool)
	for _, member := range []string{"eu-1", v.Member} {
		rows, err := d.stage.Query(ctx, member, fmt.Sprintf("SELECT %s FROM %s", t.keyColumns(), t.name))
		if err != nil {
			return nil, err
		}
		inside, err := t.within(rows, v.Ranges)
		if err != nil {
			return nil, err
		}
		for _, key := range inside {
			keys[key] = true
		}
	}
	return keys, nil
}

// within spells the keys of rows that are in one of the ranges.
func (t table) within(rows [][]string, ranges []finding.Range) (inside []string, err error) {
	all := make([][]part, len(rows))
	for i, row := range rows {
		if all[i], err = t.parts(row); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, compareKeys)
	for _, r := range ranges {
		first, err := t.parse(r.First)
		if err != nil {
			return nil, err
		}
		last, err := t.parse(r.Last)
		if err != nil {
			return nil, err
		}
		from, _ := slices.BinarySearchFunc(all, first, compareKeys)
		for ; from < len(all) && compareKeys(all[from], last) <= 0; from++ {
			key, err := t.spell(all[from])
			if err != nil {
				return nil, err
			}
			inside = append(inside, key)
		}
	}
	return inside, nil
}
