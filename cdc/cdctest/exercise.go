package cdctest

import (
	"context"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Subject is an author and one follower of any engine, as [Exercise] drives them. Both have the tables a and b, which the
// follower replays from the author, and elsewhere, which lockstep is never told of: (id int primary key, v int, note text).
type Subject struct {
	Engine           Engine
	Author, Follower Driver
	// Replicate stops the replay of the follower, or lets it go on.
	Replicate func(ctx context.Context, on bool) error
	// CaughtUp waits until the follower has replayed all that the author had written when it was called.
	CaughtUp func(ctx context.Context) error
}

// Driver is one of the two servers.
type Driver interface {
	// Name is what lockstep calls a table.
	Name(table string) string
	// Open returns a new source, as lockstep has after it was started again.
	Open(h *digest.Hasher) (cdc.Source, error)
	// Write carries out one transaction. It may be called from any goroutine. A column of text gets one that its
	// server keeps apart from the row, where it does such a thing.
	Write(ctx context.Context, changes ...Change) error
	AddColumn(ctx context.Context, table, column string) error
	DropColumn(ctx context.Context, table, column string) error
	// Noise moves the log on by what concerns nobody.
	Noise(ctx context.Context) error
	// Cut ends all connections of lockstep.
	Cut(ctx context.Context) error
	// GiveUp has the server forget the part of its log that lockstep has yet to read. No source is open.
	GiveUp(ctx context.Context) error
}

// checks are what a source is held to. Their names are what the report says; docs/design.md has them too.
var checks = []struct {
	name  string
	check func(t *testing.T, s Subject)
}{
	{"a server is who it was for a new source, and another one is another", identity},
	{"a beacon is seen by who comes to the server that it burns on, and by nobody else, until it is quenched or its connection ends", beacon},
	{"a table's definition is what it was made with, and stays the same", definition},
	{"a definition that changed has another version, and is an error for who reads by the old one", redefined},
	{"rows that change after their definition did are touched, until there is a new epoch", touched},
	{"a table that no epoch was set for is never taken for one that did not change", untold},
	{"transactions come whole, in the order of the log, with rising positions", order},
	{"a change has the digest that a scan gives of the row", forms},
	{"an update without an unchanged wide value completes to the digest that a scan gives", partial},
	{"a row that moves says from which key", moved},
	{"a truncated table is one change", truncated},
	{"a table that the server has not is surely gone, and none that it has", gone},
	{"what was written before the first start is not shown, and counted as shown", firstStart},
	{"what concerns nobody moves the position", keepalive},
	{"going on from any position shows exactly what came after it", resume},
	{"connections that are cut lose nothing and show nothing twice", cut},
	{"what is durable may be forgotten, and nothing after it", durable},
	{"a log that was given up is a gap, and a new start is none", gap},
	{"a replayed transaction is the author's, by one of the lanes", replayed},
	{"what is written on a follower is not the author's", errant},
	{"a lane that is stopped counts nothing that it has yet to replay", stopped},
	{"at the barrier all is yielded that is counted as replayed", barrier},
	{"the author knows the slots of the lanes, and what they have replayed", confirmed},
	{"what a member has written and shows includes what its stream has shown", written},
	{"a part is the rows that it names, in their order", parts},
	{"a part read while rows change shows some transactions after its cut, each whole", partUnderWrites},
	{"a snapshot's rows and the changes from its cut on are the rows from where it is settled on", snapshotUnderWrites},
	{"a stream waits for its receiver, and ends with the receiver's error", backpressure},
	{"the end of a context ends everything", canceled},
}

// Exercise holds sources to the contract of [cdc.Source] and [cdc.Member]. newGroup is called for each check.
func Exercise(t *testing.T, newGroup func(t *testing.T) Subject) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.check(t, newGroup(t)) })
	}
}

// patience is how long a test waits for what must come; it guards against a hang and is no measure.
const patience = 60 * time.Second

// must ends the test with an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put, remove and so on write one transaction.
func write(t *testing.T, d Driver, changes ...Change) {
	t.Helper()
	must(t, d.Write(t.Context(), changes...))
}

// bounded is the test's context, which ends when patience does.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, met func(ctx context.Context) (bool, error)) {
	t.Helper()
	ctx := bounded(t)
	for {
		ok, err := met(ctx)
		must(t, err)
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
