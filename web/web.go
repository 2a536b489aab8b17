// Package web serves what lockstep knows over HTTP: a JSON API, health checks and metrics.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lockstep/align"
)

// Group is what is served of one replication group. Its methods may be called from any goroutine.
type Group interface {
	Status() *align.GroupStatus
	Divergences(yield func(*align.Divergence) bool) error
}

// Health is what is served of lockstep itself.
type Health interface {
	// Waiting counts notifications that were not delivered.
	Waiting() (int, error)
	DiskBytes() uint64
}

// Server answers requests.
type Server struct {
	groups []Group
	mux    *http.ServeMux
	log    *slog.Logger
}

// New returns a server for the groups.
func New(groups []Group, health Health, version string, log *slog.Logger) *Server {
	s := &Server{groups: groups, mux: http.NewServeMux(), log: log}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(groups, health, version))
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 10}))
	s.mux.HandleFunc("GET /{$}", s.landing)
	s.mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "lockstep is healthy.") })
	s.mux.HandleFunc("GET /-/ready", s.ready)
	s.mux.HandleFunc("GET /api/v1/groups", s.listGroups)
	s.mux.HandleFunc("GET /api/v1/divergences", s.listDivergences)
	s.mux.HandleFunc("GET /api/v1/divergences/{id}", s.oneDivergence)
	s.mux.HandleFunc("GET /api/v1/trust/{group}/{member}", s.trust)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve answers on l until ctx ends; requests that run then are given five seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

func (s *Server) landing(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>lockstep</title><h1>lockstep</h1><ul>
<li><a href="api/v1/groups">groups</a></li>
<li><a href="api/v1/divergences?state=open">open divergences</a></li>
<li><a href="metrics">metrics</a></li>
</ul>
`)
}

// ready answers 200 once every member of every group has been heard from.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	for _, g := range s.groups {
		for _, m := range g.Status().Members {
			if m.ProvenAt.IsZero() {
				http.Error(w, fmt.Sprintf("not ready: member %s of group %s has not been heard from", m.Name, g.Status().Group), http.StatusServiceUnavailable)
				return
			}
		}
	}
	fmt.Fprintln(w, "lockstep is ready.")
}

func (s *Server) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("reply was not sent", "err", err.Error())
	}
}

// fail replies with an error in JSON.
func (s *Server) fail(w http.ResponseWriter, code int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf(format, args...)}); err != nil {
		s.log.Debug("reply was not sent", "err", err.Error())
	}
}

// defaultLimit is how many divergences a reply holds unless ?limit= says otherwise.
const defaultLimit = 1000

func (s *Server) listDivergences(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := checkQuery(q)
	if err != nil {
		s.fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	found := []*align.Divergence{}
	for _, g := range s.groups {
		err := g.Divergences(func(d *align.Divergence) bool {
			if matches(q, d) {
				found = append(found, d)
			}
			return len(found) < limit
		})
		if err != nil {
			s.fail(w, http.StatusInternalServerError, "read divergences: %v", err)
			return
		}
	}
	s.reply(w, found)
}

// checkQuery refuses parameters that would be overlooked: a filter with a typing mistake must not look like an answer.
func checkQuery(q url.Values) (limit int, err error) {
	limit = defaultLimit
	for name, values := range q {
		switch name {
		case "group", "member", "table", "kind":
		case "state":
			if v := values[0]; v != align.Open && v != align.Resolved {
				return 0, fmt.Errorf("state %q: want open or resolved", v)
			}
		case "limit":
			if limit, err = strconv.Atoi(values[0]); err != nil || limit < 1 {
				return 0, fmt.Errorf("limit %q: want a positive number", values[0])
			}
		default:
			return 0, fmt.Errorf("unknown parameter %q: want state, group, member, table, kind or limit", name)
		}
	}
	return limit, nil
}

func matches(q url.Values, d *align.Divergence) bool {
	for name, value := range map[string]string{"state": d.State, "group": d.Group, "member": d.Member, "table": d.Table, "kind": string(d.Kind)} {
		if want := q.Get(name); want != "" && want != value {
			return false
		}
	}
	return true
}

func (s *Server) oneDivergence(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	for _, g := range s.groups {
		var found *align.Divergence
		err := g.Divergences(func(d *align.Divergence) bool {
			if d.ID == id {
				found = d
			}
			return found == nil
		})
		if err != nil {
			s.fail(w, http.StatusInternalServerError, "read divergences: %v", err)
			return
		}
		if found != nil {
			s.reply(w, found)
			return
		}
	}
	s.fail(w, http.StatusNotFound, "there is no divergence %q", id)
}
