package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lockstep/align"
	"lockstep/config"
	"lockstep/monitor"
)

func newRunCommand() *cobra.Command {
	var file, level, format string
	c := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Watch the groups of a configuration until stopped",
		Long: `Watch the groups of a configuration until stopped by SIGINT or SIGTERM.

Reads every member's change stream, reads the tables once, and from then on says which
keys differ: in the log, at /api/v1/divergences, in /metrics and to the webhook.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return usageError(err)
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			return run(cmd.Context(), cfg, log, cmd.ErrOrStderr())
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&level, "log.level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&format, "log.format", "logfmt", "logfmt or json")
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

func run(ctx context.Context, cfg *config.Config, log *slog.Logger, stderr io.Writer) error {
	d, err := monitor.Start(ctx, cfg, monitor.DaemonOptions{Version: version, Logger: log})
	if err != nil {
		return startError(err)
	}
	log.Info("lockstep watches", "listen", d.Addr(), "groups", len(d.Groups()), "version", version)
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		drawing, stop := context.WithCancel(ctx)
		bars := showScans(drawing, f, func() []align.ScanProgress { return scansOf(d.Groups()) })
		defer bars.Wait()
		defer stop()
	}
	if err := d.Run(ctx); err != nil {
		return err
	}
	log.Info("lockstep stopped")
	return nil
}

// startError gives an error of monitor.Start the exit code that it deserves.
func startError(err error) error {
	var start *monitor.StartError
	switch {
	case !errors.As(err, &start):
		return usageError(err)
	case start.Unreachable:
		return unreachableError(err)
	}
	return undeterminedError(err)
}
