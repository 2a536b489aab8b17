package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Execute implements [cdc.Source].
func (s *Source) Execute(ctx context.Context, statement string) error {
	return s.askBy(ctx, s.canaries, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, statement)
			return err
		})
	})
}
