package mysql

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// groupHeader is what the event that opens a group says of it. A group is a transaction, a part of one that XA PREPARE
// ends, or a single statement such as DDL.
type groupHeader struct {
	id   cdc.TxID
	time time.Time
	// standalone says that a single statement follows. MySQL does not tell.
	standalone bool
}

// names makes the sources of transaction ids once, so that all ids of one source share its text.
type names map[sourceName]string

// sourceName is a source as the log writes it: a UUID and a tag on MySQL, domain and server on MariaDB.
type sourceName struct {
	uuid           [16]byte
	tag            string
	domain, server uint32
}

func (n names) of(s sourceName) string {
	text, known := n[s]
	if known {
		return text
	}
	if s.uuid == [16]byte{} {
		text = cdc.MariaDBTxID(s.domain, s.server, 0).Source
	} else {
		text = formatUUID(s.uuid)
		if s.tag != "" {
			text += ":" + s.tag
		}
	}
	n[s] = text
	return text
}

func formatUUID(u [16]byte) string {
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// parseGTID reads MySQL's GTID_EVENT, of which later versions have more:
//
//	flags 1 | UUID 16 | number 8 | 2 | last committed 8 | sequence number 8 | committed here 7 [original commit 7] ...
//
// Times are in microseconds; the highest bit of the first says that the second is there, and differs.
func (n names) parseGTID(h *header, body []byte) (groupHeader, error) {
	const fixed, clock, timed = 1 + 16 + 8, 7, 1 + 8 + 8
	if len(body) < fixed {
		return groupHeader{}, fmt.Errorf("GTID event of %d bytes is too short", len(body))
	}
	source := sourceName{uuid: [16]byte(body[1:17])}
	number := int64(binary.LittleEndian.Uint64(body[17:]))
	if number <= 0 || source.uuid == [16]byte{} {
		return groupHeader{}, fmt.Errorf("GTID event with the number %d", number)
	}
	g := groupHeader{id: cdc.TxID{Source: n.of(source), Seq: uint64(number)}, time: h.time()}
	rest := body[fixed:]
	if len(rest) < timed+clock || rest[0] != 2 {
		return g, nil
	}
	rest = rest[timed:]
	const original = 1 << (8*clock - 1)
	at := littleEndian(rest[:clock])
	if at&original != 0 {
		if len(rest) < 2*clock {
			return groupHeader{}, errors.New("GTID event ends within the time of its commit")
		}
		at = littleEndian(rest[clock : 2*clock])
	}
	g.original(at)
	return g, nil
}

// original takes the author's time of commit, if the author knew how to tell it.
func (g *groupHeader) original(microseconds uint64) {
	if microseconds > 0 && microseconds < 1<<55 {
		g.time = time.UnixMicro(int64(microseconds)).UTC()
	}
}

func (h *header) time() time.Time { return time.Unix(int64(h.seconds), 0).UTC() }

// The fields of a GTID_TAGGED_LOG_EVENT that we read.
const (
	taggedFlags = iota
	taggedUUID
	taggedNumber
	taggedTag
	taggedLastCommitted
	taggedSequence
	taggedCommitted
	taggedOriginal
)

// parseTagged reads MySQL's GTID_TAGGED_LOG_EVENT
// (https://dev.mysql.com/doc/dev/mysql-server/latest/PageLibsMysqlSerialization.html): version, size, the last field that
// may not be ignored, and fields, each after its number. Of those that are missing, and of later ones, nothing is needed.
func (n names) parseTagged(h *header, body []byte) (groupHeader, error) {
	m := message{rest: body}
	m.uint() // version
	m.uint() // size
	m.uint() // last field that may not be ignored
	var source sourceName
	var number int64
	var committed, original uint64
	for m.err == nil && len(m.rest) > 0 {
		field := m.uint()
		if field > taggedOriginal {
			break
		}
		switch field {
		case taggedFlags:
			m.uint()
		case taggedUUID:
			for i := range source.uuid {
				source.uuid[i] = byte(m.uint())
			}
		case taggedNumber:
			number = m.int()
		case taggedTag:
			source.tag = strings.ToLower(m.text())
		case taggedLastCommitted, taggedSequence:
			m.int()
		case taggedCommitted:
			committed = m.uint()
		case taggedOriginal:
			original = m.uint()
		}
	}
	switch {
	case m.err != nil:
		return groupHeader{}, fmt.Errorf("tagged GTID event: %w", m.err)
	case number <= 0 || source.uuid == [16]byte{}:
		return groupHeader{}, fmt.Errorf("tagged GTID event with the number %d", number)
	}
	g := groupHeader{id: cdc.TxID{Source: n.of(source), Seq: uint64(number)}, time: h.time()}
	g.original(committed)
	g.original(original)
	return g, nil
}

// message reads the values of MySQL's own serialization.
type message struct {
	rest []byte
	err  error
}

var errShortMessage = errors.New("it ends within a value")

// raw reads an integer of 1 to 9 bytes: as many ones as the first byte ends with tell how many bytes follow.
func (m *message) raw() uint64 {
	if m.err != nil || len(m.rest) == 0 {
		m.err = errShortMessage
		return 0
	}
	more := bits.TrailingZeros8(^m.rest[0])
	if len(m.rest) < 1+more {
		m.err = errShortMessage
		return 0
	}
	first, tail := uint64(m.rest[0]), littleEndian(m.rest[1:1+more])
	m.rest = m.rest[1+more:]
	if more >= 7 { // nothing of the first byte belongs to the value
		return tail
	}
	return first>>(more+1) | tail<<(7-more)
}

func (m *message) uint() uint64 { return m.raw() }

// int reads a signed integer: the lowest bit is the sign.
func (m *message) int() int64 {
	v := m.raw()
	if v&1 != 0 {
		return -int64(v>>1) - 1
	}
	return int64(v >> 1)
}

func (m *message) text() string {
	n := m.raw()
	if m.err != nil || n > uint64(len(m.rest)) {
		m.err = errShortMessage
		return ""
	}
	text := string(m.rest[:n])
	m.rest = m.rest[n:]
	return text
}

// Flags of MariaDB's GTID event (https://mariadb.com/kb/en/gtid_event/).
const (
	mariadbStandalone = 0x01 // a single statement follows, without a commit
)

// parseMariaDBGTID reads MariaDB's GTID_EVENT: number 8 | domain 4 | flags 1 | ...
func (n names) parseMariaDBGTID(h *header, body []byte) (groupHeader, error) {
	if len(body) < 13 {
		return groupHeader{}, fmt.Errorf("GTID event of %d bytes is too short", len(body))
	}
	seq := binary.LittleEndian.Uint64(body)
	source := sourceName{domain: binary.LittleEndian.Uint32(body[8:]), server: h.serverID}
	if seq == 0 {
		return groupHeader{}, errors.New("GTID event with the number 0")
	}
	return groupHeader{
		id:         cdc.TxID{Source: n.of(source), Seq: seq},
		time:       h.time(),
		standalone: body[12]&mariadbStandalone != 0,
	}, nil
}
