package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/goccy/go-yaml"
	toolkit "github.com/prometheus/exporter-toolkit/web"
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

// Socket is an address that is listened on.
type Socket struct {
	listener   net.Listener
	configFile string
	log        *slog.Logger
}

// Bind listens on an address. configFile is one of Prometheus' exporter-toolkit, for TLS and passwords
// (https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md); it is read anew for each connection.
// Empty: plain HTTP, open to all who reach the address.
func Bind(ctx context.Context, address, configFile string, log *slog.Logger) (*Socket, error) {
	if configFile != "" {
		if err := toolkit.Validate(configFile); err != nil {
			return nil, fmt.Errorf("--web.config.file %s: %w", configFile, err)
		}
	}
	var listener net.ListenConfig
	l, err := listener.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w: choose another host:port", address, err)
	}
	return &Socket{l, configFile, log}, nil
}

// Addr is where it listens.
func (s *Socket) Addr() string { return s.listener.Addr().String() }

// Close ends a Socket that does not serve.
func (s *Socket) Close() error { return s.listener.Close() }

// Use has requests answered by an API from now on.
func (f *Front) Use(api *Server) { f.api.Store(api) }

// Passwords reports whether requests are let through only with the password of a user. The file is read anew each time, as
// exporter-toolkit does.
func (f *Front) Passwords() bool {
	if f.configFile == "" {
		return false
	}
	var c struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	data, err := os.ReadFile(f.configFile)
	return err == nil && yaml.Unmarshal(data, &c) == nil && len(c.Users) > 0
}

// ServeHTTP implements [http.Handler].
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.Passwords() {
		r.Header.Del("Authorization") // which nobody has checked
	}
	switch r.URL.Path {
	case "/-/healthy", "/healthz":
		fmt.Fprintln(w, "lockstep is healthy.")
		return
	case "/-/reload":
		f.reload(w, r)
		return
	}
	if api := f.api.Load(); api != nil {
		api.ServeHTTP(w, r)
		return
	}
	notNow(w)
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
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "use POST or PUT", http.StatusMethodNotAllowed)
	case f.api.Load() != nil && !f.api.Load().permits(w, r):
	default:
		if err := f.Reload(r.Context()); err != nil {
			http.Error(w, "the configuration was not taken in, lockstep goes on by the one before: "+err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "The configuration was taken in.")
	}
}

// Serve answers until ctx ends.
func (f *Front) Serve(ctx context.Context) error { return f.Socket.Serve(ctx, f) }

// Serve has requests answered by a handler until ctx ends; those that run then are given five seconds.
func (s *Socket) Serve(ctx context.Context, h http.Handler) error {
	server := &http.Server{
		Handler: http.NewCrossOriginProtection().Handler(h), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() {
		quiet := slog.New(atLeast{s.log.Handler(), slog.LevelWarn})
		failed <- toolkit.Serve(s.listener, server, &toolkit.FlagConfig{WebConfigFile: &s.configFile}, quiet)
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// atLeast passes on what is important enough.
type atLeast struct {
	slog.Handler
	level slog.Level
}

// Enabled implements [slog.Handler].
func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}
