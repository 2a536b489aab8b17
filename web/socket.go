package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
)

// Socket is an address that is listened on.
type Socket struct {
	listener   *crowd
	address    string // as it was given
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
	return &Socket{&crowd{Listener: l}, address, configFile, log}, nil
}

// Addr is where it listens.
func (s *Socket) Addr() string { return s.listener.Addr().String() }

// Close ends a Socket that does not serve.
func (s *Socket) Close() error { return s.listener.Close() }

// How long clients may take. What is written at length, such as a profile, takes less than sendWithin.
const (
	askWithin    = 10 * time.Second // for the header of a request
	readWithin   = 20 * time.Second // for all of it
	sendWithin   = time.Minute      // for the answer, from then on
	idleWithin   = 2 * time.Minute  // until the next request
	largestAsked = 16 << 10         // bytes of a header
	endsWithin   = 5 * time.Second  // at the end, for requests that run
)

// Serve has requests answered by a handler until ctx ends; those that run then are given five seconds, and cut off.
func (s *Socket) Serve(ctx context.Context, h http.Handler) error {
	return s.serve(ctx, h, func(h http.Handler) http.Handler { return h })
}

// serve is Serve with what is put before the handler, and before passwords are asked for.
func (s *Socket) serve(ctx context.Context, h http.Handler, before func(http.Handler) http.Handler) error {
	server := &http.Server{
		Handler: http.NewCrossOriginProtection().Handler(h), ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: askWithin, ReadTimeout: readWithin, WriteTimeout: sendWithin, IdleTimeout: idleWithin, MaxHeaderBytes: largestAsked,
		ConnState: s.listener.moved,
	}
	server.BaseContext = func(net.Listener) context.Context {
		server.Handler = before(server.Handler) // before which the toolkit has put its own by now
		return context.WithoutCancel(ctx)
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
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), endsWithin)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
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
