package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/lockstep-cdc/lockstep/cdc"
)

var (
	errInterrupted        = errors.New("interrupted")
	errSkippedPublication = errors.New("the server passed over the publication")
)

// wire is the reading side of a replication connection. Each read has a deadline of its own, and interrupt ends the one
// at hand and all later ones.
type wire struct {
	conn *pgconn.PgConn

	mu          sync.Mutex // orders interrupt with the setting of deadlines
	interrupted bool
}

func newWire(conn *pgconn.PgConn) *wire { return &wire{conn: conn} }

func (w *wire) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupted = true
	_ = w.conn.Conn().SetReadDeadline(time.Unix(1, 0)) // a connection that takes no deadline is closed, and reads fail
}

func (w *wire) arm(silence time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.interrupted {
		return errInterrupted
	}
	return w.conn.Conn().SetReadDeadline(time.Now().Add(silence))
}

// receive returns the next message, which is good until the next call.
func (w *wire) receive(silence time.Duration) (pgproto3.BackendMessage, error) {
	if err := w.arm(silence); err != nil {
		return nil, err
	}
	// Without a context there is no watcher of it to start and stop for each message.
	message, err := w.conn.ReceiveMessage(context.Background())
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, fmt.Errorf("no word from the server for %v: %w", silence, err)
	}
	return message, err
}

// receiver reads the stream and puts events into a bounded channel, which it closes. It belongs to one goroutine.
type receiver struct {
	*wire
	assembler *assembler
	silence   time.Duration
	events    chan cdc.Event
	asked     chan struct{}  // told when the server wants a status update
	position  *atomic.Uint64 // how far events were put in; read by the acknowledger
	before    overlap
	proven    *atomic.Bool // before is over; read by the acknowledger
	passed    cdc.LSN      // how far events were put in
	ended     cdc.LSN      // the end of the last transaction; 0: none yet
	heard     cdc.LSN      // what the last keepalive said; 0: none since the last transaction began
	mark      string       // of the last transaction
	shown     *shown       // of the source
}

func (r *receiver) run(ctx context.Context) error {
	defer close(r.events)
	defer context.AfterFunc(ctx, r.interrupt)()
	for {
		message, err := r.receive(r.silence)
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			err = r.copyData(ctx, m.Data)
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse:
			err = judgeNotice(m)
		case *pgproto3.ParameterStatus:
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			err = errors.New("the server ended the stream")
		default:
			err = fmt.Errorf("unexpected message %T in the stream", m)
		}
		if err != nil {
			return err
		}
	}
}

// judgeNotice looks for the warning by which newer servers say that they go on without a publication that is gone, where
// older ones stop with an error.
func judgeNotice(m *pgproto3.NoticeResponse) error {
	if m.SeverityUnlocalized == "WARNING" && m.Code == notInPrerequisite && strings.Contains(m.Routine, "Publications") {
		return errSkippedPublication
	}
	return nil
}

func (r *receiver) copyData(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return errors.New("empty message in the stream")
	}
	switch data[0] {
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return err
		}
		return r.wal(ctx, x)
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return err
		}
		return r.keepalive(cdc.LSN(k.ServerWALEnd), k.ReplyRequested)
	}
	return fmt.Errorf("message of unknown type 0x%02x in the stream", data[0])
}

