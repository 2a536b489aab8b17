package cdc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

// IsLocal reports whether a connection to a host, or to a Unix socket by its path, does not leave the machine.
func IsLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasPrefix(host, "/") || ip != nil && ip.IsLoopback()
}

// Unproven is why a server's certificate does not prove that it is the one we want to speak with; nil: err is about something else.
func Unproven(err error) error {
	var (
		certificate *tls.CertificateVerificationError
		stranger    x509.UnknownAuthorityError
		invalid     x509.CertificateInvalidError
		name        x509.HostnameError
	)
	switch {
	case errors.As(err, &certificate):
		return certificate.Err
	case errors.As(err, &stranger):
		return stranger
	case errors.As(err, &invalid):
		return invalid
	case errors.As(err, &name):
		return name
	}
	return nil
}

// Proof is what has to be true of a server before we speak with it as the one that was meant. The zero value is: nothing.
type Proof uint8

// What a server may have to prove, from the least on.
const (
	NoProof      Proof = iota // it answers, in clear text
	MaybeTLS                  // it answers, with TLS if it likes
	AnyTLS                    // it answers with TLS, by any certificate
	AnyAuthority              // its certificate is from an authority that the system trusts, for whatever name
	OurAuthority              // its certificate is from an authority that was named, for whatever name
	FullProof                 // its certificate is for its name
	SocketProof               // it has the Unix socket, which the file system guards
)

// Sure reports whether only the server that was meant has such a proof. An authority that signs for everybody proves nothing
// without a name.
func (p Proof) Sure() bool { return p >= OurAuthority }

// Unverified says what is not verified of a server on another machine; empty: nothing is left out.
func (p Proof) Unverified() string {
	switch p {
	case NoProof:
		return "nothing is encrypted, and who the server is is not verified"
	case MaybeTLS:
		return "whether anything is encrypted is up to whoever answers, and who the server is is not verified"
	case AnyTLS:
		return "the server's certificate is not verified"
	case AnyAuthority:
		return "the host's name is not verified: a certificate of any authority that the system trusts will do"
	case OurAuthority:
		return "the host's name in the server's certificate is not verified"
	}
	return ""
}
