package mysql

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// A place in a server's log is made one number of the number of the log file and the offset in it, so that places of one
// server are in order:
//
//	63                33 32                   0
//	+-------------------+--------------------+
//	| number of the file| offset in the file |
//	+-------------------+--------------------+
//
// A file may outgrow max_binlog_size, for a transaction is never divided.
const (
	offsetBits   = 33
	longestFile  = 1<<offsetBits - 1
	lastFile     = 1<<(64-offsetBits) - 1
	startOfFile  = 4 // behind the magic number
	wrapsAt      = 1 << 32
	eventLongest = 1 << 30 // max_allowed_packet can be no more
)

// position makes one number of a file's name and an offset in it.
func position(file string, offset uint64) (cdc.LSN, error) {
	number, err := fileNumber(file)
	if err != nil {
		return 0, err
	}
	return placeIn(number, offset)
}

// placeIn makes one number of a file's and an offset.
func placeIn(number, offset uint64) (cdc.LSN, error) {
	if offset > longestFile {
		return 0, &cdc.GapError{
			Reason: fmt.Sprintf("log file %d is longer than the %d bytes that lockstep can tell places in", number, uint64(longestFile)),
			Hint:   "divide transactions of several GiB",
		}
	}
	return cdc.LSN(number<<offsetBits | offset), nil
}

// fileNumber reads the number behind the last dot: binlog.000042.
func fileNumber(file string) (uint64, error) {
	dot := strings.LastIndexByte(file, '.')
	number, err := strconv.ParseUint(file[dot+1:], 10, 64)
	if dot < 0 || err != nil || number == 0 || number > lastFile {
		return 0, fmt.Errorf("log file %q: its name does not end in a number that lockstep can count", file)
	}
	return number, nil
}

// fileAndOffset takes a place apart.
func fileAndOffset(p cdc.LSN) (number, offset uint64) {
	return uint64(p) >> offsetBits, uint64(p) & longestFile
}

// fileName is what the server calls a file of its log, given the name of another one.
func fileName(other string, number uint64) string {
	return fmt.Sprintf("%s.%06d", other[:max(strings.LastIndexByte(other, '.'), 0)], number)
}

// logCursor follows a stream through the files of the log. Headers hold 32 bits of an event's end, or on MariaDB from 11.4 on
// none of it for events in the middle of a transaction.
type logCursor struct {
	file   uint64 // 0: the stream has not said yet
	offset uint64
	floor  cdc.LSN // nothing before it will come
}

// place is where the next event begins.
func (c *logCursor) place() (cdc.LSN, error) {
	if c.file == 0 {
		return 0, errors.New("the server sends its log without having said which file of it")
	}
	return placeIn(c.file, c.offset)
}

// rotate goes to another file, or to where a stream begins in one.
func (c *logCursor) rotate(name string, offset uint64) error {
	number, err := fileNumber(name)
	if err != nil {
		return err
	}
	switch {
	case number < c.file:
		return &cdc.GapError{
			Reason: fmt.Sprintf("the log went from file %d back to %s: its files were numbered anew", c.file, name),
			Hint:   "keep the log of a server that is watched; do not use RESET BINARY LOGS AND GTIDS or RESET MASTER on it",
		}
	case number > c.file:
		c.file, c.offset = number, max(offset, startOfFile)
	default:
		c.offset = max(c.offset, offset)
	}
	if file, offset := fileAndOffset(c.floor); file == number && offset >= wrapsAt { // of which headers do not tell
		c.offset = max(c.offset, offset)
	}
	return nil
}

// pass goes over an event of a transaction, which is where the last one ended.
func (c *logCursor) pass(h *header) error {
	if h.end == 0 {
		c.offset += uint64(h.size)
		return nil
	}
	end := c.offset&^(wrapsAt-1) | uint64(h.end)
	if end < c.offset {
		if c.offset-end < wrapsAt-eventLongest {
			return fmt.Errorf("the log goes back from offset %d to %d in file %d", c.offset, end, c.file)
		}
		end += wrapsAt
	}
	c.offset = end
	return nil
}

// note goes over an event that the server writes or makes up for itself. It may have been passed already.
func (c *logCursor) note(h *header) {
	if h.end != 0 {
		c.offset = max(c.offset, c.offset&^(wrapsAt-1)|uint64(h.end))
	}
}
