package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lockstep/config"
)

// apiFlags say where a running lockstep answers.
type apiFlags struct{ url, config string }

func addAPIFlags(cmd *cobra.Command) *apiFlags {
	f := &apiFlags{}
	cmd.Flags().StringVar(&f.url, "url", "", "`URL` of a running lockstep (default: where the configuration, or else the default one, listens)")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration `FILE` to take the address from")
	return f
}

func (f *apiFlags) base() (string, error) {
	if f.url != "" {
		return f.url, nil
	}
	listen := config.DefaultListen
	if f.config != "" {
		c, err := loadConfig(f.config)
		if err != nil {
			return "", err
		}
		listen = c.Listen
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", usageError(fmt.Errorf("listen %q: %w", listen, err))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// get asks the running lockstep and decodes its answer.
func (f *apiFlags) get(ctx context.Context, path string, query url.Values, into any) error {
	return f.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, into)
}

// send sends the running lockstep a body as JSON and decodes its answer.
func (f *apiFlags) send(ctx context.Context, method, path string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return f.call(ctx, method, path, b, into)
}

func (f *apiFlags) call(ctx context.Context, method, path string, send []byte, into any) error {
	base, err := f.base()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+"/"+path, bytes.NewReader(send))
	if err != nil {
		return usageError(fmt.Errorf("--url %q: %w", base, err))
	}
	if send != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return unreachableError(fmt.Errorf("no lockstep answers at %s: start one with lockstep run, or name another with --url (%w)", base, errors.Unwrap(err)))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return unreachableError(fmt.Errorf("%s: %w", base, err))
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		var said struct{ Error string }
		if json.Unmarshal(body, &said) != nil || said.Error == "" {
			said.Error = resp.Status
		}
		return usageError(fmt.Errorf("%s: %s", base, said.Error))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return undeterminedError(fmt.Errorf("%s does not answer as lockstep does: %w", base, err))
	}
	return nil
}
