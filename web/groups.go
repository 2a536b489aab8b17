package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
)

func (s *Server) listGroups(w http.ResponseWriter, _ *http.Request, _ url.Values) {
	list := []*status.Group{}
	for _, g := range s.groups {
		list = append(list, g.Status())
	}
	s.reply(w, list)
}

// stillFor is how long the loop of a group may not come round until lockstep is to be started anew. Trust ends, and an alert
// fires, long before; to begin a large transaction again would take just as long.
const stillFor = 5 * time.Minute

// still says which loop stands still; nothing if none does.
func (s *Server) still() string {
	for _, g := range s.groups {
		if now := g.Status(); now.Still > stillFor {
			return fmt.Sprintf("the loop of group %s has not come round for %s", now.Name, now.Still.Round(time.Second))
		}
	}
	return ""
}

// staleStatus is the reason of an answer that nobody may go by, because what it is made of may be too old.
const staleStatus = "stale_status"

// trust answers 200 if reads may go to the member, 503 if not: for health checks of proxies. A member that lags within
// its budget is trusted; one of which nothing can be said is not, nor is any of a group whose loop stands still.
func (s *Server) trust(w http.ResponseWriter, r *http.Request, q url.Values) {
	group, member := r.PathValue("group"), r.PathValue("member")
	g, err := s.group(group)
	if err != nil {
		s.refuse(w, err)
		return
	}
	now := g.Status()
	if err := (names.Groups{now.Names()}).Check(names.Wanted{Members: []string{member}, Tables: given(q, "table")}); err != nil {
		s.refuse(w, err)
		return
	}
	i := slices.IndexFunc(now.Members, func(m status.Member) bool { return m.Name == member })
	s.answerTrust(w, now, now.Members[i], q.Get("table"))
}

func (s *Server) answerTrust(w http.ResponseWriter, g *status.Group, m status.Member, table string) {
	state := status.Worst(m.Tables)
	if table != "" {
		state = status.Unverified // while the group's tables are not known
		if i := slices.IndexFunc(m.Tables, func(t status.Table) bool { return t.Table == table }); i >= 0 {
			state = status.Worse(status.InStep, m.Tables[i].Verdict)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if !state.Trusted() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	answer := map[string]any{"member": m.Name, "table": table, "state": state, "trust": state.Trusted(), "age_seconds": g.Age}
	if g.Stale != "" {
		answer["reason"] = staleStatus
	}
	s.reply(w, answer)
}
