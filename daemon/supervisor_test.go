package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/status"
)

// supervised is lockstep with a configuration that the test changes.
type supervised struct {
	*watch
	next       atomic.Pointer[config.Config]
	unreadable atomic.Pointer[error]
	now        atomic.Pointer[daemon.Daemon]
	supervisor *daemon.Supervisor
}

func supervise(t *testing.T, c *cluster.Cluster) *supervised {
	s := &supervised{watch: &watch{t: t, c: c}}
	load := func() (*config.Config, error) {
		if err := s.unreadable.Load(); err != nil {
			return nil, *err
		}
		return s.next.Load(), nil
	}
	options := daemon.Options{Version: "test", Logger: slog.New(slog.NewTextHandler(testLog{s.watch}, nil))}
	s.supervisor = daemon.NewSupervisor(load, options, func(d *daemon.Daemon) { s.now.Store(d) })
	d, err := daemon.Start(t.Context(), c.Config, s.supervisor.Options)
	if err != nil {
		t.Fatal(err)
	}
	s.daemon = d
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.supervisor.Run(ctx, c.Config, d) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run ends with %v", err)
		}
	})
	return s
}

// changed is the configuration with a change.
func (s *supervised) changed(change func(*config.Config)) *config.Config {
	c := *s.c.Configuration()
	c.Groups = append([]config.Group(nil), c.Groups...)
	change(&c)
	return &c
}

// reload has a configuration read and returns what is said of it.
func (s *supervised) reload(c *config.Config) error {
	s.next.Store(c)
	err := s.supervisor.Reload(s.t.Context())
	s.daemon = s.now.Load()
	return err
}

func readAnewAndNothingLost(t *testing.T, c *cluster.Cluster) {
	s := supervise(t, c)
	s.exec("eu-1", items(1, 10))
	s.inStep()
	s.exec("us-1", "UPDATE items SET price = 99 WHERE id = 3")
	const found = `us-1 public.items changed errant_transaction {"id":3}..{"id":3}`
	s.finds(found)
	id := s.open()[0].ID

	// What cannot be used changes nothing, and says why.
	bad := errors.New("lockstep.yaml:3: unknown key")
	s.unreadable.Store(&bad)
	before := s.daemon
	if err := s.reload(nil); !errors.Is(err, bad) || s.daemon != before {
		t.Errorf("a file that cannot be read: %v, another lockstep: %v", err, s.daemon != before)
	}
	s.unreadable.Store(nil)
	for want, change := range map[string]func(*config.Config){
		"data_dir was changed": func(c *config.Config) { c.DataDir = t.TempDir() },
		"are the same server": func(c *config.Config) {
			members := slices.Clone(c.Groups[0].Members)
			members[1].DSN = members[0].DSN
			c.Groups[0].Members = members
		},
		"listen was changed": func(c *config.Config) { c.Listen = "127.0.0.1:1" },
	} {
		if err := s.reload(s.changed(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the answer is %v, want: %s", err, want)
		}
		if at, ok := s.daemon.LastReload(); ok || at.IsZero() {
			t.Errorf("after a bad configuration the last reload is %v at %v", ok, at)
		}
		s.until("the one before to go on", func() bool { return len(s.open()) == 1 && s.open()[0].ID == id })
	}

	// Nor does it where the configuration before cannot be used any more.
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	withPassword := s.changed(func(c *config.Config) {
		members := slices.Clone(c.Groups[0].Members)
		members[1].PasswordFile = password
		c.Groups[0].Members = members
	})
	if err := s.reload(withPassword); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(withPassword); err == nil || !strings.Contains(err.Error(), "password_file") {
		t.Errorf("the answer is %v, want that the password_file cannot be read", err)
	}
	s.until("the one before to go on without that member", func() bool { return len(s.open()) == 1 && s.open()[0].ID == id })

	// A table less, and the divergence is the same one.
	without := s.changed(func(c *config.Config) { c.Groups[0].Tables.Exclude = []string{"public.notes"} })
	if err := s.reload(without); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.daemon.LastReload(); !ok {
		t.Error("a good configuration counts as a bad one")
	}
	s.finds(found)
	if got := s.open()[0].ID; got != id {
		t.Errorf("after the reload the divergence is called %s, before %s", got, id)
	}
	s.until("the table to be left out", func() bool {
		for _, m := range s.daemon.Groups()[0].Status().Members {
			for _, table := range m.Tables {
				if table.Table == "public.notes" && table.Verdict != status.Unverified {
					return false
				}
			}
		}
		return true
	})
	s.exec("us-1", "UPDATE items SET price = 3 WHERE id = 3")
	s.finds()
}
