// Package mysql holds all that lockstep knows of MySQL and MariaDB: their catalog, their binlog, their rows as SELECT
// gives them by the binary protocol. The values of all three are read as bytes in the column's own character set.
package mysql

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// silence is how long a server may keep us waiting for the next bytes of an answer: with some statements the first row
// takes its time.
const silence = 10 * time.Minute

// session is one connection with pinned settings. It belongs to one goroutine.
type session struct {
	conn    *client.Conn
	network net.Conn // beneath conn
	version version
	login   *login // what it was opened by
	opened  time.Time
	era     int64  // of the source, when it was opened
	account string // who we are to the server, as GRANT wants it: `lockstep`@`%`
	broken  bool   // of no use any more
	inOurs  bool   // a function of ours runs, called by the driver
}

// open connects, and tells a server that will say no until somebody does something, a *cdc.SetupError, from one that may
// say yes the next time.
func (s *Source) open(ctx context.Context) (*session, error) {
	password := s.address.password
	if s.options.Password != nil {
		var err error
		if password, err = s.options.Password(); err != nil {
			return nil, &cdc.SetupError{Problem: oneLine(err.Error())}
		}
	}
	config, err := s.address.tlsConfig()
	if err != nil {
		return nil, err
	}
	var c *session
	era := s.era.Load()
	err = s.logins.Attempt(ctx, s.account, password, func() (err error) {
		c, err = s.login(ctx, password, config)
		return err
	})
	if err == nil {
		c.era = era
	}
	return c, err
}

func (s *Source) login(ctx context.Context, password string, config *tls.Config) (*session, error) {
	c, err := s.address.connect(ctx, password, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s as %s: %w", s.address.addr(), s.address.user, s.refused(withoutAddress(err)))
	}
	if err = c.pin(ctx); err != nil {
		c.hangUp()
		return nil, fmt.Errorf("prepare session on %s: %w", s.address.addr(), err)
	}
	return c, nil
}

// withoutAddress leaves of an error of the network what is said beside the address.
func withoutAddress(err error) error {
	if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
		return dial.Err
	}
	return err
}

func (d *dsn) connect(ctx context.Context, password string, config *tls.Config) (c *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	c = &session{login: &login{address: d, password: password, tls: config}, opened: time.Now()}
	interrupted := func() bool { return false }
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := cdc.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c.network = deadlined{conn}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		interrupted = func() bool { return !stop() }
		c.login.Conn = c.network
		if err := c.login.begin(); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return c.login, nil
	}
	options := func(conn *client.Conn) error {
		conn.SetAttributes(map[string]string{"program_name": "lockstep"})
		return nil
	}
	err = c.guarded(func() (err error) {
		c.conn, err = client.ConnectWithDialer(ctx, d.network(), d.addr(), d.user, "", "", dial, options)
		return err
	})
	err = cmp.Or(c.login.failed, err)
	if interrupted() || ctx.Err() != nil {
		err = fmt.Errorf("no answer within %v: %w", d.timeout, ctx.Err())
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			err = cause
		}
	}
	if err != nil {
		c.broken = true
		c.hangUp()
		return nil, err
	}
	return c, nil
}

// deadlined keeps a server that fell silent from holding us for ever.
type deadlined struct{ net.Conn }

func (d deadlined) Read(b []byte) (int, error) {
	if err := d.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return d.Conn.Read(b)
}

func (d deadlined) Write(b []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return d.Conn.Write(b)
}

// call runs one exchange with the server. When ctx ends, the connection is closed under it, as the protocol has no other
// way to stop. Whatever fails but for an answer of the server leaves the session broken.
func (c *session) call(ctx context.Context, exchange func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.network.Close() })
	err := c.guarded(exchange)
	if !stop() {
		c.broken = true
		return context.Cause(ctx)
	}
	if err != nil && serverAnswer(err) == nil {
		c.broken = true
	}
	return err
}

// guarded turns a packet that is shorter than the driver takes for granted into an error.
func (c *session) guarded(exchange func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if broken, ok := p.(runtime.Error); ok && !c.inOurs {
			err = fmt.Errorf("the server sent what is no packet of its protocol: %w", broken)
			return
		}
		c.broken = true // somewhere within an answer
		if c.network != nil {
			_ = c.network.Close()
		}
		panic(p)
	}()
	return exchange()
}

// query runs a statement and returns all rows of its answer. Without arguments values come as text.
func (c *session) query(ctx context.Context, statement string, args ...any) (rows []row, err error) {
	err = c.call(ctx, func() error {
		result, err := c.conn.Execute(statement, args...)
		if err != nil || result.Resultset == nil {
			return err
		}
		for _, values := range result.Values {
			rows = append(rows, row{result.FieldNames, values})
		}
		return nil
	})
	return rows, err
}

// one runs a statement whose answer has a row of so many columns, and returns that. What has none is no server of ours.
func (c *session) one(ctx context.Context, statement string, columns int) (row, error) {
	rows, err := c.query(ctx, statement)
	switch {
	case err != nil:
		return row{}, err
	case len(rows) == 0 || len(rows[0].values) < columns:
		return row{}, fmt.Errorf("%q was answered without a row of %d columns: connect to the server itself, not through a proxy", statement, columns)
	}
	return rows[0], nil
}

func (c *session) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := c.query(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// stream runs a SELECT by the binary protocol and hands over its rows one by one as they come. The values of a row are good
// until the next one.
func (c *session) stream(ctx context.Context, statement string, each func([]wire.FieldValue) error) error {
	var ours error
	err := c.call(ctx, func() error {
		prepared, err := c.conn.Prepare(statement)
		if err != nil {
			return err
		}
		var result wire.Result
		err = prepared.ExecuteSelectStreaming(&result, func(values []wire.FieldValue) error {
			c.inOurs = true
			ours = each(values)
			c.inOurs = false
			return ours
		}, nil)
		if err != nil && serverAnswer(err) == nil {
			return err
		}
		return errors.Join(err, prepared.Close())
	})
	if ours != nil {
		c.broken = true // there are rows that nobody has read
		return ours
	}
	return err
}

// hangUp closes the connection. A server may log a client that goes without a word.
func (c *session) hangUp() {
	if c.conn != nil && !c.broken {
		_ = c.guarded(c.conn.Quit)
	}
	c.broken = true
	if c.network != nil {
		_ = c.network.Close() // there is nothing to do about a connection that does not close
	}
}

// row is one row of an answer to a question of ours.
type row struct {
	columns map[string]int
	values  []wire.FieldValue
}

// text is the value of a column, empty for NULL and for a column that this server's answer does not have.
func (r row) text(column string) string {
	i, ok := r.columns[column]
	if !ok || r.values[i].Type == wire.FieldValueTypeNull {
		return ""
	}
	return r.at(i)
}

// either is the value of the first of two columns that the answer has.
func (r row) either(column, other string) string {
	if _, ok := r.columns[column]; ok {
		return r.text(column)
	}
	return r.text(other)
}

func (r row) at(i int) string {
	switch v := &r.values[i]; v.Type {
	case wire.FieldValueTypeNull:
		return ""
	case wire.FieldValueTypeString:
		return string(v.AsString())
	default:
		return v.String()
	}
}
