package mysql

import (
	"context"
	"errors"
	"strings"
)

// Execute implements [cdc.Source].
func (s *Source) Execute(ctx context.Context, table, statement string) error {
	return s.ask(ctx, func(ctx context.Context, c *session) error {
		err := c.exec(ctx, "START TRANSACTION READ WRITE", statement, "COMMIT")
		if err != nil && !c.broken {
			err = errors.Join(err, c.exec(ctx, "ROLLBACK"))
		}
		schema, name, _ := strings.Cut(table, ".")
		return c.missingRight(err, "SELECT, INSERT, DELETE", quoteName(schema, name))
	})
}
