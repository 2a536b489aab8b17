package alerts_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/evidence"
)

func idle(s alerts.Status) bool { return s.Waiting == 0 && s.Sent > 0 }

func TestAReceiverIsToldOfEachAlertOnceAndWhenItIsOver(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url(), Name: "ops", ExternalURL: "https://lockstep.example"})
	defer closeStore()
	stop := w.run(w.notifier(r))
	defer stop()
	a, b, c := divergence(1, "us-1", "public.a"), divergence(2, "us-1", "public.a"), divergence(3, "us-1", "public.c")
	next := func(want string) request {
		t.Helper()
		got := <-p.got
		if spelt(t, got) != want {
			t.Errorf("told was %q, want %q", spelt(t, got), want)
		}
		return got
	}
	w.set(a)
	first := next("firing public.a 01000001")
	w.set(b, a) // more of the same table
	next("firing public.a 01000001 01000002")
	w.set(c, b, a)
	next("firing public.c 01000003")
	a = resolved(a)
	w.set(c, b, a) // less of it is no news
	b = resolved(b)
	w.set(c, b, a)
	over := next("resolved public.a 01000001 01000002")
	w.set(resolved(c), b, a)
	next("resolved public.c 01000003")
	w.set() // they are forgotten
	w.set(divergence(4, "us-1", "public.a"))
	next("firing public.a 01000004")
	if len(p.got) > 0 {
		t.Errorf("told was also %q", spelt(t, <-p.got))
	}

	m := parse(t, first)
	if m.Version != "4" || m.Status != "firing" || m.Receiver != "ops" || m.GroupLabels["group"] != "shop" || m.CommonLabels["table"] != "public.a" || m.ExternalURL != "https://lockstep.example" {
		t.Errorf("the message is %+v", m)
	}
	alert := m.Alerts[0]
	if alert.Annotations["key_ranges"] != `changed {"id":1}..{"id":1}` || !alert.EndsAt.IsZero() || !alert.StartsAt.Equal(a.ConfirmedAt) || alert.Fingerprint != parse(t, over).Alerts[0].Fingerprint {
		t.Errorf("the alert is %+v", alert)
	}
	if end := parse(t, over).Alerts[0].EndsAt; end.IsZero() {
		t.Error("the resolved alert has no end")
	}
	if first.method != http.MethodPost || first.header.Get("Content-Type") != "application/json" || first.header.Get("X-Lockstep-Signature") != "" {
		t.Errorf("%s with headers %v", first.method, first.header)
	}
	if w.logged.String() != "" {
		t.Errorf("deliveries are logged: %s", w.logged.String())
	}
}

// Whatever a receiver answers but 2xx, the news stay.
func TestNewsAreToldAgainUntilTheyAreTaken(t *testing.T) {
	for _, code := range []int{300, 301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			w := newWorld(t)
			p := newPlace(t, func(n int, w http.ResponseWriter, r *http.Request) {
				if n <= 4 && r.Method == http.MethodPost {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(code)
				}
			})
			r, closeStore := w.receiver(&alerts.Webhook{URL: p.url()})
			defer closeStore()
			w.set(divergence(1, "us-1", "public.a"))
			stop := w.run(w.notifier(r))
			keys := map[string]int{}
			for range 5 {
				got := <-p.got
				keys[got.header.Get("Idempotency-Key")+" "+spelt(t, got)]++
			}
			w.until(r, "all to be told", idle)
			stop()
			if len(keys) != 1 || len(p.got) != 0 {
				t.Errorf("requests were %v and %d more, want the same five times", keys, len(p.got))
			}
			logged := w.logged.String()
			if strings.Count(logged, "tries again") != 4 || !strings.Contains(logged, strconv.Itoa(code)) {
				t.Errorf("four refusals are logged as %s", logged)
			}
			if s := r.Status(); s.Failed != 4 || s.Sent != 1 || s.LastError != "" || s.Kind != "webhook" || s.LastSuccess.IsZero() {
				t.Errorf("the status is %+v", s)
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

// A message that a receiver does not want, though it works, does not keep others from it.
func TestARefusedMessageDoesNotHoldUpOthers(t *testing.T) {
	w := newWorld(t)
	p := newPlace(t, nil)
	refusing := make(chan bool, 1)
	refusing <- true
	p.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		var event struct{ Payload struct{ Component string } }
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			t.Error(err)
		}
		refuses := <-refusing
		refusing <- refuses
		if refuses && event.Payload.Component == "public.a" {
			http.Error(out, "no such component", http.StatusBadRequest)
			return
		}
		p.got <- request{body: []byte(event.Payload.Component)}
	})
	r, closeStore := w.receiver(&alerts.PagerDuty{URL: p.url(), RoutingKey: func() (string, error) { return "R", nil }})
	defer closeStore()
	w.set(divergence(1, "us-1", "public.a"), divergence(2, "us-1", "public.b"))
	defer w.run(w.notifier(r))()
	if got := <-p.got; string(got.body) != "public.b" {
		t.Errorf("told was %s", got.body)
	}
	w.until(r, "one to wait", func(s alerts.Status) bool {
		return s.Waiting == 1 && strings.Contains(s.LastError, "400 Bad Request: no such component")
	})
	<-refusing
	refusing <- false
	if got := <-p.got; string(got.body) != "public.a" {
		t.Errorf("told was %s", got.body)
	}
	w.until(r, "none to wait", idle)
}

