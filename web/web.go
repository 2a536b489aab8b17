// Package web serves what lockstep knows over HTTP: a JSON API, health checks and metrics.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/names"
	"github.com/lockstep-cdc/lockstep/status"
)

// ErrWaits is for what cannot be asked of a group before it is opened.
var ErrWaits = errors.New("is not watched yet")

// Group is what is served of one replication group. Its methods may be called from any goroutine.
type Group interface {
	Status() *status.Group
	Divergences(yield func(*finding.Divergence) bool) error
	// RequestScrub has rows of tables on members read again; none stands for all. Of one table the rows may be bounded.
	RequestScrub(ctx context.Context, want align.ScrubRequest) (align.ScrubRequest, error)
	// ScrubRequests lists them, from the moment at which they were asked for.
	ScrubRequests() []align.ScrubRequest
	// Acknowledge notes who has taken a divergence on and returns it; nil: the group has none of that id.
	Acknowledge(ctx context.Context, id string, a finding.Acknowledgement) (*finding.Divergence, error)
}

// Health is what is served of lockstep itself.
type Health interface {
	// Receivers says how it goes with those that are told of divergences.
	Receivers() []alerts.Status
	DiskBytes() uint64
	// Audit says how it goes with the audit log; nil: there is none.
	Audit() *audit.Status
	// RecordExport keeps in the audit log who has taken a report out of it.
	RecordExport(e evidence.ExportData) error
	// LastReload is when the configuration was last read and whether it could be used.
	LastReload() (at time.Time, ok bool)
}

// Server answers requests.
type Server struct {
	groups  []Group
	health  Health
	rules   Rules
	mux     *http.ServeMux
	log     *slog.Logger
	history *history

	retired   atomic.Bool
	answering sync.RWMutex // held for reading while an answer is made; nobody waits for a client then
	held      atomic.Int64 // bytes of large answers that are being sent
}

// Rules say who may ask for what.
type Rules struct {
	Roles Roles    // nil: all may do all
	Hosts []string // names under which lockstep is called, beside those that [Socket.Knows]
}

// New returns a server for the groups.
func New(groups []Group, health Health, rules Rules, version string, log *slog.Logger) *Server {
	s := &Server{groups: groups, health: health, rules: rules, mux: http.NewServeMux(), log: log, history: newHistory(groups)}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(groups, health, version), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.history.register(registry)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 10}))
	s.mux.HandleFunc("GET /{$}", s.landing)
	s.mux.HandleFunc("GET /-/ready", s.ready)
	s.mux.HandleFunc("GET /readyz", s.ready)
	for _, route := range routes {
		s.mux.HandleFunc(route.pattern, func(w http.ResponseWriter, r *http.Request) { route.serve(s, w, r) })
	}
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.permits(w, r) || !takeBody(w, r) {
		return
	}
	if a := s.answer(r); a != nil {
		a.send(w, &s.held)
		return
	}
	notNow(w)
}

// answer answers a request; nil: not any more.
func (s *Server) answer(r *http.Request) *answer {
	s.answering.RLock()
	defer s.answering.RUnlock()
	if s.retired.Load() {
		return nil
	}
	a := &answer{header: make(http.Header)}
	if handler, pattern := s.mux.Handler(r); pattern == "" && strings.HasPrefix(r.URL.Path, "/api/") {
		s.noRoute(a, r, handler)
	} else {
		s.mux.ServeHTTP(a, r)
	}
	return a
}

// noRoute answers what is not served as all errors of the API are answered: the mux knows whether another method is.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	said := answer{header: make(http.Header)}
	handler.ServeHTTP(&said, r)
	if allow := said.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		s.fail(w, said.code, "%s takes %s", r.URL.Path, allow)
		return
	}
	s.fail(w, http.StatusNotFound, "the API has no %s", r.URL.Path)
}

// Retire has later requests told to come again.
func (s *Server) Retire() { s.retired.Store(true) }

// Close is Retire, and waits until nobody reads what is served any more. It waits for no client.
func (s *Server) Close() {
	s.Retire()
	s.answering.Lock()
	defer s.answering.Unlock()
}

