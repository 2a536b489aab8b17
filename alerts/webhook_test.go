package alerts_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/alerts"
	"lockstep/align"
	"lockstep/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// received is one request as the receiver saw it.
type received struct {
	header http.Header
	body   string
	id     string
	method string
}

// receiver is a server that notes what it is sent and answers as it is told.
type receiver struct {
	*httptest.Server
	got chan received
}

// path is what a receiver's URL keeps secret.
const path = "/hooks/T0PSECRET"

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	r := &receiver{got: make(chan received, 1000)}
	var mu sync.Mutex
	count := 0
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		var d align.Divergence
		json.Unmarshal(body, &d)
		r.got <- received{req.Header, string(body), d.ID + " " + d.State, req.Method}
		mu.Lock()
		count++
		n := count
		mu.Unlock()
		if answer != nil {
			answer(n, w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) url() string { return r.URL + path }

// next returns the next n requests.
func (r *receiver) next(n int) (list []received) {
	for range n {
		list = append(list, <-r.got)
	}
	return list
}

func names(list []received) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.id)
	}
	return ids
}

// outbox opens a store with the news of divergences in it.
func outbox(t *testing.T, dir string, news ...string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{Cache: 1 << 20})
	must(t, err)
	g, err := s.Group("shop")
	must(t, err)
	g.Receivers = true
	for _, text := range news {
		id, state, _ := strings.Cut(text, " ")
		must(t, g.Notify(&align.Finding{Divergence: align.Divergence{ID: id, State: state, Group: "shop"}}))
	}
	must(t, g.Commit())
	must(t, g.Close())
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// log is what was logged; it may be read once nothing writes to it.
type log = bytes.Buffer

// start runs a webhook with short pauses and returns what ends it; ending it checks that its context did.
func start(t *testing.T, h *alerts.Webhook) (stop func() string) {
	t.Helper()
	out := &log{}
	h.Logger = slog.New(slog.NewTextHandler(out, nil))
	h.Poll, h.FirstRetry, h.LastRetry = time.Millisecond, time.Millisecond, 4*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	return func() string {
		t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ends with %v", err)
		}
		return out.String()
	}
}

// settled waits until nothing is left to deliver.
func settled(t *testing.T, s *store.Store) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, err := s.Waiting()
		must(t, err)
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d notifications are left", n)
		}
		<-time.After(time.Millisecond)
	}
}

var four = []string{"01A open", "01B open", "01A resolved", "01C open"}

func TestNewsArriveInOrder(t *testing.T) {
	s := outbox(t, t.TempDir(), four...)
	defer s.Close()
	r := newReceiver(t, nil)
	stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s})
	got := r.next(4)
	settled(t, s)
	if logged := stop(); logged != "" {
		t.Errorf("a delivery is logged: %s", logged)
	}
	if !slices.Equal(names(got), four) {
		t.Errorf("received %q, want %q", names(got), four)
	}
	for _, g := range got {
		if g.method != http.MethodPost || g.header.Get("Content-Type") != "application/json" || g.header.Get("X-Lockstep-Signature") != "" {
			t.Errorf("%s with headers %v", g.method, g.header)
		}
	}
	var d map[string]any
	must(t, json.Unmarshal([]byte(got[0].body), &d))
	if d["id"] != "01A" || d["group"] != "shop" {
		t.Errorf("the body is %s, want the divergence of the API", got[0].body)
	}
}

// Whatever a receiver answers but 2xx, the news stay and hold up what comes after.
func TestNewsAreSentAgainUntilTheyAreTaken(t *testing.T) {
	for _, code := range []int{300, 301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			s := outbox(t, t.TempDir(), "01A open", "01B open")
			defer s.Close()
			r := newReceiver(t, func(n int, w http.ResponseWriter, req *http.Request) {
				if n <= 4 && req.Method == http.MethodPost {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(code)
				}
			})
			stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s})
			got := r.next(6)
			settled(t, s)
			logged := stop()
			if want := []string{"01A open", "01A open", "01A open", "01A open", "01A open", "01B open"}; !slices.Equal(names(got), want) {
				t.Errorf("received %q, want %q", names(got), want)
			}
			for _, g := range got[:5] {
				if key := g.header.Get("Idempotency-Key"); key != "01A-open" {
					t.Errorf("the key is %q, want 01A-open each time", key)
				}
			}
			if strings.Count(logged, "tries again") != 4 || !strings.Contains(logged, strconv.Itoa(code)) {
				t.Errorf("four refusals are logged as %s", logged)
			}
			silentOf(t, logged)
		})
	}
}

// silentOf checks that what was logged does not tell the receiver's secret path.
func silentOf(t *testing.T, logged string) {
	t.Helper()
	if strings.Contains(logged, "T0PSECRET") {
		t.Errorf("the log tells the URL: %s", logged)
	}
}

// http.Client once followed a redirect with a GET that carried no news, and its 200 counted as a delivery.
func TestRedirectIsNoDelivery(t *testing.T) {
	s := outbox(t, t.TempDir(), "01A open")
	defer s.Close()
	elsewhere := newReceiver(t, nil)
	r := newReceiver(t, func(_ int, w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, elsewhere.url(), http.StatusFound)
	})
	stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s})
	r.next(3)
	logged := stop()
	if n, err := s.Waiting(); err != nil || n != 1 || len(elsewhere.got) != 0 {
		t.Errorf("%d wait, %v; %d requests were redirected", n, err, len(elsewhere.got))
	}
	if !strings.Contains(logged, "does not follow: set alerts.webhook.url") {
		t.Errorf("the log does not say what to do: %s", logged)
	}
	silentOf(t, logged)
}

