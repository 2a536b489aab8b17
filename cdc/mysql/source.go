package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Options say how one member is reached. The zero values of Password and Logger work.
type Options struct {
	Group, Member string
	DSN           string                 // mysql://user@host:3306/schema?tls=verify-full; see [parseDSN]
	Password      func() (string, error) // read anew for each connection, so that it can be rotated; nil: that of the DSN
	Logger        *slog.Logger           // nil: discard
	Logins        *cdc.Logins            // of all sources of a process; nil: it has its own
	// ScanOnly says that the server's log is not read, and need not be there: only what [cdc.Reader] has is used.
	ScanOnly bool
}

// Unverified says what the DSN leaves unverified of a server on another machine; empty: nothing.
func (o Options) Unverified() string {
	d, err := parseDSN(o.DSN)
	if err != nil {
		return "" // New says what is wrong
	}
	return d.unverified()
}

// Source reads one MySQL or MariaDB server. It implements [cdc.Source].
type Source struct {
	options Options
	address dsn
	hasher  *digest.Hasher
	log     *slog.Logger
	patience

	// catalog is the session for everything but streams and rows; a token in it lets one call use it.
	catalog chan *session
	readers pool // the sessions for Read
	logins  *cdc.Logins
	account string // of which they are

	list watchlist

	identity atomic.Pointer[string] // as last asked; nil: it was not
	era      atomic.Int64           // counts how often it came to be another one: sessions from before are with the one that it was

	fold   atomic.Bool // names of tables are compared without case
	closed atomic.Bool // no session is kept any more
	mute   atomic.Bool // it would not log what it replays, and replayed nothing when it was asked

	mu          sync.Mutex               // guards what follows
	definitions map[string][]*definition // by qualified name, the newest last
	listed      []string                 // the tables of the last answers of Tables
	at          place
	ended       map[string]uint64 // distributed transactions that the stream has shown and readers may not see yet; see endedXA
	endings     uint64            // how many there were
}

var _ cdc.Source = (*Source)(nil)

// place is how far the stream has been yielded.
type place struct {
	began    bool
	position cdc.Position
	// committed is where the last transaction ended. The position may be further: past what the server writes for
	// itself.
	committed cdc.LSN
}

// patience says how long we wait for what. Tests shorten it.
type patience struct {
	call    time.Duration // one call of the catalog
	visible time.Duration // transactions that the stream has shown to become visible to a snapshot
	poll    time.Duration // between two looks at whether they are
	chunk   time.Duration // what the reading of one chunk aims at
	renew   time.Duration // for somebody to grant a privilege that a session lacks

	firstChunk int // rows
}

// New returns the source for one member. It does not connect.
func New(o Options, h *digest.Hasher) (*Source, error) {
	address, err := parseDSN(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", o.Member, err)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{
		options:     o,
		address:     address,
		hasher:      h,
		log:         log.With("group", o.Group, "member", o.Member),
		catalog:     make(chan *session, 1),
		logins:      cmp.Or(o.Logins, cdc.NewLogins()),
		account:     address.account(),
		definitions: map[string][]*definition{},
		ended:       map[string]uint64{},
		patience: patience{
			call: time.Minute, visible: time.Minute, poll: 20 * time.Millisecond, chunk: 500 * time.Millisecond, renew: 2 * time.Second,
			firstChunk: firstChunk,
		},
	}
	s.catalog <- nil
	return s, nil
}

// Durable implements [cdc.Source]. These servers keep their log for a time of their own (binlog_expire_logs_seconds),
// whoever still reads it.
func (s *Source) Durable(cdc.LSN) {}

// Close implements [cdc.Source]. What still reads the stream or rows ends by its own means; sessions of who asks after it are not kept.
func (s *Source) Close() {
	s.closed.Store(true)
	conn := <-s.catalog
	if conn != nil {
		conn.hangUp()
	}
	s.catalog <- nil
	s.readers.close()
}

// ask lets do use the catalog session, which is opened when it is first needed and again after it broke. A session that
// turns out to have broken since its last use is replaced once.
func (s *Source) ask(ctx context.Context, do func(context.Context, *session) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	var conn *session
	select {
	case conn = <-s.catalog:
	case <-ctx.Done():
		return s.wrap(ctx.Err())
	}
	defer func() {
		if s.closed.Load() && conn != nil {
			conn.hangUp()
			conn = nil
		}
		s.catalog <- conn
	}()
	used := conn != nil && !conn.broken
	for {
		var err error
		if conn != nil && conn.era != s.era.Load() {
			conn.hangUp()
			conn = nil
		}
		if conn == nil || conn.broken {
			if conn, err = s.open(ctx); err != nil {
				conn = nil
				return s.wrap(err)
			}
		}
		err = do(ctx, conn)
		if cdc.IsSetup(err) {
			s.outdate(conn)
			return s.wrap(err)
		}
		if err == nil || !used || !conn.broken || ctx.Err() != nil {
			return s.wrap(err)
		}
		used = false
	}
}

// outdate ends a session that lacks a privilege, for it knows only those that it began with. What is asked again and again would have
// one opened each time, so a new one is given up only after a while.
func (s *Source) outdate(c *session) {
	if time.Since(c.opened) >= s.renew {
		c.hangUp()
	}
}

// SetEpoch implements [cdc.Source]. An epoch without columns makes the table known, so that changes of it are reported
// as Touched, and its rows are not decoded.
func (s *Source) SetEpoch(t cdc.Table, e cdc.Epoch) { s.list.set(t, e, s.definition(t)) }

// begin says that a stream starts after p.
func (s *Source) begin(p cdc.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	committed := s.at.committed
	if !s.at.began {
		committed = p.LSN
	}
	s.at = place{began: true, position: p.Clone(), committed: committed}
}

// yielded says that the stream has yielded e.
func (s *Source) yielded(e cdc.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.position.Pass(e)
	if !e.Through.IsZero() {
		s.at.committed = max(s.at.committed, e.Position)
	}
}

// streamed is how far the stream has been yielded.
func (s *Source) streamed() place {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.at
	at.position = at.position.Clone()
	return at
}

// wrap names the member, once.
func (s *Source) wrap(err error) error {
	var named *memberError
	if err == nil || errors.As(err, &named) {
		return err
	}
	return &memberError{member: s.options.Member, err: err}
}

type memberError struct {
	member string
	err    error
}

func (e *memberError) Error() string {
	return fmt.Sprintf("member %s: %s", e.member, oneLine(e.err.Error()))
}
func (e *memberError) Unwrap() error { return e.err }

// oneLine makes one line of a text that may have several.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
