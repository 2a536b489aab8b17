package monitor

import (
	"time"

	"lockstep/alerts"
	"lockstep/align"
	"lockstep/config"
)

// tell makes what keeps the configured receivers informed.
func (d *Daemon) tell() *alerts.Notifier {
	c := &d.config.Alerts
	n := &alerts.Notifier{Divergences: d.unexpected, News: d.store.News, ExternalURL: c.ExternalURL, Watchdog: c.Watchdog}
	for i := range c.Alertmanager {
		at := &c.Alertmanager[i]
		n.Sinks = append(n.Sinks, &alerts.Alertmanager{
			URL: at.URL, User: at.Username, Logger: d.log,
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
func (d *Daemon) unexpected(yield func(*align.Divergence) bool) error {
	more := true
	for i, g := range d.groups {
		c := &d.config.Groups[i]
		err := g.Divergences(func(v *align.Divergence) bool {
			more = c.ExpectedWrite(v.Member, v.Table, string(v.Kind)) || yield(v)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Receivers says how it goes with the receivers. It may be called from any goroutine.
func (d *Daemon) Receivers() []alerts.Status {
	list := []alerts.Status{}
	for _, sink := range d.notifier.Sinks {
		list = append(list, sink.Status())
	}
	return list
}

// DiskBytes is how much disk space the store takes. It may be called from any goroutine.
func (d *Daemon) DiskBytes() uint64 { return d.store.DiskBytes() }

// LastReload says when the configuration was last read and whether it could be used. It may be called from any goroutine.
func (d *Daemon) LastReload() (at time.Time, ok bool) {
	r := d.lastReload()
	return r.At, r.OK
}
