package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"
)

// eventKind is the type of an event
// (https://dev.mysql.com/doc/dev/mysql-server/latest/namespacemysql_1_1binlog_1_1event.html).
type eventKind = replication.EventType

// header is what each event of the log begins with, in 19 bytes:
//
//	timestamp 4 | type 1 | server_id 4 | event size 4 | end in the file 4 | flags 2
type header struct {
	seconds  uint32
	kind     eventKind
	serverID uint32
	size     uint32 // with header and checksum
	end      uint32 // the lower half of where the next event begins; 0: not told
	flags    uint16
}

const (
	headerSize   = replication.EventHeaderSize
	checksumSize = replication.BinlogChecksumLength

	flagArtificial = replication.LOG_EVENT_ARTIFICIAL_F // made for us, not in the log
	flagIgnorable  = replication.LOG_EVENT_IGNORABLE_F
)

func (h *header) artificial() bool { return h.flags&flagArtificial != 0 }

// parseHeader takes an event apart.
func parseHeader(event []byte) (h header, body []byte, err error) {
	if len(event) < headerSize {
		return h, nil, fmt.Errorf("event of %d bytes: want %d for its header alone", len(event), headerSize)
	}
	h = header{
		seconds:  binary.LittleEndian.Uint32(event),
		kind:     eventKind(event[4]),
		serverID: binary.LittleEndian.Uint32(event[5:]),
		size:     binary.LittleEndian.Uint32(event[9:]),
		end:      binary.LittleEndian.Uint32(event[13:]),
		flags:    binary.LittleEndian.Uint16(event[17:]),
	}
	if uint64(h.size) != uint64(len(event)) {
		return h, nil, fmt.Errorf("event of type %d says that it has %d bytes, it has %d", h.kind, h.size, len(event))
	}
	return h, event[headerSize:], nil
}

var errChecksum = errors.New("an event of the log does not fit its checksum: it was damaged on the server's disk or on the way")

// checkSum verifies the checksum that an event ends with, and takes it off.
func checkSum(event, body []byte) ([]byte, error) {
	if len(body) < checksumSize {
		return nil, fmt.Errorf("event of %d bytes has no room for its checksum", len(event))
	}
	if !sumFits(event) {
		return nil, errChecksum
	}
	return body[:len(body)-checksumSize], nil
}

func sumFits(event []byte) bool {
	n := len(event) - checksumSize
	return crc32.ChecksumIEEE(event[:n]) == binary.LittleEndian.Uint32(event[n:])
}

// withoutSum takes off a checksum from an event that may have one: those that are made up before the stream has said
// whether its events have checksums, or between files of which one has them and one has not. If it was damaged, what is
// left of it at the end of a file's name makes that the name of no file.
func withoutSum(event, body []byte) []byte {
	if len(body) >= checksumSize && sumFits(event) {
		return body[:len(body)-checksumSize]
	}
	return body
}

// atStart reports whether a FORMAT_DESCRIPTION_EVENT is the first that a server wrote since its start: the time of creation,
// behind 2 bytes of the format's and 50 of the server's version, is 0 in all others.
func atStart(body []byte) bool { return len(body) >= 56 && binary.LittleEndian.Uint32(body[52:]) != 0 }

// parseFormat reads a FORMAT_DESCRIPTION_EVENT and returns whether events have checksums from here on. Its end is
//
//	... lengths of post-headers, one byte a type | algorithm 1 | checksum 4
func parseFormat(event, body []byte) (summed bool, lengths []byte, err error) {
	const fixed = 2 + 50 + 4 + 1 // version, server's version, creation, length of headers
	if len(body) < fixed+1+checksumSize {
		return false, nil, fmt.Errorf("format description of %d bytes is too short", len(body))
	}
	if version := binary.LittleEndian.Uint16(body); version != 4 || body[fixed-1] != headerSize {
		return false, nil, fmt.Errorf("the log has format %d with headers of %d bytes; want format 4 with %d", version, body[fixed-1], headerSize)
	}
	switch alg := replication.BinlogChecksum(body[len(body)-checksumSize-1]); alg {
	case replication.BINLOG_CHECKSUM_ALG_CRC32:
		if !sumFits(event) {
			return false, nil, errChecksum
		}
		summed = true
	case replication.BINLOG_CHECKSUM_ALG_OFF, replication.BINLOG_CHECKSUM_ALG_UNDEF:
	default:
		return false, nil, fmt.Errorf("the log has checksums of type %d, which lockstep does not know", alg)
	}
	return summed, body[fixed : len(body)-checksumSize-1], nil
}

// tableIDSize is how long the ids of tables are, by the length of the post-header of an event.
func tableIDSize(lengths []byte, kind eventKind) int {
	if int(kind) > 0 && int(kind) <= len(lengths) && lengths[kind-1] == 6 {
		return 4
	}
	return 6
}

// parseRotate reads a ROTATE_EVENT: offset 8 | name of the file.
func parseRotate(body []byte) (file string, offset uint64, err error) {
	if len(body) <= 8 {
		return "", 0, fmt.Errorf("rotate event of %d bytes names no file", len(body))
	}
	return string(body[8:]), binary.LittleEndian.Uint64(body), nil
}

// parseHeartbeat reads the file and offset up to which the server has sent what we asked for. An offset that does not fit
// the header is in front of the name on MariaDB.
func parseHeartbeat(h *header, body []byte) (file string, offset uint64, err error) {
	if h.end == 0 && len(body) > 8 && body[7] == 0 {
		return string(body[8:]), binary.LittleEndian.Uint64(body), nil
	}
	return string(body), uint64(h.end), nil
}

// parseHeartbeat2 reads a HEARTBEAT_LOG_EVENT_V2: fields of type 1, length 1, value; type 0 ends them.
func parseHeartbeat2(body []byte) (file string, offset uint64, err error) {
	for len(body) >= 2 && body[0] != replication.OTW_HB_HEADER_END_MARK {
		kind, n := body[0], int(body[1])
		if len(body) < 2+n {
			break
		}
		value := body[2 : 2+n]
		body = body[2+n:]
		switch kind {
		case replication.OTW_HB_LOG_FILENAME_FIELD:
			file = string(value)
		case replication.OTW_HB_LOG_POSITION_FIELD:
			if offset, _, err = cutPackedInt(value); err != nil {
				return "", 0, fmt.Errorf("heartbeat: %w", err)
			}
		}
	}
	if file == "" {
		return "", 0, errors.New("heartbeat names no file")
	}
	return file, offset, nil
}

// cutPackedInt reads a length-encoded integer
// (https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_dt_integers.html).
func cutPackedInt(b []byte) (v uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errors.New("an integer is missing")
	}
	n := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[b[0]]
	switch {
	case b[0] < 0xfb:
		return uint64(b[0]), b[1:], nil
	case n == 0 || len(b) < 1+n:
		return 0, nil, fmt.Errorf("0x%x is no length-encoded integer", b[:min(len(b), 9)])
	}
	return littleEndian(b[1 : 1+n]), b[1+n:], nil
}

// littleEndian reads up to 8 bytes.
func littleEndian(b []byte) (v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

// nameOf prints a type of event for people.
func nameOf(kind eventKind) string {
	return fmt.Sprintf("%s (%d)", strings.TrimSuffix(kind.String(), "Event"), byte(kind))
}
