package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
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

// Of a lockstep that was stopped (SIGSTOP), for which the kernel goes on taking connections, it was said that none answers there: start one.
func TestWhatListensAndDoesNotAnswerIsNoLockstepThatIsNotThere(t *testing.T) {
	begins := make(chan struct{})
	half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.(http.Flusher).Flush()
		<-begins
	}))
	defer half.Close()
	defer close(begins)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, url := range []string{"http://" + listener.Addr().String(), "https://" + listener.Addr().String(), half.URL} {
		api := apiFlags{url: url, patience: 100 * time.Millisecond}
		_, err := askGroups(t.Context(), &api)
		if want := "something listens at " + url + " and has not answered within 100ms: "; codeOf(err) != exitUnreachable || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("exit code %d, %v; want %q", codeOf(err), err, want)
		}
	}
	listener.Close()
	api := apiFlags{url: "http://" + listener.Addr().String(), patience: time.Minute}
	if _, err := askGroups(t.Context(), &api); codeOf(err) != exitUnreachable || !strings.HasPrefix(err.Error(), "no lockstep answers at ") {
		t.Errorf("exit code %d, %v", codeOf(err), err)
	}
}
