package config

import (
	"fmt"
	"net/url"
)

// Alertmanager is one instance of Prometheus' Alertmanager.
type Alertmanager struct {
	URL          string
	Username     string // empty: no authentication
	PasswordFile string
}

// Password reads the password of an instance that asks for one.
func (a *Alertmanager) Password() (Secret, error) {
	password, err := ReadSecret(a.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password for Alertmanager: %w", err)
	}
	return password, nil
}

func decodeAlertmanager(n node, urls unique) Alertmanager {
	f := n.fields("url", "username", "password_file", "clear_text")
	const remedy = "write it like http://alertmanager:9093"
	f["url"].require(remedy)
	a := Alertmanager{URL: f["url"].expanded(), Username: f["username"].text(), PasswordFile: f["password_file"].expanded()}
	inClear := f["clear_text"].claim()
	if a.URL != "" {
		to := checkHTTP(f["url"], a.URL, remedy)
		checkSecretTo(f["url"], to, "the password", inClear || a.PasswordFile == "")
		urls.check(f["url"], a.URL)
	}
	switch {
	case a.Username != "" && a.PasswordFile == "":
		f["username"].fail("has no password_file beside it", "name the file that holds the password, or remove username")
	case a.Username == "" && a.PasswordFile != "":
		f["password_file"].fail("has no username beside it", "say whose password it is, or remove it")
	}
	return a
}

// checkHTTP refuses what is no plain HTTP address; credentials in it would show in logs.
func checkHTTP(n node, text, remedy string) *url.URL {
	u := parseURL(n, text, remedy)
	switch {
	case u == nil:
	case u.User != nil:
		n.fail("holds a password or a user name", "write username and password_file beside it")
	case u.RawQuery != "" || u.Fragment != "":
		n.fail("has a query or a fragment", remedy)
	}
	return u
}

// checkURL returns the URL, or nil if it is none of HTTP. What is in it may be for those at its end only.
func checkURL(n node, text, remedy string) *url.URL {
	u := parseURL(n, text, remedy)
	if u != nil && u.User != nil && InClear(u) {
		n.fail("holds a password or a user name that would be sent in clear text", "write https://")
	}
	return u
}

func parseURL(n node, text, remedy string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		n.fail("is not an HTTP address", remedy)
		return nil
	}
	return u
}
