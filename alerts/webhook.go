// Package alerts tells receivers of divergences, from the store's outbox, at least once and in order.
package alerts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"lockstep/store"
)

// Outbox holds what is to be delivered. The news stay in it, over restarts too, until Delivered is called.
type Outbox interface {
	// NextNotification returns the oldest notification, or nil.
	NextNotification() (*store.Notification, error)
	Delivered(*store.Notification) error
}

// Webhook posts each divergence that opens or resolves to one URL, as the JSON of the API. Any answer of 2xx takes it
// off the outbox; anything else is tried again, with longer and longer pauses, and holds up what comes after.
//
// Requests carry
//
//	Idempotency-Key:      ID-STATE, the same whenever the same news is sent again
//	X-Lockstep-Timestamp: seconds since 1970
//	X-Lockstep-Signature: sha256=HEX, the HMAC-SHA256 of TIMESTAMP.BODY, if there is a secret
type Webhook struct {
	URL    string
	Secret func() ([]byte, error) // read anew for each request; nil: unsigned
	Outbox Outbox
	Logger *slog.Logger

	Timeout    time.Duration // of one request; 0: 10 s
	Poll       time.Duration // pause between looks into the outbox; 0: 250 ms
	FirstRetry time.Duration // pause after a failure, doubled by each further one; 0: 1 s
	LastRetry  time.Duration // longest pause; 0: 5 min
}

// Run delivers until ctx ends.
func (h *Webhook) Run(ctx context.Context) error {
	poll, firstRetry, lastRetry := cmp.Or(h.Poll, 250*time.Millisecond), cmp.Or(h.FirstRetry, time.Second), cmp.Or(h.LastRetry, 5*time.Minute)
	client := h.client()
	defer client.CloseIdleConnections()
	wait, retry := time.Duration(0), firstRetry
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		n, err := h.Outbox.NextNotification()
		switch {
		case err != nil:
			return err
		case n == nil:
			wait = poll
			continue
		}
		if err := h.post(ctx, client, n); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			wait = retry
			retry = min(2*retry, lastRetry)
			h.Logger.Warn("webhook did not take a notification; lockstep keeps it and tries again", "divergence", n.Divergence.ID, "err", err.Error(), "retry_in", wait.String())
			continue
		}
		if err := h.Outbox.Delivered(n); err != nil {
			return err
		}
		wait, retry = 0, firstRetry
	}
}

// client follows no redirects: http.Client would turn the POST into a GET without the news and take its 200 for a
// delivery, or carry the news and its signature to another host.
func (h *Webhook) client() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &http.Client{
		Transport:     transport,
		Timeout:       cmp.Or(h.Timeout, 10*time.Second),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (h *Webhook) post(ctx context.Context, client *http.Client, n *store.Notification) error {
	body, err := json.Marshal(n.Divergence)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the URL cannot be used: check alerts.webhook.url")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", n.Divergence.ID+"-"+n.Divergence.State)
	if err := h.sign(req, body); err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return withoutURL(err)
	}
	if resp.StatusCode/100 == 3 {
		return fmt.Errorf("it answered %s, which lockstep does not follow: set alerts.webhook.url to where it points", resp.Status)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
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
