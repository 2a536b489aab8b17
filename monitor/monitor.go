// Package monitor runs one replication group: it reads every member's change stream, feeds the ledger, keeps the state,
// and says what it finds. It owns the goroutines; see duties.go for which there are.
package monitor

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/scan"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/store"
)

// Options say what a Group watches. [Group.Change] changes them, but for Name, Reference, MaxInFlight, RangeRows, PartsFrom, Logger and
// Clocks.
type Options struct {
	Name      string
	Reference string
	Members   []Member
	// Match reports whether a table is watched.
	Match func(table string) bool
	// Named reports whether a table is watched by its own name, and not because a pattern fits: it is not forgotten once it is gone.
	// nil: none is.
	Named func(table string) bool
	// Exclude lists the columns of a table that are left out of the comparison.
	Exclude func(table string) []string
	// Budget is how long a difference of a table may last.
	Budget      func(table string) time.Duration
	MaxInFlight int
	RangeRows   int64 // 0: the ledger's default
	// PartsFrom is how many rows of a table are too many for one snapshot; 0: two million. Negative: all tables are read in parts.
	PartsFrom int64
	// RowIndex reports whether a digest of each row of a table is kept. nil: of all.
	RowIndex func(table string) bool
	Scrub    ScrubPlan
	Logger   *slog.Logger
	Canary   CanaryPlan
	Evidence EvidencePlan
	// Expected reports whether a divergence is one that nobody is to be alerted of. nil: none is.
	Expected func(*finding.Divergence, digest.Shape) bool
	// Admit, if set, is asked whether a member may be watched as the server that it says to be, each time that it was reached
	// anew. It may be called from any goroutine, and ask the member and others what tells them apart.
	Admit func(ctx context.Context, member Member, server cdc.Server) error
	// Clocks reads the clocks. nil: those of the machine.
	Clocks func() status.Clocks
	// OnNotice, if set, is called with each divergence that opens or resolves, once it is durable.
	OnNotice func(finding.Divergence)
}

// Member is one server of the group.
type Member struct {
	Name   string
	Source cdc.Source
	// ScanOnly says that the member's stream is not read; its rows are held against the reference's.
	ScanOnly bool
	// Leaves says what of lockstep's stays on its server when it is not watched any more, and how that is taken away; empty: nothing.
	Leaves string
}

// Leave logs that the member is not watched any more.
func (m Member) Leave(log *slog.Logger) {
	said := []any{"member", m.Name}
	if m.Leaves != "" && !m.ScanOnly {
		said = append(said, "hint", m.Leaves)
	}
	log.Info("member is not watched any more", said...)
}

// Group watches one replication group.
type Group struct {
	options atomic.Pointer[Options] // is replaced by the goroutine of Run
	log     *slog.Logger
	clocks  func() status.Clocks
	state   *store.Group

	// ledger, feeds, order and tables are owned by the goroutine of Run; others reach them through do.
	ledger *align.Ledger
	feeds  map[cdc.MemberID]*feed
	order  []cdc.MemberID // as configured
	tables map[string]cdc.TableID
	// start has duties done, each by a goroutine of its own, until Run ends or what it returns is called, which waits for them. Owned
	// by the goroutine of Run.
	start func([]*duty.Duty) (stop func())
	// unwatched says, for tables that match and cannot be watched on the reference, why.
	unwatched map[string]string
	// lost says, for watched tables that the reference has not any more, when it was asked that first said so.
	lost    map[string]time.Time
	surplus map[string]bool // member and table that only the member has, and that the log has told of
	pruned  time.Time       // when old divergences were last dropped
	looked  status.Clocks   // when it was last looked whether the clock jumped

	ref      cdc.MemberID
	events   chan arrival
	commands chan command
	ended    chan struct{} // is closed when nobody owns the ledger any more

	status   atomic.Pointer[status.Group]
	looping  atomic.Bool // Run's loop is to come round
	scans    scans
	opened   time.Time
	changed  time.Time // when it was last said what is watched; owned by the goroutine of Run
	recorder recorder
	requests requests
	broken   chan error // what ends Run, from other goroutines; holds one
	faults   faults
}

