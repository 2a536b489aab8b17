package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// copyFromPublisher returns a function that makes the rows of an injection on its member what they are on the publisher.
func (d *demo) copyFromPublisher(in *injection) func(context.Context) error {
	return func(ctx context.Context) error {
		from, err := d.cluster.Publisher.Conn(ctx)
		if err != nil {
			return err
		}
		defer from.Close(context.WithoutCancel(ctx))
		to, err := d.cluster.Member(in.member).Conn(ctx)
		if err != nil {
			return err
		}
		defer to.Close(context.WithoutCancel(ctx))
		for _, e := range in.want {
			for _, key := range e.keys {
				if err := copyRow(ctx, from, to, e.table, key); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// copyRow deletes a row on one side and inserts what the other has, if it has it.
func copyRow(ctx context.Context, from, to *pgx.Conn, table, key string) error {
	var fields map[string]any
	if err := json.Unmarshal([]byte(key), &fields); err != nil {
		return err
	}
	var conditions []string
	for name, value := range fields {
		conditions = append(conditions, fmt.Sprintf("%s = '%v'", name, plain(value)))
	}
	where := " FROM " + table + " t WHERE " + strings.Join(conditions, " AND ")
	var rows []string
	found, err := from.Query(ctx, "SELECT to_jsonb(t)::text"+where)
	if err == nil {
		rows, err = pgx.CollectRows(found, pgx.RowTo[string])
	}
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, to, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE"+where); err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT * FROM jsonb_populate_record(NULL::%s, $1)", table, table), row); err != nil {
				return err
			}
		}
		return nil
	})
}

// plain spells a JSON number without an exponent.
func plain(v any) string {
	if n, ok := v.(float64); ok {
		return fmt.Sprintf("%.0f", n)
	}
	return strings.ReplaceAll(fmt.Sprint(v), "'", "''")
}
