package tsa_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/audit/tsa"
)

// authority is a real one: openssl ts with certificates of its own.
type authority struct {
	t   *testing.T
	dir string
}

const config = `[req]
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

// newAuthority makes an authority with a root, one certificate between, and the certificate that signs, of a kind.
func newAuthority(t *testing.T, kind, ess string) *authority {
	a := &authority{t, t.TempDir()}
	a.write("config", fmt.Appendf(nil, config, ess))
	a.write("serial", []byte("01\n"))
	for _, c := range []struct{ name, by, section string }{{"root", "root", "root"}, {"between", "root", "between"}, {"signer", "between", kind}} {
		a.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", c.name+".key")
		a.openssl("req", "-new", "-config", "config", "-subj", "/CN="+c.name, "-key", c.name+".key", "-out", c.name+".csr")
		sign := []string{"x509", "-req", "-in", c.name + ".csr", "-days", "30", "-extfile", "config", "-extensions", c.section, "-out", c.name + ".pem"}
		if c.name == c.by {
			sign = append(sign, "-signkey", c.name+".key")
		} else {
			sign = append(sign, "-CA", c.by+".pem", "-CAkey", c.by+".key", "-CAcreateserial")
		}
		a.openssl(sign...)
	}
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name string, content []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), content, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) read(name string) []byte {
	a.t.Helper()
	b, err := os.ReadFile(a.path(name))
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *authority) openssl(args ...string) string {
	a.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// reply has a query answered.
func (a *authority) reply(query []byte) []byte {
	a.t.Helper()
	a.write("query", query)
	a.openssl("ts", "-reply", "-config", "config", "-section", "stamps", "-queryfile", "query", "-inkey", "signer.key", "-signer", "signer.pem", "-chain", "between.pem", "-out", "reply")
	return a.read("reply")
}

func (a *authority) roots() *x509.CertPool {
	a.t.Helper()
	pool, err := tsa.Roots(a.read("root.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pool
}

// serve answers over HTTP as RFC 3161 says, changed by what is given.
func (a *authority) serve(change func(reply []byte) []byte) *tsa.Authority {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			a.t.Errorf("%v %v", r.Header, err)
		}
		reply := a.reply(query)
		if change != nil {
			reply = change(reply)
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		if _, err := w.Write(reply); err != nil {
			a.t.Log(err)
		}
	}))
	a.t.Cleanup(s.Close)
	return &tsa.Authority{URL: s.URL}
}

var message = []byte("example.org/lockstep\n42\nroot\n")

func TestAStampIsVerifiedByTheCertificateOfItsAuthority(t *testing.T) {
	for _, ess := range []string{"sha1", "sha256", "sha384"} {
		t.Run(ess, func(t *testing.T) {
			a := newAuthority(t, "good", ess)
			asked := a.serve(nil)
			asked.Roots = a.roots()
			before := time.Now().Add(-time.Second)
			reply, at, err := asked.Stamp(t.Context(), message)
			if err != nil {
				t.Fatal(err)
			}
			if at.Before(before.Truncate(time.Second)) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("stamped at %v", at)
			}
			if again, err := tsa.Verify(reply, message, a.roots()); err != nil || !again.Equal(at) {
				t.Errorf("%v %v", again, err)
			}
			a.write("message", message)
			a.write("reply", reply)
			if out := a.openssl("ts", "-verify", "-in", "reply", "-data", "message", "-CAfile", "root.pem"); !strings.Contains(out, "Verification: OK") {
				t.Errorf("openssl says %s", out)
			}
		})
	}
}

func TestEveryAttackOnAStampIsFound(t *testing.T) {
	a, other := newAuthority(t, "good", "sha256"), newAuthority(t, "good", "sha256")
	reply, _, err := a.serve(nil).Stamp(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tsa.Verify(reply, []byte("another"), a.roots()); err == nil || !strings.Contains(err.Error(), "is of something else") {
		t.Errorf("another message: %v", err)
	}
	if _, err := tsa.Verify(reply, message, other.roots()); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("another authority: %v", err)
	}
	if _, err := tsa.Verify(reply, message, nil); err == nil {
		t.Error("no authority is trusted, and it passes")
	}
	// Nothing in a reply can be changed but what says nothing of the stamp: the outermost signatures of certificates that are
	// not needed, and how the status is put.
	roots := a.roots()
	at, err := tsa.Verify(reply, message, roots)
	if err != nil {
		t.Fatal(err)
	}
	free := 0
	for i := range reply {
		changed := bytes.Clone(reply)
		changed[i] ^= 1 << (i % 8)
		got, err := tsa.Verify(changed, message, roots)
		if err == nil && !got.Equal(at) {
			t.Fatalf("with byte %d changed it is of %v, not %v", i, got, at)
		}
		if err == nil {
			free++
		}
	}
	if free > len(reply)/20 {
		t.Errorf("%d of %d changes pass", free, len(reply))
	}
	for i := 0; i < len(reply); i += 16 {
		if _, err := tsa.Verify(reply[:i], message, roots); err == nil {
			t.Fatalf("the first %d bytes pass", i)
		}
	}
}

// openssl signs with no such certificate, so it is the check of the certificate that is looked at.
func TestACertificateMustBeForTimeStampsAlone(t *testing.T) {
	for kind, want := range map[string]string{
		"good": "", "between": "is not for time-stamping alone", "more": "is not for time-stamping alone", "uncritical": "that is not critical in it",
	} {
		block, _ := pem.Decode(newAuthority(t, kind, "sha256").read("signer.pem"))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := tsa.StampsOnly(cert); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestAuthoritiesThatDoNotStampAreToldApart(t *testing.T) {
	a := newAuthority(t, "good", "sha256")
	old := a.serve(nil)
	first, _, err := old.Stamp(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	answers := func(code int, kind string, body []byte) *tsa.Authority {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			if _, err := w.Write(body); err != nil {
				t.Log(err)
			}
		}))
		t.Cleanup(s.Close)
		return &tsa.Authority{URL: s.URL}
	}
	type status struct {
		Status int
		Text   []asn1.RawValue
	}
	rejection, err := asn1.Marshal(struct{ Status status }{status{2, []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte("no more today")}}}})
	if err != nil {
		t.Fatal(err)
	}
	const reply = "application/timestamp-reply"
	for name, c := range map[string]struct {
		of   *tsa.Authority
		want string
	}{
		"500":           {answers(500, reply, nil), "500 Internal Server Error"},
		"a page":        {answers(200, "text/html; charset=utf-8", []byte("<html>")), `"text/html", and not with application/timestamp-reply`},
		"nothing":       {answers(200, reply, nil), "no time-stamp"},
		"too much":      {answers(200, reply, make([]byte, 1<<17)), "more than 65536 bytes"},
		"an old answer": {answers(200, reply, first), "is an answer to another query"},
		"a rejection":   {answers(200, reply, rejection), "no more today"},
		"nobody":        {&tsa.Authority{URL: "http://127.0.0.1:1"}, "connection refused"},
		"another root": {func() *tsa.Authority {
			s := a.serve(nil)
			s.Roots = newAuthority(t, "good", "sha256").roots()
			return s
		}(), "unknown authority"},
	} {
		_, _, err := c.of.Stamp(t.Context(), message)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "time-stamping authority http://127.0.0.1:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Log(err)
		}
		<-r.Context().Done()
	}))
	defer hang.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := (&tsa.Authority{URL: hang.URL}).Stamp(ctx, message); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("one that does not answer: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00})
	f.Add([]byte{0x30, 0x80, 0x30, 0x80, 0x02})
	f.Fuzz(func(t *testing.T, reply []byte) {
		if _, err := tsa.Verify(reply, message, x509.NewCertPool()); err == nil {
			t.Errorf("%x passes without anybody who is trusted", reply)
		}
	})
}
