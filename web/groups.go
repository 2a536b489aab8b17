package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
)

// groupJSON is one group as the API shows it. It is part of the product's contract; fields may be added.
type groupJSON struct {
	Name      string               `json:"name"`
	Reference string               `json:"reference"`
	State     align.Verdict        `json:"state"` // the worst of its members'
	At        time.Time            `json:"at"`
	Members   []memberJSON         `json:"members"`
	Scans     []align.ScanProgress `json:"scans"`
}

type memberJSON struct {
	Name     string        `json:"name"`
	Role     string        `json:"role"`
	State    align.Verdict `json:"state"` // the worst of its tables'
	Position string        `json:"position"`
	Version  string        `json:"server_version"`
	ProvenAt *time.Time    `json:"proven_at"` // when it was last known to have shown all that it has
	Lag      float64       `json:"lag_seconds"`
	InFlight int64         `json:"in_flight_rows"`
	ScanOnly bool          `json:"scan_only,omitempty"`           // its rows are read again and again, its log is not
	Waits    string        `json:"scrub_waits_for,omitempty"`     // what keeps scrubs of it from going on
	Errant   string        `json:"errant_transactions,omitempty"` // GTIDs that it has and the reference has not
	Trouble  string        `json:"trouble,omitempty"`
	Tables   []tableJSON   `json:"tables"`
}

type tableJSON struct {
	Table         string                  `json:"table"`
	State         align.Verdict           `json:"state"`
	Reason        string                  `json:"reason,omitempty"`
	Rows          int64                   `json:"rows"`
	DivergentKeys int64                   `json:"divergent_keys"`
	Ranges        map[align.Verdict]int64 `json:"ranges"`
	Root          string                  `json:"root,omitempty"`
	ComparedAt    *time.Time              `json:"compared_at"`
	// VerifiedAt is when of all rows of the table those were read from the server that were longest ago; null: not all
	// were read. Fresh is the share of them, about, that was read within scrub.every.
	VerifiedAt *time.Time `json:"verified_at"`
	Fresh      float64    `json:"fresh"`
	Silent     int64      `json:"silent_changes"` // rows that were found to have changed without a trace in the log
}

func (s *Server) listGroups(w http.ResponseWriter, _ *http.Request) {
	list := []groupJSON{}
	for _, g := range s.groups {
		list = append(list, describe(g.Status()))
	}
	s.reply(w, list)
}

func describe(g *align.GroupStatus) groupJSON {
	out := groupJSON{Name: g.Group, Reference: g.Reference, State: align.InStep, At: g.At.UTC(), Members: []memberJSON{}, Scans: g.Scans}
	if out.Scans == nil {
		out.Scans = []align.ScanProgress{}
	}
	if len(g.Members) == 0 {
		out.State = align.Unverified
	}
	for _, m := range g.Members {
		mj := memberJSON{
			Name: m.Name, Role: m.Role, State: worst(m.Tables), Position: m.Position.String(), Version: m.Server.Version,
			ProvenAt: orNull(m.ProvenAt), Lag: m.Behind.Seconds(), InFlight: m.InFlight, ScanOnly: m.ScanOnly, Waits: m.ScrubWaits, Errant: m.Errant.String(), Trouble: m.Trouble, Tables: []tableJSON{},
		}
		for _, t := range m.Tables {
			mj.Tables = append(mj.Tables, tableJSON{
				Table: t.Table, State: t.Verdict, Reason: t.Reason, Rows: t.Rows, DivergentKeys: t.DivergentKeys,
				Ranges: t.Ranges, Root: t.Root, ComparedAt: orNull(t.ComparedAt),
				VerifiedAt: orNull(t.VerifiedAt), Fresh: t.Fresh, Silent: t.Silent,
			})
		}
		out.State = worse(out.State, mj.State)
		out.Members = append(out.Members, mj)
	}
	return out
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// badness orders the verdicts.
var badness = map[align.Verdict]int{align.InStep: 0, align.Lagging: 1, align.Unverified: 2, align.StaleState: 3, align.Diverged: 4}

func worse(a, b align.Verdict) align.Verdict {
	if bad(b) > bad(a) {
		return b
	}
	return a
}

// bad returns the badness of a verdict. One that this package does not know says nothing.
func bad(v align.Verdict) int {
	if n, known := badness[v]; known {
		return n
	}
	return badness[align.Unverified]
}

// trusted reports whether reads may go to a member with this state.
func trusted(v align.Verdict) bool { return bad(v) <= badness[align.Lagging] }

// worst returns the worst state of a member's tables. Of a member without tables nothing can be said.
func worst(tables []align.TableStatus) align.Verdict {
	if len(tables) == 0 {
		return align.Unverified
	}
	state := align.InStep
	for _, t := range tables {
		state = worse(state, t.Verdict)
	}
	return state
}

// trust answers 200 if reads may go to the member, 503 if not: for health checks of proxies. A member that lags within
// its budget is trusted; one of which nothing can be said is not.
func (s *Server) trust(w http.ResponseWriter, r *http.Request) {
	group, member := r.PathValue("group"), r.PathValue("member")
	q, err := query(r, "table")
	if err != nil {
		s.fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	for _, g := range s.groups {
		status := g.Status()
		if status.Group != group {
			continue
		}
		for _, m := range status.Members {
			if m.Name == member {
				s.answerTrust(w, m, q.Get("table"))
				return
			}
		}
	}
	s.fail(w, http.StatusNotFound, "there is no member %q in a group %q", member, group)
}

func (s *Server) answerTrust(w http.ResponseWriter, m align.MemberStatus, table string) {
	state := worst(m.Tables)
	if table != "" {
		i := slices.IndexFunc(m.Tables, func(t align.TableStatus) bool { return t.Table == table })
		if i < 0 {
			s.fail(w, http.StatusNotFound, "table %q is not watched on %s", table, m.Name)
			return
		}
		state = worse(align.InStep, m.Tables[i].Verdict)
	}
	w.Header().Set("Content-Type", "application/json")
	if !trusted(state) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	s.reply(w, map[string]any{"member": m.Name, "table": table, "state": state, "trust": trusted(state)})
}
