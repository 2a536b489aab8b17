package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// record takes the messages of a stream as they are on the wire, keepalives too.
func (m *member) record(from, to cdc.LSN) [][]byte {
	m.t.Helper()
	conn, _, err := m.startReplication(m.t.Context(), &overlap{from: from})
	if err != nil {
		m.t.Fatal(err)
	}
	defer hangUp(conn)
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	var messages [][]byte
	beyond := 0
	for beyond < 4 {
		err := pglogrepl.SendStandbyStatusUpdate(ctx, conn.PgConn(), pglogrepl.StandbyStatusUpdate{WALWritePosition: pglogrepl.LSN(from), ReplyRequested: true})
		if err != nil {
			m.t.Fatal(err)
		}
		received, err := conn.PgConn().ReceiveMessage(ctx)
		if err != nil {
			m.t.Fatal(err)
		}
		data, ok := received.(*pgproto3.CopyData)
		if !ok {
			continue
		}
		if k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:]); data.Data[0] == 'k' && err == nil && cdc.LSN(k.ServerWALEnd) >= to {
			beyond++
		}
		if n := len(messages); n > 3 && data.Data[0] == 'k' && beyond == 0 && messages[n-1][0] == 'k' && messages[n-2][0] == 'k' {
			messages = messages[:n-1] // so many say nothing new
		}
		messages = append(messages, slices.Clone(data.Data))
	}
	return messages
}

// received is what a receiver makes of messages, and after which of them.
func (m *member) received(from cdc.LSN, messages [][]byte) (events []cdc.Event, after []int, err error) {
	r := &receiver{
		assembler: newAssembler(testHasher, m.list.Load), events: make(chan cdc.Event, 2*len(messages)), asked: make(chan struct{}, 1),
		position: new(atomic.Uint64), proven: new(atomic.Bool), before: overlap{from: from, last: &mark{commit: from, end: from}, start: from}, passed: from, shown: new(shown),
	}
	r.position.Store(uint64(from))
	for i, message := range messages {
		if err := r.copyData(context.Background(), message); err != nil {
			return events, after, err
		}
		for len(r.events) > 0 {
			events, after = append(events, <-r.events), append(after, i)
		}
	}
	return events, after, nil
}

func flippedBits(t *testing.T, s servers) {
	m := watch(t, newDatabase(t, s.publisher, "CREATE TABLE a (id int PRIMARY KEY, note text); CREATE TABLE f (id int PRIMARY KEY, n int); ALTER TABLE f REPLICA IDENTITY FULL"))
	from, err := prepare(t.Context(), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.exec("INSERT INTO a VALUES (1, 'x'), (2, NULL)", "UPDATE a SET id = 3 WHERE id = 1", "INSERT INTO f VALUES (1, 1); DELETE FROM a WHERE id = 2",
		"SELECT pg_logical_emit_message(true, 'probe', '')", "UPDATE f SET n = 2", "TRUNCATE f", "SELECT pg_logical_emit_message(true, 'probe', '')")
	p, err := m.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	messages := m.record(from, p.Barrier)
	want, after, err := m.received(from, messages)
	if err != nil || len(want) < 6 || want[len(want)-1].Position < p.Barrier {
		t.Fatalf("undamaged: %d events up to %v, want %v, %v", len(want), want, p.Barrier, err)
	}
	// truth is how far the stream truly is after each message.
	truth := make([]cdc.LSN, len(messages))
	for i, message := range messages {
		if i > 0 {
			truth[i] = truth[i-1]
		}
		if k, err := pglogrepl.ParsePrimaryKeepaliveMessage(message[1:]); message[0] == 'k' && err == nil {
			truth[i] = max(truth[i], cdc.LSN(k.ServerWALEnd))
		}
		for n, at := range after {
			if at == i {
				truth[i] = max(truth[i], want[n].Position)
			}
		}
	}
	step := 3 // each bit of some byte of a field
	if soak {
		step = 1
	}
	found, harmless, values := 0, 0, 0
	for i := range messages {
		for bit := 0; bit < 8*len(messages[i]); bit += step {
			damaged := slices.Clone(messages)
			damaged[i] = slices.Clone(messages[i])
			damaged[i][bit/8] ^= 1 << (bit % 8)
			got, at, err := m.received(from, damaged)
			what := fmt.Sprintf("message %d of %d (%q %q), bit %d of byte %d", i, len(messages), messages[i][0], messages[i][min(25, len(messages[i])-1)], bit%8, bit/8)
			for n, e := range got {
				if e.Position > truth[at[n]] {
					t.Errorf("%s: the position is %v, in truth %v", what, e.Position, truth[at[n]])
				}
			}
			switch differs := m.differ(want, got); {
			case differs != "":
				t.Errorf("%s: %s; %v", what, differs, err)
			case err != nil && cdc.IsGap(err):
				t.Errorf("%s: %v", what, err)
			case err != nil:
				found++
			case slices.EqualFunc(want, got, func(a, b cdc.Event) bool { return m.same(a, b) }):
				harmless++
			default:
				values++
			}
		}
	}
	t.Logf("%d flips were noticed, %d did nothing, %d changed a value", found, harmless, values)
	if found < harmless || found < values {
		t.Error("most flips were not noticed")
	}
}

// differ compares what cannot be changed by one bit that is noticed: the transactions, their places and times.
func (m *member) differ(want, got []cdc.Event) string {
	only := func(events []cdc.Event) (t []*cdc.Transaction) {
		for _, e := range events {
			if e.Transaction != nil {
				t = append(t, e.Transaction)
			}
		}
		return t
	}
	a, b := only(want), only(got)
	if len(b) > len(a) {
		return fmt.Sprintf("%d transactions instead of %d", len(b), len(a))
	}
	for i := range b {
		if a[i].Commit != b[i].Commit || a[i].End != b[i].End || a[i].ID != b[i].ID || !a[i].CommitTime.Equal(b[i].CommitTime) || a[i].Lane != b[i].Lane {
			return fmt.Sprintf("transaction %d is %+v instead of %+v", i, b[i], a[i])
		}
		if len(a[i].Touched)+len(b[i].Touched) == 0 && len(a[i].Changes) != len(b[i].Changes) {
			return fmt.Sprintf("transaction %d has changes %v instead of %v", i, m.script(b[i:i+1]), m.script(a[i:i+1]))
		}
	}
	return ""
}

func (m *member) same(a, b cdc.Event) bool {
	show := func(e cdc.Event) string {
		if e.Transaction == nil {
			return e.Position.String()
		}
		return fmt.Sprint(e.Position, *e.Transaction)
	}
	return strings.Compare(show(a), show(b)) == 0
}
