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
	return host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || ip != nil && ip.IsLoopback()
}

// IsUnproven reports whether a server's certificate does not prove that it is the one we want to speak with.
func IsUnproven(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		stranger    x509.UnknownAuthorityError
		invalid     x509.CertificateInvalidError
		name        x509.HostnameError
	)
	return errors.As(err, &certificate) || errors.As(err, &stranger) || errors.As(err, &invalid) || errors.As(err, &name)
}
