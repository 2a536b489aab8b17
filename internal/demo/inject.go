package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/finding"
)

// inject makes one difference and waits until lockstep has said of it exactly what it should.
func (d *demo) inject(ctx context.Context, in *injection) error {
	before, err := d.open()
	if err != nil {
		return err
	}
	d.out.injected(d.summary.Injected+1, in)
	if err := in.inject(ctx); err != nil {
		return err
	}
	began := time.Now()
	d.summary.Injected++
	if in.settle != nil {
		if in.want, err = in.settle(ctx); err != nil {
			return err
		}
	}
	verdict := answer{}
	err = d.waitFor(ctx, "it to be found", func(ctx context.Context) (bool, error) {
		verdict, err = d.judge(ctx, in, before)
		return verdict.exact, err
	})
	took := verdict.after(began)
	if in.after != nil {
		in.after()
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	in.found = verdict.ids
	maps.Copy(d.claimed, verdict.ids)
	if verdict.found {
		d.summary.Found++
		d.summary.Keys += int64(verdict.keys)
		d.summary.SlowestFound = max(d.summary.SlowestFound, took.Seconds())
	}
	if verdict.exact {
		d.summary.Exact++
	}
	d.out.found(d.summary.Injected, in, verdict, took)
	return nil
}

// answer is what lockstep said of an injection.
type answer struct {
	found       bool // every table and kind was reported
	exact       bool // with exactly the keys, and nothing else was
	keys        int
	ids         map[string]bool
	divergences []finding.Divergence
	problem     string // why it is not exact
}

// after returns how long after began the last of the divergences was opened; one that is missing is waited for in vain.
func (a answer) after(began time.Time) time.Duration {
	if !a.found {
		return time.Since(began)
	}
	took := time.Duration(0)
	for _, v := range a.divergences {
		took = max(took, v.ConfirmedAt.Sub(began))
	}
	return took
}

// judge holds the divergences that are new since before against what is expected.
func (d *demo) judge(ctx context.Context, in *injection, before map[string]finding.Divergence) (answer, error) {
	a := answer{ids: make(map[string]bool)}
	open, err := d.open()
	if err != nil {
		return a, err
	}
	left := slices.Clone(in.want)
	for _, id := range slices.Sorted(maps.Keys(open)) {
		v := open[id]
		if _, old := before[id]; old || v.Member != in.member {
			continue
		}
		i := slices.IndexFunc(left, func(e expectation) bool { return d.bare(v.Table) == e.table && e.kind == v.Kind && e.cause == v.Cause })
		if i < 0 {
			a.problem = fmt.Sprintf("unexpected: %s %s of %s", v.Cause, v.Kind, v.Table)
			continue
		}
		a.ids[id] = true
		a.divergences = append(a.divergences, v)
		a.keys += int(v.Keys)
		if problem, err := d.checkKeys(ctx, v, left[i].keys); err != nil || problem != "" {
			a.problem = problem
			if err != nil {
				return a, err
			}
		}
		left = slices.Delete(left, i, i+1)
	}
	a.found = len(left) == 0
	a.exact = a.found && a.problem == ""
	return a, nil
}

// bare is the name of a table without its schema; one of another schema keeps its whole name, which nothing expects.
func (d *demo) bare(table string) string {
	return strings.TrimPrefix(table, d.stage.dialect().schema+".")
}

// checkKeys says how the keys of a divergence are not the ones expected, or nothing.
func (d *demo) checkKeys(ctx context.Context, v finding.Divergence, want []string) (string, error) {
	if int(v.Keys) != len(want) {
		return fmt.Sprintf("%d keys reported, %d injected", v.Keys, len(want)), nil
	}
	if v.IntroducedBy == nil {
		return "no transaction is named", nil
	}
	if v.Truncated {
		return "", nil // the number of keys is all that the list can be held against
	}
	got, err := d.keysOf(ctx, v)
	if err != nil {
		return "", err
	}
	for _, k := range want {
		if !got[k] {
			return "key " + k + " is not in the ranges", nil
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("the ranges hold %d keys, %d were injected", len(got), len(want)), nil
	}
	return "", nil
}

// awaitHealed waits until the divergences of an injection are resolved.
func (d *demo) awaitHealed(ctx context.Context, in *injection) error {
	err := d.waitFor(ctx, "it to be resolved", func(context.Context) (bool, error) {
		open, err := d.open()
		for id := range in.found {
			if _, still := open[id]; still {
				return false, err
			}
		}
		return true, err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		d.out.healed(in, false)
		return nil
	}
	if err == nil {
		d.summary.Healed++
		d.out.healed(in, true)
	}
	return err
}
