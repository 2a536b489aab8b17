package mysql

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// A server can be put back to an older state of its disk and replay the same transactions again: files of its log get the
// names and the lengths that they had, with the same ids in them. What its disk held otherwise, ids and places do not tell.
// Two things do:
//
//   - Each start begins a new file, whose first event says when that was.
//   - One event of each transaction says more than others of the moment in which it was written: on MySQL the one with the
//     id, which has the time of its commit on this server in microseconds, on MariaDB the commit, which has a number that
//     the server gives to each statement since its start.
//
// So a place in the log is kept with a mark of both, and who goes on after it looks at them again. Where the file is gone, it is the same log if the
// server has been running since.

// logMark is the file that was read last, and an event in it. The zero value marks nothing.
type logMark struct {
	file    uint64
	created uint32 // when the file was begun: seconds since 1970, as its first event says
	started int64  // when the server was, by its own clock: seconds since 1970, one more or less
	telling        // of the last transaction in this file that was shown; zero: none was
}

// telling is the event of a transaction that tells when it was written.
type telling struct {
	offset uint64 // in its file
	sum    uint32 // CRC-32 of the event
}

// String is empty for the zero mark.
func (m logMark) String() string {
	if m == (logMark{}) {
		return ""
	}
	var buffer [64]byte
	b := strconv.AppendUint(buffer[:0], m.file, 10)
	for _, v := range []uint64{uint64(m.created), m.offset, uint64(m.sum), uint64(m.started)} {
		b = strconv.AppendUint(append(b, ' '), v, 10)
	}
	return string(b)
}

// parseMark returns the zero mark if there is none, or one that this version does not know. An earlier one did not note when the server was started.
func parseMark(text string) logMark {
	var m logMark
	if n, _ := fmt.Sscan(text, &m.file, &m.created, &m.offset, &m.sum, &m.started); n < 4 {
		return logMark{}
	}
	return m
}

// enter notes that a stream has come to the begin of a file, which may be one that was read before.
func (m *logMark) enter(file uint64, created uint32) {
	if file > m.file || file == m.file && created != m.created {
		*m = logMark{file: file, created: created, started: m.started}
	}
}

// note notes the event of a transaction that is shown. Of one that begins further in its file than a server can be asked for
// there is no mark; the one before still counts.
func (m *logMark) note(t telling) {
	if t.offset < wrapsAt {
		m.telling = t
	}
}

// sumOf is the CRC-32 of an event: what it ends with, if it has one.
func sumOf(event []byte, summed bool) uint32 {
	if n := len(event) - checksumSize; summed && n >= 0 {
		return binary.LittleEndian.Uint32(event[n:])
	}
	return crc32.ChecksumIEEE(event)
}

// firstMark is the mark of a place from where on nothing was shown yet.
func (s *Source) firstMark(ctx context.Context, c *session, at cdc.LSN) (m logMark, err error) {
	status, err := readLogStatus(ctx, c)
	if err != nil {
		return logMark{}, err
	}
	m.file, _ = fileAndOffset(at)
	m, _, err = s.look(ctx, status.text("File"), m)
	return m, err
}

// unchanged checks that the log still has what is marked of it. Of a file that is gone nothing tells any more whether it was the same: a server that was
// started since may have been put back to an older state, and have written as much again.
func (s *Source) unchanged(ctx context.Context, c *session, current string, before logMark) error {
	if before.file == 0 {
		return nil
	}
	now, found, err := s.look(ctx, current, before)
	switch {
	case err != nil:
		return err
	case !found:
		if started, err := c.startOfServer(ctx); err != nil || before.started > 0 && max(before.started-started, started-before.started) <= 1 {
			return err
		}
		file := fileName(current, before.file)
		return &cdc.GapError{Reason: fmt.Sprintf("log file %s, which lockstep has read last, was removed, and the server was started since: nothing tells that it was not put back to an older state", file), Hint: keepLog}
	case now.created != 0 && now.created != before.created:
		return otherFile(fileName(current, before.file), fmt.Sprintf("was begun at %s, and that one at %s", clock(now.created), clock(before.created)))
	case now.telling != before.telling:
		return otherFile(fileName(current, before.file), fmt.Sprintf("has something else at offset %d", before.offset))
	}
	return nil
}

// startOfServer is when the server was started, by its own clock.
func (c *session) startOfServer(ctx context.Context) (int64, error) {
	now, err := c.one(ctx, "SELECT UNIX_TIMESTAMP()", 1)
	if err != nil {
		return 0, err
	}
	up, err := c.one(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'", 2)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(now.at(0), 10, 64)
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseInt(up.at(1), 10, 64)
	return at - seconds, err
}

func clock(seconds uint32) string {
	h := header{seconds: seconds}
	return h.time().Format("2006-01-02 15:04:05 UTC")
}

func otherFile(file, how string) error {
	return &cdc.GapError{Reason: fmt.Sprintf("log file %s is not the one that lockstep has read: it %s", file, how), Hint: keepHistory}
}

// look reads from the log what there is where something is marked, by a connection of its own: the server ends it. It does
// not find a file that the log does not have any more.
func (s *Source) look(ctx context.Context, current string, at logMark) (now logMark, found bool, err error) {
	d, err := s.dial(ctx)
	if err != nil {
		return logMark{}, false, err
	}
	defer d.hangUp()
	defer context.AfterFunc(ctx, func() { _ = d.network.Close() })()
	offset := max(at.offset, startOfFile)
	command := fileDump(fileName(current, at.file), uint32(offset), replication.BINLOG_DUMP_NON_BLOCK)
	var set []string
	if d.version.mariadb {
		set = append(set, knowsGTIDs)
	}
	if err := d.request(ctx, command, set...); err != nil {
		return logMark{}, false, d.judge(err)
	}
	now, err = d.marked(ctx, at)
	switch {
	case isGone(err):
		return logMark{}, false, nil
	case errors.Is(err, errEnded), at.offset > 0 && errorCode(err) == errFatalReading: // no event begins there
		return now, true, nil
	}
	return now, err == nil, d.judge(err)
}

// marked reads from a stream that begins where something is marked. What does not come is zero.
func (d *dump) marked(ctx context.Context, at logMark) (logMark, error) {
	now, summed := logMark{file: at.file}, false
	for {
		event, err := d.next(ctx)
		if err != nil {
			return now, err
		}
		h, body, err := parseHeader(event)
		if err != nil {
			return now, err
		}
		switch {
		case h.kind == replication.FORMAT_DESCRIPTION_EVENT:
			now.created = h.seconds
			if summed, _, err = parseFormat(event, body); err != nil || at.offset == 0 {
				return now, err
			}
		case h.artificial(), h.kind == replication.HEARTBEAT_EVENT, h.kind == replication.MARIADB_START_ENCRYPTION_EVENT:
		default:
			now.telling = telling{at.offset, sumOf(event, summed)}
			return now, nil
		}
	}
}