// http.Client once followed a redirect with a GET that carried no news, and its 200 counted as a delivery.
func TestRedirectIsNoDelivery(t *testing.T) {
	w, elsewhere := newWorld(t), newPlace(t, nil)
	p := newPlace(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.url(), http.StatusFound)
	})
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url()})
	defer closeStore()
	w.set(divergence(1, "us-1", "public.a"))
	stop := w.run(w.notifier(r))
	for range 3 {
		<-p.got
	}
	stop()
	if r.Status().Waiting != 1 || len(elsewhere.got) != 0 {
		t.Errorf("%+v; %d requests were redirected", r.Status(), len(elsewhere.got))
	}
	if logged := w.logged.String(); !strings.Contains(logged, "does not follow: set alerts.webhook[].url") {
		t.Errorf("the log does not say what to do: %s", logged)
	}
	silentOf(t, w.logged.String())
}

func TestSlowReceiverIsGivenUpAndTriedAgain(t *testing.T) {
	w := newWorld(t)
	p := newPlace(t, func(n int, _ http.ResponseWriter, r *http.Request) {
		if n <= 2 {
			<-r.Context().Done()
		}
	})
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url(), Timeout: 50 * time.Millisecond})
	defer closeStore()
	w.set(divergence(1, "us-1", "public.a"))
	stop := w.run(w.notifier(r))
	w.until(r, "all to be told", idle)
	stop()
	silentOf(t, w.logged.String())
}

func TestReceiversThatCannotBeReachedAreTriedAgainAndNotNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := l.Addr().String()
	must(t, l.Close())
	secure := httptest.NewTLSServer(http.NotFoundHandler()) // whose certificate nobody has signed
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	for url, why := range map[string]string{
		"http://" + closed + path: "connection refused", "://T0PSECRET": "check alerts.webhook[].url", "gopher://host/T0PSECRET": "unsupported protocol",
		"http://127.0.0.1:99999/T0PSECRET": "invalid port", "http:///T0PSECRET": "no Host", "http://[::1/T0PSECRET": "check alerts.webhook[].url",
		secure.URL + path: "certificate",
	} {
		w := newWorld(t)
		r, closeStore := w.receiver(&alerts.Webhook{URL: url})
		w.set(divergence(1, "us-1", "public.a"))
		stop := w.run(w.notifier(r))
		w.until(r, "three failures", func(s alerts.Status) bool { return s.Failed >= 3 })
		stop()
		if s := r.Status(); !strings.Contains(s.LastError, why) || s.Waiting != 1 {
			t.Errorf("%s: %+v, want: %s", url, s, why)
		}
		silentOf(t, w.logged.String()+r.Status().LastError)
		closeStore()
	}
}

