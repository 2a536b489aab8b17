package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

func supervise(t *testing.T, c servers) *supervised {
	s := &supervised{watch: &watch{t: t, c: c}}
	load := func() (*config.Config, error) {
		if err := s.unreadable.Load(); err != nil {
			return nil, *err
		}
		return s.next.Load(), nil
	}
	options := daemon.Options{Version: "test", Logger: slog.New(slog.NewTextHandler(testLog{s.watch}, nil))}
	s.supervisor = daemon.NewSupervisor(load, options, func(d *daemon.Daemon) { s.now.Store(d) })
	d, err := daemon.Start(t.Context(), c.Configuration(), s.supervisor.Options)
	if err != nil {
		t.Fatal(err)
	}
	s.daemon = d
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.supervisor.Run(ctx, c.Configuration(), d) }()
	s.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run ends with %v", err)
		}
	})
	t.Cleanup(s.stop)
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

// member is what is said of a member.
func (s *supervised) member(group, name string) status.Member {
	s.t.Helper()
	for _, g := range s.daemon.Groups() {
		if now := g.Status(); now.Name == group {
			for _, m := range now.Members {
				if m.Name == name {
					return m
				}
			}
		}
	}
	s.t.Fatalf("group %s has no member %s", group, name)
	return status.Member{}
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
		"listen was changed":   func(c *config.Config) { c.Listen = "127.0.0.1:1" },
	} {
		if err := s.reload(s.changed(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the answer is %v, want: %s", err, want)
		}
		if at, ok := s.daemon.LastReload(); ok || at.IsZero() {
			t.Errorf("after a bad configuration the last reload is %v at %v", ok, at)
		}
		s.until("the one before to go on", func() bool { return len(s.open()) == 1 && s.open()[0].ID == id })
	}

	// A member that cannot be watched is that member's trouble, a group that cannot, that group's.
	twice := s.changed(func(c *config.Config) {
		members := slices.Clone(c.Groups[0].Members)
		c.Groups[0].Members = append(members, config.Member{Name: "twin", DSN: members[0].DSN})
	})
	if err := s.reload(twice); err != nil {
		t.Fatal(err)
	}
	s.until("one of two members that are the same server to be in trouble", func() bool {
		m := s.member("shop", "twin")
		return strings.Contains(m.Trouble, "are the same server") && m.State == status.Unverified
	})
	s.finds(found)
	if err := s.reload(s.changed(func(*config.Config) {})); err != nil {
		t.Fatal(err)
	}
	s.until("its streams to be open", func() bool {
		return s.member("shop", "eu-1").State == status.InStep && s.member("shop", "us-1").State == status.Diverged
	})

	opened := s.opened.Load()
	spare := func(password string) *config.Config {
		return s.changed(func(c *config.Config) {
			g := c.Groups[0]
			g.Name, g.Members = "spare", nil
			for _, name := range []string{"a", "b"} {
				g.Members = append(g.Members, config.Member{Name: name, DSN: "postgres://lockstep@127.0.0.1:1/app?sslmode=disable", PasswordFile: password})
			}
			c.Groups = append(c.Groups, g)
		})
	}
	for _, password := range []string{"", "/nonexistent/password"} {
		if err := s.reload(spare(password)); err != nil {
			t.Fatal(err)
		}
		if m := s.member("spare", "b"); m.State != status.Unverified || m.Trouble == "" {
			t.Errorf("of a member that cannot be reached it says %s, %q", m.State, m.Trouble)
		}
		s.exec("us-1", "UPDATE items SET price = 98 WHERE id = 4")
		s.finds(found, `us-1 public.items changed errant_transaction {"id":4}..{"id":4}`)
		s.exec("us-1", "UPDATE items SET price = 4 WHERE id = 4")
		s.finds(found)
	}
	if err := s.reload(s.changed(func(*config.Config) {})); err != nil {
		t.Fatal(err)
	}
	if now := s.opened.Load(); now != opened {
		t.Errorf("changes of another group had %d streams opened anew", now-opened)
	}

	// Nor is a member that cannot be watched any more a reason to watch less.
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
	if err := s.reload(s.changed(func(*config.Config) {})); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(withPassword); err != nil {
		t.Fatal(err)
	}
	s.until("the member to be in trouble", func() bool { return strings.Contains(s.member("shop", "us-1").Trouble, "password of member us-1") })
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
