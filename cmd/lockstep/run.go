package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

// runFlags are those of lockstep run.
type runFlags struct {
	file, level, format, webConfig, debug string
	strict                                bool
}

func newRunCommand() *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Watch the groups of a configuration until stopped",
		Long: `Watch the groups of a configuration until stopped by SIGINT or SIGTERM.

Reads every member's change stream, reads the tables once, and from then on says which
keys differ: in the log, at /api/v1/divergences, in /metrics and to the receivers of alerts.

A group, a table or a member that cannot be watched is unverified, with the reason, and the rest is watched:
a server that is down, or set up wrongly, holds back nothing but itself. With --strict it is an error at the
start (exit code 4: it does not answer; 3: it cannot be watched as it is set up).

SIGHUP, or POST /-/reload, has the configuration read anew. One that cannot be used changes nothing. Groups
that are the same as before are not touched.
--web.config.file is a file of Prometheus' exporter-toolkit, for TLS and passwords of the API:
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	configFlag(c, &f.file)
	c.Flags().BoolVar(&f.strict, "strict", false, "refuse to start when a member does not answer, or cannot be watched as it is set up")
	c.Flags().StringVar(&f.level, "log.level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&f.format, "log.format", "logfmt", "logfmt or json")
	c.Flags().StringVar(&f.webConfig, "web.config.file", "", "`FILE` with TLS and passwords of the API (default: plain HTTP, open to all who reach it)")
	c.Flags().StringVar(&f.debug, "debug.listen-address", "", "serve Go's profiles at `HOST:PORT`/debug/pprof/, to whoever reaches it (default: not at all)")
	return c
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log.level %q: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "logfmt":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log.format %q: want logfmt or json", format)
}

func (f *runFlags) run(ctx context.Context, stderr io.Writer) error {
	log, err := newLogger(stderr, f.level, f.format)
	if err != nil {
		return usageError(err)
	}
	cfg, err := loadConfig(f.file)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1) // from the beginning: else one would end lockstep
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	front, err := web.Listen(ctx, cfg.Listen, f.webConfig, log)
	if err != nil {
		return usageError(err)
	}
	load := func() (*config.Config, error) {
		c, err := loadConfig(f.file)
		if err == nil && c.Roles != nil && !front.Passwords() {
			err = usageError(fmt.Errorf("%s: roles: who asks is not known without passwords: set basic_auth_users in the file of --web.config.file", f.file))
		}
		return c, err
	}
	if _, err := load(); err != nil {
		return errors.Join(err, front.Close())
	}
	if front.InClear() && config.InClear(&url.URL{Host: cfg.Listen}) {
		log.Warn("passwords of the API come in clear text, for anybody on the way to read; tls_server_config in the file of --web.config.file is against that", "listen", front.Addr())
	}
	debug, err := listenForProfiles(ctx, f.debug, log)
	if err != nil {
		return errors.Join(usageError(err), front.Close())
	}
	var current atomic.Pointer[daemon.Daemon]
	supervisor := daemon.NewSupervisor(load, daemon.Options{Version: version, Logger: log, Strict: f.strict}, func(d *daemon.Daemon) {
		current.Store(d)
		front.Use(d.API())
		log.Info("lockstep watches", "listen", front.Addr(), "groups", len(d.Groups()), "version", version)
		tellSystemd(log, sdnotify.SdNotifyReady)
	})
	front.Reload = supervisor.Reload
	if mode := openTo(cfg.DataDir); mode != 0 {
		log.Warn("data_dir is open to everybody on this machine", "data_dir", cfg.DataDir, "mode", fmt.Sprintf("%04o", mode), "hint", "chmod o= "+cfg.DataDir)
	}
	d, err := daemon.Start(ctx, cfg, supervisor.Options)
	if err != nil && ctx.Err() != nil {
		log.Info("lockstep stopped")
		return front.Close()
	}
	if err != nil {
		return errors.Join(startError(err), front.Close())
	}
	current.Store(d)
	if file, ok := stderr.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		drawing, stop := context.WithCancel(ctx)
		bars := showScans(drawing, file, func() []status.ScanProgress { return scansOf(current.Load().Groups()) })
		defer bars.Wait()
		defer stop()
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := supervisor.Run(ctx, cfg, d)
		if err == nil {
			err = context.Canceled // the rest is to end too
		}
		return err
	})
	work.Go(func() error { return front.Serve(ctx) })
	work.Go(func() error { return reloadOnHangup(ctx, hangups, supervisor, log) })
	work.Go(func() error { return debug.serve(ctx) })
	if err := work.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("lockstep stopped")
	return nil
}

// reloadOnHangup has the configuration read anew on each SIGHUP. The supervisor logs how that went.
func reloadOnHangup(ctx context.Context, hangups <-chan os.Signal, s *daemon.Supervisor, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			tellSystemd(log, sdnotify.SdNotifyStopping)
			return ctx.Err()
		case <-hangups:
		}
		tellSystemd(log, reloading())
		_ = s.Reload(ctx)
		tellSystemd(log, sdnotify.SdNotifyReady)
	}
}

// startError gives an error of daemon.Start the exit code that it deserves.
func startError(err error) error {
	var start *daemon.StartError
	switch {
	case !errors.As(err, &start):
		return usageError(err)
	case start.Unreachable:
		return unreachableError(err)
	}
	return undeterminedError(err)
}
