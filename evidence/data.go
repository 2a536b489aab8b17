package evidence

import (
	"fmt"
	"slices"
	"time"
)

// StartData is what a start records: by which configuration what is watched from now on.
type StartData struct {
	Lockstep string      `json:"lockstep"`      // version
	Config   string      `json:"config_sha256"` // of the configuration with its defaults, without secrets
	Groups   []GroupData `json:"groups"`
}

// ConfigChangeData is recorded before a start by another configuration file than the one before.
type ConfigChangeData struct {
	From string `json:"from_sha256"`
	To   string `json:"to_sha256"`
}

// ScopeChangeData is recorded before a start that watches something else than the one before.
type ScopeChangeData struct {
	Added   []string `json:"added"` // such as: group shop: member us-2
	Removed []string `json:"removed"`
}

// Scope lists what is watched, a line each.
func (d *StartData) Scope() (list []string) {
	for _, g := range d.Groups {
		name := "group " + g.Name
		list = append(list, name+": reference "+g.Reference, fmt.Sprintf("%s: lag budget %gs", name, g.LagBudget))
		for _, m := range g.Members {
			line := name + ": member " + m.Name
			if m.ScanOnly {
				line += ", scanned only"
			}
			list = append(list, line)
		}
		for _, p := range g.Include {
			list = append(list, name+": tables "+p)
		}
		for _, p := range g.Exclude {
			list = append(list, name+": but no tables "+p)
		}
	}
	return list
}

// ScopeChanges says what a start watches that the one before did not, and the other way round; nil: nothing changed.
func ScopeChanges(before, now *StartData) *ScopeChangeData {
	was, is := before.Scope(), now.Scope()
	without := func(list, others []string) []string {
		left := []string{}
		for _, line := range list {
			if !slices.Contains(others, line) {
				left = append(left, line)
			}
		}
		return left
	}
	d := &ScopeChangeData{Added: without(is, was), Removed: without(was, is)}
	if len(d.Added)+len(d.Removed) == 0 {
		return nil
	}
	return d
}

// LogStartData begins a log, or tells where it goes on after a restore.
type LogStartData struct {
	Origin   string         `json:"origin"`
	Key      string         `json:"key"`
	Lockstep string         `json:"lockstep"`
	Previous map[string]any `json:"previous,omitempty"` // why, and the last checkpoint of the log before
}

// KeyRotationData tells that the log is signed by another key from here on.
type KeyRotationData struct {
	Old       string `json:"old"` // public keys
	New       string `json:"new"`
	Statement string `json:"statement"` // a note that both have signed
}

// GroupData is the scope of a group.
type GroupData struct {
	Name      string       `json:"name"`
	Engine    string       `json:"engine"`
	Reference string       `json:"reference"`
	Members   []MemberData `json:"members"`
	Include   []string     `json:"include"` // patterns of tables
	Exclude   []string     `json:"exclude,omitempty"`
	LagBudget float64      `json:"lag_budget_seconds"`
	Every     float64      `json:"coverage_every_seconds"`
}

// MemberData is a member of a group.
type MemberData struct {
	Name     string `json:"name"`
	ScanOnly bool   `json:"scan_only,omitempty"`
}

// CoverageData is what one member of a group was known to hold. The tables of a member may take several entries.
type CoverageData struct {
	Member   string      `json:"member"`
	Role     string      `json:"role"` // reference or replica
	Position string      `json:"position"`
	Lag      float64     `json:"lag_seconds"`
	ProvenAt *time.Time  `json:"proven_at"` // null: never since the start
	Every    float64     `json:"every_seconds"`
	Part     int         `json:"part,omitempty"`
	Parts    int         `json:"parts,omitempty"` // 0: the only one
	Tables   []TableData `json:"tables"`
}

// TableData is what a member was known to hold of a table.
type TableData struct {
	Table      string         `json:"table"`
	Verdict    string         `json:"verdict"`
	Reason     string         `json:"reason,omitempty"`
	Rows       int64          `json:"rows"`
	Ranges     map[string]int `json:"ranges"`         // by verdict
	Root       string         `json:"root,omitempty"` // over the Merkle tree of the ranges, see [TableRoot]
	VerifiedAt *time.Time     `json:"verified_at"`    // when the rows were read that were read longest ago; null: not all were
}

// GapData is a time for which lockstep cannot say whether a table of a member is the same.
type GapData struct {
	Member string    `json:"member"`
	Table  string    `json:"table"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // of a closed one
}

// DivergenceData is a divergence, as the API tells of it, but for its keys.
type DivergenceData struct {
	ID           string            `json:"id"`
	Table        string            `json:"table"`
	Member       string            `json:"member"`
	Reference    string            `json:"reference"`
	Kind         string            `json:"kind"`
	Cause        string            `json:"cause"`
	Detail       string            `json:"detail,omitempty"`
	Expected     bool              `json:"expected,omitempty"`
	Keys         int64             `json:"keys"`
	Ranges       []RangeData       `json:"ranges"`                  // the first of them
	RangesTotal  int               `json:"ranges_total"`            // as many as were listed
	RangesSHA256 string            `json:"ranges_sha256,omitempty"` // of all of them, where not all are here
	Truncated    bool              `json:"truncated,omitempty"`     // there are more than lockstep lists
	Transaction  string            `json:"transaction,omitempty"`
	CommittedAt  *time.Time        `json:"committed_at,omitempty"`
	Positions    map[string]string `json:"positions"`
	FirstSeen    time.Time         `json:"first_seen"`
	ConfirmedAt  time.Time         `json:"confirmed_at"`
	ResolvedAt   *time.Time        `json:"resolved_at,omitempty"`
	Outcome      string            `json:"outcome,omitempty"` // of a resolved one: healed, superseded or forgotten
}

// Healed reports whether a divergence is resolved because its rows did not differ any more. Older entries have no outcome.
func (d *DivergenceData) Healed() bool {
	return d.ResolvedAt != nil && (d.Outcome == "" || d.Outcome == "healed")
}

// AcknowledgeData says who has taken a divergence on.
type AcknowledgeData struct {
	ID     string `json:"id"`
	Table  string `json:"table"`
	Member string `json:"member"`
	By     string `json:"by"`
	Ticket string `json:"ticket,omitempty"`
	Note   string `json:"note,omitempty"`
}

// AlertData says what a receiver of alerts has taken.
type AlertData struct {
	Receiver string      `json:"receiver"`
	Kind     string      `json:"kind"` // such as webhook
	Alerts   []AlertNews `json:"alerts"`
}

// AlertNews is one alert among those that were taken together.
type AlertNews struct {
	Alert       string   `json:"alert"`
	Group       string   `json:"group"`
	Member      string   `json:"member"`
	Table       string   `json:"table,omitempty"` // empty: of more than one
	Status      string   `json:"status"`          // firing or resolved
	Divergences []string `json:"divergences"`     // ids, the first of them
	Total       int      `json:"total"`
}

// ExportData says who has taken a report.
type ExportData struct {
	By     string    `json:"by"`
	Group  string    `json:"group,omitempty"` // empty: of all
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	SHA256 string    `json:"sha256"` // of the archive
}

// RangeData is a range of keys that differ. Its bounds are keys as JSON, or their keyed hashes.
type RangeData struct {
	First   string `json:"first"`
	Last    string `json:"last"`
	Changed int64  `json:"changed,omitempty"`
	Missing int64  `json:"missing,omitempty"`
	Extra   int64  `json:"extra,omitempty"`
}
