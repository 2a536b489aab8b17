package load

import (
	"context"
	"strings"
)

// dialect is how an engine is spoken to: the driver, and the SQL of each kind of work. The arguments of a statement come
// in the order in which its text first names them, so that engines that number them and engines that do not agree.
type dialect struct {
	connect  func(ctx context.Context, dsn string) (session, error)
	conflict func(error) bool // the clients got into each other's way
	fill     func(share int) []string

	upsertAccount string // id, owner, balance
	raiseBalance  string // id
	deleteAccount string // id
	moveAccount   string // new id, id; does nothing if the new one is taken
	setState      string // state, id; leaves the wide column alone
	upsertOrder   string // id, account, note, lines
	deleteOrder   string // id
	upsertStock   string // warehouse, item, quantity

	raiseBalances string // from id, to id, how many
	insertOrders  string // from id, to id; those that are there stay
	deleteOrders  string // after id, how many
}

// session is one client's connection.
type session interface {
	// exec runs a statement and returns how many rows it has written.
	exec(ctx context.Context, sql string, args ...any) (rows int64, err error)
	close(ctx context.Context)
}

// dialectOf goes by the URL's scheme.
func dialectOf(dsn string) *dialect {
	if strings.HasPrefix(dsn, "mysql://") {
		return &mysqlDialect
	}
	return &postgresDialect
}
