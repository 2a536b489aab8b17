package dbtest

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Authority is a time-stamping authority (RFC 3161): openssl ts with certificates of its own.
type Authority struct {
	t   TB
	Dir string // with root.pem, which verifies its stamps
}

const authorityConfig = `[req]
distinguished_name = dn
prompt = no
[dn]
CN = test
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[between]
basicConstraints = critical, CA:TRUE
[good]
extendedKeyUsage = critical, timeStamping
[uncritical]
extendedKeyUsage = timeStamping
[more]
extendedKeyUsage = critical, timeStamping, codeSigning
[tsa]
default_tsa = stamps
[stamps]
serial = serial
signer_digest = sha256
digests = sha256, sha512
default_policy = 1.2.3.4.1
other_policies = 1.2.3.4.5
ess_cert_id_alg = %s
accuracy = secs:1
`

// NewAuthority makes an authority with a root, one certificate between, and one that signs, with the extensions of a section:
// good, uncritical, more or between. Stamps name it by a hash of the kind ess.
func NewAuthority(t TB, section, ess string) *Authority {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockstep-tsa-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("%v", err)
		}
	})
	a := &Authority{t, dir}
	a.Write("config", fmt.Appendf(nil, authorityConfig, ess))
	a.Write("serial", []byte("01\n"))
	for _, c := range []struct{ name, by, section string }{{"root", "root", "root"}, {"between", "root", "between"}, {"signer", "between", section}} {
		a.OpenSSL("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", c.name+".key")
		a.OpenSSL("req", "-new", "-config", "config", "-subj", "/CN="+c.name, "-key", c.name+".key", "-out", c.name+".csr")
		sign := []string{"x509", "-req", "-in", c.name + ".csr", "-days", "30", "-extfile", "config", "-extensions", c.section, "-out", c.name + ".pem"}
		if c.name == c.by {
			sign = append(sign, "-signkey", c.name+".key")
		} else {
			sign = append(sign, "-CA", c.by+".pem", "-CAkey", c.by+".key", "-CAcreateserial")
		}
		a.OpenSSL(sign...)
	}
	return a
}

// Roots are the certificates that verify its stamps.
func (a *Authority) Roots() *x509.CertPool {
	a.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.Read("root.pem")) {
		a.t.Fatalf("%s holds no certificate", a.Path("root.pem"))
	}
	return pool
}

// Path is that of a file of the authority.
func (a *Authority) Path(name string) string { return filepath.Join(a.Dir, name) }

// Write writes a file of the authority.
func (a *Authority) Write(name string, content []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.Path(name), content, 0o600); err != nil {
		a.t.Fatalf("%v", err)
	}
}

// Read reads a file of the authority.
func (a *Authority) Read(name string) []byte {
	a.t.Helper()
	b, err := os.ReadFile(a.Path(name))
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	return b
}

// OpenSSL runs openssl beside the files and returns what it says.
func (a *Authority) OpenSSL(args ...string) string {
	a.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Reply has a query answered.
func (a *Authority) Reply(query []byte) []byte {
	a.t.Helper()
	a.Write("query", query)
	a.OpenSSL("ts", "-reply", "-config", "config", "-section", "stamps", "-queryfile", "query", "-inkey", "signer.key", "-signer", "signer.pem", "-chain", "between.pem", "-out", "reply")
	return a.Read("reply")
}

// Serve answers over HTTP, as RFC 3161 says in section 3.4, and returns the address.
func (a *Authority) Serve() string {
	a.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(a.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			http.Error(w, "no time-stamp query", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		if _, err := w.Write(a.Reply(query)); err != nil {
			a.t.Logf("%v", err)
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	a.t.Cleanup(func() {
		if err := server.Close(); err != nil {
			a.t.Logf("%v", err)
		}
		<-ended
	})
	return "http://" + listener.Addr().String()
}
