package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/goccy/go-yaml"
)

// Front listens, and answers for one lockstep after another while its configuration is changed. Its methods may be called
// from any goroutine.
type Front struct {
	// Reload has the configuration read anew and says how that went; nil: /-/reload answers 404.
	Reload func(context.Context) error

	*Socket
	api atomic.Pointer[Server] // nil: none yet
}

// Listen returns a Front that listens on an address as [Bind] does.
func Listen(ctx context.Context, address, configFile string, log *slog.Logger) (*Front, error) {
	s, err := Bind(ctx, address, configFile, log)
	if err != nil {
		return nil, err
	}
	return &Front{Socket: s}, nil
}

// Use has requests answered by an API from now on.
func (f *Front) Use(api *Server) { f.api.Store(api) }

// Passwords reports whether requests are let through only with the password of a user. The file is read anew each time, as
// exporter-toolkit does.
func (f *Front) Passwords() bool { return len(f.protection().Users) > 0 }

// InClear reports whether those passwords come in clear text.
func (f *Front) InClear() bool {
	p := f.protection()
	return len(p.Users) > 0 && len(p.TLS) == 0
}

// protection is what the file says that is of concern here.
type protection struct {
	Users map[string]string `yaml:"basic_auth_users"`
	TLS   map[string]any    `yaml:"tls_server_config"`
}

func (f *Front) protection() (p protection) {
	if f.configFile == "" {
		return p
	}
	data, err := os.ReadFile(f.configFile)
	if err != nil || yaml.Unmarshal(data, &p) != nil {
		return protection{}
	}
	return p
}

// ServeHTTP implements [http.Handler].
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.Passwords() {
		r.Header.Del("Authorization") // which nobody has checked
	}
	if r.URL.Path == "/-/reload" {
		f.reload(w, r)
		return
	}
	if api := f.api.Load(); api != nil {
		api.ServeHTTP(w, r)
		return
	}
	notNow(w)
}

// isProbe reports whether a request asks whether lockstep is to be started anew. Whoever does that has no password.
func isProbe(r *http.Request) bool { return r.URL.Path == "/-/healthy" || r.URL.Path == "/healthz" }

// hosts are the names that the configuration has.
func (f *Front) hosts() []string {
	if api := f.api.Load(); api != nil {
		return api.rules.Hosts
	}
	return nil
}

// open answers what is open to all, and hands the rest on.
func (f *Front) open(next http.Handler) http.Handler {
	next = f.Guard(next, f.hosts)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isProbe(r) {
			next.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		if api := f.api.Load(); api != nil {
			if still := api.still(); still != "" {
				http.Error(w, "not healthy: "+still, http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "lockstep is healthy.")
	})
}

// notNow answers while there is nobody to ask.
func notNow(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "lockstep is starting or stopping", http.StatusServiceUnavailable)
}

func (f *Front) reload(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.Reload == nil:
		http.NotFound(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
	case f.api.Load() != nil && !f.api.Load().permits(w, r):
	case !takeBody(w, r): // which says nothing, but must have come
	default:
		client := http.NewResponseController(w)
		_ = client.SetReadDeadline(time.Time{}) // at which the request's context would end; a server's connection can
		_ = client.SetWriteDeadline(time.Time{})
		err := f.Reload(r.Context())
		_ = client.SetWriteDeadline(time.Now().Add(sendWithin))
		if err != nil {
			http.Error(w, "the new configuration cannot be used; lockstep goes on by the one before: "+err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "The configuration was taken in.")
	}
}

// Serve answers until ctx ends.
func (f *Front) Serve(ctx context.Context) error { return f.serve(ctx, f, f.open) }