func (r *receiver) wal(ctx context.Context, x pglogrepl.XLogData) error {
	event, committed, err := r.assembler.feed(x.WALData)
	if err == nil {
		err = r.placed(cdc.LSN(x.WALStart), cdc.LSN(x.ServerWALEnd))
	}
	if err != nil || !committed {
		return err
	}
	m := r.assembler.last
	if err := r.inOrder(m); err != nil {
		return err
	}
	if m.end <= r.before.from {
		return r.before.repeated(m)
	}
	if err := r.goesOn(); err != nil {
		return err
	}
	r.mark = m.String()
	if event.Transaction == nil {
		r.advance(event.Position)
		return nil
	}
	event.Mark = r.mark
	r.shown.add(m.xid, event.Position)
	select {
	case r.events <- event:
		r.moved(event.Position)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// goesOn says that the stream has come to where it was left. Only now may it be acknowledged that far: the server would not
// send again what shows that it is another log.
func (r *receiver) goesOn() error {
	if err := r.before.passed(); err != nil {
		return err
	}
	r.proven.Store(true)
	return nil
}

// keepalive takes the server's word for how far it has read its log. Inside a transaction that says nothing of what we
// have been sent. Nothing else in the message says the same, so that a position counts once the next one has borne it out.
func (r *receiver) keepalive(end cdc.LSN, replyRequested bool) error {
	if !r.assembler.inTransaction() {
		if p := min(end, r.heard); p >= r.before.from {
			if err := r.goesOn(); err != nil {
				return err
			}
			r.advance(p)
		}
		r.heard = end
	}
	if replyRequested {
		select {
		case r.asked <- struct{}{}:
		default: // already told
		}
	}
	return nil
}

// advance yields a position without a transaction. If the receiver is behind, the position of a later event will do.
func (r *receiver) advance(p cdc.LSN) {
	if uint64(p) <= r.position.Load() {
		return
	}
	select {
	case r.events <- cdc.Event{Position: p, Mark: r.mark}:
		r.moved(p)
	default:
	}
}

// moved notes a position. Transactions arrive in the order of their ends, so it never goes back.
func (r *receiver) moved(p cdc.LSN) {
	r.passed = max(p, r.passed)
	r.position.Store(max(uint64(p), r.position.Load()))
}

// acknowledger tells the server what it may forget. It alone writes to the connection.
type acknowledger struct {
	conn     *pgconn.PgConn
	history  *history       // of the source
	position *atomic.Uint64 // of the receiver
	proven   *atomic.Bool   // of the receiver
	start    cdc.LSN        // what the server was told to forget before
	barrier  *atomic.Uint64 // of the source: somebody waits for the stream to get there
	asked    <-chan struct{}
	patience
	status time.Duration // shorter than patience's if the server is impatient
}

func (a *acknowledger) run(ctx context.Context) error {
	tick := time.NewTicker(a.tick)
	defer tick.Stop()
	status := time.NewTicker(a.status)
	defer status.Stop()
	told := uint64(0)
	for {
		question := false
		select {
		case <-ctx.Done():
			_, _ = a.tell(false, farewell) // so that a stop in order leaves nothing to send again; if it fails, it is sent again
			return nil
		case <-a.asked:
		case <-status.C:
			question = true // the answer proves that the connection lives, and brings the server's position
		case <-tick.C:
			// An idle server tells its position only when asked.
			question = a.position.Load() < a.barrier.Load()
			if !question && a.durable() == told {
				continue
			}
		}
		var err error
		for range map[bool]int{false: 1, true: answers}[question] {
			if told, err = a.tell(question, a.silence); err != nil {
				return fmt.Errorf("send status: %w", err)
			}
		}
	}
}

// answers is how many keepalives it takes for a position to count.
const answers = 2

// durable is what the server may forget, and no more than it has shown on this connection.
func (a *acknowledger) durable() uint64 {
	durable := uint64(a.history.kept())
	if !a.proven.Load() {
		durable = min(durable, uint64(a.start))
	}
	return min(durable, a.position.Load())
}

// farewell is how long the last status update may take.
const farewell = 2 * time.Second

// tell sends a status update. Before a durable position is known nothing is sent. It is written past the driver, which has
// one buffer for all that it sends, and fills it from a goroutine of its own when the reading side finds the connection broken.
func (a *acknowledger) tell(question bool, wait time.Duration) (durable uint64, err error) {
	durable = a.durable()
	if durable == 0 {
		return 0, nil
	}
	update := pgproto3.CopyData{Data: statusUpdate(max(durable, a.position.Load()), durable, time.Now(), question)}
	message, err := update.Encode(nil)
	if err != nil {
		return 0, err
	}
	if err := a.conn.Conn().SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	_, err = a.conn.Conn().Write(message)
	return durable, err
}

// statusUpdate is laid out as https://www.postgresql.org/docs/current/protocol-replication.html has it:
//
//	'r' │ written 8 │ flushed 8 │ applied 8 │ time 8, in microseconds since 2000 │ 1: answer at once
func statusUpdate(written, durable uint64, now time.Time, question bool) []byte {
	update := []byte{pglogrepl.StandbyStatusUpdateByteID}
	for _, n := range []uint64{written, durable, durable, uint64(now.UnixMicro() - epoch2000)} {
		update = binary.BigEndian.AppendUint64(update, n)
	}
	if question {
		return append(update, 1)
	}
	return append(update, 0)
}
