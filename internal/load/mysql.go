package load

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// MySQLSchema is Schema for MySQL and MariaDB.
const MySQLSchema = `
CREATE TABLE accounts (id BIGINT PRIMARY KEY, owner TEXT NOT NULL, balance DECIMAL(14,2) NOT NULL, seen TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) ENGINE=InnoDB;
CREATE TABLE orders (id BIGINT PRIMARY KEY, account BIGINT NOT NULL, state TEXT NOT NULL, note TEXT, details JSON) ENGINE=InnoDB;
CREATE TABLE stock (warehouse VARCHAR(40), item INT, quantity INT NOT NULL, checked DATE, PRIMARY KEY (warehouse, item)) ENGINE=InnoDB;
`

// manyRows lets a recursive query count as far as our largest transactions go; each engine reads its own name of the
// setting and takes the other for a comment.
const manyRows = "SET SESSION /*M! max_recursive_iterations */ /*!80000 cte_max_recursion_depth */ = 10000000"

// numbers counts from one number to another as table n with column i.
func numbers(from, to string) string {
	return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT CAST(%s AS SIGNED) UNION ALL SELECT i + 1 FROM n WHERE i < %s)", from, to)
}

func fillMySQL(share int) []string {
	return []string{
		fmt.Sprintf("INSERT INTO accounts (id, owner, balance) %s SELECT i, CONCAT('owner ', i), i %% 1000 FROM n", numbers("1", fmt.Sprint(accounts/2/share))),
		fmt.Sprintf("INSERT INTO accounts (id, owner, balance) %s SELECT i, CONCAT('reserved ', i), 100 FROM n",
			numbers(fmt.Sprint(ReservedFrom), fmt.Sprint(ReservedTo-1))),
		fmt.Sprintf("INSERT INTO orders %s SELECT i, i, 'new', REPEAT(SHA2(i, 256), 1 + i %% 60), JSON_OBJECT('n', i) FROM n",
			numbers("1", fmt.Sprint(orders/4/share))),
		fmt.Sprintf("INSERT INTO stock %s SELECT CONCAT('w', 1 + i DIV 200), 1 + i %% 200, 10, NULL FROM n", numbers("0", fmt.Sprint(20*200/share-1))),
	}
}

var mysqlDialect = dialect{
	connect:       connectMySQL,
	conflict:      conflictOnMySQL,
	fill:          fillMySQL,
	upsertAccount: `INSERT INTO accounts (id, owner, balance) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE balance = VALUES(balance)`,
	raiseBalance:  `UPDATE accounts SET balance = balance + 1, seen = SYSDATE(6) WHERE id = ?`,
	deleteAccount: `DELETE FROM accounts WHERE id = ?`,
	moveAccount:   `UPDATE IGNORE accounts SET id = ? WHERE id = ?`,
	setState:      `UPDATE orders SET state = ? WHERE id = ?`,
	upsertOrder: `INSERT INTO orders VALUES (?, ?, 'new', ?, JSON_OBJECT('lines', ?))
		ON DUPLICATE KEY UPDATE note = VALUES(note)`,
	deleteOrder: `DELETE FROM orders WHERE id = ?`,
	upsertStock: `INSERT INTO stock VALUES (?, ?, ?, NULL)
		ON DUPLICATE KEY UPDATE quantity = VALUES(quantity), checked = CURRENT_DATE`,
	raiseBalances: `UPDATE accounts SET balance = balance + 1 WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?`,
	insertOrders:  `INSERT IGNORE INTO orders (id, account, state) ` + numbers("?", "?") + ` SELECT i, 1, 'bulk' FROM n`,
	deleteOrders:  `DELETE FROM orders WHERE id > ? ORDER BY id LIMIT ?`,
}

// mysqlSession prepares each statement once.
type mysqlSession struct {
	conn     *client.Conn
	prepared map[string]*client.Stmt
}

func connectMySQL(ctx context.Context, dsn string) (session, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("load: the DSN is not a well-formed URL") // url's own error prints it
	}
	password, _ := u.User.Password()
	conn, err := client.ConnectWithContext(ctx, u.Host, u.User.Username(), password, strings.TrimPrefix(u.Path, "/"), 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	if _, err := conn.Execute(manyRows); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", manyRows, err), conn.Close())
	}
	return &mysqlSession{conn: conn, prepared: make(map[string]*client.Stmt)}, nil
}

// exec knows no context: a transaction that has begun is let end anyway.
func (s *mysqlSession) exec(_ context.Context, sql string, args ...any) (int64, error) {
	result, err := s.run(sql, args)
	if err != nil {
		return 0, err
	}
	rows := int64(result.AffectedRows)
	result.Close()
	return rows, nil
}

func (s *mysqlSession) run(sql string, args []any) (_ *mysql.Result, err error) {
	if len(args) == 0 {
		return s.conn.Execute(sql)
	}
	statement := s.prepared[sql]
	if statement == nil {
		if statement, err = s.conn.Prepare(sql); err != nil {
			return nil, err
		}
		s.prepared[sql] = statement
	}
	return statement.Execute(args...)
}

func (s *mysqlSession) close(context.Context) { _ = s.conn.Close() } // all that matters was committed

// conflictOnMySQL knows deadlocks, locks that were waited for too long, and keys that two clients wanted.
func conflictOnMySQL(err error) bool {
	var refused *mysql.MyError
	return errors.As(err, &refused) && slices.Contains([]uint16{mysql.ER_LOCK_DEADLOCK, mysql.ER_LOCK_WAIT_TIMEOUT, mysql.ER_DUP_ENTRY}, refused.Code)
}
