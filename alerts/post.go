package alerts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// poster posts JSON. It follows no redirects: http.Client would turn a POST into a GET without the news and take its 200
// for a delivery, or carry the news and its signature to another host.
type poster struct {
	key     string        // of the configuration, for advice
	timeout time.Duration // 0: 10 s
}

// refusal is an answer that does not take a message.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// forThisOnly reports whether an answer is about the message, so that others may be taken: the receiver works.
func forThisOnly(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status/100 == 4 && r.status != http.StatusTooManyRequests && r.status != http.StatusRequestTimeout
}

func (p poster) post(ctx context.Context, to string, body []byte, prepare func(*http.Request) error) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.timeout, 10*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the URL cannot be used: check %s", p.key)
	}
	req.Header.Set("Content-Type", "application/json")
	if prepare != nil {
		if err := prepare(req); err != nil {
			return err
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch {
	case resp.StatusCode/100 == 3:
		return &refusal{resp.StatusCode, fmt.Sprintf("it answered %s, which lockstep does not follow: set %s to where it points", resp.Status, p.key)}
	case resp.StatusCode/100 != 2:
		return &refusal{resp.StatusCode, fmt.Sprintf("it answered %s: %s", resp.Status, short(answer))}
	case err != nil:
		return withoutURL(err)
	}
	return nil
}

// client is shared by all that is posted; a request's context bounds its time.
var client = &http.Client{
	Transport:     http.DefaultTransport.(*http.Transport).Clone(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// short is the beginning of what a receiver answered, on one line.
func short(answer []byte) string {
	const most = 200
	answer = bytes.Join(bytes.Fields(answer), []byte(" "))
	if len(answer) > most {
		return string(answer[:most]) + "…"
	}
	return string(answer)
}

// withoutURL takes the URL out of an error of net/http: the paths of webhooks are often secret.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