func TestSignatureVerifiesWithTheSecretOfTheMoment(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	asked := 0
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url(), Secret: func() ([]byte, error) {
		asked++
		if asked == 1 {
			return nil, errors.New("secret_file is gone")
		}
		return fmt.Appendf(nil, "secret %d", asked), nil
	}})
	defer closeStore()
	w.set(divergence(1, "us-1", "public.a"))
	stop := w.run(w.notifier(r))
	got := <-p.got
	stop()
	stamp := got.header.Get("X-Lockstep-Timestamp")
	want := "sha256=" + hex.EncodeToString(alerts.Signature([]byte("secret 2"), stamp, got.body))
	if got.header.Get("X-Lockstep-Signature") != want {
		t.Errorf("the request is signed %s, want %s", got.header.Get("X-Lockstep-Signature"), want)
	}
	if sent, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(sent, 0)).Abs() > time.Minute {
		t.Errorf("the timestamp is %q", stamp)
	}
	if !strings.Contains(w.logged.String(), "secret_file is gone") {
		t.Errorf("that the secret could not be read is not logged: %s", w.logged.String())
	}
}

// The value was computed with openssl dgst -sha256 -hmac.
func TestSignatureIsTheDocumentedOne(t *testing.T) {
	got := hex.EncodeToString(alerts.Signature([]byte("key"), "1700000000", []byte(`{"id":"01A"}`)))
	if want := "2e9e8c784b3164a6bc9c3c3f0ed19b797c46b04ecd51df1dc097efbb2f589eb0"; got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
}

// What a receiver took is not told again after a restart; what it may not have taken is, under the same key.
func TestWhatWasToldIsKeptOverARestart(t *testing.T) {
	w := newWorld(t)
	p := newPlace(t, func(n int, _ http.ResponseWriter, r *http.Request) {
		if n == 2 {
			<-r.Context().Done()
		}
	})
	a, b := divergence(1, "us-1", "public.a"), divergence(2, "us-1", "public.b")
	w.set(a)
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url()})
	stop := w.run(w.notifier(r))
	w.until(r, "the first to be told", idle)
	w.set(a, b)
	before := []request{<-p.got, <-p.got}
	stop()
	closeStore()

	r, closeStore = w.receiver(&alerts.Webhook{URL: p.url()})
	defer closeStore()
	stop = w.run(w.notifier(r))
	after := <-p.got
	w.until(r, "all to be told", idle)
	w.set(b) // meanwhile the first was resolved so long ago that it is not in the list any more
	last := <-p.got
	stop()
	var told []string
	for _, got := range append(before, after, last) {
		told = append(told, spelt(t, got))
	}
	if want := []string{"firing public.a 01000001", "firing public.b 01000002", "firing public.b 01000002", "resolved public.a 01000001"}; !slices.Equal(told, want) {
		t.Errorf("told was %q, want %q", told, want)
	}
	if before[1].header.Get("Idempotency-Key") != after.header.Get("Idempotency-Key") {
		t.Error("the same news has another key after the restart")
	}
}

// What fires and is over while a receiver is away is told when it is back, over a restart of lockstep too; a pager is not
// called for it.
func TestWhatHappensWhileAReceiverIsAwayIsToldOnce(t *testing.T) {
	w := newWorld(t)
	away := make(chan bool, 1)
	away <- true
	p := newPlace(t, nil)
	p.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		is := <-away
		away <- is
		if is {
			http.Error(out, "not now", http.StatusServiceUnavailable)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		p.got <- request{r.Header, r.Method, body}
	})
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url()})
	stop := w.run(w.notifier(r))
	a, b := divergence(1, "us-1", "public.a"), divergence(2, "us-1", "public.b")
	w.set(b, a)
	w.until(r, "failures", func(s alerts.Status) bool { return s.Failed > 1 && s.Waiting == 2 })
	a = resolved(a)
	w.set(b, a)
	w.until(r, "failures", func(s alerts.Status) bool { return s.Failed > 4 })
	stop()
	closeStore()

	r, closeStore = w.receiver(&alerts.Webhook{URL: p.url()})
	stop = w.run(w.notifier(r))
	w.until(r, "failures", func(s alerts.Status) bool { return s.Failed > 0 })
	<-away
	away <- false
	got := <-p.got
	if want := "resolved public.a 01000001, firing public.b 01000002"; spelt(t, got) != want {
		t.Errorf("told was %q, want %q", spelt(t, got), want)
	}
	w.until(r, "all to be told", idle)
	stop()
	closeStore()

	r, closeStore = w.receiver(&alerts.Webhook{URL: p.url()})
	defer closeStore()
	w.set(divergence(3, "us-1", "public.c"), b, a)
	defer w.run(w.notifier(r))()
	if got := <-p.got; spelt(t, got) != "firing public.c 01000003" {
		t.Errorf("after another restart told was %q", spelt(t, got))
	}
}

