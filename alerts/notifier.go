// Package alerts tells receivers of divergences.
//
// What there is to tell is derived, again and again, from the divergences that the store keeps: one alert for each table of
// a member. No queue can overflow, and nothing is lost when lockstep or a receiver is killed or away for weeks. Alertmanager
// is told all of it every minute; other receivers are told what is new to them, and what each was told is kept.
package alerts

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/finding"
)

// Notifier keeps receivers informed.
type Notifier struct {
	// Divergences yields those of all groups until yield returns false; News counts the commits that opened or resolved
	// some. Both may be called from any goroutine.
	Divergences func(yield func(*finding.Divergence) bool) error
	News        func() uint64
	ExternalURL string // where people reach lockstep; empty: alerts carry no link
	Runbooks    string // the folder of the runbooks; empty: [Runbooks]
	Watchdog    bool   // Alertmanager is told of an alert that always fires
	Sinks       []Sink

	Poll   time.Duration // pause between looks for news; 0: 250 ms
	Resend time.Duration // how often the state is told though nothing is new; 0: a minute
}

// Sink is where alerts go: an [Alertmanager] or a [Receiver].
type Sink interface {
	// recall reads what the sink was told before, if it is kept. It is called once, before the others.
	recall() error
	// run takes the newest state from feed until ctx ends. Any other error is one of lockstep's own.
	run(ctx context.Context, feed <-chan state) error
	// since is from when on what was resolved has to be part of the state. It may be called from any goroutine.
	since(now time.Time) time.Time
	// Status may be called from any goroutine.
	Status() Status
}

// state is all alerts that fire, and those that were resolved since all sinks last knew all.
type state struct {
	at     time.Time // before the divergences were read
	alerts []*Alert
}

// Status says how it goes with a sink.
type Status struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"`
	Waiting     int64     `json:"waiting"` // alerts that it has still to be told of
	Sent        int64     `json:"sent"`    // messages that were taken since the start
	Failed      int64     `json:"failed"`  // and that were not
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastError   string    `json:"last_error,omitempty"` // empty once a message was taken
}

// How Prometheus tells Alertmanager of its alerts, which Alertmanager is made for: they are sent again every minute with
// an end that is four of these minutes away, so that they end by themselves if the sender does; what is resolved is sent for a
// quarter of an hour more (https://prometheus.io/docs/alerting/latest/clients/, and Prometheus' rules/alerting.go).
const (
	resendEvery = time.Minute
	resolvedFor = 15 * time.Minute
)

// Run tells until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	for _, sink := range n.Sinks {
		if err := sink.recall(); err != nil {
			return err
		}
	}
	work, ctx := errgroup.WithContext(ctx)
	var feeds []chan state
	for _, sink := range n.Sinks {
		feed := make(chan state, 1) // the newest state; an older one that was not taken yet is of no use
		feeds = append(feeds, feed)
		work.Go(func() error { return sink.run(ctx, feed) })
	}
	work.Go(func() error { return n.watch(ctx, feeds) })
	return work.Wait()
}

func (n *Notifier) watch(ctx context.Context, feeds []chan state) error {
	var news uint64
	var due time.Time
	for {
		now := time.Now()
		if count := n.News(); count != news || !now.Before(due) {
			s, err := n.state(now)
			if err != nil {
				return err
			}
			news, due = count, now.Add(cmp.Or(n.Resend, resendEvery))
			for _, feed := range feeds {
				replace(feed, s)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(cmp.Or(n.Poll, 250*time.Millisecond)):
		}
	}
}

// replace puts the newest state into a channel that holds one.
func replace(feed chan state, s state) {
	select {
	case <-feed:
	default:
	}
	feed <- s
}

// state words all that is open, and what was resolved since the sinks knew all.
func (n *Notifier) state(now time.Time) (state, error) {
	since := now
	for _, sink := range n.Sinks {
		if at := sink.since(now); at.Before(since) {
			since = at
		}
	}
	list, err := gather(n.Divergences, since)
	if err != nil {
		return state{}, err
	}
	s := state{now, tell(list, links{n.ExternalURL, cmp.Or(n.Runbooks, Runbooks)})}
	if n.Watchdog {
		s.alerts = append(s.alerts, &Alert{
			Labels:      map[string]string{"alertname": WatchdogAlert, "severity": "none"},
			Annotations: map[string]string{"summary": "lockstep runs and its alerts arrive.", "description": "This alert always fires. When it does not arrive any more, no other alert of lockstep does."},
			Starts:      now.Truncate(24 * time.Hour),
			URL:         n.ExternalURL,
		})
	}
	return s, nil
}

// tally counts what becomes of messages.
type tally struct {
	waiting, sent, failed atomic.Int64
	success               atomic.Pointer[time.Time]
	trouble               atomic.Pointer[string] // nil: none since the last success
}

func (t *tally) took() {
	now := time.Now()
	t.sent.Add(1)
	t.success.Store(&now)
	t.trouble.Store(nil)
}

func (t *tally) refused(err error) {
	text := err.Error()
	t.failed.Add(1)
	t.trouble.Store(&text)
}

func (t *tally) status(name, kind string) Status {
	s := Status{Name: name, Kind: kind, Waiting: t.waiting.Load(), Sent: t.sent.Load(), Failed: t.failed.Load()}
	if at := t.success.Load(); at != nil {
		s.LastSuccess = at.UTC()
	}
	if text := t.trouble.Load(); text != nil {
		s.LastError = *text
	}
	return s
}
