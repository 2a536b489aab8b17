package postgres

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// framed puts the captured messages into what they came in, with a keepalive after each transaction.
func framed(t testing.TB) (messages [][]byte) {
	t.Helper()
	var begin cdc.LSN
	for _, wal := range captured(t) {
		var m message
		if err := m.decode(wal); err != nil {
			t.Fatal(err)
		}
		at := begin - 1
		switch m.kind {
		case kindBegin:
			begin, at = m.begin.FinalLSN, 0
		case kindRelation, kindType:
			at = 0
		case kindCommit:
			at = m.commit.TransactionEndLSN
		}
		x := binary.BigEndian.AppendUint64([]byte{pglogrepl.XLogDataByteID}, uint64(at))
		x = binary.BigEndian.AppendUint64(x, uint64(at))
		messages = append(messages, append(binary.BigEndian.AppendUint64(x, 0), wal...))
		if m.kind == kindCommit {
			k := binary.BigEndian.AppendUint64([]byte{pglogrepl.PrimaryKeepaliveMessageByteID}, uint64(at))
			messages = append(messages, append(binary.BigEndian.AppendUint64(k, 0), 1))
		}
	}
	return messages
}

// FuzzDamage changes a message of a real stream. flips are places in it, in two bytes, and what is to be flipped there; cut is
// how much of its end is missing. What is left must be read as something, or be an error: a panic that a decoder's guard had to
// catch is a fault too, and so is a position that goes back or, after one bit, a transaction that is another one.
func FuzzDamage(f *testing.F) {
	list := capturedList()
	source := new(Source)
	source.list.Store(list)
	tables := []cdc.Table{list.ids[1].table, list.ids[2].table}
	messages := framed(f)
	from := cdc.LSN(1)
	whole, _, err := (&member{Source: source}).received(from, messages)
	kinds := map[byte]bool{}
	for i, message := range messages {
		f.Add(uint16(i), []byte{0, byte(25 + i), 1}, uint8(0))
		kinds[message[0]] = true
		if message[0] == pglogrepl.XLogDataByteID {
			kinds[message[25]] = true
		}
	}
	for _, kind := range []byte("wkBCORYIUDT") {
		if !kinds[kind] {
			f.Errorf("there is no message %q", kind)
		}
	}
	if n := len(whole); err != nil || n < 14 {
		f.Fatalf("undamaged: %d events, %v", n, err)
	}
	f.Fuzz(func(t *testing.T, at uint16, flips []byte, cut uint8) {
		i := int(at) % len(messages)
		damaged := slices.Clone(messages)
		message := slices.Clone(messages[i])
		message = message[:len(message)-min(int(cut), len(message))]
		for rest := flips; len(rest) >= 3 && len(message) > 0; rest = rest[3:] {
			message[int(binary.BigEndian.Uint16(rest))%len(message)] ^= rest[2]
		}
		damaged[i] = message
		m := &member{t: t, Source: source, tables: tables}
		got, _, err := m.received(from, damaged)
		last := cdc.LSN(0)
		for _, e := range got {
			if e.Position < last {
				t.Errorf("the position goes back from %v to %v", last, e.Position)
			}
			last = e.Position
			if tx := e.Transaction; tx != nil {
				for _, touched := range tx.Touched {
					if touched.Fault != nil {
						t.Error(touched.Reason)
					}
				}
			}
		}
		if once := len(message) > 25 && message[25] == kindOrigin; oneBit(messages[i], message) && !once { // an origin's name is not said again
			if differs := m.differ(whole, got); differs != "" {
				t.Errorf("message %d (%q): %s; %v", i, messages[i][0], differs, err)
			}
		}
	})
}

func oneBit(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	n := 0
	for i := range a {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n == 1
}
