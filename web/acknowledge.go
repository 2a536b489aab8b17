package web

import (
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/lockstep-cdc/lockstep/finding"
)

// Bounds of what an acknowledgement may say, in characters.
const (
	maxName = 200
	maxNote = 2000
)

// acknowledgeJSON is what an acknowledgement says.
type acknowledgeJSON struct {
	By     string `json:"by"`
	Ticket string `json:"ticket"`
	Note   string `json:"note"`
}

// acknowledge takes note of who has taken a divergence on. Who asks with a password is who it is.
func (s *Server) acknowledge(w http.ResponseWriter, r *http.Request, a acknowledgeJSON) {
	if a.By = s.who(w, r, a.By); a.By == "" {
		return
	}
	if utf8.RuneCountInString(a.Ticket) > maxName || utf8.RuneCountInString(a.Note) > maxNote {
		s.fail(w, http.StatusBadRequest, "that is too long: ticket may have %d characters, note %d", maxName, maxNote)
		return
	}
	g, meant := s.divergence(w, r)
	if meant == nil {
		return
	}
	d, err := g.Acknowledge(r.Context(), meant.ID, finding.Acknowledgement{By: a.By, Ticket: a.Ticket, Note: a.Note, At: time.Now().UTC()})
	switch {
	case errors.Is(err, ErrWaits):
		s.refuse(w, err)
	case err != nil:
		s.fail(w, http.StatusInternalServerError, "acknowledge: %v", err)
	case d == nil:
		s.fail(w, http.StatusNotFound, "divergence %s is not kept any more", meant.ID)
	default:
		s.reply(w, presentable(d))
	}
}

// who is who asks: the user, where there are passwords, or else whom the request names. Empty: it was answered.
func (s *Server) who(w http.ResponseWriter, r *http.Request, by string) string {
	if user, _, ok := r.BasicAuth(); ok {
		if by != "" && by != user {
			s.fail(w, http.StatusForbidden, "you are %s: leave by out", user)
			return ""
		}
		return user
	}
	switch {
	case by == "":
		s.fail(w, http.StatusBadRequest, "by is missing: say who you are")
	case utf8.RuneCountInString(by) > maxName:
		s.fail(w, http.StatusBadRequest, "that is too long: by may have %d characters", maxName)
		return ""
	}
	return by
}
