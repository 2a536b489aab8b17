package web

import (
	"net/http"
	"regexp"

	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/names"
)

var digestHex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// recordExport takes note of who has taken a report out of the audit log.
func (s *Server) recordExport(w http.ResponseWriter, r *http.Request, e evidence.ExportData) {
	if err := s.names().Check(names.Wanted{Group: e.Group}); err != nil {
		s.refuse(w, err)
		return
	}
	if e.By = s.who(w, r, e.By); e.By == "" {
		return
	}
	if !digestHex.MatchString(e.SHA256) || !e.From.Before(e.To) {
		s.fail(w, http.StatusBadRequest, "an export has sha256, 64 hexadecimal digits, and from, a time before to")
		return
	}
	if err := s.health.RecordExport(e); err != nil {
		s.fail(w, http.StatusConflict, "record the export: %v", err)
		return
	}
	s.reply(w, e)
}