func (s *Server) landing(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>lockstep</title><h1>lockstep</h1><ul>
<li><a href="api/v1/groups">groups</a></li>
<li><a href="api/v1/divergences?state=open">open divergences</a></li>
<li><a href="api/v1/scrubs">scrubs that were asked for</a></li>
<li><a href="api/v1/receivers">receivers of alerts</a></li>
<li><a href="metrics">metrics</a></li>
</ul>
`)
}

// ready answers 200 once every member of every group has been heard from.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	for _, g := range s.groups {
		for _, m := range g.Status().Members {
			if m.ProvenAt.IsZero() {
				http.Error(w, fmt.Sprintf("not ready: member %s of group %s has not been heard from", m.Name, g.Status().Name), http.StatusServiceUnavailable)
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
	failure(w, code, fmt.Sprintf(format, args...))
}

func failure(w http.ResponseWriter, code int, says string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": says}) // a client that is gone need not hear it
}

// defaultLimit is how many divergences a reply holds unless ?limit= says otherwise.
const defaultLimit = 1000

func (s *Server) listDivergences(w http.ResponseWriter, _ *http.Request, q url.Values) {
	limit, err := checkValues(q)
	if err != nil {
		s.fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	var lists [][]*finding.Divergence // of each group, the newest first
	total := 0
	for _, g := range s.groups {
		var found []*finding.Divergence
		err := g.Divergences(func(d *finding.Divergence) bool {
			if !matches(q, d) {
				return true
			}
			if total++; len(found) < limit {
				found = append(found, presentable(d))
			}
			return true
		})
		lists = append(lists, found)
		if err != nil {
			s.fail(w, http.StatusInternalServerError, "read divergences: %v", err)
			return
		}
	}
	if total == 0 {
		if err := s.checkFilter(q); err != nil {
			s.refuse(w, err)
			return
		}
	}
	w.Header().Set("X-Total-Count", strconv.Itoa(total))
	s.reply(w, newest(lists, limit))
}

// newest merges lists of which each has its newest first, up to a limit.
func newest(lists [][]*finding.Divergence, limit int) []*finding.Divergence {
	all := []*finding.Divergence{}
	for len(all) < limit {
		next := -1
		for i, list := range lists {
			if len(list) > 0 && (next < 0 || list[0].ConfirmedAt.After(lists[next][0].ConfirmedAt)) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		all, lists[next] = append(all, lists[next][0]), lists[next][1:]
	}
	return all
}

// checkFilter returns an error for a name in a filter that nothing has, and nothing had that a divergence is still known of.
func (s *Server) checkFilter(q url.Values) error {
	known := s.names()
	for i, g := range s.groups {
		members, tables := make(map[string]bool), make(map[string]bool)
		err := g.Divergences(func(d *finding.Divergence) bool {
			members[d.Member], tables[d.Table] = true, true
			return true
		})
		if err != nil {
			return err
		}
		known[i].Members = slices.AppendSeq(known[i].Members, maps.Keys(members))
		if known[i].Tables != nil {
			known[i].Tables = slices.AppendSeq(known[i].Tables, maps.Keys(tables))
		}
	}
	return known.Check(names.Wanted{Group: q.Get("group"), Members: given(q, "member"), Tables: given(q, "table")})
}

// given lists the value of a parameter, if it is given.
func given(q url.Values, name string) []string {
	if value := q.Get(name); value != "" {
		return []string{value}
	}
	return nil
}

// names are those of all that is watched, a group at a time.
func (s *Server) names() names.Groups {
	var all names.Groups
	for _, g := range s.groups {
		all = append(all, g.Status().Names())
	}
	return all
}

// refuse fails a request that cannot be meant so: 404 for a name that nothing has, 503 where it may be later, else 400.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadRequest
	unknown := (*names.Unknown)(nil)
	switch {
	case errors.As(err, &unknown):
		code = http.StatusNotFound
	case errors.Is(err, ErrWaits):
		code = http.StatusServiceUnavailable
	}
	s.fail(w, code, "%v", err)
}

// checkValues refuses values that no divergence can have.
func checkValues(q url.Values) (limit int, err error) {
	if state := q.Get("state"); state != "" && !slices.Contains(states, state) {
		return 0, fmt.Errorf("state %q: want one of %v", state, states)
	}
	if kind := finding.Kind(q.Get("kind")); kind != "" && !slices.Contains(kinds, kind) {
		return 0, fmt.Errorf("kind %q: want one of %v", kind, kinds)
	}
	text := q.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
		return 0, fmt.Errorf("limit %q: want a positive number", text)
	}
	return limit, nil
}

// states are those of divergences, and the outcomes of resolved ones.
var states = []string{finding.Open, finding.Resolved, string(finding.Healed), string(finding.Superseded), string(finding.Forgotten)}

// presentable returns d with empty lists in place of absent ones, so that scripts need not tell them apart.
func presentable(d *finding.Divergence) *finding.Divergence {
	if d.Ranges != nil && d.Positions != nil {
		return d
	}
	shown := *d
	if shown.Ranges == nil {
		shown.Ranges = []finding.Range{}
	}
	if shown.Positions == nil {
		shown.Positions = map[string]string{}
	}
	return &shown
}

func matches(q url.Values, d *finding.Divergence) bool {
	if state := q.Get("state"); state != "" && state != d.State && state != string(d.Outcome) {
		return false
	}
	for name, value := range map[string]string{"group": d.Group, "member": d.Member, "table": d.Table, "kind": string(d.Kind)} {
		if want := q.Get(name); want != "" && want != value {
			return false
		}
	}
	return true
}

func (s *Server) oneDivergence(w http.ResponseWriter, r *http.Request, _ url.Values) {
	if _, d := s.divergence(w, r); d != nil {
		s.reply(w, presentable(d))
	}
}

// divergence returns the divergence whose id, or the beginning of it, is in a request's path, and its group, or fails the request.
func (s *Server) divergence(w http.ResponseWriter, r *http.Request) (Group, *finding.Divergence) {
	type place struct {
		group Group
		*finding.Divergence
	}
	var ids []string
	all := make(map[string]place)
	for _, g := range s.groups {
		err := g.Divergences(func(d *finding.Divergence) bool {
			ids, all[d.ID] = append(ids, d.ID), place{g, d}
			return true
		})
		if err != nil {
			s.fail(w, http.StatusInternalServerError, "read divergences: %v", err)
			return nil, nil
		}
	}
	id, err := names.Complete("divergence", r.PathValue("id"), ids)
	if err != nil {
		s.refuse(w, err)
		return nil, nil
	}
	return all[id].group, all[id].Divergence
}
