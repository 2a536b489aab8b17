package web

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/lockstep-cdc/lockstep/align"
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

func (s *Server) listScrubs(w http.ResponseWriter, _ *http.Request) {
	list := []align.ScrubRequest{}
	for _, g := range s.groups {
		list = append(list, g.ScrubRequests()...)
	}
	s.reply(w, list)
}

// read reads the body of a request, or fails it. It wants JSON by name: no page of another site can make a browser send that.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.fail(w, http.StatusUnsupportedMediaType, "send application/json")
		return false
	}
	in := json.NewDecoder(r.Body)
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		s.fail(w, http.StatusBadRequest, "the body cannot be read: %v", err)
		return false
	}
	return true
}

// requestScrub has rows read again.
func (s *Server) requestScrub(w http.ResponseWriter, r *http.Request) {
	var want scrubJSON
	if !s.read(w, r, &want) {
		return
	}
	g := s.only(want.Group)
	if g == nil {
		s.fail(w, http.StatusNotFound, "there is no group %q: name one", want.Group)
		return
	}
	request, err := g.RequestScrub(r.Context(), align.ScrubRequest{
		Tables: want.Tables, Members: want.Members, FirstKey: given(want.FirstKey), LastKey: given(want.LastKey),
	})
	if err != nil {
		s.fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	s.reply(w, request)
}

// given returns nothing for null.
func given(key json.RawMessage) json.RawMessage {
	if string(key) == "null" {
		return nil
	}
	return key
}

// only returns the group of that name, or for an empty name the only one.
func (s *Server) only(name string) Group {
	if name == "" && len(s.groups) == 1 {
		return s.groups[0]
	}
	for _, g := range s.groups {
		if g.Status().Name == name {
			return g
		}
	}
	return nil
}
