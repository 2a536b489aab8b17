package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// DSN names a database of the server as lockstep's configuration does, for root and without a password. Empty: the
// server's own.
func (s *MySQLServer) DSN(database string) string { return s.DSNFor(mysqlRoot, database) }

// DSNFor is DSN for another user.
func (s *MySQLServer) DSNFor(user, database string) string {
	if database == "" {
		database = s.Database
	}
	u := url.URL{Scheme: "mysql", User: url.User(user), Host: s.address(), Path: "/" + database}
	return u.String()
}

func (s *MySQLServer) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Conn opens a session on the server's database as root; a string with several statements is understood. The caller
// closes it. The context bounds the login only: the driver's statements know none.
func (s *MySQLServer) Conn(ctx context.Context) (*client.Conn, error) {
	conn, err := s.connect(ctx, s.Database)
	if err != nil {
		return nil, err
	}
	return conn.Conn, nil
}

// mysqlConn is a session and the socket below it, whose deadline may be set while a statement runs.
type mysqlConn struct {
	*client.Conn
	socket net.Conn
}

func (s *MySQLServer) connect(ctx context.Context, database string) (c *mysqlConn, err error) {
	c = &mysqlConn{}
	stop := func() bool { return true }
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c.socket, err = new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			stop = c.until(ctx)
		}
		return c.socket, err
	}
	c.Conn, err = client.ConnectWithDialer(ctx, "tcp", s.address(), mysqlRoot, s.password, database, dial, func(conn *client.Conn) error {
		return conn.SetCapability(mysql.CLIENT_MULTI_STATEMENTS)
	})
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		if c.Conn != nil {
			c.Close()
		}
		return nil, fmt.Errorf("%v on port %d: %w", s.Install.Flavour, s.Port, err)
	}
	return c, nil
}

// until makes ctx end what the session waits for; the function that it returns is context.AfterFunc's.
func (c *mysqlConn) until(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.socket.SetDeadline(time.Unix(1, 0)) })
}

// Exec runs statements one after the other in one new session. A string may hold several, each its own transaction
// unless it says BEGIN.
func (s *MySQLServer) Exec(ctx context.Context, statements ...string) error {
	return s.session(ctx, s.Database, statements...)
}

// Quietly is Exec with sql_log_bin off: no member's stream ever shows what it did.
func (s *MySQLServer) Quietly(ctx context.Context, statements ...string) error {
	return s.Exec(ctx, append([]string{"SET sql_log_bin = 0"}, statements...)...)
}

func (s *MySQLServer) session(ctx context.Context, database string, statements ...string) error {
	conn, err := s.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer conn.until(ctx)()
	for _, statement := range statements {
		if err := conn.several(statement); err != nil {
			return fmt.Errorf("%s: %w", statement, errors.Join(err, ctx.Err()))
		}
	}
	return nil
}

// several runs all statements of a string; the driver tells an error of any but the first to the callback alone.
func (c *mysqlConn) several(statements string) error {
	var failed error
	_, err := c.ExecuteMultiple(statements, func(_ *mysql.Result, err error) { failed = errors.Join(failed, err) })
	return errors.Join(failed, err)
}

// query runs one statement in one new session.
func (s *MySQLServer) query(ctx context.Context, statement string, args ...any) (*mysql.Result, error) {
	conn, err := s.connect(ctx, s.Database)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer conn.until(ctx)()
	result, err := conn.Execute(statement, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", statement, errors.Join(err, ctx.Err()))
	}
	return result, nil
}

// Show returns the rows of a statement, each by its columns' names; NULL is left out. It suits SHOW REPLICA STATUS.
func (s *MySQLServer) Show(ctx context.Context, statement string) ([]map[string]string, error) {
	result, err := s.query(ctx, statement)
	if err != nil {
		return nil, err
	}
	rows := make([]map[string]string, len(result.Values))
	for i, values := range result.Values {
		rows[i] = map[string]string{}
		for j := range values {
			if text, known := textOf(values[j]); known {
				rows[i][string(result.Fields[j].Name)] = text
			}
		}
	}
	return rows, nil
}

// MySQLRows returns the values of a query with one column. A NULL is an error: use COALESCE.
func MySQLRows[T string | int64 | uint64 | float64 | bool](ctx context.Context, s *MySQLServer, query string, args ...any) ([]T, error) {
	result, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var list []T
	for _, row := range result.Values {
		if len(row) != 1 {
			return nil, fmt.Errorf("%s: %d columns, want 1", query, len(row))
		}
		text, known := textOf(row[0])
		if !known {
			return nil, fmt.Errorf("%s: NULL", query)
		}
		value, err := parse[T](text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		list = append(list, value)
	}
	return list, nil
}

// MySQLValue returns the one value of a query with one row and one column.
func MySQLValue[T string | int64 | uint64 | float64 | bool](ctx context.Context, s *MySQLServer, query string, args ...any) (T, error) {
	values, err := MySQLRows[T](ctx, s, query, args...)
	if err == nil && len(values) != 1 {
		err = fmt.Errorf("%s: %d rows, want 1", query, len(values))
	}
	if err != nil {
		var none T
		return none, err
	}
	return values[0], nil
}

// textOf is a value's text; not known: NULL. It copies, since the driver reuses its buffers.
func textOf(value mysql.FieldValue) (text string, known bool) {
	switch v := value.Value().(type) {
	case nil:
		return "", false
	case []byte:
		return string(v), true
	default:
		return fmt.Sprint(v), true
	}
}

func parse[T any](text string) (value T, err error) {
	switch v := any(&value).(type) {
	case *string:
		*v = text
	case *int64:
		*v, err = strconv.ParseInt(text, 10, 64)
	case *uint64:
		*v, err = strconv.ParseUint(text, 10, 64)
	case *float64:
		*v, err = strconv.ParseFloat(text, 64)
	case *bool:
		*v, err = strconv.ParseBool(text)
	}
	return value, err
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quoteText suits any sql_mode but NO_BACKSLASH_ESCAPES.
func quoteText(text string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(text) + "'"
}
