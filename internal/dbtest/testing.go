package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// TB is what the functions that end in T need of *testing.T, so that the demo is not linked with package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Logf(format string, args ...any)
	Context() context.Context
}

// Soaking reports whether the long tests were asked for, by LOCKSTEP_SOAK: others play more engines, rounds and rows then, too.
func Soaking() bool { return os.Getenv("LOCKSTEP_SOAK") != "" }

// Need finds a version. Without it a test is skipped with the reason, but in CI, where CI=true is set, it fails: there a
// missing server is a broken build, not somebody's small laptop.
func Need(t TB, v Version) Install {
	t.Helper()
	install, err := Find(v)
	needed(t, err)
	return install
}

func needed(t TB, err error) {
	t.Helper()
	if err != nil && os.Getenv("CI") == "true" && !errors.Is(err, errPlatform) {
		t.Fatalf("%v", err)
	}
	if err != nil {
		t.Skipf("%v", err)
	}
}

// StartT starts a server that ends with the test. If the test fails, the end of the server's log is shown.
func StartT(t TB, install Install, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), install, inMemory(o))
	if err != nil {
		t.Fatalf("%v", err)
	}
	closeT(t, s.Install.Version, s)
	return s
}

// GroupT makes a group that ends with the test.
func GroupT(t TB, install Install, subscribers int, schema string, o Options) *Group {
	t.Helper()
	g, err := NewGroup(t.Context(), install, subscribers, schema, inMemory(o))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, s := range g.Members() {
		closeT(t, s.Install.Version, s)
	}
	return g
}

// StandbyT makes a physical standby that ends with the test.
func StandbyT(t TB, primary *Server, o Options) *Server {
	t.Helper()
	s, err := Standby(t.Context(), primary, inMemory(o))
	if err != nil {
		t.Fatalf("%v", err)
	}
	closeT(t, s.Install.Version, s)
	return s
}

func inMemory(o Options) Options {
	if o.Below == "" {
		o.Below = MemoryDir()
	}
	return o
}

// closeT shows the end of the server's log if the test failed.
func closeT(t TB, title fmt.Stringer, s interface {
	Close() error
	logTail(lines int) string
}) {
	t.Cleanup(func() {
		t.Helper()
		if t.Failed() {
			t.Logf("log of %v:\n%s", title, s.logTail(20))
		}
		if err := s.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
}

// ExecT runs statements as the server's Exec does.
func ExecT(t TB, s interface {
	Exec(ctx context.Context, statements ...string) error
}, statements ...string) {
	t.Helper()
	if err := s.Exec(t.Context(), statements...); err != nil {
		t.Fatalf("%v", err)
	}
}
