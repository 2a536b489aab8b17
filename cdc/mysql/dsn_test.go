package mysql

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDSNIsReadStrictly(t *testing.T) {
	base := dsn{host: "10.0.0.1", port: "3306", user: "lockstep", tls: tlsVerifyFull, timeout: 10 * time.Second}
	with := func(change func(*dsn)) dsn {
		d := base
		change(&d)
		return d
	}
	for text, want := range map[string]dsn{
		"mysql://lockstep@10.0.0.1":    base,
		"mariadb://lockstep@10.0.0.1/": base,
		"mysql://lockstep@localhost":   with(func(d *dsn) { d.host, d.tls = "localhost", tlsPreferred }),
		"mysql://lockstep@127.0.0.1":   with(func(d *dsn) { d.host, d.tls = "127.0.0.1", tlsPreferred }),
		"mysql://lockstep@10.0.0.1?tls=disable&insecure_password=allow": with(func(d *dsn) {
			d.tls, d.insecurePassword = tlsDisable, true
		}),
		"mysql://lockstep@10.0.0.1:3306/shop": with(func(d *dsn) { d.schema = "shop" }),
		"mysql://lock%40step:p%2F%3A@10.0.0.1": with(func(d *dsn) {
			d.user, d.password = "lock@step", "p/:"
		}),
		"mysql://lockstep@[::1]:3307/shop?tls=verify-full&tls_ca=/ca&tls_cert=/c&tls_key=/k&timeout=3s": {
			host: "::1", port: "3307", user: "lockstep", schema: "shop", tls: tlsVerifyFull, ca: "/ca", cert: "/c", key: "/k", timeout: 3 * time.Second,
		},
		"mysql://lockstep@/shop?socket=/run/mysqld/mysqld.sock": with(func(d *dsn) {
			d.host, d.port, d.socket, d.schema, d.tls = "", "", "/run/mysqld/mysqld.sock", "shop", tlsPreferred
		}),
	} {
		got, err := parseDSN(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(dsn{})); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestDSNErrorNamesTheFaultAndNeverThePassword(t *testing.T) {
	for text, words := range map[string]string{
		"mysql://u:secret@h?sslmode=require":            `unknown parameter "sslmode": use tls, tls_ca, tls_cert, tls_key, timeout, socket, insecure_password`,
		"mysql://u:secret@h?tls=on":                     "tls=on is unknown",
		"mysql://u:secret@h?tls=disable&tls=required":   `"tls" one value`,
		"mysql://u:secret@h?tls=":                       `"tls" one value`,
		"mysql://u:secret@h?insecure_password=true":     "write insecure_password=allow",
		"mysql://u:secret@localhost?tls_ca=/ca":         "tls=preferred trusts everybody",
		"mysql://u:secret@h?tls=required&tls_cert=/c":   "tls_cert and tls_key belong together",
		"mysql://u:secret@h?timeout=10":                 "is not a time",
		"mysql://u:secret@h?timeout=-1s":                "is not a time",
		"mysql://u:secret@h:0":                          `"0" is no port`,
		"mysql://u:secret@h:99999":                      `"99999" is no port`,
		"mysql://u:secret@h1,h2":                        "several hosts",
		"mysql://u:secret@h/shop/orders":                `"shop/orders" is no name of a schema`,
		"mysql://:secret@h":                             "names no user",
		"mysql://u:secret@/shop":                        "names no host",
		"mysql://u:secret@h/?socket=/s":                 "both a host and a socket",
		"mysql://u:se%zzcret@h":                         "is not a URL",
		"mysql://u:secret#@h":                           "is not a URL",
		"u:secret@tcp(h)/shop":                          "is not a URL",
		"postgres://u:secret@h/shop":                    `begins with "postgres://"`,
		"mysql://u@h/shop?tls=disable&tls_key=/k&x=%zz": "name=value",
	} {
		_, err := parseDSN(text)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want one about %q", text, err, words)
			continue
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "zzcret") {
			t.Errorf("%s: the error holds the password: %v", text, err)
		}
	}
}

func FuzzDSN(f *testing.F) {
	for _, text := range []string{"mysql://u:p@h:1/s?tls=disable&timeout=1s", "mysql://u@/s?socket=/x", "mariadb://[::1]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDSN(text)
		if err == nil && (d.user == "" || d.addr() == "" || d.timeout <= 0) {
			t.Errorf("%q: %+v", text, d)
		}
	})
}

func TestVersionIsReadFromTheServersOwnText(t *testing.T) {
	for text, want := range map[string]string{
		"9.7.0": "MySQL 9.7.0", "8.0.36-28": "MySQL 8.0.36", "8.4.3-debug": "MySQL 8.4.3",
		"10.11.14-MariaDB-0+deb12u2-log": "MariaDB 10.11.14", "11.4.2-MariaDB": "MariaDB 11.4.2", "": "MySQL 0.0.0",
	} {
		if got := parseVersion(text).String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for text, ok := range map[string]bool{"8.0.0": true, "5.7.44": false, "10.6.0-MariaDB": true, "10.5.29-MariaDB": false, "11.0.1-MariaDB": true, "": false} {
		if err := parseVersion(text).supported(); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
