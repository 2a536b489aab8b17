package demo

import (
	"context"
	"fmt"
	"slices"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/load"
)

// injection is one difference made on purpose, and what lockstep is to say of it.
type injection struct {
	name   string
	member string
	about  string
	want   []expectation
	inject func(context.Context) error
	heal   func(context.Context) error
	// settle, if set, is called before the answer is judged, and its keys are what must be found.
	settle func(context.Context) ([]expectation, error)
	after  func() // called when the answer was judged

	found map[string]bool // ids of the divergences
}

// expectation is one table's part of an injection.
type expectation struct {
	table string // without its schema
	kind  finding.Kind
	cause finding.Cause
	keys  []string
}

func account(id int) string { return fmt.Sprintf(`{"id":%d}`, id) }

func accounts(from, to int) []string {
	var keys []string
	for id := from; id <= to; id++ {
		keys = append(keys, account(id))
	}
	return keys
}

func want(table string, kind finding.Kind, cause finding.Cause, keys ...string) expectation {
	return expectation{table, kind, cause, keys}
}

// story lists the injections in their order.
func (d *demo) story() []*injection {
	const r = load.ReservedFrom
	list := []*injection{
		d.tampered(r),
		{
			name: "deleted row", member: "us-2", about: fmt.Sprintf("DELETE of account %d on us-2 itself", r+10),
			want:   []expectation{want("accounts", finding.Missing, finding.CauseErrant, account(r+10))},
			inject: d.local("us-2", fmt.Sprintf("DELETE FROM accounts WHERE id = %d", r+10)),
		},
		{
			name: "extra row", member: "us-1", about: fmt.Sprintf("INSERT of account %d on us-1 itself", load.ReservedTo+500),
			want:   []expectation{want("accounts", finding.Extra, finding.CauseErrant, account(load.ReservedTo+500))},
			inject: d.local("us-1", fmt.Sprintf("INSERT INTO accounts (id, owner, balance) VALUES (%d, 'nobody', 1)", load.ReservedTo+500)),
		},
		{
			name: "burst", member: "us-2", about: fmt.Sprintf("UPDATE of accounts %d to %d on us-2 itself", r+100, r+199),
			want:   []expectation{want("accounts", finding.Changed, finding.CauseErrant, accounts(r+100, r+199)...)},
			inject: d.local("us-2", fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id BETWEEN %d AND %d", r+100, r+199)),
		},
		{
			name: "errant transaction", member: "us-1", about: "one transaction over two tables, committed on us-1",
			want: []expectation{
				want("accounts", finding.Changed, finding.CauseErrant, account(r+300)),
				want("accounts", finding.Missing, finding.CauseErrant, account(r+301)),
				want("stock", finding.Extra, finding.CauseErrant, `{"item":1,"warehouse":"zz"}`),
			},
			inject: d.local("us-1",
				fmt.Sprintf("UPDATE accounts SET owner = 'somebody else' WHERE id = %d", r+300),
				fmt.Sprintf("DELETE FROM accounts WHERE id = %d", r+301),
				"INSERT INTO stock (warehouse, item, quantity) VALUES ('zz', 1, 1)"),
		},
		d.skipped(r+400, r+402),
	}
	for _, in := range list {
		if in.heal == nil {
			in.heal = d.copied(in)
		}
	}
	return append(list, d.paused())
}

// local returns a function that commits statements on a member as one transaction.
func (d *demo) local(member string, statements ...string) func(context.Context) error {
	return func(ctx context.Context) error { return d.commit(ctx, member, statements...) }
}

func (d *demo) commit(ctx context.Context, member string, statements ...string) error {
	return d.stage.Exec(ctx, member, slices.Concat([]string{"BEGIN"}, statements, []string{"COMMIT"})...)
}

// tampered is a row that us-1 changes while it replays.
func (d *demo) tampered(id int) *injection {
	return &injection{
		name: "changed row", member: "us-1", about: fmt.Sprintf(d.stage.dialect().tampering, id),
		want: []expectation{want("accounts", finding.Changed, finding.CauseApply, account(id))},
		inject: func(ctx context.Context) error {
			return d.alone(func() error { return d.stage.tamper(ctx, "us-1", id) })
		},
		heal: func(ctx context.Context) error {
			if err := d.stage.untamper(ctx, "us-1"); err != nil {
				return err
			}
			return d.commit(ctx, "eu-1", fmt.Sprintf("UPDATE accounts SET balance = 778, owner = 'healed' WHERE id = %d", id))
		},
	}
}

// skipped is a transaction of eu-1 that an operator lets us-1 skip.
func (d *demo) skipped(from, to int) *injection {
	return &injection{
		name: "skipped transaction", member: "us-1", about: fmt.Sprintf(d.stage.dialect().skipping, from, to),
		want: []expectation{want("accounts", finding.Changed, finding.CauseSkipped, accounts(from, to)...)},
		inject: func(ctx context.Context) error {
			return d.alone(func() error {
				return d.stage.Skip(ctx, "us-1", fmt.Sprintf("UPDATE accounts SET balance = 555 WHERE id BETWEEN %d AND %d", from, to))
			})
		},
	}
}

// alone holds the load while something is done.
func (d *demo) alone(do func() error) error {
	d.load.Hold()
	defer d.load.Resume()
	return do()
}

// paused is a member that stops replaying; what it misses must be listed, and nothing called wrong.
func (d *demo) paused() *injection {
	return &injection{
		name: d.stage.dialect().paused, member: "us-2", about: d.stage.dialect().pausing,
		inject: func(ctx context.Context) error { return d.stage.Pause(ctx, "us-2") },
		settle: func(ctx context.Context) ([]expectation, error) {
			// Let it miss something of the load, then hold the load to see what exactly that is.
			if err := sleep(ctx, d.opt.LagBudget); err != nil {
				return nil, err
			}
			d.load.Hold()
			list, err := d.missed(ctx, "us-2")
			if err != nil {
				d.load.Resume()
			}
			return list, err
		},
		after: func() { d.load.Resume() },
		heal:  func(ctx context.Context) error { return d.stage.Resume(ctx, "us-2") },
	}
}
