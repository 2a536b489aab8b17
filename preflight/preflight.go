// Package preflight says what was found when the members of a group were looked at before being watched: whether they can
// be, what is wrong, and the SQL that mends it.
//
// Each engine looks at its own servers and fills in a [Report]; [Group] holds the reports of a group against each other.
package preflight

import (
	"fmt"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// State is what a check came to. The zero State is a failure, so that a forgotten one is never taken for a pass.
type State uint8

// The states of a check.
const (
	Fail State = iota // lockstep cannot watch this
	Warn              // it can, but somebody should know
	OK
)

// String returns the state as users read it.
func (s State) String() string {
	switch s {
	case OK:
		return "ok"
	case Warn:
		return "warn"
	}
	return "fail"
}

// MarshalText prints the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Check is one thing that was looked at before a member is watched.
type Check struct {
	Subject string `json:"check"` // wal_level; table public.orders
	State   State  `json:"state"`
	Detail  string `json:"detail"`            // what was found
	SQL     string `json:"sql,omitempty"`     // mends it, run by a superuser; empty if SQL cannot
	Hint    string `json:"hint,omitempty"`    // what else to know or to do
	Restart bool   `json:"restart,omitempty"` // the SQL takes effect when the server was restarted
	About   string `json:"-"`                 // the member, of a check of the group that is about one
}

// Report is what the checks of one member found. Its SQL statements, run in the order of Checks, make the member ready.
type Report struct {
	Member string
	Checks []Check
	Server string  // tells servers, or databases of one, apart; empty: not known
	Named  string  // the server as people name it: database "shop" of the same server
	Tables []Table // that match
	Whole  bool    // all of it was read
	// Upstreams are where it has what it replays from, and Feeds the names by which its own replicas know it: the server's id, or slots.
	Upstreams []Upstream
	Feeds     []string
	Unseen    bool   // what it replays from was not seen
	Direct    bool   // what it replays is known only if it comes from the reference without a server between
	Standby   bool   // a physical one
	Version   string // of the server; empty: it refused to be asked
	// Lanes are, of a member that is Direct, those that bring any of Tables.
	Lanes  []cdc.Lane
	Client string // by which the SQL is run: psql, as a superuser in its database
	// Preamble of the script: SQL that makes sure that it runs as it must.
	Preamble string
}

// Table is a table as it is to be compared.
type Table struct {
	Name    string
	Key     []string // names of the primary key's columns
	Columns []Column // sorted by name
	Unfit   string   // why it cannot be watched as it is, whatever is granted; empty: it can
	// Publications carry changes of it from this member to others.
	Publications map[string]cdc.Carried
}

// Column is a column of such a table.
type Column struct {
	digest.Column
	Shown string // its type as users write it
}

// Asked reports whether the server let us in.
func (r *Report) Asked() bool { return r.Version != "" }

// Add adds checks.
func (r *Report) Add(checks ...Check) { r.Checks = append(r.Checks, checks...) }

// SQL is a script that makes the member ready, as far as SQL can: run by a superuser, any number of times. What SQL
// cannot mend stands in it as comments.
func (r *Report) SQL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- makes member %s ready for lockstep; run it with %s\n", OneLine(r.Member), r.Client)
	b.WriteString(r.Preamble)
	restart := false
	for _, c := range r.Checks {
		switch {
		case c.State == OK:
		case c.SQL == "":
			fmt.Fprintf(&b, "\n-- %s %s; by hand: %s\n", OneLine(c.Subject), OneLine(c.Detail), OneLine(c.Hint))
		default:
			fmt.Fprintf(&b, "\n-- %s: %s\n", OneLine(c.Subject), OneLine(c.Detail))
			if c.Hint != "" {
				fmt.Fprintf(&b, "-- %s\n", OneLine(c.Hint))
			}
			b.WriteString(c.SQL + "\n")
			restart = restart || c.Restart
		}
	}
	if restart {
		b.WriteString("\n-- then restart the server\n")
	}
	return b.String()
}

// OneLine keeps text that names of the server are part of on one line, so that none of it is ever run.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// SomeOf lists the first few names, and how many there are in all.
func SomeOf(what string, names []string) string {
	const shown = 5
	if len(names) == 1 {
		return names[0]
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += ", …"
	}
	return fmt.Sprintf("%d %s: %s", len(names), what, list)
}
