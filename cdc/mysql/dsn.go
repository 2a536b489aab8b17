package mysql

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

const (
	defaultPort    = "3306"
	connectTimeout = 10 * time.Second // for a DSN without a timeout
)

// tlsMode says what a connection asks of the server's certificate, by the words of MySQL's own --ssl-mode.
type tlsMode string

const (
	tlsDisable    tlsMode = "disable"
	tlsPreferred  tlsMode = "preferred"   // TLS if the server has it, whoever it is
	tlsRequired   tlsMode = "required"    // TLS, whoever it is
	tlsVerifyCA   tlsMode = "verify-ca"   // a certificate that the authority has signed
	tlsVerifyFull tlsMode = "verify-full" // and that is for this host
)

var tlsModes = []tlsMode{tlsDisable, tlsPreferred, tlsRequired, tlsVerifyCA, tlsVerifyFull}

// dsn is a data source name taken apart:
//
//	mysql://user[:password]@host[:3306][/schema][?parameter=value&...]
//
//	tls       disable, preferred (for this machine), required, verify-ca, verify-full (for all others)
//	tls_ca    file with the authorities to trust; without it the system's
//	tls_cert  file with our certificate, tls_key with its key
//	timeout   of connecting, such as 10s
//	socket    path of a Unix socket, in place of a host
//
//	insecure_password=allow   tell the password a server that has not proven who it is
//
// Tables are always named with their schema, so that of the DSN is for the reader only.
type dsn struct {
	host, port string
	socket     string // if set, host and port are empty
	user       string
	password   string
	schema     string
	tls        tlsMode
	ca         string
	cert, key  string
	timeout    time.Duration

	insecurePassword bool
}

// parseDSN is strict: what it does not know is an error, for a misspelt tls would leave a connection open to all. Its
// errors never hold the password.
func parseDSN(text string) (dsn, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Scheme == "" {
		return dsn{}, errors.New("dsn is not a URL such as mysql://lockstep@10.0.0.1:3306/shop; in user and password write @ as %40, / as %2F, : as %3A and # as %23")
	}
	if u.Scheme != "mysql" && u.Scheme != "mariadb" {
		return dsn{}, fmt.Errorf("dsn begins with %q: write it as mysql://user@host:3306/schema", u.Scheme+"://")
	}
	if u.Fragment != "" {
		return dsn{}, errors.New("dsn has a # in it: in user and password write it as %23")
	}
	d := dsn{host: u.Hostname(), port: u.Port(), user: u.User.Username(), schema: strings.TrimPrefix(u.Path, "/"), timeout: connectTimeout}
	d.password, _ = u.User.Password()
	if d.user == "" {
		return dsn{}, errors.New("dsn names no user: write it as mysql://user@host:3306/schema")
	}
	if err := d.parameters(u.RawQuery); err != nil {
		return dsn{}, err
	}
	return d, d.complete()
}

// account is what an attempt to log in depends on.
func (d dsn) account() string {
	d.schema = ""
	return fmt.Sprint(d)
}

func (d *dsn) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("dsn: what follows the ? is not of the form name=value&name=value")
	}
	insecure := ""
	fields := map[string]*string{"insecure_password": &insecure, "tls": (*string)(&d.tls), "tls_ca": &d.ca, "tls_cert": &d.cert, "tls_key": &d.key, "socket": &d.socket, "timeout": nil}
	for name, value := range values {
		field, known := fields[name]
		if !known {
			return fmt.Errorf("dsn: unknown parameter %q: use tls, tls_ca, tls_cert, tls_key, timeout, socket, insecure_password", name)
		}
		if len(value) > 1 || value[0] == "" {
			return fmt.Errorf("dsn: give parameter %q one value, or leave it out", name)
		}
		if field != nil {
			*field = value[0]
			continue
		}
		if d.timeout, err = time.ParseDuration(value[0]); err != nil || d.timeout <= 0 {
			return fmt.Errorf("dsn: timeout %q is not a time such as 10s", value[0])
		}
	}
	if d.insecurePassword = insecure != ""; d.insecurePassword && insecure != "allow" {
		return fmt.Errorf("dsn: insecure_password=%s is unknown: write insecure_password=allow, or leave it out", insecure)
	}
	return nil
}

