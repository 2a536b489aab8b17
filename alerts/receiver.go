package alerts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// Channel hands news to people or programs that keep no state of alerts as Alertmanager does.
type Channel interface {
	// Tell hands over news of one group, the oldest first, at most Most of them. When it returns nil they were taken.
	Tell(ctx context.Context, news []News) error
	Most() int
	// Past reports whether the channel is told of an alert that was over before it could be told that it fires.
	Past() bool
	Kind() string
}

// News is what is new about an alert to a receiver: it fires, it is about more divergences than before, or it is resolved.
type News struct {
	// ID is the same whenever the same news is told again.
	ID string
	*Alert
}

func newsOf(a *Alert) News {
	h := sha256.New()
	fmt.Fprintf(h, "%s %v %s", a.key(), a.Firing(), strings.Join(a.About, " "))
	return News{hex.EncodeToString(h.Sum(nil)[:16]), a}
}

// Status is firing or resolved.
func (n News) Status() string {
	if n.Firing() {
		return "firing"
	}
	return "resolved"
}

// Memory keeps what receivers were told, by alert. The store implements it.
type Memory interface {
	Told(receiver string) (map[string][]byte, error)
	// SetTold makes changes of it durable at once, with entries of the audit log; nil takes an alert out.
	SetTold(receiver string, changes map[string][]byte, events ...evidence.Event) error
}

// Receiver tells a channel what is new to it, at least once and each alert's news in order. What it has taken is kept over
// restarts, so that it is not told twice, and how far it knows all, so that it is told of what happens while it is away.
type Receiver struct {
	Name    string // what it was told is kept under it
	Channel Channel
	Wants   func(*Alert) bool // nil: all
	Memory  Memory
	Logger  *slog.Logger

	FirstRetry time.Duration // pause after a failure, doubled by each further one; 0: 1 s
	LastRetry  time.Duration // longest pause; 0: 5 min

	told  map[string]*Alert         // that fire, and ones of which the receiver knows that they are over
	known atomic.Pointer[time.Time] // what was resolved before has been told
	tally
}

// Status implements [Sink].
func (r *Receiver) Status() Status { return r.status(r.Name, r.Channel.Kind()) }

func (r *Receiver) since(time.Time) time.Time { return *r.known.Load() }

const (
	// knownKey is under which a memory keeps until when the receiver knows all; alerts have labels, so it is none of theirs.
	knownKey = ""
	// settle is how much later than a state divergences may be stored that were resolved before it.
	settle = time.Minute
	// maxPast bounds of how many alerts that are over already a receiver is told at once, the latest.
	maxPast = 100
)

func (r *Receiver) run(ctx context.Context, feed <-chan state) error {
	firstRetry, lastRetry := cmp.Or(r.FirstRetry, time.Second), cmp.Or(r.LastRetry, 5*time.Minute)
	var s state
	var retry <-chan time.Time
	pause := firstRetry
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s = <-feed:
			if retry != nil {
				r.waiting.Store(int64(len(r.news(s))))
				continue // it is not asked more often because there is more to tell
			}
		case <-retry:
		}
		retry = nil
		refused, err := r.tell(ctx, s)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case refused != nil:
			r.Logger.Warn("a receiver did not take news; lockstep keeps them and tries again", "receiver", r.Name, "err", refused.Error(), "waiting", r.waiting.Load(), "retry_in", pause.String())
			retry = time.After(pause)
			pause = min(2*pause, lastRetry)
		default:
			pause = firstRetry
		}
	}
}

func (r *Receiver) recall() error {
	kept, err := r.Memory.Told(r.Name)
	if err != nil {
		return err
	}
	known := time.Now().Truncate(time.Millisecond) // as times of divergences are: what is over a moment later is not from before
	if len(kept) == 0 {                            // it is new, and is told of what is open
		v, err := json.Marshal(known)
		if err == nil {
			err = r.Memory.SetTold(r.Name, map[string][]byte{knownKey: v})
		}
		if err != nil {
			return err
		}
	}
	r.told = make(map[string]*Alert)
	for key, v := range kept {
		into := any(&known)
		if key != knownKey {
			r.told[key] = &Alert{}
			into = r.told[key]
		}
		if err := json.Unmarshal(v, into); err != nil {
			return fmt.Errorf("what receiver %s was told: %w", r.Name, err)
		}
	}
	r.known.Store(&known)
	return nil
}

