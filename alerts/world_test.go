package alerts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// path is what a receiver's URL keeps secret.
const path = "/hooks/T0PSECRET"

// request is one as a receiver saw it.
type request struct {
	header http.Header
	method string
	body   []byte
}

// place is a server that notes what it is sent and answers as it is told.
type place struct {
	*httptest.Server
	got chan request
}

func newPlace(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *place {
	p := &place{got: make(chan request, 10_000)}
	var mu sync.Mutex
	count := 0
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		p.got <- request{r.Header, r.Method, body}
		mu.Lock()
		count++
		n := count
		mu.Unlock()
		if answer != nil {
			answer(n, w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *place) url() string { return p.URL + path }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is divergences, as a store would have them, and somebody who is to be told.
type world struct {
	t      *testing.T
	dir    string
	mu     sync.Mutex
	list   []*finding.Divergence // guarded by mu
	news   uint64                // guarded by mu
	logged safeBuffer
}

// safeBuffer is a log that may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newWorld(t *testing.T) *world { return &world{t: t, dir: t.TempDir()} }

// set makes these all the divergences that there are.
func (w *world) set(list ...*finding.Divergence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list, w.news = slices.Clone(list), w.news+1
}

func (w *world) notifier(sinks ...alerts.Sink) *alerts.Notifier {
	return &alerts.Notifier{
		Divergences: func(yield func(*finding.Divergence) bool) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, d := range w.list {
				if !yield(d) {
					break
				}
			}
			return nil
		},
		News: func() uint64 {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.news
		},
		ExternalURL: "https://lockstep.example", Sinks: sinks, Poll: time.Millisecond, Resend: 20 * time.Millisecond,
	}
}

// run runs a notifier; what it returns ends it.
func (w *world) run(n *alerts.Notifier) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	return func() {
		w.t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run ends with %v", err)
		}
	}
}

// logger writes to what the test can read.
func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&w.logged, nil)) }

// receiver tells a channel; what it was told is kept in a store, as long as the test does not take another folder.
func (w *world) receiver(c alerts.Channel) (r *alerts.Receiver, closeStore func()) {
	s, err := store.Open(w.dir, store.Options{Cache: 1 << 20})
	must(w.t, err)
	return &alerts.Receiver{
		Name: "ops", Channel: c, Memory: s, Logger: w.logger(), FirstRetry: time.Millisecond, LastRetry: 4 * time.Millisecond,
	}, func() { must(w.t, s.Close()) }
}

// until waits for a state of a receiver.
func (w *world) until(r alerts.Sink, what string, reached func(alerts.Status) bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !reached(r.Status()); {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited for %s: %+v\n%s", what, r.Status(), w.logged.String())
		}
		<-time.After(time.Millisecond)
	}
}

func divergence(n int, member, table string) *finding.Divergence {
	at := time.Now().Add(-time.Minute).Add(time.Duration(n) * time.Millisecond).Truncate(time.Millisecond)
	return &finding.Divergence{
		ID: fmt.Sprintf("01%06d", n), Group: "shop", Member: member, Table: table, Reference: "eu-1", State: finding.Open,
		Kind: finding.Changed, Cause: finding.CauseApply, Keys: 1, FirstSeen: at, ConfirmedAt: at,
		Ranges:       []finding.Range{{First: json.RawMessage(fmt.Sprintf(`{"id":%d}`, n)), Last: json.RawMessage(fmt.Sprintf(`{"id":%d}`, n))}},
		IntroducedBy: &finding.Introduced{Transaction: fmt.Sprintf("0/%X", n)},
	}
}

func resolved(d *finding.Divergence) *finding.Divergence {
	over, at := *d, time.Now().Truncate(time.Millisecond)
	if at.Before(d.ConfirmedAt) {
		at = d.ConfirmedAt.Add(time.Minute)
	}
	over.State, over.ResolvedAt = finding.Resolved, &at
	return &over
}

// forgotten is not watched any more.
func forgotten(d *finding.Divergence) *finding.Divergence {
	over := resolved(d)
	over.Outcome = finding.Forgotten
	return over
}

// later was seen, and confirmed, once what is resolved now was over.
func later(d *finding.Divergence) *finding.Divergence {
	next, at := *d, time.Now().Add(time.Minute).Truncate(time.Millisecond)
	next.FirstSeen, next.ConfirmedAt = at, at
	return &next
}

// message is what a webhook is sent.
type message struct {
	Version, GroupKey, Status, Receiver, ExternalURL string
	GroupLabels, CommonLabels, CommonAnnotations     map[string]string
	Alerts                                           []messageAlert
}

type messageAlert struct {
	Status, GeneratorURL, Fingerprint string
	Labels, Annotations               map[string]string
	StartsAt, EndsAt                  time.Time
}

func parse(t *testing.T, r request) (m message) {
	t.Helper()
	must(t, json.Unmarshal(r.body, &m))
	return m
}

// spelt says what a message tells, shortly.
func spelt(t *testing.T, r request) string {
	t.Helper()
	var list []string
	for _, a := range parse(t, r).Alerts {
		list = append(list, a.Status+" "+a.Labels["table"]+" "+a.Annotations["divergences"])
	}
	return strings.Join(list, ", ")
}
