// Package cdc defines what a change stream is made of, whatever the engine it comes from.
//
// A [Source] reads one member. It yields whole committed transactions in the order of the member's own log, already
// digested: row values do not leave the source, but for the short ones of an update that is incomplete without what is
// stored of the row ([digest.Partial]). See docs/design.md, "Aligned comparison".
package cdc

import (
	"context"
	"time"

	"lockstep/digest"
)

// TxID names one transaction on every member: the author's end LSN (PostgreSQL), or a GTID.
type TxID struct {
	Source string // GTID source; empty for PostgreSQL
	Seq    uint64 // the author's end LSN; the number within the GTID's source
}

// String prints the id as users of the engine write it.
func (id TxID) String() string {
	if id.Source == "" {
		return LSN(id.Seq).String()
	}
	return id.Source + ":" + uitoa(id.Seq)
}

// IsZero reports whether id names no transaction.
func (id TxID) IsZero() bool { return id == TxID{} }

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
}

// Transaction is one committed transaction as one member's log shows it. Its slices belong to the receiver.
type Transaction struct {
	// ID is the author's name of the transaction. For one that was first written on this member it is the member's
	// own end position.
	ID TxID
	// Lane is empty for a transaction first written on this member, else the name of the replication origin that
	// replayed it (PostgreSQL: pg_<subscription oid>).
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
}

// Event is what a source's stream yields: a transaction, or with a nil Transaction only progress of the position.
type Event struct {
	// Position is how far the stream is read: everything that ends at or before it has been yielded.
	Position    LSN
	Transaction *Transaction
}

// Progress is what a member said of itself at one moment, and the position that proves it: once its stream has been
// read to Barrier, everything that Applied counts has been yielded.
type Progress struct {
	Barrier LSN            // the end of the member's log when Applied was read
	Applied map[string]LSN // per lane, in positions of the author: everything at or before was replayed, or passed over
	Lanes   []Lane
}

// Lane is one ordered way by which transactions of the reference reach a member: a PostgreSQL subscription.
type Lane struct {
	Name    string            // of the replication origin: pg_16394
	Title   string            // as the user calls it: the subscription's name
	Slot    string            // on the author, by which the lane reads
	Enabled bool              // false: someone paused it
	Tables  map[string]string // qualified name to why it is not comparable yet: "" ready, else "initial copy"
	// Publications are what it subscribes to on the author.
	Publications []string
	Problem      string // what keeps it from applying, in the server's words; empty if nothing is known
}

// Server is who a member says it is. A change of identity is a gap.
type Server struct {
	SystemID string // PostgreSQL's system identifier
	Timeline int32
	Database string
	Version  string
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
	// Publications carry changes of the table from this member to others. For each: what it leaves out, for people;
	// empty if it carries all inserts, updates and deletes.
	Publications map[string]string
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
	// Server asks the member who it is.
	Server(ctx context.Context) (Server, error)
	// Tables reads the definitions of the tables that match, by name. A table that is not fit to be watched is
	// listed with its Problem; an error is for a member that did not answer.
	Tables(ctx context.Context, match func(name string) bool) ([]Table, error)
	// Progress asks how far the member has replayed.
	Progress(ctx context.Context) (Progress, error)
	// Confirmed asks, as the author, how far the reader of each slot has durably replayed, by slot name.
	Confirmed(ctx context.Context) (map[string]LSN, error)
	// Prepare makes sure that the member keeps its log for us after from, and returns where streaming starts. A
	// zero from means a first start: what is needed is created. A *GapError says that the log after from is gone or
	// belongs to another history; calling again with a zero from starts over.
	Prepare(ctx context.Context, from LSN) (LSN, error)
	// Stream yields events after from until ctx ends, yield fails, or the connection breaks; it returns why.
	// It blocks while yield blocks. A *GapError says that the stream cannot be continued without a hole.
	Stream(ctx context.Context, from LSN, yield func(Event) error) error
	// SetEpoch says how rows of a table are decoded from the next transaction on. t is this member's definition.
	SetEpoch(t Table, e Epoch)
	// Durable says that everything at or before p is safe on our side, so that the server may forget it.
	Durable(p LSN)
	// Snapshot opens one consistent view of the member.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Close ends all connections.
	Close()
}

// A Snapshot is a consistent view of a member's rows at a known position of its log. Only one goroutine may use it.
type Snapshot interface {
	// Cut is the position: a transaction is part of the view if and only if its Commit is before it.
	Cut() LSN
	// Rows reads all rows of a table, in any order. The row's slices are valid during the call only.
	Rows(ctx context.Context, t Table, e Epoch, yield func(digest.Key, *digest.Row) error) error
	Close()
}