// A table was taken out of the configuration and in again: that a divergence of before was forgotten is not how the next one ended.
func TestAnAlertEndsAsWhatItWasAboutDid(t *testing.T) {
	for kind, channel := range map[string]func(url string) alerts.Channel{
		"webhook": func(url string) alerts.Channel { return &alerts.Webhook{URL: url} },
		"slack":   func(url string) alerts.Channel { return &alerts.Slack{URL: constant(url)} },
	} {
		t.Run(kind, func(t *testing.T) {
			w, p := newWorld(t), newPlace(t, nil)
			r, closeStore := w.receiver(channel(p.url()))
			defer closeStore()
			defer w.run(w.notifier(r))()
			says := func(which string, lost bool) {
				t.Helper()
				body := string((<-p.got).body)
				if said := strings.Contains(body, "not watched any more") || strings.Contains(body, "No longer known"); said != lost {
					t.Errorf("%s: that its rows are not known is told: %v, in %s", which, said, body)
				}
			}
			before, now := divergence(1, "us-1", "public.a"), later(divergence(2, "us-1", "public.a"))
			w.set(before)
			says("the first", false)
			w.set(forgotten(before))
			says("the first is over", true)
			w.set(now, forgotten(before))
			says("the second", false)
			w.set(resolved(now), forgotten(before))
			says("the second is over", false)
			third := later(divergence(3, "us-1", "public.a"))
			w.set(third, resolved(now), forgotten(before))
			says("the third", false)
			w.set(forgotten(later(divergence(4, "us-1", "public.a"))), resolved(third), resolved(now), forgotten(before))
			says("the third is over, and what came in its place unseen", true)
		})
	}
}

func TestAReceiverIsToldOfWhatItWants(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	r, closeStore := w.receiver(&alerts.Webhook{URL: p.url()})
	defer closeStore()
	r.Wants = func(a *alerts.Alert) bool { return a.Labels["table"] == "public.b" }
	n := w.notifier(r)
	n.Watchdog = true
	w.set(divergence(1, "us-1", "public.a"), divergence(2, "us-1", "public.b"))
	stop := w.run(n)
	got := <-p.got
	w.until(r, "all to be told", idle)
	stop()
	if spelt(t, got) != "firing public.b 01000002" || len(p.got) > 0 {
		t.Errorf("told was %q and %d more", spelt(t, got), len(p.got))
	}
}

// Ten thousand divergences at once are a bounded number of messages of bounded size, on every channel.
func TestTenThousandDivergencesAreFewMessages(t *testing.T) {
	for name, c := range map[string]struct {
		channel func(url string) alerts.Channel
		most    int
	}{
		"webhook":   {func(url string) alerts.Channel { return &alerts.Webhook{URL: url} }, 1},
		"pagerduty": {func(url string) alerts.Channel { return &alerts.PagerDuty{URL: url, RoutingKey: constant("R")} }, 51},
		"slack":     {func(url string) alerts.Channel { return &alerts.Slack{URL: constant(url)} }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := newWorld(t), newPlace(t, nil)
			r, closeStore := w.receiver(c.channel(p.url()))
			defer closeStore()
			w.storm(10_000)
			stop := w.run(w.notifier(r))
			w.until(r, "all to be told", idle)
			stop()
			if len(p.got) != c.most {
				t.Errorf("%d messages were sent, want %d", len(p.got), c.most)
			}
			for range len(p.got) {
				if got := <-p.got; len(got.body) > 512_000 {
					t.Errorf("a message has %d bytes", len(got.body))
				}
			}
		})
	}
}

func constant(s string) func() (string, error) { return func() (string, error) { return s, nil } }

