package postgres

import (
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// The message types of protocol version 1, by the names of the protocol's documentation:
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
const (
	kindBegin    = 'B'
	kindCommit   = 'C'
	kindOrigin   = 'O'
	kindRelation = 'R'
	kindType     = 'Y'
	kindInsert   = 'I'
	kindUpdate   = 'U'
	kindDelete   = 'D'
	kindTruncate = 'T'
)

// The kinds of a field of TupleData.
const (
	fieldNull      = 'n' // NULL; in a 'K' tuple, outside of the key: not sent
	fieldUnchanged = 'u' // a TOASTed value that the update left alone
	fieldText      = 't'
)

// The kinds of tuples in Update and Delete.
const (
	tupleKey = 'K' // the columns of the replica identity, the others as 'n'
	tupleOld = 'O' // the whole old row, under REPLICA IDENTITY FULL; TOASTed values are spelled out
	tupleNew = 'N'
)

// message is one decoded pgoutput message: kind says which of the parts was set. It is decoded into again and again, so
// that rows cost no allocation; byte slices alias the network buffer and are good until the next message only.
type message struct {
	kind     byte
	begin    beginMessage
	commit   commitMessage
	origin   originMessage
	relation relationMessage
	dataType typeMessage
	row      rowMessage
	truncate truncateMessage
}

type beginMessage struct {
	FinalLSN   cdc.LSN // start of the commit record
	CommitTime time.Time
	XID        uint32
}

type commitMessage struct {
	CommitLSN         cdc.LSN // start of the commit record
	TransactionEndLSN cdc.LSN
	CommitTime        time.Time
}

type originMessage struct {
	CommitLSN cdc.LSN // in truth the end of the commit record on the origin; 0 while a table is first copied
	Name      []byte
}

// relationMessage owns its strings: relations outlive the message that describes them.
type relationMessage struct {
	ID              uint32
	Namespace, Name string
	ReplicaIdentity byte // pg_class.relreplident: d, n, f, i
	Columns         []relationColumn
}

type relationColumn struct {
	Key      bool // part of the replica identity
	Name     string
	DataType uint32 // pg_type.oid on the sending server
}

// typeMessage names a type that is not built in; for a domain it names the base type.
type typeMessage struct {
	ID              uint32
	Namespace, Name string // Namespace is empty for pg_catalog
}

// rowMessage is an Insert, Update or Delete.
type rowMessage struct {
	RelationID uint32
	OldKind    byte // tupleKey, tupleOld, or 0 where no old tuple was sent
	Old, New   []field
}

type field struct {
	kind byte
	text []byte
}

type truncateMessage struct {
	RelationIDs []uint32
}
