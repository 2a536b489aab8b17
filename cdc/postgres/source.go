package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

// SQLSTATEs that mean something particular to us.
const (
	undefinedObject    = "42704"
	objectInUse        = "55006"
	notInPrerequisite  = "55000"
	queryCanceled      = "57014"
	tooManyConnections = "53300"
	limitExceeded      = "53400" // configuration_limit_exceeded: all replication slots are in use
	undefinedFile      = "58P01" // requested WAL segment has already been removed
)

// Source reads one PostgreSQL server: a publisher or a logical subscriber. It implements [cdc.Source].
type Source struct {
	options Options
	hasher  *digest.Hasher
	log     *slog.Logger
	patience

	// Questions take turns, by whose token lies in the channel. What may have to wait for somebody's lock on a table has turns
	// of its own, so that no question waits behind it.
	catalog     chan struct{} // for everything but the others: never waits for a lock
	definitions chan struct{}
	canaries    chan struct{}

	sessions
	logins  *cdc.Logins
	shown   shown
	standby atomic.Bool // the server was a physical standby when it was last asked

	mu     sync.Mutex // held to replace list
	list   atomic.Pointer[watchlist]
	errors map[uint32]int64 // apply errors per subscription as last seen; owned by whose turn at the catalog it is

	history  history
	rest     rest
	identity atomic.Pointer[cdc.Server] // as last asked
	barrier  atomic.Uint64              // the newest that Progress has given out
}

var _ cdc.Source = (*Source)(nil)

// patience says how long we wait for what. Tests shorten it.
type patience struct {
	call     time.Duration // one call of the catalog
	lock     time.Duration // somebody's lock on a table, where definitions are read
	slot     time.Duration // the creation of our slot, which waits for all running transactions
	snapshot time.Duration // the same, of a snapshot's
	visible  time.Duration // what the stream has shown to become visible to readers
	poll     time.Duration // between two looks at whether it is
	active   time.Duration // our own last connection to leave the slot
	silence  time.Duration // no word from a server that was asked
	status   time.Duration // between two status updates without news
	tick     time.Duration // between two looks at what became durable
}

// New returns the source for one member. It does not connect.
func New(o Options, h *digest.Hasher) (*Source, error) {
	if _, err := o.config(); err != nil {
		return nil, fmt.Errorf("member %s: %s", o.Member, oneLine(err))
	}
	if !o.ScanOnly && (o.Slot == "" || o.Publication == "") {
		return nil, fmt.Errorf("member %s: name a slot and a publication", o.Member)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{
		options: o,
		hasher:  h,
		log:     log.With("group", o.Group, "member", o.Member),
		catalog: make(chan struct{}, 1), definitions: make(chan struct{}, 1), canaries: make(chan struct{}, 1),
		sessions: sessions{idle: make(chan *pgx.Conn, mostIdle)}, logins: cmp.Or(o.Logins, cdc.NewLogins()),
		errors: map[uint32]int64{},
		patience: patience{
			call: time.Minute, lock: 2 * time.Second, slot: 30 * time.Second, snapshot: time.Minute, visible: 30 * time.Second, poll: 20 * time.Millisecond, active: 10 * time.Second,
			silence: 25 * time.Second, status: 10 * time.Second, tick: 500 * time.Millisecond,
		},
	}
	s.open = func(ctx context.Context) (*pgx.Conn, error) { return s.login(ctx, false) }
	for _, turns := range s.turns() {
		turns <- struct{}{}
	}
	s.list.Store(newWatchlist())
	return s, nil
}

// SetEpoch implements [cdc.Source]. An epoch without columns makes the table known, so that changes of it are reported
// as Touched, and its rows are not decoded.
func (s *Source) SetEpoch(t cdc.Table, e cdc.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.Store(s.list.Load().with(t, e))
}

func (s *Source) setTypes(types map[uint32]columnType) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list.Store(s.list.Load().withTypes(types))
}

// Durable implements [cdc.Source].
func (s *Source) Durable(p cdc.LSN) { s.history.keep(p) }

func (s *Source) turns() []chan struct{} {
	return []chan struct{}{s.catalog, s.definitions, s.canaries}
}

// Close implements [cdc.Source]. It waits for questions that are asked now. A stream or snapshot that is open ends by its own
// means. Sessions of who asks after it are not kept.
func (s *Source) Close() {
	for _, turns := range s.turns() {
		<-turns
		defer func() { turns <- struct{}{} }()
	}
	s.sessions.close()
}

// ask has do ask a question of the catalog. If the session turns out to have broken since its last use, it is asked again.
func (s *Source) ask(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	return s.askBy(ctx, s.catalog, do)
}

func (s *Source) askBy(ctx context.Context, turns chan struct{}, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	select {
	case <-turns:
	case <-ctx.Done():
		return s.wrap(ctx.Err())
	}
	defer func() { turns <- struct{}{} }()
	for {
		conn, used, err := s.take(ctx)
		if err != nil {
			return s.wrap(err)
		}
		err = fault.Catch(func() error { return do(ctx, conn) })
		if p := fault.Caught(err); p != nil {
			hangUp(conn) // somewhere within an answer
			panic(p)
		}
		broken := conn.IsClosed()
		s.give(conn)
		if err == nil || !used || !broken || ctx.Err() != nil {
			return s.wrap(err)
		}
	}
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

func (e *memberError) Error() string { return fmt.Sprintf("member %s: %s", e.member, oneLine(e.err)) }
func (e *memberError) Unwrap() error { return e.err }

// serverAnswer is the server's own error, or nil if err is something else.
func serverAnswer(err error) *pgconn.PgError {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer
	}
	return nil
}

// sqlState is the code of the server's answer, or empty if err is something else.
func sqlState(err error) string {
	if answer := serverAnswer(err); answer != nil {
		return answer.Code
	}
	return ""
}

// missingRight turns a refusal for want of a right into what grants it.
func missingRight(err error, grants string) error {
	if sqlState(err) != insufficientRight {
		return err
	}
	return &cdc.SetupError{Problem: serverMessage(err), Hint: grants}
}
