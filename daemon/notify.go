package daemon

import (
	"time"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// tell makes what keeps the configured receivers informed.
func (d *Daemon) tell(c *config.Alerts) *alerts.Notifier {
	n := &alerts.Notifier{Divergences: d.unexpected, News: d.store.News, ExternalURL: c.ExternalURL, Runbooks: c.RunbookURL, Watchdog: c.Watchdog}
	for i := range c.Alertmanager {
		at := &c.Alertmanager[i]
		n.Sinks = append(n.Sinks, &alerts.Alertmanager{
			URL: at.URL, User: at.Username, Record: d.store.Record, Logger: d.log,
			Password: func() (string, error) {
				password, err := at.Password()
				return password.Reveal(), err
			},
		})
	}
	for i := range c.Receivers {
		r := &c.Receivers[i]
		n.Sinks = append(n.Sinks, &alerts.Receiver{
			Name: r.Name, Channel: channel(r, c.ExternalURL), Memory: d.store, Logger: d.log,
			Wants: func(a *alerts.Alert) bool { return r.Match.Fits(a.Labels) },
		})
	}
	return n
}

func channel(r *config.Receiver, external string) alerts.Channel {
	secret := func() (string, error) {
		s, err := r.Secret()
		return s.Reveal(), err
	}
	switch r.Kind {
	case config.PagerDutyKind:
		return &alerts.PagerDuty{URL: r.URL.Reveal(), RoutingKey: secret}
	case config.SlackKind:
		return &alerts.Slack{URL: secret}
	}
	h := &alerts.Webhook{URL: r.URL.Reveal(), Name: r.Name, ExternalURL: external}
	if r.SecretFile != "" {
		h.Secret = func() ([]byte, error) {
			s, err := secret()
			return []byte(s), err
		}
	}
	return h
}

// unexpected yields the divergences of all groups but those of writes that are expected.
func (d *Daemon) unexpected(yield func(*finding.Divergence) bool) error {
	more := true
	for _, g := range d.Groups() {
		err := g.Divergences(func(v *finding.Divergence) bool {
			more = v.Expected || yield(v)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// expected reports whether all of a divergence is among the writes that a group expects. What cannot be told is not.
func (d *Daemon) expected(c *config.Group) func(*finding.Divergence, digest.Shape) bool {
	return func(v *finding.Divergence, s digest.Shape) bool {
		for _, e := range c.ExpectedWrites(v.Member, v.Table, string(v.Kind)) {
			if e.FirstKey == nil && e.LastKey == nil {
				return true
			}
			in, err := among(s, e, v.Ranges)
			if err != nil {
				d.log.Warn("keys of expected_writes cannot be used; what they are about raises alerts", "group", c.Name, "err", err.Error())
			}
			if in && !v.Truncated {
				return true
			}
		}
		return false
	}
}

// among reports whether all ranges lie between the keys of expected writes.
func among(s digest.Shape, e config.Expected, ranges []finding.Range) (bool, error) {
	first, err := s.ParseBound(e.FirstKey)
	if err != nil {
		return false, err
	}
	last, err := s.ParseBound(e.LastKey)
	if err != nil {
		return false, err
	}
	for _, r := range ranges {
		from, err := s.ParseKey(r.First)
		if err != nil {
			return false, err
		}
		to, err := s.ParseKey(r.Last)
		if err != nil || first != nil && from.Compare(first) < 0 || last != nil && to.Compare(last) > 0 {
			return false, err
		}
	}
	return len(ranges) > 0, nil
}

// Receivers says how it goes with the receivers. It may be called from any goroutine.
func (d *Daemon) Receivers() []alerts.Status {
	list := []alerts.Status{}
	for _, sink := range d.now.Load().notifier.Sinks {
		list = append(list, sink.Status())
	}
	return list
}

// DiskBytes is how much disk space the store takes. It may be called from any goroutine.
func (d *Daemon) DiskBytes() uint64 { return d.store.DiskBytes() }

// LastReload says when the configuration was last read and whether it could be used. It may be called from any goroutine.
func (d *Daemon) LastReload() (at time.Time, ok bool) {
	r := d.options.LastReload()
	return r.At, r.OK
}