func TestPagerDutyHasOneIncidentForEachAlert(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	r, closeStore := w.receiver(&alerts.PagerDuty{URL: p.url(), RoutingKey: constant("R0UTING")})
	defer closeStore()
	d := divergence(1, "us-1", "public.a")
	w.set(d)
	defer w.run(w.notifier(r))()
	type event struct {
		RoutingKey  string `json:"routing_key"`
		EventAction string `json:"event_action"`
		DedupKey    string `json:"dedup_key"`
		Payload     *struct {
			Summary, Source, Severity, Component, Group, Class string
			CustomDetails                                      map[string]string `json:"custom_details"`
		}
	}
	next := func() (e event) {
		got := <-p.got
		must(t, json.Unmarshal(got.body, &e))
		return e
	}
	trigger := next()
	w.set(resolved(d))
	resolve := next()
	if trigger.RoutingKey != "R0UTING" || trigger.EventAction != "trigger" || trigger.Payload == nil || resolve.EventAction != "resolve" || resolve.DedupKey != trigger.DedupKey || resolve.Payload != nil {
		t.Fatalf("events are %+v and %+v", trigger, resolve)
	}
	if got := *trigger.Payload; !strings.HasPrefix(got.Summary, "LockstepDiverged public.a on us-1 of group shop: changed: 1 row ") || got.Source != "us-1" || got.Severity != "critical" ||
		got.Component != "public.a" || got.CustomDetails["key_ranges"] != `changed {"id":1}..{"id":1}` {
		t.Errorf("the payload is %+v", got)
	}
}

func TestSlackIsToldWithoutMarkupFromRows(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	r, closeStore := w.receiver(&alerts.Slack{URL: constant(p.url())})
	defer closeStore()
	d := divergence(1, "us-1", "public.<!channel>")
	d.Ranges[0].First = json.RawMessage("{\"name\":\"```<@U1> & co\"}")
	w.set(d)
	defer w.run(w.notifier(r))()
	var m struct {
		Text   string
		Blocks []struct {
			Type string
			Text struct{ Type, Text string }
		}
	}
	must(t, json.Unmarshal((<-p.got).body, &m))
	if len(m.Blocks) != 1 || m.Blocks[0].Text.Type != "mrkdwn" {
		t.Fatalf("the message is %+v", m)
	}
	text := m.Blocks[0].Text.Text
	if strings.Contains(text+m.Text, "<!channel>") || strings.Contains(text, "<@U1>") || strings.Count(text, "```") != 2 ||
		!strings.Contains(text, "&lt;@U1&gt; &amp; co") || !strings.Contains(text, "<https://lockstep.example/api/v1/divergences?group=shop&amp;member=us-1&amp;table=public.%3C%21channel%3E|LockstepDiverged public.&lt;!channel&gt; on us-1") {
		t.Errorf("the message is %s", text)
	}
	for _, want := range []string{"\nIntroduced by `0/1`\n", "\n<https://github.com/lockstep-cdc/lockstep/blob/main/docs/runbooks/LockstepRowsDiffer.md|What to do>\n```"} {
		if !strings.Contains(text, want) {
			t.Errorf("the message lacks %q: %s", want, text)
		}
	}
	w.set(forgotten(d))
	must(t, json.Unmarshal((<-p.got).body, &m))
	if want := "No longer known: LockstepDiverged public.&lt;!channel&gt; on us-1"; !strings.HasPrefix(m.Text, want) {
		t.Errorf("of a table that is not watched any more it says %q", m.Text)
	}
}

func TestAMemoryThatFailsEndsTheNotifier(t *testing.T) {
	w, p := newWorld(t), newPlace(t, nil)
	r := &alerts.Receiver{Name: "ops", Channel: &alerts.Webhook{URL: p.url()}, Memory: broken{}, Logger: w.logger()}
	w.set(divergence(1, "us-1", "public.a"))
	if err := w.notifier(r).Run(context.Background()); !errors.Is(err, errBroken) {
		t.Errorf("Run ends with %v", err)
	}
}

var errBroken = errors.New("disk is full")

type broken struct{}

func (broken) Told(string) (map[string][]byte, error) { return nil, nil }
func (broken) SetTold(string, map[string][]byte, ...evidence.Event) error {
	return errBroken
}
