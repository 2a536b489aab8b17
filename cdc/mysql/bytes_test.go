package mysql

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// logWriter makes the events of a log as a server sends them.
type logWriter struct {
	file    string
	offset  uint64
	summed  bool // with checksums
	without bool // the place is left out of headers, as MariaDB does from 11.4 on
	server  uint32
}

// event makes an event and moves on.
func (w *logWriter) event(kind eventKind, body []byte) []byte {
	size := uint64(headerSize + len(body))
	if w.summed {
		size += checksumSize
	}
	w.offset += size
	end := uint32(w.offset)
	if w.without {
		end = 0
	}
	return w.raw(kind, body, end, 0)
}

// artificial makes an event that is not in the log.
func (w *logWriter) artificial(kind eventKind, body []byte) []byte {
	return w.raw(kind, body, 0, flagArtificial)
}

func (w *logWriter) raw(kind eventKind, body []byte, end uint32, flags uint16) []byte {
	size := headerSize + len(body)
	if w.summed {
		size += checksumSize
	}
	b := binary.LittleEndian.AppendUint32(nil, 1700000000)
	b = append(b, byte(kind))
	b = binary.LittleEndian.AppendUint32(b, w.server)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, end)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = append(b, body...)
	if w.summed {
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	}
	return b
}

// begin makes what a file begins with: that it does, and in which format.
func (w *logWriter) begin(file string) [][]byte {
	w.file, w.offset = file, startOfFile
	return [][]byte{w.artificial(replication.ROTATE_EVENT, rotateBody(file, startOfFile)), w.format()}
}

func rotateBody(file string, offset uint64) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, offset), file...)
}

func (w *logWriter) format() []byte {
	body := append([]byte{4, 0}, make([]byte, 50+4)...)
	body = append(body, headerSize)
	body = append(body, slices.Repeat([]byte{8}, 45)...)
	algorithm := replication.BINLOG_CHECKSUM_ALG_OFF
	if w.summed {
		algorithm = replication.BINLOG_CHECKSUM_ALG_CRC32
	}
	body = append(body, byte(algorithm))
	if !w.summed {
		body = append(body, make([]byte, checksumSize)...) // is there all the same
	}
	return w.event(replication.FORMAT_DESCRIPTION_EVENT, body)
}

var ownUUID = [16]byte{0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62}

const ownSource = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func (w *logWriter) gtid(number uint64) []byte {
	body := append([]byte{1}, ownUUID[:]...)
	return w.event(replication.GTID_EVENT, binary.LittleEndian.AppendUint64(body, number))
}

func (w *logWriter) mariadbGTID(seq uint64, flags byte) []byte {
	body := binary.LittleEndian.AppendUint64(nil, seq)
	body = binary.LittleEndian.AppendUint32(body, 0)
	return w.event(replication.MARIADB_GTID_EVENT, append(body, flags, 0, 0, 0, 0, 0, 0))
}

func queryBody(schema, text string) []byte {
	body := append(make([]byte, 8), byte(len(schema)), 0, 0, 0, 0)
	body = append(append(body, schema...), 0)
	return append(body, text...)
}

func (w *logWriter) query(text string) []byte {
	return w.event(replication.QUERY_EVENT, queryBody("shop", text))
}

func (w *logWriter) xid() []byte { return w.event(replication.XID_EVENT, make([]byte, 8)) }

// mapBody describes a table of an int and a varchar.
func mapBody(id byte, table string) []byte {
	body := []byte{id, 0, 0, 0, 0, 0, 1, 0, 4}
	body = append(append(body, "shop\x00"...), byte(len(table)))
	body = append(append(body, table...), 0)
	return append(body, 2, 3, 15, 2, 200, 0, 0b10)
}

func (w *logWriter) table(id byte, table string) []byte {
	return w.event(replication.TABLE_MAP_EVENT, mapBody(id, table))
}

func rowsBody(id byte, rows ...byte) []byte {
	body := []byte{id, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b11}
	for _, row := range rows {
		body = append(body, 0, row, 0, 0, 0, 2, 'n', 'o')
	}
	return body
}

func (w *logWriter) insert(id byte, rows ...byte) []byte {
	return w.event(replication.WRITE_ROWS_EVENTv2, rowsBody(id, rows...))
}

// orders is the definition of shop.orders.
func orders() (cdc.Table, cdc.Epoch, *definition) {
	d := &definition{schema: "shop", table: "orders", name: "shop.orders", key: []keyPart{{column: "id"}}, columns: []columnDefinition{
		{name: "id", kind: digest.MySQLType{DataType: "int", ColumnType: "int"}},
		{name: "note", kind: digest.MySQLType{DataType: "varchar", ColumnType: "varchar(50)", Charset: "utf8mb4"}, nullable: true},
	}}
	t := (&catalogView{}).describe(d)
	e := epochOf(t)
	e.Table = 7
	return t, e, d
}

// reader is an assembler that watches shop.orders.
func reader(from cdc.Position, mariadb bool) *assembler {
	var list watchlist
	list.set(orders())
	a := newAssembler(from, scanHasher)
	a.mariadb, a.current = mariadb, list.load
	a.fold = func() bool { return false }
	a.passed = func(cdc.Event) {}
	return a
}

// feedAll feeds events and returns what there was to yield.
func feedAll(t *testing.T, a *assembler, events ...[]byte) []cdc.Event {
	t.Helper()
	var out []cdc.Event
	for _, event := range events {
		e, something, err := a.feed(event)
		if err != nil {
			t.Fatal(err)
		}
		if something {
			out = append(out, e)
		}
	}
	return out
}

// transactions leaves progress out.
func transactions(events []cdc.Event) []*cdc.Transaction {
	var list []*cdc.Transaction
	for _, e := range events {
		if e.Transaction != nil {
			list = append(list, e.Transaction)
		}
	}
	return list
}
