package cdc

import (
	"context"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Order says how a server's order of a table's primary key relates to the order of [digest.Key]. The zero Order is the
// cautious one.
type Order uint8

// The orders.
const (
	// Unordered: the table cannot be read in parts, because a key cannot be written in a statement so that the server
	// reads exactly that key, or the server's order of it is not known.
	Unordered Order = iota
	// ServerOrder: parts follow an order that only the server knows, such as a collation's.
	ServerOrder
	// KeyOrder: the server orders rows as their digest keys are ordered.
	KeyOrder
)

// Part says which rows of a table to read; the zero Part is all of them. Bounds are keys of rows that need not exist, and
// count in the server's order of the primary key. A table that is Unordered is read whole only.
type Part struct {
	After   digest.Key // exclusive; nil: from the first
	Through digest.Key // inclusive; nil: to the last
	Limit   int        // rows at most; 0: no limit
	// Keys, if not nil, are the only rows to read, in any order; the bounds and the limit do not count then.
	Keys []digest.Key
}

// View is what rows were read in: one moment, or any moment between two positions of the member's log. As with a
// [Snapshot], the rows show all of each transaction whose Commit is before Cut, and nothing of one whose Commit is at or
// after Settled, and of those in between some, whole: the first few of them, or on PostgreSQL any that do not build on one
// that is not shown, for there commits become visible in another order than they are in the log.
// Of a member whose log is not read it is zero.
type View struct {
	Cut, Settled LSN
}

// A Reader reads a member's rows and asks how far it is, without its change stream. All methods may be called from any
// goroutine. Every [Source] is one; a member that is only scanned has nothing else.
type Reader interface {
	Beacons
	// Server asks the member who it is.
	Server(ctx context.Context) (Server, error)
	// Tables reads the definitions of the tables that match, by name. A table that is not fit to be watched is
	// listed with its Problem; an error is for a member that did not answer.
	Tables(ctx context.Context, match func(name string) bool) ([]Table, error)
	// Progress asks how far the member has replayed. A *GapError says that the member's log, or what a lane has replayed,
	// ends before what it has shown already: it was put back to an older state. A Source says so until Prepare is
	// called with a zero position, a Reader whose log is not read once.
	Progress(ctx context.Context) (Progress, error)
	// Read reads part of a table in a view of its own, which it holds no longer than that takes. Rows come in the
	// server's order of the key, but those of Part.Keys and of whole tables that are Unordered in any. The row's slices
	// are valid during the call only. Where the stream runs, the view shows all that it has shown when Read is called.
	// A definition that is not t any more is an error, but on PostgreSQL only if rows cannot be read by it or Part.Keys
	// names them.
	Read(ctx context.Context, t Table, e Epoch, p Part, yield func(digest.Key, *digest.Row) error) (View, error)
	// Close ends all connections.
	Close()
}
