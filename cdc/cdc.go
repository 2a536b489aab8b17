// Package cdc defines what a change stream is made of, whatever the engine it comes from.
//
// A [Source] reads one member. It yields whole committed transactions in the order of the member's own log, already
// digested: row values do not leave the source, but for the short ones of an update that is incomplete without what is
// stored of the row ([digest.Partial]). See docs/design.md, "Aligned comparison".
package cdc

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

// TxID names one transaction on every member: the author's end LSN (PostgreSQL), or a GTID.
type TxID struct {
	// Source is empty for PostgreSQL; the domain and the server id for MariaDB, 0-101; the UUID and the tag, if there
	// is one, for MySQL: 3e11fa47-71ca-11e1-9e33-c80aa9429562, 3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly.
	Source string
	Seq    uint64 // the author's end LSN; the number within the GTID's source
}

// MariaDBTxID names a transaction by the three numbers of MariaDB's GTID. All three count: two servers of one domain may
// give the same number to different transactions (https://mariadb.com/kb/en/gtid/).
func MariaDBTxID(domain, server uint32, seq uint64) TxID {
	return TxID{strconv.FormatUint(uint64(domain), 10) + "-" + strconv.FormatUint(uint64(server), 10), seq}
}

// uuidLength is the length of a UUID's text. No other source is that long.
const uuidLength = 36

// sequential reports whether the transactions of the id's source are replayed in the order of their numbers, so that one
// says that all before it were replayed, or passed over. MySQL's replicas need not keep the order
// (replica_preserve_commit_order).
func (id TxID) sequential() bool { return len(id.Source) < uuidLength }

// Domain returns the replication domain of one of MariaDB's ids, "" of others'.
func (id TxID) Domain() string {
	if !id.sequential() {
		return ""
	}
	return domainOf(id.Source)
}

// Author returns which server wrote a transaction with a GTID: MySQL's UUID, MariaDB's server id. It is empty for PostgreSQL's.
func (id TxID) Author() string {
	if id.sequential() {
		_, server, _ := strings.Cut(id.Source, "-")
		return server
	}
	return id.Source[:uuidLength]
}

// domainOf returns the domain of a source of MariaDB's, domain-server.
func domainOf(source string) string {
	domain, _, ok := strings.Cut(source, "-")
	if !ok {
		return ""
	}
	return domain
}

// String prints the id as users of the engine write it.
func (id TxID) String() string {
	switch {
	case id.Source == "":
		return LSN(id.Seq).String()
	case id.sequential():
		return id.Source + "-" + strconv.FormatUint(id.Seq, 10)
	}
	return id.Source + ":" + strconv.FormatUint(id.Seq, 10)
}

// Before returns what the id says to be behind it: all with a lower number if its source's are replayed in order, else
// nothing.
func (id TxID) Before() TxSet {
	var s TxSet
	if id.sequential() && id.Seq > 0 {
		s.Add(TxID{id.Source, id.Seq - 1})
	}
	return s
}

// ParseTxID reads what String makes of an id; the zero TxID of anything else.
func ParseTxID(text string) (id TxID) {
	if at, err := ParseLSN(text); err == nil {
		return TxID{Seq: uint64(at)}
	}
	if i := strings.LastIndexAny(text, ":-"); i > 0 {
		if n, err := strconv.ParseUint(text[i+1:], 10, 64); err == nil {
			return TxID{text[:i], n}
		}
	}
	return TxID{}
}

// IsZero reports whether id names no transaction.
func (id TxID) IsZero() bool { return id == TxID{} }

// MemberID numbers a member within its group. Numbers are given by the store and never used again.
type MemberID uint16

// TableID numbers a monitored table within its group. Numbers are given by the store and never used again.
type TableID uint32

// Op is what a change did to a row.
type Op uint8

// The operations. The zero Op is invalid.
const (
	Insert Op = iota + 1
	Update
	Delete
	Truncate // Key, OldKey and Row are empty
)

