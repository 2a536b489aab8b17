package mysql

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// payload is the inside of a TRANSACTION_PAYLOAD_EVENT: the events of a transaction, compressed together
// (https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Transaction__payload__event.html).
type payload struct {
	compressed bool
	size       uint64 // of the events
	data       []byte
}

// parsePayload reads fields of type, length, value; type 0 ends them, and the data follow.
func parsePayload(body []byte) (payload, error) {
	p := payload{compressed: true}
	for {
		kind, rest, err := cutPackedInt(body)
		if err != nil {
			return p, fmt.Errorf("compressed transaction: %w", err)
		}
		if kind == replication.OTW_PAYLOAD_HEADER_END_MARK {
			p.data = rest
			return p, nil
		}
		length, rest, err := cutPackedInt(rest)
		if err != nil || length > uint64(len(rest)) {
			return p, errors.New("compressed transaction: a field ends too early")
		}
		value := rest[:length]
		body = rest[length:]
		switch kind {
		case replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD:
			how, _, err := cutPackedInt(value)
			if err != nil || how != replication.ZSTD && how != replication.NONE {
				return p, fmt.Errorf("transaction is compressed in a way (%d) that lockstep does not know", how)
			}
			p.compressed = how == replication.ZSTD
		case replication.OTW_PAYLOAD_UNCOMPRESSED_SIZE_FIELD:
			if p.size, _, err = cutPackedInt(value); err != nil {
				return p, fmt.Errorf("compressed transaction: %w", err)
			}
		}
	}
}

// unpacker gives out the events of payloads. It keeps its memory from one to the next.
type unpacker struct {
	decoder *zstd.Decoder
	event   bytes.Buffer
}

// zstdWindow is how far back compressed data may refer, and thus the memory that they take: what the highest level uses.
const zstdWindow = 128 << 20

// each calls yield with the events of p, one after the other. Each is valid during the call only; however large the
// transaction is, no more than one of them is in memory.
func (u *unpacker) each(p payload, yield func(event []byte) error) error {
	var source io.Reader = bytes.NewReader(p.data)
	if p.compressed {
		if err := u.open(source); err != nil {
			return fmt.Errorf("compressed transaction: %w", err)
		}
		defer func() { _ = u.decoder.Reset(nil) }() // lets go of the packet
		source = u.decoder
	}
	source = io.LimitReader(source, int64(min(p.size, 1<<62))+1) // one more, to see that there is more
	for left := p.size; ; {
		n, err := u.next(source)
		switch {
		case err == io.EOF && left == 0:
			return nil
		case err == io.EOF:
			return fmt.Errorf("compressed transaction: %d bytes of it are missing", left)
		case err != nil:
			return fmt.Errorf("compressed transaction: %w", err)
		case n > left:
			return errors.New("compressed transaction: it is longer than it says")
		}
		left -= n
		if err := yield(u.event.Bytes()); err != nil {
			return err
		}
	}
}

func (u *unpacker) open(source io.Reader) error {
	if u.decoder != nil {
		return u.decoder.Reset(source)
	}
	var err error
	u.decoder, err = zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
	return err
}

// next reads one event. Its memory grows with what is there, not with what its header says.
func (u *unpacker) next(source io.Reader) (uint64, error) {
	const keep = 1 << 20 // of a larger event the memory is not kept
	if u.event.Cap() > keep {
		u.event = bytes.Buffer{}
	}
	u.event.Reset()
	if n, err := io.CopyN(&u.event, source, headerSize); err != nil {
		if n > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	size := littleEndian(u.event.Bytes()[9:13])
	if size < headerSize || size > eventLongest {
		return 0, fmt.Errorf("an event says that it has %d bytes", size)
	}
	if _, err := io.CopyN(&u.event, source, int64(size-headerSize)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	return size, nil
}

func (u *unpacker) close() {
	if u.decoder != nil {
		u.decoder.Close()
	}
}
