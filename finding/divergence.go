// Package finding is what is said of rows that differ: a finding is suspected, then confirmed, when it is a divergence that
// people are told of, and in the end resolved. It names keys as ranges. No I/O, no clock, no goroutines.
package finding

import (
	"time"
)

// Kind says how a member differs.
type Kind string

// The kinds of divergence. Stale is about transactions that have not arrived, the others about single rows.
const (
	Stale   Kind = "stale"
	Changed Kind = "changed" // the row is on both sides and differs
	Missing Kind = "missing" // the row is on the reference only
	Extra   Kind = "extra"   // the row is on the member only
)

// Turned is the kind by which the reference differs from the member.
func (k Kind) Turned() Kind {
	switch k {
	case Missing:
		return Extra
	case Extra:
		return Missing
	}
	return k
}

// Cause says how a difference came about, as far as the streams show.
type Cause string

// The causes.
const (
	CauseApply       Cause = "apply"               // the member replayed the transaction otherwise than the author wrote it
	CauseErrant      Cause = "errant_transaction"  // written on the member itself
	CauseSkipped     Cause = "skipped_transaction" // the member passed the transaction over
	CauseSilent      Cause = "silent"              // no stream shows it; a scrub found it
	CausePreexisting Cause = "preexisting"         // it was there before lockstep was
	CauseSchema      Cause = "schema"
	CauseUnknown     Cause = "unknown"
)

// Turned is the cause for which the reference differs from the member: what one wrote of its own, the other has not.
func (c Cause) Turned() Cause {
	switch c {
	case CauseErrant:
		return CauseSkipped
	case CauseSkipped:
		return CauseErrant
	case CauseApply:
		return CauseUnknown
	}
	return c
}

// Lifecycle states of a divergence.
const (
	Open     = "open"
	Resolved = "resolved"
)

// Outcome says how a divergence ended. Only one that healed says anything of its rows.
type Outcome string

// The outcomes.
const (
	Healed     Outcome = "healed"     // its rows do not differ any more
	Superseded Outcome = "superseded" // its rows differ in another way, which other divergences tell of
	Forgotten  Outcome = "forgotten"  // the table or the member is not watched any more, or the reference is another one
)

// Divergence is a difference older than its lag budget: the record that the API, the log and the receivers show. It is
// part of the product's contract; fields may be added, never renamed.
type Divergence struct {
	ID        string  `json:"id"`
	Group     string  `json:"group"`
	Table     string  `json:"table"`
	Member    string  `json:"member"`
	Reference string  `json:"reference"`
	State     string  `json:"state"`
	Kind      Kind    `json:"kind"`
	Cause     Cause   `json:"cause"`
	Detail    string  `json:"detail,omitempty"` // for people: subscription "shop" is disabled
	Ranges    []Range `json:"ranges"`
	// Keys counts the keys that differ; once resolved, the keys that did.
	Keys int64 `json:"keys"`
	// Truncated says that Ranges holds only the first of them.
	Truncated    bool              `json:"truncated"`
	IntroducedBy *Introduced       `json:"introduced_by"` // null where no transaction is known
	Positions    map[string]string `json:"positions"`     // by member, when the difference was found
	FirstSeen    time.Time         `json:"first_seen"`
	ConfirmedAt  time.Time         `json:"confirmed_at"`
	ResolvedAt   *time.Time        `json:"resolved_at"`
	// Outcome is empty while it is open.
	Outcome   Outcome `json:"outcome,omitempty"`
	LagBudget string  `json:"lag_budget"`
	// Expected says that it is known to come about, and that nobody is to be alerted.
	Expected bool `json:"expected,omitempty"`
	// Acknowledged says who has taken it on; null: nobody has said so while it was open.
	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"`
}

// Acknowledgement says who has taken a divergence on.
type Acknowledgement struct {
	By     string    `json:"by"`
	Ticket string    `json:"ticket,omitempty"`
	Note   string    `json:"note,omitempty"`
	At     time.Time `json:"at"`
}

// Introduced names the transaction that brought a difference about.
type Introduced struct {
	Transaction string    `json:"transaction"`
	CommittedAt time.Time `json:"committed_at"`
}
