package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
)

// apiFlags say where a running lockstep answers.
type apiFlags struct {
	url, config, user, passwordFile, caFile string

	clearText bool
	patience  time.Duration // of one answer
}

func addAPIFlags(cmd *cobra.Command) *apiFlags {
	f := &apiFlags{patience: 10 * time.Second}
	cmd.Flags().StringVar(&f.url, "url", "", "`URL` of a running lockstep (default: where the configuration says that it listens)")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration `FILE` to take the address from (default "+defaultConfig+", if it is there)")
	cmd.Flags().StringVar(&f.user, "username", "", "`NAME` to log in as, where lockstep asks for a password")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "`FILE` with its password")
	cmd.Flags().StringVar(&f.caFile, "ca-file", "", "`FILE` with the certificates to trust (default: the system's)")
	cmd.Flags().BoolVar(&f.clearText, "clear-text", false, "send the password to another machine without TLS, for anybody on the way to read")
	return f
}

// client is how lockstep is reached. It follows no redirects, which could carry the password to where there is no TLS.
func (f *apiFlags) client() (*http.Client, error) {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if f.caFile == "" {
		return &http.Client{CheckRedirect: stay}, nil
	}
	data, err := config.ReadFile(f.caFile)
	if err != nil {
		return nil, usageError(fmt.Errorf("--ca-file: %w", err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, usageError(fmt.Errorf("--ca-file %s: holds no certificate in PEM", f.caFile))
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport, CheckRedirect: stay}, nil
}

func (f *apiFlags) authenticate(req *http.Request) error {
	if f.user == "" {
		return nil
	}
	if config.InClear(req.URL) && !f.clearText {
		return usageError(fmt.Errorf("the password would go to %s in clear text: give an https:// address as --url, or --clear-text to let anybody on the way read it", req.URL.Host))
	}
	password, err := config.ReadSecret(f.passwordFile)
	if err != nil {
		return usageError(fmt.Errorf("--password-file: %w", err))
	}
	req.SetBasicAuth(f.user, password.Reveal())
	return nil
}

func (f *apiFlags) base() (string, error) {
	if f.url != "" {
		return f.given()
	}
	listen, path := config.DefaultListen, f.config
	if path == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			path = defaultConfig
		}
	}
	if path != "" {
		c, err := loadConfig(path)
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

// given is the address that --url names. Errors show none of it that could be a password.
func (f *apiFlags) given() (string, error) {
	text := f.url
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", usageError(errors.New("--url is not an address: write it like https://lockstep.example:9640"))
	case u.User != nil:
		return "", usageError(errors.New("--url holds a user name or a password: give --username and --password-file"))
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", usageError(fmt.Errorf("--url %q: lockstep answers HTTP: write it like https://lockstep.example:9640", f.url))
	}
	return text, nil
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

// codeOfAnswer is the exit code for an answer that is an error: it was asked wrongly, or lockstep is starting or stopping, or
// cannot say.
func codeOfAnswer(answer int) int {
	switch {
	case answer == http.StatusServiceUnavailable:
		return exitUnreachable
	case answer >= http.StatusInternalServerError:
		return exitUnknown
	}
	return exitUsage
}

// silent is the error of an address that takes connections, and says nothing or not all.
func (f *apiFlags) silent(base string) error {
	return unreachableError(fmt.Errorf("something listens at %s and has not answered within %v: if it is lockstep, it is stopped (SIGSTOP), or its machine has no time for it", base, f.patience))
}

func (f *apiFlags) call(ctx context.Context, method, path string, send []byte, into any) error {
	base, err := f.base()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	var listens atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) { listens.Store(err == nil || listens.Load()) },
		GotConn:     func(httptrace.GotConnInfo) { listens.Store(true) }, // one that was there
	})
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+"/"+path, bytes.NewReader(send))
	if err != nil {
		return usageError(fmt.Errorf("--url %q: %w", base, err))
	}
	if send != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client, err := f.client()
	if err == nil {
		err = f.authenticate(req)
	}
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if listens.Load() && os.IsTimeout(err) {
			return f.silent(base)
		}
		return unreachableError(fmt.Errorf("no lockstep answers at %s: start one with lockstep run, or name another with --url (%w)", base, errors.Unwrap(err)))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		if os.IsTimeout(err) {
			return f.silent(base)
		}
		return unreachableError(fmt.Errorf("%s: %w", base, err))
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		var said struct{ Error string }
		if json.Unmarshal(body, &said) != nil || said.Error == "" {
			said.Error = resp.Status
			if to := resp.Header.Get("Location"); to != "" {
				said.Error += fmt.Sprintf(", which is not followed: %s is what --url has to say", to)
			}
		}
		return exit(codeOfAnswer(resp.StatusCode), fmt.Errorf("%s: %s", base, said.Error))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return undeterminedError(fmt.Errorf("%s does not answer as lockstep does: %w", base, err))
	}
	return nil
}
