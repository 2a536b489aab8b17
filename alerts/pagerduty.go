package alerts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// PagerDutyURL takes events of PagerDuty's Events API v2.
const PagerDutyURL = "https://events.pagerduty.com/v2/enqueue"

// PagerDuty sends events of its Events API v2
// (https://developer.pagerduty.com/docs/send-alert-event): one incident for each alert, by its dedup_key, which grows with
// what else is found and is resolved by itself.
type PagerDuty struct {
	URL        string                 // empty: PagerDutyURL
	RoutingKey func() (string, error) // read anew for each event
	Timeout    time.Duration          // of one request; 0: 10 s
}

// Kind implements [Channel].
func (p *PagerDuty) Kind() string { return "pagerduty" }

// Past implements [Channel]: nobody is called for what is over.
func (p *PagerDuty) Past() bool { return false }

// Most implements [Channel].
func (p *PagerDuty) Most() int { return 1 }

// pagerDutyEvent is an event. PagerDuty takes 512 kB; annotations are bounded to much less.
type pagerDutyEvent struct {
	RoutingKey string            `json:"routing_key"`
	Action     string            `json:"event_action"`
	DedupKey   string            `json:"dedup_key"` // up to 255 characters
	Client     string            `json:"client,omitempty"`
	ClientURL  string            `json:"client_url,omitempty"`
	Payload    *pagerDutyPayload `json:"payload,omitempty"`
}

type pagerDutyPayload struct {
	Summary   string            `json:"summary"` // up to 1024 characters
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp time.Time         `json:"timestamp"`
	Component string            `json:"component,omitempty"`
	Group     string            `json:"group"`
	Class     string            `json:"class"`
	Details   map[string]string `json:"custom_details"`
}

// Tell implements [Channel].
func (p *PagerDuty) Tell(ctx context.Context, news []News) error {
	n := news[0]
	routing, err := p.RoutingKey()
	if err != nil {
		return err
	}
	key := sha256.Sum256([]byte(n.key()))
	event := pagerDutyEvent{RoutingKey: routing, Action: "resolve", DedupKey: "lockstep-" + hex.EncodeToString(key[:16])}
	if n.Firing() {
		event.Action, event.Client, event.ClientURL = "trigger", "lockstep", n.URL
		event.Payload = &pagerDutyPayload{
			Summary: cut(n.headline()+": "+n.Annotations["description"], 1024), Source: n.Labels["member"], Severity: n.Labels["severity"],
			Timestamp: n.Starts.UTC(), Component: n.Labels["table"], Group: n.Labels["group"], Class: n.Labels["alertname"],
			Details: n.Annotations,
		}
	}
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	url := p.URL
	if url == "" {
		url = PagerDutyURL
	}
	return poster{"alerts.pagerduty[].url", p.Timeout}.post(ctx, url, body, nil)
}

// cut leaves so many characters of a text.
func cut(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most-1]) + "…"
}
