// Package tsa asks time-stamping authorities for time-stamps (RFC 3161), and verifies them.
package tsa

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1" // by which RFC 2634 has a certificate named
	"crypto/sha256"
	_ "crypto/sha512" // for the hashes that RFC 5035 permits
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
)

// Authority is a time-stamping authority that is asked over HTTP (RFC 3161, section 3.4).
type Authority struct {
	URL    string
	Client *http.Client   // nil: one that waits 30 seconds
	Roots  *x509.CertPool // nil: whose certificate signs is not looked at when a reply arrives
}

// maxReply bounds a reply, in bytes. One with a chain of certificates has some 6,000.
const maxReply = 64 << 10

// Stamp asks for a time-stamp over a message and returns the reply as it came, once it is verified, and its time.
func (a *Authority) Stamp(ctx context.Context, message []byte) (reply []byte, at time.Time, err error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, at, err
	}
	sum := sha256.Sum256(message)
	query, err := (&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Certificates: true, Nonce: nonce}).Marshal()
	if err != nil {
		return nil, at, err
	}
	if reply, err = a.ask(ctx, query); err != nil {
		return nil, at, fmt.Errorf("time-stamping authority %s: %w", a.URL, err)
	}
	stamp, err := verify(reply, message, a.Roots)
	if err == nil && (stamp.Nonce == nil || stamp.Nonce.Cmp(nonce) != 0) {
		err = errors.New("the time-stamp is an answer to another query")
	}
	if err != nil {
		return nil, at, fmt.Errorf("time-stamping authority %s: %w", a.URL, err)
	}
	return reply, stamp.Time, nil
}

func (a *Authority) ask(ctx context.Context, query []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	req.Header.Set("Accept", "application/timestamp-reply")
	resp, err := cmp.Or(a.Client, &http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		var told *url.Error
		if errors.As(err, &told) { // which says the URL again
			err = told.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/timestamp-reply" {
		return nil, fmt.Errorf("it answers with %q, and not with application/timestamp-reply: is that the address for RFC 3161?", kind)
	}
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(reply) > maxReply {
		err = fmt.Errorf("it answers with more than %d bytes", maxReply)
	}
	return reply, err
}

// Verify checks a reply over a message with nothing but the certificates of the authorities that are trusted, which must have
// been valid at the time of the stamp, and returns that.
func Verify(reply, message []byte, roots *x509.CertPool) (time.Time, error) {
	if roots == nil {
		return time.Time{}, errors.New("no certificate of a time-stamping authority is given")
	}
	stamp, err := verify(reply, message, roots)
	if err != nil {
		return time.Time{}, err
	}
	return stamp.Time, nil
}

// Roots reads the certificates of a PEM file.
func Roots(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("holds no certificate in PEM")
	}
	return pool, nil
}

// The library verifies the status and the signature, with the certificate that came with it. The rest is RFC 3161's, sections
// 2.2 to 2.4, and RFC 5816's.
func verify(reply, message []byte, roots *x509.CertPool) (*timestamp.Timestamp, error) {
	stamp, token, err := parse(reply)
	if err != nil {
		return nil, fmt.Errorf("no time-stamp: %w", err)
	}
	if sum := sha256.Sum256(message); stamp.HashAlgorithm != crypto.SHA256 || !bytes.Equal(stamp.HashedMessage, sum[:]) {
		return nil, errors.New("the time-stamp is of something else")
	}
	signer := token.GetOnlySigner()
	if signer == nil {
		return nil, errors.New("the time-stamp is not signed by one certificate that came with it")
	}
	var kind asn1.ObjectIdentifier
	if err := token.UnmarshalSignedAttribute(oidContentType, &kind); err != nil || !kind.Equal(oidTSTInfo) {
		return nil, errors.New("what is signed is no time-stamp")
	}
	if err := errors.Join(names(token, signer), stampsOnly(signer)); err != nil {
		return nil, err
	}
	if roots == nil {
		return stamp, nil
	}
	between := x509.NewCertPool()
	for _, c := range token.Certificates {
		between.AddCert(c)
	}
	_, err = signer.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: stamp.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
	if err != nil {
		return nil, fmt.Errorf("the certificate that signs the time-stamp: %w", err)
	}
	return stamp, nil
}

// parse guards against the library, which reads beyond the end of some damaged replies.
func parse(reply []byte) (stamp *timestamp.Timestamp, token *pkcs7.PKCS7, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it is damaged")
		}
	}()
	if stamp, err = timestamp.ParseResponse(reply); err == nil {
		token, err = pkcs7.Parse(stamp.RawToken)
	}
	return stamp, token, err
}

var (
	oidContentType = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidTSTInfo     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSigning     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12} // RFC 2634
	oidSigningV2   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // RFC 5035
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSHA256      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

// names checks that the signature is about the certificate, so that no other one with the same key can take its place.
func names(token *pkcs7.PKCS7, signer *x509.Certificate) error {
	var v2 struct {
		Certs []struct {
			Algorithm pkix.AlgorithmIdentifier `asn1:"optional"`
			Hash      []byte
			Issuer    asn1.RawValue `asn1:"optional"`
		}
		Policies asn1.RawValue `asn1:"optional"`
	}
	if err := token.UnmarshalSignedAttribute(oidSigningV2, &v2); err == nil && len(v2.Certs) > 0 {
		h := crypto.SHA256 // unless it says another
		switch is := v2.Certs[0].Algorithm.Algorithm; {
		case is.Equal(oidSHA384):
			h = crypto.SHA384
		case is.Equal(oidSHA512):
			h = crypto.SHA512
		case len(is) > 0 && !is.Equal(oidSHA256):
			return fmt.Errorf("the time-stamp names its certificate by a hash of the kind %v", is)
		}
		return sameHash(h, v2.Certs[0].Hash, signer)
	}
	var v1 struct {
		Certs []struct {
			Hash   []byte
			Issuer asn1.RawValue `asn1:"optional"`
		}
		Policies asn1.RawValue `asn1:"optional"`
	}
	if err := token.UnmarshalSignedAttribute(oidSigning, &v1); err != nil || len(v1.Certs) == 0 {
		return errors.New("the time-stamp does not name the certificate that signs it")
	}
	if sum := sha1.Sum(signer.Raw); !bytes.Equal(sum[:], v1.Certs[0].Hash) {
		return errOther
	}
	return nil
}

var errOther = errors.New("the time-stamp names another certificate than the one that signs it")

func sameHash(h crypto.Hash, want []byte, signer *x509.Certificate) error {
	sum := h.New()
	sum.Write(signer.Raw)
	if !bytes.Equal(sum.Sum(nil), want) {
		return errOther
	}
	return nil
}

// stampsOnly checks that a certificate is for time-stamping and nothing else (RFC 3161, section 2.3).
func stampsOnly(c *x509.Certificate) error {
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(c.UnknownExtKeyUsage) > 0 {
		return errors.New("the certificate that signs the time-stamp is not for time-stamping alone")
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) && !e.Critical {
			return errors.New("the certificate that signs the time-stamp is for time-stamping, but that is not critical in it")
		}
	}
	return nil
}
