package daemon_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
)

const (
	stormTables = 100
	stormRows   = 100 // each by a transaction of its own, which makes each a divergence
)

// A replica into which 10,000 transactions are written by mistake: every one is a divergence, the API answers, memory
// stays within bounds, and the receiver gets few messages.
func TestSoakOfTenThousandDivergencesAtOnce(t *testing.T) {
	needSoak(t)
	var messages, bytes atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		messages.Add(1)
		bytes.Add(n)
	}))
	t.Cleanup(receiver.Close)
	var schema strings.Builder
	for i := range stormTables {
		fmt.Fprintf(&schema, "CREATE TABLE t%d (id int PRIMARY KEY, name text);", i)
	}
	c := startCluster(t, cluster.Options{
		Schema: schema.String(), Subscribers: 1, LagBudget: 2 * time.Second, Extra: fmt.Sprintf("alerts:\n  webhook:\n    - url: %q\n", receiver.URL),
	})
	w := startWatch(t, c)
	w.inStep()
	before := heap()
	began := time.Now()
	w.exec("us-1", fmt.Sprintf(`DO $$ BEGIN
		FOR r IN 1..%d LOOP FOR i IN 0..%d LOOP
			EXECUTE format('INSERT INTO t%%s VALUES (%%s, ''wrong'')', i, r * 10);
			COMMIT;
		END LOOP; END LOOP;
	END $$`, stormRows, stormTables-1))
	t.Logf("written after %v", time.Since(began).Round(time.Millisecond))

	var slowest atomic.Int64
	var asking sync.WaitGroup
	enough := make(chan struct{})
	asking.Go(func() {
		for {
			select {
			case <-enough:
				return
			case <-time.After(time.Second):
			}
			began := time.Now()
			for _, path := range []string{"/api/v1/groups", "/metrics", "/api/v1/divergences?state=open&limit=10"} {
				if code, _ := get(w, path); code != http.StatusOK {
					t.Errorf("%s answers with %d", path, code)
				}
			}
			slowest.Store(max(slowest.Load(), int64(time.Since(began))))
		}
	})
	open := func() int {
		for _, m := range w.daemon.Groups()[0].Status().Members {
			if m.Name == "us-1" {
				return m.Open[finding.Extra]
			}
		}
		return -1
	}
	w.until("10,000 divergences to be open", func() bool { return open() == stormTables*stormRows })
	w.until("the API to tell of all of them", func() bool {
		_, header := get(w, "/api/v1/divergences?state=open&limit=1")
		return header.Get("X-Total-Count") == fmt.Sprint(stormTables*stormRows)
	})
	t.Logf("all open after %v, heap %d MB more", time.Since(began).Round(time.Millisecond), (heap()-before)>>20)
	w.until("the receiver to hear of every table", func() bool { return messages.Load() > 0 })
	time.Sleep(3 * time.Second) // whatever else would be sent
	if n := messages.Load(); n > 4*stormTables {
		t.Errorf("%d messages were sent for %d tables", n, stormTables)
	}
	if grown := heap() - before; grown > 200<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
	var mend strings.Builder
	for i := range stormTables {
		fmt.Fprintf(&mend, "DELETE FROM t%d;", i)
	}
	w.exec("us-1", mend.String())
	w.until("all to be resolved", func() bool { return open() == 0 })
	close(enough)
	asking.Wait()
	t.Logf("%d messages of %d kB; the slowest three answers took %v", messages.Load(), bytes.Load()>>10, time.Duration(slowest.Load()).Round(time.Millisecond))
	w.replayed()
	w.checkDigests()
}

func get(w *watch, path string) (int, http.Header) {
	answer := httptest.NewRecorder()
	w.daemon.API().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return answer.Code, answer.Header()
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