// news is what the receiver has still to be told, the oldest first.
func (r *Receiver) news(s state) (list []News) {
	past := 0
	for _, a := range slices.Backward(s.alerts) {
		if a.Labels["alertname"] == WatchdogAlert || r.Wants != nil && !r.Wants(a) {
			continue
		}
		before := r.told[a.key()]
		switch fires := before != nil && before.Firing(); {
		case a.Firing():
			if !fires || !within(a.About, before.About) {
				list = append(list, newsOf(a))
			}
		case fires:
			over := *before
			over.Ends = a.Ends
			if a.forgotten() || a.lostOneOf(before.About) { // or of what came since it was told, which was open with it
				over.Annotations = maps.Clone(over.Annotations)
				over.forget()
			}
			list = append(list, newsOf(&over))
		case r.Channel.Past() && a.Ends.After(r.since(s.at)) && (before == nil || a.Ends.After(before.Ends)):
			if past++; past <= maxPast {
				list = append(list, newsOf(a))
			}
		}
	}
	if past > maxPast {
		r.Logger.Warn("many alerts are over before the receiver could be told; it is told of the last", "receiver", r.Name, "alerts", past, "told", maxPast)
	}
	firing := maps.Clone(r.told)
	maps.DeleteFunc(firing, func(_ string, a *Alert) bool { return !a.Firing() })
	for _, a := range ended(firing, s.alerts, s.at) {
		list = append(list, newsOf(a))
	}
	slices.SortFunc(list, func(x, y News) int { return cmp.Or(x.Starts.Compare(y.Starts), strings.Compare(x.ID, y.ID)) })
	return list
}

// within reports whether all of list are in all.
func within(list, all []string) bool {
	for _, s := range list {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// tell hands over what is new, in batches. What a receiver refuses that works otherwise does not hold up the rest.
func (r *Receiver) tell(ctx context.Context, s state) (refused, failed error) {
	news := r.news(s)
	left := len(news)
	for _, group := range byGroup(news) {
		for batch := range slices.Chunk(group, r.Channel.Most()) {
			r.waiting.Store(int64(left))
			if err := r.Channel.Tell(ctx, batch); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				r.refused(err)
				if refused = cmp.Or(refused, err); forThisOnly(err) {
					continue
				}
				return refused, nil
			}
			if err := r.remember(batch); err != nil {
				return nil, err
			}
			left -= len(batch)
			r.took()
		}
	}
	r.waiting.Store(int64(left))
	if refused == nil && len(news) > 0 {
		failed = r.knows(s.at.Add(-settle))
	}
	return refused, failed
}

func byGroup(news []News) (groups [][]News) {
	of := make(map[string][]News)
	for _, n := range news {
		of[n.Labels["group"]] = append(of[n.Labels["group"]], n)
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		groups = append(groups, of[name])
	}
	return groups
}

// remember keeps what was told.
func (r *Receiver) remember(batch []News) error {
	changes := make(map[string][]byte)
	for _, n := range batch {
		v, err := json.Marshal(n.Alert)
		if err != nil {
			return err
		}
		r.told[n.key()], changes[n.key()] = n.Alert, v
	}
	return r.Memory.SetTold(r.Name, changes, delivered(r.Name, r.Channel.Kind(), batch)...)
}

// knows takes note that all that was resolved before a time was told; what is remembered of it can be forgotten.
func (r *Receiver) knows(before time.Time) error {
	if !before.After(r.since(before)) {
		return nil
	}
	v, err := json.Marshal(before)
	if err != nil {
		return err
	}
	changes := map[string][]byte{knownKey: v}
	for key, a := range r.told {
		if !a.Firing() && a.Ends.Before(before) {
			delete(r.told, key)
			changes[key] = nil
		}
	}
	r.known.Store(&before)
	return r.Memory.SetTold(r.Name, changes)
}
