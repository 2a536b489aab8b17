package alerts

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// alertsPerBatch is how many alerts one message has at most.
const alertsPerBatch = 64

// Alertmanager is one instance. Every instance of a cluster is told all that is open, whatever was told before: none has to
// remember anything, and one that was away for weeks knows all with the next message.
type Alertmanager struct {
	URL      string // to which /api/v2/alerts is added
	User     string // empty: no authentication
	Password func() (string, error)
	// Record keeps entries of the audit log; nil: there is none.
	Record func(...evidence.Event) error
	Logger *slog.Logger

	Timeout time.Duration // of one message; 0: 10 s
	Resend  time.Duration // see [Notifier]

	tally
}

// Status implements [Sink].
func (a *Alertmanager) Status() Status { return a.status(a.shown(), "alertmanager") }

// run tells the instance. If it does not answer it is tried again, with longer and longer pauses, but always with the
// newest state.
func (a *Alertmanager) run(ctx context.Context, feed <-chan state) error {
	var state []*Alert
	firing := make(map[string]*Alert) // what the instance has been told fires
	told := make(map[string]string)   // the news of each alert that it has taken
	var retry <-chan time.Time
	pause := time.Second
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-feed:
			state = recent(s)
		case <-retry:
		}
		retry = nil
		now := time.Now()
		all := append(slices.Clone(state), ended(firing, state, now)...)
		if err := a.send(ctx, all, now); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			a.waiting.Store(int64(len(all)))
			a.Logger.Warn("Alertmanager did not take the alerts; lockstep tries again", "url", a.shown(), "err", err.Error(), "retry_in", pause.String())
			retry = time.After(pause)
			pause = min(2*pause, cmp.Or(a.Resend, resendEvery))
			continue
		}
		a.waiting.Store(0)
		pause = time.Second
		if err := a.record(told, all); err != nil {
			return err
		}
		clear(firing)
		for _, t := range state {
			if t.Firing() {
				firing[t.key()] = t
			}
		}
	}
}

// record keeps what is new to the instance among the alerts that it has taken, most of which it was told before.
func (a *Alertmanager) record(told map[string]string, all []*Alert) error {
	var fresh []News
	taken := make(map[string]string)
	for _, t := range all {
		if t.Labels["alertname"] == WatchdogAlert {
			continue
		}
		n := newsOf(t)
		if told[t.key()] != n.ID {
			fresh = append(fresh, n)
		}
		taken[t.key()] = n.ID
	}
	clear(told)
	maps.Copy(told, taken)
	if a.Record == nil || len(fresh) == 0 {
		return nil
	}
	return a.Record(delivered(a.shown(), "alertmanager", fresh)...)
}

func (a *Alertmanager) recall() error { return nil }

func (a *Alertmanager) since(now time.Time) time.Time { return now.Add(-resolvedFor) }

// recent leaves out what was resolved long ago.
func recent(s state) []*Alert {
	return slices.DeleteFunc(slices.Clone(s.alerts), func(a *Alert) bool {
		return !a.Firing() && a.Ends.Before(s.at.Add(-resolvedFor))
	})
}

// ended returns what somebody was told fires and is not part of the state any more, such as the alert that many tables
// share, or one of a group that is not watched any more.
func ended(firing map[string]*Alert, state []*Alert, now time.Time) (list []*Alert) {
	for key, t := range firing {
		if !slices.ContainsFunc(state, func(s *Alert) bool { return s.key() == key }) {
			over := *t
			over.Ends = now
			list = append(list, &over)
		}
	}
	return list
}

func (a *Alertmanager) send(ctx context.Context, state []*Alert, now time.Time) error {
	for batch := range slices.Chunk(state, alertsPerBatch) {
		alerts := make([]postable, len(batch))
		for i, t := range batch {
			alerts[i] = t.postable(now.Add(4 * cmp.Or(a.Resend, resendEvery)))
		}
		body, err := json.Marshal(alerts)
		if err != nil {
			return err
		}
		to := poster{key: "alerts.alertmanager[].url", timeout: a.Timeout}
		if err := to.post(ctx, strings.TrimSuffix(a.URL, "/")+"/api/v2/alerts", body, a.authenticate); err != nil {
			a.refused(err)
			return err
		}
		a.took()
	}
	return nil
}

func (a *Alertmanager) authenticate(req *http.Request) error {
	if a.User == "" {
		return nil
	}
	password, err := a.Password()
	if err == nil {
		req.SetBasicAuth(a.User, password)
	}
	return err
}

// postable is postableAlert of Alertmanager's api/v2/openapi.yaml. Its own models bring 30 packages along for these five fields.
type postable struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

func (a *Alert) postable(until time.Time) postable {
	if !a.Firing() {
		until = a.Ends
	}
	return postable{a.Labels, a.Annotations, a.Starts.UTC(), until.UTC(), a.URL}
}

// shown is the instance's address without what may be secret.
func (a *Alertmanager) shown() string {
	if u, err := url.Parse(a.URL); err == nil {
		return u.Host
	}
	return "alertmanager"
}