// Change is what a transaction did to one row, or, for a Truncate, to all rows of a table.
type Change struct {
	Table  TableID
	Op     Op
	Epoch  uint32     // of the shape that Key and Row were made with
	Key    digest.Key // of the row; for an update that moved the key, the new one
	OldKey digest.Key // set only on an update that moved the key
	Row    digest.Row // the after-image; zero for Delete and Truncate
	// Before is the digest of the row before the change (at OldKey, if the key moved), zero if there was none; it counts
	// if HasBefore says so. Logs that carry whole before-images save a look at what is stored of the row.
	Before    digest.Digest
	HasBefore bool
}

// Transaction is one committed transaction as one member's log shows it. Its slices belong to the receiver.
type Transaction struct {
	// ID is the author's name of the transaction. On PostgreSQL, for one that was first written on this member, it is
	// the member's own end position.
	ID TxID
	// Lane is the way by which the transaction reached this member: on PostgreSQL the name of the replication origin
	// that replayed it (pg_<subscription oid>), or empty for one that was first written here; on MySQL and MariaDB
	// always [GTIDLane], for there only the id tells who has a transaction.
	Lane string
	// Commit and End are the start and the end of the commit record in this member's own log.
	Commit, End LSN
	// CommitTime is the author's commit time: replay keeps it, so it is the same on every member.
	CommitTime time.Time
	Changes    []Change
	// Touched lists tables that the transaction changed in a way that Changes does not show row by row, so that
	// nobody takes silence for sameness.
	Touched []Touched
}

// Touched says that a transaction changed a table whose rows could not be given.
type Touched struct {
	Table TableID // 0: of a relation that the source was not told of
	// Reason says why, for people: `column "note" was added`. Empty: the source was not given a shape yet.
	Reason string
	// Fault is the mistake of lockstep's own that Reason tells of; nil: it is none.
	Fault *fault.Error
}

// Doubt is what is said of a table whose changes could not be decoded, because of err; nil: it was not given a shape yet.
func Doubt(table TableID, err error) Touched {
	if err == nil {
		return Touched{Table: table}
	}
	return Touched{table, err.Error(), fault.Of(err)}
}

// GTIDLane is the lane of members whose transactions carry the same id wherever they are.
const GTIDLane = "gtid"

// WALLane is the lane of a physical standby: it replays all that its primary has written, in that order.
const WALLane = "wal"

// Position is how far a member's stream is read, and what it takes to go on from there. The zero Position is before all.
type Position struct {
	// LSN is the place in the member's own log: everything that ends at or before it has been yielded. On MySQL and
	// MariaDB it is made of the binlog file's number and the offset in it.
	LSN LSN `json:"position"`
	// Shown holds the ids of all transactions that the log has up to there: on PostgreSQL all up to LSN.
	Shown TxSet `json:"shown"`
	// Last, on MariaDB only, is the last id of each domain. A member may lack ids of servers that wrote long ago, which
	// its backup was taken after; who has the last ones has all of Shown.
	Last TxSet `json:"last,omitzero"`
	// Resume, if set, is what to ask the server to go on after, in place of Shown: transactions that were prepared and
	// not ended yet are to be read again. What is in Shown is not yielded twice.
	Resume *TxSet `json:"resume,omitempty"`
	// Mark is what the source notes of its log there, in its own words, to tell later whether the log is still the same
	// one. A position without it is good too; less can be told by it.
	Mark string `json:"mark,omitempty"`
}

// Clone returns a position that shares nothing with p.
func (p Position) Clone() Position {
	p.Shown, p.Last = p.Shown.Clone(), p.Last.Clone()
	if p.Resume != nil {
		resume := p.Resume.Clone()
		p.Resume = &resume
	}
	return p
}

// Tip returns ids that nobody has who has not all of Shown.
func (p Position) Tip() TxSet {
	if !p.Last.IsZero() {
		return p.Last
	}
	return p.Shown
}

// String prints the ids of the transactions.
func (p Position) String() string { return p.Shown.String() }

