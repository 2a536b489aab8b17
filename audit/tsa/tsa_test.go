package tsa_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/tsa"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// asks is how an authority is asked.
func asks(a *dbtest.Authority) *tsa.Authority { return &tsa.Authority{URL: a.Serve()} }

func roots(t *testing.T, a *dbtest.Authority) *x509.CertPool {
	t.Helper()
	pool, err := tsa.Roots(a.Read("root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

var message = []byte("example.org/lockstep\n42\nroot\n")

func TestAStampIsVerifiedByTheCertificateOfItsAuthority(t *testing.T) {
	for _, ess := range []string{"sha1", "sha256", "sha384"} {
		t.Run(ess, func(t *testing.T) {
			a := dbtest.NewAuthority(t, "good", ess)
			asked := asks(a)
			asked.Roots = roots(t, a)
			before := time.Now().Add(-time.Second)
			reply, at, err := asked.Stamp(t.Context(), message)
			if err != nil {
				t.Fatal(err)
			}
			if at.Before(before.Truncate(time.Second)) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("stamped at %v", at)
			}
			if again, err := tsa.Verify(reply, message, roots(t, a)); err != nil || !again.Equal(at) {
				t.Errorf("%v %v", again, err)
			}
			a.Write("message", message)
			a.Write("reply", reply)
			if out := a.OpenSSL("ts", "-verify", "-in", "reply", "-data", "message", "-CAfile", "root.pem"); !strings.Contains(out, "Verification: OK") {
				t.Errorf("openssl says %s", out)
			}
		})
	}
}

func TestEveryAttackOnAStampIsFound(t *testing.T) {
	a, other := dbtest.NewAuthority(t, "good", "sha256"), dbtest.NewAuthority(t, "good", "sha256")
	reply, _, err := asks(a).Stamp(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tsa.Verify(reply, []byte("another"), roots(t, a)); err == nil || !strings.Contains(err.Error(), "is of something else") {
		t.Errorf("another message: %v", err)
	}
	if _, err := tsa.Verify(reply, message, roots(t, other)); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("another authority: %v", err)
	}
	if _, err := tsa.Verify(reply, message, nil); err == nil {
		t.Error("no authority is trusted, and it passes")
	}
	// Nothing in a reply can be changed but what says nothing of the stamp: the outermost signatures of certificates that are
	// not needed, and how the status is put.
	trusted := roots(t, a)
	at, err := tsa.Verify(reply, message, trusted)
	if err != nil {
		t.Fatal(err)
	}
	free := 0
	for i := range reply {
		changed := bytes.Clone(reply)
		changed[i] ^= 1 << (i % 8)
		got, err := tsa.Verify(changed, message, trusted)
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
		if _, err := tsa.Verify(reply[:i], message, trusted); err == nil {
			t.Fatalf("the first %d bytes pass", i)
		}
	}
}

// openssl signs with no such certificate, so it is the check of the certificate that is looked at.
func TestACertificateMustBeForTimeStampsAlone(t *testing.T) {
	for kind, want := range map[string]string{
		"good": "", "between": "is not for time-stamping alone", "more": "is not for time-stamping alone", "uncritical": "that is not critical in it",
	} {
		block, _ := pem.Decode(dbtest.NewAuthority(t, kind, "sha256").Read("signer.pem"))
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
	a := dbtest.NewAuthority(t, "good", "sha256")
	old := asks(a)
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
			s := asks(a)
			s.Roots = roots(t, dbtest.NewAuthority(t, "good", "sha256"))
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
