package web

import (
	"net/http"
	"strings"
)

// Role is what a user may do.
type Role string

// The roles. Each may read.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator" // acknowledges, asks for scrubs, reloads
	Auditor  Role = "auditor"  // takes reports out of the audit log
)

// Roles are those of the users, by name.
type Roles map[string]Role

// needed is the role that a request takes; empty: any does.
func needed(r *http.Request) Role {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return ""
	case strings.HasPrefix(r.URL.Path, "/api/v1/audit/"):
		return Auditor
	}
	return Operator
}

// permits reports whether who asks has the role that it takes, and answers if not. Whether he is who he says was asked before.
func (s *Server) permits(w http.ResponseWriter, r *http.Request) bool {
	if s.rules.Roles == nil {
		return true
	}
	user, _, _ := r.BasicAuth()
	role, known := s.rules.Roles[user]
	want := needed(r)
	switch {
	case !known:
		s.fail(w, http.StatusForbidden, "user %q has no role: add it to roles in the configuration", user)
	case want != "" && role != want:
		s.fail(w, http.StatusForbidden, "user %s is %s; this takes the role %s", user, role, want)
	default:
		return true
	}
	return false
}
