package daemon_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

// hands are clocks that a test moves.
type hands struct{ wall, running atomic.Int64 }

func (h *hands) read(began time.Time) status.Clocks {
	now := time.Now()
	return status.Clocks{Wall: now.Round(0).Add(time.Duration(h.wall.Load())), Running: now.Sub(began) + time.Duration(h.running.Load())}
}

// forward moves both clocks: so much time goes by.
func (h *hands) forward(d time.Duration) {
	h.wall.Add(int64(d))
	h.running.Add(int64(d))
}

// trust is what /api/v1/trust answers of us-1.
func (w *watch) trust(api http.Handler) (code int, answer map[string]any) {
	w.t.Helper()
	r := httptest.NewRecorder()
	api.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/api/v1/trust/shop/us-1", nil))
	if err := json.Unmarshal(r.Body.Bytes(), &answer); err != nil {
		w.t.Fatal(err)
	}
	return r.Code, answer
}

// Trust goes by what a group's loop says, so it ends when that does not come round, or when nobody knows how long ago it did.
func TestTrustEndsWithTheLoop(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: oneTable})
	var clocks hands
	began := time.Now()
	w := &watch{t: t, c: c, tune: func(o *monitor.Options) { o.Clocks = func() status.Clocks { return clocks.read(began) } }}
	w.start()
	w.exec("eu-1", items(1, 10))
	w.inStep()
	trusted := func() bool {
		code, _ := w.trust(w.daemon.API())
		return code == http.StatusOK
	}
	w.until("us-1 to be trusted", trusted)

	front, err := web.Listen(t.Context(), "127.0.0.1:0", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	front.Use(w.daemon.API())
	serving, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- front.Serve(serving) }()
	healthy := func() (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front.Addr()+"/-/healthy", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	goOn := w.hold()
	clocks.forward(status.MaxAge)
	w.untrusted("while the loop stands still")
	if code, says := healthy(); code != http.StatusOK {
		t.Errorf("a loop that is held up is no reason to start anew: %d %s", code, says)
	}
	clocks.forward(10 * time.Minute)
	if code, says := healthy(); code != http.StatusServiceUnavailable || !strings.Contains(says, "the loop of group shop has not come round for 10m") {
		t.Errorf("a loop that stands still: %d %s", code, says)
	}
	goOn()
	w.until("the loop to come round", func() bool { code, _ := healthy(); return code == http.StatusOK })
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
	w.until("us-1 to be trusted again", trusted)

	// What members said before the clock was set counts for nothing.
	goOn = w.hold()
	clocks.wall.Add(int64(time.Hour))
	w.untrusted("when the clock was set")
	goOn()
	w.until("members to be mistrusted", func() bool { return w.jumped.Load() == 1 })
	w.until("us-1 to be trusted again", trusted)
}

// hold has the loop of the first group stand still until what is returned is called.
func (w *watch) hold() (goOn func()) {
	w.t.Helper()
	stands, wait, went := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		went <- w.daemon.Inspect(context.WithoutCancel(w.t.Context()), func(*align.Ledger) error {
			close(stands)
			<-wait
			return nil
		})
	}()
	<-stands
	return func() {
		close(wait)
		if err := <-went; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *watch) untrusted(when string) {
	w.t.Helper()
	if code, answer := w.trust(w.daemon.API()); code != http.StatusServiceUnavailable || answer["reason"] != "stale_status" || answer["state"] != "unverified" {
		w.t.Errorf("%s the answer is %d %v", when, code, answer)
	}
}
