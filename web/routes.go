package web

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"

	"github.com/lockstep-cdc/lockstep/names"
)

// route is something that can be asked of the API. All that it takes is said here, so that nothing that somebody asks for is
// overlooked: a parameter that is not in query, or a field that is not in body, is refused before the route is served.
type route struct {
	pattern string // of [http.ServeMux], with the names that are part of the path
	query   []string
	body    reflect.Type // of the JSON that is sent; nil: nothing is read
	serve   func(*Server, http.ResponseWriter, *http.Request)
}

var routes = []route{
	get("/api/v1/groups", (*Server).listGroups),
	get("/api/v1/divergences", (*Server).listDivergences, "state", "group", "member", "table", "kind", "limit"),
	get("/api/v1/divergences/{id}", (*Server).oneDivergence),
	post("/api/v1/divergences/{id}/acknowledge", (*Server).acknowledge),
	post("/api/v1/audit/exports", (*Server).recordExport),
	get("/api/v1/scrubs", (*Server).listScrubs),
	post("/api/v1/scrubs", (*Server).requestScrub),
	get("/api/v1/receivers", func(s *Server, w http.ResponseWriter, _ *http.Request, _ url.Values) {
		s.reply(w, s.health.Receivers())
	}),
	get("/api/v1/trust/{group}/{member}", (*Server).trust, "table"),
}

// get is a route that takes parameters.
func get(path string, serve func(*Server, http.ResponseWriter, *http.Request, url.Values), parameters ...string) route {
	return route{"GET " + path, parameters, nil, func(s *Server, w http.ResponseWriter, r *http.Request) {
		if q, ok := s.query(w, r, parameters); ok {
			serve(s, w, r, q)
		}
	}}
}

// post is a route that takes JSON.
func post[T any](path string, serve func(*Server, http.ResponseWriter, *http.Request, T)) route {
	return route{"POST " + path, nil, reflect.TypeFor[T](), func(s *Server, w http.ResponseWriter, r *http.Request) {
		var body T
		if _, ok := s.query(w, r, nil); ok && s.read(w, r, &body) {
			serve(s, w, r, body)
		}
	}}
}

// query returns a request's parameters, or fails it for what would be overlooked: a filter with a typing mistake must not look
// like an answer.
func (s *Server) query(w http.ResponseWriter, r *http.Request, known []string) (url.Values, bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		err = fmt.Errorf("parameters cannot be read: %w", err)
	}
	for name, values := range q {
		switch {
		case err != nil:
		case len(values) > 1:
			err = fmt.Errorf("parameter %q is given %d times: want one", name, len(values))
		default:
			err = names.Check("parameter", name, "", known)
		}
		if err == nil && values[0] == "" { // as of a variable of a script that is not set: it would stand for all
			err = fmt.Errorf("parameter %q is empty: give it a value, or leave it out", name)
		}
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, "%v", err)
	}
	return q, err == nil
}
