package web

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-cdc/lockstep/finding"
)

// history counts what divergences have come and gone since the start.
type history struct {
	opened, resolved *prometheus.CounterVec
	detection, open  *prometheus.HistogramVec
}

func newHistory(groups []Group) *history {
	by := []string{"group", "member", "kind"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_" + name, Help: help}, by)
	}
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lockstep_" + name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: 1.1}, []string{"group"})
	}
	h := &history{
		opened:    counter("divergences_opened_total", "Divergences that were raised since the start."),
		resolved:  counter("divergences_resolved_total", "Divergences that were resolved since the start."),
		detection: histogram("divergence_detection_seconds", "Time from when rows were first seen to differ until that was raised, which includes the lag budget.", 0.5, 1, 2, 5, 10, 20, 30, 45, 60, 120, 300, 900),
		open:      histogram("divergence_open_seconds", "Time from when a divergence was raised until it was resolved.", 1, 10, 60, 300, 900, 3600, 4*3600, 24*3600, 7*24*3600),
	}
	for _, g := range groups {
		now := g.Status()
		h.detection.WithLabelValues(now.Name)
		h.open.WithLabelValues(now.Name)
		for _, m := range now.Members {
			for _, kind := range kinds {
				h.opened.WithLabelValues(now.Name, m.Name, string(kind))
				h.resolved.WithLabelValues(now.Name, m.Name, string(kind))
			}
		}
	}
	return h
}

func (h *history) register(r *prometheus.Registry) {
	r.MustRegister(h.opened, h.resolved, h.detection, h.open)
}

// Observe takes note of a divergence that was raised or resolved, unless it was expected. It may be called from any goroutine.
func (s *Server) Observe(d *finding.Divergence) {
	if d.Expected {
		return
	}
	h, id := s.history, prometheus.Labels{"divergence": d.ID}
	if d.State == finding.Open {
		h.opened.WithLabelValues(d.Group, d.Member, string(d.Kind)).(prometheus.ExemplarAdder).AddWithExemplar(1, id)
		h.detection.WithLabelValues(d.Group).(prometheus.ExemplarObserver).ObserveWithExemplar(d.ConfirmedAt.Sub(d.FirstSeen).Seconds(), id)
		return
	}
	h.resolved.WithLabelValues(d.Group, d.Member, string(d.Kind)).(prometheus.ExemplarAdder).AddWithExemplar(1, id)
	if d.ResolvedAt != nil {
		h.open.WithLabelValues(d.Group).(prometheus.ExemplarObserver).ObserveWithExemplar(d.ResolvedAt.Sub(d.ConfirmedAt).Seconds(), id)
	}
}
