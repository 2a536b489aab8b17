package dbtest

import (
	"context"
	"errors"
	"sync"
)

// shared are the servers that the tests of one package have in common, by name. Starting one takes as long as many tests
// do, so they are started once and end with the package: see [Main].
var shared struct {
	sync.Mutex // also held while a server starts, so that nobody starts it twice
	servers    map[string]*Server
}

// SharedT returns the server of that name and version, which the first who asks starts. Tests keep to databases, slots
// and roles of their own, and leave the server's settings alone; the package has a TestMain that calls [Main].
func SharedT(t TB, install Install, name string, o Options) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	name = install.Version.String() + " " + name
	s := shared.servers[name]
	if s == nil {
		var err error
		// Not the test's context: the server outlives it.
		if s, err = Start(context.Background(), install, inMemory(o)); err != nil {
			t.Fatalf("%v", err)
		}
		if shared.servers == nil {
			shared.servers = make(map[string]*Server)
		}
		shared.servers[name] = s
	}
	t.Cleanup(func() {
		t.Helper()
		if t.Failed() {
			t.Logf("log of the shared server %q:\n%s", name, s.logTail(20))
		}
	})
	return s
}

// Main runs a package's tests, closes the servers that they shared or used one after the other, and returns the code to exit with.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if err := errors.Join(closeShared(), closeIdle()); err != nil && code == 0 {
		println(err.Error())
		return 1
	}
	return code
}

func closeShared() error {
	shared.Lock()
	defer shared.Unlock()
	var errs []error
	for _, s := range shared.servers {
		errs = append(errs, s.Close())
	}
	shared.servers = nil
	return errors.Join(errs...)
}
