// Package status is what can be said of a group at one moment: as the ledger says it, the API sends it and commands read it.
package status

import (
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/names"
)

// Group is what can be said of a group at one moment. What has a name in JSON, here and below, is part of the product's
// contract; fields may be added. What has none is for metrics and lockstep itself.
type Group struct {
	Name      string         `json:"name"`
	Reference string         `json:"reference"`
	State     Verdict        `json:"state"`           // the worst of its members'; see Complete
	At        time.Time      `json:"at"`              // when its loop last came round, which made it so
	Age       Seconds        `json:"age_seconds"`     // how long ago that was
	Stale     string         `json:"stale,omitempty"` // why all of it may be too old to be true, see AsOf
	Members   []Member       `json:"members"`
	Scans     []ScanProgress `json:"scans"` // tables that are being read now

	Said    Clocks        `json:"-"` // At, by both clocks
	Looping bool          `json:"-"` // its loop is to come round
	Still   time.Duration `json:"-"` // for how long it has not, though it is to
	Panics  int64         `json:"-"` // that were caught beside those of duties
}

// ScanProgress is how far the reading of one table is.
type ScanProgress struct {
	Member  string    `json:"member"`
	Table   string    `json:"table"`
	Rows    int64     `json:"rows"`
	OfRows  int64     `json:"of_rows"` // the server's estimate; -1 unknown
	Started time.Time `json:"started"`
}

// Member is what can be said of one member.
type Member struct {
	Name     string  `json:"name"`
	Role     string  `json:"role"`  // reference or replica
	State    Verdict `json:"state"` // the worst of its tables'; see Complete
	Position string  `json:"position"`
	Version  string  `json:"server_version"`
	// ProvenAt is when the member was last known to have shown everything that it has. Zero: not since the start.
	ProvenAt Time `json:"proven_at"`
	// Behind is how long ago the oldest transaction that it has not replayed was seen; zero if there is none.
	Behind     Seconds `json:"lag_seconds"`
	InFlight   int64   `json:"in_flight_rows"`            // row changes that it has not replayed
	ScanOnly   bool    `json:"scan_only,omitempty"`       // its rows are read again and again, its log is not
	ScrubWaits string  `json:"scrub_waits_for,omitempty"` // what keeps scrubs of it from going on
	// Retained is how many bytes of its log the server keeps for lockstep, and MostRetained with how many that is given up; 0: not
	// known, or none.
	Retained     int64   `json:"retained_wal_bytes,omitempty"`
	MostRetained int64   `json:"max_retained_wal_bytes,omitempty"`
	Errant       string  `json:"errant_transactions,omitempty"` // transactions with a GTID that it has and the reference has not
	Trouble      string  `json:"trouble,omitempty"`             // why it cannot be read now; empty while it can
	Tables       []Table `json:"tables"`

	ID      cdc.MemberID `json:"-"`
	Exact   cdc.Position `json:"-"` // what Position spells
	Applied int64        `json:"-"` // row changes of its stream that were applied since the start
	Scanned int64        `json:"-"` // rows that scrubs have read since the start
	// ScrubWaited is how long scrubs of the member have waited since the start, by reason.
	ScrubWaited map[string]time.Duration `json:"-"`
	// Replicating says that nothing is known to keep the member from replaying.
	Replicating bool `json:"-"`
	// ErrantCount is how many transactions Errant tells of, of MariaDB's at most; nil: it is not known, as of PostgreSQL, which has
	// no GTIDs.
	ErrantCount *uint64              `json:"-"`
	Open        map[finding.Kind]int `json:"-"` // open divergences, but for expected ones; nil: it is not known
	OldestOpen  time.Time            `json:"-"` // when of these the first was first seen; zero: none is open
	Expected    int                  `json:"-"` // open divergences that were expected
	Canary      *Canary              `json:"-"` // nil: no canary is written into the member
	Duties      []duty.Runs          `json:"-"`
	Panics      int64                `json:"-"` // that were caught in its tables, beside those of duties
}

// Table is what can be said of one table on one member.
type Table struct {
	Table         string            `json:"table"`
	Verdict       Verdict           `json:"state"`
	Reason        string            `json:"reason,omitempty"` // why something cannot be said, beside what Verdict says
	Rows          int64             `json:"rows"`
	DivergentKeys int64             `json:"divergent_keys"`
	Ranges        map[Verdict]int64 `json:"ranges"`
	Root          string            `json:"root,omitempty"` // hash over all range digests; empty while there is none
	ComparedAt    Time              `json:"compared_at"`
	// VerifiedAt is when of all rows of the table those were read from the server that were longest ago; zero: not all were.
	VerifiedAt Time    `json:"verified_at"`
	Fresh      float64 `json:"fresh"`          // share of the ranges, about, whose rows were read within scrub.every
	Silent     int64   `json:"silent_changes"` // rows that were found to have changed without a trace in the log

	Scrubbed bool `json:"-"` // its rows are to be read again within scrub.every
	Live     bool `json:"-"` // all of its rows are kept, as the stream says they are
	Suspects int  `json:"-"` // rows that were read and are not what the log says, which are read again on all members
}

// Canary is how it goes with rows that lockstep writes into a member to see how fast they are found.
type Canary struct {
	Every                 time.Duration
	Found, Missed, Failed int64 // since the start; failed: could not be written
	Last                  time.Duration
	LastFound             time.Time // zero: none was yet
}

// Names are those in the group. While no member has said which tables it has, they are not known.
func (g *Group) Names() names.Group {
	all := names.Group{Name: g.Name}
	for _, m := range g.Members {
		all.Members = append(all.Members, m.Name)
		for _, t := range m.Tables {
			all.Tables = append(all.Tables, t.Table)
		}
	}
	return all
}

// Complete sets the states of the group and its members, the worst of what they are made of, and makes lists of what has none.
func (g *Group) Complete() {
	g.State = Unverified // of one without members
	for i := range g.Members {
		m := &g.Members[i]
		m.State = Worst(m.Tables)
		if m.Tables == nil {
			m.Tables = []Table{}
		}
		if i == 0 {
			g.State = m.State
		}
		g.State = Worse(g.State, m.State)
	}
	if g.Members == nil {
		g.Members = []Member{}
	}
	if g.Scans == nil {
		g.Scans = []ScanProgress{}
	}
}