// feed is one member on its way into the ledger.
type feed struct {
	Member
	id cdc.MemberID
	// session counts the times that the member's stream was opened, or had a gap: what the member said of its progress before the
	// last one says nothing. Of events no other session's can come: it is one goroutine that sends them and notes gaps, and what it
	// sends is taken at once.
	session int
	// end ends the stream that is open now, for a reason; nil while none is.
	end     context.CancelCauseFunc
	held    []arrival            // in order; the first could not be applied yet
	claim   *claim               // progress that waits for the stream to reach its barrier
	said    []cdc.Table          // as last taken in
	absence                      // the same
	defined map[string]cdc.Table // what of them is watched, by name, and whether it can be; nil: the member was not heard yet
	// definedAt is when the member was asked for said, answer what it has said since, and asked when it was last asked, with
	// or without an answer; nil: never. redefine asks for it to be asked now; it holds one request.
	definedAt time.Time
	answer    *answer
	asked     atomic.Pointer[time.Time]
	redefine  chan struct{}
	// decodable is closed once the source has been given the epochs that were known.
	decodable chan struct{}
	// credit bounds the events that wait here and in Group.events.
	credit chan struct{}
	// reading is held by who reads rows of the member: one at a time. pacer says when, but for first reads.
	reading chan struct{}
	pacer   *scan.Pacer
	// admitted says that the server behind the source has said who it is, and may be watched as that; met is who it has said to be.
	admitted atomic.Bool
	met      atomic.Pointer[cdc.Server]
	// trouble is why the member cannot be read now; empty while it can.
	trouble atomic.Pointer[string]
	// retained is what the server keeps of its log for us, as last asked; nil: it was not asked yet.
	retained atomic.Pointer[cdc.Retained]
	// scrubFailed is why rows that somebody asked for could not be read when that was last tried; nil: they could.
	scrubFailed atomic.Pointer[string]
	canary      *canary // nil: none is written into the member
	duties      []*duty.Duty
	stop        func() // ends the duties, and waits; set by the goroutine of Run
	// applied counts the changes that were, scanned the rows that scrubs have read.
	applied, scanned atomic.Int64
	// later are tables that could not be read and are left alone for a while, undrilled those of which ranges could not; owned
	// by the goroutine of Run.
	later, undrilled map[cdc.TableID]pause
	// faults counts the panics of its tables and its stream; may be reached from any goroutine. broken is how long the stream is
	// left alone after the last, owned by the duty that reads it.
	faults atomic.Int64
	broken pause
	// went is for how long the stream was open before it broke, without a hole; owned as broken is.
	went time.Duration
}

// arrival is one event of a member's stream.
type arrival struct {
	from  cdc.MemberID
	at    time.Time
	event cdc.Event
}

// claim is what a member said of its progress.
type claim struct {
	session   int
	at        time.Time
	progress  cdc.Progress
	confirmed map[string]cdc.TxSet
}

// command is a function that runs on the goroutine that owns the ledger.
type command struct {
	run  func() error
	done chan error
}

const (
	// inCredit is how many events of one member may wait to be applied.
	inCredit = 512
	// commitBytes and commitEvery bound what a crash makes us read again, and how late a server hears that it may
	// forget its log.
	commitBytes = 4 << 20
	commitEvery = 25 * time.Millisecond
	tickEvery   = 100 * time.Millisecond
	// progressEvery is how often a member is asked how far it is.
	progressEvery = 250 * time.Millisecond
	// waitingEvery is the same while its stream has still to get to where it was at the last answer.
	waitingEvery = 2 * time.Second
	catalogEvery = 10 * time.Second
	catalogRetry = lastRetry / 10
	catalogPause = time.Second
	// catalogPatience is for how long, after a start, definitions are not taken in while a member was not asked yet.
	catalogPatience = 2 * time.Second
	statusEvery     = 500 * time.Millisecond
	pruneEvery      = 10 * time.Minute
)
