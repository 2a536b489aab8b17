package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// decode reads one pgoutput message of protocol version 1 without streaming or two-phase. Whatever b holds, it returns
// a message or an error.
func (m *message) decode(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("pgoutput: empty message")
	}
	m.kind = b[0]
	r := reader{rest: b[1:]}
	switch m.kind {
	case kindBegin:
		m.begin = beginMessage{FinalLSN: r.lsn(), CommitTime: r.time(), XID: r.uint32()}
	case kindCommit:
		if flags := r.byte(); flags != 0 {
			r.wonder("flags", flags)
		}
		m.commit = commitMessage{CommitLSN: r.lsn(), TransactionEndLSN: r.lsn(), CommitTime: r.time()}
	case kindOrigin:
		m.origin = originMessage{CommitLSN: r.lsn(), Name: r.cstring()}
	case kindRelation:
		m.relation = r.relation()
	case kindType:
		m.dataType = typeMessage{ID: r.uint32(), Namespace: string(r.cstring()), Name: string(r.cstring())}
	case kindInsert, kindUpdate, kindDelete:
		r.row(m.kind, &m.row)
	case kindTruncate:
		r.truncate(&m.truncate)
	default:
		return fmt.Errorf("pgoutput: message of unknown type %q (0x%02x)", m.kind, m.kind)
	}
	return r.end(m.kind)
}

// reader takes a message apart. After the first read that does not fit, all reads give zeros and end tells why.
type reader struct {
	rest  []byte
	short bool
	odd   string // what was found where the protocol has something else
}

func (r *reader) end(kind byte) error {
	switch {
	case r.odd != "":
		return fmt.Errorf("pgoutput: message %q: %s", kind, r.odd)
	case r.short:
		return fmt.Errorf("pgoutput: message %q is too short", kind)
	case len(r.rest) != 0:
		return fmt.Errorf("pgoutput: message %q has %d bytes too many", kind, len(r.rest))
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) || r.short {
		r.short, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) lsn() cdc.LSN { return cdc.LSN(r.uint64()) }

// epoch2000 is PostgreSQL's epoch, 2000-01-01, in microseconds of Unix time.
const epoch2000 = 946_684_800_000_000

func (r *reader) time() time.Time { return time.UnixMicro(int64(r.uint64()) + epoch2000).UTC() }

func (r *reader) cstring() []byte {
	n := bytes.IndexByte(r.rest, 0)
	if n < 0 {
		r.take(len(r.rest) + 1)
		return nil
	}
	b := r.take(n)
	r.take(1)
	return b
}

func (r *reader) relation() relationMessage {
	m := relationMessage{ID: r.uint32(), Namespace: string(r.cstring()), Name: string(r.cstring()), ReplicaIdentity: r.byte()}
	if m.Namespace == "" {
		m.Namespace = "pg_catalog" // left out on the wire
	}
	for n := r.uint16(); n > 0 && !r.short; n-- {
		column := relationColumn{Key: r.byte()&1 != 0, Name: string(r.cstring()), DataType: r.uint32()}
		r.uint32() // atttypmod: it does not change how a value is printed
		m.Columns = append(m.Columns, column)
	}
	return m
}

func (r *reader) row(kind byte, m *rowMessage) {
	m.RelationID = r.uint32()
	m.OldKind, m.Old, m.New = 0, m.Old[:0], m.New[:0]
	tuple := r.byte()
	if kind != kindInsert && (tuple == tupleKey || tuple == tupleOld) {
		m.OldKind = tuple
		m.Old = r.tuple(m.Old)
		if kind == kindDelete {
			return
		}
		tuple = r.byte()
	}
	if kind == kindDelete || tuple != tupleNew {
		r.wonder("tuple", tuple)
		return
	}
	m.New = r.tuple(m.New)
}

func (r *reader) tuple(fields []field) []field {
	for n := r.uint16(); n > 0 && !r.short; n-- {
		f := field{kind: r.byte()}
		switch f.kind {
		case fieldNull, fieldUnchanged:
		case fieldText:
			f.text = r.take(int(r.uint32()))
		default:
			r.wonder("field", f.kind)
			return fields
		}
		fields = append(fields, f)
	}
	return fields
}

func (r *reader) wonder(what string, found byte) {
	if !r.short && r.odd == "" {
		r.odd = fmt.Sprintf("%s of unknown kind %q (0x%02x)", what, found, found)
	}
}

func (r *reader) truncate(m *truncateMessage) {
	m.RelationIDs = m.RelationIDs[:0]
	n := r.uint32()
	if options := r.byte(); options > 3 { // CASCADE, RESTART IDENTITY: the relations that CASCADE reached are listed
		r.wonder("options", options)
	}
	for ; n > 0 && !r.short; n-- {
		m.RelationIDs = append(m.RelationIDs, r.uint32())
	}
}
