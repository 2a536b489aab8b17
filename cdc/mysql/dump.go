package mysql

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	wire "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
)

const (
	// beat is how often the server speaks when nothing happens. It tells where the log ends, which others wait for.
	beat = 500 * time.Millisecond
	// deaf is how long a server that should speak may be silent.
	deaf = 30 * time.Second
)

// dump is a connection by which a server sends its log. It belongs to one goroutine.
//
// The server takes us for a replica that is not registered, does not acknowledge anything, and so holds up nobody.
type dump struct {
	*session
	packet []byte // reused
	watch  *time.Timer
	silent atomic.Bool // watch has closed the connection
}

// dump asks the server for its log after from.
func (s *Source) dump(ctx context.Context, from cdc.Position) (*dump, error) {
	d, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.continues(ctx, d.session, from); err == nil {
		err = d.follow(ctx, from)
	}
	if err != nil {
		d.hangUp()
		return nil, d.judge(err)
	}
	return d, nil
}

// dial connects for a log that is to be asked for, to the server that has said who it is.
func (s *Source) dial(ctx context.Context) (*dump, error) {
	c, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	d := &dump{session: c}
	d.watch = time.AfterFunc(time.Hour, func() {
		d.silent.Store(true)
		_ = c.network.Close()
	})
	d.watch.Stop()
	return d, nil
}

// follow asks for what follows a position.
func (d *dump) follow(ctx context.Context, from cdc.Position) error {
	if d.version.mariadb {
		return d.request(ctx, fileDump("", startOfFile, replication.BINLOG_SEND_ANNOTATE_ROWS_EVENT), mariadbStart(from)...)
	}
	command, err := mysqlDump(from)
	if err != nil {
		return err
	}
	return d.request(ctx, command)
}

// request sends the command after which the server sends nothing but its log, and before it what is to be set. Checksums are
// left as they are in the log, so that we can verify them.
func (d *dump) request(ctx context.Context, command []byte, set ...string) error {
	err := d.exec(ctx, append(set, fmt.Sprintf(
		"SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', @master_heartbeat_period = %d, @source_heartbeat_period = %d",
		beat.Nanoseconds(), beat.Nanoseconds()))...)
	if err != nil {
		return err
	}
	return d.call(ctx, func() error {
		d.conn.ResetSequence()
		return d.conn.WritePacket(command)
	})
}

// afterWhat is what to ask the server to go on after.
func afterWhat(from cdc.Position) cdc.TxSet {
	if from.Resume != nil {
		return *from.Resume
	}
	return from.Tip()
}

// knowsGTIDs has MariaDB send events of GTIDs as they are in its log.
const knowsGTIDs = "SET @mariadb_slave_capability = 4"

// mariadbStart asks for what follows the last transaction of each domain. In strict mode a place that the log does not
// have is an error, where else the server would begin at the next one.
func mariadbStart(from cdc.Position) []string {
	return []string{
		knowsGTIDs,
		"SET @slave_connect_state = " + quoteText(afterWhat(from).String()),
		"SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0",
	}
}

// fileDump is COM_BINLOG_DUMP: offset 4 | flags 2 | server id 4 | name of a file. Of MariaDB events that only explain others
// are asked for too: from 11.4 on, places in the log are found by adding up the sizes of all.
func fileDump(file string, offset uint32, flags uint16) []byte {
	b := append(make([]byte, 4), wire.COM_BINLOG_DUMP)
	b = binary.LittleEndian.AppendUint32(b, offset)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint32(b, ownServerID())
	return append(b, file...)
}

// mysqlDump is COM_BINLOG_DUMP_GTID: flags 2 | server id 4 | length 4, name of a file | offset 8 | length 4, set.
func mysqlDump(from cdc.Position) ([]byte, error) {
	set, err := wire.ParseMysqlGTIDSet(afterWhat(from).String())
	if err != nil {
		return nil, fmt.Errorf("position %v: %w", from, err)
	}
	encoded := set.Encode()
	b := append(make([]byte, 4), wire.COM_BINLOG_DUMP_GTID)
	b = binary.LittleEndian.AppendUint16(b, replication.USE_HEARTBEAT_EVENT_V2) // they tell offsets beyond 4 GiB
	b = binary.LittleEndian.AppendUint32(b, ownServerID())
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, startOfFile)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(encoded)))
	return append(b, encoded...), nil
}

// ownServerID is another one for each connection: servers end a connection when a second one comes with its id. It is of
// a range that people who number their servers do not get to.
func ownServerID() uint32 { return 3<<30 + rand.Uint32N(1<<30-1) }

// errEnded is said by a server that has no more of its log to send, where it was asked not to wait.
var errEnded = errors.New("the server ended the stream")

// next returns the next event, which is valid until the next call. What an error of the server means, judge says.
func (d *dump) next(ctx context.Context) ([]byte, error) {
	const keep = 1 << 20 // of a larger packet the memory is not kept
	if cap(d.packet) > keep {
		d.packet = nil
	}
	d.packet = append(d.packet[:0], 0) // to a packet that is not empty the driver appends
	d.watch.Reset(deaf)
	defer d.watch.Stop()
	err := d.guarded(func() (err error) {
		var packet []byte
		if packet, err = d.conn.ReadPacketReuseMem(d.packet); err == nil {
			d.packet = packet
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case d.silent.Load():
		return nil, fmt.Errorf("no word from the server for %v", deaf)
	case err != nil:
		return nil, fmt.Errorf("read log: %w", err)
	case len(d.packet) < 2:
		return nil, errors.New("the server sent an empty packet")
	}
	switch packet := d.packet[1:]; packet[0] {
	case wire.OK_HEADER:
		return packet[1:], nil
	case wire.ERR_HEADER:
		return nil, d.conn.HandleErrorPacket(packet)
	case wire.EOF_HEADER:
		return nil, errEnded
	default:
		return nil, fmt.Errorf("the server sent a packet of unknown type 0x%02x in the stream", packet[0])
	}
}

// errFatalReading is what a server says when it cannot send its log.
const errFatalReading = 1236

// isGone reports whether an error says that the log does not have the file that was asked for.
func isGone(err error) bool {
	return errorCode(err) == errFatalReading && strings.Contains(serverAnswer(err).Message, "first log file")
}

// judge finds out what an error means for the one who wants to go on.
func (c *session) judge(err error) error {
	if errorCode(err) != errFatalReading {
		return c.missingRight(err, "REPLICATION SLAVE", "*.*")
	}
	said := oneLine(serverAnswer(err).Message)
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(strings.ToLower(said), part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("same server_uuid", "same server_id"): // the next connection has another id
		return err
	case has("gtid_mode"):
		return &cdc.SetupError{Problem: said, Hint: "SET PERSIST gtid_mode = ON;"}
	case has("not open", "misconfigured"):
		return &cdc.SetupError{Problem: said, Hint: "set log_bin and server_id in the server's configuration and restart it"}
	case has("max_allowed_packet"):
		return &cdc.SetupError{Problem: said, Hint: "SET GLOBAL max_allowed_packet = 1073741824;"}
	case isGone(err), has("purged", "too old", "find next log", "missing"):
		return &cdc.GapError{Reason: said, Hint: "raise binlog_expire_logs_seconds above the longest time that lockstep may be away"}
	}
	return &cdc.GapError{Reason: said, Hint: "keep the log of a server that is watched"}
}
