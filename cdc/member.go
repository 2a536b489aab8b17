package cdc

import "context"

// A Member is a [Reader] that tells what its rows show, so that they can be held against another member's without either
// change stream.
type Member interface {
	Reader
	// Confirmed is as a [Source]'s.
	Confirmed(ctx context.Context) (map[string]TxSet, error)
	// Written returns the transactions that the member's log has: all that any read has shown before, and perhaps some that
	// no read shows yet; of a standby those that it has replayed. MySQL counts a transaction a moment after it is visible.
	Written(ctx context.Context) (TxSet, error)
	// Visible returns transactions that every read shows which begins later. A transaction may be in the log, and on
	// other members, for some time before that: a commit that waits for a synchronous replica is. Of PostgreSQL both
	// are in terms of the member's own log, or, of a standby, of its primary's.
	Visible(ctx context.Context) (TxSet, error)
}
