package alerts

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/prometheus/alertmanager/api/v2/models"

	"lockstep/align"
)

// How Prometheus tells Alertmanager of its alerts, which Alertmanager is made for: they are sent again every minute with
// an end that is four of these minutes away, so that they end by themselves if the sender does; what is resolved is sent for a
// quarter of an hour more (https://prometheus.io/docs/alerting/latest/clients/, and Prometheus' rules/alerting.go).
const (
	resendEvery    = time.Minute
	resolvedFor    = 15 * time.Minute
	alertsPerBatch = 64
)

// Alertmanager tells every instance of a list of all that is open, whatever was told before: no instance has to remember
// anything, and one that was away for weeks knows all with the next message. Divergences are durable in the store, so
// nothing is lost if lockstep or an instance is killed.
type Alertmanager struct {
	Instances []Instance
	// Divergences yields those of all groups until yield returns false; News counts the commits that opened or resolved
	// some. Both may be called from any goroutine.
	Divergences func(yield func(*align.Divergence) bool) error
	News        func() uint64
	ExternalURL string // where people reach lockstep; empty: alerts carry no link
	Logger      *slog.Logger

	Timeout time.Duration // of one request; 0: 10 s
	Poll    time.Duration // pause between looks for news; 0: 250 ms
	Resend  time.Duration // 0: a minute

	sent, failed atomic.Int64 // messages
}

// Instance is one Alertmanager.
type Instance struct {
	URL      string // to which /api/v2/alerts is added
	User     string // empty: no authentication
	Password func() (string, error)
}

// Sent returns how many messages were taken, and how many were not.
func (a *Alertmanager) Sent() (taken, failed int64) { return a.sent.Load(), a.failed.Load() }

// Run tells until ctx ends.
func (a *Alertmanager) Run(ctx context.Context) error {
	client := &http.Client{
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		Timeout:       cmp.Or(a.Timeout, 10*time.Second),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	var senders sync.WaitGroup
	defer senders.Wait()
	var feeds []chan []*told
	for _, to := range a.Instances {
		feed := make(chan []*told, 1) // the newest state; an older one that was not sent yet is of no use
		feeds = append(feeds, feed)
		senders.Go(func() { a.deliver(ctx, client, to, feed) })
	}
	var news uint64
	var due time.Time
	for {
		now, told, err := time.Now(), []*told(nil), error(nil)
		if n := a.News(); n != news || !now.Before(due) {
			if told, err = a.state(now); err != nil {
				return err
			}
			news, due = n, now.Add(cmp.Or(a.Resend, resendEvery))
			for _, feed := range feeds {
				replace(feed, told)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(cmp.Or(a.Poll, 250*time.Millisecond)):
		}
	}
}

// replace puts the newest state into a channel that holds one.
func replace(feed chan []*told, state []*told) {
	select {
	case <-feed:
	default:
	}
	feed <- state
}

// state words all that is open, and what was resolved a short while ago.
func (a *Alertmanager) state(now time.Time) ([]*told, error) {
	list, err := gather(a.Divergences, now.Add(-resolvedFor))
	if err != nil {
		return nil, err
	}
	return tell(list, a.ExternalURL), nil
}

// deliver sends states to one instance. An instance that does not answer is tried again, with longer and longer pauses,
// but always with the newest state.
func (a *Alertmanager) deliver(ctx context.Context, client *http.Client, to Instance, feed <-chan []*told) {
	var state []*told
	firing := make(map[string]*told) // what the instance has been told fires
	var retry <-chan time.Time
	pause := time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case state = <-feed:
		case <-retry:
		}
		retry = nil
		now := time.Now()
		all := append(slices.Clone(state), ended(firing, state, now)...)
		if err := a.send(ctx, client, to, all, now); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.failed.Add(1)
			a.Logger.Warn("Alertmanager did not take the alerts; lockstep tries again", "url", to.shown(), "err", err.Error(), "retry_in", pause.String())
			retry = time.After(pause)
			pause = min(2*pause, cmp.Or(a.Resend, resendEvery))
			continue
		}
		pause = time.Second
		clear(firing)
		for _, t := range state {
			if t.ends.IsZero() {
				firing[t.key()] = t
			}
		}
	}
}

// ended returns what an instance was told fires and is not part of the state any more, such as the alert that many tables
// share.
func ended(firing map[string]*told, state []*told, now time.Time) (list []*told) {
	for key, t := range firing {
		if !slices.ContainsFunc(state, func(s *told) bool { return s.key() == key }) {
			over := *t
			over.ends = now
			list = append(list, &over)
		}
	}
	return list
}

func (a *Alertmanager) send(ctx context.Context, client *http.Client, to Instance, state []*told, now time.Time) error {
	for batch := range slices.Chunk(state, alertsPerBatch) {
		alerts := make(models.PostableAlerts, len(batch))
		for i, t := range batch {
			alerts[i] = t.postable(now.Add(4 * cmp.Or(a.Resend, resendEvery)))
		}
		body, err := json.Marshal(alerts)
		if err != nil {
			return err
		}
		if err := a.post(ctx, client, to, body); err != nil {
			return err
		}
		a.sent.Add(1)
	}
	return nil
}

func (t *told) postable(until time.Time) *models.PostableAlert {
	if !t.ends.IsZero() {
		until = t.ends
	}
	return &models.PostableAlert{
		Alert:       models.Alert{Labels: t.labels, GeneratorURL: strfmt.URI(t.url)},
		Annotations: t.annotations,
		StartsAt:    strfmt.DateTime(t.starts),
		EndsAt:      strfmt.DateTime(until),
	}
}

func (a *Alertmanager) post(ctx context.Context, client *http.Client, to Instance, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(to.URL, "/")+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the URL cannot be used: check alerts.alertmanager")
	}
	req.Header.Set("Content-Type", "application/json")
	if to.User != "" {
		password, err := to.Password()
		if err != nil {
			return err
		}
		req.SetBasicAuth(to.User, password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch {
	case resp.StatusCode/100 == 3:
		return fmt.Errorf("it answered %s, which lockstep does not follow: set the url in alerts.alertmanager to where it points", resp.Status)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("it answered %s: %s", resp.Status, bytes.TrimSpace(answer))
	case err != nil:
		return withoutURL(err)
	}
	return nil
}

// shown is the instance's address without what may be secret.
func (to Instance) shown() string {
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(to.URL, "https://"), "http://"), "/")
	return host
}
