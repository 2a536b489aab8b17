package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The password for the API goes to whom it is meant for, and to nobody on the way.
func TestThePasswordOfTheAPIIsNotForAnybodyOnTheWay(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a stranger was asked for %s, as %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer stranger.Close()
	redirects := httptest.NewServer(http.RedirectHandler(stranger.URL, http.StatusTemporaryRedirect))
	defer redirects.Close()
	password := writeFile(t, "password", "s3cret\n")
	for _, c := range []struct{ url, want string }{
		{"http://10.0.0.1:1", "the password would go to 10.0.0.1:1 in clear text: give an https:// address as --url, or --clear-text"},
		{"10.0.0.1:1", "the password would go to 10.0.0.1:1 in clear text"},
		{"http://u:s3cret@127.0.0.1:1", "--url holds a user name or a password: give --username and --password-file"},
		{redirects.URL, "which is not followed: " + stranger.URL},
	} {
		code, _, stderr := lockstep(t, "status", "--url", c.url, "--username", "u", "--password-file", password)
		if code != exitUsage || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "s3cret") {
			t.Errorf("%s: exit code %d, %q, want: %s", c.url, code, stderr, c.want)
		}
	}
}
