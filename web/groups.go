package web

import (
	"net/http"
	"net/url"
	"slices"

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

// trust answers 200 if reads may go to the member, 503 if not: for health checks of proxies. A member that lags within
// its budget is trusted; one of which nothing can be said is not.
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
	s.answerTrust(w, now.Members[i], q.Get("table"))
}

func (s *Server) answerTrust(w http.ResponseWriter, m status.Member, table string) {
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
	s.reply(w, map[string]any{"member": m.Name, "table": table, "state": state, "trust": state.Trusted()})
}
