package dbtest

import (
	"os"
	"sync"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestSharedServerIsStartedOnceAndClosedAtTheEnd(t *testing.T) {
	install := Need(t, PG15)
	got := make([]*Server, 4)
	var asking sync.WaitGroup
	for i := range got {
		asking.Go(func() { got[i] = SharedT(t, install, "one", Options{}) })
	}
	asking.Wait()
	for _, s := range got {
		if s == nil || s != got[0] {
			t.Fatalf("servers %v, want one and the same", got)
		}
	}
	if other := SharedT(t, install, "other", Options{}); other == got[0] {
		t.Error("a server of another name is the same")
	}
	ExecT(t, got[0], "SELECT 1")
	if err := closeShared(); err != nil {
		t.Fatal(err)
	}
	if got[0].Running() {
		t.Error("a shared server runs on")
	}
	if _, err := os.Stat(got[0].dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", got[0].dir, err)
	}
}