// complete checks what belongs together, and fills in the port.
func (d *dsn) complete() error {
	if d.tls == "" {
		d.tls = tlsVerifyFull
		if d.local() {
			d.tls = tlsPreferred
		}
	}
	port, err := strconv.ParseUint(d.port, 10, 16)
	switch {
	case d.socket != "" && (d.host != "" || d.port != ""):
		return errors.New("dsn names both a host and a socket: write it as mysql://user@/schema?socket=/path")
	case d.socket == "" && d.host == "":
		return errors.New("dsn names no host: write it as mysql://user@host:3306/schema")
	case strings.Contains(d.host, ","):
		return errors.New("dsn names several hosts: a member is one server, list each as a member of its own")
	case d.port != "" && (err != nil || port == 0):
		return fmt.Errorf("dsn: %q is no port", d.port)
	case strings.Contains(d.schema, "/"):
		return fmt.Errorf("dsn: %q is no name of a schema", d.schema)
	case !slices.Contains(tlsModes, d.tls):
		return fmt.Errorf("dsn: tls=%s is unknown: use disable, preferred, required, verify-ca or verify-full", d.tls)
	case d.ca != "" && d.tls != tlsVerifyCA && d.tls != tlsVerifyFull:
		return fmt.Errorf("dsn: tls_ca says whom to trust, but tls=%s trusts everybody: use tls=verify-full", d.tls)
	case (d.cert == "") != (d.key == ""):
		return errors.New("dsn: tls_cert and tls_key belong together")
	case d.cert != "" && d.tls == tlsDisable:
		return errors.New("dsn: tls_cert is of no use with tls=disable")
	}
	if d.socket == "" && d.port == "" {
		d.port = defaultPort
	}
	return nil
}

// local reports whether the connection does not leave the machine.
func (d *dsn) local() bool { return d.socket != "" || cdc.IsLocal(d.host) }

// proof is what the server has to prove before it is told that somebody wants to log in.
func (d *dsn) proof() cdc.Proof {
	switch {
	case d.socket != "":
		return cdc.SocketProof
	case d.tls == tlsPreferred:
		return cdc.MaybeTLS
	case d.tls == tlsRequired:
		return cdc.AnyTLS
	case d.tls == tlsVerifyCA && d.ca == "":
		return cdc.AnyAuthority
	case d.tls == tlsVerifyCA:
		return cdc.OurAuthority
	case d.tls == tlsVerifyFull:
		return cdc.FullProof
	}
	return cdc.NoProof
}

// unverified says what the DSN leaves out of what a server on another machine should prove; empty: nothing.
func (d *dsn) unverified() string {
	if d.local() {
		return ""
	}
	left := d.proof().Unverified()
	if d.insecurePassword && !d.proof().Sure() {
		left += ", and it is told the password if it asks (insecure_password=allow)"
	}
	return left
}

// unproven says what to do about a certificate that does not prove what the DSN asks for.
func (d *dsn) unproven(err error) error {
	why := cdc.Unproven(err)
	if why == nil {
		return err
	}
	return &cdc.SetupError{Problem: fmt.Sprintf("the server has not proven who it is: %v", why),
		Hint:   "name the file with its authority as tls_ca=FILE in the dsn; tls=verify-ca is for a certificate without this host's name; tls=required takes whoever answers",
		Denied: true}
}

func (d *dsn) network() string {
	if d.socket != "" {
		return "unix"
	}
	return "tcp"
}

// addr is what to dial.
func (d *dsn) addr() string {
	if d.socket != "" {
		return d.socket
	}
	return net.JoinHostPort(d.host, d.port)
}

// tlsConfig reads the files anew, so that certificates can be rotated; nil is for a connection without TLS.
func (d *dsn) tlsConfig() (*tls.Config, error) {
	if d.tls == tlsDisable || d.socket != "" && d.tls == tlsPreferred {
		return nil, nil
	}
	c := &tls.Config{ServerName: d.host, MinVersion: tls.VersionTLS12}
	if d.cert != "" {
		pair, err := tls.LoadX509KeyPair(d.cert, d.key)
		if err != nil {
			return nil, &cdc.SetupError{Problem: fmt.Sprintf("tls_cert %s, tls_key %s: %v", d.cert, d.key, err), Hint: "name a certificate and its key, both in PEM form"}
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if d.ca != "" {
		pem, err := os.ReadFile(d.ca)
		c.RootCAs = x509.NewCertPool()
		if err != nil || !c.RootCAs.AppendCertsFromPEM(pem) {
			err = cmp.Or(err, errors.New("it holds no certificate"))
			return nil, &cdc.SetupError{Problem: fmt.Sprintf("tls_ca %s: %v", d.ca, err), Hint: "name a file with certificates in PEM form"}
		}
	}
	switch d.tls {
	case tlsPreferred, tlsRequired:
		c.InsecureSkipVerify = true
	case tlsVerifyCA:
		c.InsecureSkipVerify = true // of the name only: the chain is verified here
		c.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, c.RootCAs) }
	}
	return c, nil
}

// verifyChain verifies a certificate whatever name it is for.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}