// Pass moves the position over an event.
func (p *Position) Pass(e Event) {
	p.LSN = max(p.LSN, e.Position)
	p.Shown.Add(e.Through)
	if e.Through.Domain() != "" {
		p.Last.Supersede(e.Through)
		p.Last.Add(e.Through)
	}
	p.Resume = e.Resume
	if e.Mark != "" {
		p.Mark = e.Mark
	}
}

// Event is what a source's stream yields: a transaction, or with a nil Transaction only progress of the position.
type Event struct {
	// Position is how far the stream is read: everything that ends at or before it has been yielded.
	Position LSN
	// Through is the id of the transaction that ends here, also of one that holds nothing of ours; zero if none does.
	// On PostgreSQL it is Position.
	Through TxID
	Resume  *TxSet // see Position
	Mark    string // see Position; empty: the one before still holds
	// Started says that MariaDB was started before this and after what came before. It has then not logged what it replayed
	// in between if its log was off (log_bin, log_slave_updates), of which nothing else tells.
	Started     bool
	Transaction *Transaction
}

// Progress is what a member said of itself at one moment, and the position that proves it: once its stream has been
// read to Barrier, everything that Applied counts has been yielded.
type Progress struct {
	Barrier LSN // at or before End
	End     LSN // of the member's log when it was asked, which never goes back on one history
	// Applied holds, per lane, the transactions that were replayed or passed over. It may hold more than the
	// reference's.
	Applied map[string]TxSet
	// Position is MariaDB's gtid_slave_pos: what the server was seeded or came with, it has up to there, whichever server wrote
	// it, and Applied need not name it.
	Position TxSet
	// Self is the id that a server with GTIDs gives to what it writes, and Follows those of the servers that it replicates from; ""
	// of one that it has not been connected to.
	Self     string
	Follows  []string
	Lanes    []Lane
	Retained Retained
}

// Lacks returns which of a member's transactions with a GTID a server has not that says of itself what p does.
func (p *Progress) Lacks(said TxSet) TxSet {
	return said.Without(p.Applied[GTIDLane]).after(p.Position)
}

// Retained is how many bytes of its log a PostgreSQL server keeps for us, and with how many the slot is given up (0: with none).
// It is zero for others, which keep theirs for nobody.
type Retained struct{ Bytes, Most int64 }

// Lane is one way by which transactions of the reference reach a member: a PostgreSQL subscription, or the replication
// of MySQL and MariaDB, whatever its channels.
type Lane struct {
	Name  string // of the replication origin, pg_16394; or GTIDLane
	Title string // as the user calls it: subscription "shop"
	// Slot is, on the author, that by which the lane reads; of GTIDLane the id of the server that it reads from.
	Slot    string
	Hidden  bool              // whether the server replicates, and from whom, it does not let us see or does not know yet
	Enabled bool              // false: someone paused it
	Tables  map[string]string // qualified name to why it is not comparable yet: "" ready, else "initial copy"
	// Publications are what it subscribes to on the author.
	Publications []string
	Problem      string // what keeps it from applying, in the server's words; empty if nothing is known
}

// Server is who a member says it is. A change of identity is a gap.
type Server struct {
	SystemID string // PostgreSQL's system identifier; MySQL's server_uuid; MariaDB's host name, port and data folder
	Timeline int32
	Database string // empty for MySQL and MariaDB, whose log is the whole server's
	Version  string
	// Standby says that the server only replays another one's log, byte by byte (a PostgreSQL physical standby): its
	// SystemID is the other one's, and it has no log of its own to read.
	Standby bool
}

// Authors reports whether the server's id is part of the names of the transactions that it writes: MySQL's is. So two servers cannot
// have one.
func (s Server) Authors() bool {
	return len(s.SystemID) == uuidLength && !strings.Contains(s.SystemID, ":")
}

// Carried is what a publication carries of a table: all inserts, updates and deletes, but for what it leaves out.
type Carried struct {
	Without string   // rows or changes, for people
	Columns []string // that it leaves out
}

