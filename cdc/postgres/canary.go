package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Execute implements [cdc.Source].
func (s *Source) Execute(ctx context.Context, table, statement string) error {
	return s.askBy(ctx, s.canaries, func(ctx context.Context, conn *pgx.Conn) error {
		err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, statement)
			return err
		})
		schema, name, _ := strings.Cut(table, ".")
		role := quoteName(s.role())
		return missingRight(err, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT, INSERT, DELETE ON TABLE %s TO %[2]s;", quoteName(schema), role, quoteName(schema, name)))
	})
}
