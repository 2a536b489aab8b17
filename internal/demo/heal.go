package demo

import (
	"context"
	"fmt"
	"strings"
)

// copied returns a function that makes the rows of an injection on its member what they are on eu-1, as one transaction
// of the member's own.
func (d *demo) copied(in *injection) func(context.Context) error {
	return func(ctx context.Context) error {
		var statements []string
		for _, e := range in.want {
			replace, err := d.replacement(ctx, e)
			if err != nil {
				return err
			}
			statements = append(statements, replace...)
		}
		return d.commit(ctx, in.member, statements...)
	}
}

// replacement deletes rows and inserts those of them that eu-1 has.
func (d *demo) replacement(ctx context.Context, e expectation) ([]string, error) {
	t := d.tables[e.table]
	where, err := t.where(e.keys)
	if err != nil {
		return nil, err
	}
	rows, err := d.stage.Query(ctx, "eu-1", fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(t.literals, ", "), t.name, where))
	if err != nil {
		return nil, err
	}
	statements := []string{fmt.Sprintf("DELETE FROM %s WHERE %s", t.name, where)}
	for _, row := range rows {
		statements = append(statements, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", t.name, strings.Join(t.columns, ", "), strings.Join(row, ", ")))
	}
	return statements, nil
}