// Table is one table as one member defines it.
type Table struct {
	Name    string
	Columns []digest.Column // sorted by name; what the member's stream carries of the table
	Key     []string        // names of the primary key's columns, in its order
	Leaves  []string        // the relations that hold the rows: the table itself, or its leaf partitions
	// Version changes whenever the definition does, also where Columns stays the same (a rewrite).
	Version string
	Rows    int64 // the server's estimate, for progress bars; -1 unknown
	Order   Order // in which the table can be read in parts
	// Hides says what changes of the table the member's log leaves out, for people; empty: none. Such a table can be
	// watched only where it is scrubbed.
	Hides string
	// Publications carry changes of the table from this member to others.
	Publications map[string]Carried
	// Problem says why the table cannot be watched on this member, and Hint what mends it. Empty: it can be.
	Problem, Hint string
}

// Epoch is a table's shape from one schema change to the next. Changes and rows made with differing epochs are not
// comparable.
type Epoch struct {
	Table  TableID
	Number uint32 // counts up
	Shape  digest.Shape
}

// A Source reads one member: its catalog, its change stream, its rows.
//
// Stream blocks; every other method may be called while it runs, from any goroutine.
type Source interface {
	Reader
	// Confirmed asks, as the author, what the reader of each slot has durably replayed, by slot name. Where lanes have
	// no slots it is the empty set for the member's own id.
	Confirmed(ctx context.Context) (map[string]TxSet, error)
	// Prepare makes sure that the member keeps its log for us after from, and returns where streaming starts. A
	// zero from means a first start: what is needed is created. A *GapError says that the log after from is gone or
	// belongs to another history; calling again with a zero from starts over. That MariaDB's log is gone, only Stream
	// finds.
	Prepare(ctx context.Context, from Position) (Position, error)
	// Stream yields events after from until ctx ends, yield fails, or the connection breaks; it returns why.
	// It blocks while yield blocks. A *GapError says that the stream cannot be continued without a hole.
	Stream(ctx context.Context, from Position, yield func(Event) error) error
	// Gone asks which of these tables the server surely has not. That Tables does not list one is no proof of it: MySQL and MariaDB
	// hide tables from an account without a right on them. doubt says why it is not sure of the others, and what mends that;
	// nothing where it is sure that they are there.
	Gone(ctx context.Context, names []string) (gone []string, doubt string, err error)
	// SetEpoch says how rows of a table are decoded from the next transaction on. t is this member's definition, as Tables of
	// this source has given it. An epoch without columns makes the table known: it is Touched by what changes it.
	SetEpoch(t Table, e Epoch)
	// Durable says that everything at or before p is safe on our side, so that the server may forget it. What the stream
	// has not yielded since Prepare was last called with a zero position is of another history, and does not count.
	Durable(p LSN)
	// Execute runs a statement that writes to a table, of a plain name. It is for canaries, which are all that lockstep ever writes.
	// If a right is missing, a *SetupError has the SQL that grants what canaries need.
	Execute(ctx context.Context, table, statement string) error
	// Snapshot opens one consistent view of the member.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// A Snapshot is a view of a member's rows between two known positions of its log, which may be the same one. Only one
// goroutine may use it.
//
// Rows that the view shows, brought up to date by all changes of transactions from Cut on, are the rows at each position
// from Settled on: a change says what a row becomes, so one that the view shows already does no harm.
type Snapshot interface {
	// Cut is where the view begins: it shows all of each transaction whose Commit is before it.
	Cut() LSN
	// Settled asks where the view ends: of what Rows has read so far, nothing is of a transaction whose Commit is at
	// or after it.
	Settled(ctx context.Context) (LSN, error)
	// Rows reads all rows of a table, in any order. The row's slices are valid during the call only.
	Rows(ctx context.Context, t Table, e Epoch, yield func(digest.Key, *digest.Row) error) error
	Close()
}
