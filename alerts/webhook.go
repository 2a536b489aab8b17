package alerts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Webhook posts news to one URL, in the JSON that Alertmanager sends to webhooks (version 4,
// https://prometheus.io/docs/alerting/latest/configuration/#webhook_config), so that what takes its messages takes ours.
//
// Requests carry
//
//	Idempotency-Key:      the same whenever the same news is sent again
//	X-Lockstep-Timestamp: seconds since 1970
//	X-Lockstep-Signature: sha256=HEX, the HMAC-SHA256 of TIMESTAMP.BODY, if there is a secret
type Webhook struct {
	URL         string
	Secret      func() ([]byte, error) // read anew for each request; nil: unsigned
	Name        string                 // of the receiver, for the message
	ExternalURL string
	Timeout     time.Duration // of one request; 0: 10 s
}

// Kind implements [Channel].
func (h *Webhook) Kind() string { return "webhook" }

// Past implements [Channel].
func (h *Webhook) Past() bool { return true }

// Most implements [Channel].
func (h *Webhook) Most() int { return alertsPerBatch }

// webhookMessage is the data of a message as Alertmanager writes it.
type webhookMessage struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            string            `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []webhookAlert    `json:"alerts"`
}

type webhookAlert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // year 1 while it fires
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

// Tell implements [Channel].
func (h *Webhook) Tell(ctx context.Context, news []News) error {
	group := news[0].Labels["group"]
	m := webhookMessage{
		Version: "4", GroupKey: "lockstep:" + group, Status: "resolved", Receiver: h.Name, ExternalURL: h.ExternalURL,
		GroupLabels:  map[string]string{"group": group},
		CommonLabels: common(news, func(n News) map[string]string { return n.Labels }), CommonAnnotations: common(news, func(n News) map[string]string { return n.Annotations }),
	}
	ids := sha256.New()
	for _, n := range news {
		if n.Firing() {
			m.Status = "firing"
		}
		io.WriteString(ids, n.ID) // never fails: hash.Hash
		print := sha256.Sum256([]byte(n.key()))
		m.Alerts = append(m.Alerts, webhookAlert{
			Status: n.Status(), Labels: n.Labels, Annotations: n.Annotations, StartsAt: n.Starts.UTC(), EndsAt: n.Ends.UTC(),
			GeneratorURL: n.URL, Fingerprint: hex.EncodeToString(print[:8]),
		})
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return poster{"alerts.webhook[].url", h.Timeout}.post(ctx, h.URL, body, func(req *http.Request) error {
		req.Header.Set("Idempotency-Key", hex.EncodeToString(ids.Sum(nil)[:16]))
		return h.sign(req, body)
	})
}

// common returns the pairs that all news share.
func common(news []News, of func(News) map[string]string) map[string]string {
	shared := make(map[string]string)
	for k, v := range of(news[0]) {
		all := true
		for _, n := range news[1:] {
			other, has := of(n)[k]
			all = all && has && other == v
		}
		if all {
			shared[k] = v
		}
	}
	return shared
}

func (h *Webhook) sign(req *http.Request, body []byte) error {
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("X-Lockstep-Timestamp", stamp)
	if h.Secret == nil {
		return nil
	}
	secret, err := h.Secret()
	if err != nil {
		return err
	}
	req.Header.Set("X-Lockstep-Signature", "sha256="+hex.EncodeToString(Signature(secret, stamp, body)))
	return nil
}

// Signature returns the HMAC-SHA256 that a receiver is to compare with the header's.
func Signature(secret []byte, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	io.WriteString(mac, timestamp+".") // never fails: hash.Hash
	mac.Write(body)
	return mac.Sum(nil)
}

// headline says in one line what an alert is about.
func (n News) headline() string {
	parts := []string{n.Labels["alertname"]}
	if !n.Firing() {
		ended := "Resolved: "
		if n.forgotten() {
			ended = "No longer known: "
		}
		parts[0] = ended + parts[0]
	}
	if table := n.Labels["table"]; table != "" {
		parts = append(parts, table)
	}
	return strings.Join(parts, " ") + " on " + n.Labels["member"] + " of group " + n.Labels["group"]
}
