package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/names"
)

// scrubJSON is what POST /api/v1/scrubs takes.
type scrubJSON struct {
	Group   string   `json:"group"`   // may be left out if there is only one
	Tables  []string `json:"tables"`  // none: all
	Members []string `json:"members"` // none: all
	// FirstKey and LastKey bound the rows of a single table, if they are given.
	FirstKey json.RawMessage `json:"first_key"`
	LastKey  json.RawMessage `json:"last_key"`
}

func (s *Server) listScrubs(w http.ResponseWriter, _ *http.Request, _ url.Values) {
	list := []align.ScrubRequest{}
	for _, g := range s.groups {
		list = append(list, g.ScrubRequests()...)
	}
	s.reply(w, list)
}

// requestScrub has rows read again.
func (s *Server) requestScrub(w http.ResponseWriter, r *http.Request, want scrubJSON) {
	g, err := s.group(want.Group)
	if err != nil {
		s.refuse(w, err)
		return
	}
	request, err := g.RequestScrub(r.Context(), align.ScrubRequest{
		Tables: want.Tables, Members: want.Members, FirstKey: unlessNull(want.FirstKey), LastKey: unlessNull(want.LastKey),
	})
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	s.reply(w, request)
}

func unlessNull(key json.RawMessage) json.RawMessage {
	if string(key) == "null" {
		return nil
	}
	return key
}

// group returns the group of that name, or for an empty name the only one.
func (s *Server) group(name string) (Group, error) {
	if name == "" && len(s.groups) == 1 {
		return s.groups[0], nil
	}
	var known []string
	for _, g := range s.names() {
		known = append(known, g.Name)
	}
	if name == "" {
		return nil, fmt.Errorf("several groups are watched: name one of %s", strings.Join(known, ", "))
	}
	if err := names.Check("group", name, "", known); err != nil {
		return nil, err
	}
	return s.groups[slices.Index(known, name)], nil
}
