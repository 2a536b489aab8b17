package web_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/web"
)

// askAs sends a request under a name, as a page of a site does whose name was made to resolve to lockstep's address.
func askAs(t *testing.T, address, method, path, protocol, host string) (int, string) {
	t.Helper()
	header := ""
	if host != "none" {
		header = "Host: " + host + "\r\n"
	}
	c := dial(t, address, fmt.Sprintf("%s %s %s\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n", method, path, protocol, header))
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestNobodyIsAnsweredUnderAForeignName(t *testing.T) {
	f, stop := serve(t, "", nil)
	defer stop()
	f.Use(web.New([]web.Group{shop()}, health{}, web.Rules{Hosts: []string{"lockstep.example", "Lockstep.svc"}}, "v1", slog.New(slog.DiscardHandler)))
	for _, host := range []string{
		"127.0.0.1", "127.0.0.1:9640", "10.1.2.3:9640", "[::1]:9640", "[fe80::1]", "localhost", "LOCALHOST:9640", "localhost.:1",
		"lockstep.example", "lockstep.example:443", "lockstep.svc:9640", "",
	} {
		if code, body := askAs(t, f.Addr(), "GET", "/api/v1/groups", "HTTP/1.1", host); code != http.StatusOK {
			t.Errorf("to %q it answers %d %s", host, code, body)
		}
	}
	if code, body := askAs(t, f.Addr(), "GET", "/api/v1/trust/shop/eu-1", "HTTP/1.0", "none"); code != http.StatusOK {
		t.Errorf("a proxy's check without a name gets %d %s", code, body)
	}
	for _, host := range []string{"evil.example", "evil.example:9640", "127.0.0.1.evil.example", "localhost.evil.example", "lockstep", "x.lockstep.example", "127.1"} {
		for _, path := range []string{"GET /api/v1/groups", "GET /metrics", "GET /", "POST /-/reload", "POST /api/v1/scrubs", "GET /-/ready"} {
			method, path, _ := strings.Cut(path, " ")
			code, body := askAs(t, f.Addr(), method, path, "HTTP/1.1", host)
			if code != http.StatusMisdirectedRequest || !strings.Contains(body, "web.allowed_hosts") || strings.Count(body, "\n") != 1 || strings.HasPrefix(path, "/api/") != strings.HasPrefix(body, `{"error":"`) {
				t.Errorf("to %s %s of %s it answers %d %s", method, path, host, code, body)
			}
		}
		if code, body := askAs(t, f.Addr(), "GET", "/-/healthy", "HTTP/1.1", host); code != http.StatusOK { // a probe by name must not have lockstep killed
			t.Errorf("a probe of %s is answered %d %s", host, code, body)
		}
	}
}

func TestTheNameThatIsListenedOnIsKnown(t *testing.T) {
	s := web.SocketOf("db1.internal:9640")
	for host, want := range map[string]bool{"db1.internal:9640": true, "DB1.internal.": true, "db2.internal": false} {
		if got := s.Knows(host, nil); got != want {
			t.Errorf("%s is known: %v", host, got)
		}
	}
}
