package web_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

// serve has a front answer; what is returned ends it.
func serve(t *testing.T, configFile string, reload func(context.Context) error) (f *web.Front, stop func() error) {
	t.Helper()
	f, err := web.Listen(t.Context(), "127.0.0.1:0", configFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.Reload = reload
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Serve(ctx) }()
	return f, func() error {
		cancel()
		return <-ended
	}
}

// ask sends a request and returns the status and the body of the answer.
func ask(t *testing.T, c *http.Client, method, url string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if user, password, has := strings.Cut(header["Login"], ":"); has {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func newClient(t *testing.T, config *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestAFrontAnswersForOneAPIAfterAnother(t *testing.T) {
	f, stop := serve(t, "", nil)
	c := newClient(t, nil)
	url := "http://" + f.Addr()
	expect := func(path string, code int, says string) {
		t.Helper()
		if got, body := ask(t, c, http.MethodGet, url+path, nil); got != code || !strings.Contains(body, says) {
			t.Errorf("%s answers %d %s, want %d %s", path, got, body, code, says)
		}
	}
	expect("/-/healthy", 200, "healthy")
	expect("/-/ready", 503, "starting or stopping")
	first := server(health{}, shop())
	f.Use(first)
	expect("/api/v1/groups", 200, `"shop"`)
	expect("/readyz", 200, "ready")
	first.Close()
	expect("/api/v1/groups", 503, "starting or stopping")
	expect("/healthz", 200, "healthy")
	f.Use(server(health{}))
	expect("/api/v1/groups", 200, "[]")
	if err := stop(); err != nil {
		t.Errorf("Serve ends with %v", err)
	}
	if _, err := c.Get(url + "/-/healthy"); err == nil {
		t.Error("it answers after its end")
	}
}

// A process whose loop stands still answered that it is healthy for as long as it stood.
func TestAProcessWhoseLoopStandsStillIsNotHealthy(t *testing.T) {
	f, stop := serve(t, "", nil)
	defer stop()
	c := newClient(t, nil)
	for _, test := range []struct {
		name    string
		looping bool
		still   time.Duration
		code    int
		says    string
	}{
		{"it comes round", true, time.Second, 200, "lockstep is healthy."},
		{"a large transaction", true, time.Minute, 200, "lockstep is healthy."},
		{"it stands still", true, 10 * time.Minute, 503, "not healthy: the loop of group shop has not come round for 10m0s"},
		{"it has yet to begin", false, 10 * time.Minute, 200, "lockstep is healthy."},
	} {
		g := shop()
		g.status = *g.status.AsOf(status.Clocks{Wall: noon.Add(test.still), Running: test.still}, test.looping)
		f.Use(server(health{}, &watched{status: status.Group{Name: "crm"}}, g))
		if code, body := ask(t, c, http.MethodGet, "http://"+f.Addr()+"/-/healthy", nil); code != test.code || !strings.Contains(body, test.says) {
			t.Errorf("%s: %d %s", test.name, code, body)
		}
	}
}

func TestTheConfigurationIsReadAnewOnRequest(t *testing.T) {
	var answer error
	f, stop := serve(t, "", func(context.Context) error { return answer })
	defer stop()
	c := newClient(t, nil)
	url := "http://" + f.Addr() + "/-/reload"
	if code, body := ask(t, c, http.MethodPost, url, nil); code != 200 || !strings.Contains(body, "was taken in") {
		t.Errorf("reload answers %d %s", code, body)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		if code, body := ask(t, c, method, url, nil); code != http.StatusMethodNotAllowed || !strings.Contains(body, "use POST") {
			t.Errorf("%s answers %d %s", method, code, body)
		}
	}
	if code, _ := ask(t, c, http.MethodPost, url, map[string]string{"Sec-Fetch-Site": "cross-site"}); code != http.StatusForbidden {
		t.Errorf("another site's page gets %d", code)
	}
	answer = errors.New("f:3: unknown key")
	if code, body := ask(t, c, http.MethodPost, url, nil); code != 500 || !strings.Contains(body, "f:3: unknown key") {
		t.Errorf("a bad configuration answers %d %s", code, body)
	}
	none, stopNone := serve(t, "", nil)
	defer stopNone()
	if code, _ := ask(t, c, http.MethodPost, "http://"+none.Addr()+"/-/reload", nil); code != 404 {
		t.Errorf("where nothing can be reloaded the answer is %d", code)
	}
}

// certificate writes one for 127.0.0.1, and its key, and returns what trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

func TestTheAPIIsServedByTLSToThoseWithAPassword(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "web.yml")
	text := fmt.Sprintf("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {sre: %q}\n", hash)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, stop := serve(t, file, nil)
	defer stop()
	f.Use(server(health{}, shop()))
	if !f.Passwords() || f.InClear() {
		t.Errorf("passwords %v, in clear text %v", f.Passwords(), f.InClear())
	}
	c := newClient(t, &tls.Config{RootCAs: pool})
	url := "https://" + f.Addr() + "/api/v1/groups"
	if code, _ := ask(t, c, http.MethodGet, url, nil); code != http.StatusUnauthorized {
		t.Errorf("without a password the answer is %d", code)
	}
	if code, _ := ask(t, c, http.MethodGet, url, map[string]string{"Login": "sre:guess"}); code != http.StatusUnauthorized {
		t.Errorf("with a wrong password the answer is %d", code)
	}
	for _, probe := range []string{"/-/healthy", "/healthz"} {
		if code, body := ask(t, c, http.MethodGet, "https://"+f.Addr()+probe, nil); code != 200 || !strings.Contains(body, "healthy") {
			t.Errorf("%s without a password answers %d %s", probe, code, body)
		}
	}
	for _, other := range []string{"/-/healthy/../../api/v1/groups", "//-/healthy", "/-/ready", "/metrics"} {
		if code, _ := ask(t, c, http.MethodGet, "https://"+f.Addr()+other, nil); code != http.StatusUnauthorized {
			t.Errorf("%s without a password answers %d", other, code)
		}
	}
	if code, body := ask(t, c, http.MethodGet, url, map[string]string{"Login": "sre:s3cret"}); code != 200 || !strings.Contains(body, `"shop"`) {
		t.Errorf("with the password the answer is %d %s", code, body)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, "basic_auth_users: {sre: %q}\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	if !f.Passwords() || !f.InClear() {
		t.Errorf("without TLS: passwords %v, in clear text %v", f.Passwords(), f.InClear())
	}
}

func TestAFrontThatCannotListenSaysWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("tls_server_config: {cert: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ address, file, says string }{
		{l.Addr().String(), "", "choose another host:port"},
		{"127.0.0.1:0", bad, "--web.config.file " + bad}, {"127.0.0.1:0", "/nowhere/web.yml", "no such file"},
	} {
		if _, err := web.Listen(t.Context(), c.address, c.file, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %v, want: %s", c.address, c.file, err, c.says)
		}
	}
}
