package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/lockstep-cdc/lockstep/web"
)

// tellSystemd tells the service manager how lockstep is, if it runs under one (sd_notify(3)).
func tellSystemd(log *slog.Logger, state string) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told how lockstep is", "err", err.Error())
	}
}

// reloading is what systemd is told when the configuration is about to be read: with Type=notify-reload it wants the time.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return sdnotify.SdNotifyReloading
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sdnotify.SdNotifyReloading, now.Nano()/1000)
}

// profiles serves Go's profiles on an address of its own. With none it does nothing.
type profiles struct{ *web.Socket }

func listenForProfiles(ctx context.Context, address string, log *slog.Logger) (profiles, error) {
	if address == "" {
		return profiles{}, nil
	}
	socket, err := web.Bind(ctx, address, "", log)
	if err != nil {
		return profiles{}, fmt.Errorf("--debug.listen-address: %w, or leave it out", err)
	}
	return profiles{socket}, nil
}

// serve answers until ctx ends.
func (p profiles) serve(ctx context.Context) error {
	if p.Socket == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return p.Serve(ctx, p.Guard(mux, func() []string { return nil }))
}
