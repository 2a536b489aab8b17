package postgres

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// proofsOnly are the ways to log in that tell a server nothing it could log in with elsewhere: it is libpq's require_auth without
// passwords in clear text, and without MD5, which is worth as much as the password.
const proofsOnly = "!password,!md5"

// config is what the DSN says, and what it has to say otherwise where it says nothing: a server on another machine proves who it is,
// and one that did not is told no password. PGSSLMODE and PGREQUIREAUTH of the environment do not count for that.
func (o Options) config() (*pgx.ConnConfig, error) {
	dsn := o.DSN
	config, err := pgx.ParseConfig(dsn)
	if err == nil && !local(config) {
		dsn = assume(dsn, "sslmode", "verify-full")
		config, err = pgx.ParseConfig(dsn)
	}
	if err == nil && !proof(config).Sure() {
		config, err = pgx.ParseConfig(assume(dsn, "require_auth", proofsOnly))
	}
	if err == nil {
		config.DialFunc = cdc.Dial
	}
	return config, err
}

// assume sets what a DSN may set otherwise: of two values for a name the last one counts.
func assume(dsn, name, value string) string {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return name + "=" + value + " " + dsn
	}
	place, parameters, _ := strings.Cut(dsn, "?")
	return place + "?" + name + "=" + url.QueryEscape(value) + "&" + parameters
}

// targets are the ways to connect that the driver tries one after the other.
func targets(config *pgx.ConnConfig) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, config.Fallbacks...)
}

// local reports whether the connection does not leave the machine.
func local(config *pgx.ConnConfig) bool {
	return !slices.ContainsFunc(targets(config), func(t *pgconn.FallbackConfig) bool { return !cdc.IsLocal(t.Host) })
}

// proof is what the server has to prove before it is told that somebody wants to log in.
func proof(config *pgx.ConnConfig) cdc.Proof {
	least, encrypted := cdc.SocketProof, false
	for _, t := range targets(config) {
		encrypted = encrypted || t.TLSConfig != nil
		least = min(least, proofOf(t))
	}
	if least == cdc.NoProof && encrypted {
		return cdc.MaybeTLS
	}
	return least
}

func proofOf(t *pgconn.FallbackConfig) cdc.Proof {
	network, _ := pgconn.NetworkAddress(t.Host, t.Port)
	c := t.TLSConfig
	switch {
	case network == "unix":
		return cdc.SocketProof
	case c == nil:
		return cdc.NoProof
	case !c.InsecureSkipVerify:
		return cdc.FullProof
	case c.VerifyPeerCertificate == nil:
		return cdc.AnyTLS
	case c.RootCAs == nil:
		return cdc.AnyAuthority
	}
	return cdc.OurAuthority
}

// Unverified says what the DSN leaves unverified of a server on another machine; empty: nothing.
func (o Options) Unverified() string {
	config, err := o.config()
	if err != nil {
		return "" // New says what is wrong
	}
	return unverified(config)
}

func unverified(config *pgx.ConnConfig) string {
	if local(config) {
		return ""
	}
	left := proof(config).Unverified()
	if left != "" && config.RequireAuth != proofsOnly {
		left += fmt.Sprintf(", and it may be told the password (require_auth=%s)", config.RequireAuth)
	}
	return left
}

// distrusted says what to do about a server that we do not log in to, since anybody could pose as it; nil: it is about something else.
func distrusted(err error, config *pgx.ConnConfig) *cdc.SetupError {
	said := err.Error() // the driver has no values for these errors
	asked := ""
	switch {
	case cdc.Unproven(err) != nil:
		return &cdc.SetupError{Problem: fmt.Sprintf("the server has not proven who it is: %v", cdc.Unproven(err)),
			Hint: "name the file with its authority as sslrootcert=FILE in the dsn; sslmode=verify-ca is for a certificate without this host's name; sslmode=require takes whoever answers"}
	case strings.Contains(said, "server refused TLS connection") && proof(config) > cdc.MaybeTLS:
		return &cdc.SetupError{Problem: "the server has no TLS",
			Hint: "set it up on the server (ssl = on), or write sslmode=disable in the dsn, which lets anybody on the way read along and pose as the server"}
	case strings.Contains(said, "server requested password authentication"):
		asked = "in clear text"
	case strings.Contains(said, "server requested md5 authentication"):
		asked = "by MD5"
	}
	switch {
	case asked == "":
		return nil
	case config.RequireAuth != proofsOnly:
		return &cdc.SetupError{Problem: fmt.Sprintf("the server asks for the password %s, which the dsn rules out (require_auth=%s)", asked, config.RequireAuth),
			Hint: "have pg_hba.conf ask for scram-sha-256", Denied: true}
	}
	return &cdc.SetupError{
		Problem: fmt.Sprintf("the server asks for the password %s and has not proven who it is, so it was not sent", asked),
		Hint: "have pg_hba.conf ask for scram-sha-256, write sslmode=verify-full and sslrootcert=FILE in the dsn, connect by its Unix socket, " +
			"or let anybody have it who answers at this address: require_auth=password,md5,scram-sha-256",
		Denied: true,
	}
}