func TestSlowReceiverIsGivenUpAndTriedAgain(t *testing.T) {
	s := outbox(t, t.TempDir(), "01A open")
	defer s.Close()
	r := newReceiver(t, func(n int, _ http.ResponseWriter, req *http.Request) {
		if n <= 2 {
			<-req.Context().Done()
		}
	})
	stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s, Timeout: 50 * time.Millisecond})
	r.next(3)
	settled(t, s)
	silentOf(t, stop())
}

func TestReceiverThatIsDownIsTriedAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	s := outbox(t, t.TempDir(), "01A open")
	defer s.Close()
	stop := start(t, &alerts.Webhook{URL: "http://" + address + path, Outbox: s})
	for range 20 {
		<-time.After(time.Millisecond)
	}
	logged := stop()
	if !strings.Contains(logged, "connection refused") {
		t.Errorf("the log does not say why: %s", logged)
	}
	silentOf(t, logged)
	r := newReceiver(t, nil)
	stop = start(t, &alerts.Webhook{URL: r.url(), Outbox: s})
	r.next(1)
	settled(t, s)
	stop()
}

func TestURLsThatCannotWorkAreNotTold(t *testing.T) {
	for _, url := range []string{"://T0PSECRET", "gopher://host/T0PSECRET", "http://127.0.0.1:1/T0PSECRET", "http://127.0.0.1:99999/T0PSECRET", "http:///T0PSECRET", "http://[::1/T0PSECRET"} {
		s := outbox(t, t.TempDir(), "01A open")
		stop := start(t, &alerts.Webhook{URL: url, Outbox: s})
		for range 20 {
			<-time.After(time.Millisecond)
		}
		logged := stop()
		if !strings.Contains(logged, "tries again") {
			t.Errorf("%s: nothing is logged", url)
		}
		silentOf(t, logged)
		must(t, s.Close())
	}
}

func TestSignatureVerifiesWithTheSecretOfTheMoment(t *testing.T) {
	s := outbox(t, t.TempDir(), "01A open", "01B open")
	defer s.Close()
	r := newReceiver(t, nil)
	asked := 0
	stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s, Secret: func() ([]byte, error) {
		asked++
		return fmt.Appendf(nil, "secret %d", asked), nil
	}})
	got := r.next(2)
	settled(t, s)
	stop()
	for i, g := range got {
		stamp := g.header.Get("X-Lockstep-Timestamp")
		want := "sha256=" + hex.EncodeToString(alerts.Signature(fmt.Appendf(nil, "secret %d", i+1), stamp, []byte(g.body)))
		if g.header.Get("X-Lockstep-Signature") != want {
			t.Errorf("request %d is signed %s, want %s", i, g.header.Get("X-Lockstep-Signature"), want)
		}
		if sent, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(sent, 0)).Abs() > time.Minute {
			t.Errorf("the timestamp is %q", stamp)
		}
	}
}

// The value was computed with openssl dgst -sha256 -hmac.
func TestSignatureIsTheDocumentedOne(t *testing.T) {
	got := hex.EncodeToString(alerts.Signature([]byte("key"), "1700000000", []byte(`{"id":"01A"}`)))
	if want := "2e9e8c784b3164a6bc9c3c3f0ed19b797c46b04ecd51df1dc097efbb2f589eb0"; got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
}

func TestNothingIsSentUnsignedWhenTheSecretCannotBeRead(t *testing.T) {
	s := outbox(t, t.TempDir(), "01A open")
	defer s.Close()
	r := newReceiver(t, nil)
	asked := make(chan struct{}, 100)
	stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s, Secret: func() ([]byte, error) {
		asked <- struct{}{}
		if len(asked) < 3 {
			return nil, errors.New("secret_file is gone")
		}
		return []byte("back"), nil
	}})
	got := r.next(1)
	settled(t, s)
	logged := stop()
	if got[0].header.Get("X-Lockstep-Signature") == "" || strings.Count(logged, "secret_file is gone") != 2 {
		t.Errorf("sent with headers %v, logged %s", got[0].header, logged)
	}
}

// A receiver that took the news, but whose answer was lost with the process, is sent them again under the same key.
func TestNewsAreSentAgainAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := outbox(t, dir, "01A open", "01B open")
	r := newReceiver(t, func(n int, _ http.ResponseWriter, req *http.Request) {
		if n == 2 {
			<-req.Context().Done()
		}
	})
	stop := start(t, &alerts.Webhook{URL: r.url(), Outbox: s})
	before := r.next(2)
	if logged := stop(); logged != "" {
		t.Errorf("the end is logged as a failure: %s", logged)
	}
	must(t, s.Close())

	s = outbox(t, dir, "01C open")
	defer s.Close()
	stop = start(t, &alerts.Webhook{URL: r.url(), Outbox: s})
	after := r.next(2)
	settled(t, s)
	stop()
	if got, want := names(append(before, after...)), []string{"01A open", "01B open", "01B open", "01C open"}; !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
	if before[1].header.Get("Idempotency-Key") != after[0].header.Get("Idempotency-Key") {
		t.Error("the same news has another key after the restart")
	}
}

func TestRunEndsWhileItWaits(t *testing.T) {
	s := outbox(t, t.TempDir(), "01A open")
	defer s.Close()
	h := &alerts.Webhook{URL: "http://127.0.0.1:1" + path, Outbox: s}
	stop := start(t, h)
	stop()
	idle := outbox(t, t.TempDir())
	defer idle.Close()
	start(t, &alerts.Webhook{URL: "http://127.0.0.1:1" + path, Outbox: idle})()
}
